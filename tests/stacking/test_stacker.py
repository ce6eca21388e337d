"""The estimator: it learns what is there, guards itself, and follows scikit-learn's ways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone
from support.rich_stack import QUICK, rich
from support.small_stacks import Small, many_classes, small_stack

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.class_columns import ClassColumns
from birdstack.stacking.controls import CONTROLS, Material
from birdstack.stacking.logistic import fit_linear
from birdstack.stacking.stack_table import StackTable
from birdstack.stacking.stacker import Stacker
from birdstack.store.errors import ConfigError, LeakError, UsageError


def tiny(**how: object) -> StackTable:
    """A table that is fitted in a second."""
    usual = {"seed": 7, "files": 24, "windows": 8, "classes": 8, "folds": 4, "second": 0.8}
    return small_stack(Small(**{**usual, **how}), fresh_files=2)[0]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fitted() -> tuple[Stacker, StackTable]:
    """A stack on the table where it pays."""
    table = rich()
    return Stacker(**QUICK).fit(table), table  # type: ignore[arg-type]


def test_a_stack_that_is_better_for_certain_is_shipped(fitted: tuple[Stacker, StackTable]) -> None:
    """It takes the rain out, beats mean + kernel by recording, and does so on fresh rows."""
    stacker, _ = fitted
    assert stacker.shipped_.what == "stack"
    assert stacker.verdict_ is not None
    assert stacker.verdict_.over_mean_kernel.low > 0
    fresh = rich(seed=1)
    plain = macro_auc(fresh.logits[0], fresh.truth).value
    ours = macro_auc(stacker.predict(fresh), fresh.truth).value
    assert ours > plain + 0.05
    assert macro_auc(stacker.nested_, fitted[1].truth).value == pytest.approx(ours, abs=0.04)


def test_constant_and_infinite_columns_do_no_harm(fitted: tuple[Stacker, StackTable]) -> None:
    """They are not chosen, and scores are finite."""
    stacker, table = fitted
    model = stacker.shipped_.stack
    assert model is not None
    assert all(set(extra) == {0} for extra in model.plan.extras)
    assert np.isfinite(stacker.predict(table)).all()


def test_the_report_names_every_control_and_the_stack(fitted: tuple[Stacker, StackTable]) -> None:
    """With intervals around the value, and the optimism between the two estimates."""
    report = fitted[0].report_
    names = [row["name"] for row in report["rows"]]
    assert {control.name for control in CONTROLS} <= set(names)
    assert {"stack", "chosen", "shared", "residual", "logistic"} <= set(names)
    for row in report["rows"]:
        interval = row["macro_auc"]
        assert interval["low"] <= interval["value"] <= interval["high"]
    shipped = report["shipped"]
    assert shipped["optimism"] == shipped["out_of_fold"]["value"] - shipped["nested"]["value"]


@pytest.mark.parametrize("booster", ["lightgbm", "xgboost"])
def test_both_libraries_learn_the_same_thing(booster: str) -> None:
    """Forced to ship, either beats the plain backbone."""
    table = rich(160)
    stacker = Stacker(booster=booster, ship="stack", **QUICK).fit(table)  # type: ignore[arg-type]
    plain = macro_auc(table.logits[0], table.truth).value
    assert macro_auc(stacker.nested_, table.truth).value > plain + 0.05


def test_labels_that_mean_nothing_are_not_learnt() -> None:
    """Labels dealt anew among recordings: the honest scores are no better than a coin."""
    table = rich(160)
    dealt = np.random.default_rng(5).permutation(160)
    rows = (dealt[:, None] * 5 + np.arange(5)).ravel()
    shuffled = replace(table, truth=table.truth[rows])
    stacker = Stacker(ship="stack", **QUICK).fit(shuffled)  # type: ignore[arg-type]
    assert macro_auc(stacker.nested_, shuffled.truth).value == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("positives", [0, 1, 2, 5])
def test_rare_classes_get_the_shared_score(positives: int) -> None:
    """With 0, 1, 2 or 5 positive windows a class has no layers of its own, and says why."""
    table = rich(60)
    truth = table.truth.copy()
    there = np.flatnonzero(truth[:, 2] == 1)
    truth[there[positives:], 2] = 0
    stacker = Stacker(ship="stack", **QUICK).fit(replace(table, truth=truth))  # type: ignore[arg-type]
    fallback = stacker.report_["fallbacks"]["c"]
    assert fallback["rule"] == "few_positives"
    assert f"{positives} positive windows" in fallback["why"]
    assert np.isfinite(stacker.nested_).all()
    assert np.isfinite(stacker.predict(table)).all()


def test_a_fold_without_positives_and_labels_not_known() -> None:
    """All positives of a class in one fold, half of another's labels missing: still scores."""
    table = rich(60)
    truth = table.truth.copy()
    truth[(table.window_fold != 0), 0] = 0
    truth[::2, 1] = -1
    stacker = Stacker(ship="stack", **QUICK).fit(replace(table, truth=truth))  # type: ignore[arg-type]
    assert np.isfinite(stacker.nested_).all()


def test_one_class_alone() -> None:
    """No other class to be confused with."""
    table = rich(60)
    one = replace(table, classes=("a",), logits=table.logits[:, :, :1], truth=table.truth[:, :1])
    stacker = Stacker(ship="stack", **QUICK).fit(one)  # type: ignore[arg-type]
    assert stacker.predict(one).shape == (one.n_windows, 1)


def test_a_stack_that_does_not_help_is_not_shipped() -> None:
    """On a small table the control chosen inside folds is, and it is said."""
    stacker = Stacker(**QUICK).fit(tiny())  # type: ignore[arg-type]
    shipped = stacker.report_["shipped"]
    assert shipped["what"] in {control.name for control in CONTROLS}
    assert "not ahead for certain" in shipped["why"]


def test_shipped_does_not_lose_to_the_best_simple_control() -> None:
    """Small long-tailed tables: on average not below the control that hindsight picks."""
    out_of_fold, fresh = [], []
    for seed in range(3):
        table, new = small_stack(Small(seed=300 + seed, fold_models=0.3), fresh_files=150)
        stacker = Stacker(ship="control", resamples=50).fit(table)
        rows = {row["name"]: row["macro_auc"]["value"] for row in stacker.report_["rows"]}
        simple = [c for c in CONTROLS if c.name not in {"greedy", "ranker"}]
        best = max(rows[c.name] for c in simple)
        out_of_fold.append(stacker.report_["shipped"]["nested"]["value"] - best)
        material, every = Material(table), np.ones(table.n_windows, dtype=bool)
        there = Material(new, material.spread)
        ahead = max(
            macro_auc(c.score(there, c.learn(material, every)), new.truth).value for c in simple
        )
        fresh.append(macro_auc(stacker.predict(new), new.truth).value - ahead)
    assert np.mean(out_of_fold) > -0.005
    assert np.mean(fresh) > -0.005


def test_columns_never_reach_across_a_recording() -> None:
    """Lags and leads at a recording's ends are not known; within it they are the neighbours'."""
    table = rich(6)
    columns = ClassColumns(Material(table))
    names = columns.shared_names
    rows = np.arange(table.n_windows)
    values = columns.shared(1, rows)
    lag, lead = values[:, names.index("lag(1)")], values[:, names.index("lead(1)")]
    first, last = rows % 5 == 0, rows % 5 == 4
    assert np.isnan(lag[first]).all()
    assert np.isnan(lead[last]).all()
    np.testing.assert_array_equal(lag[~first], columns.mean[rows[~first] - 1, 1])
    np.testing.assert_array_equal(lead[~last], columns.mean[rows[~last] + 1, 1])


def test_the_logistic_equals_scikit_learn() -> None:
    """The same minimum, to six digits."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    columns = rng.normal(2, 3, (500, 6))
    present = rng.random(500) < 1 / (1 + np.exp(3 - columns[:, 0]))
    ours = fit_linear(columns, present, c=0.1)
    standard = (columns - columns.mean(0)) / columns.std(0)
    theirs = LogisticRegression(C=0.1, tol=1e-10, max_iter=1000).fit(standard, present)
    np.testing.assert_allclose(ours.weights, theirs.coef_[0], atol=1e-4)
    assert ours.intercept == pytest.approx(theirs.intercept_[0], abs=1e-3)


def test_scikit_learn_conventions() -> None:
    """Clone, get_params and set_params work; faults are told by name."""
    stacker = Stacker(leaves=7, seed=3)
    copy = clone(stacker)
    assert copy is not stacker
    assert copy.get_params() == stacker.get_params()
    assert repr(copy) == "Stacker(leaves=7, seed=3)"
    assert copy.set_params(leaves=9) is copy
    assert copy.leaves == 9
    with pytest.raises(UsageError, match="no parameter 'leafs'"):
        stacker.set_params(leafs=3)
    with pytest.raises(ConfigError, match="leaves=0"):
        Stacker(leaves=0).fit(tiny())
    with pytest.raises(UsageError, match="has not been fitted"):
        Stacker().predict(tiny())


def test_the_same_seed_gives_the_same_scores() -> None:
    """Whatever the number of workers."""
    table = rich(60)
    runs = [Stacker(ship="stack", workers=n, **QUICK).fit(table).nested_ for n in (1, 3)]  # type: ignore[arg-type]
    np.testing.assert_array_equal(*runs)


def test_what_cannot_be_learnt_from() -> None:
    """One fold, no positives, a class that no backbone scores, a score that is not there."""
    table = rich(20)
    broken = table.logits.copy()
    broken[0, 7, 1] = np.nan
    silent = table.logits.copy()
    silent[0, :, 1] = np.nan
    cases = {
        "1 folds": replace(table, fold=np.zeros(20, int)),
        "no class has both": replace(table, truth=np.zeros_like(table.truth)),
        "no backbone has a score of class 'b'": replace(table, logits=silent),
        "net:b is not finite in window 7": replace(table, logits=broken),
    }
    for words, wrong in cases.items():
        with pytest.raises(UsageError, match=words):
            Stacker().fit(wrong)


def test_another_table_is_refused(fitted: tuple[Stacker, StackTable]) -> None:
    """Other classes, backbones or extra columns are named."""
    stacker, table = fitted
    with pytest.raises(UsageError, match=r"classes .*missing \['d'\]"):
        stacker.predict(replace(table, classes=("a", "b", "c", "e")))
    with pytest.raises(UsageError, match=r"extra columns .*missing \['rain'\]"):
        stacker.predict(replace(table, extra_names=("hail", "constant", "infinite")))


def test_a_group_in_two_folds_is_a_leak() -> None:
    """Its fold models may have met what they score."""
    table = rich(20)
    with pytest.raises(LeakError, match="group 'same' lies in folds 0 and 1"):
        Stacker().fit(replace(table, groups=["same", "same", *table.groups[2:]]))


def test_a_column_that_names_the_recording_does_not_flatter() -> None:
    """A recording's number as extra column is learnt by heart, and honest scores show no gain."""
    table = rich(120, seed=4)
    number = table.recording.astype(np.float32)
    named = replace(table, extra=number[:, None], extra_names=("recording",))
    plain = replace(table, extra=np.zeros((table.n_windows, 0), np.float32), extra_names=())
    with_it, without = (
        macro_auc(Stacker(ship="stack", **QUICK).fit(t).nested_, t.truth).value  # type: ignore[arg-type]
        for t in (named, plain)
    )
    assert with_it < without + 0.02


def test_many_classes() -> None:
    """A thousand classes, most without a positive, in one go."""
    table = many_classes(singing=10, recordings=24)
    stacker = Stacker(ship="stack", **QUICK).fit(table)  # type: ignore[arg-type]
    assert len(stacker.report_["fallbacks"]) >= 990
    assert np.isfinite(stacker.nested_).all()
    assert macro_auc(stacker.nested_, table.truth).value > 0.6
