"""L2 logistic regression on the columns of a class, by Newton steps.

A few dozen columns and some thousand rows: a handful of exact Newton steps on the normal
matrix is quicker than any general solver, and gives the same numbers on every run. The
intercept bears no ridge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_STEPS = 30
_TOLERANCE = 1e-8
_WIDEST = 30.0


@dataclass(frozen=True)
class Linear:
    """A linear score of standardised columns; what is not known counts as the mean.

    Attributes:
        centre: `[column]`.
        scale: `[column]`.
        weights: `[column]`.
        intercept: added to all.
    """

    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    intercept: float

    def score(self, columns: np.ndarray) -> np.ndarray:
        """Logit of each row of `[row, column]`."""
        standard = np.nan_to_num((columns - self.centre) / self.scale)
        return np.asarray(standard @ self.weights + self.intercept)


def fit_linear(
    columns: np.ndarray, present: np.ndarray, weights: np.ndarray | None = None, *, c: float
) -> Linear:
    """Fit on rows `[row, column]`, which may hold NaN, and whether the class is present.

    Args:
        columns: values; those that are constant get no weight.
        present: `[row]` of bool, with both values.
        weights: of rows; all alike if not given.
        c: inverse strength of ridge, as in scikit-learn.
    """
    values = columns.astype(np.float64)
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, values, 0)
    centre = filled.sum(axis=0) / count
    spread = np.sqrt((np.where(known, values - centre, 0) ** 2).sum(axis=0) / count)
    scale = np.where(spread > 1e-9 * (1 + np.abs(centre)), spread, np.inf)
    standard = np.where(known, (filled - centre) / scale, 0)
    found = newton(standard, present, weights, ridge=1 / c)
    return Linear(centre, scale, found[:-1], float(found[-1]))


def newton(
    columns: np.ndarray, present: np.ndarray, weights: np.ndarray | None, *, ridge: float
) -> np.ndarray:
    """Weights of `[row, column]`, then the intercept, that minimise the ridged log loss."""
    n_rows, n_columns = columns.shape
    design = np.concatenate([columns, np.ones((n_rows, 1))], axis=1)
    row_weight = np.ones(n_rows) if weights is None else weights.astype(np.float64)
    label = present.astype(np.float64)
    # The intercept's whisper of ridge only keeps the matrix regular.
    penalty = np.append(np.full(n_columns, ridge), 1e-6)
    share = float(np.clip(np.average(label, weights=row_weight), 1e-6, 1 - 1e-6))
    found = np.append(np.zeros(n_columns), np.log(share / (1 - share)))
    value = _loss(design, label, row_weight, penalty, found)
    for _ in range(_STEPS):
        margin = np.clip(design @ found, -_WIDEST, _WIDEST)
        probability = 1 / (1 + np.exp(-margin))
        slope = design.T @ (row_weight * (probability - label)) + penalty * found
        bend = np.maximum(row_weight * probability * (1 - probability), 1e-12)
        step = np.linalg.solve((design * bend[:, None]).T @ design + np.diag(penalty), slope)
        size = 1.0
        while size > 1e-4:  # noqa: PLR2004 - a Newton step may go too far; half of it does not
            tried = found - size * step
            new = _loss(design, label, row_weight, penalty, tried)
            if new <= value:
                break
            size /= 2
        else:
            break
        done = value - new <= _TOLERANCE * (1 + abs(value))
        found, value = tried, new
        if done:
            break
    return found


def _loss(
    design: np.ndarray,
    label: np.ndarray,
    row_weight: np.ndarray,
    penalty: np.ndarray,
    found: np.ndarray,
) -> float:
    margin = design @ found
    return float(row_weight @ (np.logaddexp(0, margin) - label * margin) + penalty @ found**2 / 2)
