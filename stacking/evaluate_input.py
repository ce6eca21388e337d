"""What `birdstack evaluate` reads: truth and predictions, brought into one order of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdstack.stacking.console import counted
from birdstack.stacking.row_files import few, refuse
from birdstack.stacking.row_ids import RowTable, as_labels, read_labels, read_row_table
from birdstack.store.labels import PRESENT


@dataclass(frozen=True, eq=False)
class EvaluationInput:
    """Rows of the truth, in its order.

    Attributes:
        classes: that are scored, in the order of the truth.
        labels: `[row, class]`: 1, 0, or -1 not known.
        scores: `[row, class]`.
        other: scores to compare with, `[row, class]`.
        recording: of each row, by name; of each its own if rows are taken as independent.
        notes: what was left out or decided, for people.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    scores: np.ndarray
    other: np.ndarray | None
    recording: np.ndarray
    notes: tuple[str, ...]


def read_evaluation(
    predictions: Path,
    truth: Path,
    *,
    against: Path | None = None,
    common_classes: bool = False,
    present_above: float = 0.0,
    rows_alone: bool = False,
) -> EvaluationInput:
    """Read and align tables.

    Args:
        predictions: submission-like table.
        truth: labels of windows.
        against: other predictions of the same windows.
        common_classes: score the classes that all tables have; else a class that predictions
            lack is refused.
        present_above: a label above it is present.
        rows_alone: take each row as a recording of its own.

    Raises:
        UsageError: a file is not there.
        DatasetError: a file does not fit, or files do not fit each other.
    """
    answers = read_labels(truth)
    labels = as_labels(answers.values, present_above)
    if not (labels == PRESENT).any():
        top = f"above {present_above:g}" if present_above else "1"
        refuse(
            truth,
            f"no label of its {counted(len(answers.classes), 'class')} is {top}: without positives "
            "there is no AUC",
            "mark the rows in which a class is present with 1",
        )
    notes = _soft(answers, present_above)
    lacking = "leave" if common_classes else "refuse"
    tables = [read_row_table(predictions, answers.classes, lacking=lacking)]
    if against is not None:
        tables.append(read_row_table(against, answers.classes, lacking=lacking))
    classes = tuple(c for c in answers.classes if all(c in table.classes for table in tables))
    left = [name for name in answers.classes if name not in set(classes)]
    if left:
        notes.append(f"{counted(len(left), 'class')} left out for want of scores: {few(left)}")
    place = {name: number for number, name in enumerate(answers.classes)}
    labels = labels[:, [place[name] for name in classes]]
    if not (labels == PRESENT).any():
        refuse(
            predictions,
            f"it has none of the classes with positives in {truth}: {few(answers.classes)}",
            "name columns as the truth does",
        )
    scores = [_aligned(table, answers, classes, notes) for table in tables]
    names = answers.row_id if rows_alone else answers.recordings
    return EvaluationInput(
        classes,
        labels,
        scores[0],
        scores[1] if against is not None else None,
        np.array(names),
        tuple(notes),
    )


def _soft(answers: RowTable, present_above: float) -> list[str]:
    soft = int(np.count_nonzero((answers.values > 0) & (answers.values < 1)))
    if not soft:
        return []
    what = "1 label lies" if soft == 1 else f"{soft:,} labels lie"
    return [f"{what} between 0 and 1: a class counts as present above {present_above:g}"]


def _aligned(
    table: RowTable, answers: RowTable, classes: Sequence[str], notes: list[str]
) -> np.ndarray:
    """Scores in the rows of the truth and the order of the classes."""
    mine, asked = table.named_like(answers), answers.named_like(table)
    place = {name: number for number, name in enumerate(mine)}
    row = np.array([place.get(name, -1) for name in asked])
    lost = np.flatnonzero(row < 0)
    if len(lost):
        first = [asked[number] for number in lost[:3]]
        more = f" and {len(lost) - 3:,} more" if len(lost) > len(first) else ""
        refuse(
            table.path,
            f"{len(lost):,} of the {len(asked):,} rows of {answers.path} are missing: "
            f"{', '.join(map(repr, first))}{more}; the first row here is {mine[0]!r}",
            "predict every row of the truth, or leave the rows out of it",
        )
    if len(mine) > len(asked):
        notes.append(
            f"{table.path.name}: {counted(len(mine) - len(asked), 'row')} that the truth lacks "
            "ignored"
        )
    if table.ignored:
        notes.append(
            f"{table.path.name}: {counted(len(table.ignored), 'column')} that the truth lacks "
            f"ignored: {few(table.ignored)}"
        )
    column = np.array([table.classes.index(name) for name in classes])
    return np.asarray(table.values[np.ix_(row, column)])
