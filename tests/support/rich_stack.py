"""A table on which a stack pays: extra columns say what no score does."""

from __future__ import annotations

import numpy as np

from birdstack.stacking.stack_table import StackTable

QUICK: dict[str, object] = {
    "resamples": 100,
    "shared_trees": 20,
    "trees": (10, 20),
    "negatives": 400,
}
"""Parameters of a `Stacker` that is fitted in a second."""


def rich(n_recordings: int = 240, seed: int = 0) -> StackTable:
    """Two classes whose extra columns say what no score does: a stack must win here."""
    rng = np.random.default_rng(seed)
    windows = np.full(n_recordings, 5)
    rows = int(windows.sum())
    truth = (rng.random((rows, 4)) < 0.15).astype(np.int8)
    rain = rng.normal(0, 3, rows)
    heard = 1.2 * truth + rain[:, None] + rng.normal(0, 1, (rows, 4))
    names = [f"r{number:04d}" for number in range(n_recordings)]
    return StackTable(
        recording_ids=names,
        windows=windows,
        groups=names,
        fold=np.arange(n_recordings) % 4,
        backbones=("net",),
        classes=("a", "b", "c", "d"),
        logits=heard[None].astype(np.float32),
        truth=truth,
        extra=np.stack([rain, np.full(rows, 3.0), np.full(rows, np.inf)], 1).astype(np.float32),
        extra_names=("rain", "constant", "infinite"),
    )
