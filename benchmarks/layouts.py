"""How embeddings and scalar columns lie in Parquet: size, writing and reading of each layout.

Two tables. The first writes one matrix of embeddings in every layout that decision 0004
weighs and reads it back in four ways; the second writes float32 columns with several row
groups and codecs. Every way to read is checked against what was written before it is timed.

    python benchmarks/layouts.py                    # both tables, as markdown
    python benchmarks/layouts.py --only scalars     # one of them
    python benchmarks/layouts.py --json             # every figure, with the rounds
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timing

if __name__ == "__main__":
    timing.one_thread()  # libraries read their settings when they are imported: before them

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from timing import Timing, markdown_table, milliseconds

from birdstack.store.parquet_schema import numpy_values, round_mantissa
from birdstack.store.parquet_write import chunk_digest, chunk_ranges

SIZES = {
    "windows": (8_192, "windows with an embedding"),
    "dim": (1_280, "length of an embedding"),
    "vector-rows": (1_024, "rows of a row group of embeddings"),
    "scalar-windows": (50_000, "windows with scalar columns"),
    "columns": (200, "scalar columns"),
    "group": (80, "scalar columns that are read together"),
    "constant": (8, "scalar columns that hold one number"),
    "scalar-rows": (8_192, "rows of the store's row groups of scalar columns"),
    "rounds": (5, "rounds that count"),
}
POOLED = 4  # places of a feature map whose activations are averaged into one embedding
WINDOWS_OF_RECORDING = 50
ONE_COLUMN_TIMES = 20  # in each round: to read one column once takes too little to be timed


@dataclass(frozen=True)
class Layout:
    """One way to lay columns down in a file.

    Attributes:
        title: how the tables name it.
        rows: rows of a row group.
        codec: `none`, `lz4` or `zstd` (at level 1).
        bits: float32 is rounded to so many bits of mantissa; None keeps it, 16 means float16.
        split: byte-stream-split.
        ours: the store writes this one.
    """

    title: str
    rows: int
    codec: str
    bits: int | None = None
    split: bool = False
    ours: bool = False


def embedding_layouts(rows: int) -> list[Layout]:
    """What decision 0004 weighs."""
    return [
        Layout("float32, uncompressed", rows, "none"),
        Layout("float32, LZ4", rows, "lz4"),
        Layout("float32, zstd 1", rows, "zstd"),
        Layout("float32, zstd 1, BSS", rows, "zstd", split=True),
        Layout("float32, 10 bits, zstd 1", rows, "zstd", 10),
        Layout("float32, 10 bits, LZ4, BSS", rows, "lz4", 10, split=True),
        Layout("float32, 10 bits, zstd 1, BSS", rows, "zstd", 10, split=True, ours=True),
        Layout("float32, 7 bits, zstd 1, BSS", rows, "zstd", 7, split=True),
        Layout("float16, uncompressed", rows, "none", 16),
        Layout("float16, LZ4", rows, "lz4", 16),
        Layout("float16, zstd 1", rows, "zstd", 16),
        Layout("float16, zstd 1, BSS", rows, "zstd", 16, split=True),
    ]


def scalar_layouts(rows: int) -> list[Layout]:
    """Row groups around the store's own number of rows, with each codec."""
    zstd = [Layout(f"{n:,}, zstd 1", n, "zstd") for n in (rows // 4, rows // 2, rows)]
    lz4 = [Layout(f"{n:,}, LZ4", n, "lz4", ours=n == rows) for n in (rows // 2, rows, rows * 2)]
    return [*zstd, *lz4, Layout(f"{rows:,}, uncompressed", rows, "none")]


def pooled_activations(windows: int, dim: int, seed: int = 0) -> np.ndarray:
    """Embeddings `[window, dim]`: means of SiLU activations, some dimensions nearly silent."""
    rng = np.random.default_rng(seed)
    bias = rng.normal(-0.5, 1.0, dim).astype(np.float32)
    spread = np.exp(rng.normal(0, 0.5, dim)).astype(np.float32)
    values = np.zeros((windows, dim), dtype=np.float32)
    for first in range(0, windows, 1024):
        block = values[first : first + 1024]
        for _ in range(POOLED):
            place = rng.standard_normal(block.shape, dtype=np.float32) * spread + bias
            block += place / (1 + np.exp(-place)) / POOLED
    return values


def wandering_columns(windows: int, columns: int, constant: int, seed: int = 1) -> np.ndarray:
    """Scalar columns `[window, column]`: random walks through recordings; the last are constant.

    Levels and scales differ by orders of magnitude, as those of acoustic measures do.
    """
    rng = np.random.default_rng(seed)
    recordings = -(-windows // WINDOWS_OF_RECORDING)
    shape = (recordings, WINDOWS_OF_RECORDING, columns)
    walks = 0.3 * rng.standard_normal(shape, dtype=np.float32)
    walks[:, 0] = rng.standard_normal((recordings, columns), dtype=np.float32)
    walks = walks.cumsum(axis=1, dtype=np.float32).reshape(-1, columns)[:windows]
    scale = np.exp(rng.normal(0, 3, columns)).astype(np.float32)
    level = rng.normal(0, 3, columns).astype(np.float32)
    values = (walks + level) * scale
    values[:, columns - constant :] = level[columns - constant :]
    return values


def as_stored(values: np.ndarray, layout: Layout) -> np.ndarray:
    """The numbers in the layout's precision."""
    if layout.bits is None:
        return values
    return values.astype(np.float16) if layout.bits == 16 else round_mantissa(values, layout.bits)


def embedding_table(values: np.ndarray, layout: Layout) -> pa.Table:
    """One fixed-size list column, rounded or cast."""
    stored = as_stored(values, layout)
    item = pa.field("item", pa.from_numpy_dtype(stored.dtype), nullable=False)
    kind = pa.list_(item, stored.shape[1])
    array = pa.FixedSizeListArray.from_arrays(pa.array(stored.ravel()), type=kind)
    return pa.Table.from_arrays([array], schema=pa.schema([pa.field("embedding", kind, False)]))


def scalar_table(values: np.ndarray) -> pa.Table:
    """One column for each of `values` `[window, column]`."""
    columns = {f"f{i:03d}": np.ascontiguousarray(column) for i, column in enumerate(values.T)}
    fields = [pa.field(name, pa.float32(), nullable=False) for name in columns]
    return pa.table(columns, schema=pa.schema(fields))


def write(path: Path, table: pa.Table, layout: Layout) -> None:
    """As the store writes: no dictionary, no statistics, page checksums."""
    pq.write_table(
        table,
        path,
        row_group_size=layout.rows,
        compression=layout.codec,
        compression_level=1 if layout.codec == "zstd" else None,
        use_dictionary=False,
        column_encoding={"embedding.list.element": "BYTE_STREAM_SPLIT"} if layout.split else None,
        write_statistics=False,
        write_page_checksum=True,
    )


def opened(path: Path, *, checked: bool) -> pq.ParquetFile:
    """The file over a memory map, its pages' checksums verified or not."""
    return pq.ParquetFile(pa.memory_map(str(path)), page_checksum_verification=checked)


def chunks_of(path: Path, columns: int) -> list[memoryview]:
    """The bytes of every column chunk of the first columns, over a memory map."""
    data = np.memmap(path, dtype=np.uint8, mode="r").data
    ranges = chunk_ranges(pq.read_metadata(path), None, range(columns))
    return [data[start : start + length] for start, length in ranges]


def digest_chunks(chunks: Sequence[memoryview]) -> None:
    """Digest column chunks, as the store's reader does before it decodes them."""
    for chunk in chunks:
        chunk_digest(chunk)


def read_ours(path: Path, shape: tuple[int, int], *, checked: bool) -> np.ndarray:
    """Row group by row group into one fresh float32 array `[window, dim]`."""
    out = np.empty(shape, dtype=np.float32)
    first = 0
    with opened(path, checked=checked) as file:
        for group in range(file.num_row_groups):
            rows = numpy_values(file.read_row_group(group).column(0))
            out[first : first + len(rows)] = rows
            first += len(rows)
    return out


def read_duckdb(path: Path) -> pa.Table:
    """Into an Arrow table; a fresh connection each time, on one thread."""
    with duckdb.connect(config={"threads": 1}) as connection:
        query = f"SELECT embedding FROM read_parquet('{path}')"  # noqa: S608 - our own path
        return connection.sql(query).to_arrow_table()


def embedding_ways(path: Path, shape: tuple[int, int]) -> dict[str, Callable[[], Any]]:
    """The ways to read one file of embeddings."""
    return {
        "ours": partial(read_ours, path, shape, checked=False),
        "ours, checked": partial(read_ours, path, shape, checked=True),
        "digests": partial(digest_chunks, chunks_of(path, 1)),
        "polars": partial(pl.read_parquet, path),
        "DuckDB": partial(read_duckdb, path),
    }


def refused(ways: dict[str, Callable[[], Any]], expected: np.ndarray) -> dict[str, str]:
    """Check that each way returns what was written. Returns those that refuse, and why."""
    refusals = {}
    for name, work in ways.items():
        try:
            found = work()
        except (duckdb.Error, pl.exceptions.PolarsError) as error:
            refusals[name] = str(error)
            continue
        if isinstance(found, pl.DataFrame):
            found = found.get_column("embedding").to_numpy()
        if isinstance(found, pa.Table):
            found = np.concatenate([np.asarray(c.flatten()) for c in found.column(0).chunks])
        if found is not None and not np.array_equal(np.ravel(found), np.ravel(expected)):
            raise SystemExit(f"{name} does not return what was written")  # noqa: EM102, TRY003
    return refusals


def measure_embeddings(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write and read every embedding layout. Returns figures by layout."""
    values = pooled_activations(arguments.windows, arguments.dim)
    np.save(folder / "map.npy", values)
    layouts = embedding_layouts(arguments.vector_rows)
    paths = {layout: folder / f"{number}.parquet" for number, layout in enumerate(layouts)}

    def lay_down(layout: Layout) -> None:
        write(paths[layout], embedding_table(values, layout), layout)

    print(f"writing {len(layouts)} layouts of embeddings", file=sys.stderr)
    writes = {f"{layout.title}: write": partial(lay_down, layout) for layout in layouts}
    timings = timing.interleaved(writes, arguments.rounds)
    ways: dict[str, Callable[[], Any]] = {
        "memory map: copy": lambda: np.array(np.load(folder / "map.npy", mmap_mode="r"))
    }
    refusals = {}
    for layout, path in paths.items():
        of_layout = embedding_ways(path, values.shape)
        found = refused(of_layout, as_stored(values, layout).astype(np.float32))
        ways |= {f"{layout.title}: {w}": of_layout[w] for w in of_layout if w not in found}
        refusals[layout] = found
    print(f"reading them: {len(ways)} ways", file=sys.stderr)
    timings |= timing.interleaved(ways, arguments.rounds)
    return {
        "memory map": seconds(timings, "memory map"),
        "layouts": {
            layout.title: {
                "ours": layout.ours,
                "bytes": path.stat().st_size,
                "refused": refusals[layout],
                "seconds": seconds(timings, layout.title),
            }
            for layout, path in paths.items()
        },
    }


def measure_scalars(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write every layout of scalar columns, read parts of it. Returns figures by layout."""
    values = wandering_columns(arguments.scalar_windows, arguments.columns, arguments.constant)
    table = scalar_table(values)
    group = table.column_names[: arguments.group]
    layouts = scalar_layouts(arguments.scalar_rows)
    ways: dict[str, Callable[[], Any]] = {}
    on_disk = {}

    def read_one(file: pq.ParquetFile) -> None:
        for _ in range(ONE_COLUMN_TIMES):
            file.read(group[-1:])

    for number, layout in enumerate(layouts):
        path = folder / f"{number}.parquet"
        write(path, table, layout)
        for how in ("plain", "checked"):  # files stay open, as the store's reader keeps them
            file = opened(path, checked=how == "checked")
            if not file.read().equals(table):
                raise SystemExit(f"{layout.title} does not return what was written")  # noqa: EM102, TRY003
            ways[f"{layout.title}: group, {how}"] = partial(file.read, group)
            ways[f"{layout.title}: one, {how}"] = partial(read_one, file)
            ways[f"{layout.title}: row group, {how}"] = partial(file.read_row_group, 0)
        ways[f"{layout.title}: digests"] = partial(digest_chunks, chunks_of(path, len(group)))
        on_disk[layout.title] = {
            "ours": layout.ours,
            "bytes": path.stat().st_size,
            "footer_bytes": file.metadata.serialized_size,
        }
    print(f"reading {len(layouts)} layouts of scalar columns: {len(ways)} ways", file=sys.stderr)
    timings = timing.interleaved(ways, arguments.rounds)
    return {
        "layouts": {n: {**found, "seconds": seconds(timings, n)} for n, found in on_disk.items()}
    }


def seconds(timings: dict[str, Timing], layout: str) -> dict[str, dict[str, Any]]:
    """Way -> median CPU and wall seconds, and CPU seconds of each round, of one layout."""
    found = {}
    for name, rounds in timings.items():
        title, way = name.split(": ")
        if title == layout:
            times = ONE_COLUMN_TIMES if way.startswith("one") else 1
            found[way] = {
                "cpu_s": rounds.cpu / times,
                "wall_s": rounds.wall / times,
                "rounds_cpu_s": [cpu_s / times for cpu_s in rounds.cpu_s],
            }
    return found


def cpu_ms(found: dict[str, Any], way: str) -> str:
    """Median CPU milliseconds of one way, as a cell."""
    return milliseconds(found["seconds"][way]["cpu_s"])


def embeddings_markdown(sizes: argparse.Namespace, figures: dict[str, Any]) -> str:
    """The table of decision 0004."""
    ways = ["write", "ours", "ours, checked", "digests", "polars", "DuckDB"]
    rows = []
    for title, found in figures["layouts"].items():
        cells = [title, f"{found['bytes'] / 1e6:.1f}"]
        cells += [cpu_ms(found, w) if w in found["seconds"] else "refuses the file" for w in ways]
        rows.append([f"**{cell}**" for cell in cells] if found["ours"] else cells)
    copied = milliseconds(figures["memory map"]["copy"]["cpu_s"])
    title = (
        f"{sizes.windows:,} windows of {sizes.dim:,} floats, {sizes.windows * sizes.dim * 4 / 1e6:.1f} "
        f"MB as float32; CPU ms; a copy out of a memory map takes {copied}"
    )
    return f"{title}\n\n{markdown_table(['layout', 'MB', *ways], rows)}"


def scalars_markdown(sizes: argparse.Namespace, figures: dict[str, Any]) -> str:
    """The table of docs/reference/benchmarks.md."""
    rows = []
    for title, found in figures["layouts"].items():
        cells = [title, f"{found['bytes'] / 1e6:.1f}", f"{found['footer_bytes'] / 1e3:.0f}"]
        for how in ("plain", "checked"):
            reads = [cpu_ms(found, f"{way}, {how}") for way in ("group", "one", "row group")]
            cells.append(" / ".join(reads))
        cells.append(cpu_ms(found, "digests"))
        rows.append([f"**{cell}**" for cell in cells] if found["ours"] else cells)
    title = (
        f"{sizes.scalar_windows:,} windows, {sizes.columns} columns ({sizes.constant} constant); CPU "
        f"ms: {sizes.group} columns / one column / one row group of all; digests of {sizes.group}"
    )
    head = ["row group, codec", "MB", "footer kB", "decode", "decode, page checksums verified"]
    return f"{title}\n\n{markdown_table([*head, 'digests'], rows)}"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    for name, (size, text) in SIZES.items():
        add(f"--{name}", type=int, default=size, help=f"{text} ({size:,})")
    add("--only", choices=("embeddings", "scalars"), help="one table")
    add("--workdir", type=Path, help="where the files lie meanwhile (a temporary folder)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print tables (the default)")
    form.add_argument("--json", action="store_true", help="print every figure, with the rounds")
    return parser.parse_args()


def main() -> None:
    """Measure, print."""
    arguments = parse()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    kinds = {
        "embeddings": (measure_embeddings, embeddings_markdown),
        "scalars": (measure_scalars, scalars_markdown),
    }
    machine = timing.machine("numpy", "pyarrow", "polars", "duckdb")
    figures: dict[str, Any] = {"machine": machine, "rounds": arguments.rounds}
    sections = [f"{machine}. {arguments.rounds} rounds, one thread, one processor."]
    for kind in [arguments.only] if arguments.only else kinds:
        measure, markdown = kinds[kind]
        with tempfile.TemporaryDirectory(prefix="birdstack-", dir=arguments.workdir) as folder:
            figures[kind] = measure(arguments, Path(folder))
        sections.append(markdown(arguments, figures[kind]))
    print(json.dumps(figures, indent=1) if arguments.json else "\n\n".join(sections))


if __name__ == "__main__":
    main()
