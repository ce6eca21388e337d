"""Context terms that compare the classes of one window: made once, shared by all classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

_ROWS = 2048
"""Rows of a table that are handled at once."""
_COUNTED = 4
"""So many classes are ranked sooner by counting than by sorting all."""


def finite(logits: np.ndarray) -> np.ndarray:
    """The same as contiguous float32, with NaN for what is infinite."""
    values = np.ascontiguousarray(logits, dtype=np.float32)
    infinite = np.isinf(values)
    return np.where(infinite, np.float32(np.nan), values) if infinite.any() else values


def window_probabilities(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest probability of each window, and the sum over its classes, float32 `[window]`.

    Classes that are not known count for nothing; NaN where none is known.
    """
    largest = np.empty(len(logits), dtype=np.float32)
    total = np.empty(len(logits), dtype=np.float32)
    for rows, values in _blocks(logits):
        with np.errstate(over="ignore"):  # exp of a very low logit's opposite: probability 0
            chances = 1 / (1 + np.exp(-values))
        largest[rows] = np.fmax.reduce(chances, axis=1)
        known = ~np.isnan(chances)
        sums = np.sum(chances, axis=1, dtype=np.float64, where=known)
        total[rows] = np.where(known.any(axis=1), sums, np.nan)
    return largest, total


def doubled_ranks(logits: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Twice the rank of some classes among all of each window, `[class, window]`; 0: not known.

    Twice, because ties share a rank, so that whole numbers of two bytes hold them.
    """
    dtype = np.uint16 if 2 * logits.shape[1] <= np.iinfo(np.uint16).max else np.uint32
    ranks = np.empty((len(classes), len(logits)), dtype=dtype)
    for rows, values in _blocks(logits):
        if len(classes) <= _COUNTED:
            for index, number in enumerate(classes):
                ranks[index, rows] = _counted(values, number)
        else:
            ranks[:, rows] = _sorted(values)[:, classes].T
    return ranks


def _counted(values: np.ndarray, class_index: int) -> np.ndarray:
    """Twice the rank of one class, by comparing it with every class, `[window]`."""
    own = values[:, [class_index]]
    above = np.count_nonzero(values > own, axis=1)
    equal = np.count_nonzero(values == own, axis=1)
    return np.where(equal > 0, 1 + 2 * above + equal, 0)


def _sorted(values: np.ndarray) -> np.ndarray:
    """Twice the rank of every class, by sorting, `[window, class]`."""
    falling = -values
    order, ordered = np.argsort(falling, axis=1), np.sort(falling, axis=1)  # NaN last
    doubled = np.empty(values.shape, dtype=np.int32)
    doubled[:] = 2 * np.arange(1, values.shape[1] + 1)
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if tied.any():
        doubled[tied] = _shared_ranks(ordered[tied])
    back = np.empty_like(doubled)
    np.put_along_axis(back, order, doubled, axis=1)
    back[np.isnan(values)] = 0
    return back


def _shared_ranks(ordered: np.ndarray) -> np.ndarray:
    """Twice the mean rank of each run of equal values, `[window, place]`."""
    places = np.arange(ordered.shape[1])
    begins = np.ones(ordered.shape, dtype=bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ends = np.ones(ordered.shape, dtype=bool)
    ends[:, :-1] = begins[:, 1:]
    first = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
    later = np.where(ends, places, ordered.shape[1])
    last = np.minimum.accumulate(later[:, ::-1], axis=1)[:, ::-1]
    doubled: np.ndarray = first + last + 2
    return doubled


def _blocks(logits: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of a table, block by block, without infinite values."""
    for first in range(0, len(logits), _ROWS):
        rows = slice(first, min(first + _ROWS, len(logits)))
        yield rows, finite(logits[rows])
