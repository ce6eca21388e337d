"""The same scores seen in several ways: aligned, standardised, ranked, smoothed.

Each way is computed once, when first asked for, and without a label.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from birdstack.stacking.fold_scales import Spread, aligned, ranked, spread, standardised
from birdstack.stacking.stack_table import StackTable
from birdstack.store.errors import UsageError

KERNEL = (0.1, 0.2, 0.4, 0.2, 0.1)
"""The fixed kernel over neighbouring windows: what a stack has to beat."""


class ScoreViews:
    """Scores of a table, ready to be combined.

    Args:
        table: the scores.
        learnt: centre and scale from the table that was learnt from; None if this is it.
            Rows of no fold are read by them, so that one row's score does not hang on the
            rows beside it.

    Raises:
        UsageError: backbones or classes are not those that were learnt.
    """

    def __init__(self, table: StackTable, learnt: Spread | None = None) -> None:
        self.table = table
        shape = (len(table.backbones), len(table.classes))
        if learnt is not None and learnt.centre.shape != shape:
            message = f"table: {shape} backbones and classes, but {learnt.centre.shape} were learnt"
            raise UsageError(message, remedy="give the backbones and classes of the training table")
        self._learnt = learnt

    @cached_property
    def raw(self) -> np.ndarray:
        """As given, `[backbone, window, class]`."""
        return np.asarray(self.table.logits, dtype=np.float32)

    @cached_property
    def aligned(self) -> np.ndarray:
        """With the fold models' offsets and gains taken out."""
        return aligned(self.table) if self._learnt is None else self.raw

    @cached_property
    def spread(self) -> Spread:
        """Centre, scale and quantiles of the aligned scores."""
        if self._learnt is not None:
            return self._learnt
        return spread(self.aligned, np.ones(self.table.n_windows, dtype=bool))

    @cached_property
    def z(self) -> np.ndarray:
        """Standardised by backbone and class."""
        return standardised(self.aligned, self.spread)

    @cached_property
    def rank(self) -> np.ndarray:
        """Share of training rows below, by backbone and class."""
        return ranked(self.aligned, self.spread)

    @cached_property
    def z_smooth(self) -> np.ndarray:
        """Standardised, then smoothed by the fixed kernel."""
        return np.stack([self.smooth(layer) for layer in self.z])

    @cached_property
    def z_others(self) -> np.ndarray:
        """Mean of the recording's other windows, standardised; 0 where there are none.

        Also 0 on recordings that are said not to be soundscapes: what is learnt from the
        other windows of a focal clip, which was cut for one bird, misleads on a soundscape.
        """
        counts = np.asarray(self.table.windows)
        starts = np.cumsum(counts) - counts
        others = np.maximum(counts - 1, 1)[self.table.recording][:, None]
        lonely = counts == 1
        if self.table.soundscape is not None:
            lonely = lonely | ~np.asarray(self.table.soundscape, dtype=bool)
        quiet = lonely[self.table.recording][:, None]
        layers = []
        for layer in self.z:
            sums = np.add.reduceat(layer, starts, axis=0)[self.table.recording]
            layers.append(np.where(quiet, np.float32(0), (sums - layer) / others))
        return np.stack(layers).astype(np.float32)

    def smooth(self, scores: np.ndarray) -> np.ndarray:
        """Scores `[window, class]` under the fixed kernel, never across a stretch's end.

        Near an end the kernel's remaining weights are scaled to sum to one.
        """
        n_rows = len(scores)
        stretch = np.repeat(np.arange(len(self.table.segments) - 1), np.diff(self.table.segments))
        total = np.zeros(scores.shape, dtype=np.float32)
        weight = np.zeros((n_rows, 1), dtype=np.float32)
        for shift, factor in zip(range(-2, 3), KERNEL, strict=True):
            if abs(shift) >= n_rows:
                continue
            to = slice(max(-shift, 0), n_rows - max(shift, 0))
            origin = slice(max(shift, 0), n_rows - max(-shift, 0))
            same = (stretch[to] == stretch[origin])[:, None]
            total[to] += np.where(same, np.float32(factor) * scores[origin], np.float32(0))
            weight[to] += np.float32(factor) * same
        return np.asarray(total / weight, dtype=np.float32)


def mean_over_backbones(layers: np.ndarray) -> np.ndarray:
    """Mean of those backbones that speak of a class, `[window, class]`.

    A backbone speaks of a class in all windows or in none.
    """
    speaks = np.isfinite(layers[:, 0]) if layers.shape[1] else np.isfinite(layers).all(axis=1)
    summed = np.where(speaks[:, None], layers, np.float32(0)).sum(axis=0, dtype=np.float32)
    return np.asarray(summed / np.maximum(speaks.sum(axis=0), 1), dtype=np.float32)
