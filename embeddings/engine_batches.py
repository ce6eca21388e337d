"""What engines share: windows in batches, shapes checked, answers that are no numbers refused."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from birdstack.embeddings.engine import EngineError

if TYPE_CHECKING:
    from torch import nn

    from birdstack.embeddings.saved_network import Widths

OUTPUTS = ("embedding", "logits")
"""What a network gives, in order; the second only if it has classes."""

_NAMED = 10  # rows in a message


class BatchedEngine(ABC):
    """An engine that runs one batch at a time.

    Args:
        kind: its name.
        network: for its `dim` and `n_classes`.
        input_shape: of one window.
        sizes: of batches, descending, the last 1: windows are cut into the largest that fit, so
            that none is padded.
    """

    def __init__(
        self,
        kind: str,
        network: Widths | nn.Module,
        input_shape: tuple[int, ...],
        sizes: Sequence[int],
    ) -> None:
        self.name = kind
        self.input_shape = input_shape
        self.widths = output_widths(network)
        self._sizes = tuple(sizes)

    @abstractmethod
    def _run_batch(self, rows: np.ndarray, outputs: Sequence[np.ndarray]) -> None:
        """Run one batch of a size in `sizes` and fill the rows of each output. Thread-safe."""

    def run(self, inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run windows, as `Engine.run`."""
        if inputs.shape[1:] != self.input_shape:
            message = (
                f"engine {self.name}: it takes windows of shape {self.input_shape}, "
                f"got {inputs.shape[1:]}"
            )
            raise EngineError(message, remedy="prepare windows with the input of this network")
        rows = np.ascontiguousarray(inputs, dtype=np.float32)
        # asked before, because libraries differ in what becomes of a NaN: some make it 0
        self._refuse_no_numbers("its input", rows, "look at the sound of these windows")
        outputs = tuple(np.empty((len(rows), width), dtype=np.float32) for width in self.widths)
        for batch in batches(len(rows), self._sizes):
            self._run_batch(rows[batch], [output[batch] for output in outputs])
        for what, output in zip(OUTPUTS, outputs, strict=False):
            remedy = "check the network's weights, or choose the engine torch"
            self._refuse_no_numbers(f"its {what}, of finite windows,", output, remedy)
        return outputs

    def _refuse_no_numbers(self, what: str, values: np.ndarray, remedy: str) -> None:
        flat = values.reshape(len(values), math.prod(values.shape[1:]))
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(flat.sum(axis=1)).all():  # a quarter of the time of looking at each
                return
        broken = np.flatnonzero(~np.isfinite(flat).all(axis=1))
        if not len(broken):
            return
        named = ", ".join(map(str, broken[:_NAMED])) + (", ..." if len(broken) > _NAMED else "")
        message = (
            f"engine {self.name}: {what} is NaN or infinite in {len(broken)} of {len(values)} "
            f"windows: rows {named}"
        )
        raise EngineError(message, remedy=remedy)


def halves(batch: int) -> tuple[int, ...]:
    """Sizes of batches: `batch`, and the powers of two below it, descending."""
    powers = (1 << bit for bit in range(batch.bit_length()))
    return (batch, *sorted((power for power in powers if power < batch), reverse=True))


def batches(n_rows: int, sizes: Sequence[int]) -> Iterator[slice]:
    """Cut rows into the largest batches that fit; sizes descend to 1."""
    at = 0
    for size in sizes:
        while n_rows - at >= size:
            yield slice(at, at + size)
            at += size


def output_widths(network: Widths | nn.Module) -> tuple[int, ...]:
    """Length of each output of a network: `(dim,)` or `(dim, n_classes)`."""
    dim, n_classes = int(network.dim), int(network.n_classes)  # type: ignore[arg-type]
    return (dim, n_classes) if n_classes else (dim,)


def network_name(network: Widths | nn.Module) -> str:
    """What a network is called in messages."""
    return str(getattr(network, "name", "") or type(network).__name__)


def cannot_convert(name: str, kind: str, error: Exception) -> EngineError:
    """The error of a network that an engine's library does not take; raise it `from error`."""
    told = " ".join(str(error).split())
    shown = told if len(told) <= 500 else f"{told[:500]} ..."  # noqa: PLR2004 - a graph may follow
    message = f"network {name}: engine {kind} cannot take it: {type(error).__name__}: {shown}"
    return EngineError(message, remedy="choose another engine; torch takes every network")
