"""Submission-like tables: a `row_id` and a column for each class.

A `row_id` is the file's stem, an underscore and the second at which the window ends, as in
BirdCLEF 2021 to 2025: `soundscape_29201_35`. Files of a run folder have `recording_id` and
`window` in its place; a `rows.parquet` beside them says when their windows end. Columns for
what is known of a window otherwise (`start_s`, `fold`, ...) are not taken for classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl

from birdstack.stacking.row_files import RECORDING, ROW_ID, WINDOW, RowFile, few, refuse
from birdstack.store.audio_files import AUDIO_SUFFIXES
from birdstack.store.errors import DatasetError
from birdstack.store.labels import ABSENT, PRESENT, UNKNOWN
from birdstack.store.metadata_table import nearest

BESIDE = frozenset({ROW_ID, RECORDING, WINDOW, "start_s", "end_s", "fold", "group", "model_fold"})
"""Columns that are no classes."""

_RECORDING_OF = r"^(.+)_\d+(?:\.\d+)?$"
_ROWS = "rows.parquet"
_LABEL = "y:"


def row_ids(recording_ids: Iterable[str], end_s: Iterable[float]) -> list[str]:
    """The `row_id` of each window.

    Args:
        recording_ids: recording of each window; folders and the audio suffix are left out.
        end_s: second at which each window ends.

    Raises:
        DatasetError: two recordings would give the same `row_id`.
    """
    stems: dict[str, str] = {}
    homes: dict[str, str] = {}
    found = []
    for recording, end in zip(recording_ids, end_s, strict=True):
        if recording not in stems:
            stem = stems[recording] = _stem(recording)
            if homes.setdefault(stem, recording) != recording:
                message = (
                    f"recordings {homes[stem]!r} and {recording!r} have the same name, {stem!r}, "
                    "so their windows would have the same row_id"
                )
                raise DatasetError(message, remedy="give the files names of their own")
        found.append(f"{stems[recording]}_{f'{float(end):.3f}'.rstrip('0').rstrip('.')}")
    return found


def recordings_of(row_id: Sequence[str]) -> list[str | None]:
    """Recording of each `row_id`: all before the last `_<number>`; None where that is not there."""
    return pl.Series(row_id, dtype=pl.String).str.extract(_RECORDING_OF).to_list()


@dataclass(frozen=True, eq=False)
class RowTable:
    """A table of scores or labels.

    Attributes:
        file: where it is from.
        row_id: of each row; `recording_id, window` where the file has these and no `row_id`.
        classes: in the order asked for, or else that of the file.
        values: `[row, class]`, NaN where a cell is empty.
        ignored: columns that were neither asked for nor needed.
    """

    file: RowFile
    row_id: list[str]
    classes: tuple[str, ...]
    values: np.ndarray
    ignored: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path

    @property
    def has_row_id(self) -> bool:
        """Whether rows are named by `row_id`, not by recording and number of the window."""
        return ROW_ID in self.file.columns

    @cached_property
    def recordings(self) -> list[str]:
        """Recording of each row.

        Raises:
            DatasetError: a `row_id` does not end in `_<number>`.
        """
        if RECORDING in self.file.columns:
            return self.file.keys(RECORDING).to_list()
        found = recordings_of(self.row_id)
        if None in found:
            at = found.index(None)
            rule = "must be the recording, an underscore and the second at which the window ends"
            self.file.refuse_cell(
                at, ROW_ID, rule, repr(self.row_id[at]), "write for example soundscape_29201_35"
            )
        return [name for name in found if name is not None]

    def named_like(self, other: RowTable) -> list[str]:
        """Names of the rows, by `row_id` if one of the two tables has it.

        Raises:
            DatasetError: this one has no `row_id`, and nothing says when its windows end.
        """
        if self.has_row_id or not other.has_row_id:
            return self.row_id
        return self.submission_ids(f"those of {other.path}")

    def submission_ids(self, needed_by: str) -> list[str]:
        """The `row_id` of each row, also where the file has none but it follows.

        Args:
            needed_by: what has `row_id`, for the message.

        Raises:
            DatasetError: the file has no `row_id`, and nothing says when its windows end.
        """
        if self.has_row_id:
            return self.row_id
        beside = self.path.parent / _ROWS
        if "end_s" in self.file.columns:
            keys = self.file.frame.select(RECORDING, "end_s")
        elif beside.is_file():
            rows = _ends(beside)
            mine = self.file.frame.select(
                pl.col(RECORDING).cast(pl.String), pl.col(WINDOW).cast(pl.Int64)
            )
            keys = mine.join(rows, on=[RECORDING, WINDOW], how="left", maintain_order="left")
        else:
            refuse(
                self.path,
                f"rows are named by {RECORDING} and {WINDOW}, {needed_by} by {ROW_ID}, and there is "
                f"no {beside.name} beside it that says when windows end",
                f"add a column {ROW_ID}, or end_s",
            )
        ends = keys["end_s"].cast(pl.Float64, strict=False)
        if ends.null_count():
            at = int(ends.is_null().arg_true()[0])
            refuse(
                self.path,
                f"{self.file.place(at)}: nothing says when the window ends",
                f"add a column {ROW_ID}, or end_s",
            )
        return row_ids(keys[RECORDING].to_list(), ends.to_list())


def read_row_table(
    path: str | Path,
    classes: Sequence[str] | None = None,
    *,
    lacking: str = "refuse",
) -> RowTable:
    """Read scores: one row for each window, a finite number for each class.

    Args:
        path: CSV, CSV packed with gzip, or Parquet.
        classes: to be read, in this order; None for all the file has.
        lacking: `refuse`, or `leave` classes out that the file lacks or has no score of.

    Raises:
        UsageError: there is no such file.
        DatasetError: the file does not fit; names file, row, column, rule, value and remedy.
    """
    file = RowFile.open(Path(path))
    names = _names(file)
    there = [name for name in file.columns if name not in BESIDE]
    wanted = tuple(there if classes is None else classes)
    if not there:
        refuse(file.path, "no column of a class", "give one column of scores for each class")
    rule = "a score must be a finite number"
    remedy = "give every row a score of every class"
    columns, empty = {}, []
    for name in wanted:
        if name not in there:
            continue
        values = file.numbers(name, rule, remedy)
        wrong = ~np.isfinite(values)
        if wrong.all() and np.isnan(values).all() and classes is not None:
            empty.append(name)
            continue
        if wrong.any():
            at = int(np.argmax(wrong))
            value = f"{_said(values[at])} ({int(wrong.sum())} such rows)"
            file.refuse_cell(at, name, rule, value, remedy)
        columns[name] = values
    lost = [name for name in wanted if name not in columns]
    if lost and lacking == "refuse":
        _refuse_lacking(file, lost, empty, there)
    found = tuple(name for name in wanted if name in columns)
    ignored = tuple(name for name in there if name not in set(wanted))
    return RowTable(file, names, found, _matrix(list(columns.values()), len(names)), ignored)


def read_labels(path: str | Path) -> RowTable:
    """Read truth: 1 present, 0 absent, an empty cell not known, or a share from 0 to 1.

    A table for `birdstack stack --table` is truth too: only its columns `y:<class>` are read.

    Args:
        path: CSV, CSV packed with gzip, or Parquet.

    Raises:
        UsageError: there is no such file.
        DatasetError: the file does not fit; names file, row, column, rule, value and remedy.
    """
    file = RowFile.open(Path(path))
    names = _names(file)
    there = [name for name in file.columns if name not in BESIDE]
    marked = [name for name in there if name.startswith(_LABEL)]
    if not there:
        refuse(file.path, "no column of a class", "give one column of labels for each class")
    rule, columns = "a label must be 1, 0, a share between, or empty", []
    remedy = "write 1 for present, 0 for absent and nothing for not known"
    for name in marked or there:
        values = file.numbers(name, rule, remedy)
        stray = np.isnan(values) & file.frame[name].is_not_null().to_numpy()
        if file.text:
            stray &= (file.frame[name].str.strip_chars() != "").fill_null(value=False).to_numpy()
        wrong = stray | (values < 0) | (values > 1)
        if wrong.any():
            at = int(np.argmax(wrong))
            file.refuse_cell(at, name, rule, _said(values[at]), remedy)
        columns.append(values)
    classes = tuple(name.removeprefix(_LABEL) if marked else name for name in marked or there)
    return RowTable(file, names, classes, _matrix(columns, len(names)))


def as_labels(shares: np.ndarray, above: float = 0.0) -> np.ndarray:
    """Labels as int8 of shares `[row, class]`: present above a limit, -1 where NaN."""
    labels = np.where(shares > above, PRESENT, ABSENT).astype(np.int8)
    labels[np.isnan(shares)] = UNKNOWN
    return labels


def read_truth(path: str | Path, classes: Sequence[str], row_ids: Sequence[str]) -> np.ndarray:
    """Labels for windows that are there already, int8 `[row, class]`: 1, 0, or -1 not known.

    What the truth does not speak of, rows or classes, is not known. A share above 0 is present.

    Args:
        path: as `read_labels`.
        classes: order of the columns.
        row_ids: of the rows.

    Raises:
        UsageError: there is no such file.
        DatasetError: the file does not fit, or speaks of none of the rows, or of none of the
            classes.
    """
    table = read_labels(path)
    names = table.submission_ids("what is asked for")
    place = {name: number for number, name in enumerate(names)}
    row = np.array([place.get(name, -1) for name in row_ids], dtype=np.int64)
    if not (row >= 0).any():
        refuse(
            table.path,
            f"none of its {len(names)} rows is asked for: it has {few(names)}, asked for are "
            f"{few(list(row_ids))}",
            f"write {ROW_ID} as the name of the file and the second at which the window ends",
        )
    number = {name: at for at, name in enumerate(table.classes)}
    column = np.array([number.get(name, -1) for name in classes], dtype=np.int64)
    if not (column >= 0).any():
        refuse(
            table.path,
            f"none of its classes is asked for: it has {few(table.classes)}, asked for are "
            f"{few(list(classes))}",
            "name columns as the classes are named",
        )
    labels = as_labels(table.values)[np.ix_(row, column)]
    labels[row < 0] = UNKNOWN
    labels[:, column < 0] = UNKNOWN
    return np.asarray(labels)


def _ends(path: Path) -> pl.DataFrame:
    """When the windows of a run folder end."""
    try:
        rows = pl.read_parquet(path, columns=[RECORDING, WINDOW, "end_s"])
        return rows.cast({RECORDING: pl.String, WINDOW: pl.Int64})
    except (pl.exceptions.PolarsError, OSError) as error:
        words = str(error).splitlines()[0]
        message = f"{path}: it does not say when windows end ({words})"
        raise DatasetError(message, remedy="write the run folder again") from error


def _stem(recording: str) -> str:
    path = PurePosixPath(recording)
    return path.stem if path.suffix.lower() in AUDIO_SUFFIXES else path.name


def _names(file: RowFile) -> list[str]:
    """Names of the rows, each once."""
    if ROW_ID in file.columns:
        names = file.keys(ROW_ID)
    elif RECORDING in file.columns and WINDOW in file.columns:
        window = file.keys(WINDOW).cast(pl.Float64, strict=False)
        odd = (window.is_null() | (window != window.round())).fill_null(value=True).arg_true()
        if len(odd):
            at = int(odd[0])
            value = repr(file.frame[WINDOW][at])
            file.refuse_cell(at, WINDOW, "must be a whole number", value, "number the windows")
        names = file.keys(RECORDING) + ", window " + window.cast(pl.Int64).cast(pl.String)
    else:
        hint = nearest(ROW_ID, file.columns)
        refuse(
            file.path,
            f"column {ROW_ID!r} is missing; the columns are {few(file.columns, 6)}{hint}",
            f"name the rows in a column {ROW_ID} (or in {RECORDING} and {WINDOW})",
        )
    twice = names.is_duplicated()
    if twice.any():
        first = names.filter(twice)[0]
        one, other = (names == first).arg_true()[:2]
        count = len(names) - names.n_unique()
        more = f" ({count} such rows)" if count > 1 else ""
        refuse(
            file.path,
            f"{file.place(int(one))} and {file.place(int(other))} are the same window{more}",
            "keep one row for each window",
        )
    return names.to_list()


def _matrix(columns: list[np.ndarray], rows: int) -> np.ndarray:
    """Columns side by side, in single precision if all of them are."""
    single = all(column.dtype == np.float32 for column in columns)
    matrix = np.empty((rows, len(columns)), np.float32 if single else np.float64)
    for number, column in enumerate(columns):
        matrix[:, number] = column
    return matrix


def _refuse_lacking(
    file: RowFile, lost: list[str], empty: Sequence[str], there: Sequence[str]
) -> None:
    if lost[0] in empty:
        what = f"column {lost[0]!r} holds no score at all ({len(lost)} classes without scores)"
    else:
        hints = [f"{name!r}{nearest(name, there)}" for name in lost[:3]]
        more = f" and {len(lost) - 3} more" if len(lost) > len(hints) else ""
        what = f"no column for {', '.join(hints)}{more}"
    refuse(file.path, what, "give a column of scores for each class of the truth")


def _said(value: float) -> str:
    return "nothing or NaN" if np.isnan(value) else f"{value:g}"
