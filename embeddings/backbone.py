"""The contract of every network: windows of sound in, embeddings and logits out.

A backbone is two steps with a seam between them. Its `input` turns the samples of one
window into what the network takes (a picture, a waveform); backbones with equal inputs
share that work. `run` turns a batch of such inputs into embeddings and logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class Heard:
    """What a backbone says of some windows.

    Attributes:
        embeddings: float32 `[window, dim]`.
        logits: float32 `[window, class]` before any sigmoid or softmax; None for a backbone
            that has no classes.
    """

    embeddings: np.ndarray
    logits: np.ndarray | None


@runtime_checkable
class NetworkInput(Protocol):
    """Turns one window of samples into what a network takes.

    Two inputs with equal `recipe` give equal arrays, so one of them serves both networks.
    """

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the samples that `prepare` takes."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one window's input, such as `(1, mel, frame)` or `(sample,)`."""
        ...

    @property
    def recipe(self) -> Mapping[str, Any]:
        """JSON-able: everything that determines the input from the samples."""
        ...

    def prepare(self, samples: np.ndarray) -> np.ndarray:
        """Input of one window: samples `[sample]` to float32 `[*shape]`. Thread-safe.

        Raises:
            ConfigError: the window has another length than the input was made for.
        """
        ...


@runtime_checkable
class Backbone(Protocol):
    """A network that is ready to hear. Thread-safe; picklable before its first `run`."""

    @property
    def name(self) -> str:
        """Name of its views: `embedding/<name>` and `logits/<name>`."""
        ...

    @property
    def input(self) -> NetworkInput:
        """What it takes."""
        ...

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of its logits, in order; empty if it has none."""
        ...

    @property
    def recipe(self) -> Mapping[str, Any]:
        """JSON-able: architecture, hash of the weights, input, classes. Cheap to ask for.

        Not in it: batch size, device, engine (whose parity was checked) and versions.
        """
        ...

    def run(self, inputs: np.ndarray) -> Heard:
        """Hear prepared inputs, float32 `[window, *input.shape]`; any number, also none.

        The answer for one window does not depend on the others beside it.
        """
        ...


def hear(backbone: Backbone, windows: Sequence[np.ndarray]) -> Heard:
    """Prepare windows, each `[sample]`, and run them.

    Raises:
        ConfigError: as `NetworkInput.prepare`.
    """
    shape = (len(windows), *backbone.input.shape)
    inputs = np.empty(shape, dtype=np.float32)
    for row, samples in zip(inputs, windows, strict=True):
        row[...] = backbone.input.prepare(samples)
    return backbone.run(inputs)
