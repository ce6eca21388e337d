"""Events: stretches of a recording in which a class scores high, from the scores of its windows.

A score ranks the windows of a class; it is no probability, and 0.5 means another thing for each
class. So what counts as high can be said in three ways: a threshold (one for all, or one a
class), the N best windows of each class, or a share of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from birdstack.store.errors import SchemaError, UsageError
from birdstack.store.metadata_table import nearest

EVENTS = pl.Schema(
    {
        "recording_id": pl.String,
        "class": pl.String,
        "start_s": pl.Float64,
        "end_s": pl.Float64,
        "windows": pl.Int32,
        "max_score": pl.Float64,
        "mean_score": pl.Float64,
    }
)
"""Columns of a table of events, a row for each."""


class EventConfig(BaseModel):
    """Which windows make events, and how they are joined.

    Attributes:
        threshold: score from which on a window counts.
        by_class: thresholds of single classes, in place of `threshold`.
        top: this many best windows of each class count, whatever their scores.
        quantile: only windows at or above this quantile of their class count: of 0.99, one in
            a hundred of each class, rounded up.
        gap: how many windows that do not count are bridged between two that do.
        min_s: events shorter than this are left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    threshold: float = 0.5
    by_class: Mapping[str, float] = Field(default_factory=dict)
    top: int | None = Field(default=None, ge=1)
    quantile: float | None = Field(default=None, gt=0, lt=1)
    gap: int = Field(default=0, ge=0)
    min_s: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _one_way(self) -> EventConfig:
        if self.top is not None and self.quantile is not None:
            message = "top and quantile exclude each other"
            raise ValueError(message)
        if self.by_class and not self.absolute:
            message = "thresholds of classes play no part beside top or quantile"
            raise ValueError(message)
        return self

    @property
    def absolute(self) -> bool:
        """Whether scores are held against thresholds, so that recordings stand alone."""
        return self.top is None and self.quantile is None


@dataclass(frozen=True, eq=False)
class WindowScores:
    """Scores of the windows of some recordings, sorted by recording and window.

    Attributes:
        recording_ids: `[recording]`, each once.
        recording: position of each window's recording, `[window]`, ascending.
        index: number of each window in its recording, `[window]`, ascending; neighbours
            differ by one.
        start_s: where each window begins, `[window]`.
        end_s: where it ends, `[window]`.
        classes: names.
        values: `[window, class]`, finite.

    Raises:
        SchemaError: shapes or order do not fit, or a score is not finite.
    """

    recording_ids: Sequence[str]
    recording: np.ndarray
    index: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    classes: tuple[str, ...]
    values: np.ndarray

    def __post_init__(self) -> None:
        rows = len(self.recording)
        wanted: dict[str, tuple[int, ...]] = {"values": (rows, len(self.classes))}
        wanted |= dict.fromkeys(("index", "start_s", "end_s"), (rows,))
        for name, needed in wanted.items():
            found = np.shape(getattr(self, name))
            if found != needed:
                message = f"scores of windows: {name} must have shape {needed}, got {found}"
                raise SchemaError(message, remedy="give one row for each window")
        step = np.diff(self.recording)
        if (step < 0).any() or ((step == 0) & (np.diff(self.index) <= 0)).any():
            message = "scores of windows: rows must ascend by recording and window, each once"
            raise SchemaError(message, remedy="sort them first")
        if not np.isfinite(self.values).all():
            row, column = np.argwhere(~np.isfinite(self.values))[0]
            message = f"scores of windows: row {row}, class {self.classes[column]!r}: "
            message += f"a score must be finite, got {self.values[row, column]}"
            raise SchemaError(message, remedy="give every window a score of every class")

    def ends_s(self) -> dict[str, float]:
        """For each recording where its last window ends."""
        last = np.zeros(len(self.recording_ids))
        np.maximum.at(last, self.recording, self.end_s)
        return dict(zip(self.recording_ids, last.tolist(), strict=True))


def find_events(scores: WindowScores, config: EventConfig) -> pl.DataFrame:
    """Events of every recording and class.

    Windows that count are joined where no more than `gap` windows lie between them; a window
    that is missing counts as one that does not reach the threshold. A score of an event is
    taken over all its windows, bridged ones included.

    With thresholds, recordings do not look at each other: the events of many are those of
    each, one after the other. `top` and `quantile` look at all rows given.

    Args:
        scores: of windows.
        config: what counts.

    Returns:
        A table `EVENTS`, by recording, start and class.

    Raises:
        UsageError: a threshold is given of a class that is not scored.
    """
    limits = _limits(scores.classes, config)
    found = [
        _of_class(scores, number, limits[number], config) for number in range(len(scores.classes))
    ]
    number, first, last, best, mean = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((number, scores.start_s[first], scores.recording[first]))
    number, first, last = number[order], first[order], last[order]
    ids = np.asarray(scores.recording_ids, dtype=object)
    return pl.DataFrame(
        {
            "recording_id": ids[scores.recording[first]],
            "class": np.asarray(scores.classes, dtype=object)[number],
            "start_s": scores.start_s[first],
            "end_s": scores.end_s[last],
            "windows": last - first + 1,
            "max_score": best[order],
            "mean_score": mean[order],
        },
        schema=EVENTS,
    )


def _limits(classes: tuple[str, ...], config: EventConfig) -> np.ndarray:
    """Threshold of each class."""
    for name in config.by_class:
        if name not in classes:
            message = f"thresholds: {name!r} is not a class that is scored{nearest(name, classes)}"
            raise UsageError(message, remedy="name classes as the columns of scores are named")
    return np.array([config.by_class.get(name, config.threshold) for name in classes])


def _of_class(
    scores: WindowScores, number: int, limit: float, config: EventConfig
) -> tuple[np.ndarray, ...]:
    """Class, first and last row, highest and mean score of each event of one class."""
    values = scores.values[:, number]
    at = _counting(values, limit, config)
    if not len(at):
        none = np.empty(0, dtype=np.int64)
        return none, none, none, np.empty(0), np.empty(0)
    near = (np.diff(scores.recording[at]) == 0) & (np.diff(scores.index[at]) <= config.gap + 1)
    edges = np.flatnonzero(~near)
    first, last = at[np.append(0, edges + 1)], at[np.append(edges, len(at) - 1)]
    long = scores.end_s[last] - scores.start_s[first] >= config.min_s - 1e-9
    first, last = first[long], last[long]
    total = np.append(0.0, np.cumsum(values, dtype=np.float64))
    mean = (total[last + 1] - total[first]) / (last - first + 1)
    best = np.array([values[a : b + 1].max() for a, b in zip(first, last, strict=True)])
    return np.full(len(first), number), first, last, best.astype(np.float64), mean


def _counting(values: np.ndarray, limit: float, config: EventConfig) -> np.ndarray:
    """Rows that count, ascending; of equal scores the earlier rows come first."""
    if config.absolute:
        return np.flatnonzero(values >= limit)
    many = config.top
    if many is None:
        assert config.quantile is not None
        many = int(np.ceil((1 - config.quantile) * len(values) - 1e-9))
    return np.sort(np.argsort(-values, kind="stable")[:many])
