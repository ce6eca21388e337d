"""What a score is worth: calibration learnt on other folds, and its reliability.

Scores rank windows within a class; they are not probabilities. For each class and fold a
logistic of the score (Platt 1999, with his smoothed targets) is fitted on the other folds and
read on the fold; the share of windows that have the bird is then held against what was promised
(DeGroot & Fienberg 1983). It says whether the scores *could* serve as probabilities on windows
like these, and is no claim about other places or seasons, where birds are more or less common.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from birdstack.stacking.report_run import SHIPPED, some_recordings
from birdstack.stacking.report_scores import Ranked
from birdstack.store.labels import ABSENT, PRESENT

EDGES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
"""Of the promised share; finer where most windows lie."""
_FEWEST = 5
_STEPS = 40
_CELLS = 512
_DRAWS = 200
_MOST_WINDOWS = 50_000


def calibration(ranked: Ranked, *, seed: int) -> dict[str, Any]:
    """Reliability of scores calibrated in folds; `why` alone where that cannot be had."""
    domain = ranked.domain
    some = some_recordings(domain.recording, _MOST_WINDOWS, seed)
    truth, fold = ranked.truth[some], domain.fold[some]
    folds = np.unique(fold[fold >= 0])
    if len(folds) < 2:  # noqa: PLR2004 - one to learn on, one to read
        return {"why": f"the windows of {domain.title} have no folds to calibrate in"}
    scores = domain.scores(SHIPPED)[some]
    promised = np.full(scores.shape, np.nan, dtype=np.float32)
    for number in range(scores.shape[1]):
        for held in folds:
            rest = (fold >= 0) & (fold != held) & (truth[:, number] >= 0)
            here = fold == held
            line = platt_line(scores[rest, number], truth[rest, number] == PRESENT)
            if line is not None:
                promised[here, number] = _logistic(line[0] * scores[here, number] + line[1])
    read = np.isfinite(promised) & ((truth == PRESENT) | (truth == ABSENT))
    if not read.any():
        return {"why": f"no class has {_FEWEST} positives outside a fold to calibrate with"}
    return _reliability(domain.recording[some], promised, truth == PRESENT, read, seed)


def platt_line(scores: np.ndarray, present: np.ndarray) -> tuple[float, float] | None:
    """Slope and level of a logistic; None with too few positives or no spread.

    Scores are gathered into cells of equal count first: the fit costs the same for any number.
    """
    positives = int(present.sum())
    if positives < _FEWEST or positives == len(present) or not np.isfinite(scores).all():
        return None
    order = np.argsort(scores, kind="stable")
    starts = np.unique(np.linspace(0, len(scores), _CELLS + 1).astype(int)[:-1])
    count = np.diff(np.append(starts, len(scores)))
    x = np.add.reduceat(scores[order].astype(np.float64), starts) / count
    hits = np.add.reduceat(present[order].astype(np.float64), starts)
    centre, width = float(np.average(x, weights=count)), float(x.std())
    if width <= 0:
        return None
    z = (x - centre) / width
    high = (positives + 1) / (positives + 2)
    low = 1 / (len(present) - positives + 2)
    target = hits * high + (count - hits) * low
    share = target.sum() / count.sum()
    slope, level = 1.0, float(np.log(share / (1 - share)))
    for _ in range(_STEPS):
        p = _logistic(slope * z + level)
        gradient = np.array([((target - count * p) * z).sum(), (target - count * p).sum()])
        weight = count * p * (1 - p) + 1e-9
        cross = (weight * z).sum()
        hessian = np.array([[(weight * z * z).sum() + 1e-6, cross], [cross, weight.sum()]])
        step = np.clip(np.linalg.solve(hessian, gradient), -2, 2)
        slope, level = slope + step[0], level + step[1]
        if np.abs(step).max() < 1e-8:  # noqa: PLR2004 - there
            break
    return float(slope / width), float(level - slope * centre / width)


def _reliability(
    recording: np.ndarray,
    promised: np.ndarray,
    present: np.ndarray,
    read: np.ndarray,
    seed: int,
) -> dict[str, Any]:
    row, _ = np.nonzero(read)
    unit = np.unique(recording, return_inverse=True)[1][row]
    p, hit = promised[read].astype(np.float64), present[read]
    units, bins = int(unit.max()) + 1, len(EDGES) - 1
    cell = np.clip(np.searchsorted(EDGES, p, "right") - 1, 0, bins - 1)
    flat = unit * bins + cell
    sums = {
        "count": np.bincount(flat, minlength=units * bins).reshape(units, bins),
        "hits": np.bincount(flat, weights=hit, minlength=units * bins).reshape(units, bins),
        "promised": np.bincount(flat, weights=p, minlength=units * bins).reshape(units, bins),
    }
    rng = np.random.default_rng([seed, 11])
    drawn = rng.multinomial(units, np.full(units, 1 / units), _DRAWS).astype(np.float64)
    count, hits, mass = (sums[name].sum(axis=0) for name in ("count", "hits", "promised"))
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = (drawn @ sums["hits"]) / (drawn @ sums["count"])
    rows = []
    for number in np.flatnonzero(count):
        values = spread[:, number][np.isfinite(spread[:, number])]
        low, high = np.percentile(values, (2.5, 97.5)) if len(values) else (np.nan, np.nan)
        rows.append(
            {
                "from": EDGES[number],
                "to": EDGES[number + 1],
                "windows": int(count[number]),
                "promised": float(mass[number] / count[number]),
                "observed": float(hits[number] / count[number]),
                "low": float(low),
                "high": float(high),
            }
        )
    gaps = np.abs(hits - mass).sum() / count.sum()
    base = np.where(read, present, 0).sum(axis=0) / np.maximum(read.sum(axis=0), 1)
    always = np.broadcast_to(base, promised.shape)[read]
    brier, plain = float(((p - hit) ** 2).mean()), float(((always - hit) ** 2).mean())
    return {
        "rows": rows,
        "expected_calibration_error": float(gaps),
        "brier": brier,
        "brier_of_prevalence": plain,
        "brier_skill": 1 - brier / plain if plain > 0 else None,
        "classes": int(read.any(axis=0).sum()),
    }


def _logistic(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -40, 40))))
