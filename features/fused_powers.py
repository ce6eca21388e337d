# ruff: noqa: FURB136 - `min` and `max` of Python do not vectorise
"""Logarithms and powers of whole arrays, in steps that fill the vector registers.

A compiler calls the C library for one logarithm at a time; numpy has fast loops, but each
is a call that hands the interpreter's lock over. The rules of fused_kernels.py hold here too.
"""

from __future__ import annotations

import numpy as np

from birdstack.features.fused_kernels import LANES, ORDERED, PART, Kernel

_LN_2 = float(np.log(2.0))
_ROOT_HALF = int(np.array(np.sqrt(0.5)).view(np.int64))
_ROUND = 1.5 * 2.0**52  # added and taken away, it leaves a whole number
_ROUND_BITS = int(np.array(_ROUND).view(np.int64))
_BIAS = 1023


def natural_logs(values: np.ndarray, floor: float, out_logs: np.ndarray) -> None:
    """Natural logarithms of `values`, at least `floor`, which is a normal number above 0.

    With `v = 2^e m` and `m` near 1, `log m = 2 artanh((m - 1) / (m + 1))` by its series: an
    error of 1e-14. `out_logs` may be `values`; both hold a whole number of `LANES`.
    """
    flat = values.reshape(values.size)
    logs = out_logs.reshape(values.size)
    number = np.empty(LANES)
    bits = number.view(np.int64)
    exponent = np.empty(LANES)
    for i in range(0, values.size, LANES):
        for lane in range(LANES):
            number[lane] = flat[i + lane] if flat[i + lane] > floor else floor
        for lane in range(LANES):
            power = (bits[lane] - _ROOT_HALF) >> 52
            bits[lane] -= power << 52
            exponent[lane] = power
        for lane in range(LANES):
            s = (number[lane] - 1.0) / (number[lane] + 1.0)
            z = s * s
            low = 1.0 + z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z * (1 / 9))))
            high = 1 / 11 + z * (1 / 13 + z * (1 / 15 + z * (1 / 17)))
            logs[i + lane] = exponent[lane] * _LN_2 + 2.0 * s * (low + z * z * z * z * z * high)


def exponentials(values: np.ndarray, scale: float) -> None:
    """Replace `values` by `exp(scale * values)`, which must be a normal number.

    With `x = k log 2 + r`, `exp x = 2^k exp r`, the latter by its series to the 12th power.
    """
    flat = values.reshape(values.size)
    whole = np.empty(LANES)
    bits = whole.view(np.int64)
    rest = np.empty(LANES)
    for i in range(0, values.size, LANES):
        for lane in range(LANES):
            whole[lane] = scale * flat[i + lane] / _LN_2 + _ROUND
        for lane in range(LANES):
            rest[lane] = scale * flat[i + lane] - (whole[lane] - _ROUND) * _LN_2
        for lane in range(LANES):
            bits[lane] = (bits[lane] - _ROUND_BITS + _BIAS) << 52
        for lane in range(LANES):
            r = rest[lane]
            tail = 1 / 5040 + r * (1 / 40320 + r * (1 / 362880 + r * (1 / 3628800 + r / 39916800)))
            middle = 1 / 24 + r * (1 / 120 + r * (1 / 720 + r * tail))
            flat[i + lane] = whole[lane] * (
                1.0 + r * (1.0 + r * (1 / 2 + r * (1 / 6 + r * middle)))
            )


def first_above(row: np.ndarray, start: int, end: int, value: float) -> int:
    """Place of the first cell above `value` in the sorted `row[start:end]`; else `end`."""
    while start < end:
        half = (start + end) // 2
        if row[half] <= value:
            start = half + 1
        else:
            end = half
    return start


def high_cell(in_order: np.ndarray, share: float) -> float:
    """Quantile over all cells of `[row, cell]`, each row sorted, by linear interpolation.

    The range of values is halved until one cell is left in it; cells that 64 halvings do not
    part are equal.
    """
    n_rows, n_cells = in_order.shape
    place = share * (n_rows * n_cells - 1)
    below = int(place)
    starts = np.zeros(n_rows, np.int64)  # cells before it lie below the range
    ends = np.full(n_rows, n_cells)  # cells from it on lie above
    cuts = np.empty(n_rows, np.int64)
    low = in_order[:, 0].min()
    high = in_order[:, n_cells - 1].max()
    left = n_rows * n_cells
    for _ in range(64):
        if left <= 1:
            break
        middle = low + 0.5 * (high - low)
        count = 0
        for r in range(n_rows):
            cuts[r] = first_above(in_order[r], starts[r], ends[r], middle)
            count += cuts[r] - starts[r]
        if count > below:
            high = middle
            ends[:] = cuts
            left = count
        else:
            low = middle
            starts[:] = cuts
            left -= count
            below -= count
    value = high
    above = np.inf
    for r in range(n_rows):
        if starts[r] < ends[r]:
            value = in_order[r, starts[r]]
        if ends[r] < n_cells and in_order[r, ends[r]] < above:
            above = in_order[r, ends[r]]
    if left - below > 1 or above == np.inf:
        above = value
    return float(value + (above - value) * (place - int(place)))


POWER_KERNELS: dict[str, Kernel] = {
    "natural_logs": (natural_logs, PART, ORDERED),
    "exponentials": (exponentials, PART, ORDERED),
    "first_above": (first_above, PART, ORDERED),
    "high_cell": (high_cell, PART, ORDERED),
}
"""As `LANE_KERNELS`."""
