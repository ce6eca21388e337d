"""The files that a prediction ends with, written recording by recording.

A submission must hold a row for every window of every file. What could not be heard gets rows as
its header promises, each class at its mean score over all windows that were heard: they rank in
the middle and take nothing from the ranking of the others. Where the header says nothing either,
there are no rows, and `skipped.csv` says so.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from birdstack.stacking.predict_parts import PredictParts
from birdstack.stacking.predict_pass import Skipped
from birdstack.stacking.submission import SubmissionFile, logistic, submission_names
from birdstack.store.keys import WindowGrid

SUBMISSION, PREDICTIONS, SKIPPED = "submission.csv", "predictions.parquet", "skipped.csv"
_KEYS = {
    "recording_id": pl.String,
    "window": pl.Int32,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
}


@dataclass(frozen=True)
class Outputs:
    """Writes the files of a finished prediction.

    Attributes:
        folder: to write into.
        parts: scores of what was heard.
        classes: in order.
        grid: how recordings are cut.
        names: every recording that was asked for, in order.
        skipped: those that could not be heard.
    """

    folder: Path
    parts: PredictParts
    classes: tuple[str, ...]
    grid: WindowGrid
    names: Sequence[str]
    skipped: Sequence[Skipped]

    @property
    def heard(self) -> list[str]:
        """Recordings with scores, in order."""
        out = {skip.recording_id for skip in self.skipped}
        return [name for name in self.names if name not in out]

    def write(self) -> tuple[int, int]:
        """Write all files.

        Returns:
            Number of rows of the submission, and how many of them were not heard.
        """
        promised = {skip.recording_id: skip.windows or 0 for skip in self.skipped}
        middle = logistic(self._mean()) if any(promised.values()) else None
        every = sorted({*self.names, *promised})
        unheard = 0
        with SubmissionFile(
            self.folder / SUBMISSION, self.classes, submission_names(every)
        ) as file:
            for name in every:
                if name not in promised:
                    values = logistic(self.parts.scores(name))
                elif promised[name] and middle is not None:
                    values = np.tile(middle, (promised[name], 1))
                    unheard += len(values)
                else:
                    continue
                file.add(name, self._start_s(len(values)) + self.grid.window_s, values)
        self._predictions()
        self._skips()
        return file.rows, unheard

    def _mean(self) -> np.ndarray:
        """Mean score of each class over the windows that were heard; 0 if there is none."""
        total, count = np.zeros(len(self.classes)), 0
        for name in self.heard:
            scores = self.parts.scores(name)
            total += scores.sum(axis=0, dtype=np.float64)
            count += len(scores)
        return total / max(count, 1)

    def _predictions(self) -> None:
        schema = pl.Schema({**_KEYS, **dict.fromkeys(self.classes, pl.Float64)})

        def read(
            with_columns: list[str] | None,
            predicate: pl.Expr | None,
            n_rows: int | None,
            _batch_size: int | None,
        ) -> Iterator[pl.DataFrame]:
            assert predicate is None, "everything is written"
            assert n_rows is None, "everything is written"
            for name in self.heard:
                frame = self._frame(name)
                yield frame if with_columns is None else frame.select(with_columns)

        path = self.folder / PREDICTIONS
        aside = path.with_name(f".{path.name}.{os.getpid()}.new")
        if self.heard:
            rows = register_io_source(read, schema=schema, validate_schema=False)
            rows.sink_parquet(aside)
        else:
            schema.to_frame().write_parquet(aside)
        aside.replace(path)

    def _frame(self, name: str) -> pl.DataFrame:
        values = logistic(self.parts.scores(name))
        start_s = self._start_s(len(values))
        keys = {
            "recording_id": [name] * len(values),
            "window": np.arange(len(values), dtype=np.int32),
            "start_s": start_s,
            "end_s": start_s + self.grid.window_s,
        }
        return pl.DataFrame(keys, schema=_KEYS).hstack(
            pl.DataFrame(values, schema=dict.fromkeys(self.classes, pl.Float64))
        )

    def _skips(self) -> None:
        path = self.folder / SKIPPED
        aside = path.with_name(f".{path.name}.{os.getpid()}.new")
        with aside.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["file", "code", "reason", "rows"])
            for skip in sorted(self.skipped, key=lambda each: each.recording_id):
                table.writerow([skip.recording_id, skip.code, skip.reason, skip.windows or 0])
        aside.replace(path)

    def _start_s(self, n_windows: int) -> np.ndarray:
        return np.arange(n_windows) * self.grid.hop_s
