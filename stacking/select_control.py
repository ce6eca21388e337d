"""Which simple control to use: chosen inside folds, and slow to leave the usual one.

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

USUAL = "ranker"


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
    errors: float = 2.0,
) -> Choice:
    """Choose among controls, for each fold without it, and once from all.

    Args:
        material: views of the training table.
        scores: out-of-fold scores of each candidate, by name.
        candidates: to choose from.
        errors: standard errors by which another candidate has to beat the usual one.
    """
    fold = material.table.window_fold
    folds = [int(which) for which in np.unique(fold[fold >= 0])]
    final = np.zeros(material.truth.shape, dtype=np.float32)
    by_fold: dict[int, str] = {}
    common: dict[str, np.ndarray] = {}
    for which in folds:
        held = fold == which
        rest = ~held & material.table.judged
        per_class = {c.name: _without(c, material, scores[c.name], rest) for c in candidates}
        name, _ = _choose(candidates, per_class, errors)
        by_fold[which] = name
        if name not in common:
            common[name] = _one_scale(scores[name])
        final[held] = common[name][held]
    known = material.table.judged
    per_class = {
        c.name: macro_auc(scores[c.name][known], material.truth[known]).per_class
        for c in candidates
    }
    name, why = _choose(candidates, per_class, errors)
    control = next(c for c in candidates if c.name == name)
    return Choice(control, control.learn(material, known), final, by_fold, why)


def _without(
    control: Control, material: Material, scores: np.ndarray, rest: np.ndarray
) -> np.ndarray:
    """AUC of each class on the other folds, nothing learnt from the one left out."""
    if control.fit is not None:
        scores = out_of_fold(control, material, rest)
    return macro_auc(scores[rest], material.truth[rest]).per_class


def _choose(
    candidates: Sequence[Control], per_class: Mapping[str, np.ndarray], errors: float
) -> tuple[str, str]:
    """The usual candidate, unless another one clearly beats it; and why.

    The usual one is the shared ranker: it holds every fixed blend of the backbones with and
    without the kernel, and is drawn to the simplest of them. Between candidates that the
    data cannot tell apart, it is the one that loses least when the choice is wrong.
    """
    usual = next((c for c in candidates if c.name == USUAL), candidates[0])
    best = max(candidates, key=lambda c: _mean(per_class[c.name]))
    lead = per_class[best.name] - per_class[usual.name]
    lead = lead[np.isfinite(lead)]
    error = float(lead.std(ddof=1) / np.sqrt(len(lead))) if len(lead) > 1 else 0.0
    if best is usual:
        return usual.name, f"{usual.title}: the highest macro AUC on the other folds"
    if _mean(lead) <= errors * error:
        why = f"{usual.title}: {best.title} leads by no more than {errors:g} standard errors"
        return usual.name, why
    return (
        best.name,
        f"{best.title}: ahead of {usual.title} by more than {errors:g} standard errors",
    )


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
