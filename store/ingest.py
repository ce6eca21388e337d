"""Bringing a dataset into a store: its tables, its duplicates and the folds, in one commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from birdstack.store.audio_files import Progress
from birdstack.store.commit import Commit
from birdstack.store.dataset import Ingested, read_dataset
from birdstack.store.dataset_layouts import dataset_name
from birdstack.store.duplicates import mark_duplicates
from birdstack.store.folds import FoldsConfig, SoundscapeGroup, Split, given_folds, make_folds
from birdstack.store.ingest_config import IngestConfig
from birdstack.store.labelled_soundscapes import is_labelled_soundscape
from birdstack.store.recordings import Probe
from birdstack.store.simulated import SIMULATED, carry_simulated, real_recordings
from birdstack.store.snapshot import Snapshot
from birdstack.store.soundscape_folds import with_soundscapes
from birdstack.store.split_table import (
    SPLIT_TABLE,
    read_split_recipe,
    split_key,
    write_split_recipe,
)
from birdstack.store.store import Store
from birdstack.store.table_writer import write_tables
from birdstack.store.tables import REJECTS

_GLOBAL = ""  # key of a table that no single dataset owns


@dataclass(frozen=True)
class IngestReport:
    """What an ingestion found and did.

    Attributes:
        dataset: name of the dataset.
        layout: how it was laid out.
        summary: counts, see `Ingested.summary`.
        rejects: rows of `tables.REJECTS`.
        split: the folds now in force, None if nothing is labelled.
        split_hash: name of that split in the store.
        commit: the commit, None if the store held all of it already.
    """

    dataset: str
    layout: str
    summary: Mapping[str, int]
    rejects: pl.DataFrame
    split: Split | None
    split_hash: str
    commit: Commit | None


def ingest(
    store: Store,
    root: Path,
    config: IngestConfig,
    folds: FoldsConfig | None,
    *,
    probe: Probe | None,
    info: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Read a dataset and commit its recordings, labels, classes, rejects and folds.

    A dataset that was ingested before is replaced by what it is now; recordings keep their
    folds, and the fold column named then stays in use. Files that have not changed are not
    read again.

    Args:
        store: where to.
        root: folder of the dataset, or a bare metadata table.
        config: how to read it.
        folds: how to split the labelled recordings; None to carry on the split in force.
        probe: reads audio headers; None reads no audio.
        info: configuration and environment, kept in the commit.
        progress: see `read_dataset`.

    Raises:
        UsageError: there is nothing to read at `root`.
        DatasetError: it cannot be read at all.
    """
    snapshot = store.snapshot()
    known = snapshot.table("recordings")
    classes = _foreign_classes(snapshot, config.name or dataset_name(root))
    config = _with_known_fold_column(snapshot, root, config)
    found = read_dataset(
        root, config, probe=probe, known=known, store_classes=classes, progress=progress
    )
    others = known.filter(pl.col("dataset") != found.dataset)
    found = _without_collisions(found, others)
    other_labels = _others(snapshot, "labels", found.dataset)
    recordings = pl.concat([others, found.recordings]).sort("recording_id")
    labels = pl.concat([other_labels, found.labels])
    recordings = mark_duplicates(recordings, labels)
    split = _split(snapshot, recordings, labels, folds)
    frames = {
        ("recordings", name): recordings.filter(pl.col("dataset") == name)
        for name in recordings["dataset"].unique().sort()
    }
    frames |= {
        ("labels", found.dataset): found.labels,
        ("rejects", found.dataset): found.rejects,
        ("datasets", found.dataset): found.datasets,
        ("classes", _GLOBAL): _classes(snapshot, found),
    }
    activate = {}
    split_hash = ""
    if split is not None:
        split = carry_simulated(snapshot, recordings, split)
        split_hash = split_key(split.frame)
        frames[(SPLIT_TABLE, split_hash)] = split.frame
        write_split_recipe(store, split_hash, split.recipe, split.report)
        activate = {SPLIT_TABLE: split_hash}
    details = {**(info or {}), "summary": found.summary}
    if split is not None:
        details["split"] = {"recipe": split.recipe, "report": split.report}
    commit = write_tables(store, frames, operation="ingest", info=details, activate=activate)
    return IngestReport(
        found.dataset, found.layout, found.summary, found.rejects, split, split_hash, commit
    )


def _split(
    snapshot: Snapshot,
    recordings: pl.DataFrame,
    labels: pl.DataFrame,
    config: FoldsConfig | None,
) -> Split | None:
    """The folds: the dataset's own if it has them, else the earlier ones carried on."""
    trained = recordings.filter(
        (pl.col("split") == "train")
        & pl.col("recording_id").is_in(labels["recording_id"].implode())
    )
    if trained.is_empty():
        return None
    soundscapes = trained.filter(is_labelled_soundscape())
    others = trained.filter(~is_labelled_soundscape())
    previous = real_recordings(snapshot, snapshot.table(SPLIT_TABLE))
    split = None if others.is_empty() else _split_others(snapshot, others, labels, config, previous)
    if soundscapes.is_empty():
        return split
    before = _soundscape_group(snapshot)
    wanted = config or _made_with(snapshot) or FoldsConfig(soundscapes=before)
    kept = previous if wanted.soundscapes == before else None
    return with_soundscapes(split, soundscapes, others, labels, wanted, previous=kept)


def _split_others(
    snapshot: Snapshot,
    recordings: pl.DataFrame,
    labels: pl.DataFrame,
    config: FoldsConfig | None,
    previous: pl.DataFrame,
) -> Split:
    """The folds of the labelled recordings that are no soundscapes."""
    if recordings["given_fold"].null_count() == 0:
        return given_folds(recordings, labels)
    made = _made_with(snapshot)
    if made is None:
        return make_folds(recordings, labels, config)
    # How soundscapes are grouped is no reason to deal the others anew.
    if config is not None and (config.n_folds, config.seed) != (made.n_folds, made.seed):
        return make_folds(recordings, labels, config)
    return make_folds(recordings, labels, made, previous=previous)


def _made_with(snapshot: Snapshot) -> FoldsConfig | None:
    """Settings of the split in force; None if there is none, or the dataset brought it."""
    found = read_split_recipe(snapshot)
    if found is None or found["recipe"]["method"] == "given":
        return None
    recipe = found["recipe"]
    return FoldsConfig(
        n_folds=recipe["n_folds"], seed=recipe["seed"], soundscapes=_soundscape_group(snapshot)
    )


def _soundscape_group(snapshot: Snapshot) -> SoundscapeGroup:
    """How the soundscapes of the split in force are grouped."""
    found = read_split_recipe(snapshot)
    known: SoundscapeGroup = FoldsConfig().soundscapes
    if found is not None and "soundscapes" in found["recipe"]:
        known = found["recipe"]["soundscapes"]["group"]
    return known


def _foreign_classes(snapshot: Snapshot, dataset: str) -> pl.DataFrame | None:
    """The class list, where other datasets have a part in it: else labels may still change it."""
    datasets = snapshot.table("datasets").filter(
        (pl.col("dataset") != dataset) & (pl.col("layout") != SIMULATED)
    )
    return None if datasets.is_empty() else snapshot.table("classes")


def _with_known_fold_column(snapshot: Snapshot, root: Path, config: IngestConfig) -> IngestConfig:
    """The fold column of the dataset's last ingestion, where none is named now."""
    name = config.name or dataset_name(root)
    known = snapshot.table("datasets").filter(pl.col("dataset") == name)
    if config.fold_column is not None or known.is_empty():
        return config
    return config.model_copy(update={"fold_column": known["fold_column"][0]})


def _without_collisions(found: Ingested, others: pl.DataFrame) -> Ingested:
    """Leave out recordings whose id another dataset of the store owns already."""
    taken = found.recordings.join(others, on="recording_id", how="semi")
    if taken.is_empty():
        return found
    owners = dict(others.select("recording_id", "dataset").iter_rows())
    rows = [
        {
            "dataset": found.dataset,
            "file": row["path"],
            "column": "recording_id",
            "rule": "unique_recording_id",
            "value": row["recording_id"],
            "reason": f"dataset {owners[row['recording_id']]!r} of this store has the same id",
            "remedy": f"ingest it into a store of its own, or, if it is that dataset under a new "
            f"folder name, with --name {owners[row['recording_id']]}",
            "severity": "rejected",
            "recording_id": row["recording_id"],
        }
        for row in taken.to_dicts()
    ]
    rejects = pl.concat([found.rejects, pl.DataFrame(rows, schema=REJECTS)])
    ids = taken["recording_id"].implode()
    return Ingested(
        dataset=found.dataset,
        layout=found.layout,
        recordings=found.recordings.filter(~pl.col("recording_id").is_in(ids)),
        labels=found.labels.filter(~pl.col("recording_id").is_in(ids)),
        classes=found.classes,
        rejects=rejects,
        datasets=found.datasets,
        summary={**found.summary, "rejected": found.summary["rejected"] + len(rows)},
    )


def _others(snapshot: Snapshot, table: str, dataset: str) -> pl.DataFrame:
    """Rows of a table that other datasets own."""
    parts = [part for part in snapshot.state.table_parts(table) if part.key != dataset]
    return snapshot.read_table(parts, table)


def _classes(snapshot: Snapshot, found: Ingested) -> pl.DataFrame:
    """The class list: this dataset's order first come, further classes behind."""
    known = snapshot.table("classes")
    if known.is_empty() or set(known["label"]) <= set(found.classes["label"]):
        return found.classes
    more = found.classes.filter(~pl.col("label").is_in(known["label"].implode()))
    return pl.concat([known, more]).with_columns(
        pl.int_range(pl.len(), dtype=pl.Int32).alias("index")
    )
