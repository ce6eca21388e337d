"""Start-up stays light: what a command does not need, it does not import."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import birdstack.embeddings
import birdstack.features
import birdstack.stacking
import birdstack.store

NETWORKS = {"torch", "torchvision", "timm"}
HEAVY = {
    "dataframely",
    "librosa",
    "numba",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "scipy",
    "sklearn",
    "soundfile",
    "soxr",
    *NETWORKS,
}
HEAVY_FOR_ROOMS = {"librosa", "numba", "sklearn", "dataframely", "pandas", "matplotlib", *NETWORKS}


def _imported_by(code: str, tmp_path: Path) -> set[str]:
    """Top-level modules loaded after running `code` in a fresh interpreter."""
    found = tmp_path / "modules.json"
    script = (
        "import atexit, json, pathlib, sys\n"
        f"report = pathlib.Path({str(found)!r})\n"
        "atexit.register(lambda: report.write_text("
        "json.dumps(sorted({name.split('.')[0] for name in sys.modules}))))\n" + code
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return set(json.loads(found.read_text()))


def _modules(package) -> list[str]:
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return [f"{package.__name__}.{name}" for name in names if name != "__main__"]


@pytest.mark.parametrize("package", [birdstack.store, birdstack.features], ids=lambda p: p.__name__)
def test_importing_a_room_imports_no_network_library(package, tmp_path: Path) -> None:
    """Every module of store and features loads without torch and other slow libraries."""
    modules = _modules(package)
    assert modules
    code = "\n".join(f"import {name}" for name in [package.__name__, *modules])
    heavy = _imported_by(code, tmp_path) & HEAVY_FOR_ROOMS
    assert not heavy, (
        f"importing {package.__name__} loads {sorted(heavy)}: "
        "move that import into the function that needs it"
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["store", "--help"], ["features", "--help"]], ids=" ".join
)
def test_help_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    """`birdstack --help` loads none of the libraries that read, compute or plot."""
    code = (
        "import runpy\n"
        f"sys.argv = ['birdstack', *{arguments!r}]\n"
        "runpy.run_module('birdstack.stacking.cli', run_name='__main__', alter_sys=True)\n"
    )
    heavy = _imported_by(code, tmp_path) & HEAVY
    assert not heavy, (
        f"birdstack {' '.join(arguments)} loads {len(heavy)} heavy libraries, {sorted(heavy)}: "
        "import them inside the verb that needs them (python -X importtime shows who asks)"
    )


def test_the_counter_sees_a_heavy_import(tmp_path: Path) -> None:
    """The test above can fail: an import of numpy is counted."""
    assert "numpy" in _imported_by("import numpy", tmp_path) & HEAVY
