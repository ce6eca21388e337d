"""Networks run by ONNX Runtime in float32, one thread a call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from birdstack.embeddings.engine_batches import OUTPUTS, BatchedEngine, cannot_convert, network_name
from birdstack.embeddings.export import INPUT, OPSET, export_onnx
from birdstack.embeddings.extras import need
from birdstack.embeddings.model_cache import converted, network_digest, version

if TYPE_CHECKING:
    from torch import nn

    from birdstack.embeddings.saved_network import Widths

_FILE = "model.onnx"


class SavedOnnx(BatchedEngine):
    """ONNX Runtime on a model file. Its session is thread-safe, and runs in the calling thread.

    Args:
        file: of `export.export_onnx`.
        widths: what the network gives.
        input_shape: of one window.
        batch: most windows in one run.
    """

    def __init__(
        self, file: Path, widths: Widths | nn.Module, input_shape: tuple[int, ...], batch: int
    ) -> None:
        super().__init__("onnxruntime", widths, input_shape, range(batch, 0, -1))
        runtime: Any = need("onnxruntime", "onnx", "the engine onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(
                file.read_bytes(), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its classes derive from nothing narrower
            raise cannot_convert(network_name(widths), "onnxruntime", error) from error
        self._names = list(OUTPUTS[: len(self.widths)])

    def _run_batch(self, rows: np.ndarray, outputs: Sequence[np.ndarray]) -> None:
        for output, values in zip(
            outputs, self._session.run(self._names, {INPUT: rows}), strict=True
        ):
            output[...] = values


class OnnxEngine(SavedOnnx):
    """ONNX Runtime on a network, which is converted first."""

    def __init__(
        self, network: nn.Module, input_shape: tuple[int, ...], batch: int, cache: Path | None
    ) -> None:
        need("onnxruntime", "onnx", "the engine onnxruntime")
        key = {
            "network": network_digest(network),
            "input_shape": list(input_shape),
            "opset": OPSET,
            "versions": {name: version(name) for name in ("torch", "onnx", "onnxscript")},
        }

        def convert(folder: Path) -> None:
            (folder / _FILE).write_bytes(export_onnx(network, input_shape))

        with converted(cache, "onnx", key, convert) as folder:
            super().__init__(folder / _FILE, network, input_shape, batch)
