"""The verb `birdstack report`, as the command line sees it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from birdstack.stacking.options import Json, reporting

EPILOG = (
    "Examples:\n\n"
    "birdstack report stacked\n\n"
    "birdstack report stacked --out report.html --clips 20\n\n"
    "birdstack report stacked --against stacked-before --no-audio\n\n"
    "birdstack report stacked --fail-under 0.9   (exit code 1 below it)"
)


@reporting
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that stack has written.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The page; RUN/report.html. JSON and CSV go beside it."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="RUN", help="Another run to compare with, paired."),
    ] = None,
    fail_under: Annotated[
        float | None,
        typer.Option("--fail-under", help="Least macro AUC of what is shipped; exit code 1 below."),
    ] = None,
    audio: Annotated[
        bool, typer.Option("--audio/--no-audio", help="Put sound beside the worst errors.")
    ] = True,
    clips: Annotated[
        int, typer.Option("--clips", min=0, max=60, help="Number of worst errors shown.")
    ] = 8,
    resamples: Annotated[int, typer.Option(min=50, help="Resamples of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of every draw.")] = 0,
    json: Json = False,
) -> int:
    """Report on a stack: one HTML file that needs no network, and its figures as JSON and CSV.

    Macro AUC of what is shipped against every control with intervals by recording, every
    class with its curves, where it gains, calibration, drift, importance, tuning, places and
    hours, and the worst errors to look at and listen to. What cannot be shown is said.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from birdstack.stacking.console import Reporter
    from birdstack.stacking.report import ReportConfig
    from birdstack.stacking.run_report import run_report

    config = ReportConfig(resamples=resamples, clips=clips, audio=audio, seed=seed)
    return run_report(
        Reporter(as_json=json),
        run,
        out=out,
        against=against,
        fail_under=fail_under,
        config=config,
    )
