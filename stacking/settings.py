"""All settings in one root model: a section for each room's configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.audio import AudioConfig
from birdstack.store.folds import FoldsConfig
from birdstack.store.ingest_config import IngestConfig
from birdstack.store.keys import WindowGrid
from birdstack.store.labels import LabelsConfig
from birdstack.store.run_config import RunConfig


class Settings(BaseModel):
    """The sections of `birdstack.toml`.

    Attributes:
        grid: how recordings are cut into windows; fixed for the life of a store.
        ingest: how a dataset is read.
        folds: how labelled recordings are split.
        labels: what a secondary label counts for.
        audio: how recordings are decoded, and what is refused.
        acoustic: columns of the acoustic view.
        run: how a run is carried out; changes no number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    grid: WindowGrid = WindowGrid()
    ingest: IngestConfig = IngestConfig()
    folds: FoldsConfig = FoldsConfig()
    labels: LabelsConfig = LabelsConfig()
    audio: AudioConfig = AudioConfig()
    acoustic: AcousticConfig = AcousticConfig()
    run: RunConfig = RunConfig()
