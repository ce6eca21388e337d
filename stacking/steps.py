"""Progress in units of like time, so that the time left can be told from what is done.

A shared booster takes minutes, a class seconds, its scores less: were each one step, the time
left would be told wrong all along. What lies finished on a shelf is said with the first word,
before any rate is measured, and so counts as done and not as quick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from threading import Lock

import numpy as np

from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.stack_table import StackTable
from birdstack.store.labels import ABSENT, PRESENT

Advance = Callable[[int, int, str], None]
"""Told how many units are done, how many there are, and a few words."""

_BOOSTER_US, _SHARED_US, _FIT_US, _OWN_US = 33.0, 3.6, 63.0, 1.3
"""Microseconds a row, at a hundred trees and five folds; only their proportions matter."""
_SAMPLE = 1900


@dataclass(frozen=True)
class Costs:
    """Units of work.

    Attributes:
        booster: to fit the shared boosters.
        shared: to score one class by them.
        fits: to fit the layers of each class that has some, by position.
        own: to score one class by them.
        n_classes: number of classes in all.
    """

    booster: int
    shared: int
    fits: Mapping[int, int]
    own: int
    n_classes: int

    @property
    def shared_layer(self) -> int:
        """All that the shared layer costs."""
        return self.booster + self.n_classes * self.shared


def costs(table: StackTable, numbers: Iterable[int], settings: StackSettings) -> Costs:
    """What it costs to fit the shared layer and the layers of some classes."""
    known = table.window_fold >= 0
    n_rows, n_classes = table.n_windows, len(table.classes)
    grown, shared_grown = max(settings.trees) / 100, settings.shared_trees / 100
    fits_us = {}
    for number in numbers:
        truth = table.truth[known, number]
        positive, negative = int((truth == PRESENT).sum()), int((truth == ABSENT).sum())
        fits_us[number] = _FIT_US * grown * (positive + min(negative, settings.negatives))
    booster_us = _BOOSTER_US * shared_grown * n_classes * min(n_rows, _SAMPLE)
    shared_us, own_us = _SHARED_US * shared_grown * n_rows, _OWN_US * grown * n_rows
    unit = max(min([shared_us, own_us, *fits_us.values()]), 1.0)

    def units(cost_us: float) -> int:
        return max(1, int(np.rint(cost_us / unit)))

    fits = {number: units(cost_us) for number, cost_us in fits_us.items()}
    return Costs(units(booster_us), units(shared_us), fits, units(own_us), n_classes)


class Steps:
    """Counts units; threads may count at once.

    Args:
        advance: told of each step.
        total: units in all.
        already: units that are done before anything begins.
    """

    def __init__(self, advance: Advance, total: int, already: int = 0) -> None:
        self._advance, self._total, self._count = advance, total, already
        self._lock = Lock()
        advance(already, total, "finished earlier" if already else "")

    def done(self, units: int, words: str) -> None:
        """So many more."""
        with self._lock:
            self._count += units
            self._advance(min(self._count, self._total), self._total, words)
