"""benchmarks/inference.py runs, and its figures follow from what it timed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from birdstack.embeddings.extras import has

REPO = Path(__file__).resolve().parent.parent
SCRIPT = REPO / "benchmarks" / "inference.py"
NEEDED = ("torch", "timm", "openvino", "onnxruntime", "onnxscript")


@pytest.fixture
def script(monkeypatch):
    """The script as a module; its neighbours are found as when it is run."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("benchmarks_inference", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    yield module
    for name in ("acoustic", "timing"):
        sys.modules.pop(name, None)


@pytest.mark.slow
@pytest.mark.skipif(not all(map(has, NEEDED)), reason="not every engine is installed")
def test_every_engine_and_the_whole_path_are_timed(tmp_path) -> None:
    """A small network on 20 s of sound: all arms, and tables with a row for each."""
    flags = ["--model", "test_efficientnet", "--seconds", "20", "--rounds", "1"]
    command = [sys.executable, str(SCRIPT), *flags, "--json", str(tmp_path / "figures.json")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    arms = {"torch eager", "torch", "torch-jit", "onnxruntime", "openvino", "mel"}
    assert figures["decoders"] == ["soundfile", "ffmpeg"][: 1 + has("av")]
    for decoder in figures["decoders"]:
        arms |= {f"decode {decoder}", f"whole openvino {decoder}"}
    assert arms <= set(figures["arms"])
    assert figures["windows"] == 4
    assert all(arm["cpu_s"][0] > 0 for arm in figures["arms"].values())
    assert figures["arms"]["decode soundfile"]["cpu_s"][0] > 1e-3, "the decoder process is counted"
    assert "| onnxruntime | " in run.stdout
    assert "52,800 windows" in run.stdout


def figures_of(**cpu_s):
    """Figures of two rounds over 48 windows."""
    arms = {name.replace("_", " "): {"cpu_s": each} for name, each in cpu_s.items()}
    threads = {"openvino": {"1": [4.0, 4.0], "2": [2.0, 2.0]}}
    decoders = [name.split()[-1] for name in arms if name.startswith("whole ")]
    return {"windows": 48, "arms": arms, "threads": threads, "decoders": decoders}


def test_ratios_shares_and_projection(script) -> None:
    """By hand: 2.4 times eager, four fifths kept, 52,800 windows by four cores."""
    figures = figures_of(
        torch_eager=[1.2, 2.4],
        openvino=[0.5, 1.0],
        whole_openvino_soundfile=[0.625, 1.25],
        whole_openvino_ffmpeg=[0.5, 1.25],
    )
    found = script.summary(figures)
    assert found["times_eager"]["openvino"] == pytest.approx(2.4)
    assert found["share"]["openvino"] == pytest.approx({"soundfile": 0.8, "ffmpeg": 0.9})
    assert found["two_threads"]["openvino"] == pytest.approx(2.0)
    assert script.misses(figures) == []
    # (.9375 + 4 * .75) CPU seconds for 48 windows, medians of the rounds
    by_hand = 52_800 * (0.9375 + 4 * 0.75) / 48 / 4 / 60
    assert script.minutes(found, "openvino", "soundfile", 5) == pytest.approx(by_hand)


def test_floors_that_are_missed_are_named(script) -> None:
    """Too slow a network and too slow a path, a sentence each."""
    figures = figures_of(
        torch_eager=[1.0, 1.0],
        openvino=[0.5, 0.5],
        whole_openvino_soundfile=[1.0, 1.0],
        whole_openvino_ffmpeg=[0.6, 0.6],
    )
    figures["threads"]["openvino"]["2"] = [3.0, 3.0]
    told = "; ".join(script.misses(figures))
    assert "2.00 times eager, floor 2.2" in told
    assert "whole path with soundfile 50%, floor 72%" in told
    assert "with ffmpeg" not in told
    assert "two threads 1.33 times one" in told
