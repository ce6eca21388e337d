"""The house stands: make targets explain themselves and do what they say."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
INNER_TARGETS = {"door"}
MAKE_VARIABLES = {
    *("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"),
    *("ARGS", "DATA", "DEMO", "ONLY", "PYTHON", "STORE"),
}

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def _make(*arguments: str, cwd: Path = REPO) -> subprocess.CompletedProcess[str]:
    """Run make as a user would: settings of a make that runs these tests do not leak in."""
    environment = {k: v for k, v in os.environ.items() if k not in MAKE_VARIABLES}
    return subprocess.run(
        ["make", *arguments],
        cwd=cwd,
        env={**environment, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _targets() -> set[str]:
    text = (REPO / "Makefile").read_text("utf-8")
    (phony,) = re.findall(r"^\.PHONY: (help .*)$", text, flags=re.MULTILINE)
    return set(phony.split())


def test_help_is_the_default_and_lists_every_target() -> None:
    """`make` alone prints every target with one line of text, and changes nothing."""
    run = _make()
    assert run.returncode == 0, run.stderr
    listed = dict(re.findall(r"^  make (\S+) +(\S.+)$", run.stdout, flags=re.MULTILINE))
    assert set(listed) == _targets() - INNER_TARGETS
    assert run.stdout == _make("help").stdout


def test_the_promised_targets_exist() -> None:
    """The targets that documents and scripts of others rely on are there."""
    promised = {"help", "dev", "features", "test", "lint", "types", "docs", "bench", "clean"}
    assert promised <= _targets()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose path has a space, with an installed command that notes how it is called.

    Its `birdstack` prints its arguments, one a line, and exits with the code in `code`.
    """
    root = tmp_path / "a clone"
    commands = root / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copyfile(REPO / name, root / name)
    stub = commands / "birdstack"
    stub.write_text('#!/bin/sh\nprintf "<%s>\\n" "$@"\nexit "$(cat code)"\n')
    stub.chmod(0o755)
    (root / ".venv" / "made-for").write_text(str(root))
    (root / ".venv" / "stamp-base").touch()
    return root


@pytest.mark.parametrize(("code", "succeeds"), [(0, True), (3, True), (1, False), (2, False)])
def test_skipped_recordings_do_not_stop_a_chain_of_targets(
    clone: Path, code: int, succeeds: bool
) -> None:
    """Exit code 3, finished with skipped recordings, is said and passes; failures fail."""
    (clone / "code").write_text(str(code))
    run = _make("features", "DATA=birds", cwd=clone)
    assert (run.returncode == 0) == succeeds, run.stdout + run.stderr
    assert ("some recordings were skipped" in run.stdout) == (code == 3)


def test_features_without_data_makes_demo_data(clone: Path) -> None:
    """Without DATA the first command still has real audio work to do, and says on what."""
    (clone / "code").write_text("0")
    run = _make("features", cwd=clone)
    called = re.findall(r"^<(.*)>$", run.stdout, flags=re.MULTILINE)
    store = ["--store", "birdstack-store"]
    assert called == ["demo", "birdstack-demo", "features", "birdstack-demo", *store]
    assert "no DATA given" in run.stdout


def test_features_passes_paths_and_flags_on_whole(clone: Path) -> None:
    """DATA and STORE may hold spaces and quotes; ARGS is split into flags."""
    (clone / "code").write_text("0")
    data, store = "my birds", "it's here"
    run = _make("features", f"DATA={data}", f"STORE={store}", "ARGS=--json --jobs 2", cwd=clone)
    called = re.findall(r"^<(.*)>$", run.stdout, flags=re.MULTILINE)
    assert called == ["features", data, "--store", store, "--json", "--jobs", "2"]


def test_a_moved_clone_makes_its_environment_again(clone: Path) -> None:
    """A virtual environment holds absolute paths, so a moved clone does not use its old one."""
    moved = clone.rename(clone.parent / "moved")
    planned = _make("--dry-run", "features", "DATA=birds", cwd=moved)
    assert "-m venv --clear .venv" in planned.stdout


def test_clean_leaves_stores_and_data(clone: Path) -> None:
    """`make clean` removes what make made, and neither stores nor the rooms behind the door."""
    for kept in ("birdstack-store/log/0.json", "data/a.ogg", "store/keys.py"):
        (clone / kept).parent.mkdir(parents=True)
        (clone / kept).touch()
    for room in ("features", "embeddings", "stacking", "tests", "benchmarks", "docs"):
        (clone / room).mkdir()
    assert _make("door", cwd=clone).returncode == 0
    assert (clone / "birdstack" / "store" / "keys.py").is_file()
    run = _make("clean", cwd=clone)
    assert run.returncode == 0, run.stderr
    assert not (clone / ".venv").exists()
    assert not (clone / "birdstack").exists()
    for kept in ("birdstack-store/log/0.json", "data/a.ogg", "store/keys.py"):
        assert (clone / kept).is_file()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_make_commands_of_the_documents_exist(document: str) -> None:
    """Every `make TARGET` that a document tells the reader to type is a target."""
    text = (REPO / document).read_text("utf-8")
    typed = re.findall(r"(?:^\$? ?|`)make ([a-z][a-z-]*)", text, flags=re.MULTILINE)
    assert "test" in typed
    assert set(typed) <= _targets()


def test_ci_runs_the_documented_commands() -> None:
    """.ci/run is executable and runs the README's test command, lint and types."""
    script = REPO / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    commands = re.findall(r"^make ([a-z ]+?)(?: PYTHON=.*)?$", script.read_text(), re.MULTILINE)
    assert commands == ["test", "lint types"]
    assert "make test" in (REPO / "README.md").read_text("utf-8")
