"""The acoustic indices from the fused pass."""

from __future__ import annotations

import functools
import math

import numpy as np

from birdstack.features import indices
from birdstack.features.fused_feature import fused, plain
from birdstack.features.fused_readings import HeardWindows, Values
from birdstack.features.spectrum import TINY


@fused("index_aci", stages=("bins",))
def _aci(heard: HeardWindows) -> Values:
    low, high = heard.plan.index_bins
    total, _, change = heard.readings.sums[:, :, low:high].swapaxes(0, 1)
    return plain((change / np.where(total > 0, total, 1.0)).sum(axis=1))


@functools.lru_cache(maxsize=16)
def _steps(bins: tuple[int, int], bin_hz: float, n_steps: int, step_hz: int) -> np.ndarray:
    """First and end bin, within `bins`, of each band of `step_hz`, `[2, band]`."""
    frequencies_hz = np.arange(*bins) * bin_hz
    edges = [indices._nearest(frequencies_hz, step * step_hz) for step in range(n_steps + 1)]  # noqa: SLF001 - the same bins
    return np.array([edges[:-1], [edge + 1 for edge in edges[1:]]])


def _shares_above(heard: HeardWindows, step_hz: int) -> np.ndarray:
    """Share of each band's cells that reach the threshold, `[window, band]`; 0 in silence."""
    plan = heard.plan
    n_steps = indices._n_steps(plan.config, step_hz)  # noqa: SLF001 - the same bands
    first, stop = _steps(plan.index_bins, plan.bin_hz, n_steps, step_hz)
    running = np.pad(heard.readings.counts.cumsum(axis=1), ((0, 0), (1, 0)))
    shares = (running[:, stop] - running[:, first]) / ((stop - first) * heard.n_frames)
    return np.asarray(np.where(heard.readings.loudest > 0, shares, 0.0))


@fused("index_adi", stages=("cells",))
def _adi(heard: HeardWindows) -> Values:
    shares = _shares_above(heard, indices.ADI_STEP_HZ)
    return plain(_evenness(shares) * math.log(shares.shape[1]))


@fused("index_aei", stages=("cells",))
def _aei(heard: HeardWindows) -> Values:
    shares = np.sort(_shares_above(heard, indices.AEI_STEP_HZ), axis=1)
    total = shares.sum(axis=1)
    n = shares.shape[1]
    ranked = (shares * np.arange(1, n + 1)).sum(axis=1)
    gini = (2 * ranked / np.where(total > 0, total, 1.0) - (n + 1)) / n
    return plain(np.where(total > 0, np.maximum(gini, 0.0), 0.0))


@fused("index_ndsi", "index_bio_anthro_ratio_db", stages=("bins",))
def _ndsi(heard: HeardWindows) -> Values:
    frequencies_hz = heard.plan.frequencies_hz
    powers = []
    for low_hz, high_hz in (indices.BIOPHONY_HZ, indices.ANTHROPHONY_HZ):
        low, high = np.searchsorted(frequencies_hz, (low_hz, high_hz))
        powers.append(heard.readings.sums[:, 1, low:high].sum(axis=1).tolist())
    pairs = list(zip(*powers, strict=True))
    return plain(
        np.array([indices.normalised_difference(*pair) for pair in pairs]),
        np.array([indices.ratio_db(*pair) for pair in pairs]),
    )


@fused("index_bi", stages=("bins", "cells"))
def _bi(heard: HeardWindows) -> Values:
    plan, loudest = heard.plan, heard.readings.loudest
    low, high = plan.index_bins
    frequencies_hz = np.arange(low, high) * plan.bin_hz
    first, last = (indices._nearest(frequencies_hz, edge) for edge in indices.BI_BAND_HZ)  # noqa: SLF001 - the same bins
    mean = heard.readings.sums[:, 0, low + first : low + last + 1] / heard.n_frames
    relative = mean / np.sqrt(np.where(loudest > 0, loudest, 1.0))
    level_db = 20 * np.log10(np.maximum(relative, 1e-10))
    area = (level_db - level_db.min(axis=1, keepdims=True)).sum(axis=1) / plan.bin_hz
    return plain(np.where(loudest[:, 0] > 0, area, 0.0))


@fused("index_hf", "index_ht", "index_h", stages=("bins", "index"))
def _entropies(heard: HeardWindows) -> Values:
    low, high = heard.plan.index_bins
    hf = _evenness(heard.readings.sums[:, 1, low:high] / heard.n_frames)
    ht = _evenness(heard.index_power)
    return plain(hf, ht, hf * ht)


def _evenness(weights: np.ndarray) -> np.ndarray:
    """`indices.evenness` of each row of `weights [window, weight]`."""
    total = weights.sum(axis=1, keepdims=True)
    sounds = total > TINY
    shares = weights / np.where(sounds, total, 1.0)
    logs = np.log(np.where(shares > 0, shares, 1.0))
    entropy = -(shares * logs).sum(axis=1) / math.log(weights.shape[1])
    return np.asarray(np.where(sounds[:, 0], np.clip(entropy, 0.0, 1.0), 1.0))
