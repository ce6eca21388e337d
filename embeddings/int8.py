"""Post-training quantisation to 8-bit integers by NNCF (extra `int8`).

Good for ResNet-like networks on processors with integer instructions. Networks with depthwise
convolutions and squeeze-excitation (EfficientNet, MobileNet) lose their ranking: hold every
quantised engine against its network with `parity` before it is used.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from birdstack.embeddings.extras import need
from birdstack.embeddings.openvino_model import MODEL_FILE, import_openvino, without_telemetry
from birdstack.store.errors import ConfigError

MIN_WINDOWS = 16
"""Fewer windows cannot show the range of a layer's values."""


def quantise(folder: Path, calibration: np.ndarray) -> None:
    """Quantise the OpenVINO model in a folder, in its place.

    Weights to 8 bits a channel, activations by the range that the windows show, min-max with
    the method of NNCF's preset `mixed` (activations asymmetric).

    Args:
        folder: with `model.xml`, float32.
        calibration: float32 `[window, *input_shape]`; some hundred real windows.

    Raises:
        ConfigError: the extra `int8` is not installed, or there are too few windows.
    """
    if len(calibration) < MIN_WINDOWS:
        message = f"engine openvino-int8: {len(calibration)} windows to calibrate it with"
        raise ConfigError(message, remedy=f"give {MIN_WINDOWS} or more, better some hundred")
    openvino: Any = import_openvino()
    with without_telemetry(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NNCF's import, which looks at all its backends
        nncf: Any = need("nncf", "int8", "the engine openvino-int8")
    nncf.set_log_level(logging.ERROR)
    model = openvino.Core().read_model(folder / MODEL_FILE)
    windows = [np.ascontiguousarray(row[np.newaxis], dtype=np.float32) for row in calibration]
    with contextlib.redirect_stdout(io.StringIO()):  # progress bars
        quantised = nncf.quantize(
            model,
            nncf.Dataset(windows),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(windows),
        )
    # aside first: the model read maps the weights' file
    aside = folder / "quantised"
    aside.mkdir()
    openvino.save_model(quantised, aside / MODEL_FILE, compress_to_fp16=False)
    del model, quantised
    for path in list(aside.iterdir()):
        path.replace(folder / path.name)
    aside.rmdir()
