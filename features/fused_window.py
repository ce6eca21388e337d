"""One window on its way through the fused pass: what the kernels left, and what follows.

`AcousticPass` runs the stages that the wanted features need over each block while it is in
the cache; `features/fused_features.py` turns what they left into columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np

from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.fused_kernels import LANES
from birdstack.features.fused_pass import BLOCK, SpectralPass
from birdstack.features.fused_plan import FrontEnd, contrast_bands
from birdstack.features.kernel_cache import Precision
from birdstack.features.spectrum import POWER_FLOOR, TOP_DB, HeardWindow

Stage = Literal[
    "power", "mel", "shape", "flatness", "contrast", "bins", "cells", "index", "song", "wave"
]
"""A reading of the pass: what costs time, and is left out where nobody needs it."""

_MAGNITUDE = {"shape", "bins"}
QUANTILES = {"p05": 0.05, "p50": 0.5, "p95": 0.95}
_SERIES = ("centroid", "bandwidth", "rolloff85", "rolloff95", "flatness", "band_flatness")

Result = TypeVar("Result")


class AcousticPass:
    """A fused pass with the readings of the acoustic features; belongs to one thread.

    Args:
        config: sizes and limits.
        sample_rate_hz: rate of the samples.
        precision: of the transform.

    Attributes:
        spectral: the pass itself.
        memory: state of the recording, as in `HeardWindow`; empty at its start.
        sums: sums over frames of magnitude, power and change, `[3, bin]`.
        counts: frames in which each bin within the limits of the indices reaches the
            threshold of ADI, `[bin]`.
        loudest: largest power within the limits of the indices.
    """

    def __init__(
        self, config: AcousticConfig, sample_rate_hz: int, precision: Precision = "float64"
    ) -> None:
        self.config = config
        self.sample_rate_hz = sample_rate_hz
        self.front_end = FrontEnd.of(config, sample_rate_hz)
        self.spectral = SpectralPass(self.front_end, precision)
        self.index_bins = self.front_end.bins_between(config.index_fmin_hz, config.index_fmax_hz)
        self.song_bins = self.front_end.bins_between(config.song_fmin_hz, config.song_fmax_hz)
        self.bands = contrast_bands(config, self.front_end)
        self.memory: dict[str, Any] = {}
        block = (BLOCK // LANES, self.front_end.n_bins, LANES)
        self._magnitude = np.zeros(block, dtype=np.float32)
        self._last = np.zeros(self.front_end.n_bins, dtype=np.float32)
        self.sums = np.zeros((3, self.front_end.n_bins))
        self.counts = np.zeros(self.index_bins[1] - self.index_bins[0], dtype=np.int64)
        self.loudest = 0.0
        self._room = -1

    def hear(
        self, samples: np.ndarray, stages: Collection[Stage], frames_to_next: int | None
    ) -> HeardPass:
        """Run the stages over one window `[sample]`; what they leave lasts until the next."""
        n_frames = self.front_end.n_frames(len(samples))
        self._make_room(n_frames)
        heard = HeardPass(self, samples, frames_to_next, n_frames)
        if "wave" in stages:
            self._hear_wave(heard.samples32)
        if not set(stages) <= {"wave"}:
            self._hear_blocks(heard.samples32, set(stages))
        return heard

    def _hear_blocks(self, samples: np.ndarray, stages: set[Stage]) -> None:  # noqa: C901 - a list of stages
        spectral, kernels = self.spectral, self.spectral.kernels
        n_frames, frequencies_hz = self.front_end.n_frames(len(samples)), self._frequencies_hz
        low, high = self.index_bins
        self.sums[...] = 0.0
        self.loudest = 0.0
        for first, spectrum, groups in spectral.blocks(samples):
            count = groups.stop - groups.start
            power = spectral.power_groups[groups]
            magnitude = self._magnitude[:count]
            kernels["power_lanes"](spectrum, bool(stages & _MAGNITUDE), power, magnitude)
            if "mel" in stages:
                spectral.add_mel(power, first)
            if "shape" in stages:
                kernels["shape_lanes"](magnitude, frequencies_hz, first, self.series)
            if "flatness" in stages:
                n_bins = self.front_end.n_bins
                flatness = kernels["flatness_lanes"]
                flatness(power, 0, n_bins, POWER_FLOOR, 0.0, first, self.series[4])
                flatness(power, low, high, 0.0, 1e-8, first, self.series[5])
            if "contrast" in stages:
                kernels["power_rows"](spectrum, self.bands, first, self._rows)
            if "bins" in stages:
                kernels["bin_sums"](magnitude, power, first, n_frames, self._last, self.sums)
            if "index" in stages:
                kernels["band_power"](power, low, high, first, self.index_frames)
            if "cells" in stages:
                self.loudest = max(self.loudest, kernels["loudest_cell"](power, low, high))
            if "song" in stages:
                kernels["band_power"](power, *self.song_bins, first, self.song_frames)
        spectral.close_mel()
        if "contrast" in stages:
            self._sort_rows(n_frames)
        if "cells" in stages:
            threshold = np.float32(self.loudest * 1e-5)  # 50 dB below
            kernels["count_above"](spectral.power_groups, threshold, low, high, self.counts)

    def _sort_rows(self, n_frames: int) -> None:
        """Loudest and softest bins: sorting whole bands beats selecting, since it vectorises."""
        start = 0
        for low, high, extremes in self.bands.tolist():
            stop = start + high - low
            if extremes > 1:
                self._rows[:, start:stop].sort(axis=1)
            start = stop
        self.spectral.kernels["extreme_rows"](
            self._rows, self.bands, n_frames, self.peaks, self.valleys
        )

    def _hear_wave(self, samples: np.ndarray) -> None:
        front_end, kernels = self.front_end, self.spectral.kernels
        step = math.gcd(front_end.hop, front_end.n_fft // 2)
        pieces = -(-len(samples) // step)
        squares, changes = np.empty(pieces), np.empty(pieces, dtype=np.int64)
        kernels["wave_sums"](samples, step, squares, changes, self.whole)
        self.whole[2] = squares.sum()
        kernels["wave_frames"](
            samples, squares, changes, step, front_end.n_fft, front_end.hop, *self.wave
        )

    @cached_property
    def _frequencies_hz(self) -> np.ndarray:
        return self.front_end.frequencies_hz

    def _make_room(self, n_frames: int) -> None:
        """Scratch for a window of that many frames."""
        if n_frames == self._room:
            return
        self._room = n_frames
        width = -(-n_frames // LANES) * LANES
        self.series = np.zeros((len(_SERIES), width))
        self.index_frames, self.song_frames = np.zeros(width), np.zeros(width)
        self._rows = np.zeros(
            (n_frames, int((self.bands[:, 1] - self.bands[:, 0]).sum())), np.float32
        )
        self.peaks, self.valleys = np.zeros((2, len(self.bands), n_frames))
        self.wave, self.whole = np.zeros((2, n_frames)), np.zeros(3)
        rows = (self.front_end.n_mels, width)  # a whole number of lanes wide
        self.smooth, self.logs = np.ones(rows), np.zeros(rows)
        self.levels = np.zeros(rows), np.zeros(rows)


class HeardPass:
    """One window after the pass: what features are computed from.

    Attributes:
        owner: the pass, whose arrays hold this window until the next one.
        samples32: `[sample]`, float32.
        frames_to_next: frames before the start of the next window.
        n_frames: frames of this window.
    """

    def __init__(
        self, owner: AcousticPass, samples: np.ndarray, frames_to_next: int | None, n_frames: int
    ) -> None:
        self.owner = owner
        self.samples32 = np.ascontiguousarray(samples, dtype=np.float32)
        self.frames_to_next = n_frames if frames_to_next is None else frames_to_next
        self.n_frames = n_frames
        self._once: dict[Callable[[HeardPass], Any], Any] = {}

    def once(self, measure: Callable[[HeardPass], Result]) -> Result:
        """`measure(self)`, computed once for all features that ask for it."""
        if measure not in self._once:
            self._once[measure] = measure(self)
        result: Result = self._once[measure]
        return result

    @cached_property
    def _levels_db(self) -> tuple[np.ndarray, np.ndarray]:
        owner = self.owner
        np.maximum(owner.spectral.mel_frames, 1e-30, out=owner.logs)
        np.log(owner.logs, out=owner.logs)
        floor_db = 10 * math.log10(POWER_FLOOR)
        owner.spectral.kernels["level_rows"](owner.logs, floor_db, TOP_DB, *owner.levels)
        return owner.levels

    @property
    def mel_db(self) -> np.ndarray:
        """As `HeardWindow.mel_db`, with further frames at the floor."""
        return self._levels_db[0]

    @property
    def mel_relative_db(self) -> np.ndarray:
        """As `HeardWindow.mel_relative_db`, with further frames at the floor."""
        return self._levels_db[1]

    def moments(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Mean and standard deviation of `rows [row, frame or more]`, `[row]` each."""
        found = {"mean": np.empty(len(rows)), "std": np.empty(len(rows))}
        self.owner.spectral.kernels["row_moments"](rows, self.n_frames, found["mean"], found["std"])
        return found

    def summaries(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Every statistic of `rows [row, frame or more]`, `[row]` each."""
        in_order = np.sort(rows[:, : self.n_frames], axis=1)
        quantiles = {name: quantile(in_order, share) for name, share in QUANTILES.items()}
        return self.moments(rows) | quantiles

    def weighed(self, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """`weights [out, row] @ rows [row, frame]`, on this thread alone."""
        out = np.zeros((len(weights), rows.shape[1]))
        self.owner.spectral.kernels["weigh_rows"](weights, rows, self.n_frames, out)
        return out

    @cached_property
    def reference(self) -> HeardWindow:
        """This window as a registered function without a kernel sees it: no transform again."""
        return _PassedWindow(self)


class _PassedWindow(HeardWindow):
    """Takes its shapes from a pass."""

    def __init__(self, heard: HeardPass) -> None:
        super().__init__(
            heard.samples32,
            config=heard.owner.config,
            sample_rate_hz=heard.owner.sample_rate_hz,
            memory=heard.owner.memory,
            frames_to_next=heard.frames_to_next,
        )
        self._heard = heard

    @cached_property
    def power(self) -> np.ndarray:
        return self._heard.owner.spectral.power

    @cached_property
    def magnitude(self) -> np.ndarray:
        return np.asarray(np.sqrt(self.power))

    @cached_property
    def mel(self) -> np.ndarray:
        return self._heard.owner.spectral.mel

    @cached_property
    def mel_db(self) -> np.ndarray:
        return self._heard.mel_db[:, : self._heard.n_frames].copy()

    @cached_property
    def mel_relative_db(self) -> np.ndarray:
        return self._heard.mel_relative_db[:, : self._heard.n_frames].copy()

    @cached_property
    def song_power(self) -> np.ndarray:
        return self._heard.owner.song_frames[: self._heard.n_frames]


def quantile(in_order: np.ndarray, share: float) -> np.ndarray:
    """Quantile of each row of sorted `[row, value]` by linear interpolation (numpy's default)."""
    place = share * (in_order.shape[1] - 1)
    below = int(place)
    above = min(below + 1, in_order.shape[1] - 1)
    low, high = in_order[:, below], in_order[:, above]
    return np.asarray(low + (high - low) * (place - below))
