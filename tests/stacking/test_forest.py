"""Trees laid out side by side give LightGBM's numbers to the last bit."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rich_stack import QUICK, rich

from birdstack.stacking import trees as trees_module
from birdstack.stacking.forest import Forest
from birdstack.stacking.stacker import Stacker
from birdstack.stacking.trees import LightTrees

COLUMNS = 7


def _values(rows: int, seed: int, *, gaps: float = 0.1) -> np.ndarray:
    """Columns of several makes: smooth, coarse, constant, tiny, huge; with NaN and infinities."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, COLUMNS)).astype(np.float32)
    values[:, 1] = np.round(values[:, 1] * 2) / 2
    values[:, 2] = 1.0
    values[:, 3] *= 1e-30
    values[:, 4] *= 1e30
    values[rng.random(values.shape) < gaps] = np.nan
    values[rng.random(values.shape) < gaps / 5] = np.inf
    values[rng.random(values.shape) < gaps / 5] = -np.inf
    values[rng.random(values.shape) < gaps / 5] = 0.0
    return values


def _fitted(seed: int, *, gaps: float = 0.1, rounds: int = 12, **more: Any) -> lgb.Booster:
    values = np.nan_to_num(_values(600, seed, gaps=gaps), nan=np.nan)
    rng = np.random.default_rng(seed)
    heard = np.clip(np.nan_to_num(values[:, :2]), -9, 9)
    label = heard[:, 0] + heard[:, 1] * 0.5 + rng.normal(size=600) > 0
    given = {"objective": "binary", "num_leaves": 14, "min_data_in_leaf": 3, "verbosity": -1}
    given |= {"num_threads": 1, "seed": seed, "deterministic": True, **more}
    return lgb.train(given, lgb.Dataset(values, label=label), rounds)


@pytest.mark.parametrize("leaves", [2, 3, 14, 31, 32])
@pytest.mark.parametrize("gaps", [0.0, 0.1])
def test_scores_are_those_of_lightgbm(leaves: int, gaps: float) -> None:
    """Any size of tree, trained with and without gaps, on rows with and without them."""
    booster = _fitted(leaves, gaps=gaps, num_leaves=leaves)
    forest = Forest.of(booster.model_to_string())
    assert forest is not None
    for rows in (1, 63, 64, 65, 200):
        fresh = _values(rows, rows)
        for count in (1, 5, 12, 99):
            wanted = booster.predict(fresh, raw_score=True, num_iteration=count)
            assert forest.raw(fresh, count).tobytes() == wanted.tobytes()
    assert len(forest.raw(_values(0, 1), 5)) == 0
    wide = np.asfortranarray(fresh)
    wide.flags.writeable = False
    assert forest.raw(wide, 5).tobytes() == forest.raw(fresh, 5).tobytes()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), leaves=st.integers(2, 32), monotone=st.booleans())
def test_scores_are_those_of_lightgbm_whatever_was_learnt(
    seed: int, leaves: int, monotone: bool
) -> None:
    """Random fits; rows that lie on the thresholds themselves, and beside them."""
    more = {"monotone_constraints": [1] + [0] * (COLUMNS - 1)} if monotone else {}
    booster = _fitted(seed, num_leaves=leaves, rounds=4, max_bin=31, **more)
    text = booster.model_to_string()
    forest = Forest.of(text)
    assert forest is not None
    lines = [line for line in text.splitlines() if line.startswith("threshold=")]
    limits = np.array(" ".join(line[10:] for line in lines).split(), dtype=np.float64)
    with np.errstate(over="ignore"):
        near = limits.astype(np.float32)
    edge = np.concatenate([near, np.nextafter(near, np.float32(np.inf)), [np.nan, 0.0, -0.0]])
    rng = np.random.default_rng(seed)
    fresh = rng.choice(edge.astype(np.float32), size=(150, COLUMNS))

    assert forest.raw(fresh, 4).tobytes() == booster.predict(fresh, raw_score=True).tobytes()


def test_a_tree_of_one_leaf_is_a_number() -> None:
    """Where there is nothing to split on."""
    flat = lgb.Dataset(np.ones((60, 2)), label=np.arange(60) % 3 == 0)
    booster = lgb.train({"objective": "binary", "verbosity": -1}, flat, 1)
    forest = Forest.of(booster.model_to_string())
    fresh = np.zeros((3, 2), dtype=np.float32)
    assert forest is not None
    assert forest.raw(fresh, 1).tobytes() == booster.predict(fresh, raw_score=True).tobytes()


@pytest.mark.parametrize(
    "more",
    [
        {"num_leaves": 40},
        {"zero_as_missing": True},
        {"linear_tree": True},
        {"categorical_feature": "name:Column_1", "max_cat_to_onehot": 1},
        {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1},
    ],
    ids=["leaves", "zeros", "linear", "categories", "average"],
)
def test_trees_of_another_make_are_left_to_lightgbm(more: dict[str, Any]) -> None:
    """More leaves than bits, other meanings of zero, linear leaves, categories, averages."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 9, size=(900, 3)).astype(np.float64)
    label = (values.sum(axis=1) + rng.normal(size=900)) % 3 > 1
    given = {"objective": "binary", "num_leaves": 14, "min_data_in_leaf": 2, "verbosity": -1}
    categorical = more.pop("categorical_feature", None)
    data = lgb.Dataset(values, label=label)
    if categorical:
        data.categorical_feature = [1]
    booster = lgb.train(given | more, data, 5)

    assert Forest.of(booster.model_to_string()) is None


def test_several_classes_at_once_are_left_to_lightgbm() -> None:
    """One score a row is all that a stack asks of a booster."""
    data = lgb.Dataset(np.random.default_rng(0).normal(size=(90, 2)), label=np.arange(90) % 3)
    booster = lgb.train({"objective": "multiclass", "num_class": 3, "verbosity": -1}, data, 2)
    assert Forest.of(booster.model_to_string()) is None


def test_other_rows_than_float32_are_left_to_lightgbm() -> None:
    """A float64 value may lie between a threshold and the float32 below it."""
    forest = Forest.of(_fitted(1).model_to_string())
    assert forest is not None
    assert forest.takes(_values(2, 0))
    assert not forest.takes(_values(2, 0).astype(np.float64))
    assert not forest.takes(_values(2, 0)[:, :3])


def test_a_booster_changes_over_without_a_trace() -> None:
    """The same rows score the same before trees are laid out anew and after."""
    booster = _fitted(3)
    light = LightTrees(booster.model_to_string())
    fresh = _values(100, 5)
    before = light.raw(fresh, 7)
    assert light._forest is None
    for _ in range(3):
        after = light.raw(fresh, 7)
    assert light._forest is not None
    assert before.tobytes() == after.tobytes()
    wide = light.raw(fresh.astype(np.float64), 7)
    assert wide.tobytes() == before.tobytes()


def test_a_stack_is_the_same_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fitting and predicting, bit for bit."""
    fresh = rich(40, seed=9)

    def both() -> tuple[bytes, bytes]:
        stacker = Stacker(ship="stack", **QUICK).fit(rich(80))  # type: ignore[arg-type]
        return stacker.nested_.tobytes(), stacker.predict(fresh).tobytes()

    with_forests = both()
    monkeypatch.setattr(trees_module, "_WORTHWHILE", 10**9)
    assert both() == with_forests
