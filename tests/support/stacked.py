"""A small store that a stack can be fitted on: toy network, simulated and test soundscapes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
from support.birds import make_birds
from support.command import birdstack

TOY = [{"name": "toy", "kind": "fake"}]
QUICK = ["--set", f"networks.define={json.dumps(TOY)}", "--set", 'acoustic.groups=["wave"]']
QUICK += ["--set", "views.place=false", "--executor", "serial", "--backbones", "toy"]
FOLDS, TEST_FILES = 3, 2


def make_stackable(root: Path) -> Path:
    """Write `birds` (with `test_soundscapes` and their truth) and `store` below a folder."""
    birds = make_birds(root / "birds", species=3, clips=6, soundscapes=3)
    pool = sorted((birds / "unlabeled_soundscapes").iterdir())
    (birds / "test_soundscapes").mkdir()
    for number, path in enumerate(pool[:TEST_FILES]):
        shutil.move(path, birds / "test_soundscapes" / f"night_{number}{path.suffix}")
    store = root / "store"
    for words in (
        ("ingest", birds, "--store", store, "--folds", FOLDS),
        ("simulate", "--store", store, "--per-fold", 2, "--duration", 40),
        ("features", "--store", store, *QUICK),
    ):
        ran = birdstack(*words)
        assert ran.code == 0, ran.err
    return root


def write_truth(path: Path, ids: list[str], classes: list[str], seed: int = 0) -> None:
    """Labels drawn by chance, as a table with `row_id`."""
    drawn = np.random.default_rng(seed).integers(0, 2, (len(ids), len(classes)))
    columns = {name: drawn[:, i] for i, name in enumerate(classes)}
    pl.DataFrame({"row_id": ids, **columns}).write_csv(path)
