"""benchmarks/predict.py runs, and its figures follow from what it timed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from birdstack.embeddings.extras import has

REPO = Path(__file__).resolve().parent.parent
SCRIPT = REPO / "benchmarks" / "predict.py"
NEEDED = ("torch", "timm", "openvino")


@pytest.fixture
def script(monkeypatch):
    """The script as a module; its neighbours are found as when it is run."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("benchmarks_predict", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    yield module
    for name in ("_one_thread", "_predict_arm", "acoustic", "inference", "timing"):
        sys.modules.pop(name, None)


@pytest.mark.slow
@pytest.mark.skipif(not all(map(has, NEEDED)), reason="no engine is installed")
def test_every_stage_and_birdnet_are_timed(tmp_path) -> None:
    """A small network and stack on two files of 20 s: all arms, all stages, all rows."""
    flags = ["--model", "test_efficientnet", "--seconds", "20", "--files", "2", "--rounds", "1"]
    flags += ["--classes", "6", "--folds", "2", "--windows", "600", "--data", str(tmp_path)]
    command = [sys.executable, str(SCRIPT), *flags, "--json", str(tmp_path / "figures.json")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert "synthetic sound" in figures["title"]
    assert set(figures["stages"]) <= set(figures["arms"])
    for stages in figures["stages"].values():
        assert list(stages) == [
            "decode",
            "acoustic views + picture",
            "network",
            "stack",
            "write",
        ]
        assert all(each["cpu_s"][0] > 0 for each in stages.values())
        assert stages["decode"]["cpu_s"][0] > 1e-3, "the decoder process is counted"
    assert all(len(arm["cpu_s"]) == 1 for arm in figures["arms"].values())
    theirs = [name for name in figures["arms"] if name.startswith("BirdNET")]
    if not theirs:
        assert "BirdNET's analyser is left out" in run.stdout
    assert all(f"| {name} | " in run.stdout for name in theirs)
    assert set(figures["workers"]["openvino"]) == {"1", "2"}


def figures_of(own: list[float], theirs: list[float] | None) -> dict[str, Any]:
    """Figures of two rounds of soundscapes of 240 s."""
    arms = {"openvino": {"cpu_s": own}}
    if theirs is not None:
        arms[BIRDNET] = {"cpu_s": theirs}
    stage = {"cpu_s": own, "wall_s": own}
    return {
        "title": "t",
        "machine": "m",
        "seconds": 240,
        "arms": arms,
        "stages": {
            "openvino": dict.fromkeys(("decode", HEARD, "network", "stack", "write"), stage)
        },
        "workers": {"openvino": {"1": [1.0, 1.0], "2": [0.625, 0.625]}},
        "boosters": 1020,
        "stack, trees by LightGBM": {"cpu_s": [3 * each for each in own]},
    }


HEARD, BIRDNET = "acoustic views + picture", "BirdNET's analyser"


def test_the_ratio_is_of_the_same_round(script) -> None:
    """A slow round meets both: 4 and 6 times make 5, whatever the medians apart say."""
    found = script.summary(figures_of([1.0, 3.0], [4.0, 18.0]))
    assert found["times"] == {"openvino": {BIRDNET: pytest.approx(5.0)}}
    assert found["audio_a_cpu_s"]["openvino"] == pytest.approx(120.0)


def test_minutes_are_projected_at_the_measured_gain(script) -> None:
    """1,100 x 1.2 s on 4 processors, of which a second worker gained 1.6: 80 % of each."""
    found = script.summary(figures_of([1.2, 1.2], [5.0, 5.0]))
    assert found["speed_up"]["openvino"] == pytest.approx(1.6)
    assert found["minutes"]["openvino"] == pytest.approx(1100 * 1.2 / (4 * 0.8) / 60)
    assert found["minutes"][BIRDNET] == pytest.approx(1100 * 5.0 / 4 / 60)


def test_a_missed_floor_is_told_in_the_report(script) -> None:
    """And one that is held is not; without BirdNET there is nothing to compare with."""
    slow = script.markdown(figures_of([1.0, 1.0], [3.0, 3.0]))
    assert "3.00 times BirdNET's analyser, floor 4" in slow
    assert "Below its floor" not in script.markdown(figures_of([1.0, 1.0], [5.0, 5.0]))
    alone = script.markdown(figures_of([1.0, 1.0], None))
    assert "Below its floor" not in alone
    assert "| openvino | 1.000 | 240 | 0.625 | 1.60 | 5.7 |" in alone
