"""Fit the layers of a stack, and score every row by what has not met its fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from birdstack.stacking.blend import blend_weights, blended
from birdstack.stacking.class_columns import ClassColumns
from birdstack.stacking.class_model import ClassFit, ClassModel, finished, fit_class, trees_by_fold
from birdstack.stacking.controls import BY_NAME, Material
from birdstack.stacking.each import each
from birdstack.stacking.guards import Fallback, below_control, too_few
from birdstack.stacking.shared_booster import fit_shared, shared_out_of_fold
from birdstack.stacking.stack_model import Scale, SharedLayer, StackModel
from birdstack.stacking.stack_settings import StackSettings

Advance = Callable[[int, int, str], None]
"""Told how many steps are done, how many there are, and a few words."""


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
) -> FittedStack:
    """Fit all layers.

    Args:
        material: views of the training table.
        control: out-of-fold scores of the control that a class must not rank below.
        ranked: out-of-fold scores of the shared ranker.
        settings: of the stack.
        advance: told of progress.
    """
    table = material.table
    n_classes = len(table.classes)
    steps = _Steps(advance, 3 * n_classes + 1)
    known = table.window_fold >= 0
    columns = ClassColumns(
        material, neighbours=settings.neighbours, max_extra=settings.max_extra, seed=settings.seed
    )
    shared, common, boosted = shared_scores(columns, material, ranked, settings, steps.done)
    few = too_few(table, known, settings)
    models, own = _class_layers(columns, common, known, few=few, settings=settings, steps=steps)
    raw = np.stack([own[0], own[1], common])
    scale = Scale.of(raw)
    layers = ((raw - scale.centre[:, None]) / scale.width[:, None]).astype(np.float32)
    return _guarded(
        material, control, _Layers(layers, boosted, shared, models, columns, scale), few, settings
    )


def shared_scores(
    columns: ClassColumns,
    material: Material,
    ranked: np.ndarray,
    settings: StackSettings,
    done: Callable[[str], None] = lambda _: None,
) -> tuple[SharedLayer, np.ndarray, np.ndarray]:
    """Fit the shared layer.

    Args:
        columns: of the training table.
        material: its views.
        ranked: out-of-fold scores of the shared ranker.
        settings: of the stack.
        done: told after each step.

    Returns:
        The layer; its out-of-fold scores `[window, class]`; those of the booster alone.
    """
    known = columns.table.window_fold >= 0
    boosters = fit_shared(columns, known, settings)
    done("shared booster")
    boosted = shared_out_of_fold(columns, boosters, settings, lambda: done("shared scores"))
    weights = np.asarray(BY_NAME["ranker"].learn(material, known)["weights"])
    layer = SharedLayer(boosters, weights, Scale.of(np.stack([boosted, ranked])))
    common = [
        layer.combined(number, boosted[:, number], ranked[:, number])
        for number in range(boosted.shape[1])
    ]
    return layer, np.stack(common, axis=1).astype(np.float32), boosted


@dataclass(frozen=True)
class _Layers:
    scores: np.ndarray
    boosted: np.ndarray
    shared: SharedLayer
    models: Mapping[int, ClassModel]
    columns: ClassColumns
    scale: Scale


def _class_layers(
    columns: ClassColumns,
    shared: np.ndarray,
    known: np.ndarray,
    *,
    few: Mapping[int, Fallback],
    settings: StackSettings,
    steps: _Steps,
) -> tuple[dict[int, ClassModel], np.ndarray]:
    """Models of the classes with enough positives; their out-of-fold scores, else the shared."""
    table = columns.table
    numbers = [c for c in range(len(table.classes)) if c not in few]
    fits: dict[int, ClassFit] = {}
    models: dict[int, ClassModel] = {}

    def fit(number: int) -> None:
        fits[number] = fit_class(columns, number, shared[:, number], known, settings)
        steps.done(f"class {table.classes[number]}")

    each(fit, numbers, settings.workers)
    n_trees = trees_by_fold([fits[c] for c in numbers], settings.trees)
    own = np.stack([shared, shared])
    every = np.arange(table.n_windows)

    def score(number: int) -> None:
        start = shared[:, number]
        model = finished(
            fits[number].model, columns, number, start, n_trees=n_trees, seed=settings.seed
        )
        values = columns.of_class(number, every)
        own[:, :, number] = model.out_of_fold(values, start, table.window_fold)
        models[number] = model
        steps.done(f"class {table.classes[number]}")

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
    fold = table.window_fold
    known = fold >= 0
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
    for held in np.unique(fold[known]):
        at = fold == held
        nested[at] = scores(*decide(known & ~at), at)
    weights, fallen = decide(known)
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


class _Steps:
    """Counts steps; those of classes that are passed over are never waited for."""

    def __init__(self, advance: Advance, total: int) -> None:
        self._advance, self._total, self._count = advance, total, 0

    def done(self, words: str) -> None:
        self._count += 1
        self._advance(self._count, self._total, words)
