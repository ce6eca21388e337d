"""What the fused acoustic pass knows before it hears: limits of bands, weights, filters."""

from __future__ import annotations

import functools
import math

import numpy as np

from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.cepstrum import DELTA_WIDTH
from birdstack.features.fused_plan import FrontEnd, contrast_bands


class AcousticPlan:
    """What the fused acoustic pass knows before it hears; read only.

    Args:
        config: sizes and limits.
        sample_rate_hz: rate of the samples.

    Attributes:
        front_end: frames, transform and mel bands.
        index_bins: first and end bin of the band of the indices.
        song_bins: first and end bin of the song band.
        bands: bands of contrast, as `contrast_bands` gives them.
        frequencies_hz: centre of each bin, `[bin]`.
    """

    def __init__(self, config: AcousticConfig, sample_rate_hz: int) -> None:
        self.config = config
        self.sample_rate_hz = sample_rate_hz
        self.front_end = FrontEnd.of(config, sample_rate_hz)
        self.index_bins = self.front_end.bins_between(config.index_fmin_hz, config.index_fmax_hz)
        self.song_bins = self.front_end.bins_between(config.song_fmin_hz, config.song_fmax_hz)
        self.bands = contrast_bands(config, self.front_end)
        self.frequencies_hz = self.front_end.frequencies_hz

    @property
    def bin_hz(self) -> float:
        """Distance of neighbouring bins."""
        return self.sample_rate_hz / self.config.n_fft

    @property
    def frame_rate_hz(self) -> float:
        """Frames a second."""
        return self.sample_rate_hz / self.config.hop


@functools.lru_cache(maxsize=8)
def cosines(n_mfcc: int, n_mels: int) -> np.ndarray:
    """Orthonormal DCT-II, `[coefficient, mel]`."""
    angles = np.pi / n_mels * np.outer(np.arange(n_mfcc), np.arange(n_mels) + 0.5)
    basis: np.ndarray = np.sqrt(2.0 / n_mels) * np.cos(angles)
    basis[0] = np.sqrt(1.0 / n_mels)
    return basis


@functools.lru_cache(maxsize=8)
def derivative(order: int) -> np.ndarray:
    """Weights `[frame]` that give the derivative of a local polynomial fit of that degree."""
    places = np.arange(DELTA_WIDTH) - DELTA_WIDTH // 2
    fit = np.linalg.pinv(np.vander(places, order + 1, increasing=True))
    return np.ascontiguousarray(fit[order] * math.factorial(order))


@functools.lru_cache(maxsize=8)
def group_means(n_mels: int, n_bands: int) -> np.ndarray:
    """Weights `[band, mel]` that average equal groups of neighbouring mel bands."""
    width = n_mels // n_bands
    return np.repeat(np.eye(n_bands), width, axis=1) / width
