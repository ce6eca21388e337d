"""Labels of windows: present, absent, or not known.

A label of a whole recording is weak: the bird sings somewhere in it, and every window
takes the label. A label with times is strong: it holds for the windows that overlap it. Where a recording has rows
of the role `annotated`, somebody has listened there and nowhere else.
Not known is a value of its own, so that nobody trains on a guess without having said so.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from birdstack.store.errors import SchemaError, StoreError
from birdstack.store.keys import KEY_COLUMNS
from birdstack.store.tables import ANNOTATED

PRESENT: Final = 1
ABSENT: Final = 0
UNKNOWN: Final = -1

_SECONDARY = {"masked": UNKNOWN, "present": PRESENT, "absent": ABSENT}
_ROLES = ("primary", "secondary", ANNOTATED)
_TOUCH_S = 1e-6  # stretches this close to each other touch: times are written with few digits


class LabelsConfig(BaseModel):
    """How labels of recordings become labels of windows.

    Attributes:
        secondary: value of a secondary label, a species in the background whose times are
            not known: `masked` (not known, left out of loss and metric), `present` or
            `absent`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    secondary: Literal["masked", "present", "absent"] = "masked"


def label_matrix(
    keys: pl.DataFrame,
    labels: pl.DataFrame,
    classes: list[str],
    config: LabelsConfig | None = None,
) -> NDArray[np.int8]:
    """Value of each class in each window.

    A recording without any row in `labels` is UNKNOWN throughout. In a labelled one, what
    is not labelled is ABSENT. Weak labels (no times) hold for all windows; strong labels
    hold for windows whose half-open interval overlaps theirs, and replace the weak labels
    of the same class and recording. A primary label outweighs a secondary one.

    In a recording with rows of the role `annotated`, absent is known only of windows that lie
    wholly in a stretch of such rows: of every class where their label is null, else of that
    class. A row without times is of the whole recording.

    Args:
        keys: `recording_id`, `window`, `start_s`, `end_s`, sorted by the first two.
        labels: rows of `tables.LABELS`; those of other recordings are ignored, but their
            labels must be classes too.
        classes: the class list; its order is the order of columns.
        config: what a secondary label is worth.

    Returns:
        Array `[window, class]` of PRESENT, ABSENT and UNKNOWN.

    Raises:
        SchemaError: keys are not sorted, or a column is missing.
        StoreError: a label is not in `classes`, a class stands twice, a role is none
            of primary, secondary and annotated, or the times of a label make no interval.
    """
    config = config or LabelsConfig()
    runs = _runs(keys)
    rows = _checked(labels, classes).join(runs, on="recording_id")
    matrix = np.full((len(keys), len(classes)), UNKNOWN, np.int8)
    annotated = rows.filter(pl.col("role") == ANNOTATED)
    throughout = rows.join(annotated, on="recording_id", how="anti")
    matrix[_expand(throughout.unique("recording_id"))[1]] = ABSENT
    _mark_absent(matrix, keys, annotated)

    rows = rows.filter(pl.col("role") != ANNOTATED)
    strong = pl.col("start_s").is_not_null()
    rows = rows.filter(strong | ~strong.any().over("recording_id", "label"))
    for role, value in (("secondary", _SECONDARY[config.secondary]), ("primary", PRESENT)):
        chosen = rows.filter(pl.col("role") == role)
        row, window = _expand(chosen)
        holds = _overlaps(keys, chosen, row, window)
        matrix[window[holds], chosen["class"].to_numpy()[row[holds]]] = value
    return matrix


def label_frame(
    keys: pl.DataFrame,
    labels: pl.DataFrame,
    classes: list[str],
    config: LabelsConfig | None = None,
) -> pl.DataFrame:
    """The keys and one Int8 column per class: 1 present, 0 absent, null not known.

    Raises:
        SchemaError: as `label_matrix`, or a class is named like a key column.
        StoreError: as `label_matrix`.
    """
    taken = sorted(set(classes) & set(KEY_COLUMNS))
    if taken:
        message = f"class {taken[0]!r} has the name of a key column"
        raise SchemaError(message, remedy="rename the class")
    # Transposed once, since each column of a frame is one contiguous piece.
    columns = np.ascontiguousarray(label_matrix(keys, labels, classes, config).T)
    values = pl.DataFrame(
        [pl.Series(name, column) for name, column in zip(classes, columns, strict=True)]
    )
    known = values.select(pl.all().replace(UNKNOWN, None)) if classes else values
    return pl.concat([keys.select(KEY_COLUMNS), known], how="horizontal")


def _runs(keys: pl.DataFrame) -> pl.DataFrame:
    """First row and number of windows of each recording."""
    missing = [name for name in KEY_COLUMNS if name not in keys.columns]
    if missing:
        message = f"keys: column {missing[0]!r} is missing, found {keys.columns}"
        raise SchemaError(message, remedy="pass the key columns of a view")
    before = keys.select("recording_id", "window").shift(1)
    fallen = keys.select(
        (pl.col("recording_id") < before["recording_id"])
        | (
            (pl.col("recording_id") == before["recording_id"])
            & (pl.col("window") <= before["window"])
        )
    ).to_series()
    if fallen.any():
        place = fallen.arg_max()
        message = f"keys must be sorted and unique, row {place} {keys.row(place or 0)} is not"
        raise SchemaError(message, remedy="sort the keys by recording_id and window")
    return (
        keys.select("recording_id")
        .with_row_index("first")
        .group_by("recording_id")
        .agg(pl.col("first").min().cast(pl.Int64), pl.len().cast(pl.Int64).alias("windows"))
    )


def _checked(labels: pl.DataFrame, classes: list[str]) -> pl.DataFrame:
    """The labels with the column `class`, the index of the label in `classes`."""
    doubled = sorted({name for name in classes if classes.count(name) > 1})
    if doubled:
        message = f"classes: {doubled[0]!r} stands twice"
        raise StoreError(message, remedy="list each class once")
    index = pl.DataFrame({"label": classes}, schema={"label": pl.String}).with_row_index("class")
    rows = labels.join(index, on="label", how="left")

    every = (pl.col("role") == ANNOTATED) & pl.col("label").is_null()
    strangers = rows.filter(pl.col("class").is_null() & ~every.fill_null(value=False))
    if len(strangers):
        names = strangers["label"].unique().sort()
        first = strangers.sort("label", "recording_id").row(0, named=True)
        message = (
            f"label {first['label']!r} of {first['recording_id']!r} ({first['role']}) is not among "
            f"the {len(classes)} classes; {len(strangers)} rows, {len(names)} such labels in all"
        )
        raise StoreError(message, remedy="add the class to the class list or drop its labels")
    odd = rows.filter(~pl.col("role").is_in(_ROLES) | pl.col("role").is_null())
    if len(odd):
        message = f"labels: role must be one of {', '.join(_ROLES)}, got {odd.row(0)}"
        raise StoreError(message, remedy="correct the role in the table of labels")
    timed = pl.col("start_s").is_not_null() | pl.col("end_s").is_not_null()
    sound = (pl.col("start_s") < pl.col("end_s")).fill_null(value=False)
    broken = rows.filter(timed & ~sound)
    if len(broken):
        message = f"labels: start_s must be below end_s, or both empty; {broken.row(0)} breaks that"
        raise StoreError(message, remedy="correct the times in the table of labels")
    return rows


def _expand(rows: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (position in `rows`, row of the keys): each label with each of its windows."""
    first, windows = rows["first"].to_numpy(), rows["windows"].to_numpy()
    row = np.repeat(np.arange(len(rows)), windows)
    within = np.arange(len(row)) - np.repeat(np.cumsum(windows) - windows, windows)
    return row, first[row] + within


def _mark_absent(matrix: NDArray[np.int8], keys: pl.DataFrame, annotated: pl.DataFrame) -> None:
    """Set ABSENT in the windows that lie in an annotated stretch, for the classes it is of."""
    stretches = _joined(annotated)
    row, window = _expand(stretches)
    start = stretches["start_s"].to_numpy()[row] - _TOUCH_S
    end = stretches["end_s"].to_numpy()[row] + _TOUCH_S
    inside = (keys["start_s"].to_numpy()[window] >= start) & (
        keys["end_s"].to_numpy()[window] <= end
    )
    row, window = row[inside], window[inside]
    one = stretches["class"].fill_null(-1).to_numpy()[row]
    matrix[window[one < 0]] = ABSENT
    matrix[window[one >= 0], one[one >= 0]] = ABSENT


def _joined(annotated: pl.DataFrame) -> pl.DataFrame:
    """Stretches of one recording and class that touch or overlap as one."""
    of = ["recording_id", "class"]
    ordered = annotated.with_columns(
        pl.col("class").cast(pl.Int64),
        pl.col("start_s").fill_null(-np.inf),
        pl.col("end_s").fill_null(np.inf),
    ).sort(*of, "start_s")
    reached = pl.col("end_s").cum_max().shift(1).over(of)
    begins = (pl.col("start_s") > reached + _TOUCH_S).fill_null(value=False)
    return (
        ordered.with_columns(begins.alias("begins"))
        .with_columns(pl.col("begins").cum_sum().over(of).alias("run"))
        .group_by(*of, "run", maintain_order=True)
        .agg(
            pl.col("start_s").min(),
            pl.col("end_s").max(),
            pl.col("first", "windows").first(),
        )
    )


def _overlaps(
    keys: pl.DataFrame,
    rows: pl.DataFrame,
    row: NDArray[np.int64],
    window: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Whether each pair's label holds in its window; weak labels hold everywhere."""
    start = rows["start_s"].fill_null(-np.inf).to_numpy()[row]
    end = rows["end_s"].fill_null(np.inf).to_numpy()[row]
    holds: NDArray[np.bool_] = (keys["start_s"].to_numpy()[window] < end) & (
        keys["end_s"].to_numpy()[window] > start
    )
    return holds
