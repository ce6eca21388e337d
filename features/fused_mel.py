"""The mel bands of one window: levels, cepstrum, onsets, activity and PCEN."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np

from birdstack.features import pcen
from birdstack.features.activity import _ACTIVE_BAND_SHARE, _ACTIVE_DB, _FLOOR_PERCENTILE
from birdstack.features.fused_acoustic_plan import (
    AcousticPlan,
    cosines,
    derivative,
    group_means,
)
from birdstack.features.fused_composites import BANDS, CEPSTRUM, RISES
from birdstack.features.fused_kernels import LANES
from birdstack.features.fused_pass import SpectralPass
from birdstack.features.fused_readings import Readings
from birdstack.features.spectrum import POWER_FLOOR, TOP_DB

LEVEL_STAGES = frozenset({"levels", "cepstrum", "bands", "onset", "heights"})
"""Stages that need the levels of the mel bands in dB."""

_STATE = "pcen"
_FLOOR_DB = 10 * math.log10(POWER_FLOOR)


class MelReader:
    """Reads the mel bands of windows of one length; its scratch belongs to one thread.

    Args:
        plan: sizes and limits.
        spectral: the pass that holds the mel power.
        n_frames: frames of a window.

    Attributes:
        levels: `HeardWindow.mel_db` of the window read last, with further frames.
        relative: `HeardWindow.mel_relative_db` of it, with further frames.
    """

    def __init__(self, plan: AcousticPlan, spectral: SpectralPass, n_frames: int) -> None:
        config = plan.config
        self._plan = plan
        self._spectral = spectral
        self._n_frames = n_frames
        self._delay = 1 + config.n_fft // (2 * config.hop)
        width = -(-n_frames // LANES) * LANES
        self._logs = np.zeros((config.n_mels, width))
        self.levels, self.relative = np.zeros((2, config.n_mels, width))
        self._in_order = np.zeros((config.n_mels, n_frames))
        self._smooth = np.ones((config.n_mels, width))
        self._scratch = np.zeros((max(config.n_mfcc, config.n_bands), width))

    def read(
        self,
        stages: Collection[str],
        frames_to_next: int,
        memory: dict[str, Any],
        readings: Readings,
    ) -> None:
        """Run the stages over the window that the pass holds; fills its readings."""
        if LEVEL_STAGES & set(stages):
            self._read_levels(stages, readings)
        if "heights" in stages:
            self._read_heights(readings)
        if "pcen" in stages:
            self._read_pcen(frames_to_next, memory, readings)

    def _read_levels(self, stages: Collection[str], readings: Readings) -> None:
        config = self._plan.config
        wanted = np.zeros(3, dtype=np.bool_)
        wanted[CEPSTRUM] = "cepstrum" in stages
        wanted[BANDS] = "bands" in stages
        wanted[RISES] = "onset" in stages
        self._spectral.kernels["mel_readings"](
            self._spectral.mel_frames,
            wanted,
            self._n_frames,
            _FLOOR_DB,
            TOP_DB,
            self.levels,
            self.relative,
            cosines(config.n_mfcc, config.n_mels),
            derivative(1),
            derivative(2),
            group_means(config.n_mels, config.n_bands),
            self._delay,
            self._logs,
            self._scratch,
            readings.cepstrum,
            readings.bands,
            readings.shape,
            readings.strength,
        )

    def _read_heights(self, readings: Readings) -> None:
        in_order = self._in_order
        in_order[...] = self.relative[:, : self._n_frames]
        in_order.sort(axis=1)
        self._spectral.kernels["heights"](
            in_order,
            self.relative,
            _FLOOR_PERCENTILE / 100,
            _ACTIVE_DB,
            _ACTIVE_BAND_SHARE,
            readings.heights,
        )

    def _read_pcen(self, frames_to_next: int, memory: dict[str, Any], readings: Readings) -> None:
        config, rate_hz = self._plan.config, self._plan.sample_rate_hz
        if memory.get(_STATE) is None:
            energy = self._spectral.mel * pcen.ENERGY_SCALE
            memory[_STATE] = pcen._first_state(energy, config, rate_hz).ravel()  # noqa: SLF001 - the same state
        self._spectral.kernels["pcen_readings"](
            *(self._spectral.mel_frames, self._n_frames, pcen.ENERGY_SCALE),
            *(pcen.smoothing(config.hop, rate_hz), frames_to_next, memory[_STATE]),
            *(config.n_mels // config.n_bands, self._smooth, self._scratch, readings.pcen),
        )
