"""A linear head on a frozen trunk: softmax regression on standardised embeddings.

Weak labels: a recording's windows share its label, so each recording weighs the same
however long it is. The problem is convex, and L-BFGS finds its one minimum, so the head
is the same wherever it is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from birdstack.store.errors import StoreError

HEAD_VERSION = 1
"""Raised when the same embeddings, labels and configuration give another head."""


class HeadConfig(BaseModel):
    """How a linear head is fitted.

    Attributes:
        l2: weight of half the squared norm of the weights, against a mean loss over
            recordings, on embeddings of unit variance.
        max_iterations: of L-BFGS.
        max_windows: windows taken of one recording, evenly spread; more say little new.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    l2: float = Field(default=3e-4, gt=0, le=1e6)
    max_iterations: int = Field(default=200, ge=1, le=100_000)
    max_windows: int = Field(default=24, ge=1, le=1_000_000)


@dataclass(frozen=True)
class LinearHead:
    """Logits from embeddings.

    Attributes:
        weight: float32 `[class, dim]`.
        bias: float32 `[class]`.
    """

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Logits `[window, class]`, float32, of embeddings `[window, dim]`."""
        found: np.ndarray = embeddings.astype(np.float32) @ self.weight.T + self.bias
        return found


def fit_head(
    embeddings: np.ndarray, truth: np.ndarray, weights: np.ndarray, config: HeadConfig
) -> LinearHead:
    """Fit a head.

    The target of a row is shared evenly among its present classes; a class that is not
    known in a row takes no part in that row's softmax. Rows without a present class say
    nothing here and are left out.

    Args:
        embeddings: `[row, dim]`.
        truth: `[row, class]`: 1 present, 0 absent, -1 not known.
        weights: `[row]`, such as 1 / windows of the recording.
        config: penalty and effort.

    Raises:
        StoreError: no row has a present class, or an embedding is not finite.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - importing this module stays light

    used = (truth == 1).any(axis=1)
    if not used.any():
        message = "no row has a present class: there is nothing to fit a head on"
        raise StoreError(message, remedy="label recordings, or choose other folds")
    heard, truth, share = embeddings[used], truth[used], weights[used] / weights[used].sum()
    if not np.isfinite(heard).all():
        message = f"{int((~np.isfinite(heard)).any(axis=1).sum())} embeddings are not finite"
        raise StoreError(message, remedy="see `birdstack store verify`, then hear them again")
    mean, scale = _moments(heard, share)
    rows = ((heard - mean) / scale).astype(np.float64)
    target = (truth == 1).astype(np.float64)
    target /= target.sum(axis=1, keepdims=True)
    closed = np.where(truth == -1, -np.inf, 0.0)
    n_classes, dim = truth.shape[1], heard.shape[1]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = flat[: n_classes * dim].reshape(n_classes, dim), flat[n_classes * dim :]
        logits = rows @ weight.T + bias + closed
        logits -= logits.max(axis=1, keepdims=True)
        raised = np.exp(logits)
        total = raised.sum(axis=1, keepdims=True)
        # 0 * -inf is no number: a class that is closed has no target.
        log_share = np.where(target > 0, logits - np.log(total), 0.0)
        value = -float(share @ (target * log_share).sum(axis=1))
        slope = (raised / total - target) * share[:, np.newaxis]
        gradient = np.concatenate(
            [(slope.T @ rows + config.l2 * weight).ravel(), slope.sum(axis=0)]
        )
        return value + 0.5 * config.l2 * float((weight**2).sum()), gradient

    start = np.zeros(n_classes * dim + n_classes)
    options = {"maxiter": config.max_iterations, "maxcor": 10}
    flat = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    weight = flat[: n_classes * dim].reshape(n_classes, dim) / scale
    bias = flat[n_classes * dim :] - weight @ mean
    return LinearHead(weight.astype(np.float32), bias.astype(np.float32))


def _moments(rows: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation of each dimension; 1 for a constant one."""
    mean = share @ rows
    deviation = np.sqrt(share @ np.square(rows - mean))
    return mean, np.where(deviation > 1e-6, deviation, 1.0)  # noqa: PLR2004 - of float32 noise


def spread_rows(counts: np.ndarray, most: int) -> np.ndarray:
    """Which windows to take where no recording may give more than `most`.

    Args:
        counts: windows of each recording, in row order.
        most: the limit.

    Returns:
        Row numbers, ascending, evenly spread within each recording.
    """
    starts = np.cumsum(counts) - counts
    chosen = [
        start + np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
        for start, count in zip(starts, counts, strict=True)
        if count
    ]
    return np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)
