"""Windows on their way through the fused pass, and what the kernels leave of them.

`AcousticPass` runs the stages that the wanted features need over each window while it is in
the cache; `features/fused_features.py` turns what they left of a run of windows into columns.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import cached_property
from typing import Any, Literal

import numpy as np

from birdstack.features import fused_composites as place
from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.fused_acoustic_plan import AcousticPlan
from birdstack.features.fused_kernels import LANES
from birdstack.features.fused_mel import LEVEL_STAGES, MelReader
from birdstack.features.fused_pass import SpectralPass
from birdstack.features.fused_plan import sparse_mel
from birdstack.features.fused_readings import WINDOWS, HeardWindows, Readings
from birdstack.features.kernel_cache import Precision
from birdstack.features.spectrum import HeardWindow

Stage = Literal[
    "power",
    "shape",
    "flatness",
    "contrast",
    "bins",
    "cells",
    "index",
    "song",
    "wave",
    "mel",
    "levels",
    "cepstrum",
    "bands",
    "onset",
    "heights",
    "pcen",
]
"""A reading of the pass: what costs time, and is left out where nobody needs it."""

_PLACES = {
    "shape": place.SHAPE,
    "flatness": place.FLATNESS,
    "contrast": place.CONTRAST,
    "bins": place.BINS,
    "index": place.INDEX,
    "cells": place.CELLS,
    "song": place.SONG,
}
_MEL_STAGES = LEVEL_STAGES | {"mel", "pcen"}


class AcousticPass:
    """A fused pass with the readings of the acoustic features; belongs to one thread.

    Args:
        config: sizes and limits.
        sample_rate_hz: rate of the samples.
        precision: of the transform.

    Attributes:
        plan: sizes and limits.
        spectral: the transform.
        memory: state of the recording, as in `HeardWindow`.
        samples: the window heard last, `[sample]`.
        to_next: frames of it before the start of the next window.
        n_frames: frames of it.
        readings: what the kernels left of it.
        mel_reader: holds the levels of its mel bands.
    """

    def __init__(
        self, config: AcousticConfig, sample_rate_hz: int, precision: Precision = "float64"
    ) -> None:
        self.plan = AcousticPlan(config, sample_rate_hz)
        self.spectral = SpectralPass(self.plan.front_end, precision)
        self.memory: dict[str, Any] = {}
        n_bins = self.plan.front_end.n_bins
        self._limits = np.array([*self.plan.index_bins, *self.plan.song_bins], dtype=np.int64)
        self._magnitude = np.zeros((1, n_bins, LANES), dtype=np.float32)
        self._last = np.zeros(n_bins, dtype=np.float32)
        self._n_samples = -1
        self._mel_filters = sparse_mel(self.plan.front_end)
        self.begin(())

    def begin(self, stages: Collection[Stage]) -> None:
        """Begin a recording, of whose windows those stages are wanted."""
        self.memory.clear()
        self._stages = frozenset(stages)
        self._wanted = np.zeros(8, dtype=np.bool_)
        for stage, at in _PLACES.items():
            self._wanted[at] = stage in self._stages
        self._wanted[place.MEL] = bool(self._stages & _MEL_STAGES)

    def hear(self, samples: np.ndarray, frames_to_next: int | None, slot: int) -> None:
        """Run the stages over one window.

        Args:
            samples: `[sample]`.
            frames_to_next: frames before the start of the next window; None: all.
            slot: place of the window in its run, below `WINDOWS`.
        """
        self.samples = np.ascontiguousarray(samples, dtype=np.float32)
        self._make_room(len(samples))
        self.to_next = self.n_frames if frames_to_next is None else frames_to_next
        self.readings = self._slots[slot]
        if "wave" in self._stages:
            self._hear_wave(self.readings)
        if self._stages - {"wave"}:
            self._hear_blocks(self.readings)
            self.mel_reader.read(self._stages, self.to_next, self.memory, self.readings)

    def heard(self, count: int) -> HeardWindows:
        """The first windows of the run; they last until the next is heard in their slots."""
        return HeardWindows(
            self.plan,
            self.spectral.kernels,
            self._run.part(slice(count)),
            n_frames=self.n_frames,
            n_samples=self._n_samples,
        )

    def reference(self) -> HeardWindow:
        """The last window as a registered function without a kernel sees it: no new transform."""
        return _PassedWindow(self)

    def _hear_blocks(self, readings: Readings) -> None:
        spectral, plan, mel = self.spectral, self.plan, self._mel_filters
        readings.sums[...] = 0.0
        readings.loudest[...] = 0.0
        for first, spectrum, groups in spectral.blocks(self.samples):
            spectral.kernels["read_block"](
                *(spectrum, self._wanted, first, self.n_frames, self._limits),
                *(plan.frequencies_hz, plan.bands),
                *(mel.starts, mel.stops, mel.offsets, mel.weights),
                *(self._magnitude, self._last),
                *(spectral.power_groups[groups], spectral.mel_frames, readings.series),
                *(self._rows, readings.sums, readings.frames, readings.loudest),
            )
        spectral.close_mel()
        if self._stages & {"contrast", "cells"}:
            self._sort_rows()
            spectral.kernels["close_window"](
                *(self._wanted, spectral.power_groups, readings.loudest, self._limits),
                *(self._rows, plan.bands, self.n_frames, readings.counts, readings.extremes),
            )

    def _sort_rows(self) -> None:
        """Sort bands of several extremes: whole, since it vectorises and selecting does not."""
        if "contrast" not in self._stages:
            return
        start = 0
        for low, high, extremes in self.plan.bands.tolist():
            stop = start + high - low
            if extremes > 1:
                self._rows[:, start:stop].sort(axis=1)
            start = stop

    def _hear_wave(self, readings: Readings) -> None:
        front_end = self.plan.front_end
        step = math.gcd(front_end.hop, front_end.n_fft // 2)
        pieces = -(-len(self.samples) // step)
        self.spectral.kernels["wave_readings"](
            *(self.samples, step, front_end.n_fft, front_end.hop),
            *(np.empty(pieces), np.empty(pieces, dtype=np.int64), readings.whole, readings.wave),
        )

    def _make_room(self, n_samples: int) -> None:
        """Room for windows of that length; that of the run before if it fits."""
        if n_samples == self._n_samples:
            return
        self._n_samples = n_samples
        self.n_frames = n_frames = self.plan.front_end.n_frames(n_samples)
        self._run = Readings.room(self.plan, n_frames)
        self._slots = [self._run.part(slot) for slot in range(WINDOWS)]
        places = int((self.plan.bands[:, 1] - self.plan.bands[:, 0]).sum())
        self._rows = np.zeros((n_frames, places), dtype=np.float32)
        self.mel_reader = MelReader(self.plan, self.spectral, n_frames)


class _PassedWindow(HeardWindow):
    """Takes its shapes from a pass; valid while the pass holds the window."""

    def __init__(self, owner: AcousticPass) -> None:
        super().__init__(
            owner.samples,
            config=owner.plan.config,
            sample_rate_hz=owner.plan.sample_rate_hz,
            memory=owner.memory,
            frames_to_next=owner.to_next,
        )
        self._owner = owner

    @cached_property
    def power(self) -> np.ndarray:
        return self._owner.spectral.power

    @cached_property
    def magnitude(self) -> np.ndarray:
        return np.asarray(np.sqrt(self.power))

    @cached_property
    def mel(self) -> np.ndarray:
        return self._owner.spectral.mel

    @cached_property
    def mel_db(self) -> np.ndarray:
        return self._owner.mel_reader.levels[:, : self._owner.n_frames].copy()

    @cached_property
    def mel_relative_db(self) -> np.ndarray:
        return self._owner.mel_reader.relative[:, : self._owner.n_frames].copy()

    @cached_property
    def song_power(self) -> np.ndarray:
        return self._owner.readings.frames[1, : self._owner.n_frames]
