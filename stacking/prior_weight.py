"""The one weight at which a prior is added to all scores: chosen inside folds, 0 unless it pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from birdstack.embeddings.auc import macro_auc
from birdstack.store.errors import UsageError

WEIGHTS = (0.0, 0.25, 0.5, 1.0)
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class PriorWeight:
    """The weight chosen.

    Attributes:
        weight: the one chosen from all folds, for rows that nobody has met.
        by_fold: the one chosen without each fold.
        scores: score + weight * prior of each row by the weight of its fold, `[window, class]`;
            equal to the scores given, bit by bit, where the weight is 0.
        gain: macro AUC that the weight gains on all folds, over weight 0.
        error: standard error of the gain over classes.
        why: one sentence.
    """

    weight: float
    by_fold: dict[int, float]
    scores: np.ndarray
    gain: float
    error: float
    why: str


def prior_weight(
    scores: np.ndarray,
    prior: np.ndarray,
    truth: np.ndarray,
    fold: np.ndarray,
    *,
    weights: Sequence[float] = WEIGHTS,
    errors: float = 1.0,
    without: Callable[[int], np.ndarray] | None = None,
) -> PriorWeight:
    """Choose the weight of a prior: one for all classes, for each fold from the other folds.

    A weight is taken if its macro AUC leads that of weight 0 by more than one standard error
    over classes; of those, the one with the highest. Ties go to the smaller weight.

    Args:
        scores: out-of-fold scores, logit-like and of one scale, `[window, class]`.
        prior: cross-fitted prior, `[window, class]`; 0 where it has nothing to say.
        truth: `[window, class]`: 1, 0, -1.
        fold: `[window]`; rows of no fold (-1) are not learnt from and get the final weight.
        weights: to choose from; 0 is always among them.
        errors: standard errors by which a weight has to beat 0.
        without: gives the prior counted without one more fold, so that the choice for a fold
            depends on no label of it; if not given, `prior` serves, in which that fold's
            recordings are counted for the others.

    Raises:
        UsageError: shapes differ, or a weight is below 0.
    """
    if not np.shape(scores) == np.shape(prior) == np.shape(truth):
        message = f"prior weight: {np.shape(scores)}, {np.shape(prior)}, {np.shape(truth)}"
        raise UsageError(message, remedy="give scores, prior and truth of one shape")
    tried = sorted({0.0, *map(float, weights)})
    if tried[0] < 0:
        message = f"prior weight: {tried[0]:g} is below 0"
        raise UsageError(message, remedy="give weights from 0 on")
    fold = np.asarray(fold)
    known = fold >= 0
    final = _choose((scores, prior, truth), known, tried, errors)
    out = _added(scores, prior, final[0])
    by_fold: dict[int, float] = {}
    for number in np.unique(fold[known]).tolist():
        held = fold == number
        seen = prior if without is None else without(number)
        weight = _choose((scores, seen, truth), known & ~held, tried, errors)[0]
        by_fold[number] = weight
        out[held] = _added(scores[held], prior[held], weight)
    weight, gain, error = final
    verdict = f"weight {weight:g}" if weight else "left out"
    why = f"range prior: {verdict}; the best weight gains {gain:+.4f}, standard error {error:.4f}"
    return PriorWeight(weight, by_fold, out, gain, error, why)


def _choose(
    of: tuple[np.ndarray, np.ndarray, np.ndarray],
    rows: np.ndarray,
    weights: Sequence[float],
    errors: float,
) -> tuple[float, float, float]:
    """Weight, and gain and standard error of the best weight above 0.

    Args:
        of: scores, prior and truth.
        rows: those to look at.
        weights: ascending, the first is 0.
        errors: to be beaten.
    """
    given, shift, labels = (values[rows] for values in of)
    base = macro_auc(given, labels).per_class
    best = (0.0, 0.0, 0.0)
    chosen = 0.0
    for weight in weights[1:]:
        lead = macro_auc(given + weight * shift, labels).per_class - base
        lead = lead[np.isfinite(lead)]
        if not len(lead):
            break
        gain = float(lead.mean())
        error = float(lead.std(ddof=1) / np.sqrt(len(lead))) if len(lead) > 1 else np.inf
        if gain > best[1] or best[0] == 0:
            best = (weight, gain, error)
            # What helps one class alone leads by one standard error, to the last digit.
            chosen = weight if gain > errors * error * (1 + _ROUNDING) else 0.0
    return chosen, best[1], best[2]


def _added(scores: np.ndarray, prior: np.ndarray, weight: float) -> np.ndarray:
    return np.array(scores) if weight == 0 else np.asarray(scores + np.float32(weight) * prior)
