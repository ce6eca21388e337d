"""Mel cepstrum and log-mel bands: the colour of the sound and how it moves."""

from __future__ import annotations

import numpy as np

from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.feature import feature
from birdstack.features.spectrum import HeardWindow
from birdstack.features.summaries import grouped

DELTA_WIDTH = 9
"""Frames in a delta's local fit, librosa's default."""


def _n_mfcc(config: AcousticConfig) -> int:
    return config.n_mfcc


def _n_bands(config: AcousticConfig) -> int:
    return config.n_bands


@feature(
    group="mfcc",
    formula="coefficient of the orthonormal DCT-II of the log-mel spectrum in dB; only "
    "coefficient 00 follows the level",
    source="Davis & Mermelstein 1980; librosa.feature.mfcc",
    needs=("mel_db", "n_mfcc"),
    rows=_n_mfcc,
    statistics=("mean", "std"),
)
def mfcc(window: HeardWindow) -> np.ndarray:
    """Cepstral coefficients `[coefficient, frame]`."""
    import scipy.fft  # noqa: PLC0415 - importing the declarations stays light

    coefficients: np.ndarray = scipy.fft.dct(window.mel_db, axis=0, type=2, norm="ortho")
    return coefficients[: window.config.n_mfcc]


# The mean of a slope is the difference of the window's ends over its length: only its
# spread is kept.
@feature(
    group="mfcc",
    formula=f"slope of the coefficient per frame, fitted over {DELTA_WIDTH} frames",
    source="Furui 1986; librosa.feature.delta (Savitzky-Golay, order 1)",
    needs=("mel_db", "n_mfcc"),
    rows=_n_mfcc,
    statistics=("std",),
)
def mfcc_delta(window: HeardWindow) -> np.ndarray:
    """First derivative of the cepstral coefficients, `[coefficient, frame]`."""
    return deltas(window.shared(mfcc), order=1)


@feature(
    group="mfcc",
    formula=f"second derivative of the coefficient, fitted over {DELTA_WIDTH} frames",
    source="librosa.feature.delta (Savitzky-Golay, order 2)",
    needs=("mel_db", "n_mfcc"),
    rows=_n_mfcc,
    statistics=("std",),
)
def mfcc_delta2(window: HeardWindow) -> np.ndarray:
    """Second derivative of the cepstral coefficients, `[coefficient, frame]`."""
    return deltas(window.shared(mfcc), order=2)


def deltas(rows: np.ndarray, *, order: int) -> np.ndarray:
    """Derivative of `rows [row, frame]` by local polynomial fits of degree `order`."""
    import scipy.signal  # noqa: PLC0415 - see mfcc

    derivative: np.ndarray = scipy.signal.savgol_filter(
        rows, DELTA_WIDTH, polyorder=order, deriv=order, axis=-1, mode="interp"
    )
    return derivative


@feature(
    group="logmel",
    formula="mel power in dB, averaged over {c.n_mels} / {c.n_bands} neighbouring mel bands",
    source="librosa.power_to_db of librosa.feature.melspectrogram",
    needs=("mel_db", "n_bands"),
    unit="dB",
    rows=_n_bands,
    statistics=("std",),
)
def logmel(window: HeardWindow) -> np.ndarray:
    """Log-mel bands at the level they have, `[band, frame]`."""
    return grouped(window.mel_db, window.config.n_bands)


@feature(
    group="logmel",
    formula="mel power in dB below the window's maximum, floored at -80, less its mean over the "
    "window, averaged over {c.n_mels} / {c.n_bands} neighbouring mel bands: independent of gain",
    source="librosa.power_to_db(ref=max) of librosa.feature.melspectrogram",
    needs=("mel_relative_db", "n_bands"),
    unit="dB",
    low=-80.0,
    high=80.0,
    rows=_n_bands,
    statistics=("mean",),
)
def logmel_shape(window: HeardWindow) -> np.ndarray:
    """Log-mel bands normalised to the window's level, `[band, frame]`."""
    shape_db = window.mel_relative_db - window.mel_relative_db.mean()
    return grouped(shape_db, window.config.n_bands)
