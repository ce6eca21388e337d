"""Writes the demo data: a folder in BirdCLEF 2024 layout, whole or not at all.

Everything is planned first, then rendered file by file into a folder beside the target, which
is renamed when the last file is there. An interrupted run leaves that folder behind and the
next one goes on with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birdstack.features.demo_config import DEMO_VERSION, DemoConfig
from birdstack.features.demo_focal import Focal, plan_focal
from birdstack.features.demo_ogg import encode_ogg
from birdstack.features.demo_scene import Scene, render_scene
from birdstack.features.demo_soundscapes import Soundscape, plan_test, plan_unlabeled
from birdstack.features.demo_species import Species, species_bank
from birdstack.features.demo_tables import (
    events_csv,
    metadata_csv,
    sites_csv,
    submission_csv,
    taxonomy_csv,
    truth_csv,
)
from birdstack.features.demo_world import Site, make_authors, make_sites
from birdstack.store.errors import DatasetError, UsageError

MARK = "demo.json"
"""Says that a folder is demo data, and from which configuration."""

Progress = Callable[[int, int, str], None]
"""Told how many files are written, how many there will be, and the last one's name."""

_WORLD = 5
_SITES = 4


@dataclass(frozen=True)
class DemoPlan:
    """All that a configuration determines, before anything is heard."""

    species: tuple[Species, ...]
    sites: tuple[Site, ...]
    focal: list[Focal]
    unlabeled: list[Soundscape]
    test: list[Soundscape]

    @property
    def scenes(self) -> list[Scene]:
        """Every recording."""
        soundscapes = [*self.unlabeled, *self.test]
        return [*(one.scene for one in self.focal), *(one.scene for one in soundscapes)]

    @property
    def classes(self) -> list[str]:
        """The class list, sorted as in BirdCLEF."""
        return sorted(species.code for species in self.species)


@dataclass(frozen=True)
class DemoReport:
    """What is in the folder.

    Attributes:
        folder: where it lies.
        made: False if it was there already.
        n_species: classes.
        n_focal: focal recordings.
        focal_s: their length in all.
        n_soundscapes: soundscapes, with and without labels.
        soundscapes_s: their length in all.
        n_bytes: size of all audio files.
    """

    folder: Path
    made: bool
    n_species: int
    n_focal: int
    focal_s: float
    n_soundscapes: int
    soundscapes_s: float
    n_bytes: int


def plan_demo(config: DemoConfig) -> DemoPlan:
    """Plan the whole dataset: fast, and the same for the same configuration."""
    rng = np.random.default_rng([config.seed, DEMO_VERSION, _WORLD])
    species = species_bank(config.n_species)
    authors = make_authors(species, rng)
    sites = make_sites(_SITES, rng)
    return DemoPlan(
        species=species,
        sites=sites,
        focal=plan_focal(config, species, authors),
        unlabeled=plan_unlabeled(config, species, sites),
        test=plan_test(config, species, sites),
    )


def make_demo(folder: Path, config: DemoConfig, progress: Progress | None = None) -> DemoReport:
    """Write the demo data, or see that they are there.

    Args:
        folder: is made; may exist if it is empty or holds demo data of this configuration.
        config: what determines the data.
        progress: told after every file.

    Returns:
        What the folder holds.

    Raises:
        UsageError: the folder holds something else, or its parent does not exist.
        DatasetError: another process is writing it, files of finished demo data are gone, or
            the disk does not take them.
    """
    folder = folder.resolve()
    mark = _mark(config)
    plan = plan_demo(config)
    if _is_finished(folder, mark, plan):
        return _report(folder, plan, made=False)
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        _begin(partial)
        with _only_writer(partial):
            if _is_finished(folder, mark, plan):  # by another process, a moment ago
                return _report(folder, plan, made=False)
            _fill(partial, mark, plan, progress)
            partial.rename(folder)
    except OSError as error:
        message = f"cannot write demo data to {str(partial)!r}: {error}"
        remedy = "give it room and the right to write there, and run it again: it goes on"
        raise DatasetError(message, remedy=remedy) from error
    return _report(folder, plan, made=True)


def _fill(
    partial: Path, mark: Mapping[str, Any], plan: DemoPlan, progress: Progress | None
) -> None:
    _keep_if_same(partial, mark)
    for name, text in _tables(plan).items():
        _write(partial / name, text.encode())
    scenes = plan.scenes
    for done, scene in enumerate(scenes, start=1):
        _write_audio(partial, scene)
        if progress is not None:
            progress(done, len(scenes), scene.path)


def _mark(config: DemoConfig) -> dict[str, Any]:
    return {
        "what": "synthetic demo data of birdstack: no real animal, person or place",
        "version": DEMO_VERSION,
        "seed": config.seed,
        "parameters": config.model_dump(),
        "license": "CC0",
    }


def _tables(plan: DemoPlan) -> Mapping[str, str]:
    classes = plan.classes
    by_code = sorted(plan.species, key=lambda species: species.code)
    return {
        "train_metadata.csv": metadata_csv(plan.focal),
        "taxonomy.csv": taxonomy_csv(by_code),
        "sample_submission.csv": submission_csv(plan.test, classes),
        "test_soundscapes_truth.csv": truth_csv(plan.test, classes),
        "test_soundscapes_events.csv": events_csv(plan.test),
        "sites.csv": sites_csv(plan.sites),
    }


def _is_finished(folder: Path, mark: Mapping[str, Any], plan: DemoPlan) -> bool:
    """Whether the folder holds the data already; False if there is room for them."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        message = f"{str(folder)!r} is a file, the demo data need a folder"
        raise UsageError(message, remedy="name a folder that does not exist yet")
    if not any(folder.iterdir()):
        return False
    found = _read_mark(folder)
    if found != mark:
        held = (
            f"demo data of version {found.get('version')} with {found.get('parameters')}"
            if found
            else f"something that is not demo data (no {MARK})"
        )
        wanted = f"version {mark['version']} with {mark['parameters']}"
        message = f"{str(folder)!r} holds {held}; asked for was {wanted}"
        raise UsageError(message, remedy="name another folder, or remove this one")
    names = [*_tables(plan), *(scene.path for scene in plan.scenes)]
    gone = [name for name in names if not (folder / name).is_file()]
    if gone:
        message = f"{str(folder)!r}: {len(gone)} of {len(names)} files are gone, first {gone[0]}"
        raise DatasetError(message, remedy="remove the folder and make the demo data again")
    return True


def _read_mark(folder: Path) -> dict[str, Any]:
    """The mark of a folder; empty if it has none that can be read."""
    try:
        mark = json.loads((folder / MARK).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return mark if isinstance(mark, dict) else {}


def _begin(partial: Path) -> None:
    if not partial.parent.is_dir():
        message = f"no folder at {str(partial.parent)!r} to make the demo data in"
        raise UsageError(message, remedy="make the parent folder first")
    partial.mkdir(exist_ok=True)


@contextmanager
def _only_writer(partial: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system lets go when the process ends, however it does."""
    handle = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"another process is writing {str(partial)!r}"
            raise DatasetError(message, remedy="wait until it has finished") from None
        yield
    finally:
        os.close(handle)


def _keep_if_same(partial: Path, mark: Mapping[str, Any]) -> None:
    """Go on with an interrupted run of this configuration; begin anew after another's."""
    if _read_mark(partial) != mark:
        for entry in partial.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        text = json.dumps(mark, indent=2) + "\n"
        _write(partial / MARK, text.encode())


def _write_audio(root: Path, scene: Scene) -> None:
    """Write one recording, unless an interrupted run has left it complete."""
    path = root / scene.path
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, encode_ogg(render_scene(scene), serial=zlib.crc32(scene.path.encode())))


def _write(path: Path, content: bytes) -> None:
    """Written aside and renamed: a name that is there has all its bytes."""
    aside = path.with_name(f".{path.name}.aside")
    aside.write_bytes(content)
    aside.replace(path)


def _report(folder: Path, plan: DemoPlan, *, made: bool) -> DemoReport:
    soundscapes = [*plan.unlabeled, *plan.test]
    return DemoReport(
        folder=folder,
        made=made,
        n_species=len(plan.species),
        n_focal=len(plan.focal),
        focal_s=round(sum(focal.scene.duration_s for focal in plan.focal), 1),
        n_soundscapes=len(soundscapes),
        soundscapes_s=sum(plan.scene.duration_s for plan in soundscapes),
        n_bytes=sum((folder / scene.path).stat().st_size for scene in plan.scenes),
    )
