"""Which simple control to use: chosen inside folds, and slow to prefer the intricate.

For each fold the choice is made from the other folds alone, and what the candidates learn
there is learnt without the fold they are compared on: the scores of a fold depend on no label
of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.controls import CANDIDATES, Control, Material, out_of_fold


@dataclass(frozen=True)
class Choice:
    """The control chosen.

    Attributes:
        control: the one chosen from all folds.
        learnt: what it learnt from all folds.
        out_of_fold: scores of each fold by what was chosen without it, `[window, class]`.
        by_fold: name of the control chosen without each fold.
        why: one sentence.
    """

    control: Control
    learnt: Mapping[str, Any]
    out_of_fold: np.ndarray
    by_fold: Mapping[int, str]
    why: str


def choose_control(
    material: Material,
    scores: Mapping[str, np.ndarray],
    candidates: Sequence[Control] = CANDIDATES,
    *,
    errors: float = 1.0,
) -> Choice:
    """Choose among controls, for each fold without it, and once from all.

    Args:
        material: views of the training table.
        scores: out-of-fold scores of each candidate, by name.
        candidates: simplest first.
        errors: standard errors by which a more intricate candidate has to be better.
    """
    fold = material.table.window_fold
    folds = [int(which) for which in np.unique(fold[fold >= 0])]
    common = {c.name: _one_scale(scores[c.name]) for c in candidates}
    final = np.zeros(material.truth.shape, dtype=np.float32)
    by_fold = {}
    for which in folds:
        held = fold == which
        rest = ~held & (fold >= 0)
        per_class = {
            c.name: _without(c, material, scores[c.name], which, rest) for c in candidates
        }
        name, _ = _choose(candidates, per_class, errors)
        by_fold[which] = name
        final[held] = common[name][held]
    known = fold >= 0
    per_class = {
        c.name: macro_auc(scores[c.name][known], material.truth[known]).per_class
        for c in candidates
    }
    name, why = _choose(candidates, per_class, errors)
    control = next(c for c in candidates if c.name == name)
    return Choice(control, control.learn(material, known), final, by_fold, why)


def _without(
    control: Control, material: Material, scores: np.ndarray, which: int, rest: np.ndarray
) -> np.ndarray:
    """AUC of each class on the other folds, nothing learnt from fold `which`."""
    if control.fit is not None:
        fold = material.table.window_fold
        scores = np.array(scores)
        for inner in np.unique(fold[rest]):
            held = fold == inner
            learnt = control.learn(material, rest & ~held)
            scores[held] = control.score(material, learnt)[held]
    return macro_auc(scores[rest], material.truth[rest]).per_class


def _choose(
    candidates: Sequence[Control], per_class: Mapping[str, np.ndarray], errors: float
) -> tuple[str, str]:
    """The simplest candidate that the best one does not clearly beat, and why."""
    means = {c.name: _mean(per_class[c.name]) for c in candidates}
    best = max(candidates, key=lambda c: means[c.name])
    for control in candidates:
        lead = per_class[best.name] - per_class[control.name]
        lead = lead[np.isfinite(lead)]
        error = lead.std(ddof=1) / np.sqrt(len(lead)) if len(lead) > 1 else 0.0
        if control is best or _mean(lead) <= errors * error:
            break
    if control is best:
        return control.name, f"{control.title}: the highest macro AUC on the other folds"
    why = f"{control.title}: within {errors:g} standard error of the best, {best.title}, and simpler"
    return control.name, why


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.0


def _one_scale(scores: np.ndarray) -> np.ndarray:
    """Scores of each class less their mean, over their spread: folds may be pooled then."""
    width = scores.std(axis=0)
    shifted = (scores - scores.mean(axis=0)) / np.where(width > 0, width, 1)
    return np.asarray(shifted, dtype=np.float32)


def all_scores(material: Material, controls: Sequence[Control]) -> dict[str, np.ndarray]:
    """Out-of-fold scores of each control, by name."""
    return {control.name: out_of_fold(control, material) for control in controls}
