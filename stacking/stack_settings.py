"""How a stack is fitted."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class StackSettings(BaseModel):
    """How a stack is fitted.

    Attributes:
        booster: library of the per-class boosters: `lightgbm` or `xgboost`.
        blend: of residual booster and logistic: `equal`, or `global`, greedy weights that
            are the same for all classes.
        ship: `auto` holds the ship rule; `stack` and `control` force one of the two.
        prior: `range` adds how much likelier a class is at a recording's place than overall to
            what is shipped, at one weight that is chosen inside folds; `off` adds nothing.
        leaves: leaves of a tree of the per-class boosters.
        learning_rate: of the per-class boosters.
        trees: numbers of trees that are tried, read off one fit.
        min_hessian: floor of the sum of hessians in a leaf; without one the leaf values of
            rare classes explode.
        l2: ridge on leaf values.
        feature_fraction: share of columns a tree sees.
        max_bin: bins of a column.
        bags: boosters of each class and fold that differ in their seed alone, averaged.
        negatives: negatives drawn at random for each class; all positives are taken.
        neighbours: most confused classes whose scores a class sees.
        max_extra: extra columns a class sees at most.
        shared_leaves: leaves of a tree of the shared booster.
        shared_trees: trees of the shared booster.
        logistic_c: inverse strength of the logistic's ridge.
        min_positives: windows with the class below which it gets the shared score.
        min_recordings: recordings with the class below which it gets the shared score.
        resamples: of the bootstrap by recording.
        seed: of every draw.
        workers: classes fitted at a time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    booster: Literal["lightgbm", "xgboost"] = "lightgbm"
    blend: Literal["equal", "global"] = "equal"
    ship: Literal["auto", "stack", "control"] = "auto"
    prior: Literal["off", "range"] = "off"
    leaves: int = Field(default=14, ge=2, le=256)
    learning_rate: float = Field(default=0.1, gt=0, le=1)
    trees: tuple[int, ...] = Field(default=(25, 50, 100), min_length=1)
    min_hessian: float = Field(default=0.1, ge=0.001, le=100)
    l2: float = Field(default=2.0, ge=0.1, le=1000)
    feature_fraction: float = Field(default=0.5, gt=0, le=1)
    max_bin: int = Field(default=63, ge=7, le=255)
    bags: int = Field(default=1, ge=1, le=50)
    negatives: int = Field(default=5000, ge=10)
    neighbours: int = Field(default=8, ge=0, le=64)
    max_extra: int = Field(default=20, ge=0, le=200)
    shared_leaves: int = Field(default=31, ge=2, le=256)
    shared_trees: int = Field(default=100, ge=1, le=2000)
    logistic_c: float = Field(default=0.02, gt=0, le=1000)
    min_positives: int = Field(default=8, ge=1)
    min_recordings: int = Field(default=3, ge=1)
    resamples: int = Field(default=1000, ge=50, le=100_000)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    workers: int = Field(default=1, ge=1, le=256)
