# ruff: noqa: PLR0917, FURB136 - called by position; `min` and `max` of Python do not vectorise
"""The loops of the fused pass: plain Python here, compiled by `kernel_cache`.

Frames are handled in groups of `LANES`: every array of a group is `[bin, lane]`, the lanes
being neighbouring frames. Each step then does the same to all lanes, so it fills the vector
registers, and sums over bins keep the order of a plain loop in every lane. Only sums over
lanes are allowed to be reordered (`reassoc`, `contract`), never the rules for NaN and
infinity.

A kernel names no module but numpy and math, and other kernels: `kernel_cache`
compiles those into it, so that its machine code stands alone in the cache. Arguments called `out_*`, and what the docstring says so of,
are written to.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

LANES = 16
_MANTISSA = (1 << 52) - 1
_ONE = 1023 << 52  # the exponent bits of 1.0
_TINY = float(np.finfo(np.float64).tiny)


def frame_block(
    samples: np.ndarray,
    window: np.ndarray,
    first: int,
    hop: int,
    n_frames: int,
    out_frames: np.ndarray,
) -> None:
    """Cut windowed frames `[row, sample]`, centred and padded with zeros."""
    n_fft = window.shape[0]
    n_samples = samples.shape[0]
    for row in range(out_frames.shape[0]):
        out = out_frames[row]
        start = (first + row) * hop - n_fft // 2
        low = max(0, -start)
        high = min(n_fft, n_samples - start)
        if first + row >= n_frames or high <= low:
            out[:] = 0.0
            continue
        out[:low] = 0.0
        heard = samples[start + low : start + high]
        weights = window[low:high]
        into = out[low:high]
        for i in range(high - low):
            into[i] = weights[i] * heard[i]
        out[high:] = 0.0


def power_lanes(
    spectrum: np.ndarray, with_magnitude: bool, out_power: np.ndarray, out_magnitude: np.ndarray
) -> None:
    """Turn `[row, 2 * bin]` (real, imaginary) into power and magnitude `[group, bin, lane]`.

    Both are rounded to float32 (6e-8 of each value): what float64 is needed for, faint bins
    beside loud ones, is over with the transform, and half the bytes stay in the cache.
    """
    n_bins = out_power.shape[1]
    for group in range(out_power.shape[0]):
        for k in range(n_bins):
            power = out_power[group, k]
            for lane in range(LANES):
                real = spectrum[group * LANES + lane, 2 * k]
                imaginary = spectrum[group * LANES + lane, 2 * k + 1]
                power[lane] = real * real + imaginary * imaginary
        if with_magnitude:
            flat = out_power[group].reshape(n_bins * LANES)
            roots = out_magnitude[group].reshape(n_bins * LANES)
            for i in range(n_bins * LANES):
                roots[i] = math.sqrt(flat[i])


def power_rows(spectrum: np.ndarray, bands: np.ndarray, first: int, out_rows: np.ndarray) -> None:
    """Power of each frame in float32, band after band, to be sorted: `[frame, place]`.

    A band's bins stand behind those of the band before; a bin may be in two bands.
    """
    for r in range(min(spectrum.shape[0], out_rows.shape[0] - first)):
        row = spectrum[r]
        place = 0
        for band in range(bands.shape[0]):
            low = bands[band, 0]
            width = bands[band, 1] - low
            out = out_rows[first + r, place : place + width]
            heard = row[2 * low : 2 * (low + width)]
            for k in range(width):
                out[k] = heard[2 * k] * heard[2 * k] + heard[2 * k + 1] * heard[2 * k + 1]
            place += width


def mel_lanes(
    power: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    offsets: np.ndarray,
    weights: np.ndarray,
    first: int,
    out_mel: np.ndarray,
) -> None:
    """Weigh power `[group, bin, lane]` into mel bands `[mel, frame]`."""
    total = np.empty(LANES, np.float32)
    for group in range(power.shape[0]):
        at = first + group * LANES
        for m in range(starts.shape[0]):
            total[:] = 0.0
            for k in range(starts[m], stops[m]):
                weight = weights[offsets[m] + k - starts[m]]
                row = power[group, k]
                for lane in range(LANES):
                    total[lane] += weight * row[lane]
            out = out_mel[m]
            for lane in range(LANES):
                out[at + lane] = total[lane]


def shape_lanes(  # noqa: C901, PLR0915 - unrolled
    magnitude: np.ndarray, frequencies: np.ndarray, first: int, out_series: np.ndarray
) -> None:
    """Centroid, bandwidth, and rolloff at 85 and 95 %: `[4, frame]`."""
    n_bins = magnitude.shape[1]
    total = np.empty(LANES)
    moment = np.empty(LANES)
    running = np.empty(LANES)
    share85 = np.empty(LANES)
    share95 = np.empty(LANES)
    below85 = np.empty(LANES)
    below95 = np.empty(LANES)
    spread = np.empty(LANES)
    fours = n_bins // 4 * 4
    for group in range(magnitude.shape[0]):
        heard = magnitude[group]
        total[:] = 0.0
        moment[:] = 0.0
        for k in range(0, fours, 4):
            one, two, three, four = heard[k], heard[k + 1], heard[k + 2], heard[k + 3]
            at_hz = frequencies[k]
            step_hz = frequencies[1]
            for lane in range(LANES):
                a = np.float64(one[lane])
                b = np.float64(two[lane])
                c = np.float64(three[lane])
                d = np.float64(four[lane])
                four_bins = (a + b) + (c + d)
                total[lane] += four_bins
                moment[lane] += at_hz * four_bins + step_hz * (b + (2.0 * c + 3.0 * d))
        for k in range(fours, n_bins):
            row = heard[k]
            for lane in range(LANES):
                total[lane] += row[lane]
                moment[lane] += frequencies[k] * row[lane]
        for lane in range(LANES):
            moment[lane] = moment[lane] / total[lane] if total[lane] > 0.0 else 0.0
            share85[lane] = 0.85 * total[lane]
            share95[lane] = 0.95 * total[lane]
        running[:] = 0.0
        below85[:] = 0.0
        below95[:] = 0.0
        spread[:] = 0.0
        for k in range(0, fours, 4):
            one, two, three, four = heard[k], heard[k + 1], heard[k + 2], heard[k + 3]
            for lane in range(LANES):
                # The running sum only rises, so the bins below the share count up to it.
                after1 = running[lane] + one[lane]
                after2 = after1 + two[lane]
                after3 = after2 + three[lane]
                after4 = after3 + four[lane]
                running[lane] = after4
                share = share85[lane]
                below85[lane] += (1.0 if after1 < share else 0.0) + (1.0 if after2 < share else 0.0)
                below85[lane] += (1.0 if after3 < share else 0.0) + (1.0 if after4 < share else 0.0)
                share = share95[lane]
                below95[lane] += (1.0 if after1 < share else 0.0) + (1.0 if after2 < share else 0.0)
                below95[lane] += (1.0 if after3 < share else 0.0) + (1.0 if after4 < share else 0.0)
            for lane in range(LANES):
                away1 = frequencies[k] - moment[lane]
                away2 = frequencies[k + 1] - moment[lane]
                away3 = frequencies[k + 2] - moment[lane]
                away4 = frequencies[k + 3] - moment[lane]
                low = one[lane] * away1 * away1 + two[lane] * away2 * away2
                high = three[lane] * away3 * away3 + four[lane] * away4 * away4
                spread[lane] += low + high
        for k in range(fours, n_bins):
            row = heard[k]
            for lane in range(LANES):
                running[lane] += row[lane]
                below85[lane] += 1.0 if running[lane] < share85[lane] else 0.0
                below95[lane] += 1.0 if running[lane] < share95[lane] else 0.0
                away1 = frequencies[k] - moment[lane]
                spread[lane] += row[lane] * away1 * away1
        at = first + group * LANES
        top = n_bins - 1
        for lane in range(LANES):
            width = spread[lane] / total[lane] if total[lane] > 0.0 else 0.0
            out_series[0, at + lane] = moment[lane]
            out_series[1, at + lane] = math.sqrt(width)
            out_series[2, at + lane] = frequencies[min(int(below85[lane]), top)]
            out_series[3, at + lane] = frequencies[min(int(below95[lane]), top)]


def flatness_lanes(  # noqa: C901 - unrolled
    power: np.ndarray,
    low: int,
    high: int,
    floor: float,
    relative_floor: float,
    first: int,
    out_frames: np.ndarray,
) -> None:
    """Geometric over arithmetic mean of power in the bins `[low, high)`: `[frame]`.

    Powers below `floor`, or below `relative_floor` times the frame's mean, count as it.
    """
    n_bins = high - low
    scale = np.empty(LANES)
    least = np.empty(LANES)
    total = np.empty(LANES)
    product = np.empty(LANES)
    bits = product.view(np.int64)
    exponent = np.empty(LANES, np.int64)
    for group in range(power.shape[0]):
        least[:] = floor
        scale[:] = 1.0
        heard = power[group, low:high]
        fours = n_bins // 4 * 4
        if relative_floor > 0.0:
            total[:] = 0.0
            for k in range(n_bins):
                row = heard[k]
                for lane in range(LANES):
                    total[lane] += row[lane]
            for lane in range(LANES):
                mean = total[lane] / n_bins
                scale[lane] = 1.0 / mean if mean > _TINY else 0.0
                least[lane] = relative_floor if mean > _TINY else 1.0
        total[:] = 0.0
        product[:] = 1.0
        exponent[:] = 0
        for k in range(0, fours, 4):
            one = heard[k]
            two = heard[k + 1]
            three = heard[k + 2]
            four = heard[k + 3]
            for lane in range(LANES):
                a = one[lane] * scale[lane]
                b = two[lane] * scale[lane]
                c = three[lane] * scale[lane]
                d = four[lane] * scale[lane]
                a = a if a > least[lane] else least[lane]
                b = b if b > least[lane] else least[lane]
                c = c if c > least[lane] else least[lane]
                d = d if d > least[lane] else least[lane]
                total[lane] += (a + b) + (c + d)
                product[lane] *= (a * b) * (c * d)
            if k % 16 == 12:  # noqa: PLR2004 - every 16 bins; a product of so many cannot overflow
                # One logarithm a frame: exponents are summed as integers on the way.
                for lane in range(LANES):
                    exponent[lane] += (bits[lane] >> 52) - 1023
                    bits[lane] = (bits[lane] & _MANTISSA) | _ONE
        for k in range(fours, n_bins):
            row = heard[k]
            for lane in range(LANES):
                a = row[lane] * scale[lane]
                a = a if a > least[lane] else least[lane]
                total[lane] += a
                product[lane] *= a
        at = first + group * LANES
        for lane in range(LANES):
            log_mean = (exponent[lane] * math.log(2.0) + math.log(product[lane])) / n_bins
            out_frames[at + lane] = min(math.exp(log_mean) / (total[lane] / n_bins), 1.0)


def bin_sums(
    magnitude: np.ndarray,
    power: np.ndarray,
    first: int,
    n_frames: int,
    last: np.ndarray,
    out_sums: np.ndarray,
) -> None:
    """Add a block to the sums over frames of magnitude, power and change: `[3, bin]`.

    `last [bin]` holds the magnitudes of the frame before the block, and is moved on.
    """
    for group in range(power.shape[0]):
        at = first + group * LANES
        lanes = min(LANES, n_frames - at)
        if lanes <= 0:
            break
        for k in range(power.shape[1]):
            row = magnitude[group, k]
            energies = power[group, k]
            loudness = np.float32(0.0)
            energy = np.float32(0.0)
            change = np.float32(0.0)
            if lanes == LANES:
                for lane in range(LANES):
                    loudness += row[lane]
                    energy += energies[lane]
                for lane in range(1, LANES):
                    change += abs(row[lane] - row[lane - 1])
            else:
                for lane in range(lanes):
                    loudness += row[lane]
                    energy += energies[lane]
                for lane in range(1, lanes):
                    change += abs(row[lane] - row[lane - 1])
            if at > 0:
                change += abs(row[0] - last[k])
            last[k] = row[lanes - 1]
            out_sums[0, k] += loudness
            out_sums[1, k] += energy
            out_sums[2, k] += change


def band_power(power: np.ndarray, low: int, high: int, first: int, out_frames: np.ndarray) -> None:
    """Power of each frame within the bins `[low, high)`: `[frame]`."""
    total = np.empty(LANES)
    for group in range(power.shape[0]):
        total[:] = 0.0
        heard = power[group, low:high]
        fours = heard.shape[0] // 4 * 4
        for k in range(0, fours, 4):
            one = heard[k]
            two = heard[k + 1]
            three = heard[k + 2]
            four = heard[k + 3]
            for lane in range(LANES):
                total[lane] += (one[lane] + two[lane]) + (three[lane] + four[lane])
        for k in range(fours, heard.shape[0]):
            row = heard[k]
            for lane in range(LANES):
                total[lane] += row[lane]
        at = first + group * LANES
        for lane in range(LANES):
            out_frames[at + lane] = total[lane]


def loudest_cell(power: np.ndarray, low: int, high: int) -> float:
    """Largest power within the bins `[low, high)`."""
    loudest = np.zeros(LANES, power.dtype)
    for group in range(power.shape[0]):
        for k in range(low, high):
            row = power[group, k]
            for lane in range(LANES):
                loudest[lane] = row[lane] if row[lane] > loudest[lane] else loudest[lane]
    return float(loudest.max())


def count_above(
    power: np.ndarray, threshold: np.float32, low: int, high: int, out_counts: np.ndarray
) -> None:
    """Number of frames in which each bin of `[low, high)` reaches a power: `[bin]`."""
    out_counts[:] = 0
    for group in range(power.shape[0]):
        for k in range(low, high):
            row = power[group, k]
            count = 0
            for lane in range(LANES):
                count += 1 if row[lane] >= threshold else 0
            out_counts[k - low] += count


ORDERED: frozenset[str] = frozenset({"contract"})
REORDERED: frozenset[str] = frozenset({"reassoc", "nsz", "contract"})
PART = ""  # called by other kernels only: compiled for the types that they give
Kernel = tuple[Callable[..., float | None], str, frozenset[str]]

LANE_KERNELS: dict[str, Kernel] = {
    "frame_block": (frame_block, "void(f4[::1], F[::1], i8, i8, i8, F[:, ::1])", ORDERED),
    "power_lanes": (power_lanes, "void(F[:, ::1], b1, f4[:, :, ::1], f4[:, :, ::1])", ORDERED),
    "mel_lanes": (
        mel_lanes,
        "void(f4[:, :, ::1], i8[::1], i8[::1], i8[::1], f4[::1], i8, f8[:, ::1])",
        ORDERED,
    ),
    "shape_lanes": (shape_lanes, PART, ORDERED),
    "flatness_lanes": (flatness_lanes, PART, ORDERED),
    "power_rows": (power_rows, PART, ORDERED),
    "bin_sums": (bin_sums, PART, REORDERED),
    "band_power": (band_power, PART, ORDERED),
    "loudest_cell": (loudest_cell, PART, ORDERED),
    "count_above": (count_above, PART, REORDERED),
}
"""Name -> function, types of its arguments (`F` is the precision of the transform), and which
reorderings of sums its compiler may make."""
