"""How a map of features becomes one vector, or scores frame by frame.

Imports torch: imported by networks alone.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class GemPool(nn.Module):
    """Generalised mean over the map, `(mean x^p)^(1/p)` with `p` learnt.

    p = 1 is the mean, infinity the maximum; a call that fills a small part of the window
    weighs more than in the mean. Source: Radenovic et al. 2018, "Fine-tuning CNN image
    retrieval with no human annotation".

    Args:
        power: where `p` starts.
    """

    _FLOOR = 1e-6

    def __init__(self, power: float = 3.0) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map `[b, channel, height, width]` to `[b, channel]`."""
        raised = features.clamp(min=self._FLOOR).pow(self.power)
        pooled: torch.Tensor = raised.mean(dim=(2, 3)).pow(1.0 / self.power)
        return pooled


class SedPool(nn.Module):
    """Sound event detection: each class attends to the frames that it is heard in.

    Features are averaged over frequency; every frame scores every class, and a class's
    score for the window is its frames' scores weighted by a softmax over frames. Source:
    Kong et al. 2020, "PANNs" (the decision-level attention head), with logits in the place
    of probabilities.

    Args:
        dim: channels of the map.
        n_classes: classes to score.
        drop_rate: of the dropout around the hidden layer, in training.
    """

    def __init__(self, dim: int, n_classes: int, drop_rate: float = 0.5) -> None:
        super().__init__()
        self.drop = nn.Dropout(drop_rate)
        self.hidden = nn.Linear(dim, dim)
        self.attention = nn.Linear(dim, n_classes)
        self.score = nn.Linear(dim, n_classes)

    def hear(self, features: torch.Tensor) -> torch.Tensor:
        """Map `[b, channel, height, width]` to hidden features `[b, frame, channel]`."""
        over_time = features.mean(dim=2)
        near = functional.max_pool1d(over_time, 3, stride=1, padding=1)
        near = near + functional.avg_pool1d(over_time, 3, stride=1, padding=1)
        hidden = functional.relu(self.hidden(self.drop(near.transpose(1, 2))))
        dropped: torch.Tensor = self.drop(hidden)
        return dropped

    def frames(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of every frame, `[b, frame, class]`."""
        logits: torch.Tensor = self.score(self.hear(features))
        return logits

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embedding `[b, channel]` (mean of hidden features) and logits `[b, class]`."""
        hidden = self.hear(features)
        weights = torch.softmax(torch.tanh(self.attention(hidden)), dim=1)
        return hidden.mean(dim=1), (weights * self.score(hidden)).sum(dim=1)
