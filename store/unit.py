"""One idempotent unit of work: some recordings, heard once, written as one part a view."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from birdstack.store.commit import Covered, Part, Skip
from birdstack.store.errors import BirdstackError, SchemaError, SkipRecording
from birdstack.store.extractor import Extractor, KnownWindows, OpenedRecording, Source
from birdstack.store.files import Files
from birdstack.store.keys import WindowGrid
from birdstack.store.layout import new_part_path
from birdstack.store.parquet_schema import window_table
from birdstack.store.parquet_write import write_window_part
from birdstack.store.plan import Task
from birdstack.store.recordings import Recording
from birdstack.store.statistics import Statistics, view_statistics
from birdstack.store.views import ViewSpec


@dataclass(frozen=True)
class Receipt:
    """What a unit has written; nothing of it counts until it is committed.

    Attributes:
        parts: one for each view, already durable.
        statistics: `view/recipe` -> statistics of its rows.
        skips: recordings that could not be used.
        notes: recording_id -> facts worth keeping, such as truncation; empty where all is well.
        heard: number of recordings used.
        windows: number of windows of those recordings.
    """

    parts: tuple[Part, ...] = ()
    statistics: Mapping[str, Statistics] = field(default_factory=dict)
    skips: tuple[Skip, ...] = ()
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    heard: int = 0
    windows: int = 0


@dataclass
class Tally:
    """Running counts for whoever shows progress; workers add to it recording by recording.

    Attributes:
        tried: recordings heard or skipped.
        windows: windows heard.
        skipped: recordings skipped by at least one view.
    """

    tried: int = 0
    windows: int = 0
    skipped: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *, tried: int = 1, windows: int = 0, skipped: int = 0) -> None:
        """Count what was just done."""
        with self._lock:
            self.tried += tried
            self.windows += windows
            self.skipped += skipped


@dataclass(frozen=True)
class Workshop:
    """What a worker needs to do units: where to write, how to open, what to hear.

    Picklable if its source and extractors are, which worker processes need.
    """

    files: Files
    grid: WindowGrid
    source: Source[Any]
    extractors: tuple[Extractor[Any], ...]

    def run(
        self,
        unit: Sequence[Task],
        stop: threading.Event | None = None,
        tally: Tally | None = None,
    ) -> Receipt:
        """Do one unit; once `stop` is set, finish the recording in hand and write what is there.

        Args:
            unit: the recordings.
            stop: asks for an early end.
            tally: told of every recording as it is done.

        Raises:
            BirdstackError: the store cannot be written; nothing of the unit is lost that
                another run would not do again.
        """
        rows = {spec.name: _Rows(spec) for spec in self.specs}
        skips: list[Skip] = []
        notes: dict[str, Mapping[str, Any]] = {}
        heard = windows = 0
        tally = tally or Tally()
        for task in unit:
            if stop is not None and stop.is_set():
                break
            try:
                sound = self._open(task)
            except SkipRecording as skip:
                skips += [_skip(rows[view].spec, task, skip) for view in task.views]
                tally.add(skipped=1)
                continue
            if not isinstance(sound, KnownWindows):
                notes[task.recording.recording_id] = sound.notes
            missed = self._hear(sound, task, rows)
            skips += missed
            used = len(missed) < len(task.views)
            heard += used
            windows += sound.n_windows if used else 0
            tally.add(windows=sound.n_windows if used else 0, skipped=int(bool(missed)))
        parts = [part for r in rows.values() if (part := r.write(self.files, self.grid))]
        statistics = {
            f"{r.spec.name}/{r.spec.recipe_hash}": r.statistics
            for r in rows.values()
            if r.recordings
        }
        return Receipt(tuple(parts), statistics, tuple(skips), notes, heard, windows)

    @property
    def specs(self) -> list[ViewSpec]:
        """Every view of every extractor."""
        return [spec for extractor in self.extractors for spec in extractor.specs]

    def _open(self, task: Task) -> OpenedRecording:
        """Open the recording, unless the number of its windows is known and enough."""
        mute = all(
            not extractor.needs_sound
            for extractor in self.extractors
            if any(spec.name in task.views for spec in extractor.specs)
        )
        if mute and task.windows is not None:
            return KnownWindows(task.windows)
        opened: OpenedRecording = self.source.open(task.recording)
        return opened

    def _hear(self, sound: OpenedRecording, task: Task, rows: Mapping[str, _Rows]) -> list[Skip]:
        """Run the extractors that the task needs; returns what they could not do."""
        missed = []
        for extractor in self.extractors:
            wanted = [spec.name for spec in extractor.specs if spec.name in task.views]
            if not wanted:
                continue
            try:
                found = extractor.extract(sound, task.recording, wanted)
            except SkipRecording as refusal:
                missed += [_skip(rows[view].spec, task, refusal) for view in wanted]
            except (BirdstackError, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001 - one bad recording must cost one recording
                failure = SkipRecording("extractor_error", f"{type(error).__name__}: {error}")
                missed += [_skip(rows[view].spec, task, failure) for view in wanted]
            else:
                for view in wanted:
                    if view not in found:
                        message = f"the extractor of view {view!r} did not return it"
                        raise SchemaError(message, remedy="return every wanted view")
                    spec = rows[view].spec
                    _check_shapes(spec, task.recording, sound.n_windows, found[view])
                    rows[view].add(task, sound.n_windows, found[view])
        return missed


@dataclass
class _Rows:
    """Rows of one view, gathered over the recordings of a unit."""

    spec: ViewSpec
    recordings: list[Covered] = field(default_factory=list)
    values: list[Mapping[str, np.ndarray]] = field(default_factory=list)
    statistics: Statistics = field(default_factory=dict)

    def add(self, task: Task, n_windows: int, values: Mapping[str, np.ndarray]) -> None:
        key = task.key(self.spec.name)
        self.recordings.append(Covered(task.recording.recording_id, key, n_windows))
        self.values.append(values)

    def write(self, files: Files, grid: WindowGrid) -> Part | None:
        if not self.recordings:
            return None
        counts = np.array([covered.windows for covered in self.recordings])
        window = np.concatenate([np.arange(n, dtype=np.int32) for n in counts])
        keys = {
            "recording_id": np.repeat([c.recording_id for c in self.recordings], counts),
            "window": window,
            "start_s": window * grid.hop_s,
            "end_s": window * grid.hop_s + grid.window_s,
        }
        names = dict.fromkeys(name for values in self.values for name in values)
        columns = {
            name: np.concatenate([values[name] for values in self.values if name in values])
            for name in names
        }
        table = window_table(self.spec, keys, columns)
        self.statistics = view_statistics(self.spec, columns)
        path = new_part_path(self.spec.name, self.spec.recipe_hash)
        return write_window_part(files, self.spec, path, table, self.recordings)


def _check_shapes(
    spec: ViewSpec, recording: Recording, n_windows: int, values: Mapping[str, np.ndarray]
) -> None:
    """Judge shapes recording by recording: two wrong ones may add up to the right total.

    Raises:
        SchemaError: a column is missing, unknown, or has another shape than it declares.
    """
    shapes = {name: np.shape(array) for name, array in values.items()}
    wanted = {c.name: (n_windows,) if c.dim is None else (n_windows, c.dim) for c in spec.columns}
    for name in dict.fromkeys([*wanted, *shapes]):
        if wanted.get(name) != shapes.get(name):
            message = (
                f"view {spec.name!r}, column {name!r}, recording {recording.recording_id!r}: "
                f"shape must be {wanted.get(name, 'absent')}, got {shapes.get(name, 'nothing')}"
            )
            remedy = "make the extractor return one row a window for the columns it declares"
            raise SchemaError(message, remedy=remedy)


def _skip(spec: ViewSpec, task: Task, skip: SkipRecording) -> Skip:
    return Skip(
        view=spec.name,
        recipe=spec.recipe_hash,
        recording_id=task.recording.recording_id,
        content_hash=task.key(spec.name),
        code=skip.code,
        # The log and its tables are UTF-8; a file name in a reason need not be.
        reason=skip.reason.encode(errors="backslashreplace").decode(),
    )


def skip_all(workshop: Workshop, task: Task, skip: SkipRecording) -> Receipt:
    """The receipt for a recording that no view of the task could be made for."""
    specs = [spec for spec in workshop.specs if spec.name in task.views]
    return Receipt(skips=tuple(_skip(spec, task, skip) for spec in specs))
