"""How the sound comes and goes: onsets, modulation, activity above the noise."""

from __future__ import annotations

import itertools

import numpy as np

from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.spectrum import Spectra, in_band
from birdstack.features.summaries import Series, numbered, summarise, summary_columns
from birdstack.store.views import Column

MODULATION_EDGES_HZ = (0.5, 2.0, 4.0, 8.0, 16.0, 31.0)
_LAGS_S = (0.06, 1.0)  # repetition of syllables, ticks and blades
_FLOOR_PERCENTILE = 20
_ACTIVE_DB = 6.0
_ACTIVE_BAND_SHARE = 0.1


def onset_columns() -> list[Column]:
    """Columns of `measure_onset`."""
    strength = Series(
        "onset_strength",
        "mean over mel bands of the rise in dB since the frame before. librosa.onset.onset_strength",
        "dB",
        0.0,
        80.0,
    )
    edges = ", ".join(f"{edge:g}" for edge in MODULATION_EDGES_HZ)
    return [
        *summary_columns(strength),
        Column(
            "onset_periodicity",
            low=-1.0,
            high=1.0,
            description="largest autocorrelation of onset strength at lags of "
            f"{_LAGS_S[0]:g} to {_LAGS_S[1]:g} s, biased estimate; 0 where nothing begins",
        ),
        *(
            Column(
                name,
                low=0.0,
                high=1.0,
                description="share of the modulation energy of the band-limited frame amplitude in one "
                f"band between {edges} Hz; 0 where the amplitude is constant",
            )
            for name in numbered("onset_modulation", len(MODULATION_EDGES_HZ) - 1)
        ),
    ]


def measure_onset(spectra: Spectra, config: AcousticConfig) -> dict[str, float]:
    """Onset strength, its periodicity, and the modulation spectrum of the amplitude."""
    strength = onset_strengths(spectra, config)
    frame_rate_hz = spectra.sample_rate_hz / config.hop
    amplitude = np.sqrt(spectra.power[in_band(spectra, config)].sum(axis=0))
    shares = modulation_shares(amplitude, frame_rate_hz)
    return (
        summarise("onset_strength", strength)
        | {"onset_periodicity": periodicity(strength, frame_rate_hz)}
        | dict(zip(numbered("onset_modulation", len(shares)), shares.tolist(), strict=True))
    )


def onset_strengths(spectra: Spectra, config: AcousticConfig) -> np.ndarray:
    """Spectral flux of the log-mel spectrum, `[frame]`.

    As in librosa the series is delayed by half a frame, so that a rise stands where the
    sound begins rather than where a frame first touches it.
    """
    rise_db = np.maximum(np.diff(spectra.mel_db, axis=1), 0.0).mean(axis=0)
    delay = 1 + config.n_fft // (2 * config.hop)
    return np.pad(rise_db, (delay, 0))[: spectra.mel_db.shape[1]]


def periodicity(series: np.ndarray, frame_rate_hz: float) -> float:
    """Largest autocorrelation of `series [frame]` at lags of `_LAGS_S`."""
    centred = series - series.mean()
    energy = centred @ centred
    if energy <= np.finfo(np.float64).eps * len(series) * max(series.max() ** 2, 1e-12):
        return 0.0
    first, last = (round(lag_s * frame_rate_hz) for lag_s in _LAGS_S)
    lags = range(max(first, 1), min(last, len(series) - 1) + 1)
    return float(max((centred[lag:] @ centred[:-lag] for lag in lags), default=0.0) / energy)


def modulation_shares(amplitude: np.ndarray, frame_rate_hz: float) -> np.ndarray:
    """Energy of `amplitude [frame]` in each modulation band over that in all, `[band]`."""
    level = amplitude.mean()
    if level == 0:
        return np.zeros(len(MODULATION_EDGES_HZ) - 1)
    spectrum = np.abs(np.fft.rfft(amplitude / level - 1.0)) ** 2
    rates_hz = np.fft.rfftfreq(len(amplitude), 1 / frame_rate_hz)
    energies = np.array(
        [
            spectrum[(rates_hz >= low_hz) & (rates_hz < high_hz)].sum()
            for low_hz, high_hz in itertools.pairwise(MODULATION_EDGES_HZ)
        ]
    )
    total = energies.sum()
    # Below that the frames differ by rounding only.
    return energies / total if total > 1e-18 * len(amplitude) else np.zeros(len(energies))


# --- group activity ------------------------------------------------------------------------


def activity_columns() -> list[Column]:
    """Columns of `measure_activity`."""
    floor = f"the band's {_FLOOR_PERCENTILE}th percentile over the window"
    return [
        Column(
            "activity_cell_share",
            low=0.0,
            high=1.0,
            description=f"share of log-mel cells more than {_ACTIVE_DB:g} dB above {floor}",
        ),
        Column(
            "activity_frame_share",
            low=0.0,
            high=1.0,
            description=f"share of frames with such cells in more than {_ACTIVE_BAND_SHARE:.0%} "
            "of the mel bands",
        ),
        Column(
            "activity_snr_db",
            unit="dB",
            low=0.0,
            high=80.0,
            description=f"95th percentile over log-mel cells of the height above {floor}, at "
            "least 0: a simple signal-to-noise ratio",
        ),
    ]


def measure_activity(spectra: Spectra) -> dict[str, float]:
    """How much of the window stands above its own noise floor; independent of gain."""
    floor_db = np.percentile(spectra.mel_relative_db, _FLOOR_PERCENTILE, axis=1, keepdims=True)
    height_db = spectra.mel_relative_db - floor_db
    active = height_db > _ACTIVE_DB
    return {
        "activity_cell_share": float(active.mean()),
        "activity_frame_share": float((active.mean(axis=0) > _ACTIVE_BAND_SHARE).mean()),
        "activity_snr_db": max(float(np.percentile(height_db, 95)), 0.0),
    }
