"""The samples of a window as they are: what raw-waveform networks hear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from birdstack.store.errors import ConfigError


class WaveInput:
    """Hands samples on, in float32.

    Args:
        sample_rate_hz: rate of the samples.
        window_s: length of a window.
    """

    def __init__(self, sample_rate_hz: int, window_s: float) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._window_s = window_s
        self._n_samples = round(window_s * sample_rate_hz)

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the samples that `prepare` takes."""
        return self._sample_rate_hz

    @property
    def shape(self) -> tuple[int, ...]:
        """`(sample,)`."""
        return (self._n_samples,)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Rate and length of the window."""
        return {
            "input": "wave",
            "sample_rate_hz": self._sample_rate_hz,
            "window_s": self._window_s,
        }

    def prepare(self, samples: np.ndarray) -> np.ndarray:
        """Samples `[sample]` in float32; a copy.

        Raises:
            ConfigError: the window has another length than the input was made for.
        """
        if samples.shape != self.shape:
            message = (
                f"wave: a window must hold {self._n_samples} samples ({self._window_s:g} s at "
                f"{self._sample_rate_hz} Hz), got shape {samples.shape}"
            )
            raise ConfigError(message, remedy="Resample the sound and cut windows of that length.")
        return np.array(samples, dtype=np.float32)
