"""`birdstack demo`: synthesise a dataset in BirdCLEF layout."""

from __future__ import annotations

from pathlib import Path

from birdstack.features.demo_config import DemoConfig, Size
from birdstack.features.demo_dataset import make_demo
from birdstack.features.demo_species import SPECIES_MOST
from birdstack.stacking.console import Reporter, human_bytes
from birdstack.stacking.options import DONE
from birdstack.store.errors import UsageError


def run_demo(
    reporter: Reporter, folder: Path, *, seed: int, size: Size, species: int | None
) -> int:
    """Make the demo data, or see that they are there. Returns the exit code.

    Raises:
        UsageError: a number is out of range, or the folder holds something else.
        DatasetError: another process writes the folder, or files of it are gone.
    """
    config = _config(seed, size, species)
    with reporter.progress(f"synthesising {folder}") as advance:
        report = make_demo(folder, config, advance)
    minutes = (report.focal_s + report.soundscapes_s) / 60
    held = (
        f"{report.n_species} invented species, {report.n_focal} focal recordings, "
        f"{report.n_soundscapes} soundscapes; {minutes:.0f} minutes, {human_bytes(report.n_bytes)}"
    )
    if report.made:
        reporter.say(f"made {folder}: {held}")
    else:
        reporter.say(f"{folder} is there already and was left as it is: {held}")
    reporter.event(
        "demo",
        folder=str(folder),
        made=report.made,
        parameters=config.model_dump(),
        species=report.n_species,
        focal=report.n_focal,
        focal_s=report.focal_s,
        soundscapes=report.n_soundscapes,
        soundscapes_s=report.soundscapes_s,
        bytes=report.n_bytes,
    )
    reporter.event("finished", exit_code=DONE)
    return DONE


def _config(seed: int, size: Size, species: int | None) -> DemoConfig:
    if seed < 0 or seed >= 2**63:
        message = f"--seed {seed} must lie between 0 and 2^63 - 1"
        raise UsageError(message, remedy="give a whole number that is not negative")
    config = DemoConfig.of_size(size, seed=seed)
    if species is None:
        return config
    if not 2 <= species <= SPECIES_MOST:  # noqa: PLR2004 - one class alone cannot be told apart
        message = f"--species {species} must lie between 2 and {SPECIES_MOST}"
        raise UsageError(message, remedy="give another number of species")
    return config.model_copy(update={"n_species": species})
