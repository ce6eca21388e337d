"""What Parquet's page checksums leave open: every byte of a small part, every other value.

The part has two row groups, text, integer, float and vector columns, and page checksums. Each
single-byte change of its body (the footer has no checksum at all) is read back with the
checksums verified, and counted: refused, the same numbers, or other numbers. Takes minutes;
`--every 50` tries one change in fifty.

    python benchmarks/page_checksums.py
"""

from __future__ import annotations

import argparse
import io
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 60
FOOTER_TAIL = 8


def small_part() -> tuple[pa.Table, bytes]:
    """A table like a part of a window view, and its bytes as a Parquet file."""
    rng = np.random.default_rng(0)
    arrays = {
        "recording_id": pa.array([f"rec{i // 6:03d}" for i in range(ROWS)]),
        "window": pa.array(np.arange(ROWS, dtype=np.int32) % 6),
        "start_s": pa.array(np.arange(ROWS) * 5.0),
    }
    for name in ("f0", "f1", "f2"):
        arrays[name] = pa.array(rng.normal(size=ROWS).astype(np.float32))
    vectors = pa.array(rng.normal(size=ROWS * 4).astype(np.float32))
    arrays["embedding"] = pa.FixedSizeListArray.from_arrays(vectors, 4)
    fields = [pa.field(name, array.type, nullable=False) for name, array in arrays.items()]
    table = pa.table(list(arrays.values()), schema=pa.schema(fields))
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        compression_level=1,
        use_dictionary=["recording_id"],
        write_page_checksum=True,
        row_group_size=ROWS // 2,
    )
    return table, buffer.getvalue()


def outcome(table: pa.Table, data: bytes) -> str:
    """How the file reads, page checksums verified."""
    try:
        file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
        found = file.read(use_threads=False)
    except (OSError, ValueError, MemoryError, pa.ArrowException):
        return "refused"
    return "the same numbers" if found.equals(table) else "other numbers"


def main() -> None:
    """Try every change and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="try one change in so many")
    every = parser.parse_args().every
    table, whole = small_part()
    footer = int.from_bytes(whole[-FOOTER_TAIL:-4], "little")
    changes = [
        (place, value)
        for place in range(4, len(whole) - FOOTER_TAIL - footer)
        for value in range(256)
        if value != whole[place]
    ][::every]
    counts: Counter[str] = Counter()
    for place, value in changes:
        data = bytearray(whole)
        data[place] = value
        counts[outcome(table, bytes(data))] += 1
    print(f"{len(changes):,} single-byte changes, pyarrow {pa.__version__}")
    for name, count in counts.most_common():
        print(f"  {name}: {count:,}")


if __name__ == "__main__":
    main()
