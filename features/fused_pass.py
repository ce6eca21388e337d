"""One transform of a window, and all that is read off it, block by block in the cache.

`SpectralPass` is shared by the acoustic views and the networks' pictures: it frames, windows
and transforms a block of frames at a time and hands it to kernels while it is still near the
processor. (Transforming 48 windows at once is slower than one at a time: the frames fall out
of the cache.) Its buffers are reused from window to window, so a pass belongs to
one thread; `thread_pass` keeps one for each.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from birdstack.features.fused_kernels import LANES
from birdstack.features.fused_plan import FrontEnd, hann, sparse_mel
from birdstack.features.kernel_cache import Kernels, Precision, load_kernels

BLOCK = 10 * LANES
"""Frames that are transformed at a time: the fewer, the nearer they stay to the processor; the
more, the less often threads hand the interpreter's lock over."""

_POWER_FLOOR = 1e-10  # librosa's amin


class SpectralPass:
    """The transform of one window at a time.

    Everything it hands out as a view is overwritten by the next `transform`.

    Args:
        front_end: frames, transform and mel bands.
        precision: of the transform: float64 is equal to librosa's (which multiplies by a
            float64 window); float32 is for pictures, twice as fast, and wrong by up to
            5e-7 of the window's maximum. Power is kept in float32 (6e-8 of each value) either way.

    Attributes:
        n_frames: frames of the window that was transformed last.
        mel: mel power `[mel, frame]` of that window in float64; a view.
        mel_frames: the same with further frames of zeros, contiguous.
        power_groups: power of that window, `[group, bin, lane]`: frame `LANES * group + lane`.
    """

    def __init__(self, front_end: FrontEnd, precision: Precision = "float64") -> None:
        self.front_end = front_end
        self.precision: Precision = precision
        self.n_frames = 0
        self.mel: np.ndarray = np.empty((front_end.n_mels, 0))
        self._window = hann(front_end.n_fft).astype(precision)
        self._mel = sparse_mel(front_end)
        self._frames = np.zeros((BLOCK, front_end.n_fft), dtype=precision)
        self._spectrum = np.zeros((BLOCK, front_end.n_bins), dtype=np.complex128)
        self._filled = 0  # rows of the spectrum that are not zero
        self._no_magnitude = np.zeros((0, 0, 0), dtype=np.float32)
        self.power_groups = np.zeros((0, front_end.n_bins, LANES), dtype=np.float32)
        self.mel_frames = np.zeros((front_end.n_mels, 0))

    @cached_property
    def kernels(self) -> Kernels:
        """The compiled loops; the first use in a process loads or compiles them."""
        return load_kernels(self.precision)

    @property
    def power(self) -> np.ndarray:
        """Power `[bin, frame]` of the window transformed last; a copy."""
        return self._laid_out(self.power_groups)

    @property
    def magnitude(self) -> np.ndarray:
        """Magnitude `[bin, frame]` of the window transformed last; a copy."""
        return np.asarray(np.sqrt(self.power))

    def transform(self, samples: np.ndarray, *, with_mel: bool = True) -> None:
        """Transform one window `[sample]`; `power` and `mel` then hold it."""
        for first, spectrum, groups in self.blocks(samples):
            power = self.power_groups[groups]
            self.kernels["power_lanes"](spectrum, False, power, self._no_magnitude)
            if with_mel:
                self.add_mel(power, first)
        self.close_mel()

    def log_mel(
        self,
        samples: np.ndarray | None = None,
        *,
        top_db: float | None = 80.0,
        relative: bool = True,
    ) -> np.ndarray:
        """Log-mel picture of a window, for a network.

        Args:
            samples: the window `[sample]`; None: the one transformed last, without a second
                transform.
            top_db: floor below the window's maximum in dB; None: no floor but 1e-10.
            relative: 0 dB is the window's maximum; else 0 dB is power 1.

        Returns:
            float32 `[mel, frame]`, dB: `librosa.power_to_db` of `melspectrogram`. A copy.
        """
        if samples is not None:
            self.transform(samples)
        picture = decibels(self.mel, _POWER_FLOOR)
        loudest = picture.max(initial=-np.inf)
        if top_db is not None:
            np.maximum(picture, loudest - top_db, out=picture)
        if relative:
            picture -= loudest
        return picture.astype(np.float32)

    # --- for those that read more off a block ----------------------------------------------

    def blocks(self, samples: np.ndarray) -> Iterator[tuple[int, np.ndarray, slice]]:
        """Transform a window block by block.

        Yields:
            The first frame of the block; its spectrum `[row, 2 * bin]`, real and imaginary
            parts in turns; and the groups of `power_groups` that its power belongs in. To be
            read before the next block is asked for.
        """
        heard = np.ascontiguousarray(samples, dtype=np.float32)
        self._make_room(len(heard))
        total = len(self.power_groups)
        for start in range(0, total, BLOCK // LANES):
            groups = slice(start, min(start + BLOCK // LANES, total))
            frames = self._frames[: (groups.stop - start) * LANES]
            self.kernels["frame_block"](
                heard, self._window, start * LANES, self.front_end.hop, self.n_frames, frames
            )
            spectrum = self._transformed(frames, self.n_frames - start * LANES)
            yield start * LANES, spectrum.view(self.precision), groups

    def _transformed(self, frames: np.ndarray, real: int) -> np.ndarray:
        """Spectrum `[row, bin]` of `frames [row, sample]`, the first `real` not zero; a view."""
        if self.precision == "float64":
            # numpy writes into a buffer that is already in the cache.
            np.fft.rfft(frames[:real], axis=1, out=self._spectrum[: len(frames[:real])])
            if self._filled > real:  # rows that a longer block left
                self._spectrum[real : self._filled] = 0.0
            self._filled = min(real, len(frames))
            return self._spectrum[: len(frames)]
        import scipy.fft  # noqa: PLC0415 - importing this module stays light

        # numpy is half as fast in float32.
        rough: np.ndarray = scipy.fft.rfft(frames, axis=1, overwrite_x=True, workers=1)
        return rough

    def _make_room(self, n_samples: int) -> None:
        """Buffers for a window of that length; those of the window before if they fit."""
        front_end = self.front_end
        self.n_frames = front_end.n_frames(n_samples)
        groups = -(-self.n_frames // LANES)
        if groups != len(self.power_groups):
            self.power_groups = np.zeros((groups, front_end.n_bins, LANES), dtype=np.float32)
            self.mel_frames = np.zeros((front_end.n_mels, groups * LANES))

    def add_mel(self, power: np.ndarray, first: int) -> None:
        """Weigh the power of a block into mel bands."""
        mel = self._mel
        self.kernels["mel_lanes"](
            power, mel.starts, mel.stops, mel.offsets, mel.weights, first, self.mel_frames
        )

    def close_mel(self) -> None:
        """Make `mel` the window's, once every block was added."""
        self.mel = self.mel_frames[:, : self.n_frames]

    def _laid_out(self, groups: np.ndarray) -> np.ndarray:
        rows = groups.transpose(1, 0, 2).reshape(groups.shape[1], -1)
        return np.asarray(rows[:, : self.n_frames], dtype=np.float64)


def decibels(power: np.ndarray, floor: float) -> np.ndarray:
    """`10 log10(max(power, floor))`."""
    level: np.ndarray = np.maximum(power, floor)
    np.log(level, out=level)
    level *= 10 / np.log(10)
    return level


_own = threading.local()


def thread_pass(front_end: FrontEnd, precision: Precision = "float64") -> SpectralPass:
    """This thread's pass with that front end, made at the first call."""
    passes: dict[tuple[FrontEnd, Precision], SpectralPass] = _own.__dict__.setdefault("passes", {})
    key = (front_end, precision)
    if key not in passes:
        passes[key] = SpectralPass(front_end, precision)
    return passes[key]
