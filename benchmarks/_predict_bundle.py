"""A bundle of realistic size, without a store.

EfficientNet-B0 with random weights, heads of six folds, all acoustic views, and a stack fitted
on drawn scores of 182 classes.
What it says of a sound is worth nothing; what it costs is what a real one costs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _stack_data import Size, long_tail

from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.backbones import PRESETS
from birdstack.embeddings.network import build_network
from birdstack.embeddings.saved_network import save_network
from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.audio import AudioConfig, AudioSource
from birdstack.features.fast_acoustic import FastAcousticExtractor
from birdstack.stacking.bundle import (
    CLASSES,
    DESIGN,
    NETWORKS,
    STACK,
    AcousticPart,
    BundledNetwork,
    BundleFacts,
    seal,
)
from birdstack.stacking.bundle_networks import HEAD_BIAS, HEAD_WEIGHT, TRUNK
from birdstack.stacking.design import BackbonePin, ColumnPin, Design
from birdstack.stacking.stack_folder import save_stack
from birdstack.stacking.stacker import Stacker
from birdstack.store.keys import WindowGrid

NAME = "benchmark"
RATE_HZ = 32_000


@dataclass(frozen=True)
class BundleSize:
    """How large a bundle is.

    Attributes:
        model: a model of timm.
        classes: number of classes.
        folds: number of fold models.
        windows: that the stack learns from.
    """

    model: str = "efficientnet_b0"
    classes: int = 182
    folds: int = 6
    windows: int = 24_000


def write_bundle(folder: Path, size: BundleSize, kept_stack: Path | None = None) -> None:
    """Write a bundle.

    Args:
        folder: is made.
        size: of it.
        kept_stack: where its stack lies, or is kept for the next time.
    """
    grid, audio = WindowGrid(), AudioConfig(sample_rate_hz=RATE_HZ)
    acoustic = AcousticConfig()
    with AudioSource(audio, grid) as source:
        specs = FastAcousticExtractor(acoustic, source.recipe, grid).specs
    design = Design(
        grid=grid,
        classes=tuple(f"bird{number:03}" for number in range(size.classes)),
        backbones=(BackbonePin(name=NAME, recipe="none", fold_models=tuple(range(size.folds))),),
        extras=tuple(
            ColumnPin(view=spec.name, recipe=spec.recipe_hash, columns=tuple(spec.column_names))
            for spec in specs
        ),
    )
    folder.mkdir(parents=True)
    (folder / DESIGN).write_text(design.model_dump_json(indent=1), "utf-8")
    names = {label: (f"Avis {label}", label.title()) for label in design.classes}
    rows = [f"{label},{both[0]},{both[1]}\n" for label, both in names.items()]
    (folder / CLASSES).write_text("label,scientific_name,common_name\n" + "".join(rows), "utf-8")
    network = _network(folder / NETWORKS / NAME, size)
    _kept(kept_stack, folder / STACK, lambda place: _stack(place, design, size))
    seal(
        folder,
        BundleFacts(
            engine="openvino",
            networks=(network,),
            audio=audio,
            acoustic=(
                AcousticPart(
                    views=tuple(spec.name for spec in specs),
                    config=acoustic,
                    implementation="fused",
                ),
            ),
            names=names,
        ),
    )


def _network(folder: Path, size: BundleSize) -> BundledNetwork:
    """The network's files; its picture is one that the acoustic pass draws along the way."""
    shared = PRESETS["lite0"]
    config = BackboneConfig(
        name=NAME, model=size.model, weights="random", pooling=shared.pooling, mel=shared.mel
    )
    net: Any = build_network(config, 0)
    _settle(net)
    folder.mkdir(parents=True)
    save_network(net, tuple(net.input_shape), "openvino", folder / TRUNK)
    rng = np.random.default_rng(0)
    shape = (size.folds, size.classes, net.dim)
    weight = rng.normal(0, net.dim**-0.5, shape).astype(np.float32)
    np.save(folder / HEAD_WEIGHT, weight)
    np.save(folder / HEAD_BIAS, np.full(shape[:2], -3.5, dtype=np.float32))
    return BundledNetwork(config=config, folds=tuple(range(size.folds)), dim=net.dim)


def _settle(net: Any) -> None:
    """Show noise to the normalisations, so that no number in the network is tiny."""
    import torch  # noqa: PLC0415 - after the threads are settled

    for each in net.modules():
        if hasattr(each, "running_mean"):
            each.momentum = 1.0
            each.train()
    with torch.no_grad():
        net(torch.randn(16, *net.input_shape, generator=torch.Generator().manual_seed(0)))
    net.eval()


def _stack(place: Path, design: Design, size: BundleSize) -> None:
    drawn = Size(
        classes=size.classes,
        windows=size.windows,
        backbones=1,
        extra=len(design.extra_names) - 2,
        folds=size.folds,
        fresh=1,
    )
    table, _ = long_tail(drawn)
    table = replace(
        table,
        backbones=(NAME,),
        classes=design.classes,
        extra_names=design.extra_names,
    )
    save_stack(Stacker(ship="stack", resamples=50).fit(table).shipped_, place)


def _kept(kept: Path | None, place: Path, make: Callable[[Path], None]) -> None:
    """Make something, or take what an earlier run has kept."""
    if kept is None or not kept.is_dir():
        make(place)
        if kept is not None:
            shutil.copytree(place, kept)
    else:
        shutil.copytree(kept, place)
