"""What the samples say without a transform: level, crossings, clipping."""

from __future__ import annotations

import numpy as np

from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.summaries import Series, summarise, summary_columns
from birdstack.store.views import Column

FLOOR_DB = -100.0  # softer than any 16-bit recording; the level of silence
_SILENCE = 1e-10  # librosa's threshold: samples no larger count as zero, and zero as positive
_CLIPPED = 0.999
RELATIVE_LEVEL = "wave_level_relative_db"


def wave_columns() -> list[Column]:
    """Columns of `measure_wave`, and last the one that needs the whole recording."""
    zcr = Series(
        "wave_zcr",
        "share of samples whose sign differs from the sample before. "
        "librosa.feature.zero_crossing_rate",
        "",
        0.0,
        1.0,
    )
    rms = Series(
        "wave_rms",
        "root of the mean square of the frame's samples, 1 is full scale. librosa.feature.rms(y=)",
        low=0.0,
    )
    return [
        *summary_columns(zcr),
        *summary_columns(rms),
        Column(
            "wave_level_db",
            unit="dB",
            low=FLOOR_DB,
            description=f"20 log10 of the window's RMS, at least {FLOOR_DB:g}",
        ),
        Column(
            "wave_crest_db",
            unit="dB",
            low=0.0,
            description="20 log10 of the window's peak over its RMS; 0 in silence",
        ),
        Column(
            "wave_clipped_share",
            low=0.0,
            high=1.0,
            description=f"share of samples with |x| >= {_CLIPPED}",
        ),
        Column(
            RELATIVE_LEVEL,
            unit="dB",
            description="wave_level_db less its median over the recording's windows: "
            "independent of gain down to the floor",
        ),
    ]


def measure_wave(samples: np.ndarray, config: AcousticConfig) -> dict[str, float]:
    """Statistics of one window's samples `[sample]`; all but the relative level."""
    return (
        summarise("wave_zcr", zero_crossing_rates(samples, config))
        | summarise("wave_rms", rms(samples, config))
        | {
            "wave_level_db": level_db(samples),
            "wave_crest_db": crest_db(samples),
            "wave_clipped_share": float(np.mean(np.abs(samples) >= _CLIPPED)),
        }
    )


def relative_levels_db(levels_db: np.ndarray) -> np.ndarray:
    """Levels `[window]` of a recording, less their median."""
    relative: np.ndarray = levels_db - np.median(levels_db)
    return relative


def level_db(samples: np.ndarray) -> float:
    """Level of the whole window in dB of full scale, floored."""
    root = np.sqrt(np.mean(samples**2))
    return float(20 * np.log10(max(root, 10 ** (FLOOR_DB / 20))))


def crest_db(samples: np.ndarray) -> float:
    """How far the peak stands above the RMS."""
    peak = np.abs(samples).max()
    if peak == 0:
        return 0.0
    # Scaled by the peak first: the squares of the softest samples would underflow.
    return float(-10 * np.log10(np.mean((samples / peak) ** 2)))


def zero_crossing_rates(samples: np.ndarray, config: AcousticConfig) -> np.ndarray:
    """Share of sign changes in each frame, `[frame]`; edges repeat the outermost sample.

    librosa's own function calls a kernel that numba compiled into a cache on disk; a cache
    first filled by several processes at once can crash every later call.
    """
    frames = _frames(np.pad(samples, config.n_fft // 2, mode="edge"), config)
    negative = frames < -_SILENCE
    changes = negative[:, 1:] != negative[:, :-1]
    rates: np.ndarray = changes.sum(axis=1) / config.n_fft
    return rates


def rms(samples: np.ndarray, config: AcousticConfig) -> np.ndarray:
    """Root mean square of each frame, `[frame]`; edges are padded with zeros."""
    frames = _frames(np.pad(samples, config.n_fft // 2), config)
    roots: np.ndarray = np.sqrt(np.mean(frames**2, axis=1))
    return roots


def _frames(padded: np.ndarray, config: AcousticConfig) -> np.ndarray:
    """Overlapping frames `[frame, sample]`, a view of the samples."""
    return np.lib.stride_tricks.sliding_window_view(padded, config.n_fft)[:: config.hop]
