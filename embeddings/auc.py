"""Macro ROC-AUC: the mean over classes of the chance that a positive outranks a negative.

The metric of BirdCLEF: classes without positives are skipped, the rest count alike. Equal
to scikit-learn's `roc_auc_score` class by class, ties counted half (Hanley & McNeil 1982).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from birdstack.store.errors import UsageError


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
    if scores.shape != truth.shape or scores.ndim != 2:  # noqa: PLR2004 - rows and classes
        message = f"scores {scores.shape} and truth {truth.shape} must both be [row, class]"
        raise UsageError(message, remedy="give one score for each label")
    per_class = np.full(scores.shape[1], np.nan)
    for index in range(scores.shape[1]):
        column, label = scores[:, index], truth[:, index]
        positives, negatives = column[label == 1], column[label == 0]
        lost = int(np.isnan(positives).sum() + np.isnan(negatives).sum())
        if lost:
            message = f"class {index}: {lost} of {len(column)} scores are NaN and have no rank"
            raise UsageError(message, remedy="leave the rows out, or give every row a score")
        if len(positives) and len(negatives):
            per_class[index] = _auc(positives, np.sort(negatives))
    known = per_class[np.isfinite(per_class)]
    return MacroAuc(float(known.mean()) if len(known) else float("nan"), per_class)


def _auc(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Share of pairs that the positive wins; `negatives` are sorted."""
    below = np.searchsorted(negatives, positives, "left").sum()
    not_above = np.searchsorted(negatives, positives, "right").sum()
    return float(int(below) + int(not_above)) / (2.0 * len(positives) * len(negatives))
