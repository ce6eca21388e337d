"""The `birdstack` command: verbs over all rooms, heavy libraries loaded only by the verb.

Exit codes: 0 done, 3 finished with skipped recordings, 1 failed, 2 wrong usage,
130 stopped by Ctrl-C (what was finished is committed).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from birdstack.stacking.cli_store import store_app
from birdstack.stacking.options import ConfigFile, Json, Set, StorePath, reporting

app = typer.Typer(
    name="birdstack",
    help="Features of bird recordings in a Parquet store, and stacked classifiers on top.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(store_app, name="store")

_DATASET_HELP = (
    "Folder in BirdCLEF layout, with a subfolder for each class, or with bare soundscapes."
)


FoldColumn = Annotated[
    str | None, typer.Option(help="Column of the metadata table with the dataset's own folds.")
]
Folds = Annotated[
    int | None, typer.Option(help="Number of folds to make (6, or as the store has them).")
]


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"birdstack {version('birdstack')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Features of bird recordings in a Parquet store, and stacked classifiers on top."""


@app.command(
    epilog="Examples:\n\n"
    "birdstack ingest birdclef-2024 --store birdstack-store\n\n"
    "birdstack ingest esc10 --fold-column official_fold\n\n"
    "birdstack ingest train_metadata.csv   (a table alone, for inspection)"
)
@reporting
def ingest(
    dataset: Annotated[Path, typer.Argument(help=_DATASET_HELP + " Or a metadata table alone.")],
    store: StorePath = "birdstack-store",
    fold_column: FoldColumn = None,
    folds: Folds = None,
    name: Annotated[str | None, typer.Option(help="Name of the dataset in the store.")] = None,
    no_audio: Annotated[
        bool, typer.Option("--no-audio", help="Read the table only, no audio file.")
    ] = False,
    config: ConfigFile = None,
    setting: Set = None,
    json: Json = False,
) -> int:
    """Read a dataset's metadata and audio headers into the store: recordings, labels, folds.

    Bad rows and files are listed with reasons (`birdstack store export rejects`), good ones
    go on. Running it again reads only what changed.
    """
    from birdstack.stacking.run_ingest import run_ingest
    from birdstack.stacking.session import Session

    flags = {"ingest.fold_column": fold_column, "folds.n_folds": folds, "ingest.name": name}
    session = Session.start(store, config, setting, flags, as_json=json)
    return run_ingest(session, dataset, with_audio=not no_audio)


@app.command(
    epilog="Examples:\n\n"
    "birdstack features birdclef-2024 --store birdstack-store\n\n"
    "birdstack features --store birdstack-store   (what is already ingested)\n\n"
    "birdstack features --group indices --group place   (only these views)\n\n"
    "birdstack features --split test --set run.workers=8 --json"
)
@reporting
def features(
    dataset: Annotated[
        Path | None, typer.Argument(help=_DATASET_HELP + " Ingested first, if given.")
    ] = None,
    store: StorePath = "birdstack-store",
    fold_column: FoldColumn = None,
    folds: Folds = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Only this split (train, unlabeled, test); repeatable.")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="Only this group of acoustic columns, or `place`; repeatable."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Recordings heard at a time; 0: one for each processor.")
    ] = None,
    executor: Annotated[
        str | None, typer.Option(help="threads (default), serial (for debugging) or processes.")
    ] = None,
    retry_skipped: Annotated[
        bool, typer.Option("--retry-skipped", help="Try recordings again that were skipped.")
    ] = False,
    config: ConfigFile = None,
    setting: Set = None,
    json: Json = False,
) -> int:
    """Hear every recording that a view lacks, and write its windows into the store.

    Stop it whenever you like (Ctrl-C, kill, power cut): the next run does only what is left.
    A recording that cannot be read is skipped, and the reason kept in the store.
    """
    # numpy's and scipy's own threads get in each other's way beside ours: one each.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from birdstack.stacking.run_features import run_features
    from birdstack.stacking.session import Session

    flags = {
        "ingest.fold_column": fold_column,
        "folds.n_folds": folds,
        "run.workers": workers,
        "run.executor": executor,
    }
    session = Session.start(store, config, setting, flags, as_json=json)
    return run_features(
        session, dataset, splits=split or [], groups=group or [], retry_skipped=retry_skipped
    )


@app.command(
    epilog="Examples:\n\n"
    "birdstack look train_audio/asbfly/XC134896.ogg\n\n"
    "birdstack look XC134896 --store birdstack-store --columns ndsi,solar_elevation_deg\n\n"
    "birdstack look soundscape.wav --start 60 --end 90 --fmax 8000 --out minute.png"
)
@reporting
def look(
    recording: Annotated[
        str,
        typer.Argument(help="An audio file, or the id of a recording in the store, or its end."),
    ],
    store: StorePath = "birdstack-store",
    out: Annotated[
        Path | None, typer.Option("--out", help="The PNG; the recording's name, if not given.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Columns to draw, with commas; names may be cut: ndsi.")
    ] = None,
    start: Annotated[float, typer.Option(help="Begin of the stretch shown, in seconds.")] = 0.0,
    end: Annotated[
        float | None, typer.Option(help="Its end; the recording's, if not given.")
    ] = None,
    fmin: Annotated[float, typer.Option(help="Lowest frequency shown, in Hz.")] = 0.0,
    fmax: Annotated[float | None, typer.Option(help="Highest; all, if not given.")] = None,
    config: ConfigFile = None,
    setting: Set = None,
    json: Json = False,
) -> int:
    """Draw a recording: spectrogram, windows, and columns over time.

    Columns come from the store where it holds the recording, and are measured otherwise.
    """
    from birdstack.stacking.run_look import Look, run_look
    from birdstack.stacking.session import Session

    session = Session.start(store, config, setting, {}, as_json=json)
    wanted = [name.strip() for name in (columns or "").split(",") if name.strip()]
    return run_look(session, recording, Look(out, wanted, start, end, fmin, fmax))


@app.command(
    epilog="Examples:\n\n"
    "birdstack demo birdstack-demo\n\n"
    "birdstack demo tiny --size small --seed 3\n\n"
    "birdstack demo many --species 30 --json"
)
@reporting
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    seed: Annotated[
        int, typer.Option(help="Another seed gives other birds, authors, places and noise.")
    ] = 0,
    size: Annotated[
        Literal["small", "default", "large"],
        typer.Option(help="4, 14 or 24 species; seconds, a minute or several to make."),
    ] = "default",
    species: Annotated[int | None, typer.Option(help="Number of species, 2 to 48.")] = None,
    json: Json = False,
) -> int:
    """Synthesise a dataset in BirdCLEF layout: invented birds, soundscapes and their truth.

    The same seed gives the same files. A folder that is finished is left as it is; an
    interrupted run is taken up where it stopped.
    """
    from birdstack.stacking.console import Reporter
    from birdstack.stacking.run_demo import run_demo

    return run_demo(Reporter(as_json=json), folder, seed=seed, size=size, species=species)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
