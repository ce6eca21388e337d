"""Columns of cepstrum, log-mel bands, PCEN, spectral shape and contrast from the fused pass."""

from __future__ import annotations

import functools
import math

import numpy as np

from birdstack.features import pcen
from birdstack.features.cepstrum import DELTA_WIDTH
from birdstack.features.fused_feature import ALL, MOMENTS, Values, fused, plain
from birdstack.features.fused_window import HeardPass

# --- mfcc, logmel ---------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def _cosines(n_mfcc: int, n_mels: int) -> np.ndarray:
    """Orthonormal DCT-II, `[coefficient, mel]`."""
    angles = np.pi / n_mels * np.outer(np.arange(n_mfcc), np.arange(n_mels) + 0.5)
    basis: np.ndarray = np.sqrt(2.0 / n_mels) * np.cos(angles)
    basis[0] = np.sqrt(1.0 / n_mels)
    return basis


@functools.lru_cache(maxsize=8)
def _derivative(order: int) -> np.ndarray:
    """Weights `[frame]` that give the derivative of a local polynomial fit of that degree."""
    places = np.arange(DELTA_WIDTH) - DELTA_WIDTH // 2
    fit = np.linalg.pinv(np.vander(places, order + 1, increasing=True))
    return np.ascontiguousarray(fit[order] * math.factorial(order))


@functools.lru_cache(maxsize=8)
def _group_means(n_mels: int, n_bands: int) -> np.ndarray:
    """Weights `[band, mel]` that average equal groups of neighbouring mel bands."""
    width = n_mels // n_bands
    return np.repeat(np.eye(n_bands), width, axis=1) / width


def _coefficients(heard: HeardPass) -> np.ndarray:
    config = heard.owner.config
    return heard.weighed(_cosines(config.n_mfcc, config.n_mels), heard.mel_db)


@fused("mfcc", stages=("mel",), statistics=MOMENTS)
def _mfcc(heard: HeardPass) -> Values:
    return heard.moments(heard.once(_coefficients))


def _delta_deviations(heard: HeardPass) -> tuple[np.ndarray, np.ndarray]:
    rows = heard.once(_coefficients)
    slopes, curves = np.empty(len(rows)), np.empty(len(rows))
    heard.owner.spectral.kernels["delta_deviations"](
        rows, heard.n_frames, _derivative(1), _derivative(2), slopes, curves
    )
    return slopes, curves


@fused("mfcc_delta", stages=("mel",), statistics=frozenset({"std"}))
def _mfcc_delta(heard: HeardPass) -> Values:
    return {"std": heard.once(_delta_deviations)[0]}


@fused("mfcc_delta2", stages=("mel",), statistics=frozenset({"std"}))
def _mfcc_delta2(heard: HeardPass) -> Values:
    return {"std": heard.once(_delta_deviations)[1]}


def _grouped(heard: HeardPass, rows: np.ndarray) -> np.ndarray:
    config = heard.owner.config
    return heard.weighed(_group_means(config.n_mels, config.n_bands), rows)


@fused("logmel", stages=("mel",), statistics=MOMENTS)
def _logmel(heard: HeardPass) -> Values:
    return heard.moments(_grouped(heard, heard.mel_db))


@fused("logmel_shape", stages=("mel",), statistics=frozenset({"mean"}))
def _logmel_shape(heard: HeardPass) -> Values:
    means = heard.moments(heard.mel_relative_db)["mean"]
    bands = means.reshape(heard.owner.config.n_bands, -1).mean(axis=1)
    return {"mean": bands - means.mean()}


# --- pcen -----------------------------------------------------------------------------------

_STATE = "pcen"


@fused("pcen", stages=("mel",), statistics=MOMENTS)
def _pcen(heard: HeardPass) -> Values:
    owner = heard.owner
    mel, smooth = owner.spectral.mel_frames, owner.smooth
    decay = pcen.smoothing(owner.config.hop, owner.sample_rate_hz)
    state = owner.memory.get(_STATE)
    if state is None:
        energy = owner.spectral.mel * pcen.ENERGY_SCALE
        state = pcen._first_state(energy, owner.config, owner.sample_rate_hz).ravel()  # noqa: SLF001 - the same state
        owner.memory[_STATE] = state
    owner.spectral.kernels["smooth_rows"](
        mel, heard.n_frames, pcen.ENERGY_SCALE, decay, heard.frames_to_next, 1e-6, state, smooth
    )
    gains = np.log(smooth)
    gains *= -0.98
    np.exp(gains, out=gains)
    n_bands, n_mels = owner.config.n_bands, owner.config.n_mels
    bands = np.empty((n_bands, mel.shape[1]))
    owner.spectral.kernels["compress_rows"](
        mel, gains, heard.n_frames, pcen.ENERGY_SCALE, 2.0, n_mels // n_bands, bands
    )
    return heard.moments(bands)


# --- spectral, contrast ---------------------------------------------------------------------


@fused(
    *("spectral_centroid", "spectral_bandwidth", "spectral_rolloff85", "spectral_rolloff95"),
    stages=("shape",),
    statistics=ALL,
)
def _shape(heard: HeardPass) -> Values:
    return heard.summaries(heard.owner.series[:4])


@fused("spectral_flatness", "spectral_band_flatness", stages=("flatness",), statistics=ALL)
def _flatness(heard: HeardPass) -> Values:
    return heard.summaries(heard.owner.series[4:])


@fused("spectral_dominant", stages=("bins",))
def _dominant(heard: HeardPass) -> Values:
    low, high = heard.owner.index_bins
    power = heard.owner.sums[1, low:high]
    loudest = int(power.argmax())
    bin_hz = heard.owner.sample_rate_hz / heard.owner.config.n_fft
    return plain((low + loudest) * bin_hz if power[loudest] > 0 else 0.0)


@fused("contrast", stages=("contrast",), statistics=MOMENTS)
def _contrast(heard: HeardPass) -> Values:
    levels_db = []
    for extremes in (heard.owner.peaks, heard.owner.valleys):
        level_db = 10 * np.log10(np.maximum(extremes, 1e-10))
        levels_db.append(np.maximum(level_db, level_db.max() - 80.0))
    return heard.moments(levels_db[0] - levels_db[1])
