"""Scores of rows that nobody has met, by every control and by the stack.

Each fold model of the networks scores the rows once; what is fitted on its scores is applied to
them, and the results are averaged: stackers over fold models, not their inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from birdstack.stacking.controls import BY_NAME, CONTROLS, Material
from birdstack.stacking.domains import WITHOUT_PRIOR
from birdstack.stacking.stack_table import StackTable
from birdstack.stacking.stacker import Stacker

FoldTable = tuple[int | None, StackTable]
"""Number of the networks' fold model, None where there is but one network, and its table."""


def fresh_scores(
    stacker: Stacker,
    training: StackTable,
    tables: Iterable[FoldTable],
    *,
    every: bool = True,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, np.ndarray]:
    """Scores `[window, class]` by name.

    Args:
        stacker: fitted.
        training: the table it was fitted on: controls learn from all of it.
        tables: the rows, once for each fold model of the networks.
        every: score by all controls; else by mean + kernel, the one chosen and the stack.
        advance: told after each table.
    """
    material = Material(training)
    chosen = stacker.choice_.control.name
    names = [c.name for c in CONTROLS] if every else list(dict.fromkeys(["mean_kernel", chosen]))
    learnt = {name: BY_NAME[name].learn(material, training.judged) for name in names}
    sums: dict[str, np.ndarray] = {}
    count = 0
    last: StackTable | None = None
    for model_fold, table in tables:
        fresh = Material(table, stacker.shipped_.spread)
        found = {name: BY_NAME[name].score(fresh, learnt[name]) for name in names}
        found["chosen"] = found[chosen]
        if stacker.stack_ is not None:
            found["stack"] = stacker.stack_.score(fresh, held=model_fold)
        for name, one in found.items():
            sums[name] = one.astype(np.float64) + sums.get(name, 0.0)
        count += 1
        last = table
        advance()
    assert last is not None, "there is one network at least"
    scores = {name: (total / count).astype(np.float32) for name, total in sums.items()}
    alone = scores["stack" if stacker.shipped_.what == "stack" else "chosen"]
    if stacker.without_prior_ is not None:
        scores[WITHOUT_PRIOR] = alone
    return {**scores, "shipped": stacker.shipped_.placed(alone, last)}


def mean_logits(tables: Iterable[FoldTable]) -> dict[str, np.ndarray]:
    """Mean of the fold models' logits of each backbone, `[window, class]`."""
    sums: dict[str, np.ndarray] = {}
    count = 0
    for _, table in tables:
        count += 1
        for name, layer in zip(table.backbones, table.logits, strict=True):
            sums[name] = layer.astype(np.float64) + sums.get(name, 0.0)
    return {name: (total / count).astype(np.float32) for name, total in sums.items()}
