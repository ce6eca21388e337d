"""benchmarks/auc.py runs, and ends only if every arm gives scikit-learn's numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_arms_agree_and_are_timed(tmp_path: Path) -> None:
    """Each kind of scores has each arm; the bootstrap is timed against naive resamples."""
    sizes = {"recordings": 20, "windows": 12, "classes": 5, "resamples": 20, "rounds": 2}
    flags = [text for name, size in sizes.items() for text in (f"--{name}", str(size))]
    script, report = str(REPO / "benchmarks" / "auc.py"), tmp_path / "figures.json"
    run = subprocess.run(
        [sys.executable, script, *flags, "--json", str(report)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads(report.read_text("utf-8"))
    for arms in figures["metric_cpu_s"].values():
        assert set(arms) == {"scikit-learn", "scipy rankdata", "birdstack"}
        assert {len(seconds) for seconds in arms.values()} == {2}
    book = figures["bootstrap"]
    assert (len(book["exact_cpu_s"]), len(book["naive_cpu_s"])) == (2, 3)
    value, low, high = book["interval"]
    assert low < value < high
    assert "bootstrap over recordings, 20 resamples" in run.stdout
