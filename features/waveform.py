"""What the samples say without a transform: level, crossings, clipping."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.feature import feature
from birdstack.features.spectrum import TINY, HeardWindow

FLOOR_DB = -100.0
"""Softer than any 16-bit recording: the level of silence."""
_SILENCE = 1e-10  # librosa's threshold: samples no larger count as zero, and zero as positive
_CLIPPED = 0.999
_FRAMED = ("samples", "n_fft", "hop")
_ALL = ("mean", "std", "p05", "p50", "p95")


@feature(
    group="wave",
    formula="share of samples whose sign differs from the sample before",
    source="librosa.feature.zero_crossing_rate",
    needs=_FRAMED,
    low=0.0,
    high=1.0,
    statistics=("mean", "std", "p05", "p95"),
)
def wave_zcr(window: HeardWindow) -> np.ndarray:
    """Share of sign changes in each frame, `[frame]`; edges repeat the outermost sample.

    librosa's own function calls a kernel that numba compiled into a cache on disk; a cache
    first filled by several processes at once can crash every later call.
    """
    config = window.config
    frames = _frames(np.pad(window.samples, config.n_fft // 2, mode="edge"), config)
    negative = frames < -_SILENCE
    changes = negative[:, 1:] != negative[:, :-1]
    rates: np.ndarray = changes.sum(axis=1) / config.n_fft
    return rates


@feature(
    group="wave",
    formula="root of the mean square of the frame's samples, 1 is full scale",
    source="librosa.feature.rms(y=)",
    needs=_FRAMED,
    low=0.0,
    statistics=_ALL,
)
def wave_rms(window: HeardWindow) -> np.ndarray:
    """Root mean square of each frame, `[frame]`; edges are padded with zeros."""
    config = window.config
    frames = _frames(np.pad(window.samples, config.n_fft // 2), config)
    roots: np.ndarray = np.sqrt(np.mean(frames**2, axis=1))
    return roots


@feature(
    group="wave",
    formula="standard deviation over mean of the frames' RMS: independent of gain; 0 in silence",
    source="coefficient of variation of librosa.feature.rms(y=)",
    needs=_FRAMED,
    low=0.0,
)
def wave_rms_variation(window: HeardWindow) -> float:
    """How much the level moves within the window."""
    roots = window.shared(wave_rms)
    mean = roots.mean()
    return float((roots / mean).std()) if mean > TINY else 0.0


@feature(
    group="wave",
    formula=f"20 log10 of the window's RMS, at least {FLOOR_DB:g}",
    source="level re full scale",
    needs=("samples",),
    unit="dB",
    low=FLOOR_DB,
)
def wave_level_db(window: HeardWindow) -> float:
    """Level of the whole window in dB of full scale, floored."""
    root = np.sqrt(np.mean(window.samples**2))
    return float(20 * np.log10(max(root, 10 ** (FLOOR_DB / 20))))


@feature(
    group="wave",
    formula="20 log10 of the window's peak over its RMS; 0 in silence",
    source="crest factor",
    needs=("samples",),
    unit="dB",
    low=0.0,
)
def wave_crest_db(window: HeardWindow) -> float:
    """How far the peak stands above the RMS."""
    peak = np.abs(window.samples).max()
    if peak == 0:
        return 0.0
    # Scaled by the peak first: the squares of the softest samples would underflow.
    return max(float(-10 * np.log10(np.mean((window.samples / peak) ** 2))), 0.0)


@feature(
    group="wave",
    formula=f"share of samples with |x| >= {_CLIPPED}",
    source="counts samples at full scale",
    needs=("samples",),
    low=0.0,
    high=1.0,
)
def wave_clipped_share(window: HeardWindow) -> float:
    """Share of samples at full scale."""
    return float(np.mean(np.abs(window.samples) >= _CLIPPED))


@feature(
    group="wave",
    formula="wave_level_db less its median over the recording's windows: independent of gain "
    "down to the floor",
    source="level re the recording",
    needs=("samples",),
    unit="dB",
    scope="recording",
)
def wave_level_relative_db(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Levels `[window]` of a recording, less their median."""
    levels_db = columns["wave_level_db"]
    if not len(levels_db):
        return levels_db
    relative: np.ndarray = levels_db - np.median(levels_db)
    return relative


def _frames(padded: np.ndarray, config: AcousticConfig) -> np.ndarray:
    """Overlapping frames `[frame, sample]`, a view of the samples."""
    return np.lib.stride_tricks.sliding_window_view(padded, config.n_fft)[:: config.hop]
