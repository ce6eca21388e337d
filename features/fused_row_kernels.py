# ruff: noqa: PLR0917, FURB136 - called by position; `min` and `max` of Python do not vectorise
"""Loops over series of frames and over samples: the second half of the kernels.

The rules of fused_kernels.py hold here too.
"""

from __future__ import annotations

import math

import numpy as np

from birdstack.features.fused_kernels import LANES, ORDERED, PART, REORDERED, Kernel

_NEGATIVE = -1e-10  # librosa's threshold: samples no larger count as zero, and zero as positive
_CLIPPED = 0.999


def extreme_rows(
    rows: np.ndarray,
    bands: np.ndarray,
    n_frames: int,
    out_peaks: np.ndarray,
    out_valleys: np.ndarray,
) -> None:
    """Mean magnitude of the loudest and softest bins of each band: `[band, frame]`.

    `rows` are as `power_rows` lays them out, sorted within bands that count several bins;
    `bands [band, 3]` holds first bin, end bin and how many bins count.
    """
    start = 0
    for band in range(bands.shape[0]):
        stop = start + bands[band, 1] - bands[band, 0]
        count = bands[band, 2]
        for t in range(n_frames):
            row = rows[t]
            peak = 0.0
            valley = 0.0
            if count == 1:
                softest = row[start]
                loudest = row[start]
                for k in range(start, stop):
                    softest = row[k] if row[k] < softest else softest
                    loudest = row[k] if row[k] > loudest else loudest
                peak = math.sqrt(loudest)
                valley = math.sqrt(softest)
            else:
                for i in range(count):
                    valley += math.sqrt(row[start + i])
                    peak += math.sqrt(row[stop - 1 - i])
            out_peaks[band, t] = peak / count
            out_valleys[band, t] = valley / count
        start = stop


def level_rows(
    logs: np.ndarray,
    floor_db: float,
    top_db: float,
    out_levels: np.ndarray,
    out_relative: np.ndarray,
) -> None:
    """Natural logarithms of power to dB: floored absolutely, and below the loudest.

    Both are floored `top_db` below the loudest of `logs [row, frame]` as well.
    """
    scale = 10.0 / math.log(10.0)
    flat = logs.reshape(logs.size)
    levels = out_levels.reshape(logs.size)
    relative = out_relative.reshape(logs.size)
    lanes = np.full(LANES, -np.inf)
    for i in range(0, logs.size // LANES * LANES, LANES):
        for lane in range(LANES):
            lanes[lane] = flat[i + lane] if flat[i + lane] > lanes[lane] else lanes[lane]
    loudest_db = scale * lanes.max()
    least_db = max(floor_db, max(loudest_db, floor_db) - top_db)
    for i in range(logs.size):
        level_db = scale * flat[i]
        below_db = level_db - loudest_db
        levels[i] = level_db if level_db > least_db else least_db
        relative[i] = below_db if below_db > -top_db else -top_db


def row_moments(
    rows: np.ndarray, n_frames: int, out_means: np.ndarray, out_deviations: np.ndarray
) -> None:
    """Mean and standard deviation over frames of each row."""
    for r in range(rows.shape[0]):
        row = rows[r]
        total = 0.0
        for t in range(n_frames):
            total += row[t]
        mean = total / n_frames
        squares = 0.0
        for t in range(n_frames):
            squares += (row[t] - mean) * (row[t] - mean)
        out_means[r] = mean
        out_deviations[r] = math.sqrt(squares / n_frames)


def weigh_rows(weights: np.ndarray, rows: np.ndarray, n_frames: int, out_rows: np.ndarray) -> None:
    """Product of `weights [out, row]` with `rows [row, frame]`, four rows at a time."""
    n_rows = rows.shape[0]
    whole = n_rows // 4 * 4
    for o in range(weights.shape[0]):
        out = out_rows[o, :n_frames]
        out[:] = 0.0
        for r in range(0, whole, 4):
            a = weights[o, r]
            b = weights[o, r + 1]
            c = weights[o, r + 2]
            d = weights[o, r + 3]
            if a != 0.0 or b != 0.0 or c != 0.0 or d != 0.0:
                first = rows[r, :n_frames]
                second = rows[r + 1, :n_frames]
                third = rows[r + 2, :n_frames]
                fourth = rows[r + 3, :n_frames]
                for t in range(n_frames):
                    pair = a * first[t] + b * second[t]
                    out[t] += pair + (c * third[t] + d * fourth[t])
        for r in range(whole, n_rows):
            row = rows[r, :n_frames]
            for t in range(n_frames):
                out[t] += weights[o, r] * row[t]


def delta_deviations(
    rows: np.ndarray,
    n_frames: int,
    slope: np.ndarray,
    curve: np.ndarray,
    out_slopes: np.ndarray,
    out_curves: np.ndarray,
) -> None:
    """Standard deviation of the local slope and curvature of each row.

    Where the fit does not reach past the ends, its derivative stands for the frames there.
    """
    width = slope.shape[0]
    inner = n_frames - width + 1
    fitted = np.empty(inner)
    edge = width // 2
    for r in range(rows.shape[0]):
        row = rows[r]
        for order in range(2):
            fitted[:] = 0.0
            for i in range(width):
                weight = slope[i] if order == 0 else curve[i]
                shifted = row[i : i + inner]
                for t in range(inner):
                    fitted[t] += weight * shifted[t]
            begin = fitted[0]
            end = fitted[inner - 1]
            total = edge * (begin + end)
            for t in range(inner):
                total += fitted[t]
            mean = total / n_frames
            squares = edge * ((begin - mean) ** 2 + (end - mean) ** 2)
            for t in range(inner):
                squares += (fitted[t] - mean) * (fitted[t] - mean)
            deviation = math.sqrt(squares / n_frames)
            if order == 0:
                out_slopes[r] = deviation
            else:
                out_curves[r] = deviation


def smooth_rows(
    mel: np.ndarray,
    n_frames: int,
    scale: float,
    decay: float,
    frames_to_next: int,
    floor: float,
    state: np.ndarray,
    out_smooth: np.ndarray,
) -> None:
    """`floor` plus the exponential mean of `mel * scale` over frames.

    Moves `state [mel]` on to the start of the next window.
    """
    keep = 1.0 - decay
    for m in range(mel.shape[0]):
        row = mel[m]
        out = out_smooth[m]
        carried = state[m]
        for t in range(n_frames):
            mean = decay * (row[t] * scale) + carried
            out[t] = mean + floor
            carried = keep * mean
            if t + 1 == frames_to_next:
                state[m] = carried
        if frames_to_next > n_frames:
            state[m] = carried


def compress_rows(
    mel: np.ndarray,
    gains: np.ndarray,
    n_frames: int,
    scale: float,
    bias: float,
    width: int,
    out_bands: np.ndarray,
) -> None:
    """Means over `width` neighbouring rows of `sqrt(mel scale gain + bias) - sqrt(bias)`."""
    root = math.sqrt(bias)
    for band in range(out_bands.shape[0]):
        out = out_bands[band]
        out[:] = 0.0
        for m in range(band * width, (band + 1) * width):
            row = mel[m]
            gain = gains[m]
            for t in range(n_frames):
                energy = row[t] * scale * gain[t]
                # The difference of roots, without its cancellation at small energies.
                out[t] += energy / (math.sqrt(energy + bias) + root)
        for t in range(n_frames):
            out[t] /= width


def count_active(
    rows: np.ndarray, floors: np.ndarray, n_frames: int, active: float, out_frames: np.ndarray
) -> None:
    """Rows that lie more than `active` above their floor, in each frame: `[frame]`."""
    out_frames[:] = 0
    for r in range(rows.shape[0]):
        row = rows[r]
        threshold = floors[r]
        for t in range(n_frames):
            out_frames[t] += 1 if row[t] - threshold > active else 0


def rises(mel_db: np.ndarray, n_frames: int, out_rises: np.ndarray) -> None:
    """Mean over mel bands of the rise since the frame before: `[frame - 1]`."""
    out_rises[: n_frames - 1] = 0.0
    for m in range(mel_db.shape[0]):
        row = mel_db[m]
        for t in range(n_frames - 1):
            out_rises[t] += max(row[t + 1] - row[t], 0.0)
    for t in range(n_frames - 1):
        out_rises[t] /= mel_db.shape[0]


def autocorrelations(series: np.ndarray, first_lag: int, out_products: np.ndarray) -> None:
    """Products of `series` with itself at successive lags, from `first_lag` on."""
    n = series.shape[0]
    for i in range(out_products.shape[0]):
        lag = first_lag + i
        later = series[lag:]
        total = 0.0
        for t in range(n - lag):
            total += later[t] * series[t]
        out_products[i] = total


def wave_sums(
    samples: np.ndarray,
    step: int,
    out_squares: np.ndarray,
    out_changes: np.ndarray,
    out_whole: np.ndarray,
) -> None:
    """Sums over pieces of `step` samples: squares and sign changes, `[piece]`.

    `out_whole` takes the largest modulus and the number of clipped samples. Frames are sums
    of whole pieces, exactly; differences of running sums would lose a soft frame after a
    loud one.
    """
    n = samples.shape[0]
    clipped = 0
    loudest = np.zeros(LANES, np.float32)
    for piece in range(out_squares.shape[0]):
        heard = samples[piece * step : min((piece + 1) * step, n)]
        squares = 0.0
        for i in range(heard.shape[0]):
            value = np.float64(heard[i])
            squares += value * value
            clipped += 1 if abs(value) >= _CLIPPED else 0
        whole = heard.shape[0] // LANES * LANES
        for i in range(0, whole, LANES):
            for lane in range(LANES):
                modulus = abs(heard[i + lane])
                loudest[lane] = modulus if modulus > loudest[lane] else loudest[lane]
        for i in range(whole, heard.shape[0]):
            loudest[0] = max(loudest[0], abs(heard[i]))
        count = 0
        if piece > 0 and (heard[0] < _NEGATIVE) != (samples[piece * step - 1] < _NEGATIVE):
            count = 1
        for i in range(1, heard.shape[0]):
            count += 1 if (heard[i] < _NEGATIVE) != (heard[i - 1] < _NEGATIVE) else 0
        out_squares[piece] = squares
        out_changes[piece] = count
    out_whole[0] = loudest.max()
    out_whole[1] = clipped


def wave_frames(
    samples: np.ndarray,
    squares: np.ndarray,
    changes: np.ndarray,
    step: int,
    n_fft: int,
    hop: int,
    out_crossings: np.ndarray,
    out_roots: np.ndarray,
) -> None:
    """Zero-crossing rate and RMS of each frame, from the sums of `wave_sums`."""
    n = samples.shape[0]
    for t in range(out_roots.shape[0]):
        start = t * hop - n_fft // 2
        energy = 0.0
        count = 0
        for piece in range(max(start, 0) // step, min(start + n_fft, n + step - 1) // step):
            energy += squares[piece]
            count += changes[piece]
        if 0 < start < n and (samples[start] < _NEGATIVE) != (samples[start - 1] < _NEGATIVE):
            count -= 1  # the change from before the frame into it
        out_crossings[t] = count / n_fft
        out_roots[t] = math.sqrt(energy / n_fft)


ROW_KERNELS: dict[str, Kernel] = {
    "level_rows": (level_rows, PART, ORDERED),
    "extreme_rows": (extreme_rows, PART, ORDERED),
    "row_moments": (row_moments, "void(f8[:, ::1], i8, f8[::1], f8[::1])", REORDERED),
    "weigh_rows": (weigh_rows, PART, ORDERED),
    "delta_deviations": (delta_deviations, PART, REORDERED),
    "smooth_rows": (smooth_rows, PART, ORDERED),
    "compress_rows": (compress_rows, PART, ORDERED),
    "count_active": (count_active, PART, ORDERED),
    "rises": (rises, PART, ORDERED),
    "autocorrelations": (autocorrelations, PART, REORDERED),
    "wave_sums": (wave_sums, PART, REORDERED),
    "wave_frames": (wave_frames, PART, ORDERED),
}
"""As `LANE_KERNELS`."""
