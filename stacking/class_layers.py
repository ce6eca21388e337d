"""Fit the shared layer and the layers of classes, or take them from a shelf."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from birdstack.stacking.class_columns import ClassColumns
from birdstack.stacking.class_model import ClassFit, fit_class
from birdstack.stacking.class_shelf import ClassShelf, SharedFit
from birdstack.stacking.controls import BY_NAME, Material
from birdstack.stacking.each import each
from birdstack.stacking.shared_booster import fit_shared, shared_out_of_fold
from birdstack.stacking.stack_model import Scale, SharedLayer
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.steps import Advance, Steps, costs

ByClass = Mapping[str, Mapping[str, float]]
"""Name of a class -> those of its settings that are not the stack's."""


def class_columns(material: Material, settings: StackSettings) -> ClassColumns:
    """Columns of the classes of a training table."""
    return ClassColumns(
        material, neighbours=settings.neighbours, max_extra=settings.max_extra, seed=settings.seed
    )


def shared_layer(
    columns: ClassColumns,
    material: Material,
    ranked: np.ndarray,
    settings: StackSettings,
    *,
    shelf: ClassShelf | None = None,
    booster_done: Callable[[], None] = lambda: None,
    class_done: Callable[[], None] = lambda: None,
) -> SharedFit:
    """The shared layer: from the shelf, or fitted and put there.

    Args:
        columns: of the training table.
        material: its views.
        ranked: out-of-fold scores of the shared ranker of this table.
        settings: of the stack.
        shelf: of finished work.
        booster_done: told once the boosters are fitted.
        class_done: told after the scores of each class.
    """
    kept = None if shelf is None else shelf.shared(settings)
    if kept is not None:
        return kept
    boosters = fit_shared(columns, columns.table.window_fold >= 0, settings)
    booster_done()
    boosted = shared_out_of_fold(columns, boosters, settings, class_done)
    weights = np.asarray(BY_NAME["ranker"].learn(material, columns.table.judged)["weights"])
    layer = SharedLayer(boosters, weights, Scale.of(np.stack([boosted, ranked])))
    common = [
        layer.combined(number, boosted[:, number], ranked[:, number])
        for number in range(boosted.shape[1])
    ]
    fit = SharedFit(layer, np.stack(common, axis=1).astype(np.float32), boosted)
    if shelf is not None:
        shelf.keep_shared(fit, settings)
    return fit


def own_settings(settings: StackSettings, by_class: ByClass, name: str) -> StackSettings:
    """Settings of one class."""
    own = by_class.get(name)
    return settings if not own else settings.model_copy(update=dict(own))


class LayerJob:
    """Fits the shared layer, then the layers of some classes, and says how far it is.

    Args:
        material: views of the training table.
        ranked: out-of-fold scores of the shared ranker of this table.
        settings: of the stack.
        numbers: classes that get layers of their own.
        advance: told of progress.
        shelf: of finished work; None to fit everything.
        by_class: settings of single classes.
        scored: whether classes are scored too, once they are fitted.

    Attributes:
        columns: of the training table.
        fresh: numbers of the classes that were fitted just now.
        steps: to be told of what is done besides.
        cost: of each thing there is to do.
    """

    def __init__(
        self,
        material: Material,
        ranked: np.ndarray,
        settings: StackSettings,
        numbers: Sequence[int],
        *,
        advance: Advance,
        shelf: ClassShelf | None = None,
        by_class: ByClass | None = None,
        scored: bool = False,
    ) -> None:
        self.columns = class_columns(material, settings)
        self.fresh: list[int] = []
        self.cost = costs(material.table, numbers, settings)
        self._material, self._ranked, self._settings = material, ranked, settings
        self._numbers, self._shelf, self._by_class = numbers, shelf, by_class or {}
        self._known = material.table.window_fold >= 0
        self._there: frozenset[int] = frozenset()
        done = 0
        if shelf is not None:
            shelf.refresh()
            self._there = frozenset(n for n in numbers if shelf.has(n, self._own(n)))
            done = sum(self.cost.fits[n] for n in self._there)
            done += self.cost.shared_layer * shelf.has_shared(settings)
        total = self.cost.shared_layer + sum(self.cost.fits.values())
        self.steps = Steps(advance, total + self.cost.own * len(numbers) * scored, done)

    @property
    def shared_there(self) -> bool:
        """Whether the shared layer is on the shelf."""
        return self._shelf is not None and self._shelf.has_shared(self._settings)

    def missing(self) -> list[int]:
        """Classes that are not on the shelf, or lie there damaged."""
        shelf = self._shelf
        if shelf is None:
            return list(self._numbers)
        return [number for number in self._numbers if shelf.fit(number, self._own(number)) is None]

    def shared(self) -> SharedFit:
        """The shared layer."""
        told = not self.shared_there
        return shared_layer(
            self.columns,
            self._material,
            self._ranked,
            self._settings,
            shelf=self._shelf,
            booster_done=lambda: self.steps.done(self.cost.booster * told, "shared booster"),
            class_done=lambda: self.steps.done(self.cost.shared * told, "shared scores"),
        )

    def fits(self, common: np.ndarray) -> dict[int, ClassFit]:
        """The layers of each class, from the out-of-fold scores of the shared layer."""
        fits: dict[int, ClassFit] = {}

        def one(number: int) -> None:
            fits[number] = self._fit(number, common[:, number])
            if number not in self._there:
                name = self.columns.table.classes[number]
                self.steps.done(self.cost.fits[number], f"class {name}")

        each(one, self._numbers, self._settings.workers)
        return {number: fits[number] for number in self._numbers}

    def _fit(self, number: int, common: np.ndarray) -> ClassFit:
        settings, shelf = self._own(number), self._shelf
        fit = None if shelf is None else shelf.fit(number, settings)
        if fit is None:
            fit = fit_class(self.columns, number, common, self._known, settings)
            self.fresh.append(number)
            if shelf is not None:
                shelf.keep(number, fit, settings)
        tuned = self._by_class.get(self.columns.table.classes[number], {})
        return replace(fit, model=replace(fit.model, tuned=dict(tuned)))

    def _own(self, number: int) -> StackSettings:
        return own_settings(self._settings, self._by_class, self.columns.table.classes[number])
