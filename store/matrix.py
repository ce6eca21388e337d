"""Columns of views as one contiguous float32 array, filled straight from the parts.

The log knows how many windows each recording has in each part, so every row's place in the
result is known before anything is read: no join, no sort, no second copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from birdstack.store.commit import Part
from birdstack.store.errors import SchemaError, UsageError
from birdstack.store.files import Files
from birdstack.store.keys import WindowGrid
from birdstack.store.parquet_read import PartReader, column_arrays
from birdstack.store.views import Column, ViewSpec

Block = tuple[ViewSpec, Sequence[Part], Sequence[str] | None]
"""A view, its parts, and which of its columns (None: all)."""


@dataclass(frozen=True)
class Matrix:
    """A block of numbers with its keys.

    Attributes:
        values: float32 `[window, column]`, C-contiguous.
        columns: name of each column; `view:column` if there are several views, `name[i]`
            for the elements of a vector.
        recording_ids: the recordings, in order.
        windows: number of windows of each recording, in the same order.
        grid: the window grid, for seconds.
    """

    values: np.ndarray
    columns: list[str]
    recording_ids: list[str]
    windows: np.ndarray
    grid: WindowGrid

    @property
    def offsets(self) -> np.ndarray:
        """Row at which each recording begins, and the total: `[recording + 1]`."""
        return np.concatenate([[0], np.cumsum(self.windows)])

    @property
    def keys(self) -> pl.DataFrame:
        """`recording_id`, `window`, `start_s`, `end_s` of each row."""
        owner = np.repeat(np.arange(len(self.windows)), self.windows)
        window = (np.arange(len(owner)) - self.offsets[:-1][owner]).astype(np.int32)
        return pl.DataFrame(
            {
                "recording_id": pl.Series(self.recording_ids, dtype=pl.String).gather(owner),
                "window": window,
                "start_s": window * self.grid.hop_s,
                "end_s": window * self.grid.hop_s + self.grid.window_s,
            }
        )


def fill_matrix(
    files: Files,
    grid: WindowGrid,
    blocks: Sequence[Block],
    recordings: Sequence[str] | None = None,
) -> Matrix:
    """Read blocks of columns side by side.

    Args:
        files: where the parts lie.
        grid: the window grid.
        blocks: one for each view.
        recordings: only these; None for all that every view holds.

    Raises:
        UsageError: an unknown column, or one that is not a number.
        SchemaError: two views disagree on the number of windows of a recording.
    """
    windows = _common_windows(blocks, recordings)
    ids = sorted(windows)
    counts = np.array([windows[i] for i in ids], dtype=np.int64)
    starts = dict(zip(ids, (np.cumsum(counts) - counts).tolist(), strict=True))
    names: list[str] = []
    wanted: list[list[Column]] = []
    for spec, _, columns in blocks:
        chosen = _numeric_columns(spec, columns)
        wanted.append(chosen)
        prefix = f"{spec.name}:" if len(blocks) > 1 else ""
        names += [prefix + name for column in chosen for name in _element_names(column)]
    values = np.empty((int(counts.sum()), len(names)), dtype=np.float32)
    first = 0
    for (_, parts, _), chosen in zip(blocks, wanted, strict=True):
        width = sum(column.dim or 1 for column in chosen)
        for part in parts:
            _fill_part(files, part, chosen, starts, values[:, first : first + width])
        first += width
    return Matrix(values, names, ids, counts, grid)


def _fill_part(
    files: Files, part: Part, columns: Sequence[Column], starts: Mapping[str, int], out: np.ndarray
) -> None:
    """Copy one part's rows to their places in `out` `[window, column]`."""
    places = [starts.get(covered.recording_id, -1) for covered in part.recordings]
    if not columns or max(places, default=-1) < 0:
        return
    counts = np.array([covered.windows for covered in part.recordings], dtype=np.int64)
    firsts = np.cumsum(counts) - counts
    # Row of `out` for each row of the part; -1 where the recording is not wanted.
    target = np.repeat(np.array(places), counts)
    target[target >= 0] += (np.arange(counts.sum()) - np.repeat(firsts, counts))[target >= 0]
    names = [column.name for column in columns]
    with PartReader(files, part) as reader:
        row = 0
        for group, n_rows in enumerate(reader.row_group_rows):
            rows = target[row : row + n_rows]
            row += n_rows
            keep = rows >= 0
            if not keep.any():
                continue
            together = rows[-1] - rows[0] == n_rows - 1 and bool(keep.all())
            place: slice | np.ndarray = slice(rows[0], rows[-1] + 1) if together else rows[keep]
            arrays = column_arrays(reader, names, group)
            at = 0
            for column in columns:
                block = arrays[column.name] if together else arrays[column.name][keep]
                if column.dim is None:
                    out[place, at] = block
                else:
                    out[place, at : at + column.dim] = block
                at += column.dim or 1


def _common_windows(blocks: Sequence[Block], recordings: Sequence[str] | None) -> dict[str, int]:
    """recording_id -> windows, for the recordings that every block holds."""
    common: dict[str, int] | None = None
    owner = ""
    for spec, parts, _ in blocks:
        mine = {c.recording_id: c.windows for part in parts for c in part.recordings}
        if common is None:
            common, owner = mine, spec.name
            continue
        for recording_id in common.keys() & mine.keys():
            if common[recording_id] != mine[recording_id]:
                message = (
                    f"recording {recording_id!r} has {common[recording_id]} windows in view "
                    f"{owner!r} and {mine[recording_id]} in view {spec.name!r}"
                )
                remedy = "the file changed between the two: run `birdstack features` for both views"
                raise SchemaError(message, remedy=remedy)
        common = {i: n for i, n in common.items() if i in mine}
    found = common or {}
    if recordings is None:
        return found
    chosen = set(recordings)
    return {i: n for i, n in found.items() if i in chosen}


def _numeric_columns(spec: ViewSpec, names: Sequence[str] | None) -> list[Column]:
    by_name = {column.name: column for column in spec.columns}
    if names is None:
        return [column for column in spec.columns if column.dtype != "str"]
    unknown = [name for name in names if name not in by_name]
    text = [name for name in names if name in by_name and by_name[name].dtype == "str"]
    if unknown or text:
        what = f"no column {unknown[0]!r}" if unknown else f"column {text[0]!r} is text"
        message = f"view {spec.name!r}: {what}"
        raise UsageError(message, remedy=f"see `birdstack store describe {spec.name}`")
    return [by_name[name] for name in names]


def _element_names(column: Column) -> list[str]:
    if column.dim is None:
        return [column.name]
    return [f"{column.name}[{i}]" for i in range(column.dim)]
