"""Columns from what the fused pass left: one function for each feature that has a kernel.

The definitions are those of the registered functions, which stay the reference: a function
here stands for one version of one of them, and steps aside when that version is raised.
A registered feature without a function here is computed by its own, from the same pass.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from birdstack.features import indices, modulation, pcen, rhythm
from birdstack.features.activity import _ACTIVE_BAND_SHARE, _ACTIVE_DB, _FLOOR_PERCENTILE
from birdstack.features.cepstrum import DELTA_WIDTH
from birdstack.features.feature import Feature
from birdstack.features.fused_window import HeardPass, Stage, quantile
from birdstack.features.spectrum import TINY, TOP_DB
from birdstack.features.waveform import FLOOR_DB

Values = Mapping[str, np.ndarray]
"""Statistic (empty: none) -> one value for each row."""


@dataclass(frozen=True, slots=True)
class FusedFeature:
    """A feature with a kernel.

    Attributes:
        name: of the registered feature.
        version: of the registered feature whose numbers it gives.
        stages: readings of the pass that it needs.
        statistics: those that it can give.
        measure: the function.
    """

    name: str
    version: int
    stages: frozenset[Stage]
    statistics: frozenset[str]
    measure: Callable[[HeardPass], Values]

    def stands_for(self, feature: Feature) -> bool:
        """Whether it gives all of a feature's columns."""
        wanted = feature.statistics or ("",)
        return self.version == feature.version and self.statistics >= set(wanted)


FUSED: dict[str, FusedFeature] = {}
"""Features with kernels, by name."""

_PLAIN = frozenset({""})
_MOMENTS = frozenset({"mean", "std"})
_ALL = frozenset({"mean", "std", "p05", "p50", "p95"})

Measure = Callable[[HeardPass], Values]


def _fused(
    *names: str, stages: tuple[Stage, ...], statistics: frozenset[str] = _PLAIN, version: int = 1
) -> Callable[[Callable[[HeardPass], Values]], Callable[[HeardPass], Values]]:
    """Register a function; given several names, it returns them one after the other."""

    def register(measure: Measure) -> Measure:
        for place, name in enumerate(names):
            own = functools.partial(_row, measure, place) if len(names) > 1 else measure
            FUSED[name] = FusedFeature(name, version, frozenset(stages), statistics, own)
        return measure

    return register


def _row(measure: Measure, place: int, heard: HeardPass) -> Values:
    """One row of what `measure` gives for several features at once."""
    return {name: values[place : place + 1] for name, values in heard.once(measure).items()}


def _plain(*values: float) -> Values:
    return {"": np.array(values)}


# --- mfcc, logmel ---------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def _cosines(n_mfcc: int, n_mels: int) -> np.ndarray:
    """Orthonormal DCT-II, `[coefficient, mel]`."""
    angles = np.pi / n_mels * np.outer(np.arange(n_mfcc), np.arange(n_mels) + 0.5)
    basis = np.sqrt(2.0 / n_mels) * np.cos(angles)
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


@_fused("mfcc", stages=("mel",), statistics=_MOMENTS)
def _mfcc(heard: HeardPass) -> Values:
    return heard.moments(heard.once(_coefficients))


def _delta_deviations(heard: HeardPass) -> tuple[np.ndarray, np.ndarray]:
    rows = heard.once(_coefficients)
    slopes, curves = np.empty(len(rows)), np.empty(len(rows))
    heard.owner.spectral.kernels["delta_deviations"](
        rows, heard.n_frames, _derivative(1), _derivative(2), slopes, curves
    )
    return slopes, curves


@_fused("mfcc_delta", stages=("mel",), statistics=frozenset({"std"}))
def _mfcc_delta(heard: HeardPass) -> Values:
    return {"std": heard.once(_delta_deviations)[0]}


@_fused("mfcc_delta2", stages=("mel",), statistics=frozenset({"std"}))
def _mfcc_delta2(heard: HeardPass) -> Values:
    return {"std": heard.once(_delta_deviations)[1]}


def _grouped(heard: HeardPass, rows: np.ndarray) -> np.ndarray:
    config = heard.owner.config
    return heard.weighed(_group_means(config.n_mels, config.n_bands), rows)


@_fused("logmel", stages=("mel",), statistics=_MOMENTS)
def _logmel(heard: HeardPass) -> Values:
    return heard.moments(_grouped(heard, heard.mel_db))


@_fused("logmel_shape", stages=("mel",), statistics=frozenset({"mean"}))
def _logmel_shape(heard: HeardPass) -> Values:
    means = heard.moments(heard.mel_relative_db)["mean"]
    bands = means.reshape(heard.owner.config.n_bands, -1).mean(axis=1)
    return {"mean": bands - means.mean()}


# --- pcen -----------------------------------------------------------------------------------

_STATE = "pcen"


@_fused("pcen", stages=("mel",), statistics=_MOMENTS)
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


@_fused(
    *("spectral_centroid", "spectral_bandwidth", "spectral_rolloff85", "spectral_rolloff95"),
    stages=("shape",),
    statistics=_ALL,
)
def _shape(heard: HeardPass) -> Values:
    return heard.summaries(heard.owner.series[:4])


@_fused("spectral_flatness", "spectral_band_flatness", stages=("flatness",), statistics=_ALL)
def _flatness(heard: HeardPass) -> Values:
    return heard.summaries(heard.owner.series[4:])


@_fused("spectral_dominant", stages=("bins",))
def _dominant(heard: HeardPass) -> Values:
    low, high = heard.owner.index_bins
    power = heard.owner.sums[1, low:high]
    loudest = int(power.argmax())
    bin_hz = heard.owner.sample_rate_hz / heard.owner.config.n_fft
    return _plain((low + loudest) * bin_hz if power[loudest] > 0 else 0.0)


@_fused("contrast", stages=("contrast",), statistics=_MOMENTS)
def _contrast(heard: HeardPass) -> Values:
    levels_db = []
    for extremes in (heard.owner.peaks, heard.owner.valleys):
        level_db = 10 * np.log10(np.maximum(extremes, 1e-10))
        levels_db.append(np.maximum(level_db, level_db.max() - 80.0))
    return heard.moments(levels_db[0] - levels_db[1])


# --- wave -----------------------------------------------------------------------------------


@_fused("wave_zcr", "wave_rms", stages=("wave",), statistics=_ALL)
def _wave(heard: HeardPass) -> Values:
    return heard.summaries(heard.owner.wave)


@_fused("wave_rms_variation", stages=("wave",))
def _rms_variation(heard: HeardPass) -> Values:
    found = heard.once(_wave)
    mean = found["mean"][1]
    return _plain(found["std"][1] / mean if mean > TINY else 0.0)


@_fused("wave_level_db", "wave_crest_db", "wave_clipped_share", stages=("wave",))
def _levels(heard: HeardPass) -> Values:
    peak, clipped, squares = heard.owner.whole.tolist()
    n_samples = len(heard.samples32)
    level_db = 20 * math.log10(max(math.sqrt(squares / n_samples), 10 ** (FLOOR_DB / 20)))
    crest_db = 0.0
    if peak != 0:
        crest_db = max(-10 * math.log10(squares / peak / peak / n_samples), 0.0)
    return _plain(level_db, crest_db, clipped / n_samples)


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


@_fused("onset_strength", stages=("mel",), statistics=_ALL)
def _onset_strength(heard: HeardPass) -> Values:
    return heard.summaries(heard.once(_strength))


@_fused("onset_periodicity", stages=("mel",))
def _onset_periodicity(heard: HeardPass) -> Values:
    series = heard.once(_strength)[0]
    centred = series - series.mean()
    energy = float((centred * centred).sum())
    if energy <= np.finfo(np.float64).eps * len(series) * max(series.max() ** 2, 1e-12):
        return _plain(0.0)
    frame_rate_hz = heard.owner.sample_rate_hz / heard.owner.config.hop
    first, last = (round(lag_s * frame_rate_hz) for lag_s in rhythm._LAGS_S)  # noqa: SLF001 - the same lags
    first, last = max(first, 1), min(last, len(series) - 1)
    products = np.zeros(max(last - first + 1, 0))
    heard.owner.spectral.kernels["autocorrelations"](centred, first, products)
    return _plain(products.max(initial=-np.inf) / energy if len(products) else 0.0)


@_fused("activity_cell_share", "activity_frame_share", "activity_snr_db", stages=("mel",))
def _heights(heard: HeardPass) -> Values:
    level_db = heard.mel_relative_db[:, : heard.n_frames]
    floors_db = quantile(np.sort(level_db, axis=1), _FLOOR_PERCENTILE / 100)
    active = np.empty(heard.n_frames, dtype=np.int64)
    heard.owner.spectral.kernels["count_active"](
        heard.mel_relative_db, floors_db, heard.n_frames, _ACTIVE_DB, active
    )
    cells = (level_db - floors_db[:, np.newaxis]).ravel()
    place = 0.95 * (len(cells) - 1)
    below = int(place)
    cells.partition(below)
    low = cells[below]
    high = cells[below + 1 :].min(initial=np.inf) if below + 1 < len(cells) else low
    return _plain(
        active.sum() / len(cells),
        (active / len(level_db) > _ACTIVE_BAND_SHARE).mean(),
        max(low + (high - low) * (place - below), 0.0),
    )


@_fused(
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
    return _plain(
        count / len(active),
        float(quantile(in_order, 0.95)[0]) - floor_db,
        runs * frame_rate_hz / len(active),
        count / (runs * frame_rate_hz) if runs else 0.0,
    )


@_fused("activity_song_share", stages=("song", "index"))
def _song_share(heard: HeardPass) -> Values:
    n_frames = heard.n_frames
    total = float(heard.owner.index_frames[:n_frames].sum())
    song = float(heard.owner.song_frames[:n_frames].sum())
    return _plain(song / total if total > TINY else 0.0)


# --- indices --------------------------------------------------------------------------------


@_fused("index_aci", stages=("bins",))
def _aci(heard: HeardPass) -> Values:
    low, high = heard.owner.index_bins
    total, _, change = heard.owner.sums[:, low:high]
    return _plain((change / np.where(total > 0, total, 1.0)).sum())


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


@_fused("index_adi", stages=("cells",))
def _adi(heard: HeardPass) -> Values:
    shares = _shares_above(heard, indices.ADI_STEP_HZ)
    return _plain(indices.evenness(shares) * math.log(len(shares)))


@_fused("index_aei", stages=("cells",))
def _aei(heard: HeardPass) -> Values:
    return _plain(indices.gini(_shares_above(heard, indices.AEI_STEP_HZ)))


@_fused("index_ndsi", "index_bio_anthro_ratio_db", stages=("bins",))
def _ndsi(heard: HeardPass) -> Values:
    frequencies_hz = heard.owner.front_end.frequencies_hz
    powers = []
    for low_hz, high_hz in (indices.BIOPHONY_HZ, indices.ANTHROPHONY_HZ):
        low, high = np.searchsorted(frequencies_hz, (low_hz, high_hz))
        powers.append(float(heard.owner.sums[1, low:high].sum()))
    return _plain(indices.normalised_difference(*powers), indices.ratio_db(*powers))


@_fused("index_bi", stages=("bins", "cells"))
def _bi(heard: HeardPass) -> Values:
    owner = heard.owner
    if owner.loudest <= 0:
        return _plain(0.0)
    low, high = owner.index_bins
    bin_hz = owner.sample_rate_hz / owner.config.n_fft
    frequencies_hz = np.arange(low, high) * bin_hz
    first, last = (indices._nearest(frequencies_hz, edge) for edge in indices.BI_BAND_HZ)  # noqa: SLF001 - the same bins
    mean = owner.sums[0, low + first : low + last + 1] / heard.n_frames
    level_db = 20 * np.log10(np.maximum(mean / math.sqrt(owner.loudest), 1e-10))
    return _plain((level_db - level_db.min()).sum() / bin_hz)


@_fused("index_hf", "index_ht", "index_h", stages=("bins", "index"))
def _entropies(heard: HeardPass) -> Values:
    low, high = heard.owner.index_bins
    hf = indices.evenness(heard.owner.sums[1, low:high] / heard.n_frames)
    ht = indices.evenness(heard.owner.index_frames[: heard.n_frames])
    return _plain(hf, ht, hf * ht)


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


@_fused("modulation", stages=("song",))
def _modulation(heard: HeardPass) -> Values:
    energy = heard.once(_modulation_energy)
    frame_rate_hz = heard.owner.sample_rate_hz / heard.owner.config.hop
    _, edges, _ = _rates(heard.n_frames, frame_rate_hz)
    running = [energy[low:high].sum() for low, high in itertools.pairwise(edges.tolist())]
    return {"": np.sqrt(running)}


@_fused("modulation_rate", "modulation_regularity", stages=("song",))
def _modulation_peak(heard: HeardPass) -> Values:
    frame_rate_hz = heard.owner.sample_rate_hz / heard.owner.config.hop
    rates_hz, _, inside = _rates(heard.n_frames, frame_rate_hz)
    energy = heard.once(_modulation_energy)[inside]
    total = energy.sum()
    if total <= 0:
        return _plain(0.0, 0.0)
    peak = int(energy.argmax())
    near = energy[max(peak - 1, 0) : peak + 2].sum()
    return _plain(rates_hz[inside][peak], min(near / total, 1.0))
