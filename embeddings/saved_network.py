"""Networks as files that an engine reads by itself: written once with torch, run without it.

A folder holds one network: `model.xml` and `model.bin` for OpenVINO (bfloat16 is a setting of
the run, so both precisions share the files), `model.onnx` for ONNX Runtime,
`network.safetensors` for torch, which needs timm too to build what the weights belong to.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from birdstack.embeddings.backbone import Heard, NetworkInput
from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.engine import BATCH, Engine, EngineKind, processors
from birdstack.embeddings.extras import need
from birdstack.embeddings.network import build_network, make_input
from birdstack.store.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

WEIGHTS, ONNX_FILE = "network.safetensors", "model.onnx"
SAVED_KINDS: Mapping[EngineKind, tuple[EngineKind, ...]] = {
    "openvino": ("openvino", "openvino-bf16"),
    "openvino-bf16": ("openvino", "openvino-bf16"),
    "onnxruntime": ("onnxruntime",),
    "torch": ("torch",),
}
"""Engines that a network can be saved for, and those that its files then serve."""


@dataclass(frozen=True)
class Widths:
    """What engines ask of a network.

    Attributes:
        dim: length of an embedding.
        n_classes: length of the logits; 0 for none.
        name: for messages.
    """

    dim: int
    n_classes: int
    name: str


def save_network(
    network: nn.Module, input_shape: tuple[int, ...], kind: EngineKind, folder: Path
) -> None:
    """Write a network for one kind of engine.

    Args:
        network: as of `network.build_network`; left as it is.
        input_shape: of one window.
        kind: one of `SAVED_KINDS`.
        folder: is made; gets the files.

    Raises:
        ConfigError: there is no such kind, or a package is missing.
        EngineError: the network cannot be converted.
    """
    if kind not in SAVED_KINDS:
        message = f"a network cannot be saved for the engine {kind!r}"
        raise ConfigError(message, remedy=f"choose one of {', '.join(SAVED_KINDS)}")
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "torch":
        tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
        need("safetensors.torch", "networks", "saving a network").save_file(
            tensors, folder / WEIGHTS
        )
    elif kind == "onnxruntime":
        from birdstack.embeddings.export import export_onnx  # noqa: PLC0415 - as needed

        (folder / ONNX_FILE).write_bytes(export_onnx(network, input_shape))
    else:
        from birdstack.embeddings.openvino_model import convert_network  # noqa: PLC0415 - as needed

        convert_network(network, input_shape, folder)


class SavedNetwork:
    """A saved network behind the contract of every backbone; its engine is made at the first run.

    Args:
        config: what it is: its name and its input.
        window_s: length of a window.
        folder: with its files.
        kind: of the engine.
        dim: length of an embedding.
        classes: names of its logits; none: embeddings only.
        threads: how many threads will call `run` at once; None: as many as processors.
    """

    def __init__(
        self,
        config: BackboneConfig,
        window_s: float,
        folder: Path,
        *,
        kind: EngineKind,
        dim: int,
        classes: tuple[str, ...] = (),
        threads: int | None = None,
    ) -> None:
        self.config, self.folder, self.kind = config, folder, kind
        self._input = make_input(config, window_s)
        self._window_s, self._dim, self._classes = window_s, dim, classes
        self._threads = threads or processors()
        self._lock = threading.Lock()
        self._engine: Engine | None = None

    @property
    def name(self) -> str:
        """Name of its views."""
        return self.config.name

    @property
    def input(self) -> NetworkInput:
        """A picture or a waveform."""
        return self._input

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._dim

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of its logits, in order."""
        return self._classes

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Where it lies and what runs it; who saved it knows the rest."""
        return {"saved": str(self.folder), "engine": self.kind, "input": dict(self.input.recipe)}

    def run(self, inputs: np.ndarray) -> Heard:
        """Hear prepared inputs, float32 `[window, *input.shape]`.

        Raises:
            ConfigError: the engine's package is not installed.
            EngineError: the files cannot be read, or an answer is no number.
        """
        found = self.ready().run(inputs)
        return Heard(found[0], found[1] if len(found) > 1 else None)

    def ready(self) -> Engine:
        """The engine, made if need be.

        Raises:
            ConfigError: its package is not installed.
            EngineError: the files cannot be read.
        """
        if self._engine is None:
            with self._lock:
                if self._engine is None:
                    self._engine = self._made()
        return self._engine

    def _made(self) -> Engine:
        shape = tuple(self._input.shape)
        widths = Widths(self._dim, len(self._classes), self.name)
        if self.kind == "torch":
            from birdstack.embeddings.engine_torch import TorchEngine  # noqa: PLC0415 - as needed

            need("torch", "networks", f"backbone {self.name!r} in this bundle")
            config = self.config.model_copy(update={"weights": str(self.folder / WEIGHTS)})
            network = build_network(config, len(self._classes), window_s=self._window_s)
            return TorchEngine(network, shape, BATCH)
        if self.kind == "onnxruntime":
            from birdstack.embeddings.engine_onnx import SavedOnnx  # noqa: PLC0415 - as needed

            return SavedOnnx(self.folder / ONNX_FILE, widths, shape, BATCH)
        from birdstack.embeddings.engine_openvino import SavedOpenVino  # noqa: PLC0415 - as needed

        return SavedOpenVino(
            self.folder, widths, shape, self.kind, batch=BATCH, threads=self._threads
        )
