"""Mel power of one window in float32: the rougher, faster pass of the networks' pictures.

A picture needs neither power nor magnitude, so nothing but mel power leaves the cache: frames are
transformed as half as many complex numbers, and one loop goes from there to the mel bands.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from birdstack.features.fused_plan import FrontEnd, hann, sparse_mel
from birdstack.features.kernel_cache import Kernels, load_kernels

BLOCK = 64
"""Most frames that are transformed at a time; a window's are shared out evenly."""

Fourier = Callable[[NDArray[np.complex64]], NDArray[np.complex64]]
"""Transforms each row of complex64 `[row, point]`, in the calling thread alone. The result may be
overwritten by the next call."""


def scipy_fourier(rows: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """The transform that is always there. The rows are overwritten."""
    import scipy.fft  # noqa: PLC0415 - importing this module stays light

    # numpy takes five times as long in float32.
    found: NDArray[np.complex64] = scipy.fft.fft(rows, axis=1, overwrite_x=True, workers=1)
    return found


class PicturePass:
    """The mel power of one window at a time, wrong by up to 5e-7 of the window's maximum.

    Its buffers are reused from window to window, so a pass belongs to one thread.

    Args:
        front_end: frames, transform and mel bands.
        fourier: transforms the frames.

    Attributes:
        n_frames: frames of the window that was transformed last.
        mel: mel power `[mel, frame]` of that window in float32; overwritten by the next one.
    """

    def __init__(self, front_end: FrontEnd, fourier: Fourier = scipy_fourier) -> None:
        self.front_end = front_end
        self.n_frames = 0
        self.mel: NDArray[np.float32] = np.empty((front_end.n_mels, 0), dtype=np.float32)
        self._fourier = fourier
        self._window = hann(front_end.n_fft).astype(np.float32)
        self._mel = sparse_mel(front_end)
        turns = np.exp(-1j * np.pi * np.arange(front_end.n_bins) / (front_end.n_fft // 2))
        self._turns = np.stack([turns.real, turns.imag]).astype(np.float32)
        self._scratch = np.zeros((7, front_end.n_bins), dtype=np.float32)
        self._frames = np.zeros((BLOCK, front_end.n_fft), dtype=np.float32)

    @cached_property
    def _kernels(self) -> Kernels:
        return load_kernels("float32")

    def transform(self, samples: np.ndarray) -> None:
        """Transform one window `[sample]`; `mel` then holds it."""
        heard = np.ascontiguousarray(samples, dtype=np.float32)
        front_end, mel, kernels = self.front_end, self._mel, self._kernels
        n_frames = front_end.n_frames(len(heard))
        if n_frames != self.n_frames:
            self.mel = np.zeros((front_end.n_mels, n_frames), dtype=np.float32)
            self.n_frames = n_frames
        n_blocks = -(-n_frames // BLOCK)
        step = -(-n_frames // n_blocks)
        for first in range(0, n_frames, step):
            frames = self._frames[: min(step, n_frames - first)]
            kernels["frame_block"](heard, self._window, first, front_end.hop, n_frames, frames)
            packed = self._fourier(frames.view(np.complex64))
            kernels["packed_mel"](
                *(packed, self._turns, mel.starts, mel.stops, mel.offsets, mel.weights),
                *(first, self._scratch, self.mel),
            )


_own = threading.local()


def picture_pass(front_end: FrontEnd, fourier: Fourier = scipy_fourier) -> PicturePass:
    """This thread's pass with that front end, made at the first call."""
    passes: dict[tuple[FrontEnd, Fourier], PicturePass] = _own.__dict__.setdefault("passes", {})
    key = (front_end, fourier)
    if key not in passes:
        passes[key] = PicturePass(front_end, fourier)
    return passes[key]
