# ruff: noqa: PLR0917, FURB136 - called by position; see fused_kernels.py
"""Kernels made of kernels: one call reads a whole window, and holds no lock while it does.

Every call from Python gives up the interpreter's lock and takes it again. Two threads that
do so every few microseconds wait for each other more than they work, so what follows from
one transform is one call here. `kernel_cache` compiles the kernels that are called here into
the machine code of the caller, each under its own rules for the reordering of sums.

The rules of fused_kernels.py hold here too, but for calls of other kernels.
"""

from __future__ import annotations

import numpy as np

from birdstack.features.fused_kernels import (
    LANES,
    ORDERED,
    REORDERED,
    Kernel,
    band_power,
    bin_sums,
    count_above,
    flatness_lanes,
    loudest_cell,
    mel_lanes,
    power_lanes,
    power_rows,
    shape_lanes,
)
from birdstack.features.fused_powers import exponentials, high_cell, natural_logs
from birdstack.features.fused_row_kernels import (
    autocorrelations,
    compress_rows,
    count_active,
    delta_deviations,
    extreme_rows,
    level_rows,
    rises,
    row_moments,
    smooth_rows,
    wave_frames,
    wave_sums,
    weigh_rows,
)

# Places in `wanted`, the readings of a block that somebody needs.
MEL, SHAPE, FLATNESS, CONTRAST, BINS, INDEX, CELLS, SONG = range(8)
# Places in `wanted` of `mel_readings`.
CEPSTRUM, BANDS, RISES = range(3)
_FLATNESS_FLOOR = 1e-10  # librosa's amin
_BAND_FLATNESS_FLOOR = 1e-8  # of the frame's mean
_PCEN_GAIN, _PCEN_BIAS, _PCEN_FLOOR = 0.98, 2.0, 1e-6  # librosa's defaults
_LEAST = 1e-30  # mel power whose logarithm is taken
_CELL_FLOOR = 1e-5  # 50 dB below the loudest


def read_block(
    spectrum: np.ndarray,
    wanted: np.ndarray,
    first: int,
    n_frames: int,
    limits: np.ndarray,
    frequencies: np.ndarray,
    bands: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    offsets: np.ndarray,
    weights: np.ndarray,
    magnitude: np.ndarray,
    last: np.ndarray,
    out_power: np.ndarray,
    out_mel: np.ndarray,
    out_series: np.ndarray,
    out_rows: np.ndarray,
    out_sums: np.ndarray,
    out_frames: np.ndarray,
    out_loudest: np.ndarray,
) -> None:
    """Read all that is `wanted` off a block of spectra, group by group in the cache.

    `limits` holds first and end bin of the indices' band and of the song band. Sums and
    `out_loudest` are added to; `magnitude [1, bin, lane]` and `last [bin]` are scratch, and
    `last` is carried from block to block of a window.
    """
    n_bins = out_power.shape[1]
    low, high = limits[0], limits[1]
    for group in range(out_power.shape[0]):
        heard = spectrum[group * LANES : (group + 1) * LANES]
        power = out_power[group : group + 1]
        at = first + group * LANES
        power_lanes(heard, wanted[SHAPE] or wanted[BINS], power, magnitude)
        if wanted[MEL]:
            mel_lanes(power, starts, stops, offsets, weights, at, out_mel)
        if wanted[SHAPE]:
            shape_lanes(magnitude, frequencies, at, out_series)
        if wanted[FLATNESS]:
            flatness_lanes(power, 0, n_bins, _FLATNESS_FLOOR, 0.0, at, out_series[4])
            flatness_lanes(power, low, high, 0.0, _BAND_FLATNESS_FLOOR, at, out_series[5])
        if wanted[CONTRAST]:
            power_rows(heard, bands, at, out_rows)
        if wanted[BINS]:
            bin_sums(magnitude, power, at, n_frames, last, out_sums)
        if wanted[INDEX]:
            band_power(power, low, high, at, out_frames[0])
        if wanted[SONG]:
            band_power(power, limits[2], limits[3], at, out_frames[1])
        if wanted[CELLS]:
            loudest = loudest_cell(power, low, high)
            out_loudest[0] = loudest if loudest > out_loudest[0] else out_loudest[0]


def close_window(
    wanted: np.ndarray,
    power: np.ndarray,
    loudest: np.ndarray,
    limits: np.ndarray,
    rows: np.ndarray,
    bands: np.ndarray,
    n_frames: int,
    out_counts: np.ndarray,
    out_extremes: np.ndarray,
) -> None:
    """What can be read only when all of a window is known: cells near its loudest, extremes.

    `rows` are sorted as `extreme_rows` asks; `out_extremes` is `[2, band, frame]`, loudest
    bins first.
    """
    if wanted[CELLS]:
        threshold = np.float32(loudest[0] * _CELL_FLOOR)
        count_above(power, threshold, limits[0], limits[1], out_counts)
    if wanted[CONTRAST]:
        extreme_rows(rows, bands, n_frames, out_extremes[0], out_extremes[1])


def wave_readings(
    samples: np.ndarray,
    step: int,
    n_fft: int,
    hop: int,
    squares: np.ndarray,
    changes: np.ndarray,
    out_whole: np.ndarray,
    out_wave: np.ndarray,
) -> None:
    """Crossings and RMS of each frame, `[2, frame]`; peak, clipped samples, sum of squares."""
    wave_sums(samples, step, squares, changes, out_whole)
    total = 0.0
    for piece in range(squares.shape[0]):
        total += squares[piece]
    out_whole[2] = total
    wave_frames(samples, squares, changes, step, n_fft, hop, out_wave[0], out_wave[1])


def mel_readings(
    mel: np.ndarray,
    wanted: np.ndarray,
    n_frames: int,
    floor_db: float,
    top_db: float,
    levels: np.ndarray,
    relative: np.ndarray,
    cosines: np.ndarray,
    slope: np.ndarray,
    curve: np.ndarray,
    groups: np.ndarray,
    delay: int,
    logs: np.ndarray,
    scratch: np.ndarray,
    out_cepstrum: np.ndarray,
    out_bands: np.ndarray,
    out_shape: np.ndarray,
    out_strength: np.ndarray,
) -> None:
    """Levels of the mel bands, and what is summed over frames of them.

    Args:
        mel: mel power, `[mel, frame]`.
        wanted: which of `CEPSTRUM`, `BANDS`, `RISES`.
        n_frames: frames of the window; arrays may be wider.
        floor_db: lowest level.
        top_db: floor below the loudest.
        levels: takes the levels in dB, `[mel, frame]`.
        relative: takes the levels below the loudest.
        cosines: `[coefficient, mel]`.
        slope: weights of the first derivative.
        curve: weights of the second.
        groups: weights `[band, mel]` that average neighbouring bands.
        delay: frames by which onset strength is delayed.
        logs: scratch, `[mel, frame]`.
        scratch: `[row, frame]`, of as many rows as coefficients or bands at least.
        out_cepstrum: mean, deviation, deviations of slope and curvature, `[4, coefficient]`.
        out_bands: mean and deviation, `[2, band]`.
        out_shape: mean of `relative`, `[mel]`.
        out_strength: onset strength, `[frame]`.
    """
    natural_logs(mel, _LEAST, logs)
    level_rows(logs, floor_db, top_db, levels, relative)
    if wanted[CEPSTRUM]:
        rows = scratch[: cosines.shape[0]]
        weigh_rows(cosines, levels, n_frames, rows)
        row_moments(rows, n_frames, out_cepstrum[0], out_cepstrum[1])
        delta_deviations(rows, n_frames, slope, curve, out_cepstrum[2], out_cepstrum[3])
    if wanted[BANDS]:
        rows = scratch[: groups.shape[0]]
        weigh_rows(groups, levels, n_frames, rows)
        row_moments(rows, n_frames, out_bands[0], out_bands[1])
        row_moments(relative, n_frames, out_shape, np.empty(relative.shape[0]))
    if wanted[RISES]:
        rise = scratch[0]
        rises(levels, n_frames, rise)
        out_strength[: min(delay, n_frames)] = 0.0
        for t in range(delay, n_frames):
            out_strength[t] = rise[t - delay]


def pcen_readings(
    mel: np.ndarray,
    n_frames: int,
    scale: float,
    decay: float,
    frames_to_next: int,
    state: np.ndarray,
    width: int,
    gains: np.ndarray,
    scratch: np.ndarray,
    out_moments: np.ndarray,
) -> None:
    """Mean and deviation of PCEN averaged over `width` mel bands, `[2, band]`.

    `gains [mel, frame]` is scratch above 0; `state [mel]` is moved on to the next window.
    """
    bands = scratch[: out_moments.shape[1]]
    smooth_rows(mel, n_frames, scale, decay, frames_to_next, _PCEN_FLOOR, state, gains)
    natural_logs(gains, _LEAST, gains)
    exponentials(gains, -_PCEN_GAIN)
    compress_rows(mel, gains, n_frames, scale, _PCEN_BIAS, width, bands)
    row_moments(bands, n_frames, out_moments[0], out_moments[1])


def heights(
    in_order: np.ndarray,
    relative: np.ndarray,
    share: float,
    active_db: float,
    band_share: float,
    out_shares: np.ndarray,
) -> None:
    """Lower sorted levels `[mel, frame]` by their quantile `share`, the row's noise floor.

    `out_shares` takes the shares of cells more than `active_db` above their floor, and of
    frames in which more than `band_share` of the cells are, and the 95th percentile of the
    heights of cells, at least 0.
    """
    n_rows, n_frames = in_order.shape
    place = share * (n_frames - 1)
    below = int(place)
    above = min(below + 1, n_frames - 1)
    floors = np.empty(n_rows)
    for r in range(n_rows):
        row = in_order[r]
        floors[r] = row[below] + (row[above] - row[below]) * (place - below)
        for t in range(n_frames):
            row[t] -= floors[r]
    active = np.empty(n_frames, np.int64)
    count_active(relative, floors, n_frames, active_db, active)
    cells = 0
    frames = 0
    for t in range(n_frames):
        cells += active[t]
        frames += 1 if active[t] / n_rows > band_share else 0
    out_shares[0] = cells / (n_rows * n_frames)
    out_shares[1] = frames / n_frames
    out_shares[2] = max(high_cell(in_order, 0.95), 0.0)


def periodicities(
    rows: np.ndarray, first_lag: int, last_lag: int, least: float, out_largest: np.ndarray
) -> None:
    """Largest autocorrelation of each row at lags from the first to the last, both included.

    0 where the row varies by no more than rounding (`least` of its largest value squared).
    """
    n = rows.shape[1]
    products = np.empty(max(min(last_lag, n - 1) - first_lag + 1, 0))
    centred = np.empty(n)
    for r in range(rows.shape[0]):
        row = rows[r]
        total = 0.0
        for t in range(n):
            total += row[t]
        loudest = row.max()
        energy = 0.0
        for t in range(n):
            centred[t] = row[t] - total / n
            energy += centred[t] * centred[t]
        out_largest[r] = 0.0
        if energy > least * n * max(loudest * loudest, 1e-12) and len(products):
            autocorrelations(centred, first_lag, products)
            out_largest[r] = products.max() / energy


COMPOSITES: dict[str, Kernel] = {
    "read_block": (
        read_block,
        (
            "void(F[:, ::1], b1[::1], i8, i8, i8[::1], f8[::1], i8[:, ::1], i8[::1], i8[::1], i8[::1],"
            " f4[::1], f4[:, :, ::1], f4[::1], f4[:, :, ::1], f8[:, ::1], f8[:, ::1], f4[:, ::1],"
            " f8[:, ::1], f8[:, ::1], f8[::1])"
        ),
        ORDERED,
    ),
    "close_window": (
        close_window,
        (
            "void(b1[::1], f4[:, :, ::1], f8[::1], i8[::1], f4[:, ::1], i8[:, ::1], i8, i8[::1],"
            " f8[:, :, ::1])"
        ),
        ORDERED,
    ),
    "wave_readings": (
        wave_readings,
        "void(f4[::1], i8, i8, i8, f8[::1], i8[::1], f8[::1], f8[:, ::1])",
        REORDERED,
    ),
    "mel_readings": (
        mel_readings,
        (
            "void(f8[:, ::1], b1[::1], i8, f8, f8, f8[:, ::1], f8[:, ::1], f8[:, ::1], f8[::1],"
            " f8[::1], f8[:, ::1], i8, f8[:, ::1], f8[:, ::1], f8[:, ::1], f8[:, ::1], f8[::1], f8[::1])"
        ),
        ORDERED,
    ),
    "pcen_readings": (
        pcen_readings,
        "void(f8[:, ::1], i8, f8, f8, i8, f8[::1], i8, f8[:, ::1], f8[:, ::1], f8[:, ::1])",
        ORDERED,
    ),
    "heights": (heights, "void(f8[:, ::1], f8[:, ::1], f8, f8, f8, f8[::1])", ORDERED),
    "periodicities": (periodicities, "void(f8[:, ::1], i8, i8, f8, f8[::1])", REORDERED),
}
"""As `LANE_KERNELS`."""
