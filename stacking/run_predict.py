"""`birdstack predict`: a folder of soundscapes to a submission, in one pass over the sound."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdstack.embeddings.engine import EngineKind, native_bf16, processors
from birdstack.stacking.budget import Choice, choose
from birdstack.stacking.bundle import STACK, Bundle, file_digest, load_bundle
from birdstack.stacking.console import Reporter, counted
from birdstack.stacking.event_input import read_window_scores
from birdstack.stacking.event_tables import EventStyle, write_events
from birdstack.stacking.events import EventConfig, find_events
from birdstack.stacking.options import DONE, FAILED, INTERRUPTED, SKIPPED
from birdstack.stacking.predict_output import Outputs
from birdstack.stacking.predict_parts import WORK, PredictParts, read_plan
from birdstack.stacking.predict_pass import PassTally, Skipped, carry_out, find_soundscapes
from birdstack.stacking.predictor import Predictor
from birdstack.stacking.run_features import stop_on_signal
from birdstack.stacking.session import Session
from birdstack.store.errors import CorruptError, FormatVersionError, UsageError

_SHOWN = 8


@dataclass(frozen=True)
class PredictJob:
    """What is predicted, and how.

    Attributes:
        folder: of recordings, or one file.
        out: folder of the results.
        engine: of the networks; None for the bundle's own.
        fold_models: how many are averaged; None for all.
        workers: threads; 0 for one on each processor.
        budget_minutes: choose engine and fold models so that all files take no longer.
        files: how many files that is said of; None for those in the folder.
        dry_run: say what would be done, and do nothing.
        events: formats that events are written in besides: `raven`, `audacity`, `birdnet`.
        threshold: value from which on a window counts for an event.
    """

    folder: Path
    out: Path
    engine: EngineKind | None = None
    fold_models: int | None = None
    workers: int = 0
    budget_minutes: float | None = None
    files: int | None = None
    dry_run: bool = False
    events: tuple[str, ...] = ()
    threshold: float = 0.5

    @property
    def threads(self) -> int:
        """Recordings that are heard at a time."""
        return self.workers or processors()


def run_predict(session: Session, job: PredictJob, bundle: Bundle) -> int:
    """Predict.

    Args:
        session: whom to report to.
        job: what is asked.
        bundle: what predicts.

    Returns:
        The exit code: 3 if recordings were skipped, 1 if all of them were.

    Raises:
        UsageError: no such folder, no audio, or results of another bundle.
        ConfigError: a package is missing.
    """
    reporter = session.reporter
    if job.out.exists() and not job.out.is_dir():
        message = f"--out {job.out}: a file lies there"
        raise UsageError(message, remedy="name a folder")
    root, names, refused = find_soundscapes(job.folder)
    plan = _plan(reporter, job, bundle, root, names)
    if job.dry_run:
        _tell_plan(reporter, job, plan, len(names))
        return DONE
    job.out.mkdir(parents=True, exist_ok=True)
    tally, started_s = PassTally(), time.monotonic()
    with (
        Predictor(
            bundle,
            engine=plan["engine"],
            fold_models=plan["fold_models"] or None,
            workers=job.threads,
        ) as predictor,
        stop_on_signal(session) as stop,
    ):
        predictor.ready()
        _tell_plan(reporter, job, plan, len(names))
        parts = PredictParts(job.out / WORK, plan)
        try:
            _hear(reporter, job, predictor, parts, root=root, names=names, stop=stop, tally=tally)
            if stop.is_set():
                _tell_pass(reporter, job, tally, time.monotonic() - started_s)
                reporter.warn("stopped before the end: run the same command again to go on")
                return _finish(reporter, job, tally, INTERRUPTED)
            skipped = [*refused, *tally.skips]
            grid = bundle.design.grid
            outputs = Outputs(job.out, parts, bundle.classes, grid, names, skipped)
            rows, unheard = outputs.write()
        finally:
            parts.close()
    _tell_pass(reporter, job, tally, time.monotonic() - started_s)
    _tell_skips(reporter, skipped, unheard)
    reporter.say(
        f"written: {job.out / 'submission.csv'} ({counted(rows, 'row')}), "
        f"{job.out / 'predictions.parquet'}"
    )
    if job.events and outputs.heard:
        _write_events(reporter, job, bundle)
    code = DONE
    if skipped:
        code = SKIPPED if outputs.heard else FAILED
    return _finish(reporter, job, tally, code, skipped=skipped, rows=rows, unheard=unheard)


def _write_events(reporter: Reporter, job: PredictJob, bundle: Bundle) -> None:
    """Stretches of high values as tables for other programs; those of an earlier run go."""
    scores = read_window_scores(job.out / "predictions.parquet")
    found = find_events(scores, EventConfig(threshold=job.threshold))
    files = write_events(
        found,
        scores.ends_s(),
        job.out / "events",
        job.events,
        style=EventStyle(names=bundle.names),
        replace=True,
    )
    reporter.say(f"written: {counted(len(found), 'event')} in {job.out / 'events'}")
    reporter.event("events", events=len(found), files=files.files)


def bundle_of_run(session: Session, run: Path, engine: EngineKind | None) -> Bundle:
    """The bundle of a run, exported beside it unless it lies there already.

    Raises:
        UsageError: there is no such run.
        StoreError: it cannot be exported.
    """
    from birdstack.stacking.run_export import run_export  # noqa: PLC0415 - needs the store's side

    folder = run / "bundle"
    try:
        held = load_bundle(folder)
        stack = file_digest(run / STACK / "stack.json")
        same = held.facts.files.get(f"{STACK}/stack.json") == stack
        if same and engine in (None, held.facts.engine):
            return held
    except (UsageError, CorruptError, FormatVersionError, OSError):
        pass
    session.reporter.say(f"exporting {run} to {folder} first")
    if run_export(session, run, folder, engine=engine, most=8) != DONE:
        message = f"{run}: its bundle does not predict what the stack predicts"
        raise CorruptError(message, remedy="birdstack export says how far it is off")
    return load_bundle(folder)


def _plan(
    reporter: Reporter, job: PredictJob, bundle: Bundle, root: Path, names: Sequence[str]
) -> dict[str, Any]:
    """What decides the scores: as asked, as an earlier run of this folder chose, or as fits."""
    engine, count = job.engine or bundle.facts.engine, job.fold_models
    if job.budget_minutes is not None:
        held = read_plan(job.out / WORK)
        if held is not None and held.get("bundle") == bundle.digest and not job.dry_run:
            reporter.say("going on with the choice of the run that was interrupted")
            return held
        choice = _choose(reporter, job, bundle, root, names)
        engine, count = choice.offer.engine, choice.offer.fold_models
    models = bundle.fold_models if count is None else bundle.fold_models[:count]
    _warn_unchecked(reporter, bundle, engine)
    return {"bundle": bundle.digest, "engine": engine, "fold_models": list(models)}


def _choose(
    reporter: Reporter, job: PredictJob, bundle: Bundle, root: Path, names: Sequence[str]
) -> Choice:
    assert job.budget_minutes is not None, "a budget was given"
    n_files = job.files or len(names)
    choice = choose(
        bundle,
        root,
        names,
        limit_s=60 * job.budget_minutes,
        n_files=n_files,
        workers=job.threads,
        told=lambda words: reporter.say(f"timing {words}"),
    )
    reporter.table(
        f"{counted(n_files, 'file')} with {counted(job.threads, 'worker')}, from "
        f"{counted(choice.sample, 'file')} timed in {choice.spent_s:.0f} s",
        ["engine", "fold models", "seconds a file", "minutes in all"],
        [
            (o.engine, o.fold_models, round(o.file_s, 3), round(o.total_s / 60, 2))
            for o in choice.offers
        ],
    )
    offer = choice.offer
    told = (
        f"{offer.engine} with {counted(offer.fold_models, 'fold model')}: "
        f"{offer.total_s / 60:.1f} minutes for {counted(n_files, 'file')}, "
        f"budget {job.budget_minutes:g}"
    )
    if choice.fits:
        reporter.say(f"chosen: {told}")
    else:
        reporter.warn(f"nothing fits the budget; the quickest: {told}")
    reporter.event(
        "chosen",
        engine=offer.engine,
        fold_models=offer.fold_models,
        file_s=offer.file_s,
        total_s=offer.total_s,
        fits=choice.fits,
        spent_s=choice.spent_s,
    )
    return choice


def _warn_unchecked(reporter: Reporter, bundle: Bundle, engine: EngineKind) -> None:
    if engine == "openvino-bf16" and not native_bf16():
        reporter.warn(
            "this processor does not multiply bfloat16 itself: networks are slower than in "
            "float32 here, and scores may differ from those of the check"
        )
    checked = (bundle.facts.check or {}).get("engines", {}).get(engine)
    if checked is None:
        reporter.warn(f"the bundle was exported without a check of {engine}")
    elif not checked["passed"]:
        reporter.warn(
            f"{engine} moves the macro AUC by {checked['difference']:.1e} on "
            f"{checked['recordings']} recordings of {checked['domain']}, more than "
            f"{checked['limit']:.0e}: the check of the export"
        )


def _hear(
    reporter: Reporter,
    job: PredictJob,
    predictor: Predictor,
    parts: PredictParts,
    *,
    root: Path,
    names: Sequence[str],
    stop: threading.Event,
    tally: PassTally,
) -> None:
    with reporter.progress("predicting") as advance:

        def show() -> None:
            words = f"{tally.windows:,} windows"
            if tally.skips:
                words += f", {len(tally.skips):,} skipped"
            advance(tally.tried, len(names), words)

        carry_out(
            predictor,
            parts,
            root,
            names,
            workers=job.threads,
            stop=stop,
            tally=tally,
            show=show,
        )


def _tell_plan(reporter: Reporter, job: PredictJob, plan: dict[str, Any], n_files: int) -> None:
    models = len(plan["fold_models"])
    reporter.say(
        f"{counted(n_files, 'file')} of {job.folder}: engine {plan['engine']}, "
        f"{counted(max(models, 1), 'fold model')}, {counted(job.threads, 'worker')}"
    )
    reporter.event(
        "started",
        recordings=n_files,
        engine=plan["engine"],
        fold_models=plan["fold_models"],
        workers=job.threads,
        out=str(job.out),
        dry_run=job.dry_run,
    )


def _tell_pass(reporter: Reporter, job: PredictJob, tally: PassTally, seconds: float) -> None:
    if tally.heard:
        rate = tally.windows / seconds if seconds else 0.0
        reporter.say(
            f"predicted {counted(tally.heard, 'recording')}, {counted(tally.windows, 'window')} "
            f"in {seconds:.1f} s ({rate:.1f} windows/s); {tally.already:,} were there already"
        )
    else:
        reporter.say(f"nothing new: {counted(tally.already, 'recording')} in {job.out} already")


def _tell_skips(reporter: Reporter, skipped: Sequence[Skipped], unheard: int) -> None:
    for skip in skipped:
        reporter.event(
            "skipped",
            recording_id=skip.recording_id,
            code=skip.code,
            reason=skip.reason,
            rows=skip.windows or 0,
        )
    if not skipped:
        return
    codes = Counter(skip.code for skip in skipped)
    counts = ", ".join(f"{count} {name}" for name, count in codes.most_common())
    reporter.table(
        f"{counted(len(skipped), 'file')} skipped: {counts} (all of them: skipped.csv)",
        ["file", "code", "reason", "rows"],
        [(s.recording_id, s.code, s.reason, s.windows or 0) for s in skipped[:_SHOWN]],
    )
    if unheard:
        reporter.warn(
            f"{counted(unheard, 'row')} of the submission were not heard: each class stands at "
            "its mean score there"
        )


def _finish(reporter: Reporter, job: PredictJob, tally: PassTally, code: int, **more: Any) -> int:
    skipped = more.pop("skipped", tally.skips)
    reporter.event(
        "finished",
        exit_code=code,
        out=str(job.out),
        heard=tally.heard,
        already=tally.already,
        windows=tally.windows,
        skipped=len(skipped),
        stages={stage: round(spent_s, 3) for stage, spent_s in tally.seconds.items()},
        **more,
    )
    return code
