"""A small synthetic dataset in BirdCLEF layout, for tests that need real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile as sf

SAMPLE_RATE_HZ = 32_000
HEADER = "primary_label,secondary_labels,latitude,longitude,author,rating,filename"


def make_birds(
    root: Path,
    *,
    species: int = 3,
    clips: int = 4,
    soundscapes: int = 1,
    duration_s: float = 7.6,
    seed: int = 0,
) -> Path:
    """Write a dataset and return its folder.

    Each species whistles at a pitch of its own; clips of one species come from two authors.
    """
    rng = np.random.default_rng(seed)
    (root / "train_audio").mkdir(parents=True)
    lines = [HEADER]
    for s in range(species):
        label = f"bird{s}"
        (root / "train_audio" / label).mkdir()
        for c in range(clips):  # lengths differ, or clips of one author would be near duplicates
            name = f"{label}/XC{s}{c:03d}.ogg"
            _write(root / "train_audio" / name, rng, 1500.0 + 900.0 * s, duration_s + 0.1 * c)
            secondary = f"\"['bird{(s + 1) % species}']\"" if c == 0 and species > 1 else "[]"
            lines.append(f"{label},{secondary},{40 + s}.5,-{c}.25,author {s}{c % 2},4.0,{name}")
    (root / "train_metadata.csv").write_text("\n".join(lines) + "\n", "utf-8")
    if soundscapes:
        (root / "unlabeled_soundscapes").mkdir()
    for i in range(soundscapes):
        name = f"unlabeled_soundscapes/SITE{i}_20240501_0{i % 10}3000.ogg"
        _write(root / name, rng, 3000.0, 2.5 * duration_s)
    return root


def _write(path: Path, rng: np.random.Generator, pitch_hz: float, duration_s: float) -> None:
    time_s = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    song = 0.2 * np.sin(2 * np.pi * pitch_hz * time_s) * (np.sin(2 * np.pi * 2 * time_s) > 0)
    noise = 0.01 * rng.normal(size=len(time_s))
    sf.write(path, (song + noise).astype(np.float32), SAMPLE_RATE_HZ, format="OGG")
