"""A spectrogram small enough to look at, however long the recording.

Each pixel shows the loudest of the cells that fall into it: a call of half a second stays
visible in a picture of an hour, where a mean would drown it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

N_FFT_S = 0.032
"""Length of a frame: 1,024 samples at 32 kHz, 31 Hz a bin."""
FLOOR_DB = -120.0
_BLOCK_FRAMES = 2048


@dataclass(frozen=True)
class Spectrogram:
    """Levels of a stretch of sound, ready to be drawn.

    Attributes:
        level_db: `[row, column]` float32, row 0 lowest in frequency; dB relative to a sine of
            full scale, at least `FLOOR_DB`.
        start_s: left edge.
        end_s: right edge.
        fmin_hz: lower edge.
        fmax_hz: upper edge.
    """

    level_db: np.ndarray
    start_s: float
    end_s: float
    fmin_hz: float
    fmax_hz: float


def spectrogram(
    samples: np.ndarray,
    sample_rate_hz: int,
    *,
    start_s: float,
    end_s: float,
    fmin_hz: float,
    fmax_hz: float,
    max_columns: int = 1100,
    max_rows: int = 360,
) -> Spectrogram:
    """Peak levels of a stretch of a recording.

    Memory stays within a few megabytes besides `samples`.

    Args:
        samples: the whole recording, mono, `[sample]`.
        sample_rate_hz: its rate.
        start_s: begin of the stretch.
        end_s: its end, past `start_s`; what lies beyond the sound is left out.
        fmin_hz: lowest frequency shown.
        fmax_hz: highest frequency shown; at most half the rate.
        max_columns: most pixels over time.
        max_rows: most pixels over frequency.

    Raises:
        ValueError: the stretch or the band is empty.
    """
    first, last = round(start_s * sample_rate_hz), round(end_s * sample_rate_hz)
    stretch = samples[max(first, 0) : last]
    n_fft = max(16, 2 * round(N_FFT_S * sample_rate_hz / 2))
    bins = np.arange(n_fft // 2 + 1) * sample_rate_hz / n_fft
    chosen = np.flatnonzero((bins >= fmin_hz) & (bins <= fmax_hz))
    if not len(stretch) or not len(chosen):
        message = (
            f"nothing to show between {start_s:g} and {end_s:g} s, {fmin_hz:g} and {fmax_hz:g} Hz"
        )
        raise ValueError(message)
    # Four frames to a frame's length where there is room for them, two in long recordings.
    hop = max(1, min(n_fft // 2, max(n_fft // 16, len(stretch) // max_columns)))
    n_frames = -(-len(stretch) // hop)
    columns = np.linspace(0, n_frames, min(n_frames, max_columns) + 1).astype(int)
    rows = np.linspace(0, len(chosen), min(len(chosen), max_rows) + 1).astype(int)[:-1]
    pixels = [
        np.maximum.reduceat(np.maximum.reduceat(power, edges, axis=0), rows, axis=1)
        for power, edges in _blocks(stretch, n_fft, hop, columns, slice(chosen[0], chosen[-1] + 1))
    ]
    peak = np.concatenate(pixels).T
    level_db = 10 * np.log10(np.maximum(peak, np.finfo(np.float32).tiny))
    level_db = np.maximum(level_db, FLOOR_DB)  # after the logarithm: the floor is exact
    shown_s = len(stretch) / sample_rate_hz
    begin_s = max(start_s, 0.0)
    return Spectrogram(level_db.astype(np.float32), begin_s, begin_s + shown_s, fmin_hz, fmax_hz)


def _blocks(
    samples: np.ndarray, n_fft: int, hop: int, columns: np.ndarray, bins: slice
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Power `[frame, bin]` of the frames of some columns, and where each column begins in it."""
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    scale = (2.0 / window.sum()) ** 2  # a sine of full scale is 0 dB
    done = 0
    while done < len(columns) - 1:
        full = int(np.searchsorted(columns, columns[done] + _BLOCK_FRAMES, side="right")) - 1
        until = min(max(full, done + 1), len(columns) - 1)
        first, last = int(columns[done]), int(columns[until])
        begin = first * hop - n_fft // 2  # frames are centred
        end = (last - 1) * hop + n_fft - n_fft // 2
        piece = np.pad(
            samples[max(begin, 0) : end], (max(-begin, 0), max(end - len(samples), 0))
        ).astype(np.float32, copy=False)
        frames = np.lib.stride_tricks.sliding_window_view(piece, n_fft)[::hop]
        spectrum = np.fft.rfft(frames * window, axis=1)[:, bins]
        yield scale * (spectrum.real**2 + spectrum.imag**2), columns[done:until] - first
        done = until


def colour_limits_db(level_db: np.ndarray) -> tuple[float, float]:
    """Levels between which a picture has contrast: from the quiet background to the peaks."""
    heard = level_db[level_db > FLOOR_DB]
    if not len(heard):
        return FLOOR_DB, FLOOR_DB + 20.0
    low, high = np.percentile(heard, [35, 99.8])
    low = max(low, high - 70.0)
    return float(min(low, high - 20.0)), float(high)
