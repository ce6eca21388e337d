"""From a configuration to a network that is ready to run.

torch and timm are imported when a function is called.
"""

from __future__ import annotations

import difflib
import hashlib
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from birdstack.embeddings.backbone import NetworkInput
from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.checkpoint_file import checkpoint_classes, file_digest, require_classes
from birdstack.embeddings.hub import require_hub
from birdstack.embeddings.lite_weights import lite_file
from birdstack.embeddings.mel_input import MelInput
from birdstack.embeddings.torchvision_gap import import_timm
from birdstack.embeddings.wave_input import WaveInput
from birdstack.embeddings.weights import load_checkpoint, load_packaged
from birdstack.store.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

BUILT = ("timm", "wave")
"""Kinds of backbone that are built here."""

_SHOWN = 3
_building = threading.Lock()


def build_network(
    config: BackboneConfig,
    n_classes: int = 0,
    *,
    window_s: float = 5.0,
    classes: Sequence[str] | None = None,
    head: Literal["load", "new"] = "load",
) -> nn.Module:
    """Build a network and load the weights that its configuration names.

    The same configuration gives the same numbers, whatever torch's random state, which is
    left as it was. One network is built at a time.

    Args:
        config: of kind `timm` or `wave`.
        n_classes: length of the logits; 0: embeddings only.
        window_s: length of a window.
        classes: names of the logits, in order: a checkpoint that says otherwise is refused.
        head: with a checkpoint, `load` its head, or start a `new` one (to train on other
            classes). Other weights have no head: it is new.

    Returns:
        A module in evaluation mode with `dim`, `n_classes`, `input_shape` and `forward(x)` to
        `(embedding,)` or `(embedding, logits)`.

    Raises:
        ConfigError: as `check_config`; the weights do not fit the network, or cannot be had.
    """
    if config.kind not in BUILT:
        message = f"backbone {config.name!r}: kind {config.kind} is not built from a configuration"
        raise ConfigError(message, remedy=f"Use kind {' or '.join(BUILT)}.")
    check_config(config, window_s=window_s)
    if classes is not None and len(classes) != n_classes:
        message = f"backbone {config.name!r}: {len(classes)} classes named, n_classes={n_classes}"
        raise ConfigError(message, remedy="Name as many classes as there are logits.")
    import torch  # noqa: PLC0415 - seconds, and only networks need it

    with _building, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # not the accelerators'
        network = _made(config, n_classes, window_s)
    if config.weights == "packaged":
        load_packaged(getattr(network, "network", network), config.model)
    elif config.weights not in ("random", "hub"):
        path = Path(config.weights)
        load_checkpoint(network, path, classes=classes, new_head=head == "new")
    network.eval()
    return network


def make_input(config: BackboneConfig, window_s: float) -> NetworkInput:
    """What the network of a configuration takes; loads no network library.

    Raises:
        ConfigError: the mel configuration does not fit the window.
    """
    if config.kind == "wave":
        return WaveInput(config.mel.sample_rate_hz, window_s)
    return MelInput(config.mel, window_s)


def weights_digest(config: BackboneConfig) -> str:
    """sha256 of the weights that `build_network` loads.

    Of the file for packaged weights and checkpoints; of the tensors for the hub's; of seed
    and architecture for random ones.

    Raises:
        ConfigError: the weights cannot be had.
    """
    if config.weights == "packaged":
        return file_digest(lite_file(config.model))
    if config.weights == "random":
        told = f"random {config.seed} {config.kind} {config.model} {config.pooling}"
        return hashlib.sha256(told.encode()).hexdigest()
    if config.weights == "hub":
        return _hub_digest(config.model)
    return file_digest(Path(config.weights))


def check_config(
    config: BackboneConfig,
    *,
    window_s: float | None = None,
    classes: Sequence[str] | None = None,
) -> None:
    """Refuse what cannot work, before a network is built or a sound is heard.

    Kinds that are not built here pass.

    Args:
        config: to be checked.
        window_s: length of a window: the picture must fit it; None: not checked.
        classes: the store's classes: those of a `given` network's checkpoint must be the same.

    Raises:
        ConfigError: unknown name of a model (the nearest are named), packaged weights that do
            not exist or are not installed, no such checkpoint, other classes than the
            checkpoint's, or a picture that does not fit the window.
    """
    if config.kind not in BUILT:
        return
    if window_s is not None:
        config.mel.size(window_s)
    _check_name(config)
    if config.weights == "packaged":
        lite_file(config.model)
    elif config.weights not in ("random", "hub"):
        held = checkpoint_classes(Path(config.weights))
        if config.mode == "given" and classes is not None:
            require_classes(Path(config.weights), held, classes)


def _check_name(config: BackboneConfig) -> None:
    timm = import_timm()
    if ":" in config.model or not timm.is_model(config.model):
        near = difflib.get_close_matches(config.model, timm.list_models(), n=_SHOWN, cutoff=0.5)
        message = f"backbone {config.name!r}: timm {timm.__version__} has no model {config.model!r}"
        remedy = f"Did you mean {', '.join(near)}?" if near else "See timm.list_models()."
        raise ConfigError(message, remedy=remedy)
    try:
        described = timm.get_pretrained_cfg(config.model)
    except RuntimeError as error:
        family = config.model.partition(".")[0]
        message = f"backbone {config.name!r}: model {config.model!r}: {error}"
        known = ", ".join(timm.list_pretrained(family + ".*")[:_SHOWN])
        raise ConfigError(message, remedy=f"Use one of {known}.") from error
    if config.weights == "hub":
        if not timm.models.is_model_pretrained(config.model):
            message = f"backbone {config.name!r}: timm has no weights of {config.model!r}"
            raise ConfigError(message, remedy="Set weights to random or a checkpoint.")
        require_hub(config.model, described)


def _made(config: BackboneConfig, n_classes: int, window_s: float) -> nn.Module:
    """The network of a configuration, with random or the hub's weights."""
    pretrained = config.weights == "hub"
    if config.kind == "wave":
        from birdstack.embeddings.wave_network import WaveNetwork  # noqa: PLC0415 - torch

        return WaveNetwork(
            config.model,
            config.mel,
            window_s,
            n_classes=n_classes,
            pooling=config.pooling,
            pretrained=pretrained,
        )
    from birdstack.embeddings.timm_network import TimmNetwork  # noqa: PLC0415 - torch

    return TimmNetwork(
        config.model,
        config.mel.size(window_s),
        n_classes=n_classes,
        pooling=config.pooling,
        pretrained=pretrained,
    )


@lru_cache(maxsize=8)
def _hub_digest(model: str) -> str:
    """sha256 of the names and numbers of a pretrained trunk."""
    config = BackboneConfig(name="hub", model=model, weights="hub")
    state = build_network(config).state_dict()
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
