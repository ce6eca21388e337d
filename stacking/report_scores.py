"""How well everything ranks: macro and per-class AUC with intervals, and where it gains.

Resamples draw whole recordings, the same for all scores of a domain, so that differences are
paired. A class counts where it has both a positive and a negative window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from birdstack.stacking.bootstrap import AucDraws, Interval, RecordingBootstrap
from birdstack.stacking.report_run import (
    CHOSEN,
    CONTROL,
    SHIPPED,
    STACK,
    Domain,
    is_backbone,
    score_title,
)
from birdstack.store.labels import ABSENT, PRESENT

BUCKETS = ((1, 10), (11, 30), (31, 100), (101, 300), (301, None))
"""Positive windows of a class, from and to."""
_WORK, _FEWEST = 2e10, 200


@dataclass(frozen=True, eq=False)
class Ranked:
    """A domain with a truth, and every score on it resampled.

    Attributes:
        domain: whose windows.
        truth: `[window, class]`.
        draws: AUC by class and resample, by name of scores.
        resamples: how many.
    """

    domain: Domain
    truth: np.ndarray
    draws: Mapping[str, AucDraws]
    resamples: int

    @cached_property
    def positives(self) -> np.ndarray:
        """Positive windows of each class."""
        return np.asarray((self.truth == PRESENT).sum(axis=0))

    @cached_property
    def singers(self) -> np.ndarray:
        """Recordings with a positive window of each class."""
        unit = np.unique(self.domain.recording, return_inverse=True)[1]
        row, number = np.nonzero(self.truth == PRESENT)
        pairs = np.unique(np.stack([number, unit[row]]), axis=1)
        return np.bincount(pairs[0], minlength=self.truth.shape[1])

    @property
    def gain(self) -> AucDraws:
        """What is shipped less mean + kernel; less itself where that is all there is."""
        control = self.draws.get(CONTROL, self.draws[SHIPPED])
        return self.draws[SHIPPED] - control


def rank_domain(domain: Domain, *, resamples: int, seed: int) -> Ranked | None:
    """Resample every score of a domain; None where nothing can be judged."""
    truth = domain.truth
    known = None if truth is None else (truth >= 0).any(axis=1)
    if truth is None or known is None or SHIPPED not in domain.score_names:
        return None
    if len(np.unique(domain.recording[known])) < 2:  # noqa: PLR2004 - nothing to draw from
        return None
    count = _affordable(domain.recording[known], truth[known], resamples)
    bootstrap = RecordingBootstrap(
        domain.recording[known], truth[known], resamples=count, seed=seed
    )
    ours = domain.scores(SHIPPED)
    draws = {SHIPPED: draws_of(bootstrap, ours[known])}
    for name in domain.score_names:
        scores = domain.scores(name)
        # The stack, where that is what is shipped, need not be ranked twice.
        same = name == SHIPPED or np.array_equal(scores, ours)
        draws[name] = draws[SHIPPED] if same else draws_of(bootstrap, scores[known])
    return Ranked(domain, truth, draws, count)


def draws_of(bootstrap: RecordingBootstrap, scores: np.ndarray) -> AucDraws:
    """Draws of scores that may lack whole classes: these have no AUC."""
    lacking = ~np.isfinite(scores).all(axis=0)
    if not lacking.any():
        return bootstrap.draws(scores)
    return only(bootstrap.draws(np.where(lacking, 0, scores)), ~lacking)


def headline(ranked: Ranked, shipped_title: str = "what is shipped") -> dict[str, Any]:
    """Macro AUC of every score of a domain, and what is shipped less each.

    A score that is the same as what is shipped, class by class, gets no row of its own.
    """
    domain, ours = ranked.domain, ranked.draws[SHIPPED]
    rows = []
    for name, draws in ranked.draws.items():
        if name in {STACK, CHOSEN} and np.array_equal(draws.drawn, ours.drawn, equal_nan=True):
            continue
        rows.append(
            {
                "name": name,
                "title": f"{shipped_title} (shipped)" if name == SHIPPED else score_title(name),
                "macro_auc": interval(draws.interval()),
                "classes": int(np.isfinite(draws.value).sum()),
                "shipped_less_this": None
                if name == SHIPPED
                else interval((ours - draws).interval()),
            }
        )
    return {
        "domain": domain.name,
        "title": domain.title,
        "level": domain.level,
        "windows": len(domain.rows),
        "recordings": len(np.unique(domain.recording)),
        "classes_counted": int(np.isfinite(ours.value).sum()),
        "resamples": ranked.resamples,
        "rows": rows,
    }


def by_class(ranked: Ranked, fallbacks: Mapping[str, Any]) -> list[dict[str, Any]]:
    """AUC of each class by what is shipped, the control and the best backbone."""
    ours = ranked.draws[SHIPPED].per_class()
    gain = ranked.gain.per_class()
    control = ranked.draws.get(CONTROL)
    theirs = None if control is None else control.per_class()
    nets = {n: draws.value for n, draws in ranked.draws.items() if is_backbone(n)}
    known = (ranked.truth >= 0).sum(axis=0)
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(ranked.domain.classes):
        best = max(nets, key=lambda n: np.nan_to_num(nets[n][number], nan=-1), default=None)
        fallback = fallbacks.get(name)
        rows.append(
            {
                "class": name,
                "positives": int(ranked.positives[number]),
                "share": float(ranked.positives[number] / max(known[number], 1)),
                "recordings": int(ranked.singers[number]),
                "auc": interval(ours[number]),
                "mean_kernel_auc": None if theirs is None else interval(theirs[number]),
                "gain": None if theirs is None else interval(gain[number]),
                "best_backbone": None
                if best is None
                else {"name": score_title(best), "auc": number_or_none(nets[best][number])},
                "fallback": dict(fallback) if isinstance(fallback, Mapping) else None,
            }
        )
    return rows


def gain_by_bucket(ranked: Ranked) -> list[dict[str, Any]]:
    """Mean gain over mean + kernel of classes with so many positive windows."""
    rows = []
    for low, high in BUCKETS:
        count = ranked.positives
        inside = (count >= low) & (count <= (high or np.inf))
        title = f"{low}-{high}" if high else f"{low} and more"
        rows.append({"bucket": title, **gain_of(ranked, inside)})
    return rows


def gain_of(ranked: Ranked, classes: np.ndarray) -> dict[str, Any]:
    """Mean AUC and gain of some classes, `[class]` of bool."""
    ours, gain = ranked.draws[SHIPPED], ranked.gain
    counted = classes & np.isfinite(ours.value) & np.isfinite(gain.value)
    if not counted.any():
        return {"classes": 0, "auc": None, "gain": None, "better": 0}
    return {
        "classes": int(counted.sum()),
        "auc": interval(only(ours, counted).interval()),
        "gain": interval(only(gain, counted).interval()),
        "better": int((gain.value[counted] > 0).sum()),
    }


def interval(found: Interval) -> dict[str, Any] | None:
    """JSON-able; None where there is no figure."""
    if not np.isfinite(found.value):
        return None
    return {
        name: number_or_none(value) if isinstance(value, float) else value
        for name, value in asdict(found).items()
    }


def number_or_none(value: float) -> float | None:
    """A float, or None for what JSON lacks."""
    return float(value) if np.isfinite(value) else None


def only(draws: AucDraws, classes: np.ndarray) -> AucDraws:
    """The draws of some classes, `[class]` of bool: the others have no AUC."""
    return replace(
        draws,
        value=np.where(classes, draws.value, np.nan),
        drawn=np.where(classes[:, None], draws.drawn, np.nan),
    )


def _affordable(recording: Sequence[str] | np.ndarray, truth: np.ndarray, resamples: int) -> int:
    """Resamples for the many rows of a report: fewer on large domains, 200 at least."""
    unit = np.unique(recording, return_inverse=True)[1]
    row, number = np.nonzero(truth == PRESENT)
    singers = len(np.unique(np.stack([number, unit[row]]), axis=1).T)
    work = singers * (int(unit.max()) + 1) if (truth == ABSENT).any() else 0
    return min(resamples, max(_FEWEST, int(_WORK / max(work, 1))))
