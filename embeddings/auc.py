"""Macro ROC-AUC: the mean over classes of the chance that a positive outranks a negative.

The metric of BirdCLEF: classes without positives are skipped, the rest count alike. Equal
to scikit-learn's `roc_auc_score` class by class, ties counted half (Hanley & McNeil 1982).

Wins and ties of pairs are counted as integers, so neither the order of rows nor the machine
changes a figure. All known scores are sorted, without carrying rows along, and the positives
are looked up among them; the pairs of two positives, which come to a known number, are taken
off again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from birdstack.store.errors import UsageError
from birdstack.store.labels import ABSENT, PRESENT

_CLASSES, _ROWS = 32, 1024  # a tile that is read and written within the processor's cache


@dataclass(frozen=True)
class MacroAuc:
    """A macro AUC and what it is the mean of.

    Attributes:
        value: mean over the classes counted; NaN if there is none.
        per_class: `[class]`; NaN where a class has no positive or no negative.
    """

    value: float
    per_class: np.ndarray

    @property
    def counted(self) -> int:
        """Number of classes with both positives and negatives."""
        return int(np.isfinite(self.per_class).sum())


def macro_auc(scores: np.ndarray, truth: np.ndarray) -> MacroAuc:
    """Macro ROC-AUC of scores.

    Args:
        scores: `[row, class]`, higher is more likely; only their order counts.
        truth: `[row, class]`: 1 present, 0 absent, anything else not known (left out).

    Raises:
        UsageError: shapes differ, or a score that counts is NaN.
    """
    per_class = np.full(np.shape(scores)[-1:], np.nan)
    for index, column, labels in class_columns(scores, truth):
        per_class[index] = _auc(index, column, labels)
    known = per_class[np.isfinite(per_class)]
    return MacroAuc(float(known.mean()) if len(known) else float("nan"), per_class)


def class_columns(
    scores: np.ndarray, truth: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Scores and truth of one class after the other, each contiguous.

    Yields:
        Position of the class, its scores `[row]` (float32 if they were, or float16; float64
        otherwise) and its truth `[row]`. Both are buffers: to be changed at will, and filled
        anew for later classes.

    Raises:
        UsageError: shapes differ.
    """
    if scores.shape != truth.shape or scores.ndim != 2:  # noqa: PLR2004 - rows and classes
        message = f"scores {scores.shape} and truth {truth.shape} must both be [row, class]"
        raise UsageError(message, remedy="give one score for each label")
    rows, classes = scores.shape
    single = scores.dtype in (np.float16, np.float32)
    columns = np.empty((min(_CLASSES, classes), rows), np.float32 if single else np.float64)
    labels = np.empty_like(columns, truth.dtype)
    for first in range(0, classes, _CLASSES):
        block = slice(first, first + _CLASSES)
        width = min(_CLASSES, classes - first)
        for row in range(0, rows, _ROWS):
            tile = slice(row, row + _ROWS)
            columns[:width, tile] = scores[tile, block].T
            labels[:width, tile] = truth[tile, block].T
        for offset in range(width):
            yield first + offset, columns[offset], labels[offset]


def refuse_nan(index: int, scores: np.ndarray, rows: int) -> None:
    """Scores of a class that count must have a rank.

    Raises:
        UsageError: some are NaN; names the class and how many of its `rows`.
    """
    lost = int(np.isnan(scores).sum())
    if lost:
        message = f"class {index}: {lost} of {rows} scores are NaN and have no rank"
        raise UsageError(message, remedy="leave the rows out, or give every row a score")


def _auc(index: int, scores: np.ndarray, truth: np.ndarray) -> float:
    """Share of pairs that the positive wins, ties half; NaN without pairs. Sorts `scores`."""
    rows, present, absent = len(scores), truth == PRESENT, truth == ABSENT
    n_positive, n_negative = int(np.count_nonzero(present)), int(np.count_nonzero(absent))
    positives = np.sort(scores[present])
    if n_positive + n_negative < rows:
        scores = scores[present | absent]
    if not (n_positive and n_negative):
        refuse_nan(index, scores, rows)
        return float("nan")
    scores.sort()
    if np.isnan(scores[-1]):  # the last if there are any
        refuse_nan(index, scores, rows)
    below = np.searchsorted(scores, positives, "left")
    # Each positive is found at `below`, itself; only an equal neighbour makes ties.
    neighbour = scores[np.minimum(below + 1, len(scores) - 1)]
    tied = (neighbour == positives) & (below + 1 < len(scores))
    not_above = np.searchsorted(scores, positives, "right") if tied.any() else below + 1
    twice_wins = int(below.sum()) + int(not_above.sum()) - n_positive**2
    return twice_wins / (2.0 * n_positive * n_negative)
