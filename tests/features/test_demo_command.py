"""`birdstack demo` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from birdstack.stacking.cli import app

FOLDERS = {"train_audio", "unlabeled_soundscapes", "test_soundscapes"}


def test_demo_says_what_it_made_and_that_it_is_there(tmp_path: Path) -> None:
    """The first run makes the folder, the second leaves it; both exit with 0."""
    target = str(tmp_path / "birds")
    command = ["demo", target, "--size", "small", "--species", "2", "--json"]
    first, second = (CliRunner().invoke(app, command) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    events = [[json.loads(line) for line in run.stdout.splitlines()] for run in (first, second)]
    made, found = (next(e for e in lines if e["event"] == "demo") for lines in events)
    assert (made["made"], found["made"]) == (True, False)
    assert made["species"] == 2
    assert {key: made[key] for key in made if key != "made"} == {
        key: found[key] for key in found if key != "made"
    }
    assert {path.name for path in Path(target).iterdir() if path.is_dir()} == FOLDERS
    again = CliRunner().invoke(app, command[:-1])
    assert "is there already and was left as it is: 2 invented species" in again.stdout


def test_numbers_out_of_range_are_wrong_usage(tmp_path: Path) -> None:
    """A number of species or a seed that cannot be is refused before anything is written."""
    for flags, said in (
        (["--species", "49"], "--species 49 must lie between 2 and 48"),
        (["--species", "1"], "--species 1 must lie between 2 and 48"),
        (["--seed", "-1"], "--seed -1 must lie between 0"),
    ):
        run = CliRunner().invoke(app, ["demo", str(tmp_path / "birds"), *flags])
        assert run.exit_code == 2
        assert said in run.stderr
    assert not list(tmp_path.iterdir())
