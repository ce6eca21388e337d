"""The moving average of a network's weights.

Imports torch: imported by training alone.
"""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """A second network whose weights follow a first one's slowly.

    It follows buffers too (a batch norm's mean belongs to the weights it was measured
    with); whole numbers are copied. Source: Polyak & Juditsky 1992; the decay rises as
    (1 + step) / (10 + step), so that a short training does not keep where it began.

    Args:
        network: to follow.
        decay: share of the average that a step keeps, once it has risen; 0: follow at once.

    Attributes:
        network: the average, in evaluation mode.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
        # These tensors are the networks' own: values change, the tensors stay.
        mine, theirs = self.network.state_dict().values(), network.state_dict().values()
        pairs = list(zip(mine, theirs, strict=True))
        self._smooth = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take one step towards the network.

        Args:
            step: steps that it has taken before, from 0.
        """
        keep = min(self.decay, (1 + step) / (10 + step))
        for mine, theirs in self._counts:
            mine.copy_(theirs)
        average, followed = zip(*self._smooth, strict=True)
        torch._foreach_lerp_(average, followed, 1 - keep)  # one call for all tensors
