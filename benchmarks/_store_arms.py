"""The rivals of benchmarks/store.py, each with every sensible way to read.

An arm writes a view of the data in its own usual layout and offers ways to read it: read ->
name of the way -> a function that returns float32. Handles stay open between reads.
"""

from __future__ import annotations

import functools
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from _store_data import Data

from birdstack.store.compact import compact
from birdstack.store.extractor import SingleView
from birdstack.store.materialise import materialise
from birdstack.store.recordings import Recording
from birdstack.store.run_config import RunConfig
from birdstack.store.store import Store
from birdstack.store.vacuum import vacuum
from birdstack.store.views import Column, ViewSpec

Ways = dict[str, Callable[[], np.ndarray]]
READS = ("group", "class", "recording", "embedding")
VIEW_OF = {
    "group": "acoustic",
    "class": "logits",
    "recording": "acoustic",
    "embedding": "embedding",
}
MANTISSA_BITS = 10


class Arm(ABC):
    """One store in one folder."""

    name: str

    def __init__(self, folder: Path, data: Data) -> None:
        self.folder = folder
        self.data = data
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def write(self, view: str) -> None:
        """Write one view."""

    @abstractmethod
    def ways(self, read: str) -> Ways:
        """Every way to do one of READS."""

    def drop(self, view: str) -> None:
        """Delete a view, to make room."""
        shutil.rmtree(self.folder / view)

    def n_bytes(self, view: str) -> int:
        """What the view takes on disk."""
        files = (self.folder / view).rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())

    def _table(self, view: str, vectors: Callable[[np.ndarray], pa.Array]) -> pa.Table:
        values = self.data.views[view]
        columns: dict[str, Any] = dict(self.data.keys())
        if view == "embedding":
            columns[view] = vectors(values)
        else:
            columns |= {n: values[:, i] for i, n in enumerate(self.data.names[view])}
        return pa.table(columns)


def variable_lists(values: np.ndarray) -> pa.Array:
    """Rows as lists of any length."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(offsets, np.ascontiguousarray(values).ravel())


def fixed_lists(values: np.ndarray) -> pa.Array:
    """Rows as lists of one length."""
    return pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(values).ravel(), values.shape[1])


def side_by_side(table: pa.Table | pl.DataFrame) -> np.ndarray:
    """Columns as `[window, column]`, the quickest way that was found."""
    frame = table if isinstance(table, pl.DataFrame) else pl.DataFrame(pl.from_arrow(table))
    return frame.to_numpy(order="c")


def stacked(column: pa.ChunkedArray, dim: int) -> np.ndarray:
    """A list column as `[window, dim]`, chunk by chunk into place."""
    out = np.empty((len(column), dim), dtype=np.float32)
    row = 0
    for chunk in column.chunks:
        values = chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
        out[row : row + len(values)] = values
        row += len(values)
    return out


class Memmap(Arm):
    """npy files through the page cache: what a copy costs, the limit for everybody."""

    name = "memmap npy"

    def write(self, view: str) -> None:
        """Row-major, logits also column-major (embeddings lie there already)."""
        target = self.folder / view
        target.mkdir()
        if view == "embedding":
            (target / "rows.npy").symlink_to(self.data.views[view].filename)
            return
        np.save(target / "rows.npy", np.ascontiguousarray(self.data.views[view]))
        if view == "logits":
            np.save(target / "columns.npy", np.ascontiguousarray(self.data.views[view].T))

    def ways(self, read: str) -> Ways:
        """A copy out of the map."""
        data, folder = self.data, self.folder / VIEW_OF[read]
        rows = np.load(folder / "rows.npy", mmap_mode="r")
        if read == "group":
            return {"rows[:, :n]": lambda: np.array(rows[:, : data.sizes.group])}
        if read == "class":
            columns, k = np.load(folder / "columns.npy", mmap_mode="r"), data.sizes.classes // 2
            return {
                "columns[k]": lambda: np.array(columns[k]),
                "rows[:, k]": lambda: np.array(rows[:, k]),
            }
        if read == "recording":
            first, n = int(data.firsts[data.middle]), int(data.counts[data.middle])
            return {"rows[a:b]": lambda: np.array(rows[first : first + n])}
        return {"copy": functools.partial(np.array, rows)}


class Ours(Arm):
    """birdstack's store, filled by its engine, compacted and vacuumed."""

    name = "birdstack"

    def __init__(self, folder: Path, data: Data) -> None:
        super().__init__(folder, data)
        self.store = Store.create(folder)
        self.rounded = False  # the embedding view read: exact, or with rounded mantissas

    def write(self, view: str) -> None:
        """Through `materialise`, `compact` and `vacuum`."""
        names = [view]
        if view == "embedding":
            names = ["embedding/exact", "embedding/rounded"]
        for name in names:
            extractor = _FromArrays(self.data, name)
            recordings = [
                Recording(recording_id, Path(recording_id), "0" * 64, duration_s=5.0 * int(count))
                for recording_id, count in zip(self.data.ids, self.data.counts, strict=True)
            ]
            config = RunConfig(executor="serial", unit_audio_s=1e6)
            materialise(self.store, recordings, extractor, [extractor], config)
            compact(self.store, [name])
            vacuum(self.store, grace_hours=0)

    def drop(self, view: str) -> None:
        """Delete the files; the log goes on naming them, nobody reads them again."""
        shutil.rmtree(self.folder / "views" / view)

    def n_bytes(self, view: str) -> int:
        """Parts of the view; of the exact one for embeddings."""
        name = "embedding/exact" if view == "embedding" else view
        state = self.store.snapshot().state
        return sum(part.n_bytes for part in state.parts.values() if part.view == name)

    def rounded_bytes(self) -> int:
        """Parts of the rounded embeddings."""
        state = self.store.snapshot().state
        return sum(p.n_bytes for p in state.parts.values() if p.view == "embedding/rounded")

    def ways(self, read: str) -> Ways:
        """`matrix`, and the verified LazyFrame."""
        store, data = self.store, self.data
        if read == "group":
            return {
                "matrix": lambda: store.matrix({"acoustic": data.group}).values,
                "view": lambda: side_by_side(store.view("acoustic").select(data.group).collect()),
            }
        if read == "class":
            name = data.one_class
            return {
                "matrix": lambda: store.matrix({"logits": [name]}).values[:, 0],
                "view": lambda: store.view("logits").select(name).collect()[name].to_numpy(),  # noqa: PLW0108 - would read at once
            }
        if read == "recording":
            wanted = data.ids[data.middle]
            mine = pl.col("recording_id") == wanted
            return {
                "matrix": lambda: store.matrix("acoustic", recordings=[wanted]).values,
                "view": lambda: side_by_side(
                    store.view("acoustic").filter(mine).select(data.names["acoustic"]).collect()
                ),
            }
        return {
            "matrix": lambda: store.matrix("embedding/exact").values,
            "matrix, 10 mantissa bits": lambda: store.matrix("embedding/rounded").values,
        }


class _FromArrays(SingleView):
    """A source and an extractor in one: recordings that were computed long ago."""

    def __init__(self, data: Data, name: str) -> None:
        self._values = data.views[name.split("/", 1)[0]]
        self._place = {
            i: (int(a), int(n)) for i, a, n in zip(data.ids, data.firsts, data.counts, strict=True)
        }
        columns = [Column(n) for n in data.names.get(name, [])]
        if not columns:
            bits = MANTISSA_BITS if name.endswith("rounded") else None
            columns = [Column("embedding", dim=data.sizes.dim, mantissa_bits=bits)]
        self.spec = ViewSpec(name, tuple(columns), {"extractor": "arrays", "view": name})

    def open(self, recording: Recording) -> _Opened:
        return _Opened(self._place[recording.recording_id])

    def measure(self, sound: _Opened, recording: Recording) -> dict[str, np.ndarray]:  # noqa: ARG002
        rows = self._values[sound.first : sound.first + sound.n_windows]
        names = self.spec.column_names
        if names == ["embedding"]:
            return {"embedding": rows}
        return {name: rows[:, i] for i, name in enumerate(names)}


class _Opened:
    notes: dict[str, Any] = {}  # noqa: RUF012 - empty and never changed

    def __init__(self, place: tuple[int, int]) -> None:
        self.first, self.n_windows = place


class Naive(Arm):
    """One Parquet file a view with polars' defaults, vectors and logits as list columns."""

    name = "naive Parquet"

    def write(self, view: str) -> None:
        """`DataFrame.write_parquet`."""
        (self.folder / view).mkdir()
        if view == "acoustic":
            table = self._table(view, variable_lists)
        else:
            lists = variable_lists(self.data.views[view])
            table = pa.table({**self.data.keys(), view: lists})
        pl.DataFrame(pl.from_arrow(table)).write_parquet(self.folder / view / "all.parquet")

    def ways(self, read: str) -> Ways:
        """Pyarrow and polars."""
        data, path = self.data, self.folder / VIEW_OF[read] / "all.parquet"
        if read == "group":
            return {
                "pyarrow": lambda: side_by_side(pq.read_table(path, columns=data.group)),
                "polars": lambda: side_by_side(pl.read_parquet(path, columns=data.group)),
            }
        if read == "class":
            k, width = data.sizes.classes // 2, data.sizes.classes
            one = pl.col("logits").list.get(k)
            return {
                "pyarrow": lambda: stacked(
                    pq.read_table(path, columns=["logits"]).column(0), width
                )[:, k],
                "polars": lambda: pl.scan_parquet(path).select(one).collect()["logits"].to_numpy(),  # noqa: PLW0108 - as above
            }
        if read == "recording":
            wanted, names = data.ids[data.middle], data.names["acoustic"]
            mine = pl.col("recording_id") == wanted
            return {
                "pyarrow": lambda: side_by_side(
                    pq.read_table(path, columns=names, filters=[("recording_id", "==", wanted)])
                ),
                "polars": lambda: side_by_side(
                    pl.scan_parquet(path).filter(mine).select(names).collect()
                ),
            }
        return {
            "pyarrow": lambda: stacked(
                pq.read_table(path, columns=[read]).column(0), data.sizes.dim
            ),
            "polars": lambda: stacked(
                pl.read_parquet(path, columns=[read]).to_arrow().column(0), data.sizes.dim
            ),
        }


class Delta(Arm):
    """Delta Lake by delta-rs, in one data file so that rows keep their order."""

    name = "Delta Lake"

    def write(self, view: str) -> None:
        """`write_deltalake`; it has no fixed-size lists."""
        from deltalake import write_deltalake  # noqa: PLC0415 - may be absent

        write_deltalake(
            str(self.folder / view), self._table(view, variable_lists), target_file_size=1 << 40
        )

    def ways(self, read: str) -> Ways:
        """Through pyarrow, polars, and for one recording DataFusion."""
        from deltalake import DeltaTable, QueryBuilder  # noqa: PLC0415 - may be absent

        data, path = self.data, str(self.folder / VIEW_OF[read])
        delta = DeltaTable(path)
        dataset = delta.to_pyarrow_dataset()
        if read in {"group", "class"}:
            columns = data.group if read == "group" else [data.one_class]
            shape: Callable[[np.ndarray], np.ndarray] = np.asarray if read == "group" else np.ravel
            return {
                "to_pyarrow_table": lambda: shape(
                    side_by_side(delta.to_pyarrow_table(columns=columns))
                ),
                "pyarrow dataset": lambda: shape(side_by_side(dataset.to_table(columns=columns))),
                "polars": lambda: shape(
                    side_by_side(pl.scan_delta(delta).select(columns).collect())
                ),
            }
        if read == "recording":
            wanted, names = data.ids[data.middle], data.names["acoustic"]
            mine = pads.field("recording_id") == wanted
            query = QueryBuilder().register("acoustic", delta)
            chosen = ", ".join(names)
            sql = f"SELECT {chosen} FROM acoustic WHERE recording_id = '{wanted}'"  # noqa: S608
            return {
                "to_pyarrow_table": lambda: side_by_side(
                    delta.to_pyarrow_table(columns=names, filters=mine)
                ),
                "pyarrow dataset": lambda: side_by_side(
                    dataset.to_table(columns=names, filter=mine)
                ),
                "polars": lambda: side_by_side(
                    pl.scan_delta(delta)
                    .filter(pl.col("recording_id") == wanted)
                    .select(names)
                    .collect()
                ),
                "datafusion": lambda: side_by_side(pa.table(query.execute(sql).read_all())),
            }
        dim = data.sizes.dim
        return {
            "to_pyarrow_table": lambda: stacked(
                delta.to_pyarrow_table(columns=[read]).column(0), dim
            ),
            "pyarrow dataset": lambda: stacked(dataset.to_table(columns=[read]).column(0), dim),
            "polars": lambda: stacked(
                pl.scan_delta(delta).select(read).collect().to_arrow().column(0), dim
            ),
        }


class Lance(Arm):
    """Lance, fixed-size lists for vectors, a B-tree on the recording."""

    name = "Lance"

    def write(self, view: str) -> None:
        """`write_dataset`."""
        import lance  # noqa: PLC0415 - may be absent

        dataset = lance.write_dataset(self._table(view, fixed_lists), str(self.folder / view))
        if view == "acoustic":
            dataset.create_scalar_index("recording_id", "BTREE")

    def ways(self, read: str) -> Ways:
        """Table, batches, indexed filter, rows by number."""
        import lance  # noqa: PLC0415 - may be absent

        data = self.data
        dataset = lance.dataset(str(self.folder / VIEW_OF[read]))
        if read in {"group", "class"}:
            columns = data.group if read == "group" else [data.one_class]
            shape: Callable[[np.ndarray], np.ndarray] = np.asarray if read == "group" else np.ravel
            return {"to_table": lambda: shape(side_by_side(dataset.to_table(columns=columns)))}
        if read == "recording":
            names = data.names["acoustic"]
            query = f"recording_id = '{data.ids[data.middle]}'"
            first, n = int(data.firsts[data.middle]), int(data.counts[data.middle])
            rows = list(range(first, first + n))
            return {
                "filter, B-tree": lambda: side_by_side(
                    dataset.to_table(columns=names, filter=query)
                ),
                "filter, no index": lambda: side_by_side(
                    dataset.scanner(columns=names, filter=query, use_scalar_index=False).to_table()
                ),
                "take, row numbers given": lambda: side_by_side(dataset.take(rows, columns=names)),
            }

        def in_batches() -> np.ndarray:
            out = np.empty((data.sizes.windows, data.sizes.dim), dtype=np.float32)
            row = 0
            for batch in dataset.to_batches(columns=[read]):
                values = batch.column(0).flatten().to_numpy().reshape(-1, data.sizes.dim)
                out[row : row + len(values)] = values
                row += len(values)
            return out

        return {
            "to_batches": in_batches,
            "to_table": lambda: stacked(dataset.to_table(columns=[read]).column(0), data.sizes.dim),
        }


ARMS: tuple[type[Arm], ...] = (Memmap, Ours, Naive, Delta, Lance)
NEEDS = {Delta: "deltalake", Lance: "lance"}
