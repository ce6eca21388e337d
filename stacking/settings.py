"""All settings in one root model: a section for each room's configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from birdstack.embeddings.backbones import NetworksConfig
from birdstack.embeddings.linear_head import HeadConfig
from birdstack.embeddings.train_config import TrainConfig
from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.audio import AudioConfig
from birdstack.features.place import PlaceConfig
from birdstack.stacking.design import DesignConfig
from birdstack.stacking.range_prior import RangePriorConfig
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.tuning import TuningSettings
from birdstack.store.folds import FoldsConfig
from birdstack.store.ingest_config import IngestConfig
from birdstack.store.keys import WindowGrid
from birdstack.store.labels import LabelsConfig
from birdstack.store.run_config import RunConfig


class ViewsConfig(BaseModel):
    """What `birdstack features` makes.

    Attributes:
        implementation: of the acoustic views: `fused`, one transform and one compiled pass a
            window, or `reference`, plain numpy after the definitions, many times slower.
        place: whether the view of place and time is made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    implementation: Literal["fused", "reference"] = "fused"
    place: bool = True


class Settings(BaseModel):
    """The sections of `birdstack.toml`.

    Attributes:
        grid: how recordings are cut into windows; fixed for the life of a store.
        ingest: how a dataset is read.
        folds: how labelled recordings are split.
        labels: what a secondary label counts for.
        audio: how recordings are decoded, and what is refused.
        acoustic: columns of the acoustic views.
        place: how place and time are read.
        views: which views are made, and with what.
        networks: which networks hear, and how they are run.
        head: how linear heads on frozen networks are fitted.
        train: how whole networks are trained.
        design: what a stack learns from.
        stack: how a stack is fitted.
        prior: how a range prior is counted, where `stack.prior` asks for one.
        tuning: what a search for settings of the stack goes through, and for how long.
        run: how a run is carried out; changes no number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    grid: WindowGrid = WindowGrid()
    ingest: IngestConfig = IngestConfig()
    folds: FoldsConfig = FoldsConfig()
    labels: LabelsConfig = LabelsConfig()
    audio: AudioConfig = AudioConfig()
    acoustic: AcousticConfig = AcousticConfig()
    place: PlaceConfig = PlaceConfig()
    views: ViewsConfig = ViewsConfig()
    networks: NetworksConfig = NetworksConfig()
    head: HeadConfig = HeadConfig()
    train: TrainConfig = TrainConfig()
    design: DesignConfig = DesignConfig()
    stack: StackSettings = StackSettings()
    prior: RangePriorConfig = RangePriorConfig()
    tuning: TuningSettings = TuningSettings()
    run: RunConfig = RunConfig()
