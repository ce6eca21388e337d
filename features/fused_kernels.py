"""The loops of the fused pass: plain Python here, compiled by `kernel_cache`.

Frames are handled in groups of `LANES`: every array of a group is `[bin, lane]`, the lanes
being neighbouring frames. Each step then does the same to all lanes, so it fills the vector
registers, and sums over bins keep the order of a plain loop in every lane. Only sums over
lanes are allowed to be reordered (`reassoc`, `contract`), never the rules for NaN and
infinity.

A kernel calls no other kernel and names no module but numpy and math, so that its machine
code stands alone in the cache. Arguments called `out_*`, and what the docstring says so of,
are written to.
"""

from __future__ import annotations

import math

import numpy as np

LANES = 16
_MANTISSA = (1 << 52) - 1
_ONE = 1023 << 52  # the exponent bits of 1.0


def frame_block(samples, window, first, hop, n_frames, out_frames):
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


def power_lanes(spectrum, with_magnitude, out_power, out_magnitude):
    """Turn `[row, 2 * bin]` (real, imaginary) into power and magnitude `[group, bin, lane]`."""
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


def power_rows(spectrum, bands, first, out_rows):
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


def mel_lanes(power, starts, stops, offsets, weights, first, out_mel):
    """Weigh power `[group, bin, lane]` into mel bands `[mel, frame]`."""
    total = np.empty(LANES, power.dtype)
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


def shape_lanes(magnitude, frequencies, first, out_series):
    """Centroid, bandwidth, and rolloff at 85 and 95 %: `[4, frame]`."""
    n_bins = magnitude.shape[1]
    total = np.empty(LANES)
    moment = np.empty(LANES)
    running = np.empty(LANES)
    below85 = np.empty(LANES)
    below95 = np.empty(LANES)
    spread = np.empty(LANES)
    for group in range(magnitude.shape[0]):
        total[:] = 0.0
        moment[:] = 0.0
        for k in range(n_bins):
            row = magnitude[group, k]
            frequency = frequencies[k]
            for lane in range(LANES):
                total[lane] += row[lane]
                moment[lane] += frequency * row[lane]
        for lane in range(LANES):
            moment[lane] = moment[lane] / total[lane] if total[lane] > 0.0 else 0.0
        running[:] = 0.0
        below85[:] = 0.0
        below95[:] = 0.0
        spread[:] = 0.0
        for k in range(n_bins):
            row = magnitude[group, k]
            frequency = frequencies[k]
            for lane in range(LANES):
                # The running sum only rises, so the bins below the share count up to it.
                running[lane] += row[lane]
                below85[lane] += 1.0 if running[lane] < 0.85 * total[lane] else 0.0
                below95[lane] += 1.0 if running[lane] < 0.95 * total[lane] else 0.0
                away = frequency - moment[lane]
                spread[lane] += row[lane] * away * away
        at = first + group * LANES
        top = n_bins - 1
        for lane in range(LANES):
            width = spread[lane] / total[lane] if total[lane] > 0.0 else 0.0
            out_series[0, at + lane] = moment[lane]
            out_series[1, at + lane] = math.sqrt(width)
            out_series[2, at + lane] = frequencies[min(int(below85[lane]), top)]
            out_series[3, at + lane] = frequencies[min(int(below95[lane]), top)]


def flatness_lanes(power, low, high, floor, relative_floor, first, out_frames):
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
        if relative_floor > 0.0:
            total[:] = 0.0
            for k in range(low, high):
                row = power[group, k]
                for lane in range(LANES):
                    total[lane] += row[lane]
            for lane in range(LANES):
                mean = total[lane] / n_bins
                scale[lane] = 1.0 / mean if mean > 2.3e-308 else 0.0
                least[lane] = relative_floor if mean > 2.3e-308 else 1.0
        total[:] = 0.0
        product[:] = 1.0
        exponent[:] = 0
        for k in range(low, high):
            row = power[group, k]
            for lane in range(LANES):
                value = row[lane] * scale[lane]
                value = value if value > least[lane] else least[lane]
                total[lane] += value
                product[lane] *= value
            if k % 16 == 15 or k == high - 1:
                # One logarithm a frame: exponents are summed as integers on the way.
                for lane in range(LANES):
                    exponent[lane] += (bits[lane] >> 52) - 1023
                    bits[lane] = (bits[lane] & _MANTISSA) | _ONE
        at = first + group * LANES
        for lane in range(LANES):
            log_mean = (exponent[lane] * math.log(2.0) + math.log(product[lane])) / n_bins
            out_frames[at + lane] = min(math.exp(log_mean) / (total[lane] / n_bins), 1.0)


def extreme_rows(rows, bands, n_frames, out_peaks, out_valleys):
    """Mean magnitude of the loudest and softest bins of each band: `[band, frame]`.

    Args:
        rows: as `power_rows` lays them out, sorted within bands that count several bins.
        bands: first bin, end bin and how many bins count, `[band, 3]`.
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


def bin_sums(magnitude, power, first, n_frames, last, out_sums):
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
            loudness = 0.0
            energy = 0.0
            change = 0.0
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


def band_power(power, low, high, first, out_frames):
    """Power of each frame within the bins `[low, high)`: `[frame]`."""
    total = np.empty(LANES)
    for group in range(power.shape[0]):
        total[:] = 0.0
        for k in range(low, high):
            row = power[group, k]
            for lane in range(LANES):
                total[lane] += row[lane]
        at = first + group * LANES
        for lane in range(LANES):
            out_frames[at + lane] = total[lane]


def keep_cells(power, low, high, out_cells):
    """Copy the bins `[low, high)` in float32; returns the largest power among them."""
    loudest = np.zeros(LANES, power.dtype)
    for group in range(power.shape[0]):
        for k in range(low, high):
            row = power[group, k]
            out = out_cells[group, k - low]
            for lane in range(LANES):
                out[lane] = row[lane]
                loudest[lane] = row[lane] if row[lane] > loudest[lane] else loudest[lane]
    return loudest.max()


def count_above(cells, threshold, out_counts):
    """Number of frames in which each bin of `cells [group, bin, lane]` reaches a power."""
    out_counts[:] = 0
    for group in range(cells.shape[0]):
        for k in range(cells.shape[1]):
            row = cells[group, k]
            count = 0
            for lane in range(LANES):
                count += 1 if row[lane] >= threshold else 0
            out_counts[k] += count


def row_moments(rows, n_frames, out_means, out_deviations):
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


def weigh_rows(weights, rows, n_frames, out_rows):
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


def delta_deviations(rows, n_frames, slope, curve, out_slopes, out_curves):
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


def smooth_rows(mel, n_frames, scale, decay, frames_to_next, floor, state, out_smooth):
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


def compress_rows(mel, gains, n_frames, scale, bias, width, out_bands):
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


def count_active(rows, floors, n_frames, active, out_frames):
    """Rows that lie more than `active` above their floor, in each frame: `[frame]`."""
    out_frames[:] = 0
    for r in range(rows.shape[0]):
        row = rows[r]
        threshold = floors[r]
        for t in range(n_frames):
            out_frames[t] += 1 if row[t] - threshold > active else 0


def rises(mel_db, n_frames, out_rises):
    """Mean over mel bands of the rise since the frame before: `[frame - 1]`."""
    out_rises[: n_frames - 1] = 0.0
    for m in range(mel_db.shape[0]):
        row = mel_db[m]
        for t in range(n_frames - 1):
            out_rises[t] += max(row[t + 1] - row[t], 0.0)
    for t in range(n_frames - 1):
        out_rises[t] /= mel_db.shape[0]


def autocorrelations(series, first_lag, out_products):
    """Products of `series` with itself at successive lags, from `first_lag` on."""
    n = series.shape[0]
    for i in range(out_products.shape[0]):
        lag = first_lag + i
        later = series[lag:]
        total = 0.0
        for t in range(n - lag):
            total += later[t] * series[t]
        out_products[i] = total


def wave_sums(samples, step, out_squares, out_changes, out_whole):
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
            clipped += 1 if abs(value) >= 0.999 else 0
        whole = heard.shape[0] // LANES * LANES
        for i in range(0, whole, LANES):
            for lane in range(LANES):
                modulus = abs(heard[i + lane])
                loudest[lane] = modulus if modulus > loudest[lane] else loudest[lane]
        for i in range(whole, heard.shape[0]):
            loudest[0] = max(loudest[0], abs(heard[i]))
        count = 0
        if piece > 0 and (heard[0] < -1e-10) != (samples[piece * step - 1] < -1e-10):
            count = 1
        for i in range(1, heard.shape[0]):
            count += 1 if (heard[i] < -1e-10) != (heard[i - 1] < -1e-10) else 0
        out_squares[piece] = squares
        out_changes[piece] = count
    out_whole[0] = loudest.max()
    out_whole[1] = clipped


def wave_frames(samples, squares, changes, step, n_fft, hop, out_crossings, out_roots):
    """Zero-crossing rate and RMS of each frame, from the sums of `wave_sums`."""
    n = samples.shape[0]
    for t in range(out_roots.shape[0]):
        start = t * hop - n_fft // 2
        energy = 0.0
        count = 0
        for piece in range(max(start, 0) // step, min(start + n_fft, n + step - 1) // step):
            energy += squares[piece]
            count += changes[piece]
        if 0 < start < n and (samples[start] < -1e-10) != (samples[start - 1] < -1e-10):
            count -= 1  # the change from before the frame into it
        out_crossings[t] = count / n_fft
        out_roots[t] = math.sqrt(energy / n_fft)


_ORDERED = frozenset({"contract"})
_REORDERED = frozenset({"reassoc", "nsz", "contract"})

KERNELS = {
    "frame_block": (frame_block, "void(f4[::1], F[::1], i8, i8, i8, F[:, ::1])", _ORDERED),
    "power_lanes": (power_lanes, "void(F[:, ::1], b1, F[:, :, ::1], F[:, :, ::1])", _ORDERED),
    "mel_lanes": (
        mel_lanes,
        "void(F[:, :, ::1], i8[::1], i8[::1], i8[::1], F[::1], i8, F[:, ::1])",
        _ORDERED,
    ),
    "shape_lanes": (shape_lanes, "void(F[:, :, ::1], f8[::1], i8, f8[:, ::1])", _ORDERED),
    "flatness_lanes": (
        flatness_lanes,
        "void(F[:, :, ::1], i8, i8, f8, f8, i8, f8[::1])",
        _ORDERED,
    ),
    "power_rows": (power_rows, "void(F[:, ::1], i8[:, ::1], i8, f4[:, ::1])", _ORDERED),
    "extreme_rows": (
        extreme_rows,
        "void(f4[:, ::1], i8[:, ::1], i8, f8[:, ::1], f8[:, ::1])",
        _ORDERED,
    ),
    "bin_sums": (
        bin_sums,
        "void(F[:, :, ::1], F[:, :, ::1], i8, i8, F[::1], f8[:, ::1])",
        _REORDERED,
    ),
    "band_power": (band_power, "void(F[:, :, ::1], i8, i8, i8, f8[::1])", _ORDERED),
    "keep_cells": (keep_cells, "f8(F[:, :, ::1], i8, i8, f4[:, :, ::1])", _ORDERED),
    "count_above": (count_above, "void(f4[:, :, ::1], f4, i8[::1])", _REORDERED),
    "row_moments": (row_moments, "void(f8[:, ::1], i8, f8[::1], f8[::1])", _REORDERED),
    "weigh_rows": (weigh_rows, "void(f8[:, ::1], f8[:, ::1], i8, f8[:, ::1])", _ORDERED),
    "delta_deviations": (
        delta_deviations,
        "void(f8[:, ::1], i8, f8[::1], f8[::1], f8[::1], f8[::1])",
        _REORDERED,
    ),
    "smooth_rows": (
        smooth_rows,
        "void(f8[:, ::1], i8, f8, f8, i8, f8, f8[::1], f8[:, ::1])",
        _ORDERED,
    ),
    "compress_rows": (
        compress_rows,
        "void(f8[:, ::1], f8[:, ::1], i8, f8, f8, i8, f8[:, ::1])",
        _ORDERED,
    ),
    "count_active": (count_active, "void(f8[:, ::1], f8[::1], i8, f8, i8[::1])", _ORDERED),
    "rises": (rises, "void(f8[:, ::1], i8, f8[::1])", _ORDERED),
    "autocorrelations": (autocorrelations, "void(f8[::1], i8, f8[::1])", _REORDERED),
    "wave_sums": (wave_sums, "void(f4[::1], i8, f8[::1], i8[::1], f8[::1])", _REORDERED),
    "wave_frames": (
        wave_frames,
        "void(f4[::1], f8[::1], i8[::1], i8, i8, i8, f8[::1], f8[::1])",
        _ORDERED,
    ),
}
"""Name -> function, types of its arguments (`F` is the precision of the pass), and which
reorderings of sums its compiler may make."""
