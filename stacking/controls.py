"""Simple ways to combine backbones: what a stack has to beat, and what is used if it does not.

Each says what it was fitted on. Those that learn from labels score a fold with what they
learnt on the others; the rest look at no label at all. All but the three "as given" read
scores whose fold models have been brought to one scale (`fold_scales`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.score_views import ScoreViews, mean_over_backbones
from birdstack.stacking.shared_ranker import fit_ranker, rank_by, ranker_columns

Params = Mapping[str, Any]
"""What a control learnt: JSON-able."""

NO_LABELS = "no label"
OTHER_FOLDS = "labels of the other folds"


class Material(ScoreViews):
    """Views of the scores, and the columns of the ranker, made once."""

    @cached_property
    def ranker(self) -> np.ndarray:
        """Columns of the shared ranker, `[column, window, class]`."""
        return ranker_columns(self)

    @property
    def truth(self) -> np.ndarray:
        """Labels, `[window, class]`."""
        return self.table.truth


@dataclass(frozen=True)
class Control:
    """One way to combine backbones.

    Attributes:
        name: short and stable, for JSON.
        title: for people.
        score: scores `[window, class]` from the material and what was learnt.
        fit: learns from the rows given, `[window]` of bool; None if there is nothing to learn.
        candidate: whether it may be shipped; the others are there to be compared with.
    """

    name: str
    title: str
    score: Callable[[Material, Params], np.ndarray]
    fit: Callable[[Material, np.ndarray], Params] | None = None
    candidate: bool = True

    @property
    def fitted_on(self) -> str:
        """What it has seen."""
        return OTHER_FOLDS if self.fit else NO_LABELS

    def learn(self, material: Material, rows: np.ndarray) -> Params:
        """What it takes from the labels of some rows."""
        return self.fit(material, rows) if self.fit else {}


def out_of_fold(control: Control, material: Material) -> np.ndarray:
    """Scores of every row by what was learnt without the row's fold, `[window, class]`."""
    if control.fit is None:
        return control.score(material, {})
    fold = material.table.window_fold
    scores = np.zeros(material.truth.shape, dtype=np.float32)
    for which in np.unique(fold[fold >= 0]):
        held = fold == which
        learnt = control.learn(material, ~held & (fold >= 0))
        scores[held] = control.score(material, learnt)[held]
    return scores


def best_backbone(material: Material, rows: np.ndarray) -> Params:
    """The backbone with the highest macro AUC on some rows; a class it lacks counts half."""
    truth = material.truth[rows]
    values = []
    for layer in material.aligned:
        speaks = np.isfinite(layer[0]) if len(layer) else np.isfinite(layer).any(axis=0)
        per_class = macro_auc(np.where(speaks, layer[rows], np.float32(0)), truth).per_class
        known = np.isfinite(per_class)
        values.append(per_class[known].mean() if known.any() else 0.5)
    return {"backbone": int(np.argmax(values))}


def _single(layers: np.ndarray, index: int) -> np.ndarray:
    """One backbone's scores; where it says nothing, the mean of those that do."""
    layer = layers[index]
    if np.isfinite(layer).all():
        return layer
    return np.where(np.isfinite(layer), layer, mean_over_backbones(layers))


def _probability(layers: np.ndarray) -> np.ndarray:
    return np.asarray(-np.logaddexp(np.float32(0), -layers), dtype=np.float32)


def _ranker_fit(material: Material, rows: np.ndarray) -> Params:
    table = material.table
    weights = fit_ranker(material.ranker, table.truth, table.recording, rows)
    # One scale whatever the fold: the length of the weights ranks nothing.
    return {"weights": (weights / max(float(weights.sum()), 1e-9)).tolist()}


def _greedy_fit(material: Material, rows: np.ndarray) -> Params:
    from birdstack.stacking.greedy import greedy_weights  # noqa: PLC0415 - a circle otherwise

    library = np.nan_to_num(np.concatenate([material.z, material.z_smooth]))
    return {"weights": greedy_weights(library, material.truth, rows).tolist()}


def _greedy_score(material: Material, learnt: Params) -> np.ndarray:
    library = np.nan_to_num(np.concatenate([material.z, material.z_smooth]))
    return rank_by(library, np.asarray(learnt["weights"]))


def _mean(material: Material) -> np.ndarray:
    return mean_over_backbones(material.aligned)


CONTROLS: tuple[Control, ...] = (
    Control(
        "best_single_as_given",
        "best single backbone, as given",
        lambda m, p: _single(m.raw, p["backbone"]),
        best_backbone,
        candidate=False,
    ),
    Control(
        "mean_as_given",
        "mean, as given",
        lambda m, _: mean_over_backbones(m.raw),
        candidate=False,
    ),
    Control(
        "mean_kernel_as_given",
        "mean + kernel, as given",
        lambda m, _: m.smooth(mean_over_backbones(m.raw)),
        candidate=False,
    ),
    Control(
        "best_single",
        "best single backbone",
        lambda m, p: _single(m.aligned, p["backbone"]),
        best_backbone,
    ),
    Control("mean", "mean", lambda m, _: _mean(m)),
    Control("z_mean", "mean of z-scores", lambda m, _: mean_over_backbones(m.z)),
    Control("rank_mean", "mean of ranks", lambda m, _: mean_over_backbones(m.rank)),
    Control(
        "geometric",
        "geometric mean of probabilities",
        lambda m, _: mean_over_backbones(_probability(m.aligned)),
    ),
    Control("min", "minimum of z-scores", lambda m, _: np.nanmin(m.z, axis=0)),
    Control(
        "single_kernel",
        "best single + kernel",
        lambda m, p: m.smooth(_single(m.aligned, p["backbone"])),
        best_backbone,
    ),
    Control("mean_kernel", "mean + kernel", lambda m, _: m.smooth(_mean(m))),
    Control("z_kernel", "mean of z-scores + kernel", lambda m, _: mean_over_backbones(m.z_smooth)),
    Control(
        "rank_kernel",
        "mean of ranks + kernel",
        lambda m, _: m.smooth(mean_over_backbones(m.rank)),
    ),
    Control("greedy", "greedy weights", _greedy_score, _greedy_fit),
    Control(
        "ranker",
        "shared ranker",
        lambda m, p: rank_by(m.ranker, np.asarray(p["weights"])),
        _ranker_fit,
    ),
)
"""Simplest first."""

BY_NAME = {control.name: control for control in CONTROLS}
CANDIDATES = tuple(control for control in CONTROLS if control.candidate)
