"""Scores of windows read from a file: predictions, a submission, or a file of a run folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NoReturn

import numpy as np
import polars as pl

from birdstack.stacking.events import WindowScores
from birdstack.stacking.row_files import ROW_ID, WINDOW, refuse
from birdstack.stacking.row_ids import RowTable, read_row_table
from birdstack.store.metadata_table import LINE, missing_column, nearest, read_table

_ROWS = "rows.parquet"
_TIMES = ("start_s", "end_s")
_CLASS_COLUMNS = ("primary_label", "class", "label")
_MAX_BYTES = 1 << 26
_NEAR_S = 1e-3


def read_window_scores(
    path: str | Path, *, window_s: float = 5.0, bounded: bool = True
) -> WindowScores:
    """Scores with the times of their windows.

    A Parquet file of `birdstack predict` says when windows begin and end; beside a file of a
    run folder lies a `rows.parquet` that does. A submission has a `row_id` that ends in the
    second at which the window ends; there every window lasts `window_s`.

    Args:
        path: CSV, CSV packed with gzip, or Parquet, as `read_row_table` takes them.
        window_s: length of a window where the file does not say it.
        bounded: refuse scores outside [0, 1].

    Raises:
        UsageError: there is no such file.
        DatasetError: it does not fit; names file, row, column, rule, value and remedy.
    """
    table = read_row_table(path)
    start_s, end_s = _times(table, window_s)
    names = np.asarray(table.recordings, dtype=object)
    ids, recording = np.unique(names.astype(str), return_inverse=True)
    index = _window_numbers(table, recording, start_s)
    if bounded:
        _check_bounds(table)
    order = np.lexsort((index, recording))
    recording, index = recording[order], index[order]
    same = np.flatnonzero((np.diff(recording) == 0) & (np.diff(index) == 0))
    if len(same):
        one, other = sorted((int(order[same[0]]), int(order[same[0] + 1])))
        places = f"{table.file.place(one)} and {table.file.place(other)}"
        remedy = "keep one row for each window"
        refuse(table.path, f"{places} are the same window of {names[one]!r}", remedy)
    return WindowScores(
        ids.tolist(),
        recording,
        index,
        start_s[order],
        end_s[order],
        table.classes,
        table.values[order],
    )


def read_thresholds(path: str | Path, classes: tuple[str, ...]) -> dict[str, float]:
    """Thresholds by class from a CSV file with a column of classes and one named `threshold`.

    Args:
        path: the file; its column of classes is `primary_label`, `class` or `label`.
        classes: those that are scored.

    Raises:
        DatasetError: it cannot be read, or a row does not fit.
    """
    path = Path(path)
    table = read_table(path, file=str(path), required=("threshold",), max_bytes=_MAX_BYTES)
    named = next((name for name in _CLASS_COLUMNS if name in table.columns), None)
    if named is None:
        raise missing_column(str(path), "class", table.columns)
    if table.ragged:
        line, fields = table.ragged[0]
        what = f"line {line}: {fields} fields, and the header has {len(table.columns)}"
        refuse(path, what, "write the line again")
    found: dict[str, float] = {}
    for row in table.frame.iter_rows(named=True):
        where, name, text = f"line {row[LINE]}", row[named].strip(), row["threshold"].strip()
        if name not in classes:
            what = f"{where}, column {named!r}: {name!r} is no class that is scored"
            refuse(path, what + nearest(name, classes), "name classes as the scores name them")
        if name in found:
            refuse(
                path, f"{where}: class {name!r} comes twice", "give one threshold for each class"
            )
        found[name] = _number(path, where, text)
    return found


def _number(path: Path, where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        what = f"{where}, column 'threshold': must be a finite number, got {text!r}"
        refuse(path, what, "write a number such as 0.5")
    return value


def _times(table: RowTable, window_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Begin and end of each window."""
    frame = table.file.frame
    if set(_TIMES) <= set(table.file.columns):
        rule, remedy = "a time must be a number of seconds, from 0", "write the window's times"
        start_s, end_s = (
            table.file.numbers(name, rule, remedy).astype(np.float64) for name in _TIMES
        )
        for name, values in (("start_s", start_s), ("end_s", end_s)):
            wrong = ~np.isfinite(values) | (values < 0)
            if wrong.any():
                at = int(np.argmax(wrong))
                table.file.refuse_cell(at, name, rule, f"{values[at]:g}", remedy)
    elif table.has_row_id:
        seconds = pl.Series(table.row_id).str.extract(r"_(\d+(?:\.\d+)?)$").cast(pl.Float64)
        _ = table.recordings  # refuses a row_id that does not end in a number
        end_s = seconds.to_numpy()
        start_s = end_s - window_s
        early = start_s < -_NEAR_S
        if early.any():
            at = int(np.argmax(early))
            rule = f"a window of {window_s:g} s cannot end before that"
            remedy = "give the length of a window with --window-s"
            table.file.refuse_cell(at, ROW_ID, rule, f"an end at {end_s[at]:g} s", remedy)
        start_s = np.maximum(start_s, 0.0)
    else:
        start_s, end_s = _from_rows(table, frame)
    if (end_s <= start_s).any():
        at = int(np.argmax(end_s <= start_s))
        value = f"{start_s[at]:g} to {end_s[at]:g}"
        rule = "a window must end after it begins"
        table.file.refuse_cell(at, "end_s", rule, value, "write its times in seconds")
    return start_s, end_s


def _from_rows(table: RowTable, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    beside = table.path.parent / _ROWS
    if not beside.is_file():
        _no_times(table, f"it has no row_id, no start_s and end_s, and no {_ROWS} lies beside it")
    keys = ["recording_id", WINDOW]
    rows = pl.read_parquet(beside, columns=[*keys, *_TIMES])
    rows = rows.cast({"recording_id": pl.String, WINDOW: pl.Int64})
    mine = frame.select(pl.col("recording_id").cast(pl.String), pl.col(WINDOW).cast(pl.Int64))
    joined = mine.join(rows, on=keys, how="left", maintain_order="left")
    if joined["end_s"].null_count():
        at = int(joined["end_s"].is_null().arg_true()[0])
        _no_times(table, f"{table.file.place(at)} is not in {beside}")
    start_s, end_s = (joined[name].cast(pl.Float64).to_numpy() for name in _TIMES)
    return start_s, end_s


def _no_times(table: RowTable, why: str) -> NoReturn:
    what = f"nothing says when windows begin and end: {why}"
    refuse(table.path, what, "add the columns start_s and end_s")


def _window_numbers(table: RowTable, recording: np.ndarray, start_s: np.ndarray) -> np.ndarray:
    """Number of each window in its recording: as the file has it, else by its time."""
    if WINDOW in table.file.columns:
        rule, remedy = "must be a whole number", "number the windows from 0"
        numbers = table.file.numbers(WINDOW, rule, remedy).astype(np.float64)
        odd = ~np.isfinite(numbers) | (numbers != np.round(numbers))
        if odd.any():
            at = int(np.argmax(odd))
            table.file.refuse_cell(at, WINDOW, rule, f"{numbers[at]:g}", remedy)
        return numbers.astype(np.int64)
    order = np.lexsort((start_s, recording))
    apart = np.diff(start_s[order])[np.diff(recording[order]) == 0]
    apart = apart[apart > _NEAR_S]
    hop_s = float(apart.min()) if len(apart) else 1.0
    return np.asarray(np.round(start_s / hop_s), dtype=np.int64)


def _check_bounds(table: RowTable) -> None:
    outside = (table.values < 0) | (table.values > 1)
    if outside.any():
        row, column = (int(at) for at in np.argwhere(outside)[0])
        table.file.refuse_cell(
            row,
            table.classes[column],
            "a score must lie from 0 to 1 to be held against a threshold",
            f"{table.values[row, column]:g}",
            "use --top or --quantile, which only rank, or give scores from 0 to 1",
        )
