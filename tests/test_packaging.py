"""What is installed is what stands in the rooms: no less, no more, under one name."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPO = Path(__file__).resolve().parent.parent
ROOMS = ("store", "features", "embeddings", "stacking")

pytestmark = pytest.mark.xdist_group("wheel")


def _files_of_the_project() -> list[str]:
    """Paths that git tracks or would track, without those deleted from the working tree."""
    run = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=REPO,
        capture_output=True,
        check=False,
    )
    if run.returncode:
        pytest.skip("not a git clone: the list of files to hold the wheel against is missing")
    names = run.stdout.decode().split("\0")
    return sorted({name for name in names if name and (REPO / name).is_file()})


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the project so that the clone stays clean."""
    source = tmp_path_factory.mktemp("source")
    for name in _files_of_the_project():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / name, source / name)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    run = subprocess.run(
        [*command, str(source)], capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    (built,) = out.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_exactly_the_rooms(wheel: zipfile.ZipFile) -> None:
    """Every file of the four rooms is in the wheel (code, types, data), and nothing else."""
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {
        f"birdstack/{name}"
        for name in _files_of_the_project()
        if name.split("/")[0] in ROOMS
        and name.endswith((".py", "/py.typed", ".json", ".html", ".css", ".js"))
    }
    assert packed == expected


def test_every_room_is_typed(wheel: zipfile.ZipFile) -> None:
    """Type checkers of users see the annotations of each room."""
    assert {f"birdstack/{room}/py.typed" for room in ROOMS} <= set(wheel.namelist())


def test_the_wheel_carries_licence_and_command(wheel: zipfile.ZipFile) -> None:
    """The licence text and the `birdstack` command are in the wheel."""
    (licence,) = [name for name in wheel.namelist() if name.endswith("licenses/LICENSE")]
    assert wheel.read(licence).decode() == (REPO / "LICENSE").read_text("utf-8")
    (scripts,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "birdstack = birdstack.stacking.cli:main" in wheel.read(scripts).decode()


def test_the_command_runs_from_the_wheel(
    wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The unpacked wheel alone, without the clone, holds all that `birdstack --help` needs."""
    site = tmp_path_factory.mktemp("site")
    wheel.extractall(site)
    code = (
        "import birdstack.stacking.cli as cli, sys\n"
        f"assert cli.__file__.startswith({str(site)!r}), cli.__file__\n"
        "sys.argv = ['birdstack', '--help']\n"
        "cli.main()\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "features" in run.stdout


def test_the_project_owns_one_top_level_name() -> None:
    """`store` and the other rooms are not importable by their bare names when installed.

    Distributions of those names exist; installing one would overwrite ours.
    """
    owners = importlib.metadata.packages_distributions()
    assert set(owners.get("birdstack", ["birdstack"])) == {"birdstack"}
    taken = {room: owners[room] for room in ROOMS if "birdstack" in owners.get(room, ())}
    assert not taken, f"map these rooms below birdstack in pyproject.toml: {taken}"


def test_version_is_the_changelogs() -> None:
    """The changelog has a section for the version that is installed."""
    version = importlib.metadata.version("birdstack")
    assert f"## [{version}]" in (REPO / "CHANGELOG.md").read_text("utf-8")


def test_the_tested_versions_are_allowed_and_complete() -> None:
    """constraints.txt pins every dependency to one version that pyproject.toml admits."""
    lines = (REPO / "constraints.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned = {canonicalize_name(pin.name): pin for pin in pins}
    assert all(len(p.specifier) == 1 and str(p.specifier).startswith("==") for p in pins)
    assert not [pin for pin in pins if pin.url], "a pin is a version, not a place"
    settings = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))
    groups = [*settings["dependency-groups"].values(), settings["project"]["dependencies"]]
    wanted = [Requirement(text) for group in groups for text in group if isinstance(text, str)]
    for requirement in wanted:
        pin = pinned.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} has no pin: run make constraints"
        (version,) = [specifier.version for specifier in pin.specifier]
        assert requirement.specifier.contains(version, prereleases=True), f"{pin} is not allowed"
