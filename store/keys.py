"""Window identity and the window grid: integers are identity, seconds are derived.

A window is the half-open interval `[start_s, end_s)` of one recording. The grid starts
at 0; window `i` begins at `i * hop_s`. The last, partial window counts only if enough
of it is real sound.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

KEY_COLUMNS = ("recording_id", "window", "start_s", "end_s")
"""The four columns that every window view begins with."""


class WindowKey(NamedTuple):
    """Identity of one window: which recording, and the window's number in it."""

    recording_id: str
    window: int


class WindowGrid(BaseModel):
    """How a recording is cut into windows; fixed for the life of a store.

    Attributes:
        window_s: length of a window in seconds.
        hop_s: distance between the starts of neighbouring windows in seconds.
        min_real_fraction: the last partial window is zero-padded and kept if at least this
            share of it is real sound; 1 drops every partial window.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_s: float = Field(default=5.0, gt=0, le=3600)
    hop_s: float = Field(default=5.0, gt=0, le=3600)
    min_real_fraction: float = Field(default=0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _hop_leaves_no_gap(self) -> WindowGrid:
        if self.hop_s > self.window_s:
            message = (
                f"hop_s must be <= window_s (a longer hop leaves sound unheard), "
                f"got hop_s={self.hop_s}, window_s={self.window_s}"
            )
            raise ValueError(message)
        return self

    def window_samples(self, sample_rate_hz: int) -> int:
        """Length of a window in samples."""
        return round(self.window_s * sample_rate_hz)

    def start_sample(self, index: int, sample_rate_hz: int) -> int:
        """First sample of window `index`."""
        return round(index * self.hop_s * sample_rate_hz)

    def start_s(self, index: int) -> float:
        """Start of window `index` in seconds."""
        return index * self.hop_s

    def end_s(self, index: int) -> float:
        """End of window `index` in seconds, exclusive; past the sound for a padded window."""
        return index * self.hop_s + self.window_s

    def n_windows(self, n_samples: int, sample_rate_hz: int) -> int:
        """Number of windows in `n_samples` samples.

        Full windows all count. One partial window may follow: it needs `min_real_fraction`
        of real sound, and sound that no full window has covered.
        """
        length = self.window_samples(sample_rate_hz)
        full = 0
        if n_samples >= length:
            full = int((n_samples - length) / (self.hop_s * sample_rate_hz)) + 1
            while self.start_sample(full, sample_rate_hz) + length <= n_samples:
                full += 1
            while self.start_sample(full - 1, sample_rate_hz) + length > n_samples:
                full -= 1
        covered = self.start_sample(full - 1, sample_rate_hz) + length if full else 0
        real = n_samples - self.start_sample(full, sample_rate_hz)
        partial = n_samples > covered and real >= self.min_real_fraction * length
        return full + int(partial)
