"""Another sample rate for sound that is already decoded: the one door to soxr outside decoding."""

from __future__ import annotations

import numpy as np

from birdstack.store.errors import ConfigError


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Samples at another rate, by soxr at quality HQ (what the decoder uses).

    Resample whole recordings and cut them afterwards: the filter rings at both ends, so a
    window resampled by itself differs near its edges from the same window of the recording.

    Args:
        samples: float32 `[sample]`.
        from_hz: rate of `samples`.
        to_hz: rate that is wanted.

    Returns:
        float32 `[sample]` of `round(len * to_hz / from_hz)` samples; `samples` itself where
        the rates are equal.

    Raises:
        ConfigError: a rate is not above zero.
    """
    if from_hz <= 0 or to_hz <= 0:
        message = f"cannot resample from {from_hz} Hz to {to_hz} Hz: a rate must be above 0"
        raise ConfigError(message, remedy="give both rates in Hz")
    if from_hz == to_hz:
        return samples
    import soxr  # noqa: PLC0415 - loaded only where rates differ

    heard = np.ascontiguousarray(samples, dtype=np.float32)
    return np.asarray(soxr.resample(heard, from_hz, to_hz, quality="HQ"))
