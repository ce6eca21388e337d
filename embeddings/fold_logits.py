"""Logits by the fold model that has not met the recording, and by every one for the rest."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from birdstack.embeddings.backbone import Backbone
from birdstack.embeddings.linear_head import LinearHead
from birdstack.embeddings.model_folder import FoldModel
from birdstack.embeddings.network_views import (
    EMBEDDING,
    hear_recording,
    hearing_recipe,
    logits_columns,
    logits_rows,
    logits_view,
)
from birdstack.embeddings.shelf import HeardSound, InputShelf
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording
from birdstack.store.snapshot import Snapshot
from birdstack.store.views import ViewSpec

_NEIGHBOURS = 128  # recordings whose embeddings are read at a time
_BLOCKS_HELD = 8


class FoldLogits(ABC):
    """Base of what fills `logits/<name>`, or `logits/<name>.m<k>` for recordings without a fold.

    Args:
        model: the trained backbone.
        recipe: of the hearing; the model's fingerprint is added.
        fold_of: recording_id -> fold, for every recording that has one.
        held_out: fill the view of labelled recordings; else those of each fold model.
    """

    needs_sound = True

    def __init__(
        self,
        model: FoldModel,
        recipe: Mapping[str, Any],
        fold_of: Mapping[str, int],
        *,
        held_out: bool,
    ) -> None:
        self.model = model
        self.held_out = held_out
        self._recipe = dict(recipe)
        self._fold_of = fold_of

    @cached_property
    def specs(self) -> tuple[ViewSpec, ...]:
        """One view, or one for each fold model."""
        name, classes = self.model.config.name, self.model.classes
        training = {"model": self.model.fingerprint, "mode": self.model.mode}
        recipe = {**self._recipe, "classes": list(classes), "training": training}
        views = (
            [logits_view(name)]
            if self.held_out
            else [logits_view(name, fold) for fold in self.model.folds]
        )
        return tuple(ViewSpec(view, logits_columns(classes), recipe) for view in views)

    def content_key(self, recording: Recording) -> str | None:
        """The file's bytes and its fold; None for recordings of the other sort.

        None too for a fold without a model: it holds nothing that one could be trained on.
        """
        fold = self._fold_of.get(recording.recording_id)
        if (fold is None) == self.held_out or (fold is not None and fold not in self.model.folds):
            return None
        return recording.content_key if fold is None else f"{recording.content_key}:{fold}"

    def extract(
        self, sound: Any, recording: Recording, wanted: Collection[str]
    ) -> dict[str, dict[str, np.ndarray]]:
        """Logits of one recording by the fold models that the wanted views name."""
        fold = self._fold_of.get(recording.recording_id, -1)
        models = (
            {logits_view(self.model.config.name): fold}
            if self.held_out
            else {logits_view(self.model.config.name, k): k for k in self.model.folds}
        )
        asked = {view: model_fold for view, model_fold in models.items() if view in wanted}
        logits = self.logits(sound, recording, list(asked.values()))
        return {
            view: logits_rows(found, self.model.classes, fold=fold, model_fold=model_fold)
            for (view, model_fold), found in zip(asked.items(), logits, strict=True)
        }

    @abstractmethod
    def logits(
        self, sound: Any, recording: Recording, model_folds: Sequence[int]
    ) -> list[np.ndarray]:
        """Logits `[window, class]` of one recording by each of some fold models."""


class HeadLogits(FoldLogits):
    """Logits from embeddings in the store: no sound is heard again.

    Args:
        model: in mode `frozen`.
        snapshot: with the embeddings.
        view: of the embeddings.
        fold_of: recording_id -> fold.
        held_out: as for `FoldLogits`.
    """

    needs_sound = False

    def __init__(
        self,
        model: FoldModel,
        snapshot: Snapshot,
        view: str,
        fold_of: Mapping[str, int],
        *,
        held_out: bool,
    ) -> None:
        recipe = {"extractor": "head", "embeddings": snapshot.spec(view).recipe_hash}
        super().__init__(model, recipe, fold_of, held_out=held_out)
        self._embeddings = _EmbeddingBlocks(snapshot, view)
        self._heads: dict[int, LinearHead] = model.heads()

    def content_key(self, recording: Recording) -> str | None:
        """As for `FoldLogits`; None too where the embeddings are lacking."""
        return (
            super().content_key(recording) if recording.recording_id in self._embeddings else None
        )

    def logits(
        self,
        sound: Any,  # noqa: ARG002 - the embeddings are there
        recording: Recording,
        model_folds: Sequence[int],
    ) -> list[np.ndarray]:
        """Logits `[window, class]` by each of some heads."""
        embeddings = self._embeddings.of(recording.recording_id)
        return [self._heads[fold].logits(embeddings) for fold in model_folds]


class NetworkLogits(FoldLogits):
    """Logits by networks that were trained whole: each hears the recordings it has not met.

    Args:
        model: in mode `full`.
        networks: in the order of `model.folds`.
        fold_of: recording_id -> fold.
        audio_recipe: how the sound was decoded.
        grid: how recordings are cut.
        shelf: shared with other networks.
        held_out: as for `FoldLogits`.
        shifts: seconds that windows are moved by, averaged over.
    """

    def __init__(
        self,
        model: FoldModel,
        networks: Sequence[Backbone],
        fold_of: Mapping[str, int],
        *,
        audio_recipe: Mapping[str, Any],
        grid: WindowGrid,
        shelf: InputShelf,
        held_out: bool,
        shifts: tuple[float, ...] = (0.0,),
    ) -> None:
        recipe = hearing_recipe(networks[0], audio_recipe, grid, shifts)
        # The weights of all folds are in the model's fingerprint.
        recipe["network"] = {k: v for k, v in recipe["network"].items() if k != "weights"}
        super().__init__(model, recipe, fold_of, held_out=held_out)
        self._networks = dict(zip(model.folds, networks, strict=True))
        self._shelf = shelf
        self._shifts = shifts

    def logits(
        self,
        sound: HeardSound,
        recording: Recording,  # noqa: ARG002 - the sound is at hand
        model_folds: Sequence[int],
    ) -> list[np.ndarray]:
        """Logits `[window, class]` by each of some networks."""
        found = []
        for fold in model_folds:
            heard = hear_recording(self._networks[fold], sound, self._shelf, self._shifts)
            assert heard.logits is not None, "a network of a fold has classes"
            found.append(heard.logits)
        return found


class _EmbeddingBlocks:
    """Embeddings by recording, read from the store with their neighbours'; thread-safe."""

    def __init__(self, snapshot: Snapshot, view: str) -> None:
        self._snapshot, self._view = snapshot, view
        self._ids = sorted(snapshot.covered(view))
        self._place = {recording_id: number for number, recording_id in enumerate(self._ids)}
        self._lock = threading.Lock()
        self._held: OrderedDict[int, dict[str, np.ndarray]] = OrderedDict()

    def __contains__(self, recording_id: str) -> bool:
        return recording_id in self._place

    def of(self, recording_id: str) -> np.ndarray:
        """Embeddings `[window, dim]` of a recording."""
        block = self._place[recording_id] // _NEIGHBOURS
        with self._lock:
            if block not in self._held:
                ids = self._ids[block * _NEIGHBOURS : (block + 1) * _NEIGHBOURS]
                matrix = self._snapshot.matrix({self._view: [EMBEDDING]}, recordings=ids)
                offsets = matrix.offsets
                self._held[block] = {
                    name: matrix.values[start:stop]
                    for name, start, stop in zip(
                        matrix.recording_ids, offsets[:-1], offsets[1:], strict=True
                    )
                }
                if len(self._held) > _BLOCKS_HELD:
                    self._held.popitem(last=False)
            return self._held[block][recording_id]

    def __getstate__(self) -> dict[str, Any]:
        return {"snapshot": self._snapshot, "view": self._view}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["snapshot"], state["view"])  # type: ignore[misc]
