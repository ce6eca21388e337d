"""Networks run by OpenVINO: float32, bfloat16 or 8-bit integers, one thread a call."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from birdstack.embeddings.engine_batches import (
    BatchedEngine,
    cannot_convert,
    halves,
    network_name,
)
from birdstack.embeddings.model_cache import converted, network_digest, version
from birdstack.embeddings.openvino_model import MODEL_FILE, convert_network, import_openvino
from birdstack.store.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from birdstack.embeddings.saved_network import Widths

_PRECISION = {"openvino": "f32", "openvino-bf16": "bf16", "openvino-int8": "f32"}


class SavedOpenVino(BatchedEngine):
    """OpenVINO on the processor, from a model on disk.

    A model is compiled for each size of batch when it is first met: fixed sizes are 6 to 10 %
    faster than an open one, and no window is padded. Each has as many streams as threads may
    call at once; a call borrows an infer request and runs without the interpreter's lock.

    Args:
        folder: with the model of `openvino_model.convert_network`; may go once this is made.
        widths: what the network gives.
        input_shape: of one window.
        kind: `openvino`, `openvino-bf16` or `openvino-int8`.
        batch: most windows in one run.
        threads: how many threads will call at once.
    """

    def __init__(
        self,
        folder: Path,
        widths: Widths | nn.Module,
        input_shape: tuple[int, ...],
        kind: str,
        *,
        batch: int,
        threads: int,
    ) -> None:
        super().__init__(kind, widths, input_shape, halves(batch))
        self._named = network_name(widths)
        self._settings = {
            "INFERENCE_PRECISION_HINT": _PRECISION[kind],
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled: dict[int, _Requests] = {}
        self._compiling = threading.Lock()
        try:
            # the reader keeps the weights mapped, also when the folder is gone
            self._model = core().read_model(folder / MODEL_FILE)
        except RuntimeError as error:
            raise cannot_convert(self._named, self.name, error) from error

    def _run_batch(self, rows: np.ndarray, outputs: Sequence[np.ndarray]) -> None:
        with self._requests(len(rows)).one() as request:
            request.infer({0: rows}, share_inputs=True)
            for index, output in enumerate(outputs):
                output[...] = request.get_output_tensor(index).data

    def _requests(self, size: int) -> _Requests:
        found = self._compiled.get(size)
        if found is None:
            with self._compiling:
                found = self._compiled.get(size)
                if found is None:
                    found = self._compiled[size] = _Requests(self._compile(size))
        return found

    def _compile(self, size: int) -> Any:
        model = self._model.clone()
        try:
            model.reshape([size, *self.input_shape])
            return core().compile_model(model, "CPU", self._settings)
        except Exception as error:  # RuntimeError, or a class of its own
            raise cannot_convert(self._named, self.name, error) from error


class OpenVinoEngine(SavedOpenVino):
    """OpenVINO on a network, which is converted first."""

    def __init__(
        self,
        network: nn.Module,
        input_shape: tuple[int, ...],
        kind: str,
        *,
        cache: Path | None,
        batch: int,
        threads: int,
        calibration: np.ndarray | None,
    ) -> None:
        key: dict[str, Any] = {
            "network": network_digest(network),
            "input_shape": list(input_shape),
            "versions": {name: version(name) for name in ("torch", "openvino")},
        }
        if kind == "openvino-int8":
            if calibration is None:
                message = "engine openvino-int8: there are no windows to calibrate it with"
                raise ConfigError(message, remedy="give some hundred prepared windows")
            told = f"{calibration.dtype} {calibration.shape}".encode() + calibration.tobytes()
            key["calibration"] = hashlib.sha256(told).hexdigest()
            key["versions"]["nncf"] = version("nncf")

        def convert(folder: Path) -> None:
            convert_network(network, input_shape, folder)
            if calibration is not None and kind == "openvino-int8":
                from birdstack.embeddings.int8 import quantise  # noqa: PLC0415 - as needed

                quantise(folder, calibration)

        entry = "openvino-int8" if kind == "openvino-int8" else "openvino"
        with converted(cache, entry, key, convert) as folder:
            super().__init__(folder, network, input_shape, kind, batch=batch, threads=threads)


class _Requests:
    """Infer requests of a compiled model: as many as threads ask at once."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()

    @contextmanager
    def one(self) -> Iterator[Any]:
        """A request that no other thread uses meanwhile."""
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        try:
            yield request
        finally:
            self._idle.put(request)


@once
def core() -> Any:
    """OpenVINO's core, one for the process."""
    return import_openvino().Core()
