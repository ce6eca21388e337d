"""The verb `birdstack events`, as the command line sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birdstack.stacking.options import Json, reporting

EPILOG = (
    "Examples:\n\n"
    "birdstack events submission.csv --out events --format raven\n\n"
    "birdstack events predictions.parquet --out events --top 20 --names taxonomy.csv\n\n"
    "birdstack events submission.csv --out events --thresholds thresholds.csv --gap 1 --min-s 10"
)


@reporting
def events(
    predictions: Annotated[
        Path, typer.Argument(help="Scores of windows: CSV or Parquet, such as submission.csv.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write into.")],
    formats: Annotated[
        str, typer.Option("--format", help="With commas: raven, audacity, birdnet.")
    ] = "raven,audacity,birdnet",
    threshold: Annotated[
        float | None, typer.Option(help="Score from which on a window counts. 0.5.")
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="CSV with columns class, threshold; others: --threshold."
        ),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="The N best windows of each class count instead.")
    ] = None,
    quantile: Annotated[
        float | None,
        typer.Option(help="Windows at or above this quantile of their class count instead."),
    ] = None,
    gap: Annotated[
        int, typer.Option(min=0, help="Bridge up to this many windows that do not count.")
    ] = 0,
    min_s: Annotated[
        float, typer.Option("--min-s", min=0, help="Leave out events shorter than this.")
    ] = 0.0,
    window_s: Annotated[
        float,
        typer.Option("--window-s", min=0.01, help="Length of a window, if the file has only ends."),
    ] = 5.0,
    names: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="taxonomy.csv with scientific and common names."),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the recordings: their paths and lengths."),
    ] = None,
    max_hz: Annotated[
        float, typer.Option("--max-hz", min=1, help="Highest frequency of Raven's selections.")
    ] = 16_000.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Take away events of an earlier run in DIR.")
    ] = False,
    json: Json = False,
) -> int:
    """Turn scores of windows into events: selections for Raven, labels for Audacity, tables.

    Neighbouring windows of a class that count are one event. Scores rank the windows of a
    class and are no probabilities: where 0.5 says little, take the best with --top or
    --quantile, or give each class its threshold.
    """
    from birdstack.stacking.console import Reporter
    from birdstack.stacking.run_events import EventOptions, run_events

    wanted = tuple(dict.fromkeys(name.strip() for name in formats.split(",") if name.strip()))
    options = EventOptions(
        out=out,
        formats=wanted,
        threshold=threshold,
        thresholds=thresholds,
        top=top,
        quantile=quantile,
        gap=gap,
        min_s=min_s,
        window_s=window_s,
        names=names,
        audio=audio,
        max_hz=max_hz,
        replace=overwrite,
    )
    return run_events(Reporter(as_json=json), predictions, options)
