"""benchmarks/interval_coverage.py runs, and says how often each way holds the truth."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_each_way_has_a_coverage(tmp_path: Path) -> None:
    """Shares of a whole; what is neither covered nor below lies above; widths are positive."""
    script, report = str(REPO / "benchmarks" / "interval_coverage.py"), tmp_path / "figures.json"
    sizes = ("--replications", "12", "--resamples", "40", "--worlds", "few", "none")
    run = subprocess.run(
        [sys.executable, script, *sizes, "--json", str(report)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads(report.read_text("utf-8"))
    assert set(figures) == {"few", "none"}
    for world in figures.values():
        for by_way in world["by_kind"].values():
            assert {"percentile", "BCa", "studentised", "birdstack"} <= set(by_way)
            for found in by_way.values():
                parts = found["coverage"], found["truth_below"], found["truth_above"]
                assert sum(parts) == pytest.approx(1)
                assert found["median_width"] > 0
            assert by_way["birdstack"]["median_width"] > by_way["percentile"]["median_width"]
    assert "% of intervals with the truth" in run.stdout
