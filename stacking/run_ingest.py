"""`birdstack ingest`, and the first half of `birdstack features DATASET`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from birdstack.features.probe import AudioProbe
from birdstack.stacking.console import counted
from birdstack.stacking.options import DONE, SKIPPED
from birdstack.stacking.session import Session
from birdstack.store.ingest import IngestReport, ingest
from birdstack.store.store import Store

_SHOWN_REJECTS = 8
_SHOWN_RARE = 6


def run_ingest(session: Session, dataset: Path, *, with_audio: bool = True) -> int:
    """Ingest a dataset and say what was found. Returns the exit code."""
    store = session.create_store()
    report = read_into(session, store, dataset, with_audio=with_audio)
    session.reporter.event("finished", exit_code=exit_code(report), store=store.url)
    return exit_code(report)


def exit_code(report: IngestReport) -> int:
    """3 if rows or files were left out, else 0."""
    return SKIPPED if report.summary["rejected"] else DONE


def read_into(
    session: Session, store: Store, dataset: Path, *, with_audio: bool = True
) -> IngestReport:
    """Ingest a dataset into an open store and show the result."""
    settings, reporter = session.settings, session.reporter
    with AudioProbe(settings.audio) as probe, reporter.progress(f"reading {dataset}") as advance:
        report = ingest(
            store,
            dataset,
            settings.ingest,
            settings.folds if session.given("folds") else None,
            probe=probe if with_audio else None,
            info=session.provenance(),
            progress=lambda stage, done, total: advance(done, total, stage),
        )
    _show(session, report)
    return report


def _show(session: Session, report: IngestReport) -> None:
    reporter, summary = session.reporter, report.summary
    version = report.commit.version if report.commit else None
    reporter.event(
        "ingested",
        dataset=report.dataset,
        layout=report.layout,
        summary=dict(report.summary),
        version=version,
        split=report.split_hash,
        folds=report.split.report if report.split else None,
    )
    counts = (
        f"{summary['recordings']:,} recordings, {summary['labels']:,} labels, "
        f"{summary['classes']:,} classes"
    )
    strong = summary["labelled_soundscapes"]
    if strong:
        counts += f", {counted(strong, 'labelled soundscape')}"
    state = "nothing has changed" if version is None else f"snapshot {version}"
    reporter.say(f"ingested {report.dataset} ({report.layout}): {counts}; {state}")
    if report.split is not None and report.commit is not None:
        _show_split(session, report.split.report)
    if report.rejects.height:
        _show_rejects(session, report)


def _show_split(session: Session, split: Mapping[str, Any]) -> None:
    reporter = session.reporter
    sizes = ", ".join(str(fold["recordings"]) for fold in split["folds"])
    reporter.say(
        f"folds: {len(split['folds'])} of {sizes} recordings; {split['groups']:,} groups "
        "(author, duplicates, recording) never part"
    )
    rare = split["rare_classes"]
    if rare:
        named = ", ".join(f"{c['label']} ({c['groups']})" for c in rare[:_SHOWN_RARE])
        more = f" and {len(rare) - _SHOWN_RARE} more" if len(rare) > _SHOWN_RARE else ""
        reporter.warn(
            f"classes with too few groups to stand in every fold ({len(rare)}): {named}{more}"
        )
    for leak in split["leaks"][:_SHOWN_RARE]:
        reporter.warn(
            f"group {leak['group']} ({leak['n']} recordings) lies in folds {leak['folds']}: "
            "the dataset's own folds part what belongs together"
        )
    for note in split["notes"]:
        reporter.warn(note)


def _show_rejects(session: Session, report: IngestReport) -> None:
    reporter, rejects = session.reporter, report.rejects
    counts = Counter(zip(rejects["severity"], rejects["rule"], strict=True))
    for (severity, rule), count in sorted(counts.items()):
        reporter.event("rejects", severity=severity, rule=rule, count=count)
    reporter.table(
        f"{report.summary['rejected']:,} rejected, {report.summary['flagged']:,} flagged "
        "(all of them: birdstack store export rejects --out rejects.parquet)",
        ["file", "row", "column", "rule", "value", "reason", "remedy", "severity"],
        rejects.head(_SHOWN_REJECTS)
        .select("file", "row", "column", "rule", "value", "reason", "remedy", "severity")
        .rows(),
    )
