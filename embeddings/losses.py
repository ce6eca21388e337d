"""Losses of windows whose labels are partly unknown.

Targets are float `[window, class]` between 0 (absent) and 1 (present), and -1 where it is
not known: such an entry has no part in the loss and no gradient.

Imports torch: imported by training alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From logits and targets, both `[window, class]`, to one number."""

_GAMMA = 2.0
_ALPHA = 0.25
_CLOSED = -1e9  # its exponential is 0; -inf would make gradients of rows without labels NaN


def make_loss(name: str, smoothing: float = 0.0) -> Loss:
    """The loss of a configuration.

    Args:
        name: `bce`, `softmax` or `focal`.
        smoothing: share of the target that is spread evenly.
    """
    chosen = {"bce": masked_bce, "softmax": masked_softmax, "focal": masked_focal}[name]
    return lambda logits, targets: chosen(logits, targets, smoothing)


def masked_bce(logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Binary cross entropy, the mean over known entries.

    Smoothing moves targets towards 1/2.
    """
    wanted = _smoothed(targets, smoothing)
    each = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return _known_mean(each, targets)


def masked_focal(
    logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Focal loss, `-alpha_t (1 - p_t)^gamma log p_t`, the mean over known entries.

    Source: Lin et al. 2017, "Focal loss for dense object detection", gamma 2, alpha .25. A
    target between 0 and 1 weighs the losses of present and absent.
    """
    wanted = _smoothed(targets, smoothing)
    chance = torch.sigmoid(logits)
    present = _ALPHA * (1 - chance) ** _GAMMA * functional.softplus(-logits)
    absent = (1 - _ALPHA) * chance**_GAMMA * functional.softplus(logits)
    return _known_mean(wanted * present + (1 - wanted) * absent, targets)


def masked_softmax(
    logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Cross entropy of a softmax over the known classes, the mean over windows.

    The target is shared among the present classes. Windows without one are left out.
    Smoothing spreads its share over the known classes.
    """
    known = targets >= 0
    wanted = targets.clamp(min=0)
    total = wanted.sum(dim=1, keepdim=True)
    taught = total[:, 0] > 0
    wanted = wanted / total.clamp(min=torch.finfo(wanted.dtype).tiny)
    # What is closed has a target of exactly 0.
    wanted = (1 - smoothing) * wanted + smoothing * known / known.sum(dim=1, keepdim=True).clamp(1)
    log_share = torch.log_softmax(logits.masked_fill(~known, _CLOSED), dim=1)
    each = -(wanted * log_share).sum(dim=1)
    kept = torch.where(taught, each, torch.zeros_like(each))
    return kept.sum() / taught.sum().clamp(min=1)


def _smoothed(targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    return targets.clamp(min=0) * (1 - smoothing) + 0.5 * smoothing


def _known_mean(each: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    known = targets >= 0
    kept = torch.where(known, each, torch.zeros_like(each))
    return kept.sum() / known.sum().clamp(min=1)
