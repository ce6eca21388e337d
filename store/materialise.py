"""The engine that fills views: plan, run units, commit receipts, until nothing is left.

Every extractor goes through here, networks too. A unit's parts are durable before its
receipt exists; receipts are committed every few seconds; parts of a run that died before
its commit are adopted by the next. So a crash costs the recordings in flight, no more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from birdstack.store.adopt import adopt_orphans
from birdstack.store.commit import Commit, Part, Skip, new_run_id
from birdstack.store.errors import ConflictError, StoreError
from birdstack.store.executors import run_units
from birdstack.store.extractor import Extractor, Source
from birdstack.store.out_of_fold import OutOfFold
from birdstack.store.plan import Plan, make_plan
from birdstack.store.recordings import Recording
from birdstack.store.replace import superseded, without_live
from birdstack.store.run_config import RunConfig
from birdstack.store.snapshot import Snapshot
from birdstack.store.state import State
from birdstack.store.statistics import Statistics, merge_views, statistics_to_json, warnings
from birdstack.store.store import Store
from birdstack.store.unit import Receipt, Tally, Workshop

_HOPELESS_AFTER = 50
"""A run whose first so many recordings all fail for one reason is stopped: it is the
reason that needs a person, not ten thousand more skips."""
_MAX_CONFLICTS = 20


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, for whoever shows it.

    Attributes:
        total: recordings this run will try.
        tried: recordings tried so far.
        windows: windows heard so far.
        skipped: recordings skipped so far.
    """

    total: int
    tried: int
    windows: int
    skipped: int


@dataclass
class RunReport:
    """What a run did.

    Attributes:
        total: recordings that were wanted.
        already: of these, how many lacked nothing from the start.
        heard: how many were used.
        windows: windows of those.
        skips: recordings passed over now.
        still_skipped: recordings passed over before whose content has not changed.
        notes: recording_id -> facts about its sound, such as truncation.
        adopted: parts of a crashed run that were taken over.
        stopped: whether it was stopped before the end.
        version: newest snapshot.
        warnings: columns a person should look at.
        seconds: wall time.
    """

    total: int = 0
    already: int = 0
    heard: int = 0
    windows: int = 0
    skips: list[Skip] = field(default_factory=list)
    still_skipped: list[Skip] = field(default_factory=list)
    notes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    adopted: int = 0
    stopped: bool = False
    version: int = -1
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def skipped_recordings(self) -> set[str]:
        """Recordings that some view lacks because they could not be used."""
        return {skip.recording_id for skip in [*self.skips, *self.still_skipped]}


def materialise(
    store: Store,
    recordings: Sequence[Recording],
    source: Source[Any],
    extractors: Sequence[Extractor[Any]],
    config: RunConfig | None = None,
    *,
    info: Mapping[str, Any] | None = None,
    operation: str = "features",
    retry_skipped: bool = False,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> RunReport:
    """Bring views up to date for some recordings.

    Args:
        store: where the views live.
        recordings: what to hear.
        source: opens a recording.
        extractors: one for each view.
        config: how to run.
        info: configuration and environment, kept in every commit.
        operation: the verb in the log.
        retry_skipped: try recordings again that were skipped before.
        progress: called several times a second.
        stop: set it to end early; what is finished is committed.

    Raises:
        StoreError: the store cannot be written, or the first recordings all fail alike.
        LeakError: logits that are not out-of-fold: before anything is heard where the view
            itself says so, else at the first such row.
    """
    run = _Run(
        store,
        extractors,
        config or RunConfig(),
        info=info or {},
        operation=operation,
        progress=progress,
    )
    return run.carry_out(recordings, source, stop or threading.Event(), retry_skipped=retry_skipped)


class _Run:
    """The state of one run: receipts waiting for their commit, and the report."""

    def __init__(
        self,
        store: Store,
        extractors: Sequence[Extractor[Any]],
        config: RunConfig,
        *,
        info: Mapping[str, Any],
        operation: str,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.store = store
        self.extractors = tuple(extractors)
        self.specs = {spec.name: spec for e in self.extractors for spec in e.specs}
        self.config = config
        self.info = info
        self.operation = operation
        self.progress = progress
        self.run_id = new_run_id()
        self.report = RunReport()
        self.waiting: list[Receipt] = []
        self.last_commit_s = time.monotonic()
        self.added: dict[str, Statistics] = {}
        self.to_try = 0
        self.tally = Tally()

    def carry_out(
        self,
        recordings: Sequence[Recording],
        source: Source[Any],
        stop: threading.Event,
        *,
        retry_skipped: bool,
    ) -> RunReport:
        started_s = time.monotonic()
        before = self.store.log.head()
        specs = self.specs.values()
        guard = OutOfFold.of(Snapshot(self.store.files, self.store.grid, before), specs)
        plan = self._plan(before, recordings, retry_skipped=retry_skipped)
        self.report.total, self.report.already = len(recordings), plan.done
        self.report.still_skipped = list(plan.skipped)
        for spec in specs:
            self.store.register(spec)
        if plan.tasks:
            self.report.adopted = adopt_orphans(self.store, list(specs), plan)
            if self.report.adopted:
                state = self.store.log.head()
                plan = self._plan(state, recordings, retry_skipped=retry_skipped)
        self.to_try = len(plan.tasks)
        self._show()
        workshop = Workshop(
            self.store.files,
            self.store.grid,
            source,
            self.extractors,
            guard,
            prefetch=self.config.prefetch and self.config.executor != "serial",
        )
        units = plan.units(
            max_recordings=self.config.unit_recordings, max_audio_s=self.config.unit_audio_s
        )
        try:
            for receipt in run_units(
                workshop,
                units,
                executor=self.config.executor,
                workers=self.config.workers,
                stop=stop,
                tally=self.tally,
            ):
                if receipt is not None:
                    self._take(receipt)
                    self._give_up_if_hopeless()
                self._show()
        finally:
            self._commit()
        self._activate()  # not before: what the guard refuses must not become what is read
        self.report.stopped = stop.is_set()
        self.report.version = self.store.log.head().version
        for spec in specs:
            name = f"{spec.name}/{spec.recipe_hash}"
            added, old = self.added.get(name, {}), before.statistics.get(name, {})
            self.report.warnings += warnings(spec, added, old)
        self.report.seconds = time.monotonic() - started_s
        return self.report

    def _plan(self, state: State, recordings: Sequence[Recording], *, retry_skipped: bool) -> Plan:
        return make_plan(
            state,
            list(self.specs.values()),
            recordings,
            retry_skipped=retry_skipped,
            content_keys={spec.name: e.content_key for e in self.extractors for spec in e.specs},
        )

    def _take(self, receipt: Receipt) -> None:
        self.waiting.append(receipt)
        self.report.heard += receipt.heard
        self.report.windows += receipt.windows
        self.report.skips += receipt.skips
        self.report.notes.update({i: notes for i, notes in receipt.notes.items() if notes})
        merge_views(self.added, receipt.statistics)
        n_bytes = sum(part.n_bytes for waiting in self.waiting for part in waiting.parts)
        overdue = time.monotonic() - self.last_commit_s >= self.config.commit_interval_s
        if overdue or n_bytes >= self.config.commit_megabytes * 1e6:
            self._commit()

    def _commit(self) -> None:
        """Commit the waiting receipts; a conflict means somebody else moved first: try again."""
        self.last_commit_s = time.monotonic()
        if not self.waiting:
            return
        parts = [part for receipt in self.waiting for part in receipt.parts]
        statistics: dict[str, Statistics] = {}
        for receipt in self.waiting:
            merge_views(statistics, receipt.statistics)
        heard = {k: v for receipt in self.waiting for k, v in receipt.notes.items()}
        for _ in range(_MAX_CONFLICTS):
            files, state = self.store.files, self.store.log.head()
            notes = {i: found for i, found in heard.items() if found or i in state.notes}
            fresh = without_live(files, state, parts)
            rewritten, removed = superseded(files, state, fresh)
            try:
                self._append([*rewritten, *fresh], removed, statistics, notes)
            except ConflictError:
                continue
            self.waiting.clear()
            return
        message = f"{self.store.url}: {_MAX_CONFLICTS} commits in a row met another writer's"
        raise ConflictError(message, remedy="run fewer writers on one store at once")

    def _append(
        self,
        parts: Sequence[Part],
        removed: Sequence[str],
        statistics: Mapping[str, Statistics],
        notes: Mapping[str, Any],
    ) -> None:
        self.store.log.append(
            Commit(
                self.operation,
                add=tuple(parts),
                remove=tuple(removed),
                skip=tuple(skip for receipt in self.waiting for skip in receipt.skips),
                activate={name: spec.recipe_hash for name, spec in self.specs.items()},
                statistics=statistics_to_json(statistics),
                notes=notes,
                info=self.info,
                run_id=self.run_id,
            )
        )

    def _activate(self) -> None:
        """Readers get these recipes from now on, even if there is nothing to compute."""
        state = self.store.log.head()
        wanted = {name: spec.recipe_hash for name, spec in self.specs.items()}
        held = {(part.view, part.recipe) for part in state.parts.values()}
        switched = {v: r for v, r in wanted.items() if state.active.get(v) != r and (v, r) in held}
        if switched:
            self.store.log.append(
                Commit(self.operation, activate=switched, info=self.info, run_id=self.run_id)
            )

    def _give_up_if_hopeless(self) -> None:
        heard = self.report.heard or self.tally.windows
        skips = self.report.skips
        if heard or self.tally.tried < _HOPELESS_AFTER or len({skip.code for skip in skips}) != 1:
            return
        first = skips[0]
        message = (
            f"the first {self.tally.tried} recordings all failed with {first.code!r}; "
            f"{first.recording_id}: {first.reason}"
        )
        remedy = "mend what makes every recording fail, then run again"
        raise StoreError(message, remedy=remedy)

    def _show(self) -> None:
        if self.progress is not None:
            tally = self.tally
            self.progress(Progress(self.to_try, tally.tried, tally.windows, tally.skipped))
