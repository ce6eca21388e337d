"""Fit the layers of a stack, and score every row by what has not met its fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from birdstack.stacking.blend import blend_weights, blended
from birdstack.stacking.class_columns import ClassColumns
from birdstack.stacking.class_layers import ByClass, LayerJob
from birdstack.stacking.class_model import ClassModel, finished, trees_by_fold
from birdstack.stacking.class_shelf import ClassShelf, SharedFit
from birdstack.stacking.controls import Material
from birdstack.stacking.each import each
from birdstack.stacking.guards import Fallback, below_control, too_few
from birdstack.stacking.shards import require_finished
from birdstack.stacking.stack_model import Scale, SharedLayer, StackModel
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.steps import Advance


@dataclass(frozen=True)
class FittedStack:
    """A stack and what it says of the rows it was fitted on, each without its fold.

    Attributes:
        model: the stack.
        shared: shared booster, `[window, class]`.
        layers: residual booster, logistic and shared score, standardised,
            `[layer, window, class]`.
        same_data: the stack with guards and weights decided on all folds.
        nested: the stack with guards and weights of each fold decided on the others.
        own: the blend of a class's own layers, whatever the guards say.
        fallbacks: by position of the class.
    """

    model: StackModel
    shared: np.ndarray
    layers: np.ndarray
    same_data: np.ndarray
    nested: np.ndarray
    own: np.ndarray
    fallbacks: Mapping[int, Fallback]


def fit_stack(
    material: Material,
    control: np.ndarray,
    ranked: np.ndarray,
    settings: StackSettings,
    advance: Advance,
    *,
    shelf: ClassShelf | None = None,
    by_class: ByClass | None = None,
    require_all: bool = False,
) -> FittedStack:
    """Fit all layers, or take from a shelf those that are finished.

    Args:
        material: views of the training table.
        control: out-of-fold scores of the control that a class must not rank below.
        ranked: out-of-fold scores of the shared ranker of this table.
        settings: of the stack.
        advance: told of progress.
        shelf: where finished layers are taken from and put; None to fit everything.
        by_class: settings of single classes, as `Tuned.by_class` has them.
        require_all: refuse rather than fit a class that is not on the shelf.

    Raises:
        UsageError: a class is not on the shelf, and all are required.
    """
    table = material.table
    few = too_few(table, table.window_fold >= 0, settings)
    numbers = [number for number in range(len(table.classes)) if number not in few]
    job = LayerJob(
        material,
        ranked,
        settings,
        numbers,
        advance=advance,
        shelf=shelf,
        by_class=by_class,
        scored=True,
    )
    if require_all:
        require_finished(job, table, shelf)
    shared = job.shared()
    models, own = _class_layers(job, shared, numbers, settings)
    raw = np.stack([own[0], own[1], shared.common])
    scale = Scale.of(raw)
    layers = ((raw - scale.centre[:, None]) / scale.width[:, None]).astype(np.float32)
    parts = _Layers(layers, shared.boosted, shared.layer, models, job.columns, scale)
    return _guarded(material, control, parts, few, settings)


@dataclass(frozen=True)
class _Layers:
    scores: np.ndarray
    boosted: np.ndarray
    shared: SharedLayer
    models: Mapping[int, ClassModel]
    columns: ClassColumns
    scale: Scale


def _class_layers(
    job: LayerJob, shared: SharedFit, numbers: Sequence[int], settings: StackSettings
) -> tuple[dict[int, ClassModel], np.ndarray]:
    """Models of the classes with enough positives; their out-of-fold scores, else the shared."""
    columns, common = job.columns, shared.common
    table = columns.table
    fits = job.fits(common)
    n_trees = trees_by_fold(list(fits.values()), settings.trees)
    models: dict[int, ClassModel] = {}
    own = np.stack([common, common])
    every = np.arange(table.n_windows)

    def score(number: int) -> None:
        start = common[:, number]
        model = finished(
            fits[number].model, columns, number, start, n_trees=n_trees, seed=settings.seed
        )
        values = columns.of_class(number, every)
        own[:, :, number] = model.out_of_fold(values, start, table.window_fold)
        models[number] = model
        job.steps.done(job.cost.own, f"scores of {table.classes[number]}")

    each(score, numbers, settings.workers)
    return {c: models[c] for c in numbers}, own


def _guarded(
    material: Material,
    control: np.ndarray,
    parts: _Layers,
    few: Mapping[int, Fallback],
    settings: StackSettings,
) -> FittedStack:
    table, layers = material.table, parts.scores
    fold, judged = table.window_fold, table.judged
    lacking = np.isin(np.arange(len(table.classes)), list(few))

    def decide(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights = blend_weights(
            settings.blend, layers[:, :, ~lacking], table.truth[:, ~lacking], rows
        )
        worse = below_control(blended(layers, weights), control, table.truth, rows)
        return weights, lacking | worse

    def scores(weights: np.ndarray, fallen: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.where(fallen, layers[2][rows], blended(layers[:, rows], weights))

    nested = np.array(layers[2])
    for held in np.unique(fold[fold >= 0]):
        at = fold == held
        nested[at] = scores(*decide(judged & ~at), at)
    weights, fallen = decide(judged)
    every = np.ones(len(fold), dtype=bool)
    fallbacks = dict(few)
    for number in np.flatnonzero(fallen & ~lacking):
        why = "its own layers rank out-of-fold below the control"
        fallbacks[int(number)] = Fallback(table.classes[number], "below_control", why)
    model = StackModel(
        settings, parts.columns.plan, parts.shared, parts.models, parts.scale, weights, fallen
    )
    return FittedStack(
        model,
        parts.boosted,
        layers,
        scores(weights, fallen, every),
        nested,
        blended(layers, weights),
        fallbacks,
    )
