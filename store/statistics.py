"""Counts and moments of columns: made at commit, merged over commits, compared for drift."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from birdstack.store.views import Column, ViewSpec

DRIFT_LIMIT_SD = 3.0
"""A new batch whose mean lies further away than this many standard deviations is reported."""
_BOOKKEEPING = {"fold", "model_fold"}  # constant wherever a view holds one fold's rows
DRIFT_MIN_ROWS = 200
"""Smaller batches drift by chance: one species or one night."""


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """Moments of the finite values of one column (all elements, for a vector column).

    Attributes:
        n: number of values.
        nan: how many are NaN.
        inf: how many are infinite.
        low: smallest finite value, NaN if there is none.
        high: largest finite value.
        mean: mean of the finite values.
        m2: sum of squared deviations from the mean.
        outside: how many lie outside the range that the column declares.
    """

    n: int
    nan: int
    inf: int
    low: float
    high: float
    mean: float
    m2: float
    outside: int = 0

    @property
    def finite(self) -> int:
        """Number of finite values."""
        return self.n - self.nan - self.inf

    @property
    def std(self) -> float:
        """Population standard deviation of the finite values."""
        return math.sqrt(self.m2 / self.finite) if self.finite else math.nan

    @property
    def constant(self) -> bool:
        """Whether all finite values are one value."""
        return self.finite > 0 and self.low == self.high

    def merged(self, other: ColumnStatistics) -> ColumnStatistics:
        """Statistics of both sets of values together (Chan, Golub and LeVeque 1979)."""
        if not self.finite or not other.finite:
            kept = self if self.finite else other
            mean, m2, low, high = kept.mean, kept.m2, kept.low, kept.high
        else:
            total = self.finite + other.finite
            delta = other.mean - self.mean
            mean = self.mean + delta * other.finite / total
            m2 = self.m2 + other.m2 + delta * delta * self.finite * other.finite / total
            low, high = min(self.low, other.low), max(self.high, other.high)
        return ColumnStatistics(
            n=self.n + other.n,
            nan=self.nan + other.nan,
            inf=self.inf + other.inf,
            low=low,
            high=high,
            mean=mean,
            m2=m2,
            outside=self.outside + other.outside,
        )

    def to_json(self) -> dict[str, float | None]:
        """As JSON, which has no NaN and no infinity (of an overflow): null instead."""
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in asdict(self).items()
        }

    @classmethod
    def from_json(cls, body: Mapping[str, float | None]) -> ColumnStatistics:
        """Back from `to_json`."""
        return cls(**{k: math.nan if v is None else v for k, v in body.items()})  # type: ignore[arg-type]


Statistics = dict[str, ColumnStatistics]
"""Column name -> its statistics."""


def statistics_to_json(
    statistics: Mapping[str, Mapping[str, ColumnStatistics]],
) -> dict[str, dict[str, dict[str, float | None]]]:
    """`view/recipe` -> column -> statistics, as a commit keeps them."""
    return {
        name: {column: s.to_json() for column, s in columns.items()}
        for name, columns in statistics.items()
    }


def statistics_from_json(
    body: Mapping[str, Mapping[str, Mapping[str, float | None]]],
) -> dict[str, Statistics]:
    """Back from `statistics_to_json`."""
    return {
        name: {column: ColumnStatistics.from_json(s) for column, s in columns.items()}
        for name, columns in body.items()
    }


def merge_views(left: dict[str, Statistics], right: Mapping[str, Statistics]) -> None:
    """Merge `right` into `left`, view by view."""
    for name, columns in right.items():
        left[name] = merge(left.get(name, {}), columns)


def column_statistics(column: Column, values: np.ndarray) -> ColumnStatistics:
    """Statistics of one numeric column, `[window]` or `[window, dim]`."""
    flat = np.asarray(values).ravel()
    if flat.dtype.kind != "f":
        flat = flat.astype(np.float64)
    finite = flat[np.isfinite(flat)]
    nan = int(np.isnan(flat).sum())
    inf = flat.size - finite.size - nan
    if not finite.size:
        return ColumnStatistics(flat.size, nan, inf, math.nan, math.nan, math.nan, 0.0)
    low, high = float(finite.min()), float(finite.max())
    outside = 0
    if (column.low is not None and low < column.low) or (
        column.high is not None and high > column.high
    ):
        below = 0 if column.low is None else int((finite < column.low).sum())
        above = 0 if column.high is None else int((finite > column.high).sum())
        outside = below + above
    with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond 1e154, squared
        mean = float(finite.mean(dtype=np.float64))
        m2 = float(np.square(np.subtract(finite, mean, dtype=np.float64)).sum())
    return ColumnStatistics(flat.size, nan, inf, low, high, mean, m2, outside)


def view_statistics(spec: ViewSpec, values: Mapping[str, np.ndarray]) -> Statistics:
    """Statistics of every numeric column of a view."""
    return {
        column.name: column_statistics(column, values[column.name])
        for column in spec.columns
        if column.dtype not in ("str", "bool")
    }


def merge(
    left: Mapping[str, ColumnStatistics], right: Mapping[str, ColumnStatistics]
) -> Statistics:
    """Column by column; a column of only one side is kept."""
    merged = dict(left)
    for name, statistics in right.items():
        merged[name] = merged[name].merged(statistics) if name in merged else statistics
    return merged


def warnings(
    spec: ViewSpec, added: Mapping[str, ColumnStatistics], before: Mapping[str, ColumnStatistics]
) -> list[str]:
    """What a person should look at: infinite, out-of-range, constant or drifted columns.

    Args:
        spec: the view.
        added: statistics of the rows of this run.
        before: statistics of the rows that were there already; may be empty.
    """
    found = []
    for column in spec.columns:
        new = added.get(column.name)
        if new is None or not new.n or column.name in _BOOKKEEPING:
            continue
        place = f"view {spec.name!r}, column {column.name!r}"
        if new.inf:
            found.append(f"{place}: {new.inf} of {new.n} values are infinite")
        if new.outside:
            limits = f"[{column.low}, {column.high}]"
            found.append(f"{place}: {new.outside} of {new.n} values lie outside {limits}")
        if new.constant and new.n >= DRIFT_MIN_ROWS:
            found.append(f"{place}: all {new.n} values are {new.low:g}")
        old = before.get(column.name)
        if old is not None and min(old.finite, new.finite) >= DRIFT_MIN_ROWS and old.std > 0:
            shift = abs(new.mean - old.mean) / old.std
            if shift > DRIFT_LIMIT_SD:
                found.append(
                    f"{place}: mean moved by {shift:.1f} standard deviations, "
                    f"from {old.mean:g} to {new.mean:g}"
                )
    return found
