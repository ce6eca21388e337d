"""The learning rate over a training."""

from __future__ import annotations

import math


def lr_factor(step: int, *, steps: int, warmup_steps: int, final: float) -> float:
    """Share of the highest learning rate at a step: linear rise, then half a cosine.

    Source of the cosine: Loshchilov & Hutter 2017, "SGDR", without restarts.

    Args:
        step: from 0.
        steps: in the whole training.
        warmup_steps: steps of the rise; the step after the last of them has the full rate.
        final: share that the last step has.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    fall = max(1, steps - 1 - warmup_steps)
    done = min(1.0, (step - warmup_steps) / fall)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))
