"""The layers of a stack as one score: equal or greedy weights, never a class's own.

Weights fitted class by class look better out-of-fold and are worse on fresh rows.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from birdstack.stacking.greedy import greedy_weights

LAYERS = ("residual", "logistic", "shared")


def blend_weights(
    how: Literal["equal", "global"],
    layers: np.ndarray,
    truth: np.ndarray,
    rows: np.ndarray,
) -> np.ndarray:
    """Weights of the layers, `[layer]`, that sum to one.

    Args:
        how: `equal` halves of residual booster and logistic, or `global` greedy weights.
        layers: standardised out-of-fold scores, `[layer, window, class]` in the order of
            `LAYERS`.
        truth: `[window, class]`.
        rows: rows to learn from.
    """
    if how == "equal":
        return np.array([0.5, 0.5, 0.0])
    return greedy_weights(layers, truth, rows)


def blended(layers: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`[window, class]` from `[layer, window, class]`."""
    return np.asarray(np.einsum("lwc,l->wc", layers, weights.astype(np.float32)))
