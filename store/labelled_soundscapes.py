"""Labelled soundscapes in a store: real ones, whose labels have times.

They have a fold, but no network is trained on them: like simulated soundscapes they are left
to the stackers, for whom every fold model's scores of them are then out-of-fold. Few stretches
of a few sites would otherwise teach networks the sites, and the stackers would learn from
scores that are better than those of any site to come.
"""

from __future__ import annotations

import polars as pl

from birdstack.store.simulated import SIMULATED
from birdstack.store.snapshot import Snapshot

SOUNDSCAPE = "soundscape"
"""Kind of a recording that is no close-up of one animal."""

_ID = "recording_id"


def is_labelled_soundscape() -> pl.Expr:
    """Whether a row of `recordings` is a labelled real soundscape."""
    return ((pl.col("kind") == SOUNDSCAPE) & (pl.col("split") == "train")).fill_null(value=False)


def labelled_soundscapes(snapshot: Snapshot, table: pl.DataFrame) -> pl.DataFrame:
    """Rows of a table with `recording_id` that are of labelled real soundscapes."""
    ids = snapshot.table("recordings").filter(is_labelled_soundscape()).select(_ID)
    return table.join(ids, on=_ID, how="semi", maintain_order="left")


def for_networks(snapshot: Snapshot, table: pl.DataFrame) -> pl.DataFrame:
    """Rows of a table with `recording_id` that networks may learn from: of no soundscape."""
    simulated = (pl.col("split") == SIMULATED).fill_null(value=False)
    ids = snapshot.table("recordings").filter(is_labelled_soundscape() | simulated).select(_ID)
    return table.join(ids, on=_ID, how="anti", maintain_order="left")
