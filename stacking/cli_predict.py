"""The verb `birdstack predict`, as the command line sees it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from birdstack.stacking.options import ConfigFile, Json, Set, reporting
from birdstack.store.errors import UsageError

EPILOG = (
    "Examples:\n\n"
    "birdstack predict soundscapes --bundle bundle --out predicted\n\n"
    "birdstack predict soundscapes --stack birdstack-stack --out predicted\n\n"
    "birdstack predict soundscapes --bundle bundle --out predicted --events raven,audacity\n\n"
    "birdstack predict sample --bundle bundle --out predicted --budget-minutes 110 --files 1100 "
    "--dry-run   (what would fit?)"
)


@reporting
def predict(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Soundscapes, also in folders below it.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the results.")],
    bundle: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of birdstack export.")
    ] = None,
    stack: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Folder of birdstack stack: exported to RUN/bundle first."
        ),
    ] = None,
    engine: Annotated[
        Literal["openvino", "openvino-bf16", "onnx", "torch"] | None,
        typer.Option(help="What runs the networks; that of the bundle."),
    ] = None,
    fold_models: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Average N fold models; all.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, metavar="N", help="Recordings at a time; 0: one a processor.")
    ] = 0,
    budget_minutes: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="M", help="Choose engine and fold models to end in time."),
    ] = None,
    files: Annotated[
        str | None,
        typer.Option(metavar="N", help="Files that the budget is for; all: those in FOLDER."),
    ] = None,
    events: Annotated[
        str | None,
        typer.Option(help="Events besides, with commas: raven, audacity, birdnet: DIR/events."),
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Value from which on a window is of an event.")
    ] = 0.5,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    config: ConfigFile = None,
    setting: Set = None,
    json: Json = False,
) -> int:
    """Predict a folder of soundscapes: submission.csv and predictions.parquet.

    One pass: decode, acoustic columns, pictures, every network and every fold model, stack.
    Values are the logistic of the stack's score: they rank the windows of a class and are no
    probabilities. Memory does not grow with the number of files. Finished recordings are kept in
    DIR/work, so a run that was interrupted goes on where it stopped.

    Files that cannot be used are listed in skipped.csv; their rows, as many as the header
    promises, hold each class's mean score. Exit code 3 then.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from birdstack.stacking.bundle import load_bundle
    from birdstack.stacking.run_predict import PredictJob, bundle_of_run, run_predict
    from birdstack.stacking.session import Session

    if (bundle is None) == (stack is None):
        message = "--bundle and --stack: one of the two says what predicts"
        raise UsageError(message, remedy="give --bundle DIR, or --stack RUN")
    kind = "onnxruntime" if engine == "onnx" else engine
    session = Session.start("", config, setting, {}, as_json=json)
    job = PredictJob(
        folder,
        out,
        engine=kind,
        fold_models=fold_models,
        workers=workers,
        budget_minutes=budget_minutes,
        files=_count(files),
        dry_run=dry_run,
        events=_formats(events),
        threshold=threshold,
    )
    if bundle is not None:
        return run_predict(session, job, load_bundle(bundle))
    assert stack is not None, "one of the two was given"
    return run_predict(session, job, bundle_of_run(session, stack, kind))


def _formats(listed: str | None) -> tuple[str, ...]:
    from birdstack.stacking.event_tables import FORMATS

    names = tuple(name.strip() for name in (listed or "").split(",") if name.strip())
    wrong = [name for name in names if name not in FORMATS]
    if wrong:
        message = f"--events {wrong[0]!r}: events are written for {', '.join(FORMATS)}"
        raise UsageError(message, remedy="name some of these, with commas")
    return names


def _count(files: str | None) -> int | None:
    if files in (None, "all"):
        return None
    if files is None or not files.isdecimal() or int(files) < 1:
        message = f"--files {files}: a number of files, or all"
        raise UsageError(message, remedy="write for example --files 1100")
    return int(files)
