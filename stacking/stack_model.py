"""A fitted stack: shared layer, class layers, blend, fallbacks; scores any table of its shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from birdstack.stacking.class_columns import ClassColumns, ColumnPlan
from birdstack.stacking.class_model import ClassModel
from birdstack.stacking.each import each
from birdstack.stacking.score_views import ScoreViews
from birdstack.stacking.shared_booster import shared_mean
from birdstack.stacking.shared_ranker import rank_by, ranker_columns
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.trees import Trees

Model = TypeVar("Model")


@dataclass(frozen=True)
class Scale:
    """Centre and width of each score and class, from the out-of-fold scores.

    Attributes:
        centre: `[layer, class]`.
        width: `[layer, class]`, above zero.
    """

    centre: np.ndarray
    width: np.ndarray

    @classmethod
    def of(cls, layers: np.ndarray) -> Scale:
        """From scores `[layer, window, class]`."""
        values = layers.astype(np.float64)
        width = values.std(axis=1)
        return cls(values.mean(axis=1), np.where(width > 0, width, 1.0))

    def apply(self, layer: int, number: int, scores: np.ndarray) -> np.ndarray:
        """Standardise the scores of one layer and class."""
        return np.asarray((scores - self.centre[layer, number]) / self.width[layer, number])


@dataclass(frozen=True)
class SharedLayer:
    """What is the same for all classes: boosters and ranker, averaged on one scale.

    Attributes:
        boosters: by the fold they were fitted without.
        ranker: weights of the ranker's columns.
        scale: of booster and ranker.
    """

    boosters: Mapping[int, Trees]
    ranker: np.ndarray
    scale: Scale

    def combined(self, number: int, boosted: np.ndarray, ranked: np.ndarray) -> np.ndarray:
        """The shared score of one class from both scores, `[window]`."""
        parts = self.scale.apply(0, number, boosted) + self.scale.apply(1, number, ranked)
        return np.asarray(parts / 2)


@dataclass(frozen=True)
class StackModel:
    """All of a fitted stack.

    Attributes:
        settings: it was fitted with.
        plan: which columns each class sees.
        shared: the shared layer.
        classes: layers of those classes that have their own, by position.
        scale: of residual booster, logistic and shared score.
        weights: of these layers.
        fallen: whether each class gets the shared score alone, `[class]`.
    """

    settings: StackSettings
    plan: ColumnPlan
    shared: SharedLayer
    classes: Mapping[int, ClassModel]
    scale: Scale
    weights: np.ndarray
    fallen: np.ndarray

    def score(
        self,
        views: ScoreViews,
        advance: Callable[[], None] = lambda: None,
        *,
        held: int | None = None,
    ) -> np.ndarray:
        """Scores `[window, class]` of rows that no fold model has met.

        Args:
            views: of the rows.
            advance: told after each class.
            held: use the models that were fitted without this fold alone: the partners of
                the networks' fold model of that number. All fold models, if not given.
        """
        columns = ClassColumns(views, self.plan)
        ranked = rank_by(ranker_columns(views), self.shared.ranker)
        out = np.empty(ranked.shape, dtype=np.float32)

        def one(number: int) -> None:
            layers = self.layers(columns, number, ranked[:, number], held=held)
            own = np.array([0.0, 0.0, 1.0]) if self.fallen[number] else self.weights
            out[:, number] = np.tensordot(own, layers, axes=1)
            advance()

        each(one, range(ranked.shape[1]), self.settings.workers)
        return out

    def layers(
        self, columns: ClassColumns, number: int, ranked: np.ndarray, *, held: int | None = None
    ) -> np.ndarray:
        """Residual booster, logistic and shared score of one class, standardised.

        Args:
            columns: of rows that no fold model has met.
            number: of the class.
            ranked: the shared ranker's score of the class, `[window]`.
            held: as for `score`.

        Returns:
            `[layer, window]`; a class without layers of its own has the shared score thrice.
        """
        boosters = _of(held, self.shared.boosters)
        boosted = shared_mean(columns, boosters, self.settings, number)
        shared = self.shared.combined(number, boosted, ranked)
        common = self.scale.apply(2, number, shared)
        if number not in self.classes:
            return np.stack([common, common, common])
        at = np.arange(columns.table.n_windows)
        values = columns.of_class(number, at)
        scores = [fold.score(values, shared) for fold in _of(held, self.classes[number].folds)]
        own = np.mean(scores, axis=0)
        first, second = (self.scale.apply(layer, number, own[layer]) for layer in (0, 1))
        return np.stack([first, second, common])


def _of(held: int | None, by_fold: Mapping[int, Model]) -> list[Model]:
    """The model of one fold, or all of them."""
    return [by_fold[held]] if held is not None and held in by_fold else list(by_fold.values())
