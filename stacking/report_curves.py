"""ROC and precision-recall curves of a class, thinned to what a picture can show.

ROC: the true positive rate over the false positive rate at every threshold; its area is the AUC.
Precision-recall: average precision is the sum of precision times the step in recall, without
interpolation, as scikit-learn has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from birdstack.store.labels import ABSENT, PRESENT

_MOST = 49


def curves(scores: np.ndarray, truth: np.ndarray) -> dict[str, Any] | None:
    """Both curves of one class.

    Args:
        scores: `[window]`, higher is more likely.
        truth: `[window]`: 1 present, 0 absent, anything else is left out.

    Returns:
        `roc` and `pr`, lists of [x, y] with three decimals, and `average_precision`; None
        without both positives and negatives, or where a score is NaN.
    """
    known = (truth == PRESENT) | (truth == ABSENT)
    scores, present = scores[known], truth[known] == PRESENT
    positives = int(present.sum())
    if not positives or positives == len(present) or np.isnan(scores).any():
        return None
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], present[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    found, passed = np.cumsum(hits)[last], last + 1
    recall, precision = found / positives, found / passed
    false_rate = (passed - found) / (len(present) - positives)
    steps = np.diff(recall, prepend=0.0)
    roc = _thin_roc(np.append(0, false_rate), np.append(0, recall))
    return {
        "average_precision": float((steps * precision).sum()),
        "roc": roc,
        "pr": _thin_pr(recall, precision, steps > 0),
    }


def _thin_roc(x: np.ndarray, y: np.ndarray) -> list[list[float]]:
    """Corners only, and of these no more than fit: evenly along the way from corner to corner."""
    turns = np.ones(len(x), dtype=bool)
    ahead, behind = np.diff(np.stack([x, y])), np.diff(np.stack([x, y]))
    turns[1:-1] = np.abs(behind[0, :-1] * ahead[1, 1:] - behind[1, :-1] * ahead[0, 1:]) > 0
    x, y = x[turns], y[turns]
    if len(x) > _MOST:
        way = x + y
        at = np.unique(np.searchsorted(way, np.linspace(0, way[-1], _MOST)))
        x, y = x[at], y[at]
    return _points(x, y)


def _thin_pr(recall: np.ndarray, precision: np.ndarray, rises: np.ndarray) -> list[list[float]]:
    """Points at which recall rises, evenly over recall."""
    recall, precision = recall[rises], precision[rises]
    if len(recall) > _MOST:
        at = np.unique(np.searchsorted(recall, np.linspace(recall[0], recall[-1], _MOST)))
        recall, precision = recall[at], precision[at]
    return _points(recall, precision)


def _points(x: np.ndarray, y: np.ndarray) -> list[list[float]]:
    pairs = np.stack([x, y], axis=1).round(3).tolist()
    return [pair for row, pair in enumerate(pairs) if row == 0 or pair != pairs[row - 1]]
