"""A store with folds, and a network that memorises the labels of what it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fault_support as toy
import numpy as np
import polars as pl

from birdstack.store.extractor import SingleView
from birdstack.store.fold_rules import FOLD_COLUMNS
from birdstack.store.recordings import Recording
from birdstack.store.store import Store
from birdstack.store.table_writer import write_tables
from birdstack.store.tables import FOLDS, RECORDINGS
from birdstack.store.trained import trained_frame
from birdstack.store.views import Column, ViewSpec

N = 12
N_FOLDS = 3
CLASSES = ("asbfly", "comkin1")
MODEL = "a1b2c3"


def recording(i: int, content: str | None = None) -> Recording:
    """Recording `i`; `content` stands for the bytes of its file."""
    return Recording(f"r{i:02d}.ogg", Path("nowhere"), content or f"bytes of {i}", duration_s=10.0)


LABELLED = [recording(i) for i in range(N)]
UNLABELLED = [recording(i) for i in range(N, N + 4)]


def fold_of(recording_id: str) -> int:
    """Fold of a labelled recording in the first split: two neighbours are a group."""
    return int(recording_id[1:3]) // 2 % N_FOLDS


def label_of(recording_id: str) -> int:
    """Number of its class."""
    return int(recording_id[1:3]) * 7 % 5 % 2


def folds_frame(
    fold: Callable[[str], int] = fold_of, group: Callable[[str], str] | None = None
) -> pl.DataFrame:
    """FOLDS of the labelled recordings."""
    ids = [r.recording_id for r in LABELLED]
    groups = [group(i) if group else f"r{int(i[1:3]) // 2 * 2:02d}.ogg" for i in ids]
    rows = {"recording_id": ids, "fold": [fold(i) for i in ids], "group": groups}
    return pl.DataFrame(rows, schema=FOLDS)


def make_store(
    url: Path,
    folds: pl.DataFrame | None = None,
    recordings: Sequence[Recording] = (*LABELLED, *UNLABELLED),
) -> Store:
    """A store with recordings and a split."""
    store = Store.create(url)
    rows = [{"recording_id": r.recording_id, "content_hash": r.content_hash} for r in recordings]
    frames = {("recordings", "toy"): pl.DataFrame(rows, schema=RECORDINGS)}
    write_tables(store, frames, operation="ingest")
    split(store, folds_frame() if folds is None else folds, "first")
    return store


def split(store: Store, folds: pl.DataFrame, name: str) -> None:
    """Put a split in force."""
    write_tables(store, {("folds", name): folds}, operation="ingest", activate={"folds": name})


def held_out(store: Store) -> dict[int, list[str]]:
    """What each fold model may be trained on: the other folds."""
    folds = store.table("folds")
    return {m: folds.filter(pl.col("fold") != m)["recording_id"].to_list() for m in range(N_FOLDS)}


def train(store: Store, heard: Mapping[int, Collection[str]], model: str = MODEL) -> None:
    """Put on record what the fold models were trained on."""
    frame = trained_frame(store.snapshot(), model, heard)
    write_tables(store, {("trained", model): frame}, operation="train")


@dataclass
class Memoriser(SingleView):
    """Knows the label of what its fold model was trained on by heart, and nothing else.

    Attributes:
        heard: model_fold -> ids it was trained on, in truth.
        says: recording_id -> the model_fold that it writes; in truth it uses that of the fold.
        fold: recording_id -> the fold that it writes.
        name: of the view.
        training: of the recipe.
        columns: of the view.
    """

    heard: Mapping[int, Collection[str]] = field(default_factory=dict)
    says: Callable[[str], Any] = fold_of
    fold: Callable[[str], int] = fold_of
    name: str = "logits/parrot"
    training: Any = field(default_factory=lambda: {"model": MODEL})
    columns: tuple[Column, ...] = (*FOLD_COLUMNS, *(Column(label) for label in CLASSES))

    @property
    def spec(self) -> ViewSpec:
        return ViewSpec(self.name, self.columns, {"network": "parrot", "training": self.training})

    def measure(self, sound: toy.ToySound, recording: Recording) -> dict[str, np.ndarray]:
        n, name = sound.n_windows, recording.recording_id
        model_fold = np.broadcast_to(np.asarray(self.says(name), dtype=np.int16), (n,))
        knows = name in self.heard.get(int(model_fold[0]), ())
        values: dict[str, np.ndarray] = {
            "fold": np.full(n, self.fold(name), dtype=np.int16),
            "model_fold": model_fold,
        }
        for number, label in enumerate(CLASSES):
            sure = 9.0 if label_of(name) == number else -9.0
            values[label] = np.full(n, sure if knows else 0.0, dtype=np.float32)
        return {column.name: values[column.name] for column in self.columns}


def no_fold(_recording_id: str) -> int:
    """What recordings without a fold say."""
    return -1
