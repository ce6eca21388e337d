"""An ONNX file on ONNX Runtime: one CPU thread, built at the first run."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from birdstack.embeddings.extras import need
from birdstack.embeddings.onnx_model import OnnxModel
from birdstack.store.errors import ConfigError

BATCH = 8
"""Rows in one run of a model whose batch is open."""


class OnnxSession:
    """Runs a model file. Thread-safe; a pickled copy builds its own engine.

    Args:
        model: the file's header.

    Attributes:
        digest: sha256 of the file and its external data when this was made. A file that has
            changed by the first run is refused: numbers belong to the recipe they are filed
            under.
    """

    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        self.digest = model.digest()
        self._engine: Any = None
        self._lock = threading.Lock()

    def run(self, outputs: Sequence[str], rows: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name, each with one row for each of `rows`.

        A fixed batch is filled up with zeros; an open one is cut into runs of `BATCH`.

        Raises:
            ConfigError: the engine cannot be built or run, the file has changed, or an output
                has not one row for each input.
        """
        found: dict[str, list[np.ndarray]] = {name: [] for name in outputs}
        for n_real, batch in self._batches(rows):
            for name, values in self._run(outputs, batch).items():
                if len(values) != len(batch):
                    message = (
                        f"{self._model}: output {name!r} has {len(values)} rows "
                        f"for {len(batch)} windows"
                    )
                    raise ConfigError(message, remedy="export it with one row for each window")
                found[name].append(values[:n_real])
        return {name: np.concatenate(values) for name, values in found.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_engine": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def _batches(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Batches that the model takes, each with the number of its real rows."""
        fixed = self._model.input_dims[0]
        size = fixed or BATCH
        for at in range(0, len(rows), size):
            batch = rows[at : at + size]
            n_real = len(batch)
            if fixed and n_real < fixed:
                silence = np.zeros((fixed - n_real, *batch.shape[1:]), dtype=np.float32)
                batch = np.concatenate([batch, silence])
            yield n_real, np.ascontiguousarray(batch)

    def _run(self, outputs: Sequence[str], batch: np.ndarray) -> dict[str, np.ndarray]:
        engine = self._built()
        try:
            values = engine.run(list(outputs), {self._model.input_name: batch})
        except Exception as error:  # its classes derive from nothing narrower
            message = f"{self._model}: it cannot run: {_words(error)}"
            raise ConfigError(message, remedy="export it again for windows of this size") from error
        return dict(zip(outputs, values, strict=True))

    def _built(self) -> Any:
        with self._lock:
            if self._engine is None:
                self._check_unchanged()
                self._engine = self._build()
            return self._engine

    def _check_unchanged(self) -> None:
        parts = self._model.parts
        if not all(part.is_file() for part in parts) or self._model.digest() != self.digest:
            message = f"{self._model}: its files have changed since the run began"
            raise ConfigError(message, remedy="leave model files alone during a run, start again")

    def _build(self) -> Any:
        runtime = need("onnxruntime", "onnx", "an ONNX model")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            return runtime.InferenceSession(
                str(self._model.path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its classes derive from nothing narrower
            message = f"{self._model}: ONNX Runtime refuses it: {_words(error)}"
            remedy = "export it with operators and an opset that this ONNX Runtime knows"
            raise ConfigError(message, remedy=remedy) from error


def _words(error: Exception) -> str:
    return " ".join(str(error).split())
