"""Mel cepstrum and log-mel bands: the colour of the sound and how it moves."""

from __future__ import annotations

import numpy as np

from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.spectrum import Spectra
from birdstack.features.summaries import Series, row_columns, summarise_rows
from birdstack.store.views import Column

DELTA_WIDTH = 9  # frames in a delta's local fit, librosa's default


def mfcc_columns(config: AcousticConfig) -> list[Column]:
    """Columns of `measure_mfcc`."""
    mfcc = Series(
        "mfcc",
        "coefficient of the orthonormal DCT-II of the log-mel spectrum in dB; only "
        "coefficient 00 follows the level. librosa.feature.mfcc",
    )
    delta = Series(
        "mfcc_delta",
        f"slope of the coefficient per frame, fitted over {DELTA_WIDTH} frames. "
        "librosa.feature.delta (Savitzky-Golay, order 1)",
    )
    curve = Series(
        "mfcc_delta2",
        f"second derivative of the coefficient, fitted over {DELTA_WIDTH} frames. "
        "librosa.feature.delta (Savitzky-Golay, order 2)",
    )
    return [
        *row_columns(mfcc, config.n_mfcc),
        # The mean of a slope is the difference of the window's ends over its length: no more.
        *row_columns(delta, config.n_mfcc, ("std",)),
        *row_columns(curve, config.n_mfcc, ("std",)),
    ]


def measure_mfcc(spectra: Spectra, config: AcousticConfig) -> dict[str, float]:
    """Statistics of the cepstral coefficients and of their first two derivatives."""
    mfcc = mfccs(spectra, config.n_mfcc)
    return (
        summarise_rows("mfcc", mfcc)
        | summarise_rows("mfcc_delta", deltas(mfcc, order=1), ("std",))
        | summarise_rows("mfcc_delta2", deltas(mfcc, order=2), ("std",))
    )


def mfccs(spectra: Spectra, n_mfcc: int) -> np.ndarray:
    """Cepstral coefficients `[coefficient, frame]`."""
    import scipy.fft  # noqa: PLC0415 - importing the view's columns stays light

    coefficients: np.ndarray = scipy.fft.dct(spectra.mel_db, axis=0, type=2, norm="ortho")
    return coefficients[:n_mfcc]


def deltas(rows: np.ndarray, *, order: int) -> np.ndarray:
    """Derivative of `rows [row, frame]` by local polynomial fits of degree `order`."""
    import scipy.signal  # noqa: PLC0415 - see mfccs

    derivative: np.ndarray = scipy.signal.savgol_filter(
        rows, DELTA_WIDTH, polyorder=order, deriv=order, axis=-1, mode="interp"
    )
    return derivative


def logmel_columns(config: AcousticConfig) -> list[Column]:
    """Columns of `measure_logmel`."""
    width = config.n_mels // config.n_bands
    among = f"averaged over {width} neighbouring of {config.n_mels} mel bands"
    raw = Series(
        "logmel",
        f"mel power in dB, {among}. librosa.power_to_db of librosa.feature.melspectrogram",
        "dB",
    )
    shape = Series(
        "logmel_shape",
        f"mel power in dB below the window's maximum, floored at -80, less its mean over the "
        f"window, {among}: independent of gain",
        "dB",
        -80.0,
        80.0,
    )
    return [*row_columns(raw, config.n_bands), *row_columns(shape, config.n_bands, ("mean",))]


def measure_logmel(spectra: Spectra, config: AcousticConfig) -> dict[str, float]:
    """Statistics of log-mel bands, as they are and normalised to the window's level."""
    shape_db = spectra.mel_relative_db - spectra.mel_relative_db.mean()
    return summarise_rows("logmel", grouped(spectra.mel_db, config.n_bands)) | summarise_rows(
        "logmel_shape", grouped(shape_db, config.n_bands), ("mean",)
    )


def grouped(rows: np.ndarray, n_bands: int) -> np.ndarray:
    """Means of equal groups of neighbouring rows: `[mel, frame]` to `[band, frame]`."""
    means: np.ndarray = rows.reshape(n_bands, len(rows) // n_bands, -1).mean(axis=1)
    return means
