"""`birdstack export`: a run of `birdstack stack` as one folder that predicts by itself."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from birdstack.embeddings.engine import EngineKind, choose_kind, native_bf16
from birdstack.stacking.bundle import INDEX, load_bundle, seal
from birdstack.stacking.bundle_networks import BUILT
from birdstack.stacking.console import Reporter, counted, human_bytes
from birdstack.stacking.export_bundle import ExportJob, read_design, write_bundle
from birdstack.stacking.export_check import ExportFigures, check_export
from birdstack.stacking.options import DONE, FAILED
from birdstack.stacking.run_folder import read_run
from birdstack.stacking.session import Session
from birdstack.stacking.settings import Settings
from birdstack.store.errors import UsageError
from birdstack.store.store import Store


def run_export(
    session: Session,
    run: Path,
    out: Path,
    *,
    engine: EngineKind | None = None,
    check: bool = True,
    most: int = 40,
) -> int:
    """Export a run.

    Args:
        session: settings: where models lie, limits of decoding, definitions of networks.
        run: folder of the run.
        out: of the bundle; a bundle that lies there is replaced.
        engine: that the networks are saved for; None for the one the store was heard with, or
            else the quickest that is installed.
        check: hold the bundle to the store's figures.
        most: recordings that are predicted for that.

    Returns:
        The exit code: 1 if the check fails, and then nothing is left in place.

    Raises:
        UsageError: there is no such run, or `out` holds something else.
        StoreError: the store is not what the stack learnt from.
    """
    reporter = session.reporter
    _refuse_other_folder(out)
    job = open_job(run, session.settings)
    kind = engine or _heard_with(job)
    aside = out.with_name(f".{out.name}.{os.getpid()}.new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.parent.mkdir(parents=True, exist_ok=True)
    try:
        reporter.event("started", run=str(run), engine=kind)
        facts = write_bundle(job, aside, kind)
        figures = _checked(reporter, job, aside, kind, most) if check else None
        if figures is not None:
            if not figures.passed:
                reporter.warn(
                    "the bundle does not predict what the stack predicts: nothing was written"
                )
                reporter.event("finished", exit_code=FAILED, check=figures.as_json())
                return FAILED
            by_engine = {kind: figures.as_json(), **_rougher(reporter, job, aside, kind, most)}
            check_told = {**figures.as_json(), "engines": by_engine}
            facts = seal(aside, facts.model_copy(update={"check": check_told}))
        _put_in_place(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    n_bytes = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    reporter.say(
        f"written: {out}: {counted(len(facts.networks), 'network')} for {kind}, "
        f"{counted(max(len(job.design.fold_models), 1), 'fold model')}, "
        f"{counted(len(job.design.classes), 'class')}, {human_bytes(n_bytes)}"
    )
    if figures is None:
        reporter.warn("not checked: bundle.json says so")
    told = None if figures is None else figures.as_json()
    reporter.event("finished", exit_code=DONE, out=str(out), bytes=n_bytes, check=told)
    return DONE


def open_job(run: Path, settings: Settings) -> ExportJob:
    """What a run was made from.

    Raises:
        UsageError: there is no such run, it was made from a bare table, or its store is gone.
        StoreError: the store has other views or classes by now.
    """
    told = read_run(run)
    if told.get("kind") != "store" or not told.get("store"):
        message = f"{run}: a stack of a bare table has no networks to export"
        raise UsageError(message, remedy="export the run of a birdstack stack --store")
    design = read_design(run)
    store = Store.open(told["store"])
    snapshot = store.snapshot(told.get("pin") or int(told["snapshot"]))
    return ExportJob(run, design, store, snapshot, settings, told)


def _heard_with(job: ExportJob) -> EngineKind:
    """The engine whose sums are most like those of the store."""
    rough = any(source.arithmetic == "bfloat16" for source in job.sources.values())
    return choose_kind("fast" if rough else "exact")


def _checked(
    reporter: Reporter, job: ExportJob, folder: Path, kind: EngineKind, most: int
) -> ExportFigures:
    bundle = load_bundle(folder)
    with reporter.progress(f"checking {kind}") as advance:
        figures = check_export(job, bundle, engine=kind, most=most, advance=advance)
    _tell_check(reporter, figures)
    return figures


def _rougher(
    reporter: Reporter, job: ExportJob, folder: Path, kind: EngineKind, most: int
) -> dict[str, dict[str, Any]]:
    """Figures of the quicker engine that the same files serve, where this processor has it.

    It is not what is exported, so it may fail: a time budget then leaves it alone.
    """
    built = any(source.config.kind in BUILT for source in job.sources.values())
    if kind != "openvino" or not native_bf16() or not built:
        return {}
    return {"openvino-bf16": _checked(reporter, job, folder, "openvino-bf16", most).as_json()}


def _tell_check(reporter: Reporter, figures: ExportFigures) -> None:
    what = "the store's views" if figures.against == "store" else "the same engine in memory"
    told = (
        f"check of {figures.engine} on {counted(figures.recordings, 'recording')} of {figures.domain}: macro AUC "
        f"{figures.auc_exported:.6f} from the submission file; {figures.difference:.1e} from "
        f"{what}, must be below {figures.limit:.0e}"
    )
    if figures.against != "store":
        told += f"; {abs(figures.auc_exported - figures.auc_store):.1e} from the store's views"
    (reporter.say if figures.passed else reporter.warn)(told)


def _refuse_other_folder(out: Path) -> None:
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / INDEX).is_file()):
        message = f"--out {out}: holds files, but no bundle"
        raise UsageError(message, remedy="name an empty folder, or one that does not exist")


def _put_in_place(aside: Path, out: Path) -> None:
    """Two renames: whoever opens the bundle meanwhile sees the old one, none, or the new one."""
    before = out.with_name(f".{out.name}.{os.getpid()}.old")
    shutil.rmtree(before, ignore_errors=True)
    if out.exists():
        out.rename(before)
    aside.rename(out)
    shutil.rmtree(before, ignore_errors=True)
