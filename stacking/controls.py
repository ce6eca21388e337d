"""Simple ways to combine backbones: what a stack has to beat, and what is used if it does not.

Those that learn from labels (`fit`) score a fold with what they learnt on the others; the rest look
at no label at all. All but the three "as given" read scores whose fold models have been brought
to one scale (`fold_scales`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.greedy import greedy_weights
from birdstack.stacking.score_views import ScoreViews, mean_over_backbones
from birdstack.stacking.shared_ranker import fit_ranker, rank_by, ranker_columns

Params = Mapping[str, Any]
"""What a control learnt: JSON-able."""


class Material(ScoreViews):
    """Views of the scores, and what several controls need, made once."""

    @cached_property
    def ranker(self) -> np.ndarray:
        """Columns of the shared ranker, `[column, window, class]`."""
        return ranker_columns(self)

    @property
    def library(self) -> np.ndarray:
        """What greedy weights choose from: the ranker's plain and smoothed columns."""
        return self.ranker[: 2 * len(self.table.backbones)]

    @cached_property
    def _best(self) -> dict[bytes, int]:
        return {}

    def best_backbone(self, rows: np.ndarray) -> int:
        """The backbone with the highest macro AUC on some rows; one that lacks a class gets 0.5."""
        key = np.packbits(rows).tobytes()
        if key not in self._best:
            truth = self.truth[rows]
            values = []
            for layer in self.aligned:
                filled = np.nan_to_num(layer[rows])
                per_class = macro_auc(filled, truth).per_class
                known = np.isfinite(per_class)
                values.append(per_class[known].mean() if known.any() else 0.5)
            self._best[key] = int(np.argmax(values))
        return self._best[key]

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
        score_rows: scores of some rows alone, where that is less work.
    """

    name: str
    title: str
    score: Callable[[Material, Params], np.ndarray]
    fit: Callable[[Material, np.ndarray], Params] | None = None
    candidate: bool = True
    score_rows: Callable[[Material, Params, np.ndarray], np.ndarray] | None = None

    def learn(self, material: Material, rows: np.ndarray) -> Params:
        """What it takes from the labels of some rows."""
        return self.fit(material, rows) if self.fit else {}


def out_of_fold(
    control: Control, material: Material, among: np.ndarray | None = None
) -> np.ndarray:
    """Scores of every row by what was learnt without the row's fold, `[window, class]`.

    Args:
        control: the way to combine.
        material: the scores.
        among: rows that exist at all, `[window]` of bool; the rest is neither learnt from
            nor scored. All rows with a fold, if not given; learnt from are those of them
            that choices are made on.
    """
    if control.fit is None:
        return control.score(material, {})
    fold = material.table.window_fold
    among = fold >= 0 if among is None else among
    scores = np.zeros(material.truth.shape, dtype=np.float32)
    whole: dict[str, np.ndarray] = {}
    for which in np.unique(fold[among]):
        held = fold == which
        learnt = control.learn(material, among & material.table.judged & ~held)
        if control.score_rows is not None:
            scores[held] = control.score_rows(material, learnt, held)
            continue
        key = str(learnt)
        if key not in whole:
            whole[key] = control.score(material, learnt)
        scores[held] = whole[key][held]
    return scores


def _best_fit(material: Material, rows: np.ndarray) -> Params:
    return {"backbone": material.best_backbone(rows)}


def _single(layers: np.ndarray, index: int) -> np.ndarray:
    """One backbone's scores; where it says nothing, the mean of those that do."""
    layer = np.asarray(layers[index])
    if np.isfinite(layer).all():
        return layer
    return np.where(np.isfinite(layer), layer, mean_over_backbones(layers))


def _probability(layers: np.ndarray) -> np.ndarray:
    """Logarithm of the probability, exact at both ends."""
    return np.asarray(np.minimum(layers, 0) - np.log1p(np.exp(-np.abs(layers))), dtype=np.float32)


def _ranker_fit(material: Material, rows: np.ndarray) -> Params:
    table = material.table
    weights = fit_ranker(material.ranker, table.truth, table.recording, rows)
    # One scale whatever the fold: the length of the weights ranks nothing.
    return {"weights": (weights / max(float(weights.sum()), 1e-9)).tolist()}


def _greedy_fit(material: Material, rows: np.ndarray) -> Params:
    return {"weights": greedy_weights(material.library, material.truth, rows).tolist()}


def _ranker_rows(material: Material, learnt: Params, rows: np.ndarray) -> np.ndarray:
    return rank_by(material.ranker[:, rows], np.asarray(learnt["weights"]))


def _greedy_rows(material: Material, learnt: Params, rows: np.ndarray) -> np.ndarray:
    return rank_by(material.library[:, rows], np.asarray(learnt["weights"]))


def _mean(material: Material) -> np.ndarray:
    return mean_over_backbones(material.aligned)


CONTROLS: tuple[Control, ...] = (
    Control(
        "best_single_as_given",
        "best single backbone, as given",
        lambda m, p: _single(m.raw, p["backbone"]),
        _best_fit,
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
        _best_fit,
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
        _best_fit,
    ),
    Control("mean_kernel", "mean + kernel", lambda m, _: m.smooth(_mean(m))),
    Control("z_kernel", "mean of z-scores + kernel", lambda m, _: mean_over_backbones(m.z_smooth)),
    Control(
        "rank_kernel",
        "mean of ranks + kernel",
        lambda m, _: m.smooth(mean_over_backbones(m.rank)),
    ),
    Control(
        "greedy",
        "greedy weights",
        lambda m, p: rank_by(m.library, np.asarray(p["weights"])),
        _greedy_fit,
        score_rows=_greedy_rows,
    ),
    Control(
        "ranker",
        "shared ranker",
        lambda m, p: rank_by(m.ranker, np.asarray(p["weights"])),
        _ranker_fit,
        score_rows=_ranker_rows,
    ),
)
"""Simplest first."""

BY_NAME = {control.name: control for control in CONTROLS}
CANDIDATES = tuple(control for control in CONTROLS if control.candidate)
