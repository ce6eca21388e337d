"""The verb `birdstack evaluate`, as the command line sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from birdstack.stacking.options import Json, reporting

EPILOG = (
    "Examples:\n\n"
    "birdstack evaluate submission.csv truth.csv\n\n"
    "birdstack evaluate ours.parquet truth.csv --against theirs.csv --out figures.json\n\n"
    "birdstack evaluate submission.csv truth.csv --fail-under 0.85   (exit code 1 if below)"
)


@reporting
def evaluate(
    predictions: Annotated[
        Path, typer.Argument(help="CSV (.gz) or Parquet: row_id, one column for each class.")
    ],
    truth: Annotated[
        Path, typer.Argument(help="The same with labels: 1, 0, or empty where not known.")
    ],
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="FILE", help="Other predictions: the paired difference."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Figures as .json, or of the classes as .csv."),
    ] = None,
    fail_under: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Exit code 1 if the macro AUC is below."),
    ] = None,
    common_classes: Annotated[
        bool,
        typer.Option("--common-classes", help="Leave out classes that the predictions lack."),
    ] = False,
    present_above: Annotated[
        float,
        typer.Option(min=0, max=0.999999, help="A label above counts as present, for soft labels."),
    ] = 0.0,
    group_by: Annotated[
        Literal["recording", "none"],
        typer.Option(help="What is drawn for intervals: recordings, or each row by itself."),
    ] = "recording",
    resamples: Annotated[
        int, typer.Option(min=0, help="Resamples of the bootstrap; 0 for no intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 0,
    json: Json = False,
) -> int:
    """Score any submission as BirdCLEF does: macro ROC-AUC, with intervals by recording.

    Classes without positives are skipped. Ours or not: all that is needed is a row_id and a
    column for each class, or the files of a run of `birdstack stack`. A row that the
    predictions lack is an error, as in the competition; further rows and columns are ignored,
    and that is said.

    Exit codes: 0 done, 1 below --fail-under, 2 the files do not fit.
    """
    from birdstack.stacking.console import Reporter
    from birdstack.stacking.run_evaluate import EvaluationWish, run_evaluate

    wish = EvaluationWish(
        against=against,
        out=out,
        fail_under=fail_under,
        common_classes=common_classes,
        present_above=present_above,
        rows_alone=group_by == "none",
        resamples=resamples,
        seed=seed,
    )
    return run_evaluate(Reporter(as_json=json), predictions, truth, wish)
