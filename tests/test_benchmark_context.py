"""The benchmark of context runs, and its ways agree on the numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_every_way_agrees_and_is_timed(tmp_path: Path) -> None:
    """A tiny run ends only if all ways give the same columns; each is in the figures."""
    figures = tmp_path / "figures.json"
    script = str(REPO / "benchmarks" / "context.py")
    run = subprocess.run(
        [sys.executable, script, "--scale", "0.01", "--rounds", "1", "--json", str(figures)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    for table in json.loads(figures.read_text("utf-8"))["tables"]:
        assert {"memcpy", "birdstack", "polars over", "pandas groupby"} <= set(table["cpu_s"])
        assert all(seconds > 0 for seconds in table["cpu_s"].values())
    assert "| birdstack |" in run.stdout
