"""Make the saved stacks of tests/golden/stack: `PYTHONPATH=tests python -m support.golden_stack`.

To be done where the format of a saved stack changes on purpose, and never to make a test pass:
a stack that somebody saved with an earlier version has to predict what it did.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
from support.small_stacks import as_frame

from birdstack.stacking.stack_folder import save_stack
from birdstack.stacking.stack_table import StackTable
from birdstack.stacking.stacker import Stacker

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "stack"
BOOSTERS = ("lightgbm", "xgboost")


def table() -> StackTable:
    """Two backbones, one of which lacks a class; a gap in a recording; columns with holes."""
    rng = np.random.default_rng(2024)
    recordings, windows = 24, 3
    rows = recordings * windows
    truth = (rng.random((rows, 3)) < 0.35).astype(np.int8)
    rain = rng.normal(0, 2, rows)
    logits = 1.5 * truth + rain[:, None] + rng.normal(0, 1, (2, rows, 3))
    logits[1, :, 2] = np.nan
    extra = np.stack([rain, rng.normal(0, 1, rows)], axis=1)
    extra[::9, 1] = np.nan
    index = np.tile([0, 1, 2], recordings)
    index[2] = 4
    names = [f"r{number:02d}" for number in range(recordings)]
    return StackTable(
        recording_ids=names,
        windows=np.full(recordings, windows),
        groups=names,
        fold=np.arange(recordings) % 2,
        backbones=("net", "other"),
        classes=("robin", "wren", "dunnock"),
        logits=logits.astype(np.float32),
        truth=truth,
        extra=extra.astype(np.float32),
        extra_names=("rain", "wind"),
        window_index=index.astype(np.int32),
    )


def make(folder: Path) -> None:
    """Write the table, a stack of each library, and what each says of the table."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    given = table()
    as_frame(given).write_parquet(folder / "table.parquet")
    for booster in BOOSTERS:
        stacker = Stacker(
            booster=booster, ship="stack", trees=(4,), leaves=4, shared_trees=4, shared_leaves=4,
            negatives=60, resamples=50,
        ).fit(given)  # fmt: skip
        save_stack(stacker.shipped_, folder / booster, made_from={"table": "table.parquet"})
        scores = pl.DataFrame(stacker.predict(given), schema=list(given.classes))
        scores.insert_column(0, pl.Series("window", given.index))
        scores.write_parquet(folder / f"{booster}.parquet")


if __name__ == "__main__":
    make(GOLDEN)
