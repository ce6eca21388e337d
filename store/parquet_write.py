"""Writing parts: immutable Parquet files with the digests that the log keeps of them.

A Parquet page carries a checksum of its data, but neither the page's own header nor the
file's footer is covered: of all single-byte changes of a small part, 14 in 788,715 were read
back as other numbers without an error (a changed encoding byte). So the log also keeps a
digest of the footer and of every column chunk, and `parquet_read` compares both.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from birdstack.store.commit import Covered, Part
from birdstack.store.files import Files
from birdstack.store.layout import TABLE_RECIPE
from birdstack.store.parquet_schema import table_digest
from birdstack.store.views import ViewSpec

SCALAR_ROW_GROUP = 8192
"""Rows of a row group of scalar columns: few enough that one recording is read in
milliseconds, many enough that the cost of each column chunk does not show."""
VECTOR_ROW_GROUP = 1024
"""Rows of a row group with vectors: about 5 MB of a 1,280-d embedding."""

FOOTER_TAIL = 8  # four bytes of length, then the magic number


def write_window_part(
    files: Files,
    spec: ViewSpec,
    path: str,
    table: pa.Table,
    recordings: Sequence[Covered],
    *,
    row_group_rows: int | None = None,
) -> Part:
    """Write rows of a window view as one part, synced, with everything needed to adopt it."""
    vectors = [column.name for column in spec.columns if column.dim is not None]
    rows = row_group_rows or (VECTOR_ROW_GROUP if vectors else SCALAR_ROW_GROUP)
    receipt: dict[str, Any] = {
        "view": spec.name,
        "recipe": spec.recipe_hash,
        "recordings": [[c.recording_id, c.content_hash, c.windows] for c in recordings],
    }
    receipt["content"] = table_digest(table, receipt)
    rounded = [
        f"{c.name}.list.element" if c.dim is not None else c.name
        for c in spec.columns
        if c.mantissa_bits is not None
    ]
    written = _write(
        files, path, table, receipt, row_group_rows=rows, rounded=rounded, keys=("recording_id",)
    )
    return Part(
        path=path,
        view=spec.name,
        recipe=spec.recipe_hash,
        rows=table.num_rows,
        recordings=tuple(recordings),
        **written,
    )


def write_frame_part(files: Files, path: str, frame: pl.DataFrame, *, view: str, key: str) -> Part:
    """Write a table (recordings, labels, ...) of one dataset as one part."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    keys = [name for name, kind in frame.schema.items() if kind == pl.String]
    written = _write(
        files, path, table, {"view": view, "key": key}, row_group_rows=65536, rounded=(), keys=keys
    )
    return Part(path=path, view=view, recipe=TABLE_RECIPE, rows=table.num_rows, key=key, **written)


def _write(
    files: Files,
    path: str,
    table: pa.Table,
    receipt: Mapping[str, Any],
    *,
    row_group_rows: int,
    rounded: Sequence[str],
    keys: Sequence[str],
) -> dict[str, Any]:
    table = table.replace_schema_metadata({"birdstack": json.dumps(receipt)})
    # Unrounded floats hardly compress (7 % smaller under zstd, on acoustic columns of real
    # recordings), and zstd costs a reader about 30 us for each page: LZ4 takes what can be
    # had for nothing. Rounded floats, split into byte streams, halve under zstd.
    codecs = {
        leaf: "lz4" if pa.types.is_floating(kind) and leaf not in rounded else "zstd"
        for leaf, kind in _leaves(table.schema)
    }
    with files.staged(path) as aside:
        pq.write_table(
            table,
            aside,
            row_group_size=row_group_rows,
            compression=codecs,
            compression_level={n: 1 for n, codec in codecs.items() if codec == "zstd"} or None,
            use_dictionary=list(keys) or False,
            column_encoding=dict.fromkeys(rounded, "BYTE_STREAM_SPLIT") or None,
            write_statistics=list(keys) or False,
            write_page_checksum=True,
        )
        return file_digests(aside)


def _leaves(schema: pa.Schema) -> Iterator[tuple[str, pa.DataType]]:
    """Parquet path and type of the columns that hold values: a list's lie below it."""
    nested = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    for field in schema:
        if any(test(field.type) for test in nested):
            yield f"{field.name}.list.element", field.type.value_type
        else:
            yield field.name, field.type


def file_digests(path: Path) -> dict[str, Any]:
    """Size, sha256, footer digest and chunk digests of a finished file."""
    data = np.memmap(path, dtype=np.uint8, mode="r").data
    start = footer_start(data, len(data))
    metadata = pq.read_metadata(path)
    chunks = [chunk_digest(data[a : a + n]) for a, n in chunk_ranges(metadata, None, None)]
    return {
        "n_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "footer": xxhash.xxh3_64_hexdigest(data[start:]),
        "chunks": base64.b64encode(np.array(chunks, dtype="<u4").tobytes()).decode(),
    }


def chunk_digest(data: memoryview) -> int:
    """Digest of one column chunk's bytes, as the log keeps it."""
    return xxhash.xxh3_64_intdigest(data) & 0xFFFFFFFF


def footer_start(tail: memoryview, n_bytes: int) -> int:
    """Offset of the footer, given the last bytes of the file."""
    length = int.from_bytes(tail[-FOOTER_TAIL:-4], "little")
    return n_bytes - FOOTER_TAIL - length


def chunk_ranges(
    metadata: pq.FileMetaData, groups: Sequence[int] | None, leaves: Sequence[int] | None
) -> Iterator[tuple[int, int]]:
    """(offset, length) of column chunks, row group by row group."""
    for group in range(metadata.num_row_groups) if groups is None else groups:
        row_group = metadata.row_group(group)
        for leaf in range(row_group.num_columns) if leaves is None else leaves:
            chunk = row_group.column(leaf)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            yield start, chunk.total_compressed_size
