"""Any network in an ONNX file, with a declared input and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from birdstack.embeddings.backbone import Heard, NetworkInput
from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.class_mapping import ClassMap, map_classes
from birdstack.embeddings.onnx_input import input_of
from birdstack.embeddings.onnx_model import read_onnx
from birdstack.embeddings.onnx_roles import Roles, find_roles, shown
from birdstack.embeddings.onnx_session import OnnxSession
from birdstack.embeddings.pieces import cut, mean_of_pieces
from birdstack.store.classes import Names
from birdstack.store.errors import ConfigError

ONNX_VERSION = 1
"""Raised when the same file and configuration give other numbers than before."""

_MATRIX = 2


class OnnxBackbone:
    """A model file: samples `[b, sample]` or pictures `[b, 1, h, w]` in, matrices out.

    A model whose ears are shorter than the window (3 s of 5 s) hears it in pieces: as few as
    cover the window, evenly spread (from 0 and from 2 s); embeddings and logits are the mean
    over the pieces. The batch may be open or fixed; a fixed one is filled up with silence.

    Outputs are found as `onnx_roles.find_roles` says. In mode `given` the model needs logits
    and `classes_file`; in mode `frozen`, or to write embeddings, it needs an embedding.

    What the file's header tells is checked here. The first `run` builds the engine (ONNX
    Runtime, CPU, one thread), and refuses what only shows then.

    Args:
        config: of kind `onnx`, in mode `frozen` or `given`.
        window_s: length of a window in seconds.
        classes: the store's classes, which the model's logits are mapped to by name (mode
            `given`); None: the model's own, as `classes_file` names them.

    Raises:
        ConfigError: the file, its shapes, its outputs or its classes do not fit.
    """

    def __init__(
        self, config: BackboneConfig, window_s: float, *, classes: Names | None = None
    ) -> None:
        self._name = config.name
        self._model = read_onnx(Path(config.model).expanduser())
        self._input, self._starts = input_of(self._model, config, window_s)
        own = _own_classes(config) if config.mode == "given" else ()
        roles = find_roles(self._model, config.outputs, _needed(config), len(own))
        self._session = OnnxSession(self._model)
        # in mode frozen the network's own classes are of no use
        self._roles = roles if own else Roles(roles.embedding, None)
        self._widths = {name: self._width(name) for name in self._roles.names}
        self._map = self._mapped(own, classes)

    @property
    def name(self) -> str:
        """Name of its views."""
        return self._name

    @property
    def input(self) -> NetworkInput:
        """Samples or pictures."""
        return self._input

    @property
    def dim(self) -> int:
        """Length of an embedding; 0 where the model has none and none is needed."""
        return self._widths[self._roles.embedding] if self._roles.embedding else 0

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of its logits, in order."""
        return self._map.classes

    @property
    def class_map(self) -> ClassMap:
        """Which of its own classes stands for each of `classes`; `missing` ones are NaN."""
        return self._map

    @property
    def recipe(self) -> dict[str, Any]:
        """sha256 of the file, its outputs, its input and classes."""
        return {
            "kind": "onnx",
            "version": ONNX_VERSION,
            "weights": self._session.digest,
            "outputs": [self._roles.embedding, self._roles.logits],
            "input": dict(self._input.recipe),
            "pieces": list(self._starts),
            "classes": list(self._map.classes),
            "columns": list(self._map.columns),
        }

    def run(self, inputs: np.ndarray) -> Heard:
        """Hear prepared inputs `[window, *input.shape]`.

        Raises:
            ConfigError: the engine cannot be built or run, the file has changed since, or the
                outputs have other shapes than were promised.
        """
        if len(inputs) == 0:
            n_classes = len(self.classes)
            logits = np.empty((0, n_classes), dtype=np.float32) if n_classes else None
            return Heard(np.empty((0, self.dim), dtype=np.float32), logits)
        found = self._heard(inputs)
        for name, values in found.items():
            if values.shape[1:] != (self._widths[name],):
                promised = (None, self._widths[name])
                message = (
                    f"{self._model}: output {name!r} came as {shown(values.shape)}, "
                    f"expected {shown(promised)}"
                )
                raise ConfigError(message, remedy="export it with outputs of a fixed width")
        means = {name: mean_of_pieces(found[name], len(self._starts)) for name in found}
        silent = np.empty((len(inputs), 0), dtype=np.float32)
        logits = self._map.pick(means[self._roles.logits]) if self._roles.logits else None
        return Heard(means[self._roles.embedding] if self._roles.embedding else silent, logits)

    def _heard(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs of every piece."""
        pieces = inputs
        if inputs.ndim == _MATRIX:
            pieces = cut(inputs, self._starts, self._model.input_dims[1] or inputs.shape[1])
        return self._session.run(self._roles.names, pieces)

    def _width(self, name: str) -> int:
        """Columns of an output; a silent window tells where the header does not."""
        shape = self._model.outputs[name]
        if not shape or shape[-1] is None:
            silence = np.zeros((1, *self._input.shape), dtype=np.float32)
            shape = self._heard(silence)[name].shape
        width = shape[-1] if len(shape) == _MATRIX else None
        if width is None:
            message = f"{self._model}: output {name!r} is {shown(shape)}, expected [batch, n]"
            raise ConfigError(message, remedy="name an output that is one vector for each window")
        return width

    def _mapped(self, own: tuple[str, ...], classes: Names | None) -> ClassMap:
        if not own:
            return ClassMap((), ())
        n_logits = self._widths[str(self._roles.logits)]
        if n_logits != len(own):
            message = (
                f"{self._model}: {n_logits} logits in {self._roles.logits!r}, "
                f"but classes_file names {len(own)} classes"
            )
            remedy = "give one class a line in the order of the logits, without a header line"
            raise ConfigError(message, remedy=remedy)
        wanted = dict.fromkeys(own, (None, None)) if classes is None else classes
        return map_classes([(label,) for label in own], wanted).require_some(str(self._model))


def _needed(config: BackboneConfig) -> tuple[str, ...]:
    if config.mode == "given":
        return ("embedding", "logits") if config.embeddings else ("logits",)
    return ("embedding",)


def _own_classes(config: BackboneConfig) -> tuple[str, ...]:
    """The lines of `classes_file`."""
    if config.classes_file is None:
        message = f"backbone {config.name!r}: mode given needs classes_file, it is not set"
        raise ConfigError(message, remedy="give a text file with one class a line, or use frozen")
    path = Path(config.classes_file).expanduser()
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        message = f"backbone {config.name!r}: classes_file {path} cannot be read: {error}"
        raise ConfigError(message, remedy="give a UTF-8 text file with one class a line") from error
    while lines and not lines[-1].strip():
        lines.pop()
    own: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        label = line.strip()
        if not label or label in own:
            fault = f"{label!r} stands in line {own[label]} too" if label else "it is empty"
            message = f"backbone {config.name!r}: classes_file {path}, line {number}: {fault}"
            raise ConfigError(message, remedy="name every class once, one a line")
        own[label] = number
    if not own:
        message = f"backbone {config.name!r}: classes_file {path} names no class"
        raise ConfigError(message, remedy="give a text file with one class a line")
    return tuple(own)
