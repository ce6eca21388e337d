"""`birdstack features`: hear what the views lack."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from birdstack.features.audio import AudioSource
from birdstack.features.probe import AudioProbe
from birdstack.stacking.console import counted
from birdstack.stacking.extractors import make_extractors
from birdstack.stacking.options import DONE, FAILED, INTERRUPTED, SKIPPED
from birdstack.stacking.run_ingest import exit_code, read_into
from birdstack.stacking.session import Session
from birdstack.store.catalog import load_recordings, refresh_changed
from birdstack.store.commit import Skip
from birdstack.store.errors import UsageError
from birdstack.store.extractor import Extractor
from birdstack.store.materialise import Progress, RunReport, materialise
from birdstack.store.recordings import Recording
from birdstack.store.store import Store

if TYPE_CHECKING:
    from birdstack.embeddings.backbone_config import BackboneConfig
    from birdstack.stacking.networks import Networks

_SHOWN_SKIPS = 8
_SHOWN_WARNINGS = 8


def run_features(
    session: Session,
    dataset: Path | None,
    *,
    splits: Sequence[str],
    groups: Sequence[str],
    backbones: Sequence[str] | None = None,
    retry_skipped: bool,
) -> int:
    """Bring the views up to date.

    Args:
        session: settings and store.
        dataset: ingested first, if given.
        splits: of recordings; empty for all.
        groups: of acoustic columns, or `place`: no others, and no network unless one is named.
        backbones: networks that hear; None for those of the settings.
        retry_skipped: try recordings again that were skipped.

    Returns:
        The exit code.
    """
    code = DONE
    configs = _backbones(session, groups, backbones)
    if dataset is not None:
        store = session.create_store()
        code = exit_code(read_into(session, store, dataset))
    else:
        store = session.open_store()
        with AudioProbe(session.settings.audio) as probe:
            changed = refresh_changed(store, probe)
        if changed:
            session.reporter.say(f"{counted(len(changed), 'file')} changed since ingestion")
    recordings = _wanted(store, splits)
    if not recordings:
        session.reporter.warn(f"{store.url} has no recording with audio: nothing to hear")
        session.reporter.event("finished", exit_code=code, store=store.url)
        return code
    networks = None
    if configs:
        from birdstack.stacking.networks import Networks  # noqa: PLC0415 - loads networks' modules

        networks = Networks(session.settings, store, configs)
        networks.check()
        for notice in networks.notices():
            session.reporter.warn(notice)
    with stop_on_signal(session) as stop, AudioSource(session.settings.audio, store.grid) as source:
        hearing = _Hearing(session, store, recordings, source, stop)
        extractors = make_extractors(session.settings, source, store.grid, groups, networks)
        return hearing.carry_out(extractors, networks, code, retry_skipped=retry_skipped)


def hear_with(session: Session, store: Store, networks: Networks, stop: threading.Event) -> int:
    """Bring the views of some networks up to date, and nothing else. Returns the exit code."""
    networks.check()
    recordings = _wanted(store, ())
    with AudioSource(session.settings.audio, store.grid) as source:
        hearing = _Hearing(session, store, recordings, source, stop)
        return hearing.carry_out(networks.extractors(source.recipe), networks, DONE)


def _backbones(
    session: Session, groups: Sequence[str], named: Sequence[str] | None
) -> tuple[BackboneConfig, ...]:
    """The networks that hear in this run."""
    networks = session.settings.networks
    if named is not None:
        return tuple(networks.find(name) for name in named)
    return () if groups else tuple(networks.chosen())


def _wanted(store: Store, splits: Sequence[str]) -> list[Recording]:
    snapshot = store.snapshot()
    known = snapshot.table("recordings")["split"].unique().sort().to_list()
    unknown = sorted(set(splits) - set(known))
    if unknown:
        message = f"--split {unknown[0]}: this store has {', '.join(known) or 'no recordings'}"
        raise UsageError(message, remedy="give one of these, or leave --split away for all")
    return load_recordings(snapshot, splits)


@dataclass(frozen=True)
class _Hearing:
    """One hearing of all recordings by everything that needs sound."""

    session: Session
    store: Store
    recordings: Sequence[Recording]
    source: AudioSource
    stop: threading.Event

    def carry_out(
        self,
        extractors: Sequence[Extractor[Any]],
        networks: Networks | None,
        code: int,
        *,
        retry_skipped: bool = False,
    ) -> int:
        """Hear, tell, and let the networks complete what they can. Returns the exit code."""
        report = self._hear(extractors, retry_skipped=retry_skipped)
        code = _outcome(report, code)
        _show(self.session, self.store, report)
        if networks is not None and code in (DONE, SKIPPED):
            from birdstack.stacking.run_networks import complete  # noqa: PLC0415 - networks' modules

            complete(self.session, networks, self.recordings, self.source, self.stop)
            code = INTERRUPTED if self.stop.is_set() else code
        _finish(self.session, self.store, report, code)
        return code

    def _hear(self, extractors: Sequence[Extractor[Any]], *, retry_skipped: bool) -> RunReport:
        settings, reporter = self.session.settings, self.session.reporter
        reporter.event("started", recordings=len(self.recordings), store=self.store.url)
        with reporter.progress("hearing") as advance:

            def show(progress: Progress) -> None:
                words = f"{progress.windows:,} windows"
                if progress.skipped:
                    words += f", {progress.skipped:,} skipped"
                advance(progress.tried, progress.total, words)

            return materialise(
                self.store,
                self.recordings,
                self.source,
                extractors,
                settings.run,
                info=self.session.provenance(),
                retry_skipped=retry_skipped,
                progress=show,
                stop=self.stop,
            )


@contextlib.contextmanager
def stop_on_signal(session: Session) -> Iterator[threading.Event]:
    """Ctrl-C or SIGTERM asks for a clean end; a second one insists."""
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        session.reporter.warn(
            "stopping: finishing and committing the recordings in flight (again to abandon them)"
        )

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _outcome(report: RunReport, before: int) -> int:
    if report.stopped:
        return INTERRUPTED
    if report.skipped_recordings and len(report.skipped_recordings) == report.total:
        return FAILED
    return SKIPPED if report.skipped_recordings else before


def _once_each(skips: Sequence[Skip]) -> list[Skip]:
    """One skip for each recording and reason: a file that does not decode fails every view."""
    return list({(skip.recording_id, skip.code, skip.reason): skip for skip in skips}.values())


def _show(session: Session, store: Store, report: RunReport) -> None:
    reporter = session.reporter
    skips = _once_each([*report.skips, *report.still_skipped])
    for skip in skips:
        reporter.event(
            "skipped",
            recording_id=skip.recording_id,
            view=skip.view,
            code=skip.code,
            reason=skip.reason,
        )
    for recording_id, notes in report.notes.items():
        reporter.event("noted", recording_id=recording_id, notes=notes)
    if not report.heard and not report.skips and not report.stopped:
        reporter.say(
            f"nothing to do: {counted(report.already, 'recording')} up to date in {store.url} "
            f"(snapshot {report.version})"
        )
    else:
        rate = report.windows / report.seconds if report.seconds else 0.0
        reporter.say(
            f"heard {counted(report.heard, 'recording')}, {counted(report.windows, 'window')} in "
            f"{report.seconds:.1f} s ({rate:.1f} windows/s); {report.already:,} were there "
            f"already; snapshot {report.version} of {store.url}"
        )
    if report.adopted:
        reporter.say(
            f"took over {counted(report.adopted, 'part')} that an interrupted run had finished"
        )
    if report.stopped:
        reporter.warn("stopped before the end: run the same command again to go on")
    if skips:
        codes = Counter(skip.code for skip in skips)
        counts = ", ".join(f"{count} {name}" for name, count in codes.most_common())
        reporter.table(
            f"{counted(len(report.skipped_recordings), 'recording')} skipped: {counts} "
            "(all of them: birdstack store export skips --out skips.parquet)",
            ["recording", "code", "reason"],
            [(s.recording_id, s.code, s.reason) for s in skips[:_SHOWN_SKIPS]],
        )
    if report.notes:
        kinds = Counter(note for notes in report.notes.values() for note in notes)
        counts = ", ".join(f"{count} {note}" for note, count in kinds.most_common())
        reporter.say(
            f"{counted(len(report.notes), 'recording')} with notes: {counts} "
            "(all of them: birdstack store export notes --out notes.csv)"
        )
    for text in report.warnings[:_SHOWN_WARNINGS]:
        reporter.warn(text)
    if len(report.warnings) > _SHOWN_WARNINGS:
        reporter.warn(
            f"and {len(report.warnings) - _SHOWN_WARNINGS} more columns: see `store describe`"
        )


def _finish(session: Session, store: Store, report: RunReport, code: int) -> None:
    session.reporter.event(
        "finished",
        exit_code=code,
        store=store.url,
        version=store.snapshot().version,
        recordings=report.total,
        heard=report.heard,
        already=report.already,
        windows=report.windows,
        skipped=len(report.skipped_recordings),
        adopted_parts=report.adopted,
        stopped=report.stopped,
        seconds=round(report.seconds, 3),
    )
