"""Columns of cepstrum, log-mel bands, PCEN, spectral shape and contrast from the fused pass."""

from __future__ import annotations

import numpy as np

from birdstack.features.fused_feature import ALL, MOMENTS, fused, plain
from birdstack.features.fused_readings import HeardWindows, Values

# --- mfcc, logmel, pcen ---------------------------------------------------------------------


@fused("mfcc", stages=("cepstrum",), statistics=MOMENTS)
def _mfcc(heard: HeardWindows) -> Values:
    return {"mean": heard.readings.cepstrum[:, 0], "std": heard.readings.cepstrum[:, 1]}


@fused("mfcc_delta", stages=("cepstrum",), statistics=frozenset({"std"}))
def _mfcc_delta(heard: HeardWindows) -> Values:
    return {"std": heard.readings.cepstrum[:, 2]}


@fused("mfcc_delta2", stages=("cepstrum",), statistics=frozenset({"std"}))
def _mfcc_delta2(heard: HeardWindows) -> Values:
    return {"std": heard.readings.cepstrum[:, 3]}


@fused("logmel", stages=("bands",), statistics=MOMENTS)
def _logmel(heard: HeardWindows) -> Values:
    return {"mean": heard.readings.bands[:, 0], "std": heard.readings.bands[:, 1]}


@fused("logmel_shape", stages=("bands",), statistics=frozenset({"mean"}))
def _logmel_shape(heard: HeardWindows) -> Values:
    means = heard.readings.shape
    bands = means.reshape(len(means), heard.plan.config.n_bands, -1).mean(axis=2)
    return {"mean": bands - means.mean(axis=1, keepdims=True)}


@fused("pcen", stages=("pcen",), statistics=MOMENTS)
def _pcen(heard: HeardWindows) -> Values:
    return {"mean": heard.readings.pcen[:, 0], "std": heard.readings.pcen[:, 1]}


# --- spectral, contrast ---------------------------------------------------------------------


@fused(
    *("spectral_centroid", "spectral_bandwidth", "spectral_rolloff85", "spectral_rolloff95"),
    stages=("shape",),
    statistics=ALL,
)
def _shape(heard: HeardWindows) -> Values:
    return heard.summaries(heard.readings.series[:, :4])


@fused("spectral_flatness", "spectral_band_flatness", stages=("flatness",), statistics=ALL)
def _flatness(heard: HeardWindows) -> Values:
    return heard.summaries(heard.readings.series[:, 4:])


@fused("spectral_dominant", stages=("bins",))
def _dominant(heard: HeardWindows) -> Values:
    low, high = heard.plan.index_bins
    power = heard.readings.sums[:, 1, low:high]
    frequencies_hz = (low + power.argmax(axis=1)) * heard.plan.bin_hz
    return plain(np.where(power.max(axis=1) > 0, frequencies_hz, 0.0))


@fused("contrast", stages=("contrast",), statistics=MOMENTS)
def _contrast(heard: HeardWindows) -> Values:
    levels_db = 10 * np.log10(np.maximum(heard.readings.extremes, 1e-10))
    least_db = levels_db.max(axis=(2, 3), keepdims=True) - 80.0
    peaks_db, valleys_db = np.maximum(levels_db, least_db).swapaxes(0, 1)
    return heard.moments(peaks_db - valleys_db)
