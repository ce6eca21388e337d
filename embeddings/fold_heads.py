"""Heads for a frozen backbone: one for each fold, fitted on embeddings in the store."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.linear_head import (
    HEAD_VERSION,
    HeadConfig,
    LinearHead,
    fit_head,
    spread_rows,
)
from birdstack.embeddings.model_folder import FoldModel, finished, load_model, save_heads, seal
from birdstack.embeddings.network_views import embedding_view
from birdstack.store.classes import ClassList
from birdstack.store.errors import CorruptError, StoreError
from birdstack.store.labelled_soundscapes import for_networks
from birdstack.store.labels import LabelsConfig, label_matrix
from birdstack.store.snapshot import Snapshot
from birdstack.store.views import canonical_json

_MIN_FOLDS = 2
_KEY = 16


@dataclass(frozen=True)
class HeadData:
    """What heads are fitted on.

    Attributes:
        embeddings: float32 `[window, dim]`, at most so many windows a recording.
        truth: int8 `[window, class]`: 1 present, 0 absent, -1 not known.
        weights: `[window]`, 1 / windows taken of the recording.
        fold: int `[window]`.
        classes: the class list.
        recordings: `recording_id`, `content_hash`, `group`, `fold` of the recordings used.
    """

    embeddings: np.ndarray
    truth: np.ndarray
    weights: np.ndarray
    fold: np.ndarray
    classes: tuple[str, ...]
    recordings: pl.DataFrame

    @property
    def folds(self) -> list[int]:
        """Numbers of the folds, ascending."""
        return sorted(set(self.fold.tolist()))

    def lonely_classes(self) -> list[str]:
        """Classes whose positives all lie in one fold: whoever scores them never heard them."""
        held = [{int(f) for f in self.fold[column == 1]} for column in self.truth.T]
        return [name for name, f in zip(self.classes, held, strict=True) if len(f) == 1]


def head_key(
    snapshot: Snapshot, config: BackboneConfig, head: HeadConfig, labels: LabelsConfig
) -> str:
    """Names the heads that a snapshot asks for, without reading an embedding.

    It changes with the embeddings' recipe, the recordings and their bytes, the folds, the
    labels, the class list and the settings.
    """
    view = embedding_view(config.name)
    ids = _labelled(snapshot, view)["recording_id"].to_list()
    covered = snapshot.covered(view)
    told = [[i, covered[i].content_hash, covered[i].windows] for i in ids]
    digest = hashlib.sha256(canonical_json(told).encode())
    for name, keys in (
        ("folds", ["recording_id", "fold", "group"]),
        ("labels", ["recording_id", "label", "role", "start_s", "end_s"]),
        ("classes", ["index", "label"]),
    ):
        table = snapshot.table(name)
        if "recording_id" in keys:
            table = for_networks(snapshot, table)
        digest.update(table.select(keys).sort(keys).write_csv().encode())
    digest.update(canonical_json(_settings(snapshot.spec(view).recipe_hash, head, labels)).encode())
    return digest.hexdigest()[:_KEY]


def fit_heads(
    snapshot: Snapshot,
    config: BackboneConfig,
    folder: Path,
    head: HeadConfig,
    labels: LabelsConfig,
) -> tuple[FoldModel, HeadData | None]:
    """The heads that a snapshot asks for, from their folder or fitted now.

    Args:
        snapshot: with embeddings, folds and labels.
        config: the backbone, in mode `frozen`.
        folder: of the heads with this key.
        head: how they are fitted.
        labels: what a secondary label is worth.

    Returns:
        The model, and what it was fitted on; None if it was there already.

    Raises:
        StoreError: nothing is labelled, or all of it lies in one fold.
        CorruptError: the folder holds other heads, or not what was written.
    """
    if finished(folder):
        model = load_model(folder)
        if model.training.get("key") != folder.name:
            message = f"{folder}: holds heads {model.training.get('key')!r}, not its own"
            raise CorruptError(message, remedy="delete the folder: heads are fitted again")
        return model, None
    data = head_data(snapshot, config, head, labels)
    heads: dict[int, LinearHead] = {}
    for fold in data.folds:
        rows = data.fold != fold
        heads[fold] = fit_head(data.embeddings[rows], data.truth[rows], data.weights[rows], head)
    save_heads(folder, heads)
    recipe = snapshot.spec(embedding_view(config.name)).recipe_hash
    model = seal(
        folder,
        config,
        "frozen",
        classes=data.classes,
        folds=data.folds,
        training={**_settings(recipe, head, labels), "key": folder.name},
        trained_on=data.recordings,
    )
    return model, data


def head_data(
    snapshot: Snapshot, config: BackboneConfig, head: HeadConfig, labels: LabelsConfig
) -> HeadData:
    """Embeddings and labels of the labelled recordings.

    Raises:
        StoreError: nothing is labelled, or all of it lies in one fold.
    """
    view = embedding_view(config.name)
    recordings = _labelled(snapshot, view)
    folds = recordings["fold"].unique().sort().to_list()
    if len(folds) < _MIN_FOLDS:
        message = (
            f"{snapshot.files.url}: {len(recordings)} labelled recordings with embeddings of "
            f"{config.name!r} lie in {len(folds)} folds; out-of-fold logits need two or more"
        )
        raise StoreError(message, remedy="ingest labelled recordings of several authors")
    matrix = snapshot.matrix(view, recordings=recordings["recording_id"].to_list())
    classes = list(ClassList.from_frame(snapshot.table("classes")).labels)
    rows = spread_rows(matrix.windows, head.max_windows)
    keys = matrix.keys[rows]
    truth = label_matrix(keys, snapshot.table("labels"), classes, labels)
    per_row = keys.join(recordings, on="recording_id", how="left", maintain_order="left")
    taken = pl.len().over("recording_id")
    return HeadData(
        embeddings=matrix.values[rows],
        truth=truth,
        weights=keys.select(1.0 / taken).to_series().to_numpy(),
        fold=per_row["fold"].to_numpy(),
        classes=tuple(classes),
        recordings=recordings,
    )


def _labelled(snapshot: Snapshot, view: str) -> pl.DataFrame:
    """Recordings with fold, label and embeddings, by id; no soundscapes, real or simulated."""
    covered = snapshot.covered(view) if view in snapshot.views else {}
    contents = snapshot.table("recordings").select("recording_id", "content_hash")
    labelled = snapshot.table("labels").select("recording_id").unique()
    return (
        for_networks(snapshot, snapshot.table("folds"))
        .filter(pl.col("recording_id").is_in(list(covered)))
        .join(labelled, on="recording_id", how="semi")
        .join(contents, on="recording_id", how="left")
        .select("recording_id", "content_hash", "group", "fold")
        .sort("recording_id")
    )


def _settings(recipe: str, head: HeadConfig, labels: LabelsConfig) -> dict[str, Any]:
    return {
        "version": HEAD_VERSION,
        "embeddings": recipe,
        "head": head.model_dump(mode="json"),
        "labels": labels.model_dump(mode="json"),
    }
