"""The fused acoustic pass against librosa, scikit-maad, openSMILE and the reference.

The same windows of real sound go through every arm, in turns: librosa and scikit-maad called
function by function, as one would from their documentation; openSMILE's eGeMAPSv02; this
project's reference view; the fused pass in float64 (the default) and float32. Then whole
recordings, decoding included: the share of each step, and one thread against two.

    python benchmarks/acoustic.py --data ../shared/data
    python benchmarks/acoustic.py --json figures.json
    python benchmarks/acoustic.py --write            # also into docs/reference/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timing
from timing import Timing, markdown_table

if TYPE_CHECKING:
    import numpy as np

REPO = Path(__file__).resolve().parent.parent
DOCUMENT = REPO / "docs" / "reference" / "benchmarks.md"
DEFAULT_DATA = Path(os.environ.get("BIRDSTACK_TEST_DATA", REPO.parent / "shared" / "data"))
LIBRARIES = ("numpy", "scipy", "numba", "librosa", "scikit-maad", "opensmile", "soundfile")
RATE_HZ = 32_000
N_FFT, HOP, N_MELS = 2048, 512, 128
FUSED, FLOAT32, REFERENCE = "fused, float64", "fused, float32", "reference view"
NAIVE, SMILE = "librosa + scikit-maad", "openSMILE eGeMAPSv02"


def sound_of(data: Path, seconds: int) -> tuple[np.ndarray, str]:
    """Real soundscapes at 32 kHz, one after the other, `[sample]`; made up where absent."""
    import numpy as np  # noqa: PLC0415 - after the threads are settled

    from birdstack.features.audio import AudioConfig, AudioSource  # noqa: PLC0415 - as above
    from birdstack.store.recordings import Recording  # noqa: PLC0415 - as above

    files = sorted((data / "soundscapes").glob("*/*.wav")) if data.is_dir() else []
    parts: list[np.ndarray] = []
    with AudioSource(AudioConfig(sample_rate_hz=RATE_HZ, isolate=False)) as source:
        for path in files:
            if sum(map(len, parts)) >= seconds * RATE_HZ:
                break
            parts.append(np.asarray(source.open(Recording(path.name, path, "")).samples))
    if parts:
        return np.resize(np.concatenate(parts), seconds * RATE_HZ), "real soundscapes"
    rng = np.random.default_rng(0)
    time_s = np.arange(seconds * RATE_HZ) / RATE_HZ
    call = 0.2 * (np.sin(2 * np.pi * 0.9 * time_s) > 0.6) * np.sin(2 * np.pi * 4000 * time_s)
    made_up = rng.normal(0, 0.02, len(time_s)) + call
    return made_up.astype(np.float32), "synthetic sound (no data folder)"


# --- the arms -------------------------------------------------------------------------------


def five(series: np.ndarray) -> list[float]:
    """The statistics of a series that the views hold."""
    import numpy as np  # noqa: PLC0415 - as above

    low, middle, high = np.percentile(series, (5, 50, 95))
    return [series.mean(), series.std(), low, middle, high]


def by_libraries(window: np.ndarray) -> list[float]:
    """The columns that librosa and scikit-maad have, function by function."""
    import librosa  # noqa: PLC0415 - as above
    import maad.features  # noqa: PLC0415 - as above
    import maad.sound  # noqa: PLC0415 - as above
    import numpy as np  # noqa: PLC0415 - as above

    frames = {"n_fft": N_FFT, "hop_length": HOP}
    heard = {"y": window, "sr": RATE_HZ, **frames}
    sizes = {"frame_length": N_FFT, "hop_length": HOP}
    hear = librosa.feature
    found: list[float] = []

    def moments(rows: np.ndarray) -> None:
        found.extend([*rows.mean(axis=1), *rows.std(axis=1)])

    def bands(mel: np.ndarray) -> np.ndarray:
        return mel.reshape(16, N_MELS // 16, -1).mean(axis=1)

    mfcc = hear.mfcc(n_mfcc=20, n_mels=N_MELS, **heard)
    moments(mfcc)
    found.extend(librosa.feature.delta(mfcc).std(axis=1))
    found.extend(librosa.feature.delta(mfcc, order=2).std(axis=1))
    found.extend(five(hear.spectral_centroid(**heard)[0]))
    found.extend(five(hear.spectral_bandwidth(**heard)[0]))
    found.extend(five(hear.spectral_rolloff(roll_percent=0.85, **heard)[0]))
    found.extend(five(hear.spectral_rolloff(roll_percent=0.95, **heard)[0]))
    found.extend(five(hear.spectral_flatness(y=window, **frames)[0]))
    found.extend(five(hear.zero_crossing_rate(window, **sizes)[0]))
    found.extend(five(hear.rms(y=window, **sizes)[0]))
    moments(hear.spectral_contrast(**heard))
    mel = hear.melspectrogram(n_mels=N_MELS, **heard)
    moments(bands(librosa.power_to_db(mel)))
    mel = hear.melspectrogram(n_mels=N_MELS, **heard)
    found.extend(bands(librosa.power_to_db(mel, ref=np.max)).mean(axis=1))
    mel = hear.melspectrogram(n_mels=N_MELS, **heard)
    moments(bands(librosa.pcen(mel * 2.0**31, sr=RATE_HZ, hop_length=HOP)))
    found.extend(five(librosa.onset.onset_strength(n_mels=N_MELS, **heard)))
    power, _, frequencies, _ = maad.sound.spectrogram(
        window, RATE_HZ, nperseg=N_FFT, noverlap=N_FFT - HOP
    )
    magnitude = np.sqrt(power)
    index = maad.features
    _, _, aci = index.acoustic_complexity_index(magnitude)
    ndsi, ratio, _, _ = index.soundscape_index(power, frequencies)
    spectral, _ = index.frequency_entropy(power)
    temporal = index.temporal_entropy(window)
    found.extend([aci, ndsi, ratio, spectral, temporal, spectral * temporal])
    found.append(index.acoustic_diversity_index(magnitude, frequencies, fmax=15000))
    found.append(index.acoustic_eveness_index(magnitude, frequencies, fmax=15000))
    found.append(index.bioacoustics_index(magnitude, frequencies))
    return found


def arms(samples: np.ndarray) -> dict[str, Callable[[], int]]:
    """Ways to measure every window of a recording; each returns its number of columns."""
    from birdstack.features.acoustic import AcousticConfig, AcousticExtractor  # noqa: PLC0415
    from birdstack.features.audio import Sound  # noqa: PLC0415 - as above
    from birdstack.features.fast_acoustic import FastAcousticExtractor  # noqa: PLC0415
    from birdstack.store.keys import WindowGrid  # noqa: PLC0415 - as above

    grid, audio, config = WindowGrid(), {"sample_rate_hz": RATE_HZ}, AcousticConfig()
    sound = Sound(samples, RATE_HZ, grid)
    windows = list(sound.windows())

    def naive() -> int:
        return max(len(by_libraries(window)) for window in windows)

    def view(extractor: AcousticExtractor) -> Callable[[], int]:
        return lambda: measured(extractor, sound)

    found = {
        FUSED: view(FastAcousticExtractor(config, audio, grid)),
        FLOAT32: view(FastAcousticExtractor(config, audio, grid, precision="float32")),
        REFERENCE: view(AcousticExtractor(config, audio, grid)),
        NAIVE: naive,
    }
    try:
        import opensmile  # noqa: PLC0415 - not everybody has it
    except ImportError:
        timing_note = "openSMILE is not installed: its arm is left out"
        print(timing_note)
        return found
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    found[SMILE] = lambda: max(smile.process_signal(each, RATE_HZ).shape[1] for each in windows)
    return found


def measured(extractor: Any, sound: Any) -> int:
    """Measure a recording by every view of an extractor; the number of columns."""
    from birdstack.store.recordings import Recording  # noqa: PLC0415 - as above

    views = [spec.name for spec in extractor.specs]
    found = extractor.extract(sound, Recording("benchmark", Path("benchmark"), ""), views)
    return sum(len(columns) for columns in found.values())


# --- whole recordings -----------------------------------------------------------------------


class Whole:
    """Recordings of OGG Vorbis on disk, measured with their decoding."""

    def __init__(self, samples: np.ndarray, folder: Path, copies: int) -> None:
        import soundfile  # noqa: PLC0415 - as above

        from birdstack.features.acoustic import AcousticConfig  # noqa: PLC0415 - as above
        from birdstack.features.audio import AudioConfig, AudioSource  # noqa: PLC0415 - as above
        from birdstack.features.fast_acoustic import FastAcousticExtractor  # noqa: PLC0415
        from birdstack.store.keys import WindowGrid  # noqa: PLC0415 - as above
        from birdstack.store.recordings import Recording  # noqa: PLC0415 - as above

        self.source = AudioSource(AudioConfig(sample_rate_hz=RATE_HZ, isolate=False))
        self.extractor = FastAcousticExtractor(
            AcousticConfig(), {"sample_rate_hz": RATE_HZ}, WindowGrid()
        )
        self.recordings = []
        for copy in range(copies):
            path = folder / f"{copy}.ogg"
            with soundfile.SoundFile(path, "w", RATE_HZ, 1, format="OGG", subtype="VORBIS") as file:
                for start in range(0, len(samples), RATE_HZ):  # libsndfile's stack is small
                    file.write(samples[start : start + RATE_HZ])
            self.recordings.append(Recording(path.name, path, ""))

    def one(self, recording: Any) -> int:
        """Decode a recording and measure all of it."""
        return measured(self.extractor, self.source.open(recording))

    def decode(self) -> None:
        """Decode one recording."""
        self.source.open(self.recordings[0])

    def all(self, threads: int) -> None:
        """Every recording, by that many threads that each take a whole one."""
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(self.one, self.recordings))


def shares(samples: np.ndarray, rounds: int) -> dict[str, float]:
    """Milliseconds a window of the transform, each kernel and the rest, the best of rounds."""
    import numpy as np  # noqa: PLC0415 - as above

    from birdstack.features.acoustic import AcousticConfig  # noqa: PLC0415 - as above
    from birdstack.features.audio import Sound  # noqa: PLC0415 - as above
    from birdstack.features.fast_acoustic import FastAcousticExtractor  # noqa: PLC0415
    from birdstack.store.keys import WindowGrid  # noqa: PLC0415 - as above

    grid = WindowGrid()
    extractor = FastAcousticExtractor(AcousticConfig(), {"sample_rate_hz": RATE_HZ}, grid)
    sound = Sound(samples, RATE_HZ, grid)
    measured(extractor, sound)
    spent: dict[str, float] = {}
    spectral = extractor._pass().spectral  # noqa: SLF001 - to look inside is the purpose
    plain, transform = spectral.kernels, np.fft.rfft

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            began = time.thread_time()
            result = work(*arguments, **options)
            spent[name] = spent.get(name, 0.0) + time.thread_time() - began
            return result

        return run

    vars(spectral)["kernels"] = {name: timed(name, kernel) for name, kernel in plain.items()}
    np.fft.rfft = timed("FFT", transform)
    best: dict[str, float] = {}
    for _ in range(rounds):
        spent.clear()
        began = time.thread_time()
        measured(extractor, sound)
        spent["all"] = time.thread_time() - began
        for name, seconds in spent.items():
            best[name] = min(best.get(name, seconds), seconds)
    vars(spectral)["kernels"], np.fft.rfft = plain, transform
    total = best.pop("all")
    best["numpy and Python"] = max(total - sum(best.values()), 0.0)
    return {name: 1e3 * seconds / sound.n_windows for name, seconds in best.items()}


# --- the report -----------------------------------------------------------------------------


def run(data: Path, windows: int, rounds: int) -> dict[str, Any]:
    """Every figure of the report."""
    warnings.filterwarnings("ignore")  # of the libraries compared
    samples, kind = sound_of(data, 5 * windows)
    ways = arms(samples)
    columns = {name: way() for name, way in ways.items()}
    timings = timing.interleaved(ways, rounds)
    long, _ = sound_of(data, 240)
    figures: dict[str, Any] = {
        "machine": timing.machine(*LIBRARIES),
        "sound": f"{windows} windows of 5 s, {kind}, {rounds} rounds",
        "windows": windows,
        "arms": {
            name: {"cpu_s": each.cpu_s, "wall_s": each.wall_s, "columns": columns[name]}
            for name, each in timings.items()
        },
        "shares_ms": shares(samples, max(rounds, 9)),
    }
    with tempfile.TemporaryDirectory() as folder:
        whole = Whole(long, Path(folder), 4)
        steps = timing.interleaved(
            {"whole": lambda: whole.one(whole.recordings[0]), "decode": whole.decode}, rounds
        )
        figures["recording"] = {name: each.cpu for name, each in steps.items()}
        figures["threads"] = two_threads(whole, max(rounds, 9))
    return figures


def two_threads(whole: Whole, rounds: int) -> dict[str, Any]:
    """Wall and CPU seconds of the same recordings by one thread and by two, in turns."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    ways = {"1": lambda: whole.all(1), "2": lambda: whole.all(2)}
    found = timing.interleaved(ways, rounds)
    return {name: {"cpu_s": each.cpu_s, "wall_s": each.wall_s} for name, each in found.items()}


def markdown(figures: dict[str, Any]) -> str:
    """The report."""
    windows, arms_ = figures["windows"], figures["arms"]
    cpu = {name: Timing(each["cpu_s"], each["wall_s"]).cpu for name, each in arms_.items()}
    rows = [
        [
            name,
            str(arms_[name]["columns"]),
            f"{1e3 * seconds / windows:.3g}",
            f"{windows / seconds:.3g}",
            f"{seconds / cpu[FUSED]:.2g}",
        ]
        for name, seconds in sorted(cpu.items(), key=lambda item: item[1])
    ]
    head = ["arm", "columns", "CPU ms a window", "windows a CPU second", "times fused float64"]
    shares_ms = figures["shares_ms"]
    total_ms = sum(shares_ms.values())
    slices = [
        [name, f"{ms:.2f}", f"{ms / total_ms:.0%}"]
        for name, ms in sorted(shares_ms.items(), key=lambda item: -item[1])
        if ms > 0.01 * total_ms
    ]
    whole_s, decode_s = figures["recording"]["whole"], figures["recording"]["decode"]
    walls = {name: each["wall_s"] for name, each in figures["threads"].items()}
    cpus = {name: each["cpu_s"] for name, each in figures["threads"].items()}
    pairs = [one / two for one, two in zip(walls["1"], walls["2"], strict=True)]
    return "\n\n".join(
        [
            f"{figures['sound']}. {figures['machine']}",
            markdown_table(head, rows),
            (
                f"A soundscape of 240 s, OGG Vorbis, with its decoding: {whole_s:.3f} CPU s, "
                f"**{240 / whole_s:.0f} s of sound in a CPU second**; decoding is "
                f"{decode_s / whole_s:.0%} of it."
            ),
            (
                f"Four such recordings, wall seconds, {len(pairs)} rounds in turns: one thread "
                f"{statistics.median(walls['1']):.2f}, two threads {statistics.median(walls['2']):.2f}: "
                f"**{statistics.median(pairs):.2f} times** (median of pairs; best round against best "
                f"round {min(walls['1']) / min(walls['2']):.2f}; CPU seconds "
                f"{statistics.median(cpus['1']):.2f} and {statistics.median(cpus['2']):.2f})."
            ),
            "Where a window's time goes, best of the rounds:",
            markdown_table(["step", "ms", "share"], slices),
        ]
    )


def main() -> None:
    """Run, print, and write if asked to."""
    timing.one_thread()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    asked = parser.parse_args()
    figures = run(asked.data, asked.windows, asked.rounds)
    report = markdown(figures)
    print(report)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1), "utf-8")
    if asked.write:
        timing.write_section(DOCUMENT, "acoustic", report)


if __name__ == "__main__":
    main()
