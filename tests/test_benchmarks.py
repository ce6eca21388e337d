"""The benchmarks run: the store's arms agree on the numbers at sizes that take seconds."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

REPO = Path(__file__).resolve().parent.parent
READS = {"group", "class", "recording", "embedding"}
RIVALS = {"Delta Lake": "deltalake", "Lance": "lance"}


@pytest.fixture(scope="module")
def timing() -> ModuleType:
    """benchmarks/timing.py, which is a script's neighbour and in no package."""
    path = REPO / "benchmarks" / "timing.py"
    spec = importlib.util.spec_from_file_location("benchmarks_timing", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Every figure of one tiny run of benchmarks/store.py, and what it printed."""
    folder = tmp_path_factory.mktemp("bench")
    sizes = {
        "windows": 300,
        "recordings": 12,
        "columns": 10,
        "group": 4,
        "classes": 6,
        "dim": 16,
        "commits": 6,
        "planned": 30,
        "rounds": 1,
    }
    flags = [text for name, size in sizes.items() for text in (f"--{name}", str(size))]
    run = subprocess.run(
        [
            sys.executable,
            str(REPO / "benchmarks" / "store.py"),
            *flags,
            *("--workdir", str(folder), "--json", str(folder / "figures.json")),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads((folder / "figures.json").read_text("utf-8"))
    assert sorted(file.name for file in folder.iterdir()) == ["figures.json"], "it cleans up"
    return {**found, "printed": run.stdout}


@pytest.mark.slow
def test_the_arms_agree_and_every_read_is_timed(figures: dict) -> None:
    """The run ends only if all arms return what was written; each read has each arm."""
    arms = {"memmap npy", "birdstack", "naive Parquet"}
    arms |= {arm for arm, library in RIVALS.items() if library not in figures["absent"]}
    assert set(figures["reads"]) == READS
    for read, by_arm in figures["reads"].items():
        assert set(by_arm) == arms, read
        assert all(way["cpu_s"] > 0 for ways in by_arm.values() for way in ways.values())
    assert "| median CPU ms (ratio to ours) | memmap npy | birdstack |" in figures["printed"]


@pytest.mark.slow
def test_commits_are_timed_one_by_one(figures: dict) -> None:
    """Each arm has one timing for each commit."""
    assert {len(arm["cpu_s"]) for arm in figures["commits"].values()} == {6}


@pytest.mark.slow
@pytest.mark.parametrize("rival", RIVALS)
def test_a_rival_takes_part_where_it_is_installed(figures: dict, rival: str) -> None:
    """Delta Lake and Lance are among the arms; the test is skipped, saying so, without them."""
    if RIVALS[rival] in figures["absent"]:
        pytest.skip(f"{RIVALS[rival]} is not installed: its arm was left out")
    assert rival in figures["commits"]


def test_ways_take_turns(timing: ModuleType) -> None:
    """One round that does not count, then the ways one after another, round by round."""
    seen: list[str] = []
    ways = {"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}
    timings = timing.interleaved(ways, 3)
    assert seen == ["a", "b"] * 4
    assert {len(t.cpu_s) for t in timings.values()} == {3}


def test_waiting_is_wall_time_and_not_cpu_time(timing: ModuleType) -> None:
    """A sleep counts on one clock only."""
    slept = timing.Timing()
    slept.add(lambda: time.sleep(0.2))
    assert slept.wall >= 0.2
    assert slept.cpu < 0.1


def test_a_section_is_replaced_and_the_rest_stays(timing: ModuleType, tmp_path: Path) -> None:
    """Writing twice leaves the second text between the markers, and one copy of them."""
    document = tmp_path / "page.md"
    document.write_text("head\n<!-- x: begin -->\nold\n<!-- x: end -->\ntail\n", "utf-8")
    timing.write_section(document, "x", "first")
    timing.write_section(document, "x", "second")
    expected = "head\n<!-- x: begin -->\n\nsecond\n\n<!-- x: end -->\ntail\n"
    assert document.read_text("utf-8") == expected


def test_a_document_without_markers_is_refused(timing: ModuleType, tmp_path: Path) -> None:
    """Nothing is written to a document that has no place for it."""
    document = tmp_path / "page.md"
    document.write_text("head\n", "utf-8")
    with pytest.raises(SystemExit, match="must hold <!-- x: begin -->"):
        timing.write_section(document, "x", "text")


@pytest.mark.slow
def test_every_layout_returns_what_was_written_and_is_timed(tmp_path: Path) -> None:
    """benchmarks/layouts.py ends only if each way to read agrees; sizes follow the layout."""
    sizes = {
        "windows": 300,
        "dim": 16,
        "vector-rows": 128,
        "scalar-windows": 400,
        "columns": 12,
        "group": 5,
        "constant": 2,
        "scalar-rows": 64,
        "rounds": 1,
    }
    flags = [text for name, size in sizes.items() for text in (f"--{name}", str(size))]
    script = str(REPO / "benchmarks" / "layouts.py")
    command = [sys.executable, script, *flags, "--workdir", str(tmp_path)]
    as_json, as_tables = (
        subprocess.run([*command, flag], capture_output=True, text=True, timeout=120, check=False)
        for flag in ("--json", "--markdown")
    )
    assert as_json.returncode == 0, as_json.stdout + as_json.stderr
    found = json.loads(as_json.stdout)
    embeddings, scalars = found["embeddings"]["layouts"], found["scalars"]["layouts"]
    for layouts, n_ways in ((embeddings, 6), (scalars, 7)):
        for title, layout in layouts.items():
            assert len(layout["seconds"]) + len(layout.get("refused", {})) == n_ways, title
            assert all(way["cpu_s"] > 0 for way in layout["seconds"].values()), title
    rounded, exact = (embeddings[f"float32, {bits}zstd 1, BSS"] for bits in ("10 bits, ", ""))
    assert rounded["bytes"] < exact["bytes"], "rounding saves bytes"
    footers = [scalars[f"{rows}, LZ4"]["footer_bytes"] for rows in (32, 64, 128)]
    assert footers == sorted(footers, reverse=True), "fewer row groups, a smaller footer"
    assert as_tables.returncode == 0, as_tables.stdout + as_tables.stderr
    assert "| **64, LZ4** |" in as_tables.stdout
    assert "| **float32, 10 bits, zstd 1, BSS** |" in as_tables.stdout
    assert not list(tmp_path.iterdir()), "it cleans up"
