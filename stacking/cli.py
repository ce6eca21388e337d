"""The `birdstack` command: verbs over all rooms, heavy libraries loaded only by the verb.

Exit codes: 0 done, 3 finished with skipped recordings, 1 failed, 2 wrong usage,
130 stopped by Ctrl-C (what was finished is committed).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

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
    return run_features(session, dataset, splits=split or [], retry_skipped=retry_skipped)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
