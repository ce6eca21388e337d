"""A view as a polars LazyFrame that verifies what it reads.

polars reads Parquet itself, but ignores checksums; this source keeps its pruning of columns,
rows and recordings, and decodes only bytes that match the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from birdstack.store.commit import Part
from birdstack.store.files import Files
from birdstack.store.keys import KEY_COLUMNS, WindowGrid
from birdstack.store.parquet_read import PartReader, window_frame
from birdstack.store.parquet_schema import polars_schema
from birdstack.store.views import ViewSpec


def scan_view(
    files: Files,
    grid: WindowGrid,
    spec: ViewSpec,
    parts: Sequence[Part],
    recordings: Sequence[str] | None = None,
) -> pl.LazyFrame:
    """Rows of `parts` in order of (recording_id, window), read when the query runs.

    Args:
        files: where the parts lie.
        grid: the store's window grid.
        spec: the view.
        parts: its live parts, ordered by first recording.
        recordings: only these; None for all.
    """
    schema = polars_schema(spec)
    chosen = None if recordings is None else frozenset(recordings)

    def read(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001 - batches are the parts as they lie
    ) -> Iterator[pl.DataFrame]:
        columns = with_columns if with_columns is not None else list(schema)
        on_keys = on_keys_only(predicate, n_rows)
        rows = read_rows(
            files, grid, parts, columns, chosen=chosen, on_keys=predicate if on_keys else None
        )
        yield from limited(rows, n_rows, None if on_keys else predicate)

    return register_io_source(read, schema=schema, validate_schema=False, is_pure=True)


def limited(
    frames: Iterator[pl.DataFrame], n_rows: int | None, predicate: pl.Expr | None
) -> Iterator[pl.DataFrame]:
    """The first `n_rows` rows of some frames, then those of them that match."""
    left = n_rows
    for frame in frames:
        kept = frame if left is None else frame.head(left)
        if left is not None:
            left -= kept.height
        yield kept if predicate is None else kept.filter(predicate)
        if left == 0:
            return


def read_rows(
    files: Files,
    grid: WindowGrid,
    parts: Sequence[Part],
    columns: Sequence[str],
    *,
    chosen: frozenset[str] | None = None,
    on_keys: pl.Expr | None = None,
) -> Iterator[pl.DataFrame]:
    """Rows in order of (recording_id, window), a frame for each run of parts that overlap.

    Args:
        files: where the parts lie.
        grid: the store's window grid.
        parts: live parts of one view, ordered by first recording.
        columns: to read, keys or values.
        chosen: these recordings only; None for all.
        on_keys: only rows that match this expression of key columns.
    """
    for cluster in overlapping(parts):
        frames = []
        for part in cluster:
            rows = _matching_rows(part, grid, chosen, on_keys)
            if rows is None or rows.any():
                frames.append(_read_part(files, part, columns, rows, ordered=len(cluster) == 1))
        if frames:
            frame = frames[0] if len(cluster) == 1 else _merged(frames)
            yield frame.select(columns)


def on_keys_only(predicate: pl.Expr | None, n_rows: int | None) -> bool:
    """Whether a query's filter can be answered from the log, before anything is read.

    polars takes the first `n_rows` rows and filters those, so a limit forbids pruning.
    """
    if predicate is None or n_rows is not None:
        return False
    return set(predicate.meta.root_names()) <= set(KEY_COLUMNS)


def overlapping(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Runs of parts whose ranges of recordings overlap; between runs the order is right.

    Parts of one pass over the recordings never overlap, nor do compacted parts; recordings
    that came later lie in between until the view is compacted.
    """
    cluster: list[Part] = []
    last = ""
    for part in parts:
        first = part.recordings[0].recording_id
        if cluster and first > last:
            yield cluster
            cluster = []
        cluster.append(part)
        last = max(last, part.recordings[-1].recording_id)
    if cluster:
        yield cluster


def part_keys(part: Part, grid: WindowGrid) -> pl.DataFrame:
    """The key columns of a part, from the log alone: `[window]` rows, nothing is read."""
    counts = np.array([covered.windows for covered in part.recordings], dtype=np.int64)
    ids = pl.Series("recording_id", [covered.recording_id for covered in part.recordings])
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    window = (np.arange(counts.sum()) - starts).astype(np.int32)
    return pl.DataFrame(
        {
            "recording_id": ids.gather(np.repeat(np.arange(len(counts)), counts)),
            "window": window,
            "start_s": window * grid.hop_s,
            "end_s": window * grid.hop_s + grid.window_s,
        }
    )


def _matching_rows(
    part: Part, grid: WindowGrid, chosen: frozenset[str] | None, predicate: pl.Expr | None
) -> np.ndarray | None:
    """Which rows of the part a query on keys can match, `[window]` bool; None for all."""
    if chosen is None and predicate is None:
        return None
    if chosen is not None and not any(c.recording_id in chosen for c in part.recordings):
        return np.zeros(part.rows, dtype=bool)
    keys = part_keys(part, grid)
    matches = pl.repeat(value=True, n=part.rows, eager=True)
    if chosen is not None:
        matches &= keys["recording_id"].is_in(list(chosen))
    if predicate is not None:
        matches &= keys.select(predicate.alias("matches"))["matches"].fill_null(value=False)
    return matches.to_numpy()


def _read_part(
    files: Files, part: Part, columns: Sequence[str], rows: np.ndarray | None, *, ordered: bool
) -> pl.DataFrame:
    """Some columns of the rows marked in `rows`, touching only their row groups."""
    needed = list(columns) if ordered else list(dict.fromkeys(["recording_id", "window", *columns]))
    with PartReader(files, part) as reader:
        if rows is None:
            return window_frame(reader, needed)
        ends = np.cumsum(reader.row_group_rows)
        starts = ends - reader.row_group_rows
        groups = [i for i, (a, b) in enumerate(zip(starts, ends, strict=True)) if rows[a:b].any()]
        frame = window_frame(reader, needed, groups)
        kept = np.concatenate([rows[starts[i] : ends[i]] for i in groups])
        return frame if kept.all() else frame.filter(pl.Series(kept))


def _merged(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames).sort("recording_id", "window", maintain_order=True)
