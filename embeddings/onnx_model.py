"""What an ONNX file says of itself: its input, its outputs and the files it consists of.

Read from the file's header with the package onnx, so that a file that does not fit is
refused before an engine is built or sound is heard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from birdstack.embeddings.extras import has, need
from birdstack.store.errors import ConfigError

Dims = tuple[int | None, ...]
"""Sizes of a tensor; None: open until the network runs."""

_FLOAT = 1  # onnx.TensorProto.FLOAT


@dataclass(frozen=True)
class OnnxModel:
    """One ONNX file.

    Attributes:
        path: the file.
        parts: the file and the files with external data beside it, all of which must stay.
        input_name: name of its one input.
        input_dims: `(batch, sample)` or `(batch, 1, height, width)`.
        outputs: sizes of each float output by name, in the file's order; an empty tuple where
            the file does not say.
    """

    path: Path
    parts: tuple[Path, ...]
    input_name: str
    input_dims: Dims
    outputs: Mapping[str, Dims]

    def __str__(self) -> str:
        return f"ONNX model {self.path}"

    def digest(self) -> str:
        """sha256 of the model and its external data, in hexadecimal."""
        total = hashlib.sha256()
        for part in self.parts:
            with part.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        return total.hexdigest()


def read_onnx(path: Path) -> OnnxModel:
    """Read the header of an ONNX file.

    Raises:
        ConfigError: there is no such file, it is no ONNX model, external data are missing or
            lie outside its folder, or it does not take one float32 input; or the extra `onnx`
            is not installed.
    """
    onnx = need("onnx", "onnx", "an ONNX model")
    if not has("onnxruntime"):
        need("onnxruntime", "onnx", "an ONNX model")
    if not path.is_file():
        message = f"ONNX model {path}: there is no such file"
        raise ConfigError(message, remedy="give the path of the .onnx file as `model`")
    model = _parsed(onnx, path)
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    if len(inputs) != 1:
        found = ", ".join(value.name for value in inputs) or "none"
        message = f"ONNX model {path}: it must take one input, it takes {len(inputs)} ({found})"
        raise ConfigError(message, remedy="export the network with the sound as its only input")
    if inputs[0].type.tensor_type.elem_type != _FLOAT:
        message = f"ONNX model {path}: input {inputs[0].name!r} is not float32"
        raise ConfigError(message, remedy="export the network with a float32 input")
    outputs = {
        value.name: _dims(value)
        for value in model.graph.output
        if value.type.tensor_type.elem_type == _FLOAT
    }
    parts = (path, *_external_files(path, model))
    return OnnxModel(path, parts, inputs[0].name, _dims(inputs[0]), outputs)


def _parsed(onnx: Any, path: Path) -> Any:
    """The model without external data."""
    remedy = "give a file that torch.onnx.export or another exporter has written"
    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except Exception as error:  # protobuf's own class has moved from release to release
        message = f"ONNX model {path}: it cannot be read: {' '.join(str(error).split())}"
        raise ConfigError(message, remedy=remedy) from error
    # protobuf takes many files for a message with nothing in it
    if not model.opset_import or not model.graph.output:
        message = f"ONNX model {path}: it is no ONNX model (no operators and no outputs in it)"
        raise ConfigError(message, remedy=remedy)
    return model


def _dims(value: Any) -> Dims:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.dim_value > 0 else None for dim in dims)


def _external_files(path: Path, model: Any) -> tuple[Path, ...]:
    """Files with weights beside the model, each once, sorted by name."""
    names = sorted({name for graph in _graphs(model.graph) for name in _locations(graph)})
    for name in names:
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            message = f"ONNX model {path}: its external data {name!r} lie outside its folder"
            raise ConfigError(message, remedy="export it again with the data beside the model")
        if not (path.parent / name).is_file():
            message = f"ONNX model {path}: its external data file {name!r} is missing beside it"
            raise ConfigError(message, remedy="copy that file beside the model, under that name")
    return tuple(path.parent / name for name in names)


def _graphs(graph: Any) -> Iterator[Any]:
    """The graph and the branches and loops inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _graphs(inner)


def _locations(graph: Any) -> Iterator[str]:
    constants = (a.t for node in graph.node for a in node.attribute if a.HasField("t"))
    for tensor in (*graph.initializer, *constants):
        for entry in tensor.external_data:
            if entry.key == "location":
                yield entry.value
