"""The verb `birdstack stack`, as the command line sees it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from birdstack.stacking.options import At, ConfigFile, Json, Set, reporting
from birdstack.store.errors import UsageError

EPILOG = (
    "Examples:\n\n"
    "birdstack stack --store birdstack-store --out birdstack-stack\n\n"
    "birdstack stack --out stacked --truth test_soundscapes_truth.csv --trials 30\n\n"
    "birdstack stack --out stacked --shard 2/5   (on five machines; then once without)\n\n"
    "birdstack stack --table scores.parquet --out stacked   (no store: a bare table of scores)"
)


@reporting
def stack(
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            envvar="BIRDSTACK_STORE",
            help="The store: a folder or s3:// address. birdstack-store, if there is no --table.",
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--table",
            help="In place of a store: Parquet file of out-of-fold scores: recording_id, window, "
            "group, fold, y:<class>, <backbone>:<class>, x:<name>.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for scores, report and stack.")
    ] = Path("birdstack-stack"),
    at: At = None,
    backbones: Annotated[
        str | None,
        typer.Option(help="Backbones to stack, with commas; all that the store has logits of."),
    ] = None,
    views: Annotated[
        str | None,
        typer.Option(help="Views whose columns go along, with commas; none for scores alone."),
    ] = None,
    components: Annotated[
        int | None,
        typer.Option(min=0, help="Components of a frozen network's embedding that go along. 0."),
    ] = None,
    prior: Annotated[
        Literal["off", "range"] | None,
        typer.Option(help="Add how likely a class is at a recording's place, if that pays. off."),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="Labels of test soundscapes (row_id, classes): to judge, never to learn."
        ),
    ] = None,
    folds: Annotated[
        int, typer.Option(min=2, max=100, help="Folds to deal where a --table has none.")
    ] = 5,
    booster: Annotated[
        Literal["lightgbm", "xgboost"] | None,
        typer.Option(help="Library of the per-class boosters."),
    ] = None,
    blend: Annotated[
        Literal["equal", "global"] | None, typer.Option(help="Weights of a stack's layers.")
    ] = None,
    ship: Annotated[
        Literal["auto", "stack", "control"] | None,
        typer.Option(help="Hold the ship rule, or overrule it."),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=0, help="Trials of a search for settings; 0 for the usual ones.")
    ] = 0,
    study: Annotated[
        str | None,
        typer.Option(help="Where the search is kept: a file, or a database URL. DIR/study.log."),
    ] = None,
    budget_s: Annotated[
        float | None, typer.Option(help="Seconds after which no new trial is begun.")
    ] = None,
    scope: Annotated[
        Literal["pooled", "per_class"] | None,
        typer.Option(help="One study for all classes, or one for each, drawn to the common one."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only fit this part of the classes onto the shelf."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Only fit these classes onto the shelf, with commas.")
    ] = None,
    shelf: Annotated[
        str | None,
        typer.Option(help="Where finished classes are kept: a folder or s3://. DIR/work."),
    ] = None,
    require_all: Annotated[
        bool, typer.Option("--require-all", help="Refuse to fit what is not on the shelf.")
    ] = False,
    resamples: Annotated[
        int | None, typer.Option(min=50, help="Resamples of the bootstrap. 1000.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of every draw.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Classes fitted at a time.")] = None,
    config: ConfigFile = None,
    setting: Set = None,
    json: Json = False,
) -> int:
    """Learn the final blend: of what a store holds, or of a bare table of out-of-fold scores.

    Fits every simple control and the stack (shared booster, per-class residual boosters and
    logistics with temporal context), out-of-fold, and judges them on focal recordings,
    simulated or labelled soundscapes, and test soundscapes with --truth. The stack is used only
    if it is better than mean + kernel for certain, by recording; else the best simple control.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from birdstack.stacking.run_stack import StackJob, run_stack_table
    from birdstack.stacking.session import Session

    if table is not None and store is not None and "BIRDSTACK_STORE" not in os.environ:
        message = f"--table {table} and --store {store}: a stack is of one or the other"
        raise UsageError(message, remedy="leave one of them away")
    flags = {
        "stack.booster": booster,
        "stack.blend": blend,
        "stack.ship": ship,
        "stack.prior": prior,
        "stack.resamples": resamples,
        "stack.seed": seed,
        "stack.workers": workers,
        "tuning.scope": scope,
        "design.backbones": _listed(backbones),
        "design.views": _listed(views),
        "design.components": components,
    }
    session = Session.start(store or "birdstack-store", config, setting, flags, as_json=json)
    tuning = None
    if trials:
        found = {"trials": trials, "seconds": budget_s, "storage": study or str(out / "study.log")}
        tuning = session.settings.tuning.model_copy(update=found)
    if shard is not None and classes is not None:
        message = f"--shard {shard} and --classes {classes}: a job fits one or the other"
        raise UsageError(message, remedy="leave one of them away")
    job = StackJob(
        out,
        session.settings.stack,
        tuning,
        shelf,
        shard or classes,
        require_all=require_all,
        prior=session.settings.prior,
    )
    if table is not None and (components or prior == "range"):
        what = f"--components {components}" if components else f"--prior {prior}"
        message = f"{what}: a bare table has neither embeddings nor places"
        raise UsageError(message, remedy="stack a store, or give columns of your own as x:<name>")
    if table is not None:
        return run_stack_table(session.reporter, table, job, n_folds=folds)
    from birdstack.stacking.run_stack_store import run_stack_store

    return run_stack_store(session, job, at=at, truth=truth)


def _listed(names: str | None) -> list[str] | None:
    if names is None:
        return None
    found = [name.strip() for name in names.split(",") if name.strip()]
    return [] if found == ["none"] else found
