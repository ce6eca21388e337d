"""A booster for one class that corrects the shared score, and cannot run away from it.

It starts from the shared score brought to the class's scale (Platt 1999) as offset, sees all
positives and some thousand random negatives, grows few leaves in coarse bins, and is monotone
in the class's own scores. Two floors are not to be had lower: the sum of hessians of a leaf and
the ridge on its value. At a prevalence of one in some thousand hessians are tiny, and without
floors the leaves of rare classes explode.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from birdstack.stacking.logistic import newton
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.trees import BaggedTrees, Booster, LightTrees, Trees, XgbTrees
from birdstack.store.labels import ABSENT, PRESENT

_PLATT_RIDGE = 1.0
_DEPTH = 4


def sample_rows(
    truth: np.ndarray, rows: np.ndarray, negatives: int, seed: tuple[int, ...]
) -> np.ndarray:
    """All positives of a class and some random negatives, ascending.

    Random ones only: hard negatives that are not weighted down cost AUC.
    """
    positive = np.flatnonzero(rows & (truth == PRESENT))
    negative = np.flatnonzero(rows & (truth == ABSENT))
    drawn = np.random.default_rng(list(seed)).permutation(negative)[:negatives]
    return np.sort(np.concatenate([positive, drawn]))


def platt(score: np.ndarray, present: np.ndarray) -> tuple[float, float]:
    """Slope, never negative, and intercept that turn a score into a logit."""
    centre, width = float(score.mean()), float(score.std())
    if width <= 0:
        share = np.clip(present.mean(), 1e-6, 1 - 1e-6)
        return 0.0, float(np.log(share / (1 - share)))
    slope, level = newton(((score - centre) / width)[:, None], present, None, ridge=_PLATT_RIDGE)
    slope = max(float(slope), 0.05) / width
    return slope, float(level) - slope * centre


def fit_residual(
    columns: np.ndarray,
    present: np.ndarray,
    fold: np.ndarray,
    offset: dict[int, np.ndarray],
    *,
    monotone: list[int],
    settings: StackSettings,
) -> dict[int, Trees]:
    """A booster for each fold, fitted without it.

    Args:
        columns: `[row, column]` of the class's sample.
        present: whether the class is present, `[row]`.
        fold: of each row.
        offset: for each fold the logit to start from, `[row]`, by a model without the fold.
        monotone: for each column 1 or 0.
        settings: size, floors, library.
    """
    fit = _fit_light if settings.booster == "lightgbm" else _fit_xgb
    seeds = range(settings.seed, settings.seed + settings.bags)
    drawn = [
        fit(
            columns,
            present,
            fold,
            offset,
            monotone=monotone,
            settings=settings.model_copy(update={"seed": seed}),
        )
        for seed in seeds
    ]
    if settings.bags == 1:
        return dict(drawn[0])
    return {held: BaggedTrees([one[held] for one in drawn]) for held in drawn[0]}


def _learnable(present: np.ndarray, fold: np.ndarray, held: int) -> np.ndarray | None:
    learn = np.flatnonzero(fold != held)
    return learn if 0 < present[learn].sum() < len(learn) else None


def _fit_light(
    columns: np.ndarray,
    present: np.ndarray,
    fold: np.ndarray,
    offset: dict[int, np.ndarray],
    *,
    monotone: list[int],
    settings: StackSettings,
) -> dict[int, Booster]:
    import lightgbm as lgb  # noqa: PLC0415 - heavy

    parameters: dict[str, Any] = {
        "objective": "binary",
        "boost_from_average": False,
        "num_leaves": settings.leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": 3,
        "min_sum_hessian_in_leaf": settings.min_hessian,
        "lambda_l2": settings.l2,
        "feature_fraction": settings.feature_fraction,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "max_bin": settings.max_bin,
        "monotone_constraints": monotone,
        # Bins are made once for the class, and every fold takes its rows from them.
        "feature_pre_filter": False,
        "force_col_wise": True,
        "deterministic": True,
        "num_threads": 1,
        "seed": settings.seed,
        "verbosity": -1,
    }
    data = lgb.Dataset(
        columns,
        label=present.astype(np.float32),
        init_score=np.zeros(len(present)),
        params=parameters,
        free_raw_data=False,
    ).construct()
    fitted: dict[int, Booster] = {}
    for held, start in offset.items():
        learn = _learnable(present, fold, held)
        if learn is None:
            continue
        part = data.subset(learn.tolist()).construct()
        part.set_init_score(start[learn])
        booster = lgb.Booster(parameters, part)
        for _ in range(max(settings.trees)):
            if booster.update():
                break
        fitted[held] = LightTrees(booster.model_to_string())
    return fitted


def _fit_xgb(
    columns: np.ndarray,
    present: np.ndarray,
    fold: np.ndarray,
    offset: dict[int, np.ndarray],
    *,
    monotone: list[int],
    settings: StackSettings,
) -> dict[int, Booster]:
    import xgboost as xgb  # noqa: PLC0415 - heavy

    parameters = {
        "objective": "binary:logistic",
        "base_score": 0.5,
        "tree_method": "hist",
        "grow_policy": "depthwise",
        "max_depth": _DEPTH,
        "eta": settings.learning_rate,
        "min_child_weight": settings.min_hessian,
        "lambda": settings.l2,
        "colsample_bytree": settings.feature_fraction,
        "subsample": 0.8,
        "max_bin": settings.max_bin,
        "monotone_constraints": f"({','.join(map(str, monotone))})",
        "nthread": 1,
        "seed": settings.seed,
        "verbosity": 0,
    }
    fitted: dict[int, Booster] = {}
    for held, start in offset.items():
        learn = _learnable(present, fold, held)
        if learn is None:
            continue
        data = xgb.QuantileDMatrix(
            columns[learn],
            label=present[learn],
            base_margin=start[learn],
            max_bin=settings.max_bin,
            nthread=1,
        )
        booster = xgb.train(parameters, data, num_boost_round=max(settings.trees))
        fitted[held] = XgbTrees(bytes(booster.save_raw("json")).decode())
    return fitted
