"""The law of imports is enforced: breaches seeded in a copy of the rooms are reported."""

from __future__ import annotations

import ast
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
ROOMS = ("store", "features", "embeddings", "stacking")
LONGEST_MODULE = 400
LONGEST_MEDIAN = 200

LAYERS = "rooms: stacking > embeddings > features > store"
LABELS = "labels and folds never flow into features"
BOOSTERS = "boosters and tuning live in stacking"
NETWORKS = "networks live in embeddings"
AUDIO = "audio libraries live in features"
PYARROW = "pyarrow lives in the store's Parquet modules"

BREACHES = [
    (LABELS, "features", "import birdstack.store.labels", "birdstack.store.labels"),
    (LABELS, "features", "from birdstack.store import folds", "birdstack.store.folds"),
    (LAYERS, "store", "import birdstack.features", "birdstack.features"),
    (LAYERS, "features", "import birdstack.embeddings", "birdstack.embeddings"),
    (LAYERS, "embeddings", "import birdstack.stacking", "birdstack.stacking"),
    (BOOSTERS, "embeddings", "import lightgbm", "lightgbm"),
    (BOOSTERS, "features", "import xgboost", "xgboost"),
    (BOOSTERS, "store", "def f():\n    import optuna", "optuna"),
    (NETWORKS, "features", "import torch", "torch"),
    (NETWORKS, "stacking", "from timm import create_model", "timm"),
    (NETWORKS, "store", "import torchvision.transforms", "torchvision"),
    (AUDIO, "store", "import soundfile", "soundfile"),
    (AUDIO, "embeddings", "import librosa", "librosa"),
    (AUDIO, "stacking", "def f():\n    import soxr", "soxr"),
    (PYARROW, "store", "import pyarrow.parquet", "pyarrow"),
    (PYARROW, "features", "import pyarrow", "pyarrow"),
    (PYARROW, "stacking", "def f():\n    from pyarrow import fs", "pyarrow"),
]


def _modules() -> list[Path]:
    return [path for room in ROOMS for path in sorted((REPO / room).rglob("*.py"))]


def _name(path: Path) -> str:
    return path.relative_to(REPO).as_posix()


def _lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter over the packages of `tree` rather than the installed ones."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--no-logo"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the four rooms under their import names, with the project's contracts."""
    for room in ROOMS:
        shutil.copytree(
            REPO / room,
            tmp_path / "birdstack" / room,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(REPO / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_tree_keeps_the_law(tree: Path) -> None:
    """The rooms as they stand break no contract."""
    run = _lint_imports(tree)
    assert run.returncode == 0, run.stdout + run.stderr
    assert " 0 broken" in run.stdout


@pytest.mark.parametrize(
    ("contract", "room", "code", "imported"),
    [pytest.param(*breach, id=f"{breach[1]}-{breach[3]}") for breach in BREACHES],
)
def test_a_seeded_breach_is_reported(
    tree: Path, contract: str, room: str, code: str, imported: str
) -> None:
    """Each contract breaks, by name and naming both modules, when its law is broken."""
    (tree / "birdstack" / room / "seeded_breach.py").write_text(f'"""Breach."""\n\n{code}\n')
    run = _lint_imports(tree)
    output = " ".join(run.stdout.split())
    assert run.returncode == 1, run.stdout + run.stderr
    assert f"{contract} BROKEN" in output
    assert f"birdstack.{room}.seeded_breach -> {imported}" in output


def test_labels_do_not_reach_features_by_a_detour(tree: Path) -> None:
    """A module of the store that imports labels is out of bounds for features as well."""
    rooms = tree / "birdstack"
    (rooms / "store" / "seeded_bridge.py").write_text("import birdstack.store.labels\n")
    breach = "from birdstack.store import seeded_bridge\n"
    (rooms / "features" / "seeded_breach.py").write_text(breach)
    run = _lint_imports(tree)
    output = " ".join(run.stdout.split())
    assert run.returncode == 1, run.stdout + run.stderr
    assert f"{LABELS} BROKEN" in output
    assert "birdstack.store.seeded_bridge -> birdstack.store.labels" in output


def test_every_contract_has_a_seeded_breach() -> None:
    """A contract added to pyproject.toml needs a breach here."""
    import tomllib

    settings = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))
    contracts = {c["name"] for c in settings["tool"]["importlinter"]["contracts"]}
    assert contracts == {contract for contract, *_ in BREACHES}


def test_rooms_are_flat() -> None:
    """No room holds a nested package: it would drop out of the wheel without a word."""
    nested = [_name(path) for path in _modules() if path.parent.parent != REPO]
    assert not nested, f"move these up into their room: {nested}"


def test_no_module_is_long() -> None:
    """A module is one idea: at most 400 lines, and half of each room at most 200."""
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in _modules()}
    long = {_name(path): n for path, n in lengths.items() if n > LONGEST_MODULE}
    assert not long, f"split these modules, none may exceed {LONGEST_MODULE} lines: {long}"
    for room in ROOMS:
        median = statistics.median(n for path, n in lengths.items() if path.parent.name == room)
        assert median <= LONGEST_MEDIAN, f"the median module of {room}/ has {median} lines"


def test_imports_are_absolute_and_by_the_full_name() -> None:
    """No relative import, and no `import store`, which works only from the root folder."""
    wrong = []
    for path in [*_modules(), *sorted((REPO / "tests").rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                bare = (node.module or "").split(".")[0] in ROOMS
                if node.level or bare:
                    wrong.append(f"{_name(path)}:{node.lineno}")
            elif isinstance(node, ast.Import):
                wrong += [
                    f"{_name(path)}:{node.lineno}"
                    for alias in node.names
                    if alias.name.split(".")[0] in ROOMS
                ]
    assert not wrong, f"write `from birdstack.store... import ...` at {wrong}"
