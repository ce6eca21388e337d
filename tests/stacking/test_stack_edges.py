"""Layers of classes that have next to nothing to learn from, and columns that say nothing."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
from support.layers import fitted, shipped
from support.rich_stack import QUICK, rich
from support.small_stacks import many_classes

from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.stack_table import FOCAL, SOUNDSCAPES, StackTable

BOOSTERS = pytest.mark.parametrize("booster", ["lightgbm", "xgboost"])


def settings(**more: object) -> StackSettings:
    """Settings under which every class with a positive gets layers of its own."""
    return StackSettings(**{**QUICK, "min_positives": 1, "min_recordings": 1, **more})  # type: ignore[arg-type]


def with_positives(count: int, table: StackTable) -> StackTable:
    """Class `c` with so few positive windows."""
    truth = table.truth.copy()
    truth[np.flatnonzero(truth[:, 2] == 1)[count:], 2] = 0
    return replace(table, truth=truth)


@BOOSTERS
@pytest.mark.parametrize("positives", [0, 1, 2, 5])
def test_layers_of_a_class_with_few_positives(positives: int, booster: str) -> None:
    """Fitted where the other folds have a positive; else the shared score stands in."""
    table = with_positives(positives, rich(60))
    stack = fitted(table, settings(booster=booster))
    assert np.isfinite(stack.layers).all()
    assert np.isfinite(stack.nested).all()
    scores = shipped(table, stack).predict(table)
    assert np.isfinite(scores).all()
    if positives == 0:
        assert stack.fallbacks[2].why == "0 positive windows, 1 needed"
        assert 2 not in stack.model.classes
        np.testing.assert_array_equal(stack.layers[0, :, 2], stack.layers[2, :, 2])
        return
    folds = stack.model.classes[2].folds
    at = table.window_fold[table.truth[:, 2] == 1]
    for held, model in folds.items():
        elsewhere = bool((at != held).any())
        assert (model.trees is not None) == elsewhere
        assert (model.linear is not None) == elsewhere


@BOOSTERS
def test_a_fold_without_positives_of_a_class(booster: str) -> None:
    """And the other way round: all in one fold, which the model without it cannot learn."""
    table = rich(60)
    truth = table.truth.copy()
    truth[table.window_fold == 0, 0] = 0
    truth[table.window_fold != 1, 1] = 0
    table = replace(table, truth=truth)
    stack = fitted(table, settings(booster=booster))
    assert np.isfinite(stack.nested).all()
    assert all(model.trees is not None for model in stack.model.classes[0].folds.values())
    assert stack.model.classes[1].folds[1].trees is None
    assert np.isfinite(shipped(table, stack).predict(rich(20, seed=3))).all()


@BOOSTERS
def test_labels_nobody_knows(booster: str) -> None:
    """A class of which no window is known to be free, and one with no label at all."""
    table = rich(60)
    truth = table.truth.copy()
    truth[truth[:, 0] == 0, 0] = -1
    truth[:, 1] = -1
    stack = fitted(replace(table, truth=truth), settings(booster=booster))
    assert np.isfinite(stack.nested).all()
    assert all(model.trees is None for model in stack.model.classes[0].folds.values())
    assert stack.fallbacks[1].rule == "few_positives"


@BOOSTERS
def test_columns_that_say_nothing(booster: str) -> None:
    """Constant, infinite, not known at all, infinite here and there: only the last is used."""
    table = rich(60)
    rain = table.extra[:, 0].copy()
    rain[::7] = np.inf
    rows = table.n_windows
    extra = np.stack([np.full(rows, 3), np.full(rows, -np.inf), np.full(rows, np.nan), rain], 1)
    table = replace(
        table, extra=extra.astype(np.float32), extra_names=("three", "inf", "nan", "rain")
    )
    stack = fitted(table, settings(booster=booster))
    assert stack.model.plan.extras == ((3,),) * 4
    assert np.isfinite(stack.nested).all()
    assert np.isfinite(shipped(table, stack).predict(table)).all()


@BOOSTERS
def test_one_class_and_two_folds(booster: str) -> None:
    """Nothing to be confused with, and as few folds as there may be."""
    table = rich(60)
    one = replace(
        table,
        classes=("a",),
        logits=table.logits[:, :, :1],
        truth=table.truth[:, :1],
        fold=np.arange(60) % 2,
    )
    stack = fitted(one, settings(booster=booster))
    assert stack.model.plan.neighbours.shape == (1, 0)
    assert set(stack.model.classes[0].folds) == {0, 1}
    assert shipped(one, stack).predict(one).shape == (300, 1)


@BOOSTERS
def test_a_backbone_that_lacks_classes(booster: str) -> None:
    """Where it says nothing its column is not known, and the others' mean is the score."""
    table = rich(60)
    second = table.logits[0] + np.random.default_rng(1).normal(size=table.truth.shape)
    second[:, 1] = np.nan
    both = replace(
        table,
        backbones=("net", "other"),
        logits=np.stack([table.logits[0], second]).astype(np.float32),
    )
    stack = fitted(both, settings(booster=booster))
    assert np.isfinite(stack.nested).all()
    scores = shipped(both, stack).predict(both)
    assert np.isfinite(scores).all()
    for model in stack.model.classes[1].folds.values():
        assert model.linear is not None
        assert model.linear.weights[1] == 0


def test_guards_look_at_soundscapes_where_there_are_any() -> None:
    """A control that is right on focal clips alone drives no class back; on soundscapes, all."""
    table = rich(60)
    kinds = [FOCAL if number % 2 else SOUNDSCAPES for number in range(60)]
    table = replace(table, domain=kinds)
    heard = np.array([kind == SOUNDSCAPES for kind in kinds])[table.recording]
    coin = np.random.default_rng(0).normal(size=table.truth.shape)
    for rows, fallen in ((heard, True), (~heard, False)):
        control = np.where(rows[:, None], table.truth, coin).astype(np.float32)
        stack = fitted(table, settings(), control=control)
        assert stack.model.fallen.tolist() == [fallen] * 4
        assert set(stack.fallbacks) == (set(range(4)) if fallen else set())


def test_a_thousand_classes_in_seconds() -> None:
    """Thirty of them with layers of their own, a hundred windows, few trees."""
    table = many_classes(singing=30, recordings=25)
    begun_s = time.process_time()
    stack = fitted(table, settings(trees=(5,), shared_trees=5))
    scores = shipped(table, stack).predict(table)
    assert time.process_time() - begun_s < 30
    assert len(stack.model.classes) == 30
    assert scores.shape == (100, 1000)
    assert np.isfinite(scores).all()


def test_no_class_has_enough() -> None:
    """All get the shared score, and nothing warns."""
    table = rich(60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack = fitted(table, settings(min_positives=10_000))
    assert len(stack.fallbacks) == 4
    np.testing.assert_array_equal(stack.nested, stack.layers[2])
    assert np.isfinite(shipped(table, stack).predict(table)).all()
