"""Pairs of recordings: how often positives of the one outrank negatives of the other.

Everything is counted in integers: a pair that is won counts two, a tie one.
"""

from __future__ import annotations

import numpy as np

_CHUNK = 1 << 17  # cells of [positive, unit] that stay within a processor's cache


def pair_table(
    positives: np.ndarray, rows: np.ndarray, negatives: np.ndarray, holders: np.ndarray, units: int
) -> np.ndarray:
    """Twice the pairs won by each row's positives over each unit's negatives, `[row, unit]`.

    Args:
        positives: scores `[positive]`, ascending.
        rows: row of each positive, `[positive]`; rows are counted from 0.
        negatives: scores `[negative]`, ascending.
        holders: unit of each negative, `[negative]`.
        units: how many units there are.
    """
    below = np.searchsorted(negatives, positives, "left")
    not_above = np.searchsorted(negatives, positives, "right")
    ties = not np.array_equal(below, not_above)
    table = np.zeros((int(rows.max()) + 1, units), np.int64)
    lower, upper = _Counter(holders, units), _Counter(holders, units)
    step = max(1, _CHUNK // units)
    for first in range(0, len(positives), step):
        chunk = slice(first, first + step)
        wins = lower.until(below[chunk])
        wins += upper.until(not_above[chunk]) if ties else wins
        order = np.argsort(rows[chunk], kind="stable")
        owners, starts = np.unique(rows[chunk][order], return_index=True)
        table[owners] += np.add.reduceat(wins[order], starts, axis=0)
    return table


class _Counter:
    """How often each unit stands among the first so many holders, for ascending ends."""

    def __init__(self, holders: np.ndarray, units: int) -> None:
        self._holders, self._units = holders, units
        self._end, self._counts = 0, np.zeros(units, np.int64)

    def until(self, ends: np.ndarray) -> np.ndarray:
        """Counts among the first `ends[i]`, `[i, unit]`; no end is below an earlier one."""
        step = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=self._end))
        cells = step * self._units + self._holders[self._end : ends[-1]]
        table = np.bincount(cells, minlength=len(ends) * self._units).reshape(len(ends), -1)
        table[0] += self._counts
        np.cumsum(table, axis=0, out=table)
        self._end, self._counts = int(ends[-1]), table[-1].copy()
        return table
