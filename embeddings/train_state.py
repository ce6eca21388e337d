"""What a training changes: network, average, optimiser; out of and into a checkpoint.

Imports torch: imported by training alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from birdstack.embeddings.ema import Ema
from birdstack.embeddings.train_config import TrainConfig

_HEADS = ("head.", "pool.", "network.head.", "network.pool.")
_BIASES = ("head.bias", "pool.score.bias")


class Learner:
    """A network, its moving average and its optimiser, on one device.

    Args:
        network: of `build_network`, with classes.
        config: of the training.
        device: `cpu` or `cuda`.

    Attributes:
        network: that learns.
        average: that is validated and kept.
        optimizer: AdamW.
    """

    def __init__(self, network: nn.Module, config: TrainConfig, device: str) -> None:
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        moved: Any = network  # torch's stub lacks this form of `to`
        self.network: nn.Module = moved.to(device=device, memory_format=layout)
        self.average = Ema(self.network, config.ema_decay)
        self.layout = layout
        self._config = config
        self._frozen: bool | None = None
        self._names = {id(value): name for name, value in self.network.named_parameters()}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, value in self.network.named_parameters():
            groups.setdefault((is_head(name), value.ndim > 1), []).append(value)
        self.optimizer = torch.optim.AdamW(
            [
                {
                    "params": held,
                    "weight_decay": config.weight_decay if decays else 0.0,
                    "scale": 1.0 if head else config.trunk_lr_scale,
                }
                for (head, decays), held in groups.items()
            ],
            lr=config.lr,
        )

    def prepare(self, *, frozen: bool, factor: float) -> float:
        """Set mode and learning rate of a step; the head's learning rate."""
        if frozen != self._frozen:
            self._set_mode(frozen=frozen)
        for group in self.optimizer.param_groups:
            group["lr"] = self._config.lr * factor * group["scale"]
        return self._config.lr * factor

    def _set_mode(self, *, frozen: bool) -> None:
        self._frozen = frozen
        self.network.train()
        for name, child in self.network.named_children():
            trunk = child if name != "network" else child.get_submodule("trunk")
            if name in ("trunk", "bank", "network"):
                trunk.train(not frozen)
        for name, value in self.network.named_parameters():
            value.requires_grad_(is_head(name) or not frozen)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything, by name."""
        held = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        averaged = self.average.network.state_dict()
        held |= {f"average.{name}": value for name, value in averaged.items()}
        for parameter, state in self.optimizer.state.items():
            name = self._names[id(parameter)]
            held |= {f"optimizer.{key}.{name}": value for key, value in state.items()}
        return held

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Become what `tensors` was made of."""
        self.network.load_state_dict(_under("network.", tensors))
        self.average.network.load_state_dict(_under("average.", tensors))
        by_name = dict(self.network.named_parameters())
        for full, value in _under("optimizer.", tensors).items():
            key, _, name = full.partition(".")
            parameter = by_name[name]
            state: dict[str, Any] = self.optimizer.state[parameter]
            # The count of steps stays on the processor, the rest lies as the weights lie.
            state[key] = (
                value.clone() if key == "step" else torch.empty_like(parameter).copy_(value)
            )


def is_head(name: str) -> bool:
    """Whether a parameter belongs to head or pooling rather than to the trunk."""
    return name.startswith(_HEADS)


def start_at_prior(network: nn.Module, share: np.ndarray) -> None:
    """Let the head begin with how often each class is present (Lin et al. 2017, section 3.3).

    Args:
        network: with a new head.
        share: of drawn windows in which each class is present, `[class]`.
    """
    odds = np.clip(share, 1e-4, 1 - 1e-4)
    start = torch.from_numpy(np.log(odds / (1 - odds))).float()
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.removeprefix("network.") in _BIASES:
                value.copy_(start)


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
