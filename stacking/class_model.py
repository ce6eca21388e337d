"""The two layers that belong to one class: residual boosters and logistics, one of each a fold.

Each fold's model is shifted so that its mean over the same few hundred rows is zero. A model
fitted without the fold that holds most of a rare class starts from a lower prevalence, and its
scores would rank that fold's windows below all others: pooled out-of-fold AUC of rare classes
comes out too low (Parker et al. 2007, Airola et al. 2011). Within a fold nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.class_columns import ClassColumns
from birdstack.stacking.logistic import Linear, fit_linear
from birdstack.stacking.residual_booster import fit_residual, platt, sample_rows
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.trees import Trees
from birdstack.store.labels import PRESENT

_REFERENCE = 500


@dataclass(frozen=True)
class FoldModel:
    """Both layers of one class, fitted without one fold.

    Attributes:
        slope: of the offset: what one unit of the shared score is worth as a logit.
        n_trees: how many trees are used.
        trees: the residual booster; None where there was nothing to learn.
        linear: the logistic; None likewise.
        shift: taken off the booster's score, and off the logistic's.
    """

    slope: float
    n_trees: int
    trees: Trees | None
    linear: Linear | None
    shift: tuple[float, float]

    def score(self, values: np.ndarray, shared: np.ndarray) -> np.ndarray:
        """Scores `[layer, row]` of residual booster and logistic."""
        boosted = self.slope * shared
        if self.trees is not None:
            boosted = boosted + self.trees.raw(values, self.n_trees)
        linear = self.slope * shared if self.linear is None else self.linear.score(values)
        return np.stack([boosted - self.shift[0], linear - self.shift[1]])


@dataclass(frozen=True)
class ClassModel:
    """Both layers of one class for every fold.

    Attributes:
        folds: by the fold they were fitted without.
        tuned: settings of this class that are not those of the stack.
    """

    folds: dict[int, FoldModel]
    tuned: Mapping[str, float] = field(default_factory=dict)

    def out_of_fold(self, values: np.ndarray, shared: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """Scores `[layer, row]` by the model that has not met the row's fold."""
        out = np.zeros((2, len(values)))
        for held, model in self.folds.items():
            at = np.flatnonzero(fold == held)
            if len(at):
                out[:, at] = model.score(values[at], shared[at])
        return out


@dataclass(frozen=True)
class ClassFit:
    """A class as fitted.

    Attributes:
        model: its layers.
        trial: out-of-fold scores of the residual booster on the sample for each number of
            trees tried, `[tried, row]`.
        linear: out-of-fold scores of the logistic on the sample, `[row]`.
        present: whether the class is present in the sample's rows.
        fold: of the sample's rows.
    """

    model: ClassModel
    trial: np.ndarray
    linear: np.ndarray
    present: np.ndarray
    fold: np.ndarray


def fit_class(
    columns: ClassColumns,
    number: int,
    shared: np.ndarray,
    rows: np.ndarray,
    settings: StackSettings,
) -> ClassFit:
    """Fit both layers of one class.

    Args:
        columns: of the training table.
        number: of the class.
        shared: out-of-fold shared score of the class, `[window]`.
        rows: rows with a fold, `[window]` of bool.
        settings: of the stack.
    """
    truth = columns.table.truth[:, number]
    at = sample_rows(truth, rows, settings.negatives, (settings.seed, number))
    values, start = columns.of_class(number, at), shared[at].astype(np.float64)
    present, fold = truth[at] == PRESENT, columns.table.window_fold[at]
    lines = {}
    for held in np.unique(columns.table.window_fold[rows]):
        learn = fold != held
        if 0 < present[learn].sum() < learn.sum():
            lines[int(held)] = platt(start[learn], present[learn])
    offset = {held: slope * start + level for held, (slope, level) in lines.items()}
    boosters = fit_residual(
        values, present, fold, offset, monotone=columns.monotone(number), settings=settings
    )
    reference = np.random.default_rng([settings.seed, number, 1]).permutation(len(at))[:_REFERENCE]
    models = {}
    trial, flat = np.zeros((len(settings.trees), len(at))), np.zeros(len(at))
    for held in (int(f) for f in np.unique(columns.table.window_fold[rows])):
        slope = lines.get(held, (1.0, 0.0))[0]
        linear = None
        if held in lines:
            learn = fold != held
            linear = fit_linear(values[learn], present[learn], c=settings.logistic_c)
        here = fold == held
        for row, trees in enumerate(settings.trees):
            bare = FoldModel(slope, trees, boosters.get(held), linear, (0.0, 0.0))
            shift = bare.score(values[reference], start[reference]).mean(axis=1)
            trial[row, here], flat[here] = bare.score(values[here], start[here]) - shift[:, None]
        models[held] = bare
    return ClassFit(ClassModel(models), trial, flat, present, fold)


def finished(
    model: ClassModel,
    columns: ClassColumns,
    number: int,
    shared: np.ndarray,
    *,
    n_trees: Mapping[int, int],
    seed: int,
) -> ClassModel:
    """The model with its numbers of trees, and every fold's mean brought to zero."""
    n_rows = columns.table.n_windows
    at = np.sort(np.random.default_rng([seed, number, 2]).permutation(n_rows)[:_REFERENCE])
    values, start = columns.of_class(number, at), shared[at].astype(np.float64)
    folds = {}
    for held, tried in model.folds.items():
        bare = replace(tried, n_trees=n_trees[held], shift=(0.0, 0.0))
        boosted, linear = bare.score(values, start).mean(axis=1)
        folds[held] = replace(bare, shift=(float(boosted), float(linear)))
    return replace(model, folds=folds)


def trees_by_fold(fits: Sequence[ClassFit], tried: tuple[int, ...]) -> dict[int, int]:
    """Number of trees for the models of each fold, chosen on the other folds by macro AUC.

    One number for all classes: the mean over them is far steadier than any one.
    """
    folds = sorted({held for fit in fits for held in fit.model.folds})
    chosen = {}
    for held in folds:
        values = []
        for row in range(len(tried)):
            aucs = [_auc(fit.trial[row], fit.present, fit.fold != held) for fit in fits]
            known = [value for value in aucs if np.isfinite(value)]
            values.append(float(np.mean(known)) if known else 0.5)
        chosen[held] = tried[int(np.argmax(values))]
    return chosen


def _auc(scores: np.ndarray, present: np.ndarray, rows: np.ndarray) -> float:
    return macro_auc(scores[rows, None], present[rows, None].astype(np.int8)).value
