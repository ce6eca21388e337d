"""Columns of views as one contiguous float32 array, filled straight from the parts.

The log knows how many windows each recording has in each part, so every row's place in the
result is known before anything is read: no join, no sort, no second copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

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


_BATCH_VALUES = 1 << 18
"""Values read and laid down at a time: while they are, both copies stay in the cache."""


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
    runs = _runs(part, starts)
    if not columns or not runs:
        return
    names = [column.name for column in columns]
    with PartReader(files, part) as reader:
        for groups, pieces in _batches(reader.row_group_rows, runs, _BATCH_VALUES // out.shape[1]):
            source, target = _places(pieces)
            arrays = column_arrays(reader, names, groups)
            at = 0
            for column in columns:
                width = 1 if column.dim is None else column.dim
                place = at if column.dim is None else slice(at, at + width)
                out[target, place] = arrays[column.name][source]
                at += width


class _Run(NamedTuple):
    """Rows that lie together, in order, in a part (or what is read of it) and in the result."""

    source: int
    target: int
    rows: int


def _runs(part: Part, starts: Mapping[str, int]) -> list[_Run]:
    """Where the rows of the wanted recordings lie and belong; usually one run."""
    runs: list[_Run] = []
    row = source = target = rows = 0  # of the next recording; of the run that grows
    for covered in part.recordings:
        start = starts.get(covered.recording_id)
        if start is not None:
            if (source + rows, target + rows) != (row, start):
                runs.append(_Run(source, target, rows))
                source, target, rows = row, start, 0
            rows += covered.windows
        row += covered.windows
    runs.append(_Run(source, target, rows))
    return [run for run in runs if run.rows]


def _batches(
    group_rows: Sequence[int], runs: Sequence[_Run], most_rows: int
) -> Iterator[tuple[list[int], list[_Run]]]:
    """Row groups to read together, and where their wanted rows go (source: row of the batch)."""
    groups: list[int] = []
    pieces: list[_Run] = []
    first = n_rows = 0  # of this group in the part; rows in the batch so far
    waiting = iter(runs)
    run = next(waiting, None)
    for group, rows in enumerate(group_rows):
        end = first + rows
        inside = []
        while run is not None and run.source < end:
            low, high = max(run.source, first), min(run.source + run.rows, end)
            inside.append(_Run(low - first, run.target + low - run.source, high - low))
            if run.source + run.rows > end:
                break
            run = next(waiting, None)
        if inside:
            if groups and n_rows + rows > most_rows:
                yield groups, pieces
                groups, pieces, n_rows = [], [], 0
            groups.append(group)
            pieces += [_Run(n_rows + piece.source, *piece[1:]) for piece in inside]
            n_rows += rows
        first = end
    if groups:
        yield groups, pieces


def _places(pieces: Sequence[_Run]) -> tuple[slice | np.ndarray, slice | np.ndarray]:
    """Rows to take and rows to fill: slices if the pieces lie together, else index arrays."""
    rows = sum(piece.rows for piece in pieces)
    first = pieces[0]
    whole = all(
        (a.source + a.rows, a.target + a.rows) == (b.source, b.target) for a, b in pairwise(pieces)
    )
    if whole:
        return (
            slice(first.source, first.source + rows),
            slice(first.target, first.target + rows),
        )
    source = np.concatenate([np.arange(p.source, p.source + p.rows) for p in pieces])
    target = np.concatenate([np.arange(p.target, p.target + p.rows) for p in pieces])
    return source, target


def _common_windows(blocks: Sequence[Block], recordings: Sequence[str] | None) -> dict[str, int]:
    """recording_id -> windows, for the recordings that every block holds."""
    common: dict[str, int] | None = None
    owner = ""
    chosen = None if recordings is None else frozenset(recordings)
    for spec, parts, _ in blocks:
        held = (covered for part in parts for covered in part.recordings)
        if chosen is not None:
            held = (covered for covered in held if covered.recording_id in chosen)
        mine = {covered.recording_id: covered.windows for covered in held}
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
    return common or {}


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
