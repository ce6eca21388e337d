"""Columns of level, onsets, activity and modulation from the fused pass."""

from __future__ import annotations

import functools
import itertools

import numpy as np

from birdstack.features import modulation, rhythm
from birdstack.features.activity import _ACTIVE_DB, _FLOOR_PERCENTILE
from birdstack.features.fused_feature import ALL, fused, plain
from birdstack.features.fused_readings import HeardWindows, Values, quantile
from birdstack.features.spectrum import TINY, TOP_DB
from birdstack.features.waveform import FLOOR_DB

# --- wave -----------------------------------------------------------------------------------


@fused("wave_zcr", "wave_rms", stages=("wave",), statistics=ALL)
def _wave(heard: HeardWindows) -> Values:
    return heard.summaries(heard.readings.wave)


@fused("wave_rms_variation", stages=("wave",))
def _rms_variation(heard: HeardWindows) -> Values:
    found = heard.once(_wave)
    return plain(ratio(found["std"][:, 1], found["mean"][:, 1]))


@fused("wave_level_db", "wave_crest_db", "wave_clipped_share", stages=("wave",))
def _levels(heard: HeardWindows) -> Values:
    peak, clipped, squares = heard.readings.whole.T
    level = np.maximum(np.sqrt(squares / heard.n_samples), 10 ** (FLOOR_DB / 20))
    sounds = peak != 0
    height = np.where(sounds, peak, 1.0)
    # Divided twice: the square of a soft peak is less than the least number.
    power = np.where(sounds, squares / height / height / heard.n_samples, 1.0)
    crest_db = np.maximum(-10 * np.log10(power), 0.0)
    return plain(20 * np.log10(level), crest_db, clipped / heard.n_samples)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, both `[window]`; 0 where the whole is silent."""
    return np.asarray(np.where(whole > TINY, part / np.where(whole > TINY, whole, 1.0), 0.0))


# --- onset, activity ------------------------------------------------------------------------


@fused("onset_strength", stages=("onset",), statistics=ALL)
def _onset_strength(heard: HeardWindows) -> Values:
    return heard.summaries(heard.readings.strength[:, np.newaxis])


@fused("onset_periodicity", stages=("onset",))
def _onset_periodicity(heard: HeardWindows) -> Values:
    strength = heard.readings.strength
    first, last = (round(lag_s * heard.plan.frame_rate_hz) for lag_s in rhythm._LAGS_S)  # noqa: SLF001 - the same lags
    largest = np.empty(len(strength))
    least = float(np.finfo(np.float64).eps)
    heard.kernels["periodicities"](strength, max(first, 1), last, least, largest)
    return plain(largest)


@fused("activity_cell_share", "activity_frame_share", "activity_snr_db", stages=("heights",))
def _heights(heard: HeardWindows) -> Values:
    return {"": heard.readings.heights}


@fused(
    *("activity_song_frame_share", "activity_song_snr_db"),
    *("activity_song_event_rate", "activity_song_event_s"),
    stages=("song",),
)
def _song_activity(heard: HeardWindows) -> Values:
    power = heard.song_power
    loudest = power.max(axis=1, keepdims=True)
    relative = power / np.where(loudest > TINY, loudest, 1.0)
    level_db = np.maximum(10 * np.log10(np.maximum(relative, TINY)), -TOP_DB)
    level_db[loudest[:, 0] <= TINY] = 0.0
    in_order = np.sort(level_db, axis=1)
    floor_db = quantile(in_order, _FLOOR_PERCENTILE / 100)
    active = level_db > floor_db[:, np.newaxis] + _ACTIVE_DB
    runs = active[:, 0] + np.count_nonzero(active[:, 1:] & ~active[:, :-1], axis=1)
    count = np.count_nonzero(active, axis=1)
    frame_rate_hz = heard.plan.frame_rate_hz
    return plain(
        count / heard.n_frames,
        quantile(in_order, 0.95) - floor_db,
        runs * frame_rate_hz / heard.n_frames,
        count / (np.maximum(runs, 1) * frame_rate_hz),
    )


@fused("activity_song_share", stages=("song", "index"))
def _song_share(heard: HeardWindows) -> Values:
    return plain(ratio(heard.song_power.sum(axis=1), heard.index_power.sum(axis=1)))


# --- modulation -----------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def _rates(n_frames: int, frame_rate_hz: float) -> tuple[np.ndarray, np.ndarray, slice]:
    """Modulation frequencies, where each band of `modulation` begins, and the rates' place."""
    rates_hz = np.fft.rfftfreq(n_frames, 1 / frame_rate_hz)
    edges = np.searchsorted(rates_hz, modulation.EDGES_HZ)
    low, high = np.searchsorted(rates_hz, modulation._RATES_HZ).tolist()  # noqa: SLF001 - the same rates
    return rates_hz, edges, slice(low, high)


def _modulation_energy(heard: HeardWindows) -> np.ndarray:
    """Mean square of the song band's envelope at each modulation frequency, `[window, rate]`."""
    envelope = np.sqrt(heard.song_power)
    level = envelope.mean(axis=1, keepdims=True)
    relative = envelope / np.where(level > TINY, level, 1.0) - 1.0
    moves = np.abs(relative).max(axis=1, keepdims=True) >= modulation._SILENT  # noqa: SLF001 - the same limit
    energy = 2 * np.abs(np.fft.rfft(relative, axis=1) / heard.n_frames) ** 2
    return np.asarray(np.where(moves & (level > TINY), energy, 0.0))


@fused("modulation", stages=("song",))
def _modulation(heard: HeardWindows) -> Values:
    energy = heard.once(_modulation_energy)
    _, edges, _ = _rates(heard.n_frames, heard.plan.frame_rate_hz)
    sums = [energy[:, low:high].sum(axis=1) for low, high in itertools.pairwise(edges.tolist())]
    return plain(*np.sqrt(sums))


@fused("modulation_rate", "modulation_regularity", stages=("song",))
def _modulation_peak(heard: HeardWindows) -> Values:
    rates_hz, _, inside = _rates(heard.n_frames, heard.plan.frame_rate_hz)
    energy = heard.once(_modulation_energy)[:, inside]
    total = energy.sum(axis=1)
    if not energy.shape[1]:
        return plain(total, total)
    peak = energy.argmax(axis=1)
    # The neighbours of a rate at either end: what lies beyond has no energy.
    edged = np.pad(energy, ((0, 0), (1, 1)))
    near = np.take_along_axis(edged, peak[:, np.newaxis] + np.arange(3), axis=1).sum(axis=1)
    sounds = total > 0
    share = np.minimum(near / np.where(sounds, total, 1.0), 1.0)
    return plain(np.where(sounds, rates_hz[inside][peak], 0.0), np.where(sounds, share, 0.0))
