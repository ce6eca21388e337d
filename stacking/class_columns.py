"""The columns that a class needs, made for one class at a time.

Own scores of each backbone and their context come first, the same for every class: they are
all that the shared booster sees. The most confused classes and extra columns follow. Nothing
here looks at a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from birdstack.stacking.context import ClassContext
from birdstack.stacking.score_views import ScoreViews, mean_over_backbones

_RANDOM_ROWS = 20_000

_TERMS = {
    **{f"lag({distance})": 1 for distance in (1, 2, 3)},
    **{f"lead({distance})": 1 for distance in (1, 2, 3)},
    "minus_local_mean(1)": 0,
    "local_max(1)": 1,
    "logsumexp(1)": 1,
    "rank": 0,
}
"""Context of the mean score, and whether it can only speak for the class."""

_BESIDE = {"smooth": 1, "others_mean": 1, "minus_best_other": 0, "minus_crowd": 0}
"""Likewise of what the controls have made already, and of the other classes."""


@dataclass(frozen=True)
class ColumnPlan:
    """Which columns each class sees, chosen without labels.

    Attributes:
        neighbours: `[class, neighbour]`, classes whose scores go along with a class's most.
        extras: for each class the positions of its extra columns.
    """

    neighbours: np.ndarray
    extras: tuple[tuple[int, ...], ...]


def shared_column_names(backbones: Sequence[str]) -> list[str]:
    """Names of the columns that are the same for every class."""
    return [*(f"score:{name}" for name in backbones), *_TERMS, *_BESIDE]


def class_column_names(
    backbones: Sequence[str],
    classes: Sequence[str],
    extra_names: Sequence[str],
    plan: ColumnPlan,
    number: int,
) -> list[str]:
    """Names of the columns of one class, without a table."""
    near = [f"class:{classes[other]}" for other in plan.neighbours[number]]
    extra = [f"x:{extra_names[index]}" for index in plan.extras[number]]
    return [*shared_column_names(backbones), *near, *extra]


class ClassColumns:
    """Columns of every class of one table.

    Args:
        views: scores of the table.
        plan: as learnt; None to choose it from this table.
        neighbours: number of confused classes.
        max_extra: most extra columns for a class.
        seed: of the draw of rows that correlations are measured on.
    """

    def __init__(
        self,
        views: ScoreViews,
        plan: ColumnPlan | None = None,
        *,
        neighbours: int = 8,
        max_extra: int = 20,
        seed: int = 0,
    ) -> None:
        self.views = views
        self.table = views.table
        self.z = views.z
        self.mean = mean_over_backbones(views.z)
        self.smooth = mean_over_backbones(views.z_smooth)
        self.others = mean_over_backbones(views.z_others)
        self._context = ClassContext(
            self.mean,
            self.table.segments,
            list(_TERMS),
            recordings=np.append(0, np.cumsum(self.table.windows)),
        )
        n_classes = self.mean.shape[1]
        ordered = np.partition(self.mean, max(n_classes - 2, 0), axis=1)
        self._top, self._second = ordered[:, -1], ordered[:, -2 if n_classes > 1 else -1]
        self._crowd = np.log(np.exp(self.mean - self._top[:, None]).sum(axis=1)) + self._top
        self.extra = _clean(self.table.extra, len(self.table.extra_names), len(self.mean))
        self.plan = plan or self._planned(neighbours, max_extra, seed)

    @property
    def shared_names(self) -> list[str]:
        """Names of the columns that are the same for every class."""
        return shared_column_names(self.table.backbones)

    @property
    def shared_monotone(self) -> list[int]:
        """1 for columns that can only speak for the class."""
        return [*[1] * len(self.table.backbones), *_TERMS.values(), *_BESIDE.values()]

    def names(self, number: int) -> list[str]:
        """Names of the columns of one class."""
        table = self.table
        return class_column_names(
            table.backbones, table.classes, table.extra_names, self.plan, number
        )

    def monotone(self, number: int) -> list[int]:
        """1 for columns of one class that can only speak for it, else 0."""
        more = len(self.plan.neighbours[number]) + len(self.plan.extras[number])
        return [*self.shared_monotone, *[0] * more]

    def shared(self, number: int, rows: np.ndarray) -> np.ndarray:
        """The class-agnostic columns of some rows, `[row, column]`; NaN where not known."""
        own, best = self.mean[rows, number], self._top[rows]
        rival = np.where(own >= best, self._second[rows], best)
        columns = [
            *self.z[:, rows, number],
            *self._context.one(number)[rows].T,
            self.smooth[rows, number],
            self.others[rows, number],
            own - rival,
            own - self._crowd[rows],
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    def of_class(self, number: int, rows: np.ndarray) -> np.ndarray:
        """All columns of one class for some rows, `[row, column]`; NaN where not known."""
        near = self.mean[np.ix_(rows, self.plan.neighbours[number])]
        extra = self.extra[np.ix_(rows, np.asarray(self.plan.extras[number], dtype=np.intp))]
        return np.concatenate([self.shared(number, rows), near, extra], axis=1)

    def _planned(self, neighbours: int, max_extra: int, seed: int) -> ColumnPlan:
        rng = np.random.default_rng(seed)
        n_rows, n_classes = self.mean.shape
        rows = np.sort(rng.permutation(n_rows)[:_RANDOM_ROWS])
        scores = _unit(self.mean[rows].astype(np.float64))
        alike = scores.T @ scores
        np.fill_diagonal(alike, -np.inf)
        order = np.argsort(-alike, axis=1, kind="stable")[:, : min(neighbours, n_classes - 1)]
        extra = np.nan_to_num(self.extra[rows].astype(np.float64))
        useful = extra.std(axis=0) > 0 if len(rows) else np.zeros(extra.shape[1], dtype=bool)
        ties = np.abs(scores.T @ _unit(extra))
        ties[:, ~useful] = -1
        chosen: Sequence[tuple[int, ...]] = [
            tuple(sorted(int(i) for i in np.argsort(-row, kind="stable")[:max_extra] if useful[i]))
            for row in ties
        ]
        return ColumnPlan(order, tuple(chosen))


def _unit(columns: np.ndarray) -> np.ndarray:
    centred = columns - columns.mean(axis=0) if len(columns) else columns
    length = np.sqrt((centred**2).sum(axis=0))
    return np.asarray(centred / np.where(length > 0, length, 1))


def _clean(extra: np.ndarray, count: int, n_rows: int) -> np.ndarray:
    """Extra columns, with what is not finite as NaN."""
    if not count:
        return np.empty((n_rows, 0), dtype=np.float32)
    values = np.array(extra, dtype=np.float32)
    values[~np.isfinite(values)] = np.nan
    return values
