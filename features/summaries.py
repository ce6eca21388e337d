"""Statistics of a series of frames.

Order statistics stand at 5, 50 and 95 % rather than at the extremes: one click decides a
maximum, and the zero-padded frames at a window's edges decide a minimum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

STATISTICS = {
    "mean": "mean",
    "std": "standard deviation (population)",
    "p05": "5th percentile (linear interpolation)",
    "p50": "median",
    "p95": "95th percentile (linear interpolation)",
}
OVER_FRAMES = " over frames of "
"""Stands in a description between the statistic and the quantity."""

_COMPUTE: dict[str, Callable[[np.ndarray], Any]] = {
    "mean": np.mean,
    "std": np.std,
    "p05": lambda series: np.percentile(series, 5),
    "p50": np.median,
    "p95": lambda series: np.percentile(series, 95),
}


def summarise(name: str, values: np.ndarray, statistics: Sequence[str]) -> dict[str, float]:
    """Statistics of `values [frame]`: `<name>_<statistic>`."""
    return {f"{name}_{statistic}": float(_COMPUTE[statistic](values)) for statistic in statistics}


def numbered(name: str, count: int) -> list[str]:
    """`name_00`, `name_01`, ...: names of `count` neighbouring bands or coefficients."""
    return [f"{name}_{index:02d}" for index in range(count)]


def grouped(rows: np.ndarray, n_bands: int) -> np.ndarray:
    """Means of equal groups of neighbouring rows: `[mel, frame]` to `[band, frame]`."""
    means: np.ndarray = rows.reshape(n_bands, len(rows) // n_bands, -1).mean(axis=1)
    return means
