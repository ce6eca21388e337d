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
from collections.abc import Callable
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

LIBRARIES = ("numpy", "pyarrow", "polars", "duckdb")
LEAF = "embedding.list.element"
"""Parquet's name of the values inside the list column."""
POOLED = 4
"""Places of a feature map whose activations are averaged into one embedding."""
WINDOWS_OF_RECORDING = 50
ONE_COLUMN_TIMES = 20
"""A single column is read so often in a round: once takes too little to be timed."""


@dataclass(frozen=True)
class Layout:
    """One way to lay columns down in a file.

    Attributes:
        codec: `none`, `lz4` or `zstd` (at level 1).
        rows: rows of a row group.
        bits: float32 is rounded to so many bits of mantissa; None keeps it, 16 means float16.
        split: byte-stream-split.
        ours: the store writes this one.
    """

    codec: str
    rows: int
    bits: int | None = None
    split: bool = False
    ours: bool = False

    @property
    def half(self) -> bool:
        """Stored as float16."""
        return self.bits == 16

    @property
    def codec_name(self) -> str:
        """The codec as the tables name it."""
        return {"none": "uncompressed", "lz4": "LZ4", "zstd": "zstd 1"}[self.codec]

    @property
    def title(self) -> str:
        """Name of an embedding layout in the table."""
        kind = "float16" if self.half else "float32"
        rounded = [] if self.bits is None or self.half else [f"{self.bits} bits"]
        return ", ".join([kind, *rounded, self.codec_name, *(["BSS"] if self.split else [])])

    @property
    def scalar_title(self) -> str:
        """Name of a layout of scalar columns in the table."""
        return f"{self.rows:,}, {self.codec_name}"


def embedding_layouts(rows: int) -> list[Layout]:
    """What decision 0004 weighs."""
    kinds: list[tuple[str, int | None, bool]] = [
        *[("none", None, False), ("lz4", None, False), ("zstd", None, False), ("zstd", None, True)],
        *[("zstd", 10, False), ("lz4", 10, True), ("zstd", 10, True), ("zstd", 7, True)],
        *[("none", 16, False), ("lz4", 16, False), ("zstd", 16, False), ("zstd", 16, True)],
    ]
    return [
        Layout(codec, rows, bits, split, ours=(codec, bits, split) == ("zstd", 10, True))
        for codec, bits, split in kinds
    ]


def scalar_layouts(rows: int) -> list[Layout]:
    """Row groups around the store's own number of rows, with each codec."""
    zstd = [Layout("zstd", n) for n in (rows // 4, rows // 2, rows)]
    lz4 = [Layout("lz4", n, ours=n == rows) for n in (rows // 2, rows, rows * 2)]
    return [*zstd, *lz4, Layout("none", rows)]


# --- data ---------------------------------------------------------------------------------


def pooled_activations(windows: int, dim: int, seed: int = 0) -> np.ndarray:
    """Embeddings `[window, dim]`: the mean of SiLU activations over a few places.

    Each dimension has its own bias and spread, so that some are nearly silent, as the
    channels of a trained network are.
    """
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
    """Scalar columns `[window, column]`: a random walk through each recording.

    Columns differ in level and scale by orders of magnitude, as acoustic measures do; the
    last `constant` of them hold one number.
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


# --- files --------------------------------------------------------------------------------


def as_stored(values: np.ndarray, layout: Layout) -> np.ndarray:
    """The numbers in the layout's precision."""
    if layout.half:
        return values.astype(np.float16)
    return values if layout.bits is None else round_mantissa(values, layout.bits)


def embedding_table(values: np.ndarray, layout: Layout) -> pa.Table:
    """One fixed-size list column, rounded or cast."""
    stored = as_stored(values, layout)
    item = pa.field("item", pa.from_numpy_dtype(stored.dtype), nullable=False)
    kind = pa.list_(item, stored.shape[1])
    array = pa.FixedSizeListArray.from_arrays(pa.array(stored.ravel()), type=kind)
    return pa.Table.from_arrays([array], schema=pa.schema([pa.field("embedding", kind, False)]))


def scalar_table(values: np.ndarray) -> pa.Table:
    """One column for each of `values` `[window, column]`."""
    names = [f"f{i:03d}" for i in range(values.shape[1])]
    arrays = [pa.array(np.ascontiguousarray(column)) for column in values.T]
    fields = [pa.field(name, pa.float32(), nullable=False) for name in names]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def write(path: Path, table: pa.Table, layout: Layout) -> None:
    """As the store writes: no dictionary, no statistics, page checksums."""
    pq.write_table(
        table,
        path,
        row_group_size=layout.rows,
        compression=layout.codec,
        compression_level=1 if layout.codec == "zstd" else None,
        use_dictionary=False,
        column_encoding={LEAF: "BYTE_STREAM_SPLIT"} if layout.split else None,
        write_statistics=False,
        write_page_checksum=True,
    )


def opened(path: Path, *, checked: bool) -> pq.ParquetFile:
    """The file over a memory map, its pages' checksums verified or not."""
    return pq.ParquetFile(pa.memory_map(str(path)), page_checksum_verification=checked)


def digest_chunks(path: Path) -> None:
    """Digest every column chunk, as the store's reader does before it decodes one."""
    data = np.memmap(path, dtype=np.uint8, mode="r").data
    for start, length in chunk_ranges(pq.read_metadata(path), None, None):
        chunk_digest(data[start : start + length])


# --- ways to read -------------------------------------------------------------------------


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


def read_polars(path: Path) -> Any:
    """Into a polars frame."""
    return pl.read_parquet(path)


def read_duckdb(path: Path) -> pa.Table:
    """Into an Arrow table; a fresh connection each time, on one thread."""
    with duckdb.connect(config={"threads": 1}) as connection:
        query = f"SELECT embedding FROM read_parquet('{path}')"  # noqa: S608 - our own path
        return connection.sql(query).to_arrow_table()


def copy_map(path: Path) -> np.ndarray:
    """A copy out of a memory map into a fresh array: the limit for every layout."""
    return np.array(np.load(path, mmap_mode="r"))


def embedding_ways(path: Path, shape: tuple[int, int]) -> dict[str, Callable[[], Any]]:
    """The ways to read one file of embeddings."""
    return {
        "ours": partial(read_ours, path, shape, checked=False),
        "ours, checked": partial(read_ours, path, shape, checked=True),
        "digests": partial(digest_chunks, path),
        "polars": partial(read_polars, path),
        "DuckDB": partial(read_duckdb, path),
    }


def as_matrix(found: Any, shape: tuple[int, int]) -> np.ndarray:
    """What a way to read returned, as float32 `[window, dim]`."""
    if isinstance(found, pl.DataFrame):
        found = found.get_column("embedding").to_numpy()
    if isinstance(found, pa.Table):
        chunks = found.column(0).chunks
        found = np.concatenate([np.asarray(chunk.flatten()) for chunk in chunks])
    return np.asarray(found, dtype=np.float32).reshape(shape)


def refused(ways: dict[str, Callable[[], Any]], expected: np.ndarray) -> dict[str, str]:
    """Read once in each way. Returns the ways that refuse the file, and what they say.

    Raises:
        SystemExit: a way returns other numbers than were written.
    """
    refusals = {}
    for name, work in ways.items():
        try:
            found = work()
        except (duckdb.Error, pl.exceptions.PolarsError) as error:
            refusals[name] = str(error)
            continue
        if found is not None and not np.array_equal(as_matrix(found, expected.shape), expected):
            raise SystemExit(f"{name} does not return what was written")  # noqa: EM102, TRY003
    return refusals


# --- the two tables -----------------------------------------------------------------------


def measure_embeddings(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write and read every embedding layout. Returns figures by layout."""
    values = pooled_activations(arguments.windows, arguments.dim)
    shape = values.shape
    np.save(folder / "map.npy", values)
    layouts = embedding_layouts(arguments.vector_rows)
    paths = {layout: folder / f"{number}.parquet" for number, layout in enumerate(layouts)}

    def lay_down(layout: Layout) -> None:
        write(paths[layout], embedding_table(values, layout), layout)

    say(f"writing {len(layouts)} layouts of embeddings")
    writes = timing.interleaved(
        {layout.title: partial(lay_down, layout) for layout in layouts}, arguments.rounds
    )
    ways: dict[str, Callable[[], Any]] = {"memory map": partial(copy_map, folder / "map.npy")}
    refusals: dict[Layout, dict[str, str]] = {}
    for layout, path in paths.items():
        of_layout = embedding_ways(path, shape)
        refusals[layout] = refused(of_layout, as_stored(values, layout).astype(np.float32))
        ways |= {
            f"{layout.title}: {way}": work
            for way, work in of_layout.items()
            if way not in refusals[layout]
        }
    say(f"reading them: {len(ways)} ways")
    reads = timing.interleaved(ways, arguments.rounds)
    return {
        "windows": arguments.windows,
        "dim": arguments.dim,
        "bytes": values.nbytes,
        "memory map": seconds(reads["memory map"]),
        "layouts": {
            layout.title: {
                "ours": layout.ours,
                "bytes": path.stat().st_size,
                "write": seconds(writes[layout.title]),
                "read": {
                    way: seconds(reads[f"{layout.title}: {way}"])
                    for way in embedding_ways(path, shape)
                    if way not in refusals[layout]
                },
                "refused": refusals[layout],
            }
            for layout, path in paths.items()
        },
    }


def measure_scalars(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write every layout of scalar columns, read parts of it. Returns figures by layout."""
    values = wandering_columns(arguments.scalar_windows, arguments.columns, arguments.constant)
    table = scalar_table(values)
    group = table.column_names[: arguments.group]
    one = group[len(group) // 2 :][:1]
    layouts = scalar_layouts(arguments.scalar_rows)
    paths = {layout: folder / f"{number}.parquet" for number, layout in enumerate(layouts)}
    files: dict[Layout, dict[str, pq.ParquetFile]] = {}
    ways: dict[str, Callable[[], Any]] = {}

    def read_one(file: pq.ParquetFile) -> None:
        for _ in range(ONE_COLUMN_TIMES):
            file.read(one)

    for layout, path in paths.items():
        write(path, table, layout)
        # Files stay open between reads, as the store's reader keeps them.
        files[layout] = {
            "plain": opened(path, checked=False),
            "checked": opened(path, checked=True),
        }
        for how, file in files[layout].items():
            if not file.read().equals(table):
                raise SystemExit(f"{path} does not return what was written")  # noqa: EM102, TRY003
            ways[f"{layout.scalar_title}: group, {how}"] = partial(file.read, group)
            ways[f"{layout.scalar_title}: one, {how}"] = partial(read_one, file)
            ways[f"{layout.scalar_title}: row group, {how}"] = partial(file.read_row_group, 0)
        ways[f"{layout.scalar_title}: digests"] = partial(digest_chunks, path)
    say(f"reading {len(layouts)} layouts of scalar columns: {len(ways)} ways")
    reads = timing.interleaved(ways, arguments.rounds)
    return {
        "windows": arguments.scalar_windows,
        "columns": arguments.columns,
        "group": len(group),
        "constant": arguments.constant,
        "bytes": values.nbytes,
        "layouts": {
            layout.scalar_title: {
                "ours": layout.ours,
                "bytes": path.stat().st_size,
                "footer_bytes": files[layout]["plain"].metadata.serialized_size,
                "pages_of_group": files[layout]["plain"].num_row_groups * len(group),
                "read": {
                    way.split(": ")[1]: seconds(found, ONE_COLUMN_TIMES if ": one" in way else 1)
                    for way, found in reads.items()
                    if way.startswith(f"{layout.scalar_title}: ")
                },
            }
            for layout, path in paths.items()
        },
    }


def seconds(found: Timing, times: int = 1) -> dict[str, Any]:
    """Medians of the rounds, and the rounds, each divided by how often the work was done."""
    return {
        "cpu_s": found.cpu / times,
        "wall_s": found.wall / times,
        "rounds_cpu_s": [cpu_s / times for cpu_s in found.cpu_s],
    }


def embeddings_markdown(figures: dict[str, Any]) -> str:
    """The table of decision 0004."""
    rows = []
    for title, found in figures["layouts"].items():
        cells = [title, f"{found['bytes'] / 1e6:.1f}", milliseconds(found["write"]["cpu_s"])]
        for way in ("ours", "ours, checked", "digests", "polars", "DuckDB"):
            way_of = found["read"].get(way)
            cells.append("refuses the file" if way_of is None else milliseconds(way_of["cpu_s"]))
        rows.append(bold(cells) if found["ours"] else cells)
    copied = milliseconds(figures["memory map"]["cpu_s"])
    head = ["layout", "MB", "write", "ours", "ours, checked", "digests", "polars", "DuckDB"]
    title = (
        f"{figures['windows']:,} windows of {figures['dim']:,} floats, "
        f"{figures['bytes'] / 1e6:.1f} MB as float32; CPU ms; a copy out of a memory map: {copied}"
    )
    return f"{title}\n\n{markdown_table(head, rows)}"


def scalars_markdown(figures: dict[str, Any]) -> str:
    """The table of docs/reference/benchmarks.md."""
    rows = []
    for title, found in figures["layouts"].items():
        cells = [title, f"{found['bytes'] / 1e6:.1f}", f"{found['footer_bytes'] / 1e3:.0f}"]
        for how in ("plain", "checked"):
            reads = [found["read"][f"{way}, {how}"] for way in ("group", "one", "row group")]
            cells.append(" / ".join(milliseconds(read["cpu_s"]) for read in reads))
        cells.append(milliseconds(found["read"]["digests"]["cpu_s"]))
        rows.append(bold(cells) if found["ours"] else cells)
    title = (
        f"{figures['windows']:,} windows, {figures['columns']} columns "
        f"({figures['constant']} constant), {figures['bytes'] / 1e6:.1f} MB as float32; CPU ms: "
        f"{figures['group']} columns / one column / one row group of all {figures['columns']}"
    )
    head = ["row group, codec", "MB", "footer kB", "decode", "decode, page checksums verified"]
    return f"{title}\n\n{markdown_table([*head, 'digests of all'], rows)}"


def bold(cells: list[str]) -> list[str]:
    """The row of what the store writes."""
    return [f"**{cell}**" for cell in cells]


# --- the command --------------------------------------------------------------------------


def say(text: str) -> None:
    """To the terminal, not into the tables."""
    print(text, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--windows", type=int, default=20_480, help="windows with an embedding")
    add("--dim", type=int, default=1280, help="length of an embedding")
    add("--vector-rows", type=int, default=1024, help="rows of a row group of embeddings")
    add("--scalar-windows", type=int, default=50_000, help="windows with scalar columns")
    add("--columns", type=int, default=200, help="scalar columns")
    add("--group", type=int, default=80, help="scalar columns that are read together")
    add("--constant", type=int, default=8, help="scalar columns that hold one number")
    add("--scalar-rows", type=int, default=8192, help="rows of the store's scalar row groups")
    add("--rounds", type=int, default=5)
    add("--only", choices=("embeddings", "scalars"), help="one table")
    add("--workdir", type=Path, help="where the files lie meanwhile (a temporary folder)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="tables (the default)")
    form.add_argument("--json", action="store_true", help="every figure, with the rounds")
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
    figures: dict[str, Any] = {
        "machine": timing.machine(*LIBRARIES),
        "rounds": arguments.rounds,
    }
    sections = [f"{figures['machine']}. {arguments.rounds} rounds, one thread, one processor."]
    for kind, (measure, markdown) in kinds.items():
        if arguments.only in {None, kind}:
            with tempfile.TemporaryDirectory(
                prefix="birdstack-bench-", dir=arguments.workdir
            ) as folder:
                figures[kind] = measure(arguments, Path(folder))
            sections.append(markdown(figures[kind]))
    print(json.dumps(figures, indent=1) if arguments.json else "\n\n".join(sections))


if __name__ == "__main__":
    main()
