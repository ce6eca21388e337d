"""Reading parts: nothing is decoded that does not match the log."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Sequence
from typing import NoReturn, Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from birdstack.store.commit import Covered, Part
from birdstack.store.errors import CorruptError
from birdstack.store.files import Files, RandomFile
from birdstack.store.parquet_schema import numpy_values, part_schema, table_digest
from birdstack.store.parquet_write import (
    FOOTER_TAIL,
    chunk_digest,
    chunk_ranges,
    file_digests,
    footer_start,
)
from birdstack.store.statistics import Statistics, view_statistics
from birdstack.store.views import ViewSpec

_KEPT_FOOTERS = 64


class _Footer:
    """What a part's footer says, parsed once; the same digest means the same footer."""

    def __init__(self, data: memoryview) -> None:
        self.metadata = pq.read_metadata(pa.BufferReader(data))
        self.rows = [
            self.metadata.row_group(group).num_rows for group in range(self.metadata.num_row_groups)
        ]
        self.leaves: dict[str, list[int]] = {}
        for leaf in range(self.metadata.num_columns):
            path = self.metadata.schema.column(leaf).path  # a column's own name may have dots
            name = path.removesuffix(".list.element").removesuffix(".list.item")
            self.leaves.setdefault(name, []).append(leaf)
        self._ranges: dict[tuple[int, int], tuple[int, int]] = {}

    def range(self, group: int, leaf: int) -> tuple[int, int]:
        """(offset, length) of one column chunk."""
        found = self._ranges.get((group, leaf))
        if found is None:
            found = next(chunk_ranges(self.metadata, [group], [leaf]))
            self._ranges[group, leaf] = found
        return found


_footers: dict[str, _Footer] = {}
_footers_lock = threading.Lock()


def _parsed_footer(digest: str, data: memoryview) -> _Footer:
    """The parsed footer with this digest; a wide view's takes as long as reading a column."""
    with _footers_lock:
        footer = _footers.pop(digest, None) or _Footer(data)
        _footers[digest] = footer  # the newest last
        if len(_footers) > _KEPT_FOOTERS:
            del _footers[next(iter(_footers))]
        return footer


_KEPT_DECODERS = 64
_idle: dict[tuple[object, ...], pq.ParquetFile] = {}
_idle_lock = threading.Lock()


def _take_idle(file: RandomFile) -> pq.ParquetFile | None:
    """A decoder of the very same bytes that nobody uses now: making one costs a millisecond."""
    if file.identity is None:
        return None
    with _idle_lock:
        return _idle.pop(file.identity, None)


def _keep_idle(file: RandomFile, decoder: pq.ParquetFile) -> None:
    if file.identity is None:
        decoder.close()
        return
    with _idle_lock:
        _idle[file.identity] = decoder  # the newest last
        if len(_idle) > _KEPT_DECODERS:
            del _idle[next(iter(_idle))]


class PartReader:
    """One open part; every byte it decodes has been compared with the log first.

    Raises:
        CorruptError: the file is missing, short, or not what was written.
    """

    def __init__(self, files: Files, part: Part) -> None:
        self.part = part
        self._place = f"{files.url}/{part.path}"
        try:
            self._file: RandomFile = files.open(part.path)
        except FileNotFoundError:
            self._refuse("the file is missing")
        if self._file.n_bytes != part.n_bytes:
            self._refuse(f"{self._file.n_bytes} bytes instead of {part.n_bytes}")
        tail = self._file.read_at(part.n_bytes - FOOTER_TAIL, FOOTER_TAIL)
        start = footer_start(tail, part.n_bytes)
        if start < 0:
            self._refuse("its footer does not match")
        footer = self._file.read_at(start, part.n_bytes - start)
        if xxhash.xxh3_64_hexdigest(footer) != part.footer:
            self._refuse("its footer does not match")
        self._footer = _parsed_footer(part.footer, footer)
        self._parquet = _take_idle(self._file) or self._decoder()
        self._digests = memoryview(base64.b64decode(part.chunks)).cast("I")

    def _decoder(self) -> pq.ParquetFile:
        # Pages carry checksums as well; pyarrow would take longer over them than over the
        # decoding of plain pages, and `_verify` has by then compared the same bytes, page
        # headers included, with a longer digest.
        source = self._file.handle()
        if isinstance(source, str):  # decode from a map, not from a second reading
            source = pa.BufferReader(pa.py_buffer(self._file.read_at(0, self.part.n_bytes)))
        return pq.ParquetFile(
            source, metadata=self._footer.metadata, page_checksum_verification=False
        )

    @property
    def metadata(self) -> pq.FileMetaData:
        """Parquet metadata of the file."""
        return self._footer.metadata

    @property
    def arrow_schema(self) -> pa.Schema:
        """Arrow schema of the file."""
        return self._parquet.schema_arrow

    @property
    def row_group_rows(self) -> list[int]:
        """Rows of each row group."""
        return self._footer.rows

    def read(self, columns: Sequence[str], groups: Sequence[int] | None = None) -> pa.Table:
        """Rows of some row groups, some columns, verified."""
        chosen = list(range(len(self._footer.rows))) if groups is None else list(groups)
        self._verify(columns, chosen)
        try:
            table = self._parquet.read_row_groups(chosen, columns=list(columns))
        except (OSError, pa.ArrowException) as error:
            self._refuse(str(error))
        expected = sum(self._footer.rows[group] for group in chosen)
        if table.num_rows != expected:
            self._refuse(f"{table.num_rows} rows instead of {expected}")
        return table

    def _verify(self, columns: Sequence[str], groups: Sequence[int]) -> None:
        leaves = [leaf for name in columns for leaf in self._footer.leaves[name]]
        chunks = [(group, leaf) for group in groups for leaf in leaves]
        ranges = [self._footer.range(group, leaf) for group, leaf in chunks]
        self._file.prefetch(ranges)
        n_leaves = self.metadata.num_columns
        for (group, leaf), (start, length) in zip(chunks, ranges, strict=True):
            found = chunk_digest(self._file.read_at(start, length))
            if found != self._digests[group * n_leaves + leaf]:
                self._refuse(f"bytes {start}-{start + length} do not match")

    def _refuse(self, what: str) -> NoReturn:
        message = f"part {self._place} is damaged: {what}"
        remedy = (
            "run `birdstack store verify --repair`: it drops the part from the log, and the "
            "next `birdstack features` computes its recordings again"
        )
        raise CorruptError(message, remedy=remedy)

    def close(self) -> None:
        """Release the file; its decoder is kept for the next reader of the same bytes."""
        _keep_idle(self._file, self._parquet)
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def window_frame(
    reader: PartReader, columns: Sequence[str], groups: Sequence[int] | None = None
) -> pl.DataFrame:
    """Rows of some row groups as a polars frame, columns in the given order."""
    return pl.DataFrame(pl.from_arrow(reader.read(columns, groups))).select(columns)


def table_frame(reader: PartReader) -> pl.DataFrame:
    """A whole table part as a polars frame."""
    names = [field.name for field in reader.arrow_schema]
    return pl.DataFrame(pl.from_arrow(reader.read(names)))


def column_arrays(
    reader: PartReader, columns: Sequence[str], groups: Sequence[int]
) -> dict[str, np.ndarray]:
    """Numeric columns of some row groups: `[window]` or, for vectors, `[window, dim]`."""
    table = reader.read(columns, groups)
    return {name: numpy_values(table.column(name)) for name in columns}


def keep_rows(reader: PartReader, recording_ids: set[str]) -> pa.Table:
    """All columns of the rows of some recordings."""
    table = reader.read(reader.arrow_schema.names)
    ids = table.column("recording_id").to_pylist()
    return table.filter(pa.array([recording_id in recording_ids for recording_id in ids]))


def joined_rows(readers: Sequence[PartReader], order: Sequence[tuple[int, int, int]]) -> pa.Table:
    """Rows of several parts in a given order.

    Args:
        readers: the parts.
        order: (number of the part, first row, number of rows) for each run of rows.
    """
    tables = {
        number: readers[number].read(readers[number].arrow_schema.names)
        for number in sorted({number for number, _, _ in order})
    }
    return pa.concat_tables(
        [tables[number].slice(first, count) for number, first, count in order]
    ).combine_chunks()


def read_orphan(files: Files, spec: ViewSpec, path: str) -> tuple[Part, Statistics]:
    """A finished part that no log entry mentions: its description, made anew, and statistics.

    Raises:
        CorruptError: it does not decode, or is not a part of the view.
    """
    place = f"{files.url}/{path}"
    try:
        with files.local_copy(path) as local:
            digests = file_digests(local)
            with pq.ParquetFile(local, page_checksum_verification=True) as file:
                table = file.read()
            receipt = json.loads(table.schema.metadata[b"birdstack"])
            content = receipt.pop("content")
            whole = content == table_digest(table, receipt)
            recordings = tuple(Covered(*row) for row in receipt["recordings"])
            own = (receipt["view"], receipt["recipe"]) == (spec.name, spec.recipe_hash)
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        message = f"{place} is not a whole part: {error}"
        raise CorruptError(message, remedy="`birdstack store vacuum` removes it") from error
    expected = part_schema(spec)
    described = [f.metadata for f in table.schema] == [f.metadata for f in expected]
    if not (whole and own and described and table.schema.equals(expected)):
        message = f"{place} does not hold what its receipt says"
        raise CorruptError(message, remedy="`birdstack store vacuum` removes it")
    part = Part(
        path=path,
        view=spec.name,
        recipe=spec.recipe_hash,
        rows=table.num_rows,
        recordings=recordings,
        **digests,
    )
    values = {column.name: numpy_values(table.column(column.name)) for column in spec.columns}
    return part, view_statistics(spec, values)
