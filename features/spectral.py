"""The shape of each frame's spectrum: where it lies, how wide and how flat it is."""

from __future__ import annotations

import numpy as np

from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.feature import feature
from birdstack.features.spectrum import POWER_FLOOR, TINY, HeardWindow

_ALL = ("mean", "std", "p05", "p50", "p95")


def nyquist_hz(_config: AcousticConfig, sample_rate_hz: int) -> float:
    """Half the sample rate."""
    return sample_rate_hz / 2


def _half_nyquist_hz(_config: AcousticConfig, sample_rate_hz: int) -> float:
    return sample_rate_hz / 4


@feature(
    group="spectral",
    formula="sum(f |S|) / sum(|S|); 0 in a silent frame",
    source="librosa.feature.spectral_centroid",
    needs=("magnitude",),
    unit="Hz",
    low=0.0,
    high=nyquist_hz,
    statistics=("mean", "std", "p05", "p95"),
)
def spectral_centroid(window: HeardWindow) -> np.ndarray:
    """Mean frequency of each frame, weighted by magnitude, `[frame]`."""
    centroid: np.ndarray = window.frequencies_hz @ window.shared(_weights)
    return centroid


@feature(
    group="spectral",
    formula="sqrt(sum(|S| (f - centroid)^2) / sum(|S|))",
    source="librosa.feature.spectral_bandwidth",
    needs=("magnitude",),
    unit="Hz",
    low=0.0,
    high=_half_nyquist_hz,
    statistics=_ALL,
)
def spectral_bandwidth(window: HeardWindow) -> np.ndarray:
    """Standard deviation of frequency in each frame, weighted by magnitude, `[frame]`."""
    deviation_hz = window.frequencies_hz[:, np.newaxis] - window.shared(spectral_centroid)
    bandwidth: np.ndarray = np.sqrt((window.shared(_weights) * deviation_hz**2).sum(axis=0))
    return bandwidth


@feature(
    group="spectral",
    formula="lowest f below which 85 % of sum(|S|) lies",
    source="librosa.feature.spectral_rolloff",
    needs=("magnitude",),
    unit="Hz",
    low=0.0,
    high=nyquist_hz,
    statistics=_ALL,
)
def spectral_rolloff85(window: HeardWindow) -> np.ndarray:
    """Frequency below which most of the magnitude lies, `[frame]`."""
    return _rolloffs_hz(window, 0.85)


@feature(
    group="spectral",
    formula="lowest f below which 95 % of sum(|S|) lies",
    source="librosa.feature.spectral_rolloff",
    needs=("magnitude",),
    unit="Hz",
    low=0.0,
    high=nyquist_hz,
    statistics=_ALL,
)
def spectral_rolloff95(window: HeardWindow) -> np.ndarray:
    """Frequency below which nearly all of the magnitude lies, `[frame]`."""
    return _rolloffs_hz(window, 0.95)


@feature(
    group="spectral",
    formula="geometric over arithmetic mean of max(|S|^2, 1e-10): 1 is white or silent",
    source="librosa.feature.spectral_flatness",
    needs=("power",),
    low=0.0,
    high=1.0,
    statistics=("mean", "p05", "p50", "p95"),
)
def spectral_flatness(window: HeardWindow) -> np.ndarray:
    """Wiener entropy of each frame, `[frame]`."""
    return _flatness(np.maximum(window.power, POWER_FLOOR))


@feature(
    group="spectral",
    formula="geometric over arithmetic mean of |S|^2 from {c.index_fmin_hz:g} to "
    "{c.index_fmax_hz:g} Hz, at least 1e-8 of the frame's mean there: independent of gain, and "
    "deaf to what lies above a codec's low-pass; 1 is white or silent",
    source="Wiener entropy, as librosa.feature.spectral_flatness of the band",
    needs=("power", "index_band"),
    low=0.0,
    high=1.0,
    statistics=("mean",),
)
def spectral_band_flatness(window: HeardWindow) -> np.ndarray:
    """Flatness within the band of the indices, with a floor that follows the level, `[frame]`."""
    power = window.power[window.index_band]
    mean = power.mean(axis=0)
    silent = mean <= TINY
    relative = np.where(silent, 1.0, power / np.where(silent, 1.0, mean))
    return _flatness(np.maximum(relative, 1e-8))


@feature(
    group="spectral",
    formula="frequency of the largest bin of the window's mean power spectrum from "
    "{c.index_fmin_hz:g} to {c.index_fmax_hz:g} Hz; 0 in silence",
    source="peak of the mean spectrum, as seewave::meanspec has it (Sueur et al. 2008)",
    needs=("power", "index_band"),
    unit="Hz",
    low=0.0,
    high=nyquist_hz,
)
def spectral_dominant(window: HeardWindow) -> float:
    """Frequency that carries most of the window's power, in Hz."""
    mean = window.power[window.index_band].mean(axis=1)
    loudest = int(mean.argmax())
    return float(window.frequencies_hz[window.index_band][loudest]) if mean[loudest] > 0 else 0.0


def _weights(window: HeardWindow) -> np.ndarray:
    """Magnitudes `[bin, frame]` scaled to sum to 1 in each frame; a silent frame stays 0."""
    total = window.magnitude.sum(axis=0)
    weights: np.ndarray = window.magnitude / np.where(total > TINY, total, 1.0)
    return weights


def _running_sum(window: HeardWindow) -> np.ndarray:
    return np.cumsum(window.magnitude, axis=0)


def _rolloffs_hz(window: HeardWindow, share: float) -> np.ndarray:
    running = window.shared(_running_sum)
    first = np.argmax(running >= share * running[-1], axis=0)
    rolloff: np.ndarray = window.frequencies_hz[first]
    return rolloff


def _flatness(power: np.ndarray) -> np.ndarray:
    ratio = np.exp(np.log(power).mean(axis=0)) / power.mean(axis=0)
    flatness: np.ndarray = np.minimum(ratio, 1.0)  # rounding of equal powers
    return flatness
