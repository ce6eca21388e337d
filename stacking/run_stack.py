"""`birdstack stack`: tune, fit, judge and save a stack, of a store or of a bare table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from birdstack.stacking.class_shelf import ClassShelf
from birdstack.stacking.components import Components
from birdstack.stacking.console import Reporter, counted
from birdstack.stacking.controls import BY_NAME, Material, out_of_fold
from birdstack.stacking.domains import TABLE, WITHOUT_PRIOR, Domain
from birdstack.stacking.leak_checks import check_table
from birdstack.stacking.options import DONE
from birdstack.stacking.range_prior import RangePriorConfig
from birdstack.stacking.run_folder import (
    FORMAT,
    OOF,
    RUN,
    SCORES,
    STACK,
    WINDOWS,
    claim,
    finite,
    score_frame,
    write_domains,
    write_json,
    write_whole,
)
from birdstack.stacking.shards import Shard, fit_classes, parse_classes
from birdstack.stacking.show_stack import show_report
from birdstack.stacking.stack_folder import save_stack
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.stack_table import StackTable
from birdstack.stacking.stacker import Stacker, check_learnable
from birdstack.stacking.table_input import TableNotes, read_table_with_notes
from birdstack.stacking.tuning import Tuned, TuningSettings, tune

_SHELF = "work"


@dataclass(frozen=True)
class StackJob:
    """What is asked of one run.

    Attributes:
        out: folder of the run.
        settings: of the stack, the ones to begin with.
        tuning: search settings first; None for those given.
        shelf: folder or `s3://` address where finished layers are kept; `work` in `out`.
        part: `2/5` or names of classes with commas: only fit their layers onto the shelf.
        require_all: refuse to fit what other jobs have not put on the shelf.
        prior: how a range prior is counted, where `settings.prior` asks for one.
    """

    out: Path
    settings: StackSettings = field(default_factory=StackSettings)
    tuning: TuningSettings | None = None
    shelf: str | None = None
    part: str | None = None
    require_all: bool = False
    prior: RangePriorConfig = field(default_factory=RangePriorConfig)

    @property
    def shelf_place(self) -> str:
        """Where finished layers are kept."""
        return self.shelf or str(self.out / _SHELF)


@dataclass(frozen=True)
class Fitted:
    """A stacker, and what was done to fit it.

    Attributes:
        stacker: fitted.
        tuned: what the search found; None if there was none.
    """

    stacker: Stacker
    tuned: Tuned | None


def run_stack_table(
    reporter: Reporter, table_path: Path, job: StackJob, *, n_folds: int = 5
) -> int:
    """Stack a bare table.

    Args:
        reporter: who is told.
        table_path: a Parquet file, see `table_input`.
        job: what is asked.
        n_folds: folds to deal where the table has none.

    Returns:
        The exit code.

    Raises:
        UsageError: the table or the folder cannot be used.
        DatasetError: the table does not fit.
    """
    table, notes = read_table_with_notes(table_path, n_folds=n_folds)
    claim(job.out)
    _tell_table(reporter, table_path, table, notes)
    if job.part is not None:
        return fit_part(reporter, table, job)
    fitted = fit_stacker(reporter, table, job)
    keys = pl.DataFrame(
        {
            "recording_id": np.repeat(np.asarray(table.recording_ids, dtype=object), table.windows),
            "window": table.index,
            "start_s": None,
            "end_s": None,
        },
        schema_overrides={
            "recording_id": pl.String,
            "window": pl.Int32,
            "start_s": pl.Float64,
            "end_s": pl.Float64,
        },
    )
    rows = np.ones(table.n_windows, dtype=bool)
    domain = Domain(TABLE, table, rows, keys, shipped_scores(fitted.stacker))
    about = {"kind": "table", "store": None, "snapshot": None, "pin": None}
    told = {"table": {"path": str(table_path), "folds": notes.folds, **_noted(notes)}}
    return finish(
        reporter,
        job,
        fitted,
        [domain],
        about=about,
        told=told,
        made_from={"table": table_path.name},
    )


def fit_stacker(reporter: Reporter, table: StackTable, job: StackJob) -> Fitted:
    """Tune if asked to, and fit.

    Args:
        reporter: who is told.
        table: to learn from.
        job: settings.
    """
    for finding in check_table(table, computed=table.computed, seed=job.settings.seed):
        reporter.warn(f"{finding}; {finding.remedy}")
    stacker, tuned = _tuned(reporter, table, job)
    shelf = ClassShelf(job.shelf_place, table, reporter.warn)
    with reporter.progress("stacking") as advance:
        stacker.fit(
            table,
            advance=advance,
            shelf=shelf,
            by_class=None if tuned is None else tuned.by_class,
            require_all=job.require_all,
            prior=job.prior,
        )
    return Fitted(stacker, tuned)


def fit_part(reporter: Reporter, table: StackTable, job: StackJob) -> int:
    """Fit the layers of some classes onto the shelf, for a last job to assemble.

    Returns:
        The exit code.

    Raises:
        UsageError: no such class, or no shard of that form.
    """
    assert job.part is not None, "asked for by whoever calls"
    check_learnable(table)
    which = Shard.parse(job.part) if "/" in job.part else parse_classes(job.part, table.classes)
    stacker, tuned = _tuned(reporter, table, job)
    material = Material(table)
    ranked = out_of_fold(BY_NAME["ranker"], material)
    with reporter.progress(f"fitting {job.part}") as advance:
        done = fit_classes(
            material,
            ranked,
            stacker.settings,
            ClassShelf(job.shelf_place, table, reporter.warn),
            which,
            advance=advance,
            by_class=None if tuned is None else tuned.by_class,
        )
    reporter.say(
        f"{job.part}: {counted(len(done.fitted), 'class')} fitted, {done.already} were there "
        f"already, {done.too_few} with too few positives; on the shelf {job.shelf_place}. The "
        "same command without --shard and --classes assembles the stack"
    )
    reporter.event("finished", exit_code=DONE, part=job.part, shelf=job.shelf_place, **asdict(done))
    return DONE


def shipped_scores(stacker: Stacker) -> dict[str, np.ndarray]:
    """Out-of-fold scores of everything, and those of what is shipped."""
    scores = dict(stacker.scores_)
    if stacker.without_prior_ is not None:
        scores[WITHOUT_PRIOR] = stacker.without_prior_
    return {**scores, "shipped": stacker.nested_}


def finish(
    reporter: Reporter,
    job: StackJob,
    fitted: Fitted,
    domains: Sequence[Domain],
    *,
    about: Mapping[str, Any],
    told: Mapping[str, Any],
    made_from: Mapping[str, Any],
    places: pl.DataFrame | None = None,
    design: str | None = None,
    components: Components | None = None,
) -> int:
    """Judge, write the run's folder and show what came out. Returns the exit code."""
    stacker, out = fitted.stacker, job.out
    settings = stacker.settings
    out.mkdir(parents=True, exist_ok=True)
    (out / RUN).unlink(missing_ok=True)  # written last: what has it is whole
    estimates = {}
    with reporter.progress("judging") as advance:
        for number, domain in enumerate(domains):
            advance(number, len(domains), domain.title)
            estimates[domain.name] = domain.estimates(settings.resamples, settings.seed)
    tuning = None if fitted.tuned is None else _told_of_tuning(fitted.tuned)
    report = {**told, "tuning": tuning, **stacker.report_, "domains": estimates}
    shipped = replace(stacker.shipped_, components=components)
    save_stack(shipped, out / STACK, made_from={**made_from, **about})
    if design is not None:
        write_whole(out / STACK / "design.json", lambda path: path.write_text(design, "utf-8"))
    write_domains(out, domains, places)
    with_fold = [domain for domain in domains if not domain.fresh]
    frames = [
        score_frame(
            domain.keys.filter(domain.rows),
            domain.table.classes,
            domain.scores["shipped"][domain.rows],
        )
        for domain in with_fold
    ]
    oof = pl.concat(frames).sort("recording_id", "window")
    write_whole(out / OOF, oof.write_parquet)
    write_json(out / SCORES, report)
    first = domains[0].table
    run = {
        "format": FORMAT,
        **about,
        "classes": list(first.classes),
        "backbones": list(first.backbones),
        "domains": {domain.name: domain.summary() for domain in domains},
        "shipped": stacker.shipped_.what,
    }
    write_json(out / RUN, run)
    show_report(reporter, report)
    reporter.say(f"written: {out} ({SCORES}, {OOF}, {STACK}, {WINDOWS})")
    told_of = {key: value for key, value in report.items() if key != "provenance"}
    reporter.event("finished", exit_code=DONE, out=str(out), **finite(told_of))
    return DONE


def _tell_table(reporter: Reporter, path: Path, table: StackTable, notes: TableNotes) -> None:
    positives = table.positives()
    reporter.say(
        f"{path}: {counted(table.n_windows, 'window')} of "
        f"{counted(len(table.recording_ids), 'recording')}, "
        f"{counted(len(table.classes), 'class')} ({int((positives > 0).sum())} with positives), "
        f"backbones {', '.join(table.backbones)}; folds: {notes.folds}"
    )
    if notes.probabilities:
        reporter.say(
            f"read as probabilities, and turned into logits: {', '.join(notes.probabilities)}"
        )
    for name, count in notes.lacking.items():
        if count:
            reporter.say(f"{name} has no score of {counted(count, 'class')}")
    reporter.event("table", windows=table.n_windows, classes=len(table.classes), **_noted(notes))


def _noted(notes: TableNotes) -> dict[str, Any]:
    return {"probabilities": list(notes.probabilities), "lacking": notes.lacking}


def _tuned(reporter: Reporter, table: StackTable, job: StackJob) -> tuple[Stacker, Tuned | None]:
    """A stacker with the settings that a search found, if one was asked for."""
    if job.tuning is None:
        return Stacker(**job.settings.model_dump()), None
    with reporter.progress("tuning") as advance:
        found = tune(table, job.settings, job.tuning, advance)
    reporter.say(f"tuning on {counted(len(found.classes), 'class')}: {found.why}")
    return Stacker(**found.settings.model_dump()), found


def _told_of_tuning(found: Tuned) -> dict[str, Any]:
    return {
        "why": found.why,
        "changed": found.changed,
        "usual": found.usual,
        "best": found.best,
        "trials": found.trials,
        "importance": dict(found.importance),
        "classes": list(found.classes),
        "history": found.history,
        "nested": found.nested,
        "by_class": {name: dict(params) for name, params in found.by_class.items()},
    }
