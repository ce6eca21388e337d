"""How far each acoustic column moves when what is heard stays the same.

Real recordings (xc10, ESC-10, a day of soundscapes) are heard as they are and four times
changed: 20 dB softer, through OGG Vorbis, through MP3, and cut into windows 8 ms later. For
each column the mean absolute change is divided by the standard deviation between windows.

    python benchmarks/robustness.py --data ../shared/data

With `--write` the result replaces `features/robustness.json`, which the reference of the
features shows. Most of the recordings have been through one codec before: what the first
pass took away cannot be measured here, so the codec figures are lower limits.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soundfile as sf

from birdstack.features.acoustic import AcousticConfig, AcousticExtractor, flat
from birdstack.features.audio import AudioConfig, AudioSource, Sound
from birdstack.features.robustness import PATH
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording

REPO = Path(__file__).resolve().parent.parent
DEFAULT_DATA = Path(os.environ.get("BIRDSTACK_TEST_DATA", REPO.parent / "shared" / "data"))
RATE_HZ = 32000
SHIFT = round(0.008 * RATE_HZ)
PATTERNS = {
    "xc10": ("xc10/train_audio/*/*.mp3", 2),
    "esc10": ("esc10/train_audio/*/*.ogg", 5),
    "soundscapes": ("soundscapes/unlabeled_soundscapes/*.wav", 1),
}
GRID = WindowGrid()
Columns = dict[str, np.ndarray]


def through(samples: np.ndarray, container: str, subtype: str) -> np.ndarray:
    """Encode and decode `samples`, aligned with them, at the encoder's default quality."""
    buffer = io.BytesIO()
    with sf.SoundFile(buffer, "w", RATE_HZ, 1, subtype, format=container) as writer:
        for start in range(0, len(samples), RATE_HZ):  # libsndfile fails on long Vorbis writes
            writer.write(samples[start : start + RATE_HZ])
    buffer.seek(0)
    decoded, _ = sf.read(buffer, dtype="float32")
    return aligned(decoded, samples)


def aligned(decoded: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """`decoded` without the delay of its encoder, as long as `samples`."""
    size = 1 << (len(samples) + len(decoded)).bit_length()
    spectrum = np.fft.rfft(decoded, size) * np.fft.rfft(samples, size).conj()
    lag = int(np.fft.irfft(spectrum, size).argmax())
    lag -= size if lag > size // 2 else 0
    kept = decoded[lag:] if lag >= 0 else np.pad(decoded, (-lag, 0))
    return np.pad(kept, (0, max(len(samples) - len(kept), 0)))[: len(samples)]


CHANGES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]]
CHANGES = {
    "gain": (lambda samples: samples, lambda samples: samples * np.float32(0.1)),
    "ogg": (lambda samples: samples, lambda samples: through(samples, "OGG", "VORBIS")),
    "mp3": (lambda samples: samples, lambda samples: through(samples, "MP3", "MPEG_LAYER_III")),
    # Both lose 8 ms, at different ends: windows hold equally much padding.
    "shift": (lambda samples: samples[:-SHIFT], lambda samples: samples[SHIFT:]),
}
"""Each change: how the sound is heard before and after it."""


def recordings(data: Path) -> dict[str, list[Path]]:
    """The files of each data set; every second or fifth of the larger ones."""
    return {name: sorted(data.glob(glob))[::step] for name, (glob, step) in PATTERNS.items()}


def sounds(files: list[Path]) -> Iterator[np.ndarray]:
    """Samples at 32 kHz of each file."""
    with AudioSource(AudioConfig(isolate=False), GRID) as source:
        for path in files:
            content_hash = hashlib.sha256(path.read_bytes()).hexdigest()
            yield np.asarray(source.open(Recording(path.name, path, content_hash)).samples)


def measure(extractor: AcousticExtractor, samples: np.ndarray) -> Columns:
    """Every column of every window."""
    sound = Sound(np.ascontiguousarray(samples), RATE_HZ, GRID)
    views = [spec.name for spec in extractor.specs]
    return flat(extractor.extract(sound, Recording("sound", Path("sound"), ""), views))


def shifts(extractor: AcousticExtractor, files: list[Path]) -> tuple[int, dict[str, Columns]]:
    """Number of windows, and for each change each column's mean change in between-window sd."""
    plain: list[Columns] = []
    moved: dict[str, list[Columns]] = {name: [] for name in CHANGES}
    for samples in sounds(files):
        heard = measure(extractor, samples)
        plain.append(heard)
        for name, (before, after) in CHANGES.items():
            base = measure(extractor, before(samples)) if name == "shift" else heard
            changed = measure(extractor, after(samples))
            moved[name].append(
                {column: np.abs(changed[column].astype(float) - base[column]) for column in base}
            )
    spread = {
        column: np.concatenate([each[column] for each in plain]).std(dtype=float)
        for column in plain[0]
    }
    found = {
        name: {
            column: np.concatenate([each[column] for each in values]).mean() / spread[column]
            for column in spread
        }
        for name, values in moved.items()
    }
    return sum(len(next(iter(each.values()))) for each in plain), found


def main() -> None:
    """Measure, print the most fragile columns, write on demand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--write", action="store_true", help="replace features/robustness.json")
    arguments = parser.parse_args()
    files = recordings(arguments.data)
    if not all(files.values()):
        missing = ", ".join(name for name, paths in files.items() if not paths)
        parser.error(f"no recordings of {missing} at {arguments.data}: name the folder with --data")
    start_s = time.process_time()
    extractor = AcousticExtractor(AcousticConfig(), {"sample_rate_hz": RATE_HZ}, GRID)
    windows, found = shifts(extractor, [path for paths in files.values() for path in paths])
    names = list(found["gain"])
    for change, values in found.items():
        ranked = sorted(names, key=lambda column: -values[column])
        over = sum(values[column] > 0.5 for column in names)
        worst = ", ".join(f"{column} {values[column]:.2f}" for column in ranked[:8])
        median = np.median([values[column] for column in names])
        print(f"{change:6} median {median:.3f}, {over} of {len(names)} over .5: {worst}")
    print(f"{windows} windows, {time.process_time() - start_s:.0f} CPU s")
    if arguments.write:
        content = {
            "command": "python benchmarks/robustness.py --data ../shared/data --write",
            "unit": "mean |change| / standard deviation between windows",
            "recordings": {name: len(paths) for name, paths in files.items()},
            "windows": windows,
            "encoders": {
                "soundfile": version("soundfile"),
                "libsndfile": sf.__libsndfile_version__,
            },
            "columns": {
                name: {change: round(float(found[change][name]), 4) for change in CHANGES}
                for name in names
            },
        }
        PATH.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
