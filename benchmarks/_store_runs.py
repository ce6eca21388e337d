"""Small commits, and a run that has nothing to do, for benchmarks/store.py."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from _store_arms import fixed_lists, variable_lists
from _store_data import content_hash
from timing import Timing

from birdstack.store.catalog import load_recordings
from birdstack.store.extractor import Extractor, SingleView
from birdstack.store.materialise import materialise
from birdstack.store.recordings import Recording
from birdstack.store.run_config import RunConfig
from birdstack.store.store import Store
from birdstack.store.table_writer import write_tables
from birdstack.store.tables import DATASETS, RECORDINGS
from birdstack.store.views import Column, ViewSpec

WINDOWS = 45


class _Opened:
    notes: dict[str, Any] = {}  # noqa: RUF012 - empty and never changed

    def __init__(self, n_windows: int) -> None:
        self.n_windows = n_windows


class _Turns(SingleView):
    """A source whose every call times the commit before it, then lets the rivals commit.

    The engine is told to make a unit and a commit of each recording, so that what passes
    between two calls is one recording written and committed.
    """

    def __init__(self, rivals: dict[str, Callable[[int], None]], values: np.ndarray) -> None:
        self.spec = ViewSpec(
            "embedding", (Column("embedding", dim=values.shape[1]),), {"extractor": "arrays"}
        )
        self.timings = {name: Timing() for name in ["birdstack", *rivals]}
        self._rivals, self._values = rivals, values
        self._began: tuple[float, float] | None = None

    def open(self, recording: Recording) -> _Opened:
        self.finish()
        number = int(recording.recording_id)
        for name, commit in self._rivals.items():
            self.timings[name].add(lambda commit=commit: commit(number))
        self._began = Timing.now()
        return _Opened(WINDOWS)

    def measure(self, sound: _Opened, recording: Recording) -> dict[str, np.ndarray]:  # noqa: ARG002
        return {"embedding": self._values}

    def finish(self) -> None:
        if self._began is not None:
            self.timings["birdstack"].since(self._began)
            self._began = None


def small_commits(folder: Path, count: int, dim: int, absent: Sequence[str]) -> dict[str, Timing]:
    """Commit `count` recordings of 45 windows one by one to each store, taking turns."""
    values = np.random.default_rng(1).standard_normal((WINDOWS, dim)).astype(np.float32)
    rivals: dict[str, Callable[[int], None]] = {}
    if "deltalake" not in absent:
        rivals["Delta Lake"] = _delta_commits(folder / "delta", values)
    if "lance" not in absent:
        rivals["Lance"] = _lance_commits(folder / "lance", values)
    turns = _Turns(rivals, values)
    store = Store.create(folder / "birdstack")
    recordings = [Recording(f"{i:06d}", Path(), content_hash(str(i))) for i in range(count)]
    each = RunConfig(executor="serial", unit_recordings=1, commit_interval_s=0)
    materialise(store, recordings, turns, [turns], each)
    turns.finish()
    rows = store.view("embedding").select(pl.len()).collect().item()
    if rows != count * WINDOWS:
        raise SystemExit(f"{rows} rows committed instead of {count * WINDOWS}")  # noqa: EM102, TRY003
    return turns.timings


def _rows(number: int, vectors: pa.Array) -> pa.Table:
    return pa.table(
        {
            "recording_id": [f"{number:06d}"] * WINDOWS,
            "window": np.arange(WINDOWS, dtype=np.int32),
            "embedding": vectors,
        }
    )


def _delta_commits(path: Path, values: np.ndarray) -> Callable[[int], None]:
    from deltalake import DeltaTable, write_deltalake  # noqa: PLC0415 - may be absent

    vectors = variable_lists(values)
    table = DeltaTable.create(str(path), schema=_rows(0, vectors).schema)

    def commit(number: int) -> None:
        write_deltalake(table, _rows(number, vectors), mode="append")

    return commit


def _lance_commits(path: Path, values: np.ndarray) -> Callable[[int], None]:
    import lance  # noqa: PLC0415 - may be absent

    vectors = fixed_lists(values)
    dataset = lance.write_dataset(_rows(0, vectors).schema.empty_table(), str(path))

    def commit(number: int) -> None:
        dataset.insert(_rows(number, vectors))

    return commit


class _Constant:
    """Stands for an extractor of the command: its views, filled with a constant, no sound."""

    def __init__(self, extractor: Extractor[Any]) -> None:
        self.specs = extractor.specs
        self.needs_sound = True
        self.content_key = extractor.content_key

    def extract(
        self,
        sound: _Opened,
        recording: Recording,  # noqa: ARG002
        wanted: Collection[str],
    ) -> dict[str, dict[str, np.ndarray]]:
        return {
            spec.name: {c.name: _constant(c, sound.n_windows) for c in spec.columns}
            for spec in self.specs
            if spec.name in wanted
        }


def _constant(column: Column, n_windows: int) -> np.ndarray:
    if column.dtype == "str":
        return np.full(n_windows, None, dtype=object)
    return np.full(n_windows, 0.5, dtype=column.dtype)


class _OneWindow:
    """A source whose every recording has one window."""

    def open(self, recording: Recording) -> _Opened:  # noqa: ARG002
        return _Opened(1)


def nothing_to_do(folder: Path, recordings: int, rounds: int) -> dict[str, Timing]:
    """Time a run that has nothing to do, by the engine and by the whole command.

    The store holds every view that the command makes, for `recordings` recordings, with the
    very specifications, filled with a constant; each recording's file exists and is empty,
    since the command looks at size and time of every file.
    """
    from birdstack.features.audio import AudioSource  # noqa: PLC0415
    from birdstack.stacking.extractors import make_extractors  # noqa: PLC0415
    from birdstack.stacking.settings import Settings  # noqa: PLC0415

    store = Store.create(folder / "birdstack")
    _ingested(store, folder / "audio", recordings)
    wanted = load_recordings(store.snapshot())
    with AudioSource(grid=store.grid) as source:
        constants = [_Constant(e) for e in make_extractors(Settings(), source, store.grid)]
    first = materialise(store, wanted, _OneWindow(), constants, RunConfig(executor="serial"))
    if first.heard != recordings:
        raise SystemExit(f"{first.heard} recordings heard of {recordings}")  # noqa: EM102, TRY003
    timings = {"engine": Timing(), "command": Timing()}
    for _ in range(rounds):
        timings["engine"].add(lambda: _run_again(folder / "birdstack", wanted, constants))
        timings["command"].add(
            lambda: _command(
                "features", "--backbones", "none", "--store", str(folder / "birdstack")
            )
        )
    return timings


def _ingested(store: Store, audio: Path, count: int) -> None:
    """The tables that ingesting would leave, for empty files."""
    audio.mkdir(parents=True)
    rows = []
    for number in range(count):
        file = audio / f"XC{number:06d}.ogg"
        file.touch()
        rows.append(
            {
                "recording_id": file.name,
                "dataset": "empty",
                "split": "train",
                "kind": "focal",
                "path": file.name,
                "content_hash": content_hash(file.name),
                "bytes": 0,
                "mtime_ns": file.stat().st_mtime_ns,
                "duration_s": 5.0,
            }
        )
    dataset = {
        "dataset": "empty",
        "root": str(audio.absolute()),
        "layout": "birdclef",
        "rows": count,
        "recordings": count,
        "rejected": 0,
    }
    frames = {
        ("recordings", "empty"): pl.DataFrame(rows, schema=RECORDINGS),
        ("datasets", "empty"): pl.DataFrame([dataset], schema=DATASETS),
    }
    write_tables(store, frames, operation="ingest")


def _run_again(
    store: Path, wanted: Sequence[Recording], extractors: Sequence[Extractor[Any]]
) -> None:
    report = materialise(Store.open(store), wanted, _OneWindow(), extractors)
    if report.already != len(wanted) or report.heard:
        raise SystemExit(f"the second run was to do nothing, and heard {report.heard}")  # noqa: EM102, TRY003


def _command(*arguments: str) -> None:
    run = subprocess.run(
        [sys.executable, "-P", "-c", "from birdstack.stacking.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode or "nothing to do" not in run.stdout + run.stderr:
        raise SystemExit(f"birdstack {' '.join(arguments)}: {run.stdout}{run.stderr}")  # noqa: EM102, TRY003
