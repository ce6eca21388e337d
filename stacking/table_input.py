"""A bare table of out-of-fold scores in Parquet, for those who have predictions and no store.

Columns: `recording_id`, `window`; `group` (else the recording is its own); `fold` (else
grouped folds are dealt here); `y:<class>` with 1, 0 or null; `<backbone>:<class>` with scores,
of any number of backbones; `x:<name>` with anything else that is a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from birdstack.stacking.deal_folds import deal_folds
from birdstack.stacking.stack_table import StackTable
from birdstack.stacking.table_columns import KEYS, Place, TableColumns
from birdstack.store.errors import DatasetError, UsageError
from birdstack.store.labels import PRESENT, UNKNOWN

_EDGE = 1e-9


@dataclass(frozen=True)
class TableNotes:
    """What was understood of a table, to be told.

    Attributes:
        probabilities: backbones whose scores all lie in [0, 1]; turned into logits.
        folds: `given`, or how they were dealt.
        lacking: for each backbone the number of classes it does not speak of.
    """

    probabilities: tuple[str, ...]
    folds: str
    lacking: dict[str, int]


def read_table(path: str | Path, *, n_folds: int = 5) -> StackTable:
    """Read a table of out-of-fold scores.

    Args:
        path: a Parquet file.
        n_folds: folds to deal where the file has none.

    Raises:
        UsageError: there is no such file.
        DatasetError: the file does not fit; names row, column, rule, value and remedy.
    """
    return read_table_with_notes(path, n_folds=n_folds)[0]


def read_table_with_notes(
    path: str | Path, *, n_folds: int = 5, need_labels: bool = True
) -> tuple[StackTable, TableNotes]:
    """As `read_table`, and what was understood.

    Args:
        path: a Parquet file.
        n_folds: folds to deal where the file has none.
        need_labels: False for rows that are only to be scored: folds are then ignored.
    """
    place = Place(Path(path))
    frame = _opened(place)
    columns = TableColumns.of(frame, place, need_labels=need_labels)
    frame = _keys(frame, place)
    ids, starts, counts = _recordings(frame)
    truth = _truth(frame, columns.classes, place)
    logits, probabilities = _scores(frame, columns, place)
    extra = _extra(frame, columns.extra, place)
    groups = _groups(frame, ids, starts, counts, place)
    window_index = frame["window"].to_numpy().astype(np.int32)
    if not need_labels:
        fold, how = np.full(len(ids), -1), "not used"
    else:
        if not (truth == PRESENT).any():
            place.refuse(
                "columns y:<class>: no value is 1, so there is nothing to learn",
                "mark the windows in which a class is present with 1",
            )
        fold, how = _folds(
            frame,
            place,
            ids=ids,
            starts=starts,
            counts=counts,
            groups=groups,
            truth=truth,
            n_folds=n_folds,
        )
    table = StackTable(
        recording_ids=ids,
        windows=counts,
        groups=groups,
        fold=fold,
        backbones=columns.backbones,
        classes=columns.classes,
        logits=logits,
        truth=truth,
        extra=extra,
        extra_names=columns.extra,
        window_index=window_index,
    )
    lacking = {
        name: int(np.isnan(logits[number, 0]).sum())
        for number, name in enumerate(columns.backbones)
    }
    return table, TableNotes(probabilities, how, lacking)


def _opened(place: Place) -> pl.DataFrame:
    if not place.path.is_file():
        message = f"--table {place.path}: no such file"
        raise UsageError(message, remedy="give a Parquet file")
    try:
        frame = pl.read_parquet(place.path)
    except (pl.exceptions.PolarsError, OSError) as error:
        words = str(error).splitlines()[0]
        message = f"{place.path}: not a Parquet file that can be read ({words})"
        raise DatasetError(message, remedy="write the table as Parquet") from error
    if frame.is_empty():
        place.refuse("the table has no rows", "give one row for each window")
    return frame


def _keys(frame: pl.DataFrame, place: Place) -> pl.DataFrame:
    """Rows in order, with row numbers of the file, keys checked."""
    frame = frame.with_row_index("row:")
    for name in KEYS:
        empty = frame.filter(pl.col(name).is_null())
        if len(empty):
            place.refuse(f"row {empty['row:'][0]}, column {name!r}: empty", "fill both key columns")
    window = frame["window"]
    if not window.dtype.is_integer():
        odd = window.cast(pl.Float64, strict=False) if window.dtype.is_numeric() else None
        if odd is None or not (odd == odd.round()).fill_null(value=False).all():
            place.refuse(
                f"column 'window' must hold whole numbers, its type is {window.dtype}",
                "number the windows of each recording 0, 1, 2, ...",
            )
    if frame["window"].cast(pl.Int64).min() < 0:  # type: ignore[operator]
        row = frame.filter(pl.col("window") < 0)
        place.refuse(
            f"row {row['row:'][0]}, column 'window': {row['window'][0]} is below zero",
            "number the windows of each recording 0, 1, 2, ...",
        )
    frame = frame.with_columns(
        pl.col("recording_id").cast(pl.String), pl.col("window").cast(pl.Int64)
    )
    twice = frame.filter(pl.struct(KEYS).is_duplicated())
    if len(twice):
        first = twice.row(0, named=True)
        rows = twice.filter(
            (pl.col("recording_id") == first["recording_id"])
            & (pl.col("window") == first["window"])
        )["row:"].to_list()
        place.refuse(
            f"rows {rows[0]} and {rows[1]}: recording_id {first['recording_id']!r}, window "
            f"{first['window']} stands twice",
            "keep one row for each window",
        )
    return frame.sort(*KEYS)


def _recordings(frame: pl.DataFrame) -> tuple[list[str], np.ndarray, np.ndarray]:
    runs = frame.group_by("recording_id", maintain_order=True).len()
    counts = runs["len"].to_numpy().astype(np.int64)
    return runs["recording_id"].to_list(), np.cumsum(counts) - counts, counts


def _truth(frame: pl.DataFrame, classes: Sequence[str], place: Place) -> np.ndarray:
    truth = np.full((len(frame), len(classes)), UNKNOWN, dtype=np.int8)
    for number, name in enumerate(classes):
        if f"y:{name}" not in frame.columns:
            continue
        values = _numbers(frame, f"y:{name}", place, "a label must be 1, 0 or null")
        lost = np.isnan(values) & frame[f"y:{name}"].is_not_null().to_numpy()
        wrong = lost | (~np.isnan(values) & (values != 0) & (values != 1))
        if wrong.any():
            at = int(np.argmax(wrong))
            place.refuse(
                f"row {frame['row:'][at]}, column 'y:{name}': a label must be 1, 0 or null, "
                f"got {values[at]:g}",
                "turn the labels into 1, 0 and null",
            )
        truth[:, number] = np.where(np.isnan(values), UNKNOWN, values)
    return truth


def _scores(
    frame: pl.DataFrame, columns: TableColumns, place: Place
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Logits `[backbone, window, class]`, and the backbones that gave probabilities."""
    shape = (len(columns.backbones), len(frame), len(columns.classes))
    scores = np.full(shape, np.nan, dtype=np.float64)
    there = set(frame.columns)
    for backbone, kind in enumerate(columns.backbones):
        for number, name in enumerate(columns.classes):
            column = f"{kind}:{name}"
            if column not in there:
                continue
            values = _numbers(frame, column, place, "a score must be a finite number")
            wrong = ~np.isfinite(values)
            if wrong.any():
                at = int(np.argmax(wrong))
                found = frame[column][at]
                place.refuse(
                    f"row {frame['row:'][at]}, column {column!r}: a score must be a finite "
                    f"number, got {'null' if found is None else found} "
                    f"({int(wrong.sum())} such rows)",
                    "score every window, or leave the column out for all",
                )
            scores[backbone, :, number] = values
    probabilities = []
    for backbone, kind in enumerate(columns.backbones):
        layer = scores[backbone]
        if np.nanmin(layer) >= 0 and np.nanmax(layer) <= 1:
            probabilities.append(kind)
            clipped = np.clip(layer, _EDGE, 1 - _EDGE)
            scores[backbone] = np.log(clipped) - np.log1p(-clipped)
    return scores.astype(np.float32), tuple(probabilities)


def _extra(frame: pl.DataFrame, names: Sequence[str], place: Place) -> np.ndarray:
    """Extra columns `[window, column]`; null, NaN and infinite values are not known: NaN."""
    if not names:
        return np.empty((0, 0), dtype=np.float32)
    extra = np.stack(
        [_numbers(frame, f"x:{name}", place, "must hold numbers") for name in names], axis=1
    )
    extra[~np.isfinite(extra)] = np.nan
    return np.asarray(np.clip(extra, -3e38, 3e38), dtype=np.float32)


def _numbers(frame: pl.DataFrame, column: str, place: Place, rule: str) -> np.ndarray:
    values = frame[column]
    if not (values.dtype.is_numeric() or values.dtype in {pl.Boolean, pl.Null}):
        known = values.drop_nulls()
        found = repr(known[0]) if len(known) else "nothing"
        place.refuse(
            f"row {frame.filter(pl.col(column).is_not_null())['row:'][0] if len(known) else 0}, "
            f"column {column!r}: {rule}, its type is {values.dtype} with {found}",
            "write the column as numbers",
        )
    return np.array(values.cast(pl.Float64).to_numpy(), dtype=np.float64)


def _per_recording(
    frame: pl.DataFrame, column: str, starts: np.ndarray, counts: np.ndarray, place: Place
) -> list[Any]:
    """The one value of a column in each recording."""
    values = frame[column]
    if values.null_count():
        row = frame.filter(pl.col(column).is_null())
        place.refuse(
            f"row {row['row:'][0]}, column {column!r}: empty", f"fill {column}, or leave it out"
        )
    first = values.gather(np.repeat(starts, counts))
    odd = (values != first).arg_true()
    if len(odd):
        at = int(odd[0])
        place.refuse(
            f"row {frame['row:'][at]}, column {column!r}: recording "
            f"{frame['recording_id'][at]!r} has {first[at]!r} and {values[at]!r}",
            f"give all windows of a recording one {column}",
        )
    return values.gather(starts).to_list()


def _groups(
    frame: pl.DataFrame, ids: list[str], starts: np.ndarray, counts: np.ndarray, place: Place
) -> list[str]:
    if "group" not in frame.columns:
        return ids
    return [str(value) for value in _per_recording(frame, "group", starts, counts, place)]


def _folds(
    frame: pl.DataFrame,
    place: Place,
    *,
    ids: list[str],
    starts: np.ndarray,
    counts: np.ndarray,
    groups: list[str],
    truth: np.ndarray,
    n_folds: int,
) -> tuple[np.ndarray, str]:
    """Fold of each recording, and where it is from."""
    if "fold" not in frame.columns:
        if len(set(groups)) < 2:  # noqa: PLR2004 - one group cannot be split
            place.refuse(
                f"all rows are of one group, {groups[0]!r}, which cannot be split into folds",
                "give rows of several groups",
            )
        present = np.add.reduceat(truth == PRESENT, starts, axis=0) > 0
        fold = deal_folds(groups, present, n_folds)
        return fold, f"{len(np.unique(fold))} grouped folds, dealt by birdstack"
    numbers = _numbers(frame, "fold", place, "a fold must be a whole number from 0")
    wrong = ~((numbers >= 0) & (numbers == np.round(numbers)))
    if wrong.any():
        at = int(np.argmax(wrong))
        place.refuse(
            f"row {frame['row:'][at]}, column 'fold': a fold must be a whole number from 0, got "
            f"{frame['fold'][at]}",
            "number the folds, or leave the column out",
        )
    fold = np.array(_per_recording(frame, "fold", starts, counts, place)).astype(np.int64)
    homes: dict[str, int] = {}
    for name, group, number in zip(ids, groups, fold, strict=True):
        if homes.setdefault(group, int(number)) != number:
            place.refuse(
                f"column 'fold': group {group!r} lies in folds {homes[group]} and {number} "
                f"(recording {name!r}), so a fold model may have met the group it scores",
                "keep a group in one fold, or leave the column out and let folds be dealt",
            )
    if len(np.unique(fold)) < 2:  # noqa: PLR2004 - one fold is no split
        place.refuse(
            f"column 'fold': all rows are in fold {fold[0]}",
            "give two folds or more, or leave the column out",
        )
    return fold, "given"
