"""Macro AUC of every control and of the stack on one set of windows, with intervals.

Intervals are by recording, differences paired: every row of a table is resampled alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from birdstack.stacking.bootstrap import AucDraws, RecordingBootstrap
from birdstack.stacking.controls import BY_NAME
from birdstack.stacking.stack_table import StackTable
from birdstack.store.labels import ABSENT, PRESENT

MUST_BEAT = "mean_kernel"
"""The control that every difference is taken to."""

_TITLES = {
    "shared": "shared booster",
    "residual": "residual booster",
    "logistic": "L2 logistic",
    "chosen": "control chosen inside folds",
    "stack": "stack",
    "without_prior": "shipped without prior",
    "shipped": "shipped",
}
_NESTED = {"stack", "chosen", "without_prior", "shipped"}
_WORK, _FEWEST = 2e10, 200


def title_of(name: str) -> str:
    """Name of a score for people."""
    control = BY_NAME.get(name)
    return _TITLES.get(name, name) if control is None else control.title


def level_of(name: str, *, fresh: bool) -> str:
    """How honest a score's figure is.

    Args:
        name: of the score.
        fresh: whether nothing at all was learnt from the rows.
    """
    if fresh:
        return "never trained on"
    if name in _NESTED:
        return "fold-nested"
    control = BY_NAME.get(name)
    return "grouped out-of-fold" if control is None or control.fit else "no label seen"


class DomainDraws:
    """Resamples of the recordings of one domain; scores are drawn as they are asked for.

    Args:
        table: whose labels and recordings.
        rows: of the domain, `[window]` of bool.
        resamples: asked for; fewer where `affordable` says so.
        seed: of the draw.
    """

    def __init__(
        self, table: StackTable, rows: np.ndarray, *, resamples: int, seed: int = 0
    ) -> None:
        self.rows = rows
        self._bootstrap = RecordingBootstrap(
            table.recording[rows], table.truth[rows], resamples=resamples, seed=seed
        )

    def of(self, scores: np.ndarray) -> AucDraws:
        """Draws of scores `[window, class]` of the whole table."""
        return self._bootstrap.draws(scores[self.rows])


def judgeable(table: StackTable, rows: np.ndarray) -> bool:
    """Whether some rows have a class with both labels, and two recordings or more."""
    truth = table.truth[rows]
    both = (truth == PRESENT).any(axis=0) & (truth == ABSENT).any(axis=0)
    return bool(both.any()) and len(np.unique(table.recording[rows])) > 1


def affordable(table: StackTable, rows: np.ndarray, resamples: int) -> int:
    """Resamples for two dozen scores: fewer on large tables, 200 at least.

    A resample costs, for each class, recordings with positives times recordings.
    """
    recording = table.recording[rows]
    starts = np.flatnonzero(np.diff(recording, prepend=-1))
    if not len(starts):
        return resamples
    there = np.logical_or.reduceat(table.truth[rows] == PRESENT, starts, axis=0)
    work = int(there.sum()) * len(starts)
    return min(resamples, max(_FEWEST, int(_WORK / max(work, 1))))


def estimate_rows(draws: Mapping[str, AucDraws], *, fresh: bool = False) -> list[dict[str, Any]]:
    """One JSON-able row for each score: macro AUC, and the difference to mean + kernel.

    Args:
        draws: by name of the score, that of `MUST_BEAT` among them.
        fresh: whether nothing was learnt from the rows.
    """
    return [
        {
            "name": name,
            "title": title_of(name),
            "level": level_of(name, fresh=fresh),
            "macro_auc": asdict(drawn.interval()),
            "over_mean_kernel": asdict((drawn - draws[MUST_BEAT]).interval()),
        }
        for name, drawn in draws.items()
    ]


def class_rows(
    table: StackTable, rows: np.ndarray, ours: AucDraws, control: AucDraws
) -> list[dict[str, Any]]:
    """One JSON-able row for each class: positives, AUC with interval, and that of the control."""
    positives = (table.truth[rows] == PRESENT).sum(axis=0)
    return [
        {
            "class": name,
            "positives": int(positives[number]),
            "auc": _known(auc.value),
            "low": _known(auc.low),
            "high": _known(auc.high),
            "mean_kernel_auc": _known(other),
        }
        for number, (name, auc, other) in enumerate(
            zip(table.classes, ours.per_class(), control.value, strict=True)
        )
    ]


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
