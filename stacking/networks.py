"""The networks of one run: which they are, whether they can work, what hears for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from birdstack.embeddings.backbone import Backbone
from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.backbones import fold_networks, make_backbone
from birdstack.embeddings.fold_logits import NetworkLogits
from birdstack.embeddings.mel_input import MelInput
from birdstack.embeddings.model_folder import FoldModel, load_model
from birdstack.embeddings.network import make_input
from birdstack.embeddings.network_views import SHIFT_S, NetworkExtractor
from birdstack.embeddings.shelf import InputShelf
from birdstack.features.kernel_cache import cache_root
from birdstack.stacking.settings import Settings
from birdstack.store.errors import ConfigError, UsageError
from birdstack.store.extractor import Extractor
from birdstack.store.snapshot import Snapshot
from birdstack.store.store import Store

LATEST = "latest"
"""File in a backbone's folder of models that names the newest finished one."""


@dataclass(frozen=True)
class Networks:
    """The networks of one run.

    Attributes:
        settings: of the run.
        store: whose recordings are heard.
        configs: the backbones.
        shelf: what they share of a recording.
    """

    settings: Settings
    store: Store
    configs: tuple[BackboneConfig, ...]
    shelf: InputShelf = field(default_factory=InputShelf)

    @property
    def frozen(self) -> list[BackboneConfig]:
        """Backbones whose heads are fitted on embeddings."""
        return [config for config in self.configs if config.mode == "frozen"]

    @cached_property
    def backbones(self) -> Mapping[str, Backbone]:
        """The networks that hear by themselves, by name: those that are not trained whole.

        Raises:
            ConfigError: one of them cannot work.
        """
        names = class_names(self.store.snapshot())
        return {
            config.name: make_backbone(
                config,
                self.store.grid.window_s,
                kind=self.settings.networks.kind,
                cache=_engine_cache(),
                store_classes=names if config.mode == "given" and names else None,
            )
            for config in self.configs
            if config.mode != "full"
        }

    @cached_property
    def trained(self) -> Mapping[str, FoldModel]:
        """Models of the backbones that are trained whole, by name.

        Raises:
            UsageError: one of them was not trained yet, or on another split.
            ConfigError: it was trained on other classes than the store's.
            CorruptError: its files are not those that were written.
        """
        snapshot = self.store.snapshot()
        classes, fold_of = tuple(class_names(snapshot)), folds(snapshot)
        found = {}
        for config in self.configs:
            if config.mode == "full":
                model = latest_model(self.folder(config.name), config.name)
                if model.classes != classes:
                    raise _other_classes(model, classes)
                model.verify()
                _refuse_other_split(model, fold_of)
                found[config.name] = model
        return found

    def folder(self, name: str) -> Path:
        """Where models of a backbone lie."""
        return models_folder(self.settings, self.store) / name

    def check(self) -> None:
        """Refuse what cannot work before any sound is heard; builds no network of its own.

        Raises:
            ConfigError: unknown names, missing weights or packages, a picture that does not
                fit the window, other classes.
            UsageError: a backbone that is trained whole was not trained yet, or on another split.
            CorruptError: what was trained is not what is there.
        """
        _ = self.trained
        for config in self.configs:
            if config.kind == "onnx":  # what its engine cannot do shows only when it runs
                backbone = self.backbones[config.name]
                backbone.run(np.zeros((1, *backbone.input.shape), dtype=np.float32))

    def notices(self) -> list[str]:
        """What a user should read of networks that others trained, once."""
        told = []
        for config in self.configs:
            if config.kind == "birdnet":
                from birdstack.embeddings.birdnet import licence_notice  # noqa: PLC0415 - as needed

                told.append(licence_notice())
            class_map = getattr(self.backbones.get(config.name), "class_map", None)
            note = class_map.note(config.name) if class_map is not None else ""
            told += [note] if note else []
        return told

    def extractors(self, audio_recipe: Mapping[str, Any]) -> list[Extractor[Any]]:
        """What hears: embeddings and logits of networks, by one pass over each recording."""
        fold_of = folds(self.store.snapshot())
        grid = self.store.grid
        found: list[Extractor[Any]] = []
        for config in self.configs:
            if config.mode == "full":
                found += self._fold_logits(config, audio_recipe, fold_of)
            else:
                found.append(
                    NetworkExtractor(
                        self.backbones[config.name],
                        audio_recipe,
                        grid,
                        self.shelf,
                        embeddings=config.embeddings or config.mode == "frozen",
                        shift_tta=config.shift_tta,
                        fold_of=fold_of,
                    )
                )
        return found

    def shared_pictures(self) -> list[MelInput]:
        """Pictures that the networks take, each once."""
        inputs = [
            make_input(config, self.store.grid.window_s)
            for config in self.configs
            if config.kind == "timm" and not config.shift_tta
        ]
        return [taken for taken in inputs if isinstance(taken, MelInput)]

    def _fold_logits(
        self, config: BackboneConfig, audio_recipe: Mapping[str, Any], fold_of: Mapping[str, int]
    ) -> list[Extractor[Any]]:
        model = self.trained[config.name]
        networks = fold_networks(
            model.config,
            model.checkpoints,
            model.classes,
            self.store.grid.window_s,
            kind=self.settings.networks.kind,
            cache=_engine_cache(),
        )
        return [
            NetworkLogits(
                model,
                networks,
                fold_of,
                audio_recipe=audio_recipe,
                grid=self.store.grid,
                shelf=self.shelf,
                held_out=held_out,
                shifts=(0.0, -SHIFT_S, SHIFT_S) if config.shift_tta else (0.0,),
            )
            for held_out in (True, False)
        ]


def class_names(snapshot: Snapshot) -> dict[str, tuple[str, str]]:
    """The store's classes in order: label -> (scientific name, common name)."""
    rows = snapshot.table("classes").sort("index").select("label", "scientific_name", "common_name")
    return {
        label: (scientific or "", common or "") for label, scientific, common in rows.iter_rows()
    }


def folds(snapshot: Snapshot) -> dict[str, int]:
    """recording_id -> fold, for every labelled recording."""
    return dict(snapshot.table("folds").select("recording_id", "fold").iter_rows())


def models_folder(settings: Settings, store: Store) -> Path:
    """Where trained models lie: beside the store's data, if that is a local folder.

    Raises:
        UsageError: the store is not local, and no folder is named.
    """
    if settings.networks.models is not None:
        return settings.networks.models
    if "://" in store.url:
        message = f"trained models need a local folder, and {store.url} is none"
        raise UsageError(message, remedy="set networks.models to a folder")
    return Path(store.url) / "models"


def latest_model(folder: Path, name: str) -> FoldModel:
    """The newest finished model of a backbone.

    Raises:
        UsageError: there is none.
    """
    try:
        key = (folder / LATEST).read_text().strip()
    except OSError as error:
        message = f"backbone {name!r} is trained whole for each fold, and {folder} holds no model"
        raise UsageError(message, remedy=f"run birdstack train {name} first") from error
    return load_model(folder / key)


def _other_classes(model: FoldModel, classes: Sequence[str]) -> ConfigError:
    lost = [name for name in model.classes if name not in classes]
    new = [name for name in classes if name not in model.classes]
    told = f"{len(model.classes)} classes, the store has {len(classes)}"
    if lost or new:
        told += f"; not in the store: {lost[:3]}, not in the model: {new[:3]}"
    else:
        told += ", in another order"
    message = f"{model.folder}: the model has {told}"
    return ConfigError(message, remedy=f"run birdstack train {model.config.name} again")


def _refuse_other_split(model: FoldModel, fold_of: Mapping[str, int]) -> None:
    """Say before any sound is heard what the store's guard would refuse row by row."""
    trained_on = model.trained_on().select("recording_id", "fold").iter_rows()
    moved = [name for name, fold in trained_on if fold_of.get(name, fold) != fold]
    if moved:
        message = (
            f"{model.folder}: {len(moved)} recordings that backbone {model.config.name!r} was "
            f"trained on have moved to another fold since, e.g. {moved[0]!r}"
        )
        raise UsageError(message, remedy=f"run birdstack train {model.config.name} again")


def _engine_cache() -> Path | None:
    root = cache_root()
    return None if root is None else root / "engines"
