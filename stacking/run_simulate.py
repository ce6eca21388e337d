"""`birdstack simulate`: fold-pure simulated soundscapes, in a folder and in the store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from birdstack.features.probe import AudioProbe
from birdstack.stacking.console import counted
from birdstack.stacking.options import DONE, INTERRUPTED, SKIPPED
from birdstack.stacking.run_features import stop_on_signal
from birdstack.stacking.session import Session
from birdstack.stacking.simulate import Simulated, simulate
from birdstack.stacking.simulate_plan import Material, SimulateConfig, gather
from birdstack.store.errors import UsageError
from birdstack.store.simulated import add_simulated
from birdstack.store.store import Store

_SHOWN = 5


def run_simulate(session: Session, out: Path | None, config: SimulateConfig) -> int:
    """Mix soundscapes of each fold and enter them into the store.

    Args:
        session: settings and store.
        out: folder of the soundscapes; None for `simulated` in the store's own.
        config: how many, how long, which seed.

    Returns:
        The exit code.

    Raises:
        StoreError: nothing is labelled, or all of it lies in one fold.
        UsageError: there is no store, or the folder holds something else.
    """
    store = session.open_store()
    folder = _folder(store, out)
    material = gather(store.snapshot())
    settings, reporter = session.settings, session.reporter
    if material.left_out:
        reporter.warn(
            f"{counted(material.left_out, 'labelled recording')} left out: labels with times, "
            "or a group that lies in several folds"
        )
    workers = settings.run.workers or os.cpu_count() or 1
    with stop_on_signal(session) as stop, reporter.progress(f"simulating {folder}") as advance:
        found = simulate(
            folder, material, config, settings.audio, workers=workers, told=advance, stop=stop
        )
    if found.stopped:
        reporter.warn("stopped before the end: run the same command again to go on")
        reporter.event("finished", exit_code=INTERRUPTED, made=found.made)
        return INTERRUPTED
    info = {**session.provenance(), "simulate": config.model_dump()}
    version = _enter(session, store, found, info, workers)
    _show(session, material, found, store, version)
    code = SKIPPED if found.unheard else DONE
    reporter.event("finished", exit_code=code, store=store.url)
    return code


def _folder(store: Store, out: Path | None) -> Path:
    if out is not None:
        return out
    if "://" in store.url:
        message = f"simulated soundscapes need a local folder, and {store.url} is none"
        raise UsageError(message, remedy="name a folder with --out")
    return Path(store.url) / "simulated"


def _enter(
    session: Session, store: Store, found: Simulated, info: dict[str, Any], workers: int
) -> int | None:
    """Enter them into the store; the snapshot, None if it held all of it already."""
    with AudioProbe(session.settings.audio) as probe:
        commit = add_simulated(
            store,
            found.folder,
            labels=found.events,
            fold_of={soundscape.name: soundscape.fold for soundscape in found.soundscapes},
            probe=probe,
            threads=workers,
            info=info,
        )
    return None if commit is None else commit.version


def _show(
    session: Session, material: Material, found: Simulated, store: Store, version: int | None
) -> None:
    reporter, events = session.reporter, found.events
    primary = events.filter(role="primary")
    behind = "unlabelled soundscapes" if material.backdrops else "coloured noise"
    state = "nothing has changed" if version is None else f"snapshot {version}"
    reporter.say(
        f"{counted(len(found.soundscapes), 'simulated soundscape')} in {found.folder}, "
        f"{found.made} of them new: {counted(len(primary), 'event')} of "
        f"{counted(primary['label'].n_unique(), 'class')} over {behind}; {state} of {store.url}"
    )
    if version is not None:
        reporter.say("birdstack features hears them next, each by the model of its fold")
    if found.unheard:
        names = sorted(found.unheard)
        shown = "; ".join(f"{name} ({found.unheard[name]})" for name in names[:_SHOWN])
        reporter.warn(f"{counted(len(names), 'recording')} could not be used: {shown}")
    reporter.event(
        "simulated",
        folder=str(found.folder),
        soundscapes=len(found.soundscapes),
        made=found.made,
        folds=list(material.sources),
        events=len(primary),
        classes=primary["label"].n_unique(),
        background=behind,
        unheard=found.unheard,
        version=version,
    )
