"""The verb `birdstack simulate`, as the command line sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birdstack.stacking.options import ConfigFile, Json, Set, StorePath, reporting

EPILOG = (
    "Examples:\n\n"
    "birdstack simulate --store birdstack-store\n\n"
    "birdstack simulate --per-fold 40 --out soundscapes --seed 3\n\n"
    "birdstack simulate --per-fold 2 --duration 60 --json   (a taste)"
)


@reporting
def simulate(
    store: StorePath = "birdstack-store",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for them; STORE/simulated."),
    ] = None,
    per_fold: Annotated[int, typer.Option(min=1, max=9999, help="Soundscapes of each fold.")] = 10,
    duration: Annotated[float, typer.Option(min=10, max=3600, help="Seconds of each.")] = 240.0,
    seed: Annotated[int, typer.Option(min=0, help="Of every draw.")] = 0,
    config: ConfigFile = None,
    setting: Set = None,
    json: Json = False,
) -> int:
    """Mix labelled soundscapes out of the store's own recordings, each from one fold only.

    Clips of 5 to 10 s, up to three birds at a time, over stretches of unlabelled soundscapes
    where the store has any. They enter the store with strong labels and the fold of their
    clips: `birdstack features` then hears them like any labelled recording, out-of-fold. No
    head and no network is trained on them.

    Finished soundscapes are left as they are; an interrupted run is taken up where it stopped.
    """
    from birdstack.stacking.run_simulate import run_simulate
    from birdstack.stacking.session import Session
    from birdstack.stacking.simulate_plan import SimulateConfig

    session = Session.start(store, config, setting, {}, as_json=json)
    wanted = SimulateConfig(per_fold=per_fold, duration_s=duration, seed=seed)
    return run_simulate(session, out, wanted)
