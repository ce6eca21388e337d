"""Networks that take milliseconds, for tests of engines and what is built on them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

SHAPE = (1, 32, 40)


class SmallNetwork(nn.Module):
    """Convolutions, a normalisation, an average and a head; seeded."""

    def __init__(self, n_classes: int = 5, *, depthwise: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dim, self.n_classes, self.input_shape = 12, n_classes, SHAPE
        groups = 8 if depthwise else 1
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.SiLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=groups),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(12, n_classes) if n_classes else None
        self.eval()

    def forward(self, inputs):
        """Pictures to `(embedding,)` or `(embedding, logits)`."""
        embedding = self.body(inputs).mean(dim=(2, 3))
        return (embedding,) if self.head is None else (embedding, self.head(embedding))


class Waves(nn.Module):
    """Hears samples rather than pictures."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dim, self.n_classes, self.input_shape = 6, 0, (400,)
        self.bank = nn.Conv1d(1, 6, 32, stride=8)
        self.eval()

    def forward(self, inputs):
        """Samples to `(embedding,)`."""
        return (self.bank(inputs[:, None]).abs().amax(dim=2),)


class Sorting(nn.Module):
    """Sorts by a rule that no exporter knows."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.n_classes, self.input_shape = 4, 0, SHAPE
        self.scale = nn.Parameter(torch.ones(4))
        self.eval()

    def forward(self, inputs):
        """Singular values of the picture's corner."""
        return (torch.linalg.svdvals(inputs[:, 0, :4, :4]) * self.scale,)


def pictures(n: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    """Pictures of chirps at different places over noise, float32 `[n, *shape]`."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(0, 0.5, (n, *shape)).astype(np.float32)
    if len(shape) == 3:
        for picture in drawn:
            row, column = rng.integers(shape[1] - 6), rng.integers(shape[2] - 12)
            picture[0, row : row + 6, column : column + 12] += rng.uniform(0.5, 4)
    return drawn


def settled(network: nn.Module, inputs: np.ndarray) -> nn.Module:
    """The network with normalisations that have seen these inputs, as if it had been trained."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        network(torch.from_numpy(inputs))
    return network.eval()
