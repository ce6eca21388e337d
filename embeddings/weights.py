"""Putting weights into a network: those of a package or of a checkpoint, strictly.

Imports torch inside its functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birdstack.embeddings.checkpoint_file import read_checkpoint, require_classes, shown
from birdstack.embeddings.lite_weights import lite_file, timm_names
from birdstack.store.errors import ConfigError

if TYPE_CHECKING:
    import torch

_HEAD = "head."
_TRUNK = "trunk."
_LEARNT = (_HEAD, "pool.")  # what a network has besides the trunk
_STEM_CHANNELS = 3


def load_packaged(network: Any, model: str) -> None:
    """Put the packaged ImageNet weights into the trunk of a network.

    Args:
        network: a `TimmNetwork`; its head stays as it is.
        model: one of `LITE_MODELS`.

    Raises:
        ConfigError: there are none for that model, or they do not fit.
    """
    path = lite_file(model)
    stages = [len(stage) for stage in network.trunk.blocks]
    tensors = timm_names(read_checkpoint(path).tensors, stages)
    kept = {name: value for name, value in tensors.items() if not name.startswith("classifier.")}
    _load(network.trunk, kept, path)


def load_checkpoint(
    network: Any, path: Path, *, classes: Sequence[str] | None = None, new_head: bool = False
) -> None:
    """Put a checkpoint into a network, every tensor of both accounted for.

    Args:
        network: of `build_network`. One without classes takes no head, whatever the file holds.
        path: a checkpoint of such a network, or of timm's model of that name (with one or
            three input channels, which are summed).
        classes: the logits' names, which must be the checkpoint's, where it says.
        new_head: leave the head (and what a pooling has learnt) as it is, though the file
            may hold one.

    Raises:
        ConfigError: the file cannot be read, holds other tensors than the network, or was
            trained on other classes or another order of them.
    """
    checkpoint = read_checkpoint(path)
    headless = new_head or network.n_classes == 0
    if not headless and classes is not None:
        require_classes(path, checkpoint.classes, classes)
    tensors = _own_names(checkpoint.tensors, network)
    wanted = network.state_dict()
    if headless:
        tensors = {name: value for name, value in tensors.items() if not _is_head(name)}
        tensors |= {name: value for name, value in wanted.items() if _is_head(name)}
    else:
        _require_count(tensors, wanted, path)
    _load(network, tensors, path)


def _is_head(name: str) -> bool:
    return name.removeprefix("network.").startswith(_LEARNT)


def _own_names(tensors: Mapping[str, torch.Tensor], network: Any) -> dict[str, torch.Tensor]:
    """Tensors under the network's names: timm's own checkpoints lack the prefix.

    A training wrapper's prefix (`module.`, `_orig_mod.`) is taken off.
    """
    plain = dict(tensors)
    for wrapper in ("module.", "_orig_mod."):
        if all(name.startswith(wrapper) for name in plain):
            plain = {name.removeprefix(wrapper): value for name, value in plain.items()}
    if not hasattr(network, "trunk") or any(name.startswith(_TRUNK) for name in plain):
        return plain
    classifier = network.trunk.pretrained_cfg["classifier"]
    renamed = {}
    for name, value in plain.items():
        layer, _, kind = name.rpartition(".")
        renamed[_HEAD + kind if layer == classifier else _TRUNK + name] = value
    return renamed


def _require_count(
    tensors: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], path: Path
) -> None:
    """Say that the number of classes differs, rather than that a shape does."""
    for name, value in wanted.items():
        if name.endswith(("head.bias", "pool.score.bias")) and name in tensors:
            held, count = len(tensors[name]), len(value)
            if held != count:
                message = f"{path}: the checkpoint has {held} classes, {count} were asked for"
                raise ConfigError(
                    message,
                    remedy="Use a checkpoint trained on these classes, or train the head anew.",
                )


def _load(module: Any, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load strictly; three input channels are summed where the module has one."""
    wanted = module.state_dict()
    fitted = {
        name: _summed(value, wanted[name]) if name in wanted else value
        for name, value in tensors.items()
    }
    # Files written before batches were counted lack the counters, which inference ignores.
    fitted |= {
        name: value
        for name, value in wanted.items()
        if name.endswith("num_batches_tracked") and name not in fitted
    }
    shaped = [
        f"{name} {list(fitted[name].shape)} in place of {list(value.shape)}"
        for name, value in wanted.items()
        if name in fitted and fitted[name].shape != value.shape
    ]
    for what, names in (
        ("lacks", sorted(wanted.keys() - fitted.keys())),
        ("holds, beyond the network,", sorted(fitted.keys() - wanted.keys())),
        ("has other shapes:", shaped),
    ):
        if names:
            message = f"{path}: the checkpoint {what} {shown(names)} ({len(names)} tensors)"
            raise ConfigError(
                message, remedy="Set model and pooling to those that the checkpoint was made with."
            )
    module.load_state_dict(fitted, strict=True)


def _summed(value: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """A kernel for one channel that sees a picture as if it stood in all three."""
    three = value.ndim == wanted.ndim > 1 and value.shape[1] == _STEM_CHANNELS
    if three and wanted.shape[1] == 1 and value.shape != wanted.shape:
        return value.sum(dim=1, keepdim=True)
    return value
