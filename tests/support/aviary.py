"""A store of whistles in memory: labelled recordings in folds, unlabelled ones beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from birdstack.embeddings.backbone import Backbone
from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.fake import FakeBackbone
from birdstack.embeddings.fold_heads import HeadData, fit_heads, head_key
from birdstack.embeddings.fold_logits import HeadLogits
from birdstack.embeddings.linear_head import HeadConfig
from birdstack.embeddings.model_folder import FoldModel
from birdstack.embeddings.network_views import NetworkExtractor, embedding_view
from birdstack.embeddings.shelf import InputShelf
from birdstack.features.audio import Sound
from birdstack.store.extractor import Extractor
from birdstack.store.keys import WindowGrid
from birdstack.store.labels import LabelsConfig
from birdstack.store.materialise import RunReport, materialise
from birdstack.store.recordings import Recording
from birdstack.store.run_config import RunConfig
from birdstack.store.snapshot import Snapshot
from birdstack.store.store import Store
from birdstack.store.table_writer import write_tables
from birdstack.store.tables import CLASSES, FOLDS, LABELS, RECORDINGS
from birdstack.store.trained import trained_frame

RATE_HZ = 8_000
GRID = WindowGrid(window_s=1.0, hop_s=1.0)
AUDIO = {"source": "whistles", "sample_rate_hz": RATE_HZ}
BIRDS = ("bird0", "bird1", "bird2")
TOY = BackboneConfig(name="toy", kind="fake")
HEAD = HeadConfig(max_iterations=40)
LABELS_CONFIG = LabelsConfig()
RUN = RunConfig(executor="serial", unit_recordings=4)


@dataclass
class Aviary:
    """A store, what is in it, and a source that whistles.

    Attributes:
        store: holds recordings, labels, classes and folds.
        primary: recording_id -> label, of labelled recordings.
        fold: recording_id -> fold, of labelled recordings.
        unlabelled: ids of further recordings.
        content: recording_id -> what stands for its bytes, where it is not the first.
        opened: ids in the order in which they were heard.
    """

    store: Store
    primary: dict[str, str]
    fold: dict[str, int]
    unlabelled: list[str]
    content: dict[str, str] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)

    @property
    def recordings(self) -> list[Recording]:
        """All of them."""
        return [
            Recording(i, Path("nowhere"), self._hash(i), duration_s=_duration_s(i))
            for i in sorted([*self.primary, *self.unlabelled])
        ]

    def open(self, recording: Recording) -> Sound:
        """A whistle at the pitch of the bird in the name, the same every time."""
        name = recording.recording_id
        self.opened.append(name)
        bird, number = (int(part) for part in name.split("/"))
        rng = np.random.default_rng((bird, number, len(self.content.get(name, ""))))
        time_s = np.arange(round(_duration_s(name) * RATE_HZ)) / RATE_HZ
        pitch_hz = 700 + 600 * bird + rng.normal(0, 150)
        song = 10 ** rng.uniform(-2, -0.5) * np.sin(2 * np.pi * pitch_hz * time_s)
        samples = (song + 0.02 * rng.normal(size=len(time_s))).astype(np.float32)
        return Sound(samples, RATE_HZ, GRID)

    def write(self, *, split: str = "first") -> None:
        """Bring the tables up to date."""
        rows = [
            {"recording_id": r.recording_id, "content_hash": r.content_hash}
            for r in self.recordings
        ]
        labels = [
            {"recording_id": i, "label": label, "role": "primary"}
            for i, label in self.primary.items()
        ]
        folds = [
            {"recording_id": i, "fold": fold, "group": i} for i, fold in sorted(self.fold.items())
        ]
        classes = [{"label": label, "index": index} for index, label in enumerate(BIRDS)]
        frames = {
            ("recordings", "toy"): pl.DataFrame(rows, schema=RECORDINGS),
            ("labels", "toy"): pl.DataFrame(labels, schema=LABELS),
            ("classes", "toy"): pl.DataFrame(classes, schema=CLASSES),
            ("folds", split): pl.DataFrame(folds, schema=FOLDS),
        }
        write_tables(self.store, frames, operation="ingest", activate={"folds": split})

    def fill(self, *extractors: Extractor[Any], operation: str = "features") -> RunReport:
        """Bring views up to date."""
        return materialise(
            self.store, self.recordings, self, list(extractors), RUN, operation=operation
        )

    def hear(self, backbone: Backbone | None = None, **further: Any) -> RunReport:
        """Bring the embeddings up to date."""
        return self.fill(self.extractor(backbone, **further))

    def extractor(self, backbone: Backbone | None = None, **further: Any) -> NetworkExtractor:
        """What writes embeddings."""
        return NetworkExtractor(backbone or fake(), AUDIO, GRID, InputShelf(), **further)

    def fit(
        self, models: Path, head: HeadConfig = HEAD, labels: LabelsConfig = LABELS_CONFIG
    ) -> tuple[FoldModel, HeadData | None]:
        """The heads that the store asks for, their training on record."""
        snapshot = self.store.snapshot()
        folder = models / head_key(snapshot, TOY, head, labels)
        model, data = fit_heads(snapshot, TOY, folder, head, labels)
        self.record(model)
        return model, data

    def record(self, model: FoldModel, heard: Mapping[int, Sequence[str]] | None = None) -> None:
        """Write what each fold model was trained on; all but its own fold, if not said."""
        met = heard or {k: [i for i, f in self.fold.items() if f != k] for k in model.folds}
        frame = trained_frame(self.store.snapshot(), model.fingerprint, met)
        write_tables(self.store, {("trained", model.fingerprint): frame}, operation="train")

    def head_logits(self, model: FoldModel) -> list[HeadLogits]:
        """What writes logits from the embeddings in the store."""
        snapshot, view = self.store.snapshot(), embedding_view("toy")
        return [
            HeadLogits(model, snapshot, view, self.fold, held_out=held_out)
            for held_out in (True, False)
        ]

    def _hash(self, recording_id: str) -> str:
        told = f"{recording_id} {self.content.get(recording_id, '')}".encode().hex()
        return told.ljust(64, "0")


def _duration_s(recording_id: str) -> float:
    """From 1.6 to 3.2 s: two or three windows."""
    return 1.6 + 0.4 * (int(recording_id.split("/")[1]) % 5)


def make_aviary(folder: Path, clips: int = 6, folds: int = 3, unlabelled: int = 2) -> Aviary:
    """A store of three birds with so many clips each, dealt out to folds in turn."""
    primary = {f"{b}/{n}": bird for b, bird in enumerate(BIRDS) for n in range(clips)}
    fold = {i: int(i.split("/")[1]) % folds for i in primary}
    store = Store.create(folder / "store", GRID)
    aviary = Aviary(store, primary, fold, [f"{n % 3}/{90 + n}" for n in range(unlabelled)])
    aviary.write()
    return aviary


def fake(classes: Sequence[str] = (), seed: int = 0) -> FakeBackbone:
    """The backbone that hears them."""
    return FakeBackbone(
        "toy", window_s=GRID.window_s, sample_rate_hz=RATE_HZ, classes=classes, seed=seed
    )


def rows_of(snapshot: Snapshot, view: str, recipe: str | None = None) -> pl.DataFrame:
    """All rows of a view, sorted."""
    return snapshot.view(view, recipe=recipe).collect().sort("recording_id", "window")
