"""Sounds to measure, made up and real, and the acoustic views of them; nothing here is a test."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from birdstack.features.acoustic import AcousticConfig, AcousticExtractor, flat
from birdstack.features.audio import AudioConfig, AudioSource, Sound
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording
from birdstack.store.views import Column

RATE_HZ = 32000
AUDIO = {"sample_rate_hz": RATE_HZ}
GRID = WindowGrid()
RECORDING = Recording("train_audio/asbfly/XC1.ogg", Path("XC1.ogg"), "")


def extractor_of(grid: WindowGrid = GRID, **settings_) -> AcousticExtractor:
    """An extractor at 32 kHz."""
    return AcousticExtractor(AcousticConfig(**settings_), AUDIO, grid)


def columns_of(extractor: AcousticExtractor) -> list[Column]:
    """Columns of all its views, side by side."""
    return [column for spec in extractor.specs for column in spec.columns]


def extract_all(extractor: AcousticExtractor, sound: Sound) -> dict[str, np.ndarray]:
    """Every column of every view of one sound."""
    return flat(extractor.extract(sound, RECORDING, [spec.name for spec in extractor.specs]))


def extract(samples, grid: WindowGrid = GRID, **settings_) -> dict[str, np.ndarray]:
    """Every column of the views of `samples`."""
    sound = Sound(np.asarray(samples, dtype=np.float32), RATE_HZ, grid)
    return extract_all(extractor_of(grid, **settings_), sound)


def hear(path: Path) -> np.ndarray:
    """A real recording at 32 kHz, `[sample]`."""
    content_hash = hashlib.sha256(path.read_bytes()).hexdigest()
    with AudioSource(AudioConfig(isolate=False), GRID) as source:
        return np.asarray(source.open(Recording(path.name, path, content_hash)).samples)


def scene(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise that swells, with calls in it: `[sample]` float32, peaks near .5."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    noise = rng.normal(0, 0.02, len(time_s)) * (1.5 + np.sin(2 * np.pi * 0.07 * time_s))
    gate = np.sin(2 * np.pi * 0.9 * time_s) > 0.6
    call = 0.3 * gate * np.sin(2 * np.pi * (4000 * time_s + 300 * np.sin(9 * time_s)))
    return (noise + call).astype(np.float32)
