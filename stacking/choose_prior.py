"""Whether a range prior is added to what is shipped, and at which weight.

Judged are all rows with a fold whose place is known, soundscapes or not: a simulated soundscape
is nowhere, and a choice on such rows alone would be none. A place that was recorded by whom the
others were is what such an estimate is of; a single recorder cannot gain, since the prior of one
place is constant.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from birdstack.stacking.estimates import DomainDraws, affordable, judgeable
from birdstack.stacking.place_prior import PlacePrior, known_places, scaled
from birdstack.stacking.prior_weight import PriorWeight, prior_weight
from birdstack.stacking.range_prior import RangePriorConfig, fit_prior
from birdstack.stacking.stack_table import StackTable
from birdstack.store.labels import ABSENT, PRESENT, UNKNOWN

_JUDGED_ON = "all rows with a fold whose place is known"


@dataclass(frozen=True, eq=False)
class ChosenPrior:
    """What came of it.

    Attributes:
        shipped: the prior to add to what is shipped; None if its weight is 0.
        same: scores with the weight chosen on all folds, `[window, class]`.
        nested: scores of each fold with the weight chosen without it, `[window, class]`.
        report: weight, why, and macro AUC without and with, JSON-able.
    """

    shipped: PlacePrior | None
    same: np.ndarray
    nested: np.ndarray
    report: dict[str, Any]


def choose_prior(
    table: StackTable,
    same: np.ndarray,
    nested: np.ndarray,
    config: RangePriorConfig,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> ChosenPrior:
    """Count a prior, and choose its weight inside folds.

    Args:
        table: with places, labels, folds.
        same: out-of-fold scores of what is shipped, in the units that it predicts in.
        nested: likewise, choices for a fold made on the others; in any units.
        config: how the prior is counted.
        resamples: of the bootstrap by recording.
        seed: of the draw.
    """
    fold, known = np.asarray(table.fold), known_places(table)
    at = np.flatnonzero(known & (fold >= 0))
    rows = np.flatnonzero(np.isin(table.recording, at))
    told: dict[str, Any] = {"config": config.model_dump(mode="json"), "judged_on": _JUDGED_ON}
    told |= {"recordings": len(at), "windows": len(rows)}
    if not len(at):
        why = "range prior: left out; no recording with a fold has a known place"
        return ChosenPrior(None, same, nested, {**told, "weight": 0.0, "by_fold": {}, "why": why})
    assert table.places is not None, "some are known"
    places = table.places[at]
    prior = fit_prior(places, recording_truth(table)[at], fold[at], config)
    unit = spread_of(nested, table)
    of_row = np.searchsorted(at, table.recording[rows])

    def terms(without: int | None = None) -> np.ndarray:
        return scaled(prior.out_of_fold(places, fold[at], without=without), unit)[of_row]

    found = prior_weight(
        nested[rows], terms(), table.truth[rows], table.window_fold[rows], errors=2, without=terms
    )
    honest = np.array(nested)
    changed = np.isin(table.window_fold[rows], [k for k, w in found.by_fold.items() if w])
    honest[rows[changed]] = found.scores[changed]
    # The shipped prior holds all counts; a row of the table is to be scored without its own.
    scale = spread_of(same, table)
    with_all = np.array(same)
    if found.weight:
        own = scaled(prior.out_of_fold(places, fold[at]), scale)[of_row]
        with_all[rows] += np.float32(found.weight) * own
    shipped = PlacePrior(prior, found.weight, scale) if found.weight else None
    figures = _figures(table, rows, nested, honest, resamples=resamples, seed=seed)
    return ChosenPrior(shipped, with_all, honest, {**told, **_told(found), **figures})


def recording_truth(table: StackTable) -> np.ndarray:
    """Labels of recordings, int8 `[recording, class]`, from those of their windows.

    A class is present if it is in some window, absent if it is known to be in none.
    """
    starts = np.cumsum(table.windows) - table.windows
    present = np.maximum.reduceat(table.truth, starts, axis=0) == PRESENT
    known = np.minimum.reduceat(table.truth, starts, axis=0) != UNKNOWN
    labels = np.where(present, PRESENT, np.where(known, ABSENT, UNKNOWN))
    return np.asarray(labels, dtype=np.int8)


def spread_of(scores: np.ndarray, table: StackTable) -> np.ndarray:
    """Standard deviation of the scores of each class over rows with a fold, `[class]`.

    A class of one score has 1: the prior is all that ranks it then.
    """
    width = scores[table.window_fold >= 0].std(axis=0, dtype=np.float64)
    return np.asarray(np.where(width > 0, width, 1.0))


def _told(found: PriorWeight) -> dict[str, Any]:
    return {
        "weight": found.weight,
        "by_fold": {str(fold): weight for fold, weight in found.by_fold.items()},
        "gain": found.gain,
        "error": float(found.error) if np.isfinite(found.error) else None,
        "why": found.why,
    }


def _figures(
    table: StackTable,
    rows: np.ndarray,
    without: np.ndarray,
    with_prior: np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Macro AUC without and with the prior, and the paired difference."""
    judged = np.zeros(table.n_windows, dtype=bool)
    judged[rows] = True
    if not judgeable(table, judged):
        return {}
    many = affordable(table, judged, resamples)
    domain = DomainDraws(table, judged, resamples=many, seed=seed)
    before, after = domain.of(without), domain.of(with_prior)
    return {
        "without": asdict(before.interval()),
        "with": asdict(after.interval()),
        "difference": asdict((after - before).interval()),
    }
