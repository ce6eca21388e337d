"""Inference engines against torch eager, and the whole path from file to logits.

EfficientNet-B0 with random weights hears pictures of 128 mel bands by 320 frames. First the
network alone, by every engine, then OGG Vorbis on disk -> samples -> picture -> network ->
logits, decoded by libsndfile and, where it is installed, by FFmpeg; all arms take turns, so that a
slow moment of the machine meets all of them. Time is CPU seconds of the process and of its decoder
processes.

    python benchmarks/inference.py --data ../shared/data
    python benchmarks/inference.py --json figures.json
    python benchmarks/inference.py --write          # also into docs/reference/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import acoustic
import timing
from timing import Timing, markdown_table

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from birdstack.embeddings.engine import Engine

LIBRARIES = ("torch", "timm", "openvino", "onnxruntime", "numpy", "numba", "soundfile", "av")
RATE_HZ, HOP, N_CLASSES, WINDOW_S = acoustic.RATE_HZ, 500, 182, 5.0
EAGER, MEL = "torch eager", "mel"
DECODERS = ("soundfile", "ffmpeg")
FLOORS = {"openvino": (2.2, 0.72), "openvino-bf16": (3.5, 0.60)}
"""Times torch eager, and share of the network's speed that the whole path keeps, at least."""
TWO_THREADS = 1.7
SOUNDSCAPES, SOUNDSCAPE_WINDOWS, LIMIT_MIN, LIMIT_CORES = 1100, 48, 120, 4


class Clock(Timing):
    """CPU seconds of this process and of decoder processes that are still running."""

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        super().__init__()
        self._pids = pids

    def add(self, work: Callable[[], Any]) -> Any:
        """Do the work once and note how long it took."""
        began, decoders_s = self.now(), self._decoders_s()
        result = work()
        self.since(began)
        self.cpu_s[-1] += self._decoders_s() - decoders_s
        return result

    def _decoders_s(self) -> float:
        # the clock of another process, as clock_getcpuclockid(3) numbers it on Linux
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self._pids())


def decode_arm(decoder: str) -> str:
    """Name of the arm that decodes alone."""
    return f"decode {decoder}"


def whole_arm(engine: str, decoder: str) -> str:
    """Name of the arm of the whole path."""
    return f"whole {engine} {decoder}"


# --- the network alone ----------------------------------------------------------------------


def network(model: str) -> nn.Module:
    """The network, with normalisations that have seen noise, so that no number is tiny."""
    import torch  # noqa: PLC0415 - after the threads are settled

    from birdstack.embeddings.backbone_config import BackboneConfig  # noqa: PLC0415 - as above
    from birdstack.embeddings.network import build_network  # noqa: PLC0415 - as above

    config = BackboneConfig(name="benchmark", model=model, weights="random")
    net = build_network(config, N_CLASSES)
    norms = [each for each in net.modules() if hasattr(each, "running_mean")]
    for norm in norms:
        norm.momentum = 1.0  # type: ignore[assignment]
        norm.train()
    with torch.no_grad():
        net(torch.randn(16, *net.input_shape, generator=torch.Generator().manual_seed(0)))
    return net.eval()


def engines(net: nn.Module, cache: Path) -> dict[str, Engine]:
    """An engine of every kind that runs here at full speed."""
    from birdstack.embeddings import engine  # noqa: PLC0415 - as above

    shape = tuple(net.input_shape)  # type: ignore[arg-type]
    found = {}
    for kind in engine.KINDS:
        if kind == "openvino-int8":
            continue  # of no use for this network: parity refuses it
        if kind == "openvino-bf16" and not engine.native_bf16():
            print("this processor has no bfloat16: openvino-bf16 is left out")
            continue
        found[kind] = engine.make_engine(net, shape, kind, cache=cache, threads=2)
    return found


def plain_eager(net: nn.Module, batch: int) -> Callable[[np.ndarray], None]:
    """The network as one would call it: batches, `inference_mode`, nothing else."""
    import torch  # noqa: PLC0415 - as above

    torch.set_num_threads(1)

    def run(pictures: np.ndarray) -> None:
        with torch.inference_mode():
            for at in range(0, len(pictures), batch):
                net(torch.from_numpy(pictures[at : at + batch]))

    return run


# --- the whole path -------------------------------------------------------------------------


class Whole:
    """Recordings of OGG Vorbis on disk, heard by a network."""

    def __init__(self, samples: np.ndarray, folder: Path, copies: int) -> None:
        import soundfile  # noqa: PLC0415 - as above

        from birdstack.embeddings.extras import has  # noqa: PLC0415 - as above
        from birdstack.embeddings.mel_config import MelConfig  # noqa: PLC0415 - as above
        from birdstack.embeddings.mel_input import MelInput  # noqa: PLC0415 - as above
        from birdstack.features.audio import AudioConfig, AudioSource  # noqa: PLC0415 - as above
        from birdstack.store.recordings import Recording  # noqa: PLC0415 - as above

        self.sources = {
            decoder: AudioSource(AudioConfig(sample_rate_hz=RATE_HZ, decoder=decoder))
            for decoder in DECODERS
            if decoder != "ffmpeg" or has("av")
        }
        self.input = MelInput(MelConfig(sample_rate_hz=RATE_HZ, hop=HOP), WINDOW_S)
        self.recordings = []
        for copy in range(copies):
            path = folder / f"{copy}.ogg"
            with soundfile.SoundFile(path, "w", RATE_HZ, 1, format="OGG", subtype="VORBIS") as file:
                for start in range(0, len(samples), RATE_HZ):  # libsndfile's stack is small
                    file.write(samples[start : start + RATE_HZ])
            self.recordings.append(Recording(path.name, path, ""))

    def decode(self, decoder: str) -> Any:
        """Decode one recording, in a decoder process as in a real run."""
        return self.sources[decoder].open(self.recordings[0])

    def pids(self) -> list[int]:
        """Process ids of the decoders."""
        return [pid for source in self.sources.values() for pid in source.decoders.pids]

    def pictures(self, sound: Any) -> np.ndarray:
        """The picture of every window, `[window, 1, mel, frame]`."""
        import numpy as np  # noqa: PLC0415 - as above

        drawn = np.empty((sound.n_windows, *self.input.shape), dtype=np.float32)
        for picture, window in zip(drawn, sound.windows(), strict=True):
            picture[...] = self.input.prepare(window)
        return drawn

    def hear(self, engine: Engine, decoder: str, recording: Any) -> np.ndarray:
        """Logits of one recording, from its file."""
        return engine.run(self.pictures(self.sources[decoder].open(recording)))[-1]

    def hear_all(self, engine: Engine, decoder: str, threads: int) -> None:
        """Every recording, by that many threads that each take a whole one."""
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda each: self.hear(engine, decoder, each), self.recordings))

    def close(self) -> None:
        """End the decoder processes."""
        for source in self.sources.values():
            source.close()


@contextmanager
def whole(data: Path, seconds: int) -> Iterator[tuple[Whole, str]]:
    """Recordings to hear, and what they hold."""
    samples, kind = acoustic.sound_of(data, seconds)
    with tempfile.TemporaryDirectory() as folder:
        path = Whole(samples, Path(folder), 4)
        try:
            yield path, kind
        finally:
            path.close()


# --- the figures ----------------------------------------------------------------------------


def run(data: Path, model: str, seconds: int, rounds: int) -> dict[str, Any]:
    """Every figure of the report."""
    net = network(model)
    with tempfile.TemporaryDirectory() as cache, whole(data, seconds) as (path, kind):
        found = engines(net, Path(cache))
        sound = path.decode(DECODERS[0])
        pictures = path.pictures(sound)
        eager = plain_eager(net, 8)
        ways: dict[str, Callable[[], Any]] = {EAGER: lambda: eager(pictures)}
        for name, engine in found.items():
            ways[name] = lambda engine=engine: engine.run(pictures)
        ways[MEL] = lambda: path.pictures(sound)
        for decoder in path.sources:
            ways[decode_arm(decoder)] = lambda decoder=decoder: path.decode(decoder)
            for name in [name for name in FLOORS if name in found]:
                ways[whole_arm(name, decoder)] = lambda engine=found[name], decoder=decoder: (
                    path.hear(engine, decoder, path.recordings[0])
                )
        timings = in_turns(ways, rounds, path.pids)
        return {
            "machine": timing.machine(*LIBRARIES),
            "title": f"{model}, 128x320, {len(pictures)} windows of 5 s, {kind}, {rounds} rounds",
            "windows": len(pictures),
            "decoders": list(path.sources),
            "arms": {
                name: {"cpu_s": each.cpu_s, "wall_s": each.wall_s} for name, each in timings.items()
            },
            "threads": in_an_unbound_process(data, model, seconds, rounds),
        }


def in_turns(
    ways: dict[str, Callable[[], Any]], rounds: int, pids: Callable[[], list[int]]
) -> dict[str, Clock]:
    """As `timing.interleaved`, decoder processes included."""
    clocks = {name: Clock(pids) for name in ways}
    for work in ways.values():
        work()
    for _ in range(rounds):
        for name, work in ways.items():
            clocks[name].add(work)
    return clocks


def two_threads(
    data: Path, model: str, seconds: int, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Wall seconds of the same recordings by one thread and by two, in turns.

    In a process that has seen all processors: OpenVINO makes no more streams than it sees
    processors when it is loaded.
    """
    net = network(model)
    walls = {}
    with tempfile.TemporaryDirectory() as cache, whole(data, seconds) as (path, _):
        fastest = list(path.sources)[-1]
        for name, engine in engines(net, Path(cache)).items():
            if name in FLOORS:
                ways = {
                    str(threads): lambda engine=engine, threads=threads: path.hear_all(
                        engine, fastest, threads
                    )
                    for threads in (1, 2)
                }
                timings = timing.interleaved(ways, rounds)
                walls[name] = {threads: each.wall_s for threads, each in timings.items()}
    return walls


def in_an_unbound_process(data: Path, model: str, seconds: int, rounds: int) -> Any:
    """`two_threads` of this script, started anew without the bond to one processor."""
    flags = ["--data", str(data), "--model", model, "--seconds", str(seconds)]
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "walls.json"
        more = ["--rounds", str(rounds), "--only-threads", "--json", str(told)]
        subprocess.run([sys.executable, __file__, *flags, *more], check=True)
        return json.loads(told.read_text("utf-8"))


def summary(figures: dict[str, Any]) -> dict[str, Any]:
    """What the floors speak of."""
    cpu = {name: statistics.median(each["cpu_s"]) for name, each in figures["arms"].items()}
    speed_up = {
        name: statistics.median(one / two for one, two in zip(walls["1"], walls["2"], strict=True))
        for name, walls in figures["threads"].items()
    }
    return {
        "cpu_ms": {name: 1e3 * seconds / figures["windows"] for name, seconds in cpu.items()},
        "times_eager": {
            # each round against its own: a slow minute meets both
            name: statistics.median(
                base / ours
                for base, ours in zip(
                    figures["arms"][EAGER]["cpu_s"], figures["arms"][name]["cpu_s"], strict=True
                )
            )
            for name in figures["arms"]
        },
        "share": {
            name: {
                decoder: statistics.median(
                    alone / all_
                    for alone, all_ in zip(
                        figures["arms"][name]["cpu_s"],
                        figures["arms"][whole_arm(name, decoder)]["cpu_s"],
                        strict=True,
                    )
                )
                for decoder in figures["decoders"]
            }
            for name in figures["threads"]
        },
        "two_threads": speed_up,
    }


def misses(figures: dict[str, Any]) -> list[str]:
    """Floors that were not met, a sentence each."""
    found = summary(figures)
    told = []
    for name, (times, share) in FLOORS.items():
        if name not in found["share"]:
            continue
        if found["times_eager"][name] < times:
            told.append(f"{name}: {found['times_eager'][name]:.2f} times eager, floor {times}")
        told += [
            f"{name}: whole path with {decoder} {kept:.0%}, floor {share:.0%}"
            for decoder, kept in found["share"][name].items()
            if kept < share
        ]
        if found["two_threads"][name] < TWO_THREADS:
            told.append(f"{name}: two threads {found['two_threads'][name]:.2f} times one")
    return told


def minutes(found: dict[str, Any], name: str, decoder: str, models: int) -> float:
    """Projected wall minutes of the test set: decoded and drawn once, heard by each model."""
    ms = found["cpu_ms"]
    window_ms = ms[whole_arm(name, decoder)] + (models - 1) * ms[name]
    efficiency = min(found["two_threads"][name] / 2, 1.0)
    windows = SOUNDSCAPES * SOUNDSCAPE_WINDOWS
    return windows * window_ms / 1e3 / (LIMIT_CORES * efficiency) / 60


def markdown(figures: dict[str, Any]) -> str:
    """The report."""
    found = summary(figures)
    ms = found["cpu_ms"]
    alone = [name for name in ms if name != MEL and not name.startswith(("whole ", "decode "))]
    rows = [
        [name, f"{ms[name]:.2f}", f"{1e3 / ms[name]:.0f}", f"{found['times_eager'][name]:.2f}"]
        for name in sorted(alone, key=lambda name: -ms[name])
    ]
    pairs = [(name, decoder) for name in found["share"] for decoder in figures["decoders"]]
    paths = [
        [
            name,
            decoder,
            *(f"{ms[part]:.2f}" for part in (decode_arm(decoder), MEL, name)),
            f"{ms[whole_arm(name, decoder)]:.2f}",
            f"{1e3 / ms[whole_arm(name, decoder)]:.0f}",
            f"{found['share'][name][decoder]:.0%}",
        ]
        for name, decoder in pairs
    ]
    head = ["engine", "decoder", "decode", MEL, "network", "whole path", "windows a CPU second"]
    projected = [
        [name, decoder, *(f"{minutes(found, name, decoder, models):.1f}" for models in (1, 5))]
        for name, decoder in pairs
    ]
    scaled = ", ".join(f"{name} {times:.2f}" for name, times in found["two_threads"].items())
    missed = misses(figures)
    return "\n\n".join(
        [
            f"{figures['title']}. {figures['machine']}",
            "The network alone, batches of 8, one thread:",
            markdown_table(
                ["engine", "CPU ms a window", "windows a CPU second", "times eager"], rows
            ),
            (
                "From OGG Vorbis on disk to logits, CPU ms a window, decoder process included; "
                "the share is the speed of the whole path against the network alone:"
            ),
            markdown_table([*head, "share"], paths),
            (
                "Two threads against one, wall time over four recordings, each taken whole by one "
                f"thread, decoded by {figures['decoders'][-1]}: {scaled}."
            ),
            (
                f"Projected from these figures: minutes for {SOUNDSCAPES:,} soundscapes of 240 s "
                f"({SOUNDSCAPES * SOUNDSCAPE_WINDOWS:,} windows) on {LIMIT_CORES} processors like "
                f"this one, against a limit of {LIMIT_MIN}. Several models share decoding and the "
                "picture."
            ),
            markdown_table(["engine", "decoder", "one model", "five models"], projected),
            *(["Below its floor in this run: " + "; ".join(missed) + "."] if missed else []),
        ]
    )


def main() -> None:
    """Run, print, and write if asked to."""
    timing.one_thread()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=acoustic.DEFAULT_DATA)
    parser.add_argument("--model", default="efficientnet_b0", help="a model of timm")
    parser.add_argument("--seconds", type=int, default=240, help="length of a recording")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help=f"into {acoustic.DOCUMENT.name}")
    parser.add_argument("--only-threads", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only_threads:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, range(os.cpu_count() or 1))
        walls = two_threads(asked.data, asked.model, asked.seconds, asked.rounds)
        asked.json.write_text(json.dumps(walls), "utf-8")
        return
    figures = run(asked.data, asked.model, asked.seconds, asked.rounds)
    report = markdown(figures)
    print(report)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1), "utf-8")
    if asked.write:
        timing.write_section(acoustic.DOCUMENT, "inference", report)


if __name__ == "__main__":
    main()
