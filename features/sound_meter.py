"""Mono mix of decoded blocks, and the facts about them worth noting."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdstack.features.decoder_wire import Samples

ABSURD_AMPLITUDE = 1e6
"""Beyond this a sample is broken, not loud: full scale is 1, int24 read as float is 8e6 / 8."""
CLIPPED_AMPLITUDE = 0.999
CLIPPED_SHARE_NOTED = 0.001
SILENT_AMPLITUDE = 1e-5
SILENT_MIX_RATIO = 1e-4
"""Power of the mix over power of the channels: -40 dB, which only cancellation explains."""


class SoundMeter:
    """Repairs, mixes and measures a recording block by block.

    Attributes:
        n_frames: frames seen.
        n_samples: samples seen, over all channels.
        n_broken: samples that were NaN, infinite or beyond `ABSURD_AMPLITUDE`; set to 0.
    """

    def __init__(self) -> None:
        self.n_frames = 0
        self.n_samples = 0
        self.n_broken = 0
        self._n_clipped = 0
        self._peak = 0.0
        self._channel_energy = 0.0
        self._mix_energy = 0.0

    def mix(self, block: NDArray[np.float32]) -> Samples:
        """Mean of the channels.

        Args:
            block: `[frame, channel]`, at least one frame; broken samples are zeroed in place.

        Returns:
            `[frame]`, a new array.
        """
        low, high = float(block.min()), float(block.max())
        if not (low >= -ABSURD_AMPLITUDE and high <= ABSURD_AMPLITUDE):  # also true of NaN
            broken = ~(np.abs(block) <= ABSURD_AMPLITUDE)
            self.n_broken += int(broken.sum())
            block[broken] = 0
            low, high = float(block.min()), float(block.max())
        self.n_frames += len(block)
        self.n_samples += block.size
        self._peak = max(self._peak, -low, high)
        if max(-low, high) >= CLIPPED_AMPLITUDE:
            self._n_clipped += int(np.count_nonzero(np.abs(block) >= CLIPPED_AMPLITUDE))
        if block.shape[1] == 1:
            return block.reshape(-1).copy()  # in one piece, which a column taken out is not
        mono: Samples = block.mean(axis=1, dtype=np.float32)
        self._channel_energy += float(np.vdot(block, block)) / block.shape[1]
        self._mix_energy += float(np.vdot(mono, mono))
        return mono

    def notes(self) -> dict[str, Any]:
        """Deviations worth keeping with the result; empty for an ordinary recording."""
        notes: dict[str, Any] = {}
        if self.n_broken:
            notes["nonfinite_samples"] = self.n_broken
        clipped = self._n_clipped / max(self.n_samples, 1)
        if clipped >= CLIPPED_SHARE_NOTED:
            notes["clipped_share"] = round(clipped, 6)
        if self._peak < SILENT_AMPLITUDE:
            notes["silent"] = True
        elif self._mix_energy < SILENT_MIX_RATIO * self._channel_energy:
            notes["silent_mix"] = True
        return notes
