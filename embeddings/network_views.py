"""The views that one hearing of a network gives: its embeddings, and logits of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from birdstack.embeddings.backbone import Backbone, Heard
from birdstack.embeddings.shelf import HeardSound, InputShelf
from birdstack.store.fold_rules import FOLD_COLUMNS, fold_model_view
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording
from birdstack.store.views import Column, ViewSpec

EMBEDDING = "embedding"
"""Name of the one column of a view of embeddings."""

MANTISSA_BITS = 10
"""Embeddings are kept to a relative error of 2^-11: docs/decisions/0004."""

SHIFT_S = 2.5
"""How far test-time augmentation moves a window, half its length."""


def embedding_view(name: str) -> str:
    """Name of the view of a backbone's embeddings."""
    return f"embedding/{name}"


def logits_view(name: str, model_fold: int | None = None) -> str:
    """Name of the view of a backbone's logits; of one fold model's, for what has no fold."""
    view = f"logits/{name}"
    return view if model_fold is None else fold_model_view(view, model_fold)


def logits_columns(classes: Collection[str]) -> tuple[Column, ...]:
    """Columns of a view of logits: fold, model_fold, one for each class."""
    return (*FOLD_COLUMNS, *(Column(name, description="logit") for name in classes))


class NetworkExtractor:
    """Fills `embedding/<name>`, and `logits/<name>` for a network with classes of its own.

    Args:
        backbone: hears.
        audio_recipe: how the sound was decoded.
        grid: how recordings are cut.
        shelf: shared with other networks.
        embeddings: whether embeddings are written.
        shift_tta: hear each window also 2.5 s earlier and later, and average.
        fold_of: recording_id -> fold, for the column of that name.
    """

    needs_sound = True

    def __init__(
        self,
        backbone: Backbone,
        audio_recipe: Mapping[str, Any],
        grid: WindowGrid,
        shelf: InputShelf,
        *,
        embeddings: bool = True,
        shift_tta: bool = False,
        fold_of: Mapping[str, int] | None = None,
    ) -> None:
        self.backbone = backbone
        self.grid = grid
        self.shelf = shelf
        self.shifts = (0.0, -SHIFT_S, SHIFT_S) if shift_tta else (0.0,)
        self._audio_recipe = dict(audio_recipe)
        self._embeddings = embeddings
        self._fold_of = fold_of or {}

    @cached_property
    def specs(self) -> tuple[ViewSpec, ...]:
        """The views it fills."""
        specs = []
        name = self.backbone.name
        recipe = hearing_recipe(self.backbone, self._audio_recipe, self.grid, self.shifts)
        if self._embeddings and self.backbone.dim:
            column = Column(EMBEDDING, dim=self.backbone.dim, mantissa_bits=MANTISSA_BITS)
            # What the logits are of changes no embedding.
            network = {k: v for k, v in recipe["network"].items() if k != "classes"}
            kept = {**recipe, "network": network, "mantissa_bits": MANTISSA_BITS}
            specs.append(ViewSpec(embedding_view(name), (column,), kept))
        if self.backbone.classes:
            columns = logits_columns(self.backbone.classes)
            specs.append(ViewSpec(logits_view(name), columns, {**recipe, "training": None}))
        return tuple(specs)

    def content_key(self, recording: Recording) -> str | None:
        """The file's bytes; the fold too, where the network has logits of its own."""
        if not self.backbone.classes or not self._fold_of:
            return recording.content_key
        fold = self._fold_of.get(recording.recording_id, -1)
        return f"{recording.content_key}:{fold}"

    def extract(
        self, sound: HeardSound, recording: Recording, wanted: Collection[str]
    ) -> dict[str, dict[str, np.ndarray]]:
        """Hear a recording once for the wanted views."""
        heard = hear_recording(self.backbone, sound, self.shelf, self.shifts)
        found: dict[str, dict[str, np.ndarray]] = {}
        if embedding_view(self.backbone.name) in wanted:
            found[embedding_view(self.backbone.name)] = {EMBEDDING: heard.embeddings}
        if logits_view(self.backbone.name) in wanted and heard.logits is not None:
            fold = self._fold_of.get(recording.recording_id, -1)
            found[logits_view(self.backbone.name)] = logits_rows(
                heard.logits, self.backbone.classes, fold=fold, model_fold=-1
            )
        return found


def hearing_recipe(
    backbone: Backbone,
    audio_recipe: Mapping[str, Any],
    grid: WindowGrid,
    shifts: tuple[float, ...],
) -> dict[str, Any]:
    """What determines what a network says of a recording."""
    return {
        "extractor": "network",
        "audio": dict(audio_recipe),
        "grid": grid.model_dump(mode="json"),
        "network": dict(backbone.recipe),
        "shifts_s": list(shifts),
    }


def hear_recording(
    backbone: Backbone, sound: HeardSound, shelf: InputShelf, shifts: tuple[float, ...] = (0.0,)
) -> Heard:
    """Hear all windows of a recording; the mean over shifts, if there are several."""
    shifted = [_joined(_heard_blocks(backbone, sound, shelf, shift_s)) for shift_s in shifts]
    if len(shifted) == 1:
        return shifted[0]
    logits = [heard.logits for heard in shifted if heard.logits is not None]
    embeddings: np.ndarray = np.stack([heard.embeddings for heard in shifted]).mean(axis=0)
    return Heard(embeddings, np.stack(logits).mean(axis=0) if logits else None)


def _heard_blocks(
    backbone: Backbone, sound: HeardSound, shelf: InputShelf, shift_s: float
) -> Iterator[Heard]:
    return (backbone.run(inputs) for inputs in shelf.blocks(sound, backbone.input, shift_s=shift_s))


def _joined(blocks: Iterator[Heard]) -> Heard:
    heard = list(blocks)
    logits = [block.logits for block in heard if block.logits is not None]
    return Heard(
        np.concatenate([block.embeddings for block in heard]),
        np.concatenate(logits) if logits else None,
    )


def logits_rows(
    logits: np.ndarray, classes: Collection[str], *, fold: int, model_fold: int
) -> dict[str, np.ndarray]:
    """Columns of a view of logits for one recording, from `[window, class]`."""
    count = len(logits)
    return {
        "fold": np.full(count, fold, dtype=np.int16),
        "model_fold": np.full(count, model_fold, dtype=np.int16),
        **dict(zip(classes, logits.T, strict=True)),
    }
