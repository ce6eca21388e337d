"""Columns of level, onsets, activity, indices and modulation from the fused pass."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np

from birdstack.features import indices, modulation, rhythm
from birdstack.features.activity import _ACTIVE_BAND_SHARE, _ACTIVE_DB, _FLOOR_PERCENTILE
from birdstack.features.fused_feature import ALL, Values, fused, plain
from birdstack.features.fused_window import HeardPass, quantile
from birdstack.features.spectrum import TINY, TOP_DB
from birdstack.features.waveform import FLOOR_DB

# --- wave -----------------------------------------------------------------------------------


@fused("wave_zcr", "wave_rms", stages=("wave",), statistics=ALL)
def _wave(heard: HeardPass) -> Values:
    return heard.summaries(heard.owner.wave)


@fused("wave_rms_variation", stages=("wave",))
def _rms_variation(heard: HeardPass) -> Values:
    found = heard.once(_wave)
    mean = found["mean"][1]
    return plain(found["std"][1] / mean if mean > TINY else 0.0)


@fused("wave_level_db", "wave_crest_db", "wave_clipped_share", stages=("wave",))
def _levels(heard: HeardPass) -> Values:
    peak, clipped, squares = heard.owner.whole.tolist()
    n_samples = len(heard.samples32)
    level_db = 20 * math.log10(max(math.sqrt(squares / n_samples), 10 ** (FLOOR_DB / 20)))
    crest_db = 0.0
    if peak != 0:
        crest_db = max(-10 * math.log10(squares / peak / peak / n_samples), 0.0)
    return plain(level_db, crest_db, clipped / n_samples)


# --- onset, activity ------------------------------------------------------------------------


def _strength(heard: HeardPass) -> np.ndarray:
    """Onset strength, `[1, frame]`."""
    config, n_frames = heard.owner.config, heard.n_frames
    rise = np.empty(n_frames)
    heard.owner.spectral.kernels["rises"](heard.mel_db, n_frames, rise)
    delay = 1 + config.n_fft // (2 * config.hop)
    strength = np.zeros((1, n_frames))
    strength[0, delay:] = rise[: max(n_frames - delay, 0)]
    return strength


@fused("onset_strength", stages=("mel",), statistics=ALL)
def _onset_strength(heard: HeardPass) -> Values:
    return heard.summaries(heard.once(_strength))


@fused("onset_periodicity", stages=("mel",))
def _onset_periodicity(heard: HeardPass) -> Values:
    series = heard.once(_strength)[0]
    centred = series - series.mean()
    energy = float((centred * centred).sum())
    if energy <= np.finfo(np.float64).eps * len(series) * max(series.max() ** 2, 1e-12):
        return plain(0.0)
    frame_rate_hz = heard.owner.sample_rate_hz / heard.owner.config.hop
    first, last = (round(lag_s * frame_rate_hz) for lag_s in rhythm._LAGS_S)  # noqa: SLF001 - the same lags
    first, last = max(first, 1), min(last, len(series) - 1)
    products = np.zeros(max(last - first + 1, 0))
    heard.owner.spectral.kernels["autocorrelations"](centred, first, products)
    return plain(products.max(initial=-np.inf) / energy if len(products) else 0.0)


@fused("activity_cell_share", "activity_frame_share", "activity_snr_db", stages=("mel",))
def _heights(heard: HeardPass) -> Values:
    level_db = heard.mel_relative_db[:, : heard.n_frames]
    in_order = np.sort(level_db, axis=1)
    floors_db = quantile(in_order, _FLOOR_PERCENTILE / 100)
    active = np.empty(heard.n_frames, dtype=np.int64)
    heard.owner.spectral.kernels["count_active"](
        heard.mel_relative_db, floors_db, heard.n_frames, _ACTIVE_DB, active
    )
    return plain(
        active.sum() / level_db.size,
        (active / len(level_db) > _ACTIVE_BAND_SHARE).mean(),
        max(_high_cell(in_order - floors_db[:, np.newaxis]), 0.0),
    )


def _high_cell(in_order: np.ndarray) -> float:
    """95th percentile over all cells of `[row, cell]`, each row sorted.

    It is looked for in the upper halves of the rows: it lies there unless a lower half
    reaches above what is found.
    """
    place = 0.95 * (in_order.size - 1)
    below = int(place)
    half = in_order.shape[1] // 2
    for skipped in (half, 0):
        cells = in_order[:, skipped:].ravel()
        at = below - skipped * len(in_order)
        cells.partition(at)
        low = float(cells[at])
        if not skipped or in_order[:, skipped - 1].max() <= low:
            break
    high = float(cells[at + 1 :].min()) if at + 1 < len(cells) else low
    return low + (high - low) * (place - below)


@fused(
    *("activity_song_frame_share", "activity_song_snr_db"),
    *("activity_song_event_rate", "activity_song_event_s"),
    stages=("song",),
)
def _song_activity(heard: HeardPass) -> Values:
    power = heard.owner.song_frames[: heard.n_frames]
    level_db = np.zeros(len(power))
    loudest = power.max()
    if loudest > TINY:
        level_db = np.maximum(10 * np.log10(np.maximum(power / loudest, TINY)), -TOP_DB)
    in_order = np.sort(level_db)[np.newaxis]
    floor_db = float(quantile(in_order, _FLOOR_PERCENTILE / 100)[0])
    active = level_db > floor_db + _ACTIVE_DB
    runs = int(active[0]) + int(np.count_nonzero(active[1:] & ~active[:-1]))
    count = int(np.count_nonzero(active))
    frame_rate_hz = heard.owner.sample_rate_hz / heard.owner.config.hop
    return plain(
        count / len(active),
        float(quantile(in_order, 0.95)[0]) - floor_db,
        runs * frame_rate_hz / len(active),
        count / (runs * frame_rate_hz) if runs else 0.0,
    )


@fused("activity_song_share", stages=("song", "index"))
def _song_share(heard: HeardPass) -> Values:
    n_frames = heard.n_frames
    total = float(heard.owner.index_frames[:n_frames].sum())
    song = float(heard.owner.song_frames[:n_frames].sum())
    return plain(song / total if total > TINY else 0.0)


# --- indices --------------------------------------------------------------------------------


@fused("index_aci", stages=("bins",))
def _aci(heard: HeardPass) -> Values:
    low, high = heard.owner.index_bins
    total, _, change = heard.owner.sums[:, low:high]
    return plain((change / np.where(total > 0, total, 1.0)).sum())


@functools.lru_cache(maxsize=16)
def _steps(bins: tuple[int, int], bin_hz: float, n_steps: int, step_hz: int) -> np.ndarray:
    """First and end bin, within `bins`, of each band of `step_hz`, `[2, band]`."""
    frequencies_hz = np.arange(*bins) * bin_hz
    edges = [indices._nearest(frequencies_hz, step * step_hz) for step in range(n_steps + 1)]  # noqa: SLF001 - the same bins
    return np.array([edges[:-1], [edge + 1 for edge in edges[1:]]])


def _shares_above(heard: HeardPass, step_hz: int) -> np.ndarray:
    owner = heard.owner
    low, high = owner.index_bins
    bin_hz = owner.sample_rate_hz / owner.config.n_fft
    n_steps = indices._n_steps(owner.config, step_hz)  # noqa: SLF001 - the same bands
    if owner.loudest <= 0:
        return np.zeros(n_steps)
    first, stop = _steps((low, high), bin_hz, n_steps, step_hz)
    running = np.concatenate([[0], np.cumsum(owner.counts)])
    return np.asarray((running[stop] - running[first]) / ((stop - first) * heard.n_frames))


@fused("index_adi", stages=("cells",))
def _adi(heard: HeardPass) -> Values:
    shares = _shares_above(heard, indices.ADI_STEP_HZ)
    return plain(indices.evenness(shares) * math.log(len(shares)))


@fused("index_aei", stages=("cells",))
def _aei(heard: HeardPass) -> Values:
    return plain(indices.gini(_shares_above(heard, indices.AEI_STEP_HZ)))


@fused("index_ndsi", "index_bio_anthro_ratio_db", stages=("bins",))
def _ndsi(heard: HeardPass) -> Values:
    frequencies_hz = heard.owner.front_end.frequencies_hz
    powers = []
    for low_hz, high_hz in (indices.BIOPHONY_HZ, indices.ANTHROPHONY_HZ):
        low, high = np.searchsorted(frequencies_hz, (low_hz, high_hz))
        powers.append(float(heard.owner.sums[1, low:high].sum()))
    return plain(indices.normalised_difference(*powers), indices.ratio_db(*powers))


@fused("index_bi", stages=("bins", "cells"))
def _bi(heard: HeardPass) -> Values:
    owner = heard.owner
    if owner.loudest <= 0:
        return plain(0.0)
    low, high = owner.index_bins
    bin_hz = owner.sample_rate_hz / owner.config.n_fft
    frequencies_hz = np.arange(low, high) * bin_hz
    first, last = (indices._nearest(frequencies_hz, edge) for edge in indices.BI_BAND_HZ)  # noqa: SLF001 - the same bins
    mean = owner.sums[0, low + first : low + last + 1] / heard.n_frames
    level_db = 20 * np.log10(np.maximum(mean / math.sqrt(owner.loudest), 1e-10))
    return plain((level_db - level_db.min()).sum() / bin_hz)


@fused("index_hf", "index_ht", "index_h", stages=("bins", "index"))
def _entropies(heard: HeardPass) -> Values:
    low, high = heard.owner.index_bins
    hf = indices.evenness(heard.owner.sums[1, low:high] / heard.n_frames)
    ht = indices.evenness(heard.owner.index_frames[: heard.n_frames])
    return plain(hf, ht, hf * ht)


# --- modulation -----------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def _rates(n_frames: int, frame_rate_hz: float) -> tuple[np.ndarray, np.ndarray, slice]:
    """Modulation frequencies, where each band of `modulation` begins, and the rates' place."""
    rates_hz = np.fft.rfftfreq(n_frames, 1 / frame_rate_hz)
    edges = np.searchsorted(rates_hz, modulation.EDGES_HZ)
    low, high = np.searchsorted(rates_hz, modulation._RATES_HZ).tolist()  # noqa: SLF001 - the same rates
    return rates_hz, edges, slice(low, high)


def _modulation_energy(heard: HeardPass) -> np.ndarray:
    """Mean square of the song band's envelope at each modulation frequency, `[rate]`."""
    envelope = np.sqrt(heard.owner.song_frames[: heard.n_frames])
    n_frames = len(envelope)
    level = envelope.mean()
    silent = np.zeros(n_frames // 2 + 1)
    if level <= TINY:
        return silent
    relative = envelope / level - 1.0
    if np.abs(relative).max() < modulation._SILENT:  # noqa: SLF001 - the same limit
        return silent
    return 2 * np.abs(np.fft.rfft(relative) / n_frames) ** 2


@fused("modulation", stages=("song",))
def _modulation(heard: HeardPass) -> Values:
    energy = heard.once(_modulation_energy)
    frame_rate_hz = heard.owner.sample_rate_hz / heard.owner.config.hop
    _, edges, _ = _rates(heard.n_frames, frame_rate_hz)
    running = [energy[low:high].sum() for low, high in itertools.pairwise(edges.tolist())]
    return {"": np.sqrt(running)}


@fused("modulation_rate", "modulation_regularity", stages=("song",))
def _modulation_peak(heard: HeardPass) -> Values:
    frame_rate_hz = heard.owner.sample_rate_hz / heard.owner.config.hop
    rates_hz, _, inside = _rates(heard.n_frames, frame_rate_hz)
    energy = heard.once(_modulation_energy)[inside]
    total = energy.sum()
    if total <= 0:
        return plain(0.0, 0.0)
    peak = int(energy.argmax())
    near = energy[max(peak - 1, 0) : peak + 2].sum()
    return plain(rates_hz[inside][peak], min(near / total, 1.0))
