"""Statistics of a series of frames, and the columns that hold them.

Order statistics stand at 5, 50 and 95 % rather than at the extremes: one click decides a
maximum, and the zero-padded frames at a window's edges decide a minimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from birdstack.store.views import Column

STATISTICS = {
    "mean": "mean",
    "std": "standard deviation (population)",
    "p05": "5th percentile (linear interpolation)",
    "p50": "median",
    "p95": "95th percentile (linear interpolation)",
}
OVER_FRAMES = " over frames of "
"""Stands in a description between the statistic and the quantity."""


@dataclass(frozen=True, slots=True)
class Series:
    """A quantity with one value a frame.

    Attributes:
        name: beginning of the names of its columns, the group included.
        description: formula and source of the quantity itself.
        unit: its unit.
        low: smallest value it can take.
        high: largest value it can take.
    """

    name: str
    description: str
    unit: str = ""
    low: float | None = None
    high: float | None = None


def summary_columns(
    series: Series, statistics: tuple[str, ...] = tuple(STATISTICS)
) -> list[Column]:
    """One column per statistic: `<series>_<statistic>`.

    Bounds follow from the series': a standard deviation is at most half the range.
    """
    columns = []
    for statistic in statistics:
        low, high = series.low, series.high
        if statistic == "std":
            high = (high - low) / 2 if low is not None and high is not None else None
            low = 0.0
        columns.append(
            Column(
                name=f"{series.name}_{statistic}",
                unit=series.unit,
                low=low,
                high=high,
                description=f"{STATISTICS[statistic]}{OVER_FRAMES}{series.description}",
            )
        )
    return columns


def summarise(
    name: str, values: np.ndarray, statistics: tuple[str, ...] = tuple(STATISTICS)
) -> dict[str, float]:
    """Statistics of `values [frame]`, keyed like the columns of `summary_columns`."""
    compute: dict[str, Callable[[np.ndarray], Any]] = {
        "mean": np.mean,
        "std": np.std,
        "p05": lambda series: np.percentile(series, 5),
        "p50": np.median,
        "p95": lambda series: np.percentile(series, 95),
    }
    return {f"{name}_{statistic}": float(compute[statistic](values)) for statistic in statistics}


def numbered(name: str, count: int) -> list[str]:
    """`name_00`, `name_01`, ...: names of `count` neighbouring bands or coefficients."""
    return [f"{name}_{index:02d}" for index in range(count)]


def summarise_rows(
    name: str, rows: np.ndarray, statistics: tuple[str, ...] = ("mean", "std")
) -> dict[str, float]:
    """Statistics of each row of `rows [row, frame]`, statistic by statistic."""
    names = numbered(name, len(rows))
    found: dict[str, float] = {}
    for statistic in statistics:
        for row_name, row in zip(names, rows, strict=True):
            found |= summarise(row_name, row, (statistic,))
    return found


def row_columns(
    series: Series, count: int, statistics: tuple[str, ...] = ("mean", "std")
) -> list[Column]:
    """Columns of `summarise_rows`: all rows of one statistic, then of the next."""
    columns = []
    for statistic in statistics:
        for name in numbered(series.name, count):
            row = Series(name, series.description, series.unit, series.low, series.high)
            columns += summary_columns(row, (statistic,))
    return columns
