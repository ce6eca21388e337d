"""Networks at work: one hearing of a recording gives the logits of every fold model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from birdstack.embeddings.backbone import Backbone
from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.backbones import make_backbone
from birdstack.embeddings.engine import EngineKind
from birdstack.embeddings.linear_head import LinearHead
from birdstack.embeddings.mel_input import MelInput
from birdstack.embeddings.network_views import MANTISSA_BITS, SHIFT_S, hear_recording
from birdstack.embeddings.saved_network import SAVED_KINDS, SavedNetwork
from birdstack.embeddings.shelf import HeardSound, InputShelf
from birdstack.stacking.bundle import NETWORKS, Bundle, BundledNetwork
from birdstack.store.errors import ConfigError, CorruptError
from birdstack.store.parquet_schema import round_mantissa

BUILT = ("timm", "wave")
"""Kinds of backbone whose network is saved for an engine."""
TRUNK, HEAD_WEIGHT, HEAD_BIAS = "trunk", "head-weight.npy", "head-bias.npy"

Fold = int | None
"""Number of a fold model; None where there is but one network."""


@dataclass(frozen=True, eq=False)
class Voice:
    """A backbone with all its fold models, ready to hear. Thread-safe if its networks are.

    Attributes:
        config: of the backbone.
        networks: the network of each fold in mode `full`; else the one network, under None.
        heads: of each fold, in mode `frozen`.
    """

    config: BackboneConfig
    networks: Mapping[Fold, Backbone]
    heads: Mapping[int, LinearHead] = field(default_factory=dict)

    @property
    def shared_picture(self) -> MelInput | None:
        """The picture that an acoustic pass may draw along the way."""
        taken = next(iter(self.networks.values())).input
        return taken if isinstance(taken, MelInput) and not self.config.shift_tta else None

    def ready(self, folds: Sequence[Fold]) -> None:
        """Make the engines, so that what is missing is said before any sound is heard.

        Raises:
            ConfigError: a package is missing.
            EngineError: a file cannot be read.
        """
        for fold, network in self.networks.items():
            if fold is None or fold in folds:
                network.run(np.zeros((1, *network.input.shape), dtype=np.float32))

    def logits(self, sound: HeardSound, shelf: InputShelf, folds: Sequence[Fold]) -> np.ndarray:
        """Logits by each of some fold models, float32 `[fold, window, class]`.

        A network that has no fold models says the same for each.
        """
        shifts = (0.0, -SHIFT_S, SHIFT_S) if self.config.shift_tta else (0.0,)

        def heard(network: Backbone) -> np.ndarray:
            found = hear_recording(network, sound, shelf, shifts).logits
            assert found is not None, "a network with classes"
            return found

        if self.config.mode == "full":
            return np.stack([heard(self.networks[fold]) for fold in folds])
        network = self.networks[None]
        if self.config.mode == "given":
            return np.stack([heard(network)] * len(folds))
        found = hear_recording(network, sound, shelf, shifts)
        # as the store keeps them, or scores would not be those that the stack was judged by
        embeddings = round_mantissa(found.embeddings, MANTISSA_BITS)
        return np.stack([self.heads[_number(fold)].logits(embeddings) for fold in folds])


def _number(fold: Fold) -> int:
    assert fold is not None, "a backbone with fold models"
    return fold


def fold_folder(fold: int) -> str:
    """Folder of the network that was trained without a fold."""
    return f"fold-{fold}"


def bundled_voice(
    bundle: Bundle,
    facts: BundledNetwork,
    *,
    kind: EngineKind | None = None,
    threads: int | None = None,
) -> Voice:
    """One backbone of a bundle; its engines are made when they are first run.

    Args:
        bundle: it is of.
        facts: what it is.
        kind: of the engine; None for the one that it was saved for.
        threads: how many threads hear at once.

    Raises:
        ConfigError: another engine than its files serve, or a package is missing.
        CorruptError: what is installed is not the network that the stack learnt from.
    """
    kind = kind or bundle.facts.engine
    served = SAVED_KINDS.get(bundle.facts.engine, ())
    if kind not in served:
        message = f"{bundle.folder}: its networks run on {', '.join(served)}, not on {kind}"
        raise ConfigError(message, remedy=f"birdstack export RUN --out DIR --engine {kind}")
    config, folder = facts.config, bundle.folder / NETWORKS / facts.config.name

    def saved(name: str, classes: tuple[str, ...]) -> SavedNetwork:
        window_s = bundle.design.grid.window_s
        return SavedNetwork(
            config,
            window_s,
            folder / name,
            kind=kind,
            dim=facts.dim,
            classes=classes,
            threads=threads,
        )

    if config.mode == "full":
        return Voice(
            config, {fold: saved(fold_folder(fold), bundle.classes) for fold in facts.folds}
        )
    given = config.mode == "given"
    if config.kind in BUILT:
        trunk: Backbone = saved(TRUNK, bundle.classes if given else ())
    else:
        trunk = _carried(bundle, facts, folder)
    return Voice(config, {None: trunk}, {} if given else _heads(folder, facts.folds))


def _heads(folder: Path, folds: Sequence[int]) -> dict[int, LinearHead]:
    weight = np.load(folder / HEAD_WEIGHT, allow_pickle=False)
    bias = np.load(folder / HEAD_BIAS, allow_pickle=False)
    return {fold: LinearHead(weight[at], bias[at]) for at, fold in enumerate(folds)}


def _carried(bundle: Bundle, facts: BundledNetwork, folder: Path) -> Backbone:
    """A backbone that is no network of ours: a model file of the bundle, or a package."""
    config = facts.config
    if config.kind == "onnx":
        update = {"model": str(folder / config.model)}
        if config.classes_file is not None:
            update["classes_file"] = str(folder / config.classes_file)
        config = config.model_copy(update=update)
    names = {
        label: (scientific or None, common or None)
        for label, (scientific, common) in bundle.names.items()
    }
    backbone = make_backbone(
        config,
        bundle.design.grid.window_s,
        store_classes=names if config.mode == "given" else None,
    )
    found = backbone.recipe.get("weights")
    if facts.weights is not None and found != facts.weights:
        message = (
            f"backbone {config.name!r}: the installed package has weights {str(found)[:12]}..., "
            f"the stack learnt from {facts.weights[:12]}..."
        )
        raise CorruptError(message, remedy="install the version that the bundle was made with")
    return backbone
