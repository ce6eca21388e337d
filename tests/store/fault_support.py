"""A toy extractor without audio, its truth, and writers that run in processes of their own.

Values follow from recording id, content hash, window and column alone, so that every row
read back from a store can be judged without remembering what was written.

Run as a script it is such a writer: `fault_support.py WORK STORE ...`, see `main`.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from birdstack.store.commit import Part
from birdstack.store.compact import compact
from birdstack.store.errors import BirdstackError, SkipRecording, StoreError
from birdstack.store.extractor import SingleView
from birdstack.store.materialise import RunReport, materialise
from birdstack.store.recordings import Recording
from birdstack.store.run_config import RunConfig
from birdstack.store.store import Store
from birdstack.store.views import Column, ViewSpec

DIM = 3
COLUMNS = (
    Column("level", unit="dB", low=0.0, high=1e6),
    Column("count", "int16"),
    Column("vector", dim=DIM),
    Column("tag", "str"),
)


def toy_spec(name: str = "toy", version: int = 1, columns: Sequence[Column] = COLUMNS) -> ViewSpec:
    """The view that `ToyExtractor` fills."""
    return ViewSpec(name, tuple(columns), {"extractor": "toy", "version": version})


@dataclass(frozen=True)
class ToySound:
    """What a toy recording sounds like: so many windows."""

    n_windows: int
    notes: dict[str, Any] = field(default_factory=dict)


def toy_windows(recording: Recording) -> int:
    """Number of windows, from 1 to 4."""
    return 1 + zlib.crc32(recording.content_hash.encode()) % 4


def toy_values(
    recording: Recording, n_windows: int, columns: Sequence[Column] = COLUMNS
) -> dict[str, np.ndarray]:
    """Values of every column, exact in float32."""
    seed = zlib.crc32(f"{recording.recording_id}|{recording.content_hash}".encode()) % 60013
    values = {}
    for number, column in enumerate(columns):
        shape = (n_windows,) if column.dim is None else (n_windows, column.dim)
        steps = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        whole = (seed + 7919 * (number + 1) * (steps + 1)) % 30011
        if column.dtype == "str":
            values[column.name] = np.array([f"tag {v}" for v in whole], dtype=object)
        elif column.dtype == "bool":
            values[column.name] = whole % 2 == 0
        elif column.dtype.startswith("float"):
            values[column.name] = (whole / 8).astype(column.dtype)
        else:
            values[column.name] = (whole % 100).astype(column.dtype)
    return values


@dataclass(frozen=True)
class ToySource:
    """Opens anything at once; ids that say so fail.

    Attributes:
        delay_s: how long opening takes.
        journal: file to which every opened id is appended, one a line.
        codes: recording_id -> code of the `SkipRecording` that opening it raises.
    """

    delay_s: float = 0.0
    journal: str = ""
    codes: dict[str, str] = field(default_factory=dict)

    def open(self, recording: Recording) -> ToySound:
        if self.delay_s:
            time.sleep(self.delay_s)
        if self.journal:
            with Path(self.journal).open("a") as handle:
                handle.write(f"{recording.recording_id}\n")
        code = self.codes.get(recording.recording_id)
        if code is not None:
            raise SkipRecording(code, f"told to fail with {code}")
        return ToySound(toy_windows(recording))


@dataclass(frozen=True)
class ToyExtractor(SingleView):
    """Fills a view with `toy_values`."""

    name: str = "toy"
    version: int = 1
    columns: tuple[Column, ...] = COLUMNS

    @property
    def spec(self) -> ViewSpec:
        return toy_spec(self.name, self.version, self.columns)

    def measure(self, sound: ToySound, recording: Recording) -> dict[str, np.ndarray]:
        return toy_values(recording, sound.n_windows, self.columns)


class Deadly(ToySource):
    """Opening one recording kills the process, as a fault in a C library does."""

    def open(self, recording):
        if recording.recording_id.endswith("rec00005.ogg"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().open(recording)


class GivesUp(ToyExtractor):
    """Fails for good at the 20th recording."""

    def measure(self, sound, recording):
        if "rec00020" in recording.recording_id:
            message = "the extractor gives up"
            raise StoreError(message)
        return super().measure(sound, recording)


def toy_recordings(
    n: int, first: int = 0, content: str = "original", step: int = 1
) -> list[Recording]:
    """Recordings `first`, `first + step`, ...; `content` stands for the bytes of the files."""
    return [
        Recording(f"site{i % 7}/rec{i:05d}.ogg", Path("nowhere"), f"{content}-{i}", duration_s=10.0)
        for i in range(first, first + n * step, step)
    ]


def truth(recordings: Iterable[Recording], columns: Sequence[Column] = COLUMNS) -> pl.DataFrame:
    """The rows that a view must hold for these recordings, in order."""
    ordered = sorted(recordings, key=lambda r: r.recording_id)
    return pl.concat([_true_rows(recording, tuple(columns)) for recording in ordered])


@functools.cache
def _true_rows(recording: Recording, columns: tuple[Column, ...]) -> pl.DataFrame:
    n = toy_windows(recording)
    window = np.arange(n, dtype=np.int32)
    keys = {
        "recording_id": [recording.recording_id] * n,
        "window": window,
        "start_s": window * 5.0,
        "end_s": window * 5.0 + 5.0,
    }
    values = toy_values(recording, n, columns)
    for column in columns:
        array = values[column.name]
        keys[column.name] = pl.Series(array.tolist() if column.dtype == "str" else array)
    return pl.DataFrame(keys)


def fill(
    store: Store,
    recordings: Sequence[Recording],
    *,
    source: ToySource | None = None,
    extractors: Sequence[Any] = (ToyExtractor(),),
    **settings: Any,
) -> RunReport:
    """Materialise in this thread unless `settings` say otherwise."""
    retry = settings.pop("retry_skipped", False)
    config = RunConfig(
        **{"executor": "serial", "unit_recordings": 4, "unit_audio_s": 1e6, **settings}
    )
    return materialise(
        store, recordings, source or ToySource(), extractors, config, retry_skipped=retry
    )


def assert_holds(store: Store, recordings: Sequence[Recording], view: str = "toy") -> None:
    """The newest snapshot holds exactly these recordings, each row once, every value right."""
    found = store.view(view).collect()
    expected = truth(recordings)
    assert found.select("recording_id", "window").is_duplicated().sum() == 0
    assert found.equals(expected), (found.height, expected.height)


def assert_holds_only_truth(store: Store, recordings: Sequence[Recording]) -> set[str]:
    """What the newest snapshot holds is right, whatever it still lacks; returns the ids."""
    snapshot = store.snapshot()
    if "toy" not in snapshot.views:
        return set()
    held = snapshot.covered("toy")
    wanted = [r for r in recordings if r.recording_id in held]
    if not held:
        assert snapshot.view("toy").collect().is_empty()
        return set()
    assert snapshot.view("toy").collect().equals(truth(wanted))
    return set(held)


def parts_of(store: Store, view: str = "toy") -> list[Part]:
    """Live parts of a view."""
    snapshot = store.snapshot()
    return snapshot.state.view_parts(view, snapshot.recipe_of(view))


class Counting:
    """A `Files` layer that notes which files are opened, and how many bytes are read."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.opened: list[str] = []
        self.prefetched: list[tuple[str, int, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def open(self, path: str) -> Any:
        self.opened.append(path)
        file = self._inner.open(path)
        fetch = file.prefetch

        def prefetch(ranges: list[tuple[int, int]]) -> None:
            self.prefetched += [(path, offset, length) for offset, length in ranges]
            fetch(ranges)

        file.prefetch = prefetch
        return file


def start_writer(work: str, store: Path | str, **options: Any) -> subprocess.Popen[str]:
    """Start `main` in a process; it says `ready` and goes on when the file `go` is there."""
    command = [sys.executable, __file__, work, str(store), json.dumps(options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_ready(process: subprocess.Popen[str]) -> None:
    """Return when the writer has imported everything and begins."""
    line = process.stdout.readline()
    assert line == "ready\n", line + process.stderr.read()


def result_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON line that a writer ends with."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out.strip().splitlines()[-1])


def race(work: Sequence[tuple[str, dict[str, Any]]], store: Path) -> list[dict[str, Any]]:
    """Run several writers on one store, let go at one moment; returns their results."""
    go = store.parent / f"go-{time.monotonic_ns()}"
    writers = [start_writer(name, store, go=str(go), **options) for name, options in work]
    for writer in writers:
        wait_ready(writer)
    go.touch()
    return [result_of(writer) for writer in writers]


def main() -> None:
    """Do one kind of work on a store: `fill` or `compact`; print what came of it as JSON."""
    work, url, text = sys.argv[1:]
    options = json.loads(text)
    go = options.pop("go", "")
    store = Store.open(url)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while go and not os.path.exists(go):  # noqa: PTH110 - cheap, in a loop
        time.sleep(0.0005)
    try:
        if work == "fill":
            recordings = toy_recordings(
                options.pop("n"), options.pop("first", 0), step=options.pop("step", 1)
            )
            source = ToySource(options.pop("delay_s", 0.0), options.pop("journal", ""))
            report = fill(store, recordings, source=source, **options)
            result = {"heard": report.heard, "adopted": report.adopted, "version": report.version}
        else:
            done = compact(store, **options)
            result = {"parts": [line.parts_after for line in done]}
    except BirdstackError as error:
        result = {"error": type(error).__name__, "message": str(error)}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
