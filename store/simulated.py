"""Simulated soundscapes in the store: strong labels, and the fold that all their clips are of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from birdstack.store.audio_files import FoundFile, read_facts
from birdstack.store.commit import Commit
from birdstack.store.errors import StoreError
from birdstack.store.fault_rules import RejectLog
from birdstack.store.folds import Split
from birdstack.store.recordings import Probe
from birdstack.store.snapshot import Snapshot
from birdstack.store.split_table import (
    SPLIT_TABLE,
    read_split_recipe,
    split_key,
    write_split_recipe,
)
from birdstack.store.store import Store
from birdstack.store.table_writer import write_tables
from birdstack.store.tables import DATASETS, FOLDS, LABELS, RECORDINGS

SIMULATED = "simulated"
"""Split, dataset and layout of soundscapes that were mixed from the store's own recordings."""

_ID = "recording_id"


def add_simulated(
    store: Store,
    root: Path,
    *,
    labels: pl.DataFrame,
    fold_of: Mapping[str, int],
    probe: Probe,
    threads: int,
    info: Mapping[str, Any],
) -> Commit | None:
    """Enter simulated soundscapes as recordings with strong labels and a fold.

    Those of an earlier run are replaced. Each is a group of its own; its fold is the one that
    all its clips are of, so the model of that fold has met nothing in it.

    Args:
        store: that the clips are of.
        root: folder that the recording ids are paths below.
        labels: rows of `tables.LABELS`, with times.
        fold_of: recording_id -> fold, for every soundscape.
        probe: reads audio headers.
        threads: files read at a time.
        info: kept in the commit.

    Returns:
        The commit, None if the store held all of it already.

    Raises:
        StoreError: the store has no folds, a dataset named `simulated` is something else, or
            a file cannot be read.
    """
    snapshot = store.snapshot()
    split = read_split_recipe(snapshot)
    if split is None:
        message = f"{store.url}: has no folds that simulated soundscapes could lie in"
        raise StoreError(message, remedy="ingest labelled recordings first")
    _refuse_namesake(snapshot)
    recordings = _recordings(snapshot, root, fold_of, probe=probe, threads=threads)
    folds = snapshot.table(SPLIT_TABLE)
    real = folds.join(_simulated(snapshot.table("recordings")), on=_ID, how="anti")
    own = pl.DataFrame(
        {_ID: list(fold_of), "fold": list(fold_of.values()), "group": list(fold_of)}, schema=FOLDS
    )
    frame = pl.concat([real, own]).sort(_ID)
    key = split_key(frame)
    write_split_recipe(store, key, split["recipe"], split["report"])
    row = {
        "dataset": SIMULATED,
        "root": str(root.resolve()),
        "layout": SIMULATED,
        "table": None,
        "fold_column": None,
        "rows": recordings.height,
        "recordings": recordings.height,
        "rejected": 0,
    }
    frames = {
        ("recordings", SIMULATED): recordings,
        ("labels", SIMULATED): labels.select(LABELS.names()).unique().sort(LABELS.names()),
        ("datasets", SIMULATED): pl.DataFrame([row], schema=DATASETS, orient="row"),
        (SPLIT_TABLE, key): frame,
    }
    return write_tables(store, frames, operation="simulate", info=info, activate={SPLIT_TABLE: key})


def carry_simulated(snapshot: Snapshot, recordings: pl.DataFrame, split: Split) -> Split:
    """Keep simulated soundscapes in a new split, if they are still of one fold each.

    Where a recording has moved to another fold, or its group now spans folds, nobody can
    say any more that a fold's model has met none of the clips: all of them leave the split.

    Args:
        snapshot: with the split before.
        recordings: of the store as it will be.
        split: of the real recordings.
    """
    before = snapshot.table(SPLIT_TABLE)
    own = before.join(_simulated(recordings), on=_ID, how="semi")
    if own.is_empty():
        return split
    # Clips are of focal recordings: what becomes of labelled soundscapes does not matter here.
    clipped = recordings.filter(~(pl.col("kind") == "soundscape").fill_null(value=False))
    real = before.join(own, on=_ID, how="anti").join(clipped.select(_ID), on=_ID, how="semi")
    moved = real.join(split.frame, on=_ID, suffix="_now").filter(
        pl.col("fold") != pl.col("fold_now")
    )
    parted = spanning(split.frame).join(real, on=_ID, how="semi")
    parted = parted.join(spanning(real), on=_ID, how="anti")
    if len(moved) or len(parted):
        note = (
            f"{len(own)} simulated soundscapes have left the folds: {len(moved) + len(parted)} "
            "recordings that they may be mixed from are in other folds now; simulate them again"
        )
        report = {**split.report, "notes": [*split.report["notes"], note]}
        return dataclasses.replace(split, report=report)
    return dataclasses.replace(split, frame=pl.concat([split.frame, own]).sort(_ID))


def spanning(folds: pl.DataFrame) -> pl.DataFrame:
    """`recording_id` of those whose group lies in several folds."""
    return folds.filter(pl.col("fold").n_unique().over("group") > 1).select(_ID)


def real_recordings(snapshot: Snapshot, table: pl.DataFrame) -> pl.DataFrame:
    """Rows of a table with `recording_id`, without those of simulated soundscapes."""
    return table.join(_simulated(snapshot.table("recordings")), on=_ID, how="anti")


def _simulated(recordings: pl.DataFrame) -> pl.DataFrame:
    return recordings.filter(pl.col("split") == SIMULATED).select(_ID)


def _refuse_namesake(snapshot: Snapshot) -> None:
    recordings = snapshot.table("recordings").filter(pl.col("dataset") == SIMULATED)
    if len(recordings.filter(pl.col("split") != SIMULATED)):
        message = f"{snapshot.files.url}: a dataset of recordings is named {SIMULATED!r} already"
        raise StoreError(message, remedy="ingest that dataset under another name into a new store")


def _recordings(
    snapshot: Snapshot, root: Path, names: Mapping[str, int], *, probe: Probe, threads: int
) -> pl.DataFrame:
    """Rows of RECORDINGS, with what their files say; unchanged files are not read again."""
    known = snapshot.table("recordings")
    files = []
    for name in sorted(names):
        status = (root / name).stat()
        files.append(FoundFile(name, status.st_size, status.st_mtime_ns))
    log = RejectLog(SIMULATED)
    facts, _ = read_facts(
        root,
        files,
        probe=probe,
        known=known.filter(pl.col("dataset") == SIMULATED),
        threads=threads,
        log=log,
        progress=None,
    )
    if len(facts) < len(files):
        first = log.frame().row(0, named=True)
        message = f"{root / first['file']}: {first['reason']}"
        raise StoreError(message, remedy="delete that file: the next run makes it again")
    taken = facts.join(known.filter(pl.col("dataset") != SIMULATED), on=_ID, how="semi")
    if len(taken):
        message = f"{snapshot.files.url}: another dataset has a recording {taken[_ID][0]!r}"
        raise StoreError(message, remedy="simulate into a store without that dataset")
    told = {"dataset": SIMULATED, "split": SIMULATED, "kind": "soundscape"}
    rows = facts.with_columns(
        pl.col(_ID).alias("path"), *(pl.lit(value).alias(name) for name, value in told.items())
    )
    return rows.select(
        pl.col(name).cast(dtype) if name in rows.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in RECORDINGS.items()
    ).sort(_ID)
