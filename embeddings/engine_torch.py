"""Networks run by torch itself: in eager mode, the reference, and frozen by TorchScript."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from birdstack.embeddings.engine_batches import BatchedEngine, cannot_convert, halves, network_name
from birdstack.embeddings.extras import need

if TYPE_CHECKING:
    from torch import nn

_PICTURE = 3  # dimensions of [channel, height, width]

converting = threading.RLock()
"""Held while a network is traced or exported: both set warning filters of the process."""


class TorchEngine(BatchedEngine):
    """Eager mode with channels last, on the device where the network lies.

    A call on a processor uses one thread: torch's own threads are set to one in every thread
    that calls.
    """

    def __init__(self, network: nn.Module, input_shape: tuple[int, ...], batch: int) -> None:
        super().__init__("torch", network, input_shape, range(batch, 0, -1))
        self._torch: Any = need("torch", "networks", "the engine torch")
        self._layout = layout(self._torch, input_shape)
        own: Any = copy.deepcopy(network).eval()
        self._network = own.to(memory_format=self._layout)
        first = next(self._network.parameters(), None)
        self._device = self._torch.device("cpu") if first is None else first.device

    def _run_batch(self, rows: np.ndarray, outputs: Sequence[np.ndarray]) -> None:
        on_cpu = self._device.type == "cpu"
        if on_cpu:
            one_thread(self._torch)
        with self._torch.inference_mode():
            heard = as_tensor(self._torch, rows)
            found = self._network(heard.to(self._device, memory_format=self._layout))
            for output, values in zip(outputs, found, strict=True):
                output[...] = values.float().cpu().numpy()


class JitEngine(BatchedEngine):
    """Traced, frozen and `optimize_for_inference`: the habit of competitions.

    Deprecated by torch, and quicker than eager mode by little or nothing, because it loses
    channels last; here for comparison.
    """

    def __init__(self, network: nn.Module, input_shape: tuple[int, ...], batch: int) -> None:
        super().__init__("torch-jit", network, input_shape, halves(batch))
        self._torch: Any = need("torch", "networks", "the engine torch-jit")
        jit = self._torch.jit
        example = self._torch.zeros(batch, *input_shape)
        with tracing():
            try:
                plain = on_cpu(network)
                with self._torch.no_grad():
                    traced = jit.trace(plain, example, check_trace=False)
                    self._network = jit.optimize_for_inference(jit.freeze(traced))
            except Exception as error:  # whatever the tracer and its passes raise
                raise cannot_convert(network_name(network), "torch-jit", error) from error

    def _run_batch(self, rows: np.ndarray, outputs: Sequence[np.ndarray]) -> None:
        one_thread(self._torch)
        with self._torch.inference_mode():
            found = self._network(as_tensor(self._torch, rows))
            for output, values in zip(outputs, found, strict=True):
                output[...] = values.numpy()


def one_thread(torch: Any) -> None:
    """Let torch compute in the calling thread alone, as far as this thread goes.

    OpenMP keeps the setting for each thread, so it is made in every thread that calls.
    """
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def as_tensor(torch: Any, rows: np.ndarray) -> Any:
    """A tensor over the rows; over a copy of rows that must not be written to."""
    return torch.from_numpy(rows if rows.flags.writeable else rows.copy())


def layout(torch: Any, input_shape: tuple[int, ...]) -> Any:
    """Channels last for pictures."""
    return torch.channels_last if len(input_shape) == _PICTURE else torch.contiguous_format


def on_cpu(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode, float32, on the processor, without gradients."""
    return copy.deepcopy(network).eval().cpu().float().requires_grad_(requires_grad=False)


@contextmanager
def tracing() -> Iterator[None]:
    """Trace one network at a time, without two kinds of warning.

    TorchScript is deprecated, which its users here know; and what a network computes from the
    shape of its input becomes a constant, which is meant: shapes are fixed, and parity is
    checked with several sizes of batch.
    """
    torch = need("torch", "networks", "an inference engine")
    with converting, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        yield
