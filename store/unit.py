"""One idempotent unit of work: some recordings, heard once, written as one part a view."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from birdstack.store.ahead import opened_in_order, opened_in_turn
from birdstack.store.commit import Covered, Part, Skip
from birdstack.store.errors import BirdstackError, SchemaError, SkipRecording
from birdstack.store.extractor import Extractor, KnownWindows, OpenedRecording, Source
from birdstack.store.files import Files
from birdstack.store.keys import WindowGrid
from birdstack.store.layout import new_part_path
from birdstack.store.out_of_fold import OutOfFold
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


_Admitted = tuple[Task, list[Skip]]
"""A task with the views that are left of it, and skips for those that are not."""
_Opening = tuple[Task, list[Skip], OpenedRecording | SkipRecording | None]
"""The same, and what came of opening it; None if no view is left."""


@dataclass(frozen=True)
class Workshop:
    """What a worker needs to do units: where to write, how to open, what to hear.

    Picklable if its source and extractors are, which worker processes need.

    Attributes:
        files: where parts are written.
        grid: the window grid.
        source: opens a recording.
        extractors: fill the views.
        guard: judges rows of logits; the one for no view refuses them all.
        prefetch: open the next recording while the present one is heard.
    """

    files: Files
    grid: WindowGrid
    source: Source[Any]
    extractors: tuple[Extractor[Any], ...]
    guard: OutOfFold = field(default_factory=OutOfFold)
    prefetch: bool = False

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
            LeakError: an extractor handed over logits that are not out-of-fold.
        """
        rows = {spec.name: _Rows(spec) for spec in self.specs}
        skips: list[Skip] = []
        notes: dict[str, Mapping[str, Any]] = {}
        heard = windows = 0
        tally = tally or Tally()
        with closing(self._openings(unit, stop)) as openings:
            for task, barred, sound in openings:
                skips += barred
                if sound is None or isinstance(sound, SkipRecording):
                    if sound is not None:
                        skips += [_skip(rows[view].spec, task, sound) for view in task.views]
                    tally.add(skipped=1)
                    continue
                if not isinstance(sound, KnownWindows):
                    notes[task.recording.recording_id] = sound.notes
                missed = self._hear(sound, task, rows)
                skips += missed
                used = len(missed) < len(task.views)
                n_windows = sound.n_windows if used else 0
                heard += used
                windows += n_windows
                tally.add(windows=n_windows, skipped=int(bool(missed or barred)))
                del sound  # the next is open already: never three at once
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

    def _openings(
        self, unit: Sequence[Task], stop: threading.Event | None
    ) -> Generator[_Opening, None, None]:
        """Every task with the views that are left of it, in order."""
        admitted = [self._admit(task) for task in unit]
        if self.prefetch and len(unit) > 1:
            return opened_in_order(admitted, self._open, self._is_slow, stop)
        return opened_in_turn(admitted, self._open, stop)

    def _admit(self, task: Task) -> _Admitted:
        """The task without views that pass over its recording, and skips for those."""
        specs = [spec for spec in self.specs if spec.name in task.views]
        refusals = [(spec, self.guard.passes_over(spec, task.recording)) for spec in specs]
        skips = [_skip(spec, task, refusal) for spec, refusal in refusals if refusal is not None]
        barred = {skip.view for skip in skips}
        left = tuple(view for view in task.views if view not in barred)
        return (replace(task, views=left) if barred else task), skips

    def _is_slow(self, admitted: _Admitted) -> bool:
        """Whether the recording has to be opened."""
        task, _ = admitted
        return bool(task.views) and self._known(task) is None

    def _known(self, task: Task) -> KnownWindows | None:
        """The number of its windows, where that is known and enough."""
        wanted = set(task.views)
        for extractor in self.extractors:
            if extractor.needs_sound and wanted & {spec.name for spec in extractor.specs}:
                return None
        return None if task.windows is None else KnownWindows(task.windows)

    def _open(self, admitted: _Admitted) -> _Opening:
        """Open the recording, as far as anything needs it; a skip is handed on, in its turn."""
        task, skips = admitted
        if not self._is_slow(admitted):
            return task, skips, self._known(task) if task.views else None
        try:
            return task, skips, self.source.open(task.recording)
        except SkipRecording as skip:
            return task, skips, skip

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
                    self.guard.check(spec, task.recording, found[view])
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
