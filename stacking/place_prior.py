"""A range prior as it is shipped: a last term on the scores, 0 where no place is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from birdstack.stacking.range_prior import RangePrior
from birdstack.stacking.stack_table import StackTable


@dataclass(frozen=True, eq=False)
class PlacePrior:
    """`score + weight * scale * prior`.

    Attributes:
        prior: counts of recordings.
        weight: one for all classes, above zero.
        scale: spread of the scores of each class that it is added to, `[class]`: the prior is
            in natural units of log odds, and scores have any.
    """

    prior: RangePrior
    weight: float
    scale: np.ndarray

    def added(self, scores: np.ndarray, table: StackTable) -> np.ndarray:
        """Scores `[window, class]` of new recordings with the prior of their places.

        Rows whose place is not known are as they were, bit by bit.

        Args:
            scores: of the rows.
            table: whose places they are at.
        """
        known = known_places(table)
        if not known.any():
            return scores
        assert table.places is not None, "some are known"
        at = np.flatnonzero(known)
        terms = scaled(self.prior.new(table.places[at]), self.scale)
        rows = np.flatnonzero(known[table.recording])
        place = np.searchsorted(at, table.recording[rows])
        out = np.array(scores)
        out[rows] += np.float32(self.weight) * terms[place]
        return out


def known_places(table: StackTable) -> np.ndarray:
    """Whether the place of each recording is known, `[recording]` of bool."""
    if table.places is None:
        return np.zeros(len(table.windows), dtype=bool)
    return np.asarray(np.isfinite(table.places).all(axis=1))


def scaled(prior: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """A prior in the units of the scores, float32 `[recording, class]`."""
    return np.asarray(prior * scale.astype(np.float32), np.float32)
