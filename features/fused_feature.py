"""Columns from what the fused pass left: one function for each feature that has a kernel.

The definitions are those of the registered functions, which stay the reference: a function
here stands for one version of one of them, and steps aside when that version is raised.
A registered feature without a function here is computed by its own, from the same pass.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from birdstack.features.feature import Feature
from birdstack.features.fused_readings import HeardWindows, Values
from birdstack.features.fused_window import Stage

Measure = Callable[[HeardWindows], Values]


@dataclass(frozen=True, slots=True)
class FusedFeature:
    """A feature with a kernel.

    Attributes:
        name: of the registered feature.
        version: of the registered feature whose numbers it gives.
        stages: readings of the pass that it needs.
        statistics: those that it can give.
        measure: the function.
    """

    name: str
    version: int
    stages: frozenset[Stage]
    statistics: frozenset[str]
    measure: Measure

    def stands_for(self, feature: Feature) -> bool:
        """Whether it gives all of a feature's columns."""
        wanted = feature.statistics or ("",)
        return self.version == feature.version and self.statistics >= set(wanted)

    def columns(self, heard: HeardWindows, statistics: Sequence[str]) -> np.ndarray:
        """The feature's columns, statistic by statistic: `[window, column]`."""
        found = self.measure(heard)
        return np.concatenate([found[each] for each in statistics or ("",)], axis=1)


FUSED: dict[str, FusedFeature] = {}
"""Features with kernels, by name."""

PLAIN = frozenset({""})
MOMENTS = frozenset({"mean", "std"})
ALL = frozenset({"mean", "std", "p05", "p50", "p95"})


def fused(
    *names: str, stages: tuple[Stage, ...], statistics: frozenset[str] = PLAIN, version: int = 1
) -> Callable[[Measure], Measure]:
    """Register a function for features; given several, it returns them one after the other."""

    def register(measure: Measure) -> Measure:
        for place, name in enumerate(names):
            own = functools.partial(_row, measure, place) if len(names) > 1 else measure
            FUSED[name] = FusedFeature(name, version, frozenset(stages), statistics, own)
        return measure

    return register


def _row(measure: Measure, place: int, heard: HeardWindows) -> Values:
    """One row of what `measure` gives for several features at once."""
    return {name: values[:, place : place + 1] for name, values in heard.once(measure).items()}


def plain(*values: np.ndarray) -> Values:
    """Values without a statistic, each `[window]`."""
    return {"": np.stack(values, axis=1)}
