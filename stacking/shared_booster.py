"""One booster for all classes, on (window, class) rows of columns that fit any class.

What a score's context is worth is much the same from bird to bird, and here rare classes
learn it from common ones. First used by the winner of BirdCLEF 2021 (namakemono,
kaggle-birdclef-2021). Monotone in every score, fitted once for each held-out fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from birdstack.stacking.class_columns import ClassColumns
from birdstack.stacking.each import each
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.trees import LightTrees, Trees
from birdstack.store.labels import ABSENT, PRESENT

_POSITIVES, _HARD, _EASY = 400, 300, 1200


def fit_shared(
    columns: ClassColumns, rows: np.ndarray, settings: StackSettings
) -> dict[int, Trees]:
    """A booster for each fold, fitted without it; none where there is nothing to learn from.

    Of each class up to 400 positives, the 300 negatives with the highest mean score and
    1,200 random ones are taken, weighted by the root of how many they stand for.

    Args:
        columns: of the training table.
        rows: rows with a fold, `[window]` of bool.
        settings: leaves, trees and seed.
    """
    import lightgbm as lgb  # noqa: PLC0415 - heavy

    values, label, weight, fold = _sample(columns, rows, settings.seed)
    fitted: dict[int, Trees] = {}
    if not len(label):
        return fitted
    parameters = _parameters(columns, settings, len(label))
    data = lgb.Dataset(
        values, label=label, weight=weight, params=parameters, free_raw_data=False
    ).construct()
    for held in np.unique(columns.table.window_fold[rows]):
        learn = np.flatnonzero(fold != held)
        if len(np.unique(label[learn])) < 2:  # noqa: PLR2004 - both outcomes
            continue
        booster = lgb.Booster(parameters, data.subset(learn.tolist()).construct())
        for _ in range(settings.shared_trees):
            if booster.update():
                break
        fitted[int(held)] = LightTrees(booster.model_to_string())
    return fitted


def shared_out_of_fold(
    columns: ClassColumns,
    fitted: dict[int, Trees],
    settings: StackSettings,
    advance: Callable[[], None],
) -> np.ndarray:
    """Score of every row by the booster that has not met its fold, `[window, class]`."""
    table = columns.table
    out = columns.mean.astype(np.float32) if not fitted else np.zeros_like(columns.mean)
    every = np.arange(table.n_windows)
    rows = {held: np.flatnonzero(table.window_fold == held) for held in fitted}

    def one(number: int) -> None:
        values = columns.shared(number, every)
        for held, trees in fitted.items():
            at = rows[held]
            out[at, number] = trees.raw(values[at], settings.shared_trees)
        advance()

    each(one, range(len(table.classes)), settings.workers)
    return out


def shared_mean(
    columns: ClassColumns, boosters: Sequence[Trees], settings: StackSettings, number: int
) -> np.ndarray:
    """Score of one class in every row, mean of all boosters, `[window]`."""
    if not boosters:
        return np.asarray(columns.mean[:, number], dtype=np.float64)
    values = columns.shared(number, np.arange(columns.table.n_windows))
    scores = [trees.raw(values, settings.shared_trees) for trees in boosters]
    return np.asarray(np.mean(scores, axis=0))


def _parameters(columns: ClassColumns, settings: StackSettings, n_rows: int) -> dict[str, Any]:
    return {
        "objective": "binary",
        "num_leaves": settings.shared_leaves,
        "learning_rate": 0.1,
        # Small tables have few rows: a leaf of a hundred would leave no tree.
        "min_data_in_leaf": int(np.clip(n_rows // 1000, 10, 100)),
        "min_sum_hessian_in_leaf": 1.0,
        "lambda_l2": 5.0,
        "feature_fraction": 0.7,
        "max_bin": 127,
        "monotone_constraints": columns.shared_monotone,
        "feature_pre_filter": False,
        "force_col_wise": True,
        "deterministic": True,
        "num_threads": 1,
        "seed": settings.seed,
        "verbosity": -1,
    }


def _sample(
    columns: ClassColumns, rows: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Columns, label, weight and fold of (window, class) rows."""
    truth, fold = columns.table.truth, columns.table.window_fold
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    for number in range(truth.shape[1]):
        rng = np.random.default_rng([seed, number])
        positive = np.flatnonzero(rows & (truth[:, number] == PRESENT))
        negative = np.flatnonzero(rows & (truth[:, number] == ABSENT))
        if not len(positive) or not len(negative):
            continue
        taken = rng.permutation(positive)[:_POSITIVES]
        order = np.argsort(-columns.mean[negative, number], kind="stable")
        hard, rest = negative[order[:_HARD]], negative[order[_HARD:]]
        easy = rng.permutation(rest)[:_EASY]
        at = np.concatenate([taken, hard, easy])
        weight = np.concatenate(
            [
                np.full(len(taken), len(positive) / len(taken)),
                np.ones(len(hard)),
                np.full(len(easy), len(rest) / max(len(easy), 1)),
            ]
        )
        label = np.arange(len(at)) < len(taken)
        parts.append((columns.shared(number, at), label, np.sqrt(weight), fold[at]))
    if not parts:
        nothing = np.empty(0)
        return np.empty((0, len(columns.shared_names))), nothing, nothing, nothing
    values, label, weight, folds = (np.concatenate([p[i] for p in parts]) for i in range(4))
    return values, label.astype(np.float32), weight.astype(np.float32), folds
