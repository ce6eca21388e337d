"""Pairs of recordings: how often positives of the one outrank negatives of the other.

A pair that is won counts two, a tie one.
"""

from __future__ import annotations

import numpy as np

_CHUNK = 1 << 15  # cells of [positive, unit] that stay within a processor's cache,
_LEAST = 32  # and positives that make a step worth its while


def pair_table(
    positives: np.ndarray,
    rows: np.ndarray,
    negatives: np.ndarray,
    holders: np.ndarray,
    *,
    units: int,
    dtype: np.dtype[np.floating],
) -> np.ndarray:
    """Twice the pairs won by each row's positives over each unit's negatives, `[row, unit]`.

    A negative is noted once, at the first positive that wins against it; the positives of a
    row from there on all win, and how many these are is a matrix of its own.

    Args:
        positives: scores `[positive]`, ascending.
        rows: row of each positive, `[positive]`; rows are counted from 0.
        negatives: scores `[negative]`, ascending.
        holders: unit of each negative, `[negative]`.
        units: how many units there are.
        dtype: of the table; it must keep whole numbers up to the table's largest exactly.
    """
    below = np.searchsorted(negatives, positives, "left")
    not_above = np.searchsorted(negatives, positives, "right")
    tied = not np.array_equal(below, not_above)
    lower, upper = _Arrivals(holders, units), _Arrivals(holders, units)
    table = np.zeros((int(rows.max()) + 1, units), dtype)
    step = max(_LEAST, _CHUNK // units)
    for first in range(0, len(positives), step):
        chunk = slice(first, first + step)
        beaten = lower.until(below[chunk])
        beaten += upper.until(not_above[chunk]) if tied else beaten
        owners, owner = np.unique(rows[chunk], return_inverse=True)
        winners = np.zeros((len(owners), len(owner)), dtype)
        winners[owner, np.arange(len(owner))] = 1
        winners = np.cumsum(winners[:, ::-1], axis=1)[:, ::-1]
        table[owners] += winners @ beaten.astype(dtype)
    return table


class _Arrivals:
    """Holders that come in as the end of a sorted list moves on, counted by unit."""

    def __init__(self, holders: np.ndarray, units: int) -> None:
        self._holders, self._units = holders, units
        self._end, self._before = 0, np.zeros(units, np.int64)

    def until(self, ends: np.ndarray) -> np.ndarray:
        """Of each unit before `ends[i]` and not before `ends[i - 1]`, `[i, unit]`.

        Ends ascend, also from call to call; the first row takes all of earlier calls.
        """
        new = self._holders[self._end : ends[-1]]
        step = np.repeat(np.arange(len(ends)), np.diff(np.append(self._end, ends)))
        cells = len(ends) * self._units
        table = np.bincount(step * self._units + new, minlength=cells).reshape(len(ends), -1)
        table[0] += self._before
        self._before += np.bincount(new, minlength=self._units)
        self._end = int(ends[-1])
        return table
