"""One small set of weights for all classes, learnt from which window should outrank which.

Macro AUC counts pairs of a positive and a negative window of one class. The ranker takes a
logistic loss over such pairs (RankNet: Burges et al. 2005) of a linear score whose few columns
are the same for every class: each backbone's standardised score, the score under the fixed
kernel, and the mean of the recording's other windows. Ridge draws the weights to the equal
mean under the kernel, so that little data leaves a simple blend. Nothing is learnt of a single
class, hence nothing can be overfitted in one.
"""

from __future__ import annotations

import numpy as np

from birdstack.stacking.score_views import ScoreViews
from birdstack.store.labels import ABSENT, PRESENT

_PAIRS = 1500
_TRUST = 2.0


def ranker_columns(views: ScoreViews) -> np.ndarray:
    """Columns of the ranker, `[column, window, class]`: plain, smoothed, others of each backbone.

    A backbone that says nothing of a class counts as zero there.
    """
    together = np.concatenate([views.z, views.z_smooth, views.z_others])
    return np.asarray(np.nan_to_num(together))


def fit_ranker(
    columns: np.ndarray,
    truth: np.ndarray,
    recording: np.ndarray,
    rows: np.ndarray,
    *,
    ridge: float = 0.01,
    seed: int = 0,
) -> np.ndarray:
    """Weights of the columns, `[column]`.

    Args:
        columns: `[column, window, class]` of `ranker_columns`.
        truth: `[window, class]`: 1, 0 or -1.
        recording: position of each window's recording.
        rows: rows to learn from, `[window]` of bool.
        ridge: pull towards the equal mean under the kernel.
        seed: of the draw of pairs.
    """
    start = _equal_kernel(len(columns) // 3)
    differences, weights = _pairs(columns, truth, recording, rows, seed)
    if not len(differences):
        return start
    from scipy.optimize import minimize  # noqa: PLC0415 - slow to import

    total = float(weights.sum())

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = differences @ w
        value = float(weights @ np.logaddexp(0, -margin)) / total
        slope = -(weights / (1 + np.exp(np.clip(margin, -50, 50)))) @ differences / total
        return value, slope

    def scaled(s: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = loss(s[0] * start)
        return value, np.array([slope @ start])

    steepness = float(minimize(scaled, np.ones(1), jac=True, bounds=[(0.1, 20)]).x[0])
    anchor = steepness * start

    def penalised(w: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = loss(w)
        away = w - anchor
        return value + ridge / 2 * float(away @ away), slope + ridge * away

    bounds = [(0.0, None)] * len(start)
    found = minimize(penalised, anchor, jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x)


def rank_by(columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Score `[window, class]` of `ranker_columns` under weights."""
    return np.asarray(np.einsum("jwc,j->wc", columns, weights.astype(np.float32)))


def _equal_kernel(backbones: int) -> np.ndarray:
    start = np.zeros(3 * backbones)
    start[backbones : 2 * backbones] = 1 / backbones
    return start


def _pairs(
    columns: np.ndarray, truth: np.ndarray, recording: np.ndarray, rows: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positive less negative, `[pair, column]`, and the weight of each pair.

    Classes count alike but for those met in few recordings, which say little for certain.
    """
    rng = np.random.default_rng(seed)
    differences, weights = [], []
    for number in range(truth.shape[1]):
        positive = np.flatnonzero(rows & (truth[:, number] == PRESENT))
        negative = np.flatnonzero(rows & (truth[:, number] == ABSENT))
        if not len(positive) or not len(negative):
            continue
        count = min(_PAIRS, len(positive) * len(negative))
        one, other = rng.choice(positive, count), rng.choice(negative, count)
        differences.append((columns[:, one, number] - columns[:, other, number]).T)
        met = len(np.unique(recording[positive]))
        weights.append(np.full(count, met / (met + _TRUST) / count))
    if not differences:
        return np.empty((0, len(columns))), np.empty(0)
    return np.concatenate(differences).astype(np.float64), np.concatenate(weights)
