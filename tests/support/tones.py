"""Whistles in memory, and a small network that learns them in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.mel_config import MelConfig
from birdstack.embeddings.train_config import TrainConfig
from birdstack.embeddings.training_set import TrainingSet
from birdstack.features.audio import Sound
from birdstack.store.errors import SkipRecording
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording

RATE_HZ = 8_000
GRID = WindowGrid(window_s=1.0, hop_s=1.0)
MEL = MelConfig(
    sample_rate_hz=RATE_HZ, n_fft=256, hop=250, n_mels=32, fmin_hz=100, fmax_hz=4000, width=32
)
BACKBONE = BackboneConfig(
    name="small", model="test_efficientnet", weights="random", mode="full", mel=MEL
)
QUICK = TrainConfig(
    epochs=6, epoch_windows=48, batch_size=8, lr=3e-3, device="cpu", threads=2, log_every=2
)


class ToneSource:
    """Opens `class/number` as a whistle at the class's pitch in noise.

    Args:
        broken: recording ids that cannot be decoded.
        poison: recording ids of which every sample is NaN.
        duration_s: of every recording; they differ by a tenth of a second.
    """

    def __init__(
        self,
        broken: frozenset[str] = frozenset(),
        poison: frozenset[str] = frozenset(),
        duration_s: float = 2.2,
    ) -> None:
        self.broken = broken
        self.poison = poison
        self.duration_s = duration_s
        self.opened: list[str] = []

    def open(self, recording: Recording) -> Sound:
        """A sound that is the same every time."""
        name = recording.recording_id
        self.opened.append(name)
        if name in self.broken:
            code, reason = "decode_error", "made so"
            raise SkipRecording(code, reason)
        label, number = (int(part) for part in name.split("/"))
        rng = np.random.default_rng((label, number))
        time_s = np.arange(round((self.duration_s + 0.1 * (number % 5)) * RATE_HZ)) / RATE_HZ
        whistle = np.sin(2 * np.pi * (500 + 700 * label + 20 * number) * time_s)
        samples = (0.3 * whistle + 0.05 * rng.normal(size=len(time_s))).astype(np.float32)
        if name in self.poison:
            samples[:] = np.nan
        return Sound(samples, RATE_HZ, GRID)


def tone_set(classes: int = 3, clips: int = 6, folds: int = 2) -> TrainingSet:
    """Clips of each class, dealt out to folds in turn."""
    pairs = [(label, number) for label in range(classes) for number in range(clips)]
    recordings = [
        Recording(f"{label}/{number}", Path(f"{label}/{number}"), f"{label}{number}")
        for label, number in pairs
    ]
    labels = np.zeros((len(pairs), classes), np.int8)
    labels[np.arange(len(pairs)), [label for label, _ in pairs]] = 1
    fold = np.array([number % folds for _, number in pairs])
    names = tuple(f"bird{label}" for label in range(classes))
    return TrainingSet(recordings, fold, labels, names)
