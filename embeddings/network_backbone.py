"""A timm or waveform network behind the backbone contract: built, converted, checked, run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Mapping
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from birdstack.embeddings.backbone import Heard, NetworkInput
from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.engine import Engine, EngineError, EngineKind, make_engine
from birdstack.embeddings.extras import has, need
from birdstack.embeddings.network import build_network, check_config, make_input, weights_digest
from birdstack.embeddings.parity import checked_engine, read_parity, write_parity
from birdstack.embeddings.probe_sounds import probe_sounds
from birdstack.store.views import canonical_json

if TYPE_CHECKING:
    from torch import nn

NETWORK_VERSION = 1
"""Raised when the same weights and input give other embeddings or logits."""

_ROUGH: Mapping[str, str] = {"openvino-bf16": "bfloat16", "openvino-int8": "int8"}


class NetworkBackbone:
    """A network, its input and the engine that runs it.

    The engine is made at the first `run`, from a cache where there is one, and compared with
    the network once for each conversion; the figures lie beside the converted network.

    Args:
        config: of kind `timm` or `wave`.
        window_s: length of a window.
        classes: names of its logits; none: embeddings only.
        kind: of the engine.
        cache: folder for converted networks and their parities.

    Raises:
        ConfigError: the extra `networks` is missing, or as `network.check_config`.
    """

    def __init__(
        self,
        config: BackboneConfig,
        window_s: float,
        *,
        classes: tuple[str, ...] = (),
        kind: EngineKind = "torch",
        cache: Path | None = None,
    ) -> None:
        self.config = config
        self.window_s = window_s
        self.kind: EngineKind = kind
        self.cache = cache
        self._classes = classes
        self._input = make_input(config, window_s)
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        if not has("torch"):
            need("torch", "networks", f"backbone {config.name!r}")
        facts = self._record("facts")
        if facts is None or not facts.is_file():
            check_config(config, window_s=window_s)

    @property
    def name(self) -> str:
        """Name of its views."""
        return self.config.name

    @property
    def input(self) -> NetworkInput:
        """A picture or a waveform."""
        return self._input

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of its logits."""
        return self._classes

    @cached_property
    def dim(self) -> int:
        """Length of an embedding.

        A network that was built with these weights before is not built again to tell: torch
        takes seconds to load, and a run with nothing to do has no other use for it.
        """
        facts = self._record("facts")
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if facts is not None:
                return int(json.loads(facts.read_text())["dim"])
        dim = int(self._built.dim)  # type: ignore[arg-type]  # torch: Tensor | Module
        if facts is not None:
            with contextlib.suppress(OSError):  # a cache that cannot be written is no cache
                facts.parent.mkdir(parents=True, exist_ok=True)
                facts.write_text(json.dumps({"dim": dim}))
        return dim

    @cached_property
    def recipe(self) -> Mapping[str, Any]:
        """Architecture, weights, input, classes; the arithmetic where it is not float32."""
        built = {name: getattr(self.config, name) for name in ("kind", "model", "pooling")}
        rough = {"arithmetic": _ROUGH[self.kind]} if self.kind in _ROUGH else {}
        return {
            "version": NETWORK_VERSION,
            **built,
            "weights": weights_digest(self.config),
            "input": dict(self.input.recipe),
            "classes": list(self._classes),
            **rough,
        }

    def run(self, inputs: np.ndarray) -> Heard:
        """Hear prepared inputs, float32 `[window, *input.shape]`.

        Raises:
            ParityError: at the first run, where the engine is too far from the network.
            EngineError: the network cannot be converted, or its answer is no number.
        """
        if self._engine is None:
            with self._lock:
                if self._engine is None:
                    self._engine = self._made()
        found = self._engine.run(inputs)
        return Heard(found[0], found[1] if len(found) > 1 else None)

    @cached_property
    def _built(self) -> nn.Module:
        return build_network(
            self.config,
            len(self._classes),
            window_s=self.window_s,
            classes=self._classes or None,
        )

    def _made(self) -> Engine:
        """The engine, compared with the network unless this conversion was compared before."""
        record = self._record(f"{self.kind}-parity")
        if self.kind == "torch" or (record is not None and _passed(record)):
            calibration = self._probe_inputs() if self.kind == "openvino-int8" else None
            return make_engine(
                self._built, self.input.shape, self.kind, cache=self.cache, calibration=calibration
            )
        engine, parity = checked_engine(
            self._built, self.input.shape, self.kind, self._probe_inputs(), cache=self.cache
        )
        if record is not None:
            with contextlib.suppress(OSError):  # a cache that cannot be written is no cache
                write_parity(record, [parity])
        return engine

    def _probe_inputs(self) -> np.ndarray:
        rate_hz = self.input.sample_rate_hz
        sounds = probe_sounds(round(self.window_s * rate_hz), rate_hz)
        return np.stack([self.input.prepare(sound) for sound in sounds])

    def _record(self, what: str) -> Path | None:
        """Where something about this network is kept: it stands for these versions only."""
        if self.cache is None:
            return None
        versions = [_version(name) for name in ("torch", "timm", "openvino", "onnxruntime")]
        told = canonical_json({"recipe": dict(self.recipe), "versions": versions})
        digest = hashlib.sha256(told.encode()).hexdigest()[:16]
        return self.cache / f"{self.config.model}-{digest}.{what}.json"

    def __getstate__(self) -> dict[str, Any]:
        left_here = ("_lock", "_engine", "_built")
        return {name: value for name, value in vars(self).items() if name not in left_here}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()
        self._engine = None


def _passed(record: Path) -> bool:
    try:
        return all(parity.passed for parity in read_parity(record))
    except (OSError, EngineError):
        return False


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
