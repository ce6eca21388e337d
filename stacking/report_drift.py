"""Whether the windows to be scored are like those that were learnt from.

The Kolmogorov-Smirnov distance is the largest gap between two distribution functions: 0 for
equal ones, 1 for ones that do not meet. How large it comes out by chance is shown beside it: the
same distance between two random halves of the training recordings. The domain classifier is a
small booster that is to tell both kinds of windows apart, judged on recordings it has not met
(Ben-David et al. 2010): an AUC of 0.5 means it cannot.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.report_columns import extra_columns
from birdstack.stacking.report_run import (
    SHIPPED,
    Domain,
    Run,
    is_backbone,
    score_title,
    some_recordings,
)

_MOST_WINDOWS = 4000
_FOLDS = 5
_EDGES = np.linspace(-4, 8, 49)
_TOP = 20
_NAMES = ("highest score", "mean score", "lead of the best", "spread of scores")


def pair_to_compare(run: Run) -> tuple[Domain, Domain] | str:
    """Windows learnt from and windows to be scored, or why there are no such two."""
    domains = list(run.domains.values())
    learnt = [domain for domain in domains if (domain.fold >= 0).any()]
    fresh = [domain for domain in domains if not (domain.fold >= 0).any()]
    if not learnt:
        return "no windows with a fold are in this run"
    if fresh:
        return learnt[0], fresh[0]
    if len(learnt) > 1:
        return learnt[-1], learnt[0]
    return "there is one kind of windows only: nothing to hold them against"


def distributions(reference: Domain, target: Domain, *, seed: int) -> dict[str, Any]:
    """Scores of what is shipped, out-of-fold against target, by class and all together."""
    ours, theirs = reference.scores(SHIPPED), target.scores(SHIPPED)
    first = _half(reference.recording, seed)
    centre, width = ours.mean(axis=0), ours.std(axis=0)
    width = np.where(width > 0, width, 1)
    rows, floor = [], []
    for number, name in enumerate(reference.classes):
        column = ours[:, number]
        distance = ks_distance(column, theirs[:, number])
        rows.append({"class": name, "ks": distance})
        floor.append(ks_distance(column[first], column[~first]))
    return {
        "reference": {"name": reference.name, "title": reference.title, "windows": len(ours)},
        "target": {"name": target.name, "title": target.title, "windows": len(theirs)},
        "by_class": rows,
        "median_ks": _median([row["ks"] for row in rows]),
        "median_ks_by_chance": _median(floor),
        "histogram": {
            "edges": _EDGES.round(3).tolist(),
            "reference": _density((ours - centre) / width),
            "target": _density((theirs - centre) / width),
        },
    }


def drift(run: Run, reference: Domain, target: Domain, *, seed: int) -> dict[str, Any]:
    """Columns that differ most between both kinds of windows, and how well they are told apart."""
    sides, why = [], ""
    names: tuple[str, ...] = ()
    for domain in (reference, target):
        rows = some_recordings(domain.recording, _MOST_WINDOWS, seed)
        extra = extra_columns(run, domain, rows)
        why = why or extra.why
        sides.append((domain, rows, extra))
    with_extra = not why and sides[0][2].names == sides[1][2].names
    tables = []
    for domain, rows, extra in sides:
        names, summary = _summaries(domain, rows)
        if with_extra:
            names, summary = (*names, *extra.names), np.hstack([summary, extra.values])
        tables.append(summary)
    found: list[dict[str, Any]] = [
        {
            "column": name,
            "ks": ks_distance(tables[0][:, at], tables[1][:, at]),
            "reference_median": _median(tables[0][:, at]),
            "target_median": _median(tables[1][:, at]),
        }
        for at, name in enumerate(names)
    ]
    found.sort(key=lambda row: -(row["ks"] or 0))
    return {
        "reference": reference.title,
        "target": target.title,
        "columns": found[:_TOP],
        "columns_compared": len(names),
        "without": "" if with_extra else why,
        "classifier": _told_apart(tables, [s[0].recording[s[1]] for s in sides], seed),
    }


def ks_distance(ours: np.ndarray, theirs: np.ndarray) -> float | None:
    """Largest gap between two empirical distribution functions; NaN left out."""
    ours, theirs = (np.sort(side[np.isfinite(side)]) for side in (ours, theirs))
    if not len(ours) or not len(theirs):
        return None
    at = np.concatenate([ours, theirs])
    gap = np.searchsorted(ours, at, "right") / len(ours)
    gap = gap - np.searchsorted(theirs, at, "right") / len(theirs)
    return float(np.abs(gap).max())


def _summaries(domain: Domain, rows: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """A few columns of each backbone that every run has, `[window, column]`."""
    nets = [name for name in domain.score_names if is_backbone(name)] or [SHIPPED]
    columns, names = [], []
    for net in nets:
        scores = domain.scores(net)[rows]
        scores = scores[:, np.isfinite(scores).all(axis=0)]
        if not scores.shape[1]:
            continue
        top = np.sort(scores, axis=1)
        second = top[:, -2] if scores.shape[1] > 1 else top[:, -1]
        columns += [top[:, -1], scores.mean(axis=1), top[:, -1] - second, scores.std(axis=1)]
        names += [f"{score_title(net)}: {what}" for what in _NAMES]
    return tuple(names), np.stack(columns, axis=1)


def _told_apart(tables: list[np.ndarray], recordings: list[np.ndarray], seed: int) -> Any:
    """AUC of a booster on recordings that it has not met, by both kinds of windows."""
    import lightgbm as lgb  # noqa: PLC0415 - heavy

    if any(len(np.unique(recording)) < _FOLDS for recording in recordings):
        return {"auc": None, "why": f"one side has fewer than {_FOLDS} recordings"}
    values = np.concatenate(tables).astype(np.float32)
    label = np.repeat([0, 1], [len(table) for table in tables])
    fold = np.concatenate([_fold_of(recording, seed) for recording in recordings])
    scores = np.zeros(len(values))
    parameters = {
        "objective": "binary",
        "num_leaves": 8,
        "learning_rate": 0.1,
        "min_data_in_leaf": 20,
        "feature_fraction": 0.6,
        "is_unbalance": True,
        "num_threads": 1,
        "seed": seed,
        "deterministic": True,
        "verbose": -1,
    }
    for held in range(_FOLDS):
        learn = fold != held
        data = lgb.Dataset(values[learn], label[learn], params={"verbose": -1})
        booster = lgb.train(parameters, data, num_boost_round=60)
        scores[~learn] = np.asarray(booster.predict(values[~learn], num_threads=1))
    found = macro_auc(scores[:, None], label[:, None].astype(np.int8))
    return {"auc": found.value, "windows": len(values), "columns": values.shape[1]}


def _fold_of(recording: np.ndarray, seed: int) -> np.ndarray:
    names, unit = np.unique(recording, return_inverse=True)
    return np.asarray(np.random.default_rng([seed, 6]).permutation(len(names))[unit] % _FOLDS)


def _half(recording: np.ndarray, seed: int) -> np.ndarray:
    names, unit = np.unique(recording, return_inverse=True)
    return np.asarray(np.random.default_rng([seed, 7]).permutation(len(names))[unit] % 2 == 0)


def _density(values: np.ndarray) -> list[float]:
    clipped = np.clip(values[np.isfinite(values)], _EDGES[0], _EDGES[-1])
    count = np.histogram(clipped, _EDGES)[0]
    return [float(share) for share in (count / max(count.sum(), 1)).round(6)]


def _median(values: Any) -> float | None:
    known = np.array([v for v in values if v is not None and np.isfinite(v)], dtype=np.float64)
    return float(np.median(known)) if len(known) else None
