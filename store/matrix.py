"""Columns of views as one contiguous float32 array, filled straight from the parts.

The log knows how many windows each recording has in each part, so every row's place in the
result is known before anything is read: no join, no sort, no second copy.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl

from birdstack.store.commit import Part
from birdstack.store.errors import UsageError
from birdstack.store.family import common_windows
from birdstack.store.files import Files
from birdstack.store.keys import WindowGrid
from birdstack.store.parquet_read import PartReader, column_arrays
from birdstack.store.views import Column, ViewSpec


@dataclass(frozen=True)
class Block:
    """What to read of one view.

    Attributes:
        spec: the view.
        parts: its live parts.
        columns: which columns; None for all that are numbers.
        prefix: goes before the names of its columns in the matrix.
    """

    spec: ViewSpec
    parts: Sequence[Part]
    columns: Sequence[str] | None = None
    prefix: str = ""


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

    def ordered(self, columns: Sequence[str]) -> Matrix:
        """The same matrix with its columns as asked for, where that differs.

        Only single-valued columns that are all named can be put in order; members of a
        family are read one after the other, whatever the order asked for.
        """
        if list(columns) == self.columns or set(columns) != set(self.columns):
            return self
        places = [self.columns.index(column) for column in columns]
        return replace(self, values=self.values[:, places].copy(), columns=list(columns))

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
    order = _row_order(blocks, recordings)
    names: list[str] = []
    wanted: list[list[Column]] = []
    for block in blocks:
        chosen = _numeric_columns(block.spec, block.columns)
        wanted.append(chosen)
        names += [block.prefix + name for column in chosen for name in _element_names(column)]
    values = np.empty((int(order.counts.sum()), len(names)), dtype=np.float32)
    first = 0
    for block, chosen in zip(blocks, wanted, strict=True):
        width = sum(column.dim or 1 for column in chosen)
        for part in block.parts:
            runs = order.runs(part)
            if chosen and runs:
                _fill_part(files, part, chosen, runs, values[:, first : first + width])
        first += width
    return Matrix(values, names, list(order.ids), order.counts.copy(), grid)


def _fill_part(
    files: Files, part: Part, columns: Sequence[Column], runs: Sequence[_Run], out: np.ndarray
) -> None:
    """Copy one part's rows to their places in `out` `[window, column]`."""
    names = [column.name for column in columns]
    with PartReader(files, part) as reader:
        for groups, pieces in _batches(reader.row_group_rows, runs, _BATCH_VALUES // out.shape[1]):
            source, target = _places(pieces)
            arrays = column_arrays(reader, names, groups)
            if all(column.dim is None for column in columns):
                # Turned in the cache, a block at a time: quicker than column by column.
                turned = np.array([arrays[name][source] for name in names], dtype=np.float32)
                out[target] = turned.T
                continue
            at = 0
            for column in columns:
                width = column.dim or 1
                values = arrays[column.name][source]
                out[target, at : at + width] = values.reshape(len(values), width)
                at += width


class _Run(NamedTuple):
    """Rows that lie together, in order, in a part (or what is read of it) and in the result."""

    source: int
    target: int
    rows: int


class _RowOrder:
    """Which recordings the result holds, in which order, and where each begins."""

    def __init__(self, windows: Mapping[str, int]) -> None:
        self.ids = sorted(windows)
        self.counts = np.array([windows[i] for i in self.ids], dtype=np.int64)
        firsts = np.cumsum(self.counts) - self.counts
        self._starts = dict(zip(self.ids, firsts.tolist(), strict=True))
        self._runs: dict[str, list[_Run]] = {}

    def runs(self, part: Part) -> list[_Run]:
        """Where the part's rows lie and belong."""
        if part.path not in self._runs:
            self._runs[part.path] = _runs(part, self._starts)
        return self._runs[part.path]


_KEPT_ORDERS = 8
_orders: dict[tuple[tuple[str, ...], ...], _RowOrder] = {}
_orders_lock = threading.Lock()


def _row_order(blocks: Sequence[Block], recordings: Sequence[str] | None) -> _RowOrder:
    """The order of the rows; of whole views it is kept, since parts never change.

    Reading one column of a view takes hardly longer than walking over its recordings.
    """
    members = [(block.spec, block.parts) for block in blocks]
    if recordings is not None:
        return _RowOrder(common_windows(members, recordings))
    key = tuple((spec.name, *(part.path for part in parts)) for spec, parts in members)
    with _orders_lock:
        order = _orders.pop(key, None) or _RowOrder(common_windows(members))
        _orders[key] = order  # the newest last
        if len(_orders) > _KEPT_ORDERS:
            del _orders[next(iter(_orders))]
        return order


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
