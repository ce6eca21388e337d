"""Context terms that compare the classes of one window: made once, shared by all classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_ROWS = 2048
"""Rows of a table that are handled at once."""


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


def rank_of(logits: np.ndarray, class_index: int) -> np.ndarray:
    """Rank of one class among the known classes of each window, float32 `[window]`."""
    rank = np.empty(len(logits), dtype=np.float32)
    for rows, values in _blocks(logits):
        own = values[:, [class_index]]
        above = np.count_nonzero(values > own, axis=1)
        equal = np.count_nonzero(values == own, axis=1)
        rank[rows] = np.where(equal > 0, 1 + above + (equal - 1) / 2, np.nan)
    return rank


def doubled_ranks(logits: np.ndarray) -> np.ndarray:
    """Twice the rank of every class in each window, `[class, window]`; 0 where not known.

    Twice, because ties share a rank; so that whole numbers of two bytes hold them.
    """
    n_classes = logits.shape[1]
    dtype = np.uint16 if 2 * n_classes <= np.iinfo(np.uint16).max else np.uint32
    ranks = np.empty((n_classes, len(logits)), dtype=dtype)
    for rows, values in _blocks(logits):
        order = np.argsort(-values, axis=1)  # NaN last
        ordered = np.take_along_axis(values, order, axis=1)
        doubled = np.empty(values.shape, dtype=dtype)
        doubled[:] = 2 * np.arange(1, n_classes + 1)
        tied = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        if tied.any():
            doubled[tied] = _shared_ranks(ordered[tied])
        back = np.empty_like(doubled)
        np.put_along_axis(back, order, doubled, axis=1)
        back[np.isnan(values)] = 0
        ranks[:, rows] = back.T
    return ranks


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
