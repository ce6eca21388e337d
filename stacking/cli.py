"""The `birdstack` command: verbs over all rooms, heavy libraries loaded only by the verb.

Exit codes: 0 done, 3 finished with skipped recordings, 1 failed, 2 wrong usage,
130 stopped by Ctrl-C (what was finished is committed).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from birdstack.stacking import (
    cli_evaluate,
    cli_events,
    cli_export,
    cli_predict,
    cli_report,
    cli_simulate,
    cli_stack,
)
from birdstack.stacking.cli_store import store_app
from birdstack.stacking.options import ConfigFile, Json, Set, StorePath, reporting
from birdstack.store.errors import UsageError

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


def _names(listed: str | None) -> list[str] | None:
    """Names with commas between them; `none` for none of them, None if nothing was said."""
    if listed is None:
        return None
    names = [name.strip() for name in listed.split(",") if name.strip()]
    return [] if names == ["none"] else names


def _fold_numbers(listed: str | None) -> list[int] | None:
    names = _names(listed)
    if names is None:
        return None
    wrong = [name for name in names if not name.isdecimal()]
    if wrong or not names:
        message = f"--folds {listed!r}: folds are whole numbers with commas"
        raise UsageError(message, remedy="write for example --folds 0,1")
    return [int(name) for name in names]


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
    "birdstack features birdclef-2024 --backbones lite0,birdnet   (these networks)\n\n"
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
    backbones: Annotated[
        str | None,
        typer.Option(help="Networks that hear, with commas; `none` for none. Default: lite0."),
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

    Acoustic columns, place and time, and what networks hear: embeddings, and logits by the
    fold model that has not met the recording.

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
        session,
        dataset,
        splits=split or [],
        groups=group or [],
        backbones=_names(backbones),
        retry_skipped=retry_skipped,
    )


@app.command(
    epilog="Examples:\n\n"
    "birdstack train lite0-tuned --store birdstack-store\n\n"
    "birdstack train lite0-tuned --folds 0,1   (these folds only, on this machine)\n\n"
    "birdstack train mine --mode full --epochs 10 --set train.lr=0.0005 --json"
)
@reporting
def train(
    backbone: Annotated[
        str, typer.Argument(help="Name of a preset, or of one in networks.define.")
    ],
    store: StorePath = "birdstack-store",
    mode: Annotated[
        Literal["frozen", "full"] | None,
        typer.Option(help="Train heads on the frozen network, or the whole network."),
    ] = None,
    folds: Annotated[
        str | None, typer.Option(help="Folds to hold out, with commas; all, if not given.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data.")] = None,
    no_logits: Annotated[
        bool, typer.Option("--no-logits", help="Train only; hear with it later.")
    ] = False,
    config: ConfigFile = None,
    setting: Set = None,
    json: Json = False,
) -> int:
    """Train a backbone once for each fold, without that fold, and write its logits.

    Every recording is scored by the model that has not met it; recordings without a label
    are scored by all of them. Stop it whenever you like: the same command goes on from the
    last checkpoint, and does nothing where nothing has changed.
    """
    from birdstack.stacking.run_train import run_train
    from birdstack.stacking.session import Session

    session = Session.start(store, config, setting, {"train.epochs": epochs}, as_json=json)
    numbers = _fold_numbers(folds)
    return run_train(session, backbone, folds=numbers, mode=mode, logits=not no_logits)


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


app.command(epilog=cli_simulate.EPILOG)(cli_simulate.simulate)
app.command(epilog=cli_stack.EPILOG)(cli_stack.stack)
app.command(epilog=cli_export.EPILOG)(cli_export.export)
app.command(epilog=cli_predict.EPILOG)(cli_predict.predict)
app.command(epilog=cli_evaluate.EPILOG)(cli_evaluate.evaluate)
app.command(epilog=cli_events.EPILOG)(cli_events.events)
app.command(epilog=cli_report.EPILOG)(cli_report.report)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
