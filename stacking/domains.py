"""The sets of windows that a run is judged on, each with its rows, labels and scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from birdstack.stacking.estimates import (
    MUST_BEAT,
    DomainDraws,
    affordable,
    class_rows,
    estimate_rows,
    judgeable,
)
from birdstack.stacking.stack_table import FOCAL, SIMULATED, SOUNDSCAPES, TEST, StackTable

TABLE = "table"
WITHOUT_PRIOR = "without_prior"
"""Scores of what is shipped without the range prior, where one was asked for."""

TITLES = {
    TABLE: "all windows of the table",
    FOCAL: "focal recordings, out-of-fold",
    SIMULATED: "simulated soundscapes, out-of-fold",
    SOUNDSCAPES: "labelled soundscapes, out-of-fold",
    TEST: "test soundscapes, never trained on",
}


@dataclass(frozen=True, eq=False)
class Domain:
    """Windows of one kind.

    Attributes:
        name: `focal`, `simulated`, `soundscapes`, `test` or `table`.
        table: with labels; its rows are those of `rows` and perhaps others.
        rows: which rows of the table, `[window]` of bool.
        keys: of all rows of the table: `recording_id`, `window`, `start_s`, `end_s`.
        scores: `[window, class]` of all rows of the table, by name.
        fresh: whether nothing was learnt from these rows.
    """

    name: str
    table: StackTable
    rows: np.ndarray
    keys: pl.DataFrame
    scores: Mapping[str, np.ndarray]
    fresh: bool = False

    @property
    def title(self) -> str:
        """For people."""
        return TITLES[self.name]

    @property
    def has_truth(self) -> bool:
        """Whether any label is known."""
        return bool((self.table.truth[self.rows] >= 0).any())

    @property
    def recordings(self) -> int:
        """How many recordings its rows are of."""
        return len(np.unique(self.table.recording[self.rows]))

    def summary(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        return {
            "title": self.title,
            "windows": int(self.rows.sum()),
            "recordings": self.recordings,
            "truth": self.has_truth,
            "level": "never trained on" if self.fresh else "fold-nested",
        }

    def estimates(self, resamples: int, seed: int) -> dict[str, Any] | None:
        """Macro AUC of every score with intervals, and classes; None where nothing is labelled."""
        if not judgeable(self.table, self.rows):
            return None
        many = affordable(self.table, self.rows, resamples)
        domain = DomainDraws(self.table, self.rows, resamples=many, seed=seed)
        draws = {name: domain.of(scores) for name, scores in self.scores.items()}
        shipped = draws["shipped"]
        if WITHOUT_PRIOR not in draws:  # what is shipped has a row of its own already
            del draws["shipped"]
        return {
            **self.summary(),
            "rows": estimate_rows(draws, fresh=self.fresh),
            "shipped": estimate_rows(
                {"shipped": shipped, MUST_BEAT: draws[MUST_BEAT]}, fresh=self.fresh
            )[0],
            "by_class": class_rows(self.table, self.rows, shipped, draws[MUST_BEAT]),
        }
