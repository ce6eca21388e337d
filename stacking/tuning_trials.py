"""What one trial does: fit the layers of some classes, and read AUC off their samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.class_columns import ClassColumns
from birdstack.stacking.class_layers import class_columns, shared_layer
from birdstack.stacking.class_model import ClassFit, fit_class
from birdstack.stacking.controls import BY_NAME, Material, out_of_fold
from birdstack.stacking.each import each
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.stack_table import StackTable

_MOST_NEGATIVES = 2500


class Tryout:
    """Everything that trials have in common, made once, when the first of them asks.

    Args:
        table: every row has a fold.
        settings: the usual ones.
    """

    def __init__(self, table: StackTable, settings: StackSettings) -> None:
        self.table, self._settings = table, settings
        self._known = table.window_fold >= 0

    @cached_property
    def _material(self) -> Material:
        return Material(self.table)

    @cached_property
    def _columns(self) -> ClassColumns:
        return class_columns(self._material, self._settings)

    @cached_property
    def _common(self) -> np.ndarray:
        ranked = out_of_fold(BY_NAME["ranker"], self._material)
        return shared_layer(self._columns, self._material, ranked, self._settings).common

    def fit(self, number: int, settings: StackSettings) -> ClassFit:
        """The layers of one class, on a sample."""
        fewer = {"negatives": min(settings.negatives, _MOST_NEGATIVES)}
        return fit_class(
            self._columns,
            number,
            self._common[:, number],
            self._known,
            settings.model_copy(update=fewer),
        )

    def mean(
        self, numbers: Sequence[int], settings: StackSettings, beat: Callable[[], None]
    ) -> tuple[list[float | None], float]:
        """AUC of each class at the number of trees that is best for all, and their mean."""
        rows: dict[int, list[float]] = {}
        # Made before threads ask for them.
        _ = self._common

        def one(number: int) -> None:
            fit = self.fit(number, settings)
            rows[number] = [auc(scores, fit.present) for scores in together(fit)]
            beat()

        each(one, numbers, settings.workers)
        table = np.array([rows[number] for number in numbers])
        means = [_mean(column) for column in table.T]
        best = int(np.argmax(means))
        return [None if np.isnan(v) else float(v) for v in table[:, best]], means[best]


def together(fit: ClassFit) -> np.ndarray:
    """Booster and logistic together on the sample, for each number of trees: `[tried, row]`."""
    flat = _standard(fit.linear)
    return np.stack([_standard(row) + flat for row in fit.trial])


def auc(scores: np.ndarray, present: np.ndarray) -> float:
    """Of one class; NaN without both outcomes."""
    return macro_auc(scores[:, None], present[:, None].astype(np.int8)).value


def _standard(scores: np.ndarray) -> np.ndarray:
    width = scores.std()
    return np.asarray((scores - scores.mean()) / (width if width > 0 else 1))


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.5
