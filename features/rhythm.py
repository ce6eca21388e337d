"""How the sound begins: onsets, and how regularly they come."""

from __future__ import annotations

import numpy as np

from birdstack.features.feature import feature
from birdstack.features.spectrum import HeardWindow

_LAGS_S = (0.06, 1.0)  # repetition of syllables, ticks and blades


@feature(
    group="onset",
    formula="mean over mel bands of the rise in dB since the frame before",
    source="librosa.onset.onset_strength",
    needs=("mel_db",),
    unit="dB",
    low=0.0,
    high=80.0,
    statistics=("mean", "std", "p05", "p50", "p95"),
)
def onset_strength(window: HeardWindow) -> np.ndarray:
    """Spectral flux of the log-mel spectrum, `[frame]`.

    As in librosa the series is delayed by half a frame, so that a rise stands where the
    sound begins rather than where a frame first touches it.
    """
    config = window.config
    rise_db = np.maximum(np.diff(window.mel_db, axis=1), 0.0).mean(axis=0)
    delay = 1 + config.n_fft // (2 * config.hop)
    return np.pad(rise_db, (delay, 0))[: window.mel_db.shape[1]]


@feature(
    group="onset",
    formula=f"largest autocorrelation of onset strength at lags of {_LAGS_S[0]:g} to "
    f"{_LAGS_S[1]:g} s, biased estimate; 0 where nothing begins",
    source="autocorrelation, as in librosa.feature.tempogram",
    needs=("mel_db",),
    low=-1.0,
    high=1.0,
)
def onset_periodicity(window: HeardWindow) -> float:
    """How regularly sounds begin."""
    return periodicity(window.shared(onset_strength), window.frame_rate_hz)


def periodicity(series: np.ndarray, frame_rate_hz: float) -> float:
    """Largest autocorrelation of `series [frame]` at lags of `_LAGS_S`."""
    centred = series - series.mean()
    energy = centred @ centred
    if energy <= np.finfo(np.float64).eps * len(series) * max(series.max() ** 2, 1e-12):
        return 0.0
    first, last = (round(lag_s * frame_rate_hz) for lag_s in _LAGS_S)
    lags = range(max(first, 1), min(last, len(series) - 1) + 1)
    return float(max((centred[lag:] @ centred[:-lag] for lag in lags), default=0.0) / energy)
