"""What whole networks are trained on, read from one snapshot of a store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from birdstack.embeddings.training_set import TrainingSet
from birdstack.stacking.networks import class_names, folds
from birdstack.store.catalog import load_recordings
from birdstack.store.errors import StoreError
from birdstack.store.keys import WindowGrid
from birdstack.store.labelled_soundscapes import for_networks
from birdstack.store.labels import LabelsConfig, label_matrix
from birdstack.store.recordings import Recording
from birdstack.store.snapshot import Snapshot

_WHOLE_S = 1e9  # longer than any recording: a label anywhere in it counts for the whole
_MIN_FOLDS = 2


def training_set(snapshot: Snapshot, labels: LabelsConfig) -> TrainingSet:
    """Recordings with sound, label and fold; soundscapes, simulated or real, are left to the stackers.

    A label without times holds for the whole recording; where labels have times, each window
    of the grid has its own.

    Raises:
        StoreError: there are none, or they lie in one fold.
    """
    fold_of = folds(snapshot)
    table = snapshot.table("labels")
    labelled = set(for_networks(snapshot, table)["recording_id"]) & set(fold_of)
    recordings = [r for r in load_recordings(snapshot, []) if r.recording_id in labelled]
    held = {fold_of[recording.recording_id] for recording in recordings}
    if len(held) < _MIN_FOLDS:
        message = (
            f"{snapshot.files.url}: {len(recordings)} labelled recordings with sound lie in "
            f"{len(held)} folds; training needs two or more"
        )
        raise StoreError(message, remedy="ingest labelled recordings of several authors")
    classes = list(class_names(snapshot))
    ids = [recording.recording_id for recording in recordings]
    rating = dict(snapshot.table("recordings").select("recording_id", "rating").iter_rows())
    timed = set(table.filter(pl.col("start_s").is_not_null())["recording_id"])
    return TrainingSet(
        recordings=recordings,
        fold=np.array([fold_of[recording_id] for recording_id in ids]),
        labels=label_matrix(_whole(ids), table, classes, labels),
        classes=tuple(classes),
        rating=np.array([rating[recording_id] or 0.0 for recording_id in ids]),
        window_labels={
            recording.recording_id: label_matrix(
                _windows(recording, snapshot.grid), table, classes, labels
            )
            for recording in recordings
            if recording.recording_id in timed
        },
    )


def trained_rows(snapshot: Snapshot, data: TrainingSet) -> pl.DataFrame:
    """`recording_id`, `content_hash`, `group`, `fold` of the recordings that are learnt from."""
    known = data.known()
    ids = [r.recording_id for r, used in zip(data.recordings, known, strict=True) if used]
    contents = snapshot.table("recordings").select("recording_id", "content_hash")
    return (
        snapshot.table("folds")
        .filter(pl.col("recording_id").is_in(ids))
        .join(contents, on="recording_id", how="left")
    )


def fold_numbers(data: TrainingSet, wanted: Sequence[int] | None) -> list[int]:
    """The folds to train, ascending.

    Raises:
        StoreError: one that is wanted has no labelled recording.
    """
    there = sorted({int(fold) for fold in data.fold[data.known()]})
    absent = sorted(set(wanted or ()) - set(there))
    if absent:
        message = f"fold {absent[0]} has no labelled recording; there are {there}"
        raise StoreError(message, remedy="name one of these, or leave --folds away for all")
    return there if wanted is None else sorted(set(wanted))


def _whole(ids: Sequence[str]) -> pl.DataFrame:
    """One window for each recording, as long as it may be."""
    return pl.DataFrame(
        {"recording_id": ids, "window": 0, "start_s": 0.0, "end_s": _WHOLE_S},
        schema_overrides={"recording_id": pl.String},
    )


def _windows(recording: Recording, grid: WindowGrid) -> pl.DataFrame:
    """Windows of a recording by its declared length; of an unknown one, none."""
    rate_hz = 1000
    count = grid.n_windows(round((recording.duration_s or 0.0) * rate_hz), rate_hz)
    index = np.arange(count, dtype=np.int32)
    return pl.DataFrame(
        {
            "recording_id": pl.Series([recording.recording_id] * count, dtype=pl.String),
            "window": index,
            "start_s": index * grid.hop_s,
            "end_s": index * grid.hop_s + grid.window_s,
        }
    )
