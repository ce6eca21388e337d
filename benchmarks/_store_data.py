"""The data that every arm of benchmarks/store.py gets: keys, columns, logits, embeddings."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_LATENT = 48
_BLOCK = 20_000
_LONGEST = 602


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    windows: int
    recordings: int
    columns: int
    group: int
    classes: int
    dim: int


@dataclass(frozen=True)
class Data:
    """Arrays in the order of (recording, window).

    Attributes:
        sizes: what was asked for.
        ids: recording ids, sorted.
        counts: windows of each recording.
        views: `acoustic` and `logits` `[window, column]`, `embedding` `[window, dim]`.
        names: names of the columns of `acoustic` and `logits`.
    """

    sizes: Sizes
    ids: list[str]
    counts: np.ndarray
    views: dict[str, np.ndarray]
    names: dict[str, list[str]]

    @property
    def firsts(self) -> np.ndarray:
        """First row of each recording."""
        return np.cumsum(self.counts) - self.counts

    @property
    def group(self) -> list[str]:
        """The acoustic columns that are read together."""
        return self.names["acoustic"][: self.sizes.group]

    @property
    def one_class(self) -> str:
        """The class whose logits are read."""
        return self.names["logits"][self.sizes.classes // 2]

    @property
    def middle(self) -> int:
        """A recording of the usual length near the middle of the store."""
        half = len(self.ids) // 2
        usual = float(np.median(self.counts))
        near = range(half, min(half + 50, len(self.ids)))
        return min(near, key=lambda i: abs(float(self.counts[i]) - usual))

    def keys(self) -> dict[str, np.ndarray]:
        """`recording_id` and `window` of every row."""
        owner = np.repeat(np.arange(len(self.ids)), self.counts)
        window = np.arange(len(owner)) - self.firsts[owner]
        return {
            "recording_id": np.array(self.ids)[owner],
            "window": window.astype(np.int32),
        }


def content_hash(recording_id: str) -> str:
    """Stands for the hash of a file that does not exist."""
    return hashlib.sha256(recording_id.encode()).hexdigest()


def generate(sizes: Sizes, folder: Path, seed: int = 0) -> Data:
    """Synthetic windows: slow latents, mixed into columns, logits and SiLU-like embeddings.

    Neighbouring windows resemble each other, embeddings have the lopsided distribution of a
    network's activations. The embeddings lie in an npy file, the rest in memory.
    """
    rng = np.random.default_rng(seed)
    counts = _counts(rng, sizes)
    ids = [f"train_audio/c{i // 40:03d}/XC{i:06d}.ogg" for i in range(len(counts))]
    latent = rng.standard_normal((sizes.windows, _LATENT)).astype(np.float32)
    for row in range(1, sizes.windows):
        latent[row] = 0.8 * latent[row - 1] + 0.6 * latent[row]
    mixers = {
        name: rng.standard_normal((_LATENT, width)).astype(np.float32) / 5
        for name, width in {
            "acoustic": sizes.columns,
            "logits": sizes.classes,
            "embedding": sizes.dim,
        }.items()
    }
    scale = np.exp(rng.normal(0, 3, sizes.columns)).astype(np.float32)
    views = {
        "acoustic": (latent @ mixers["acoustic"] + 3) * scale,
        "logits": np.asfortranarray(latent @ mixers["logits"] * 3 - 4),
        "embedding": np.lib.format.open_memmap(
            folder / "embedding.npy",
            mode="w+",
            dtype=np.float32,
            shape=(sizes.windows, sizes.dim),
        ),
    }
    for first in range(0, sizes.windows, _BLOCK):
        rows = slice(first, first + _BLOCK)
        mixed = latent[rows] @ mixers["embedding"]
        mixed += 0.3 * rng.standard_normal(mixed.shape, dtype=np.float32)
        views["embedding"][rows] = mixed / (1 + np.exp(-mixed))
    names = {
        "acoustic": [f"f{i:03d}" for i in range(sizes.columns)],
        "logits": [f"class{i:03d}" for i in range(sizes.classes)],
    }
    return Data(sizes, ids, counts, views, names)


def _counts(rng: np.random.Generator, sizes: Sizes) -> np.ndarray:
    """Windows of each recording: log-normal, 1 to 602, summing to what was asked for."""
    raw = np.exp(rng.normal(0, 0.9, sizes.recordings))
    for _ in range(20):  # clipping moves the sum: a few corrections bring it back
        counts = np.clip(np.round(raw * sizes.windows / raw.sum()), 1, _LONGEST)
        raw = counts + 1e-3
    counts = counts.astype(np.int64)
    order = rng.permutation(sizes.recordings)
    while (left := sizes.windows - int(counts.sum())) != 0:
        step = 1 if left > 0 else -1
        able = [i for i in order if 1 <= counts[i] + step <= _LONGEST][: abs(left)]
        counts[able] += step
    return counts
