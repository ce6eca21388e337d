"""The linear head is scikit-learn's softmax regression, with labels that are not known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from birdstack.embeddings.linear_head import HeadConfig, LinearHead, fit_head, spread_rows
from birdstack.store.errors import StoreError

DIM, CLASSES = 6, 3


def _drawn(seed: int = 0, rows: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of three overlapping classes, far from zero mean and unit variance; labels."""
    rng = np.random.default_rng(seed)
    label = np.arange(rows) % CLASSES
    centre = rng.normal(size=(CLASSES, DIM))
    scale, shift = 10.0 ** rng.uniform(-2, 2, DIM), rng.normal(0, 5, DIM)
    heard = (centre[label] + rng.normal(size=(rows, DIM))) * scale + shift
    truth = np.eye(CLASSES, dtype=np.int8)[label]
    return heard.astype(np.float32), truth, rng.uniform(0.2, 1.0, rows)


def _shares(head: LinearHead, heard: np.ndarray) -> np.ndarray:
    raised = np.exp(head.logits(heard).astype(np.float64))
    shares: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
    return shares


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("l2", [1e-3, 0.1, 10.0])
def test_it_is_scikit_learns(seed: int, l2: float) -> None:
    """Probabilities within .002 of its multinomial regression with the same penalty."""
    heard, truth, weights = _drawn(seed)
    share = weights / weights.sum()
    mean = share @ heard
    scaled = (heard - mean) / np.sqrt(share @ (heard - mean) ** 2)
    theirs = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=10_000)
    theirs.fit(scaled, truth.argmax(axis=1), sample_weight=share)
    ours = _shares(fit_head(heard, truth, weights, HeadConfig(l2=l2)), heard)
    np.testing.assert_allclose(ours, theirs.predict_proba(scaled), rtol=0, atol=0.002)


def test_logits_are_float32_of_the_raw_embeddings() -> None:
    """Mean and scale are folded into weight and bias: nothing else has to be kept."""
    heard, truth, weights = _drawn()
    head = fit_head(heard, truth, weights, HeadConfig())
    assert (head.weight.shape, head.bias.shape) == ((CLASSES, DIM), (CLASSES,))
    assert {head.weight.dtype, head.bias.dtype, head.logits(heard).dtype} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(head.logits(heard), heard @ head.weight.T + head.bias)
    assert (head.logits(heard).argmax(axis=1) == truth.argmax(axis=1)).mean() > 0.7
    assert head.logits(heard[:0]).shape == (0, CLASSES)


def test_the_scale_of_embeddings_makes_no_difference() -> None:
    """A network whose embeddings are a thousand times as large gets the same probabilities."""
    heard, truth, weights = _drawn()
    ours = _shares(fit_head(heard, truth, weights, HeadConfig()), heard)
    large = 1000 * heard + 7
    theirs = _shares(fit_head(large, truth, weights, HeadConfig()), large)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.01)


def test_a_class_that_is_not_known_in_a_row_takes_no_part_in_it() -> None:
    """Copies of another class's rows, its own label masked there, leave its head untouched."""
    heard, truth, weights = _drawn()
    masked, absent = truth.copy(), truth.copy()
    second = truth[:, 1] == 1
    heard = np.concatenate([heard, heard[second]])  # the second class again, called the first
    again = np.tile(np.array([[1, -1, 0]], np.int8), (int(second.sum()), 1))
    weights = np.concatenate([weights, weights[second]])
    config = HeadConfig(l2=1e-3)
    masked = np.concatenate([masked, again])
    absent = np.concatenate([absent, np.where(again == -1, 0, again)])
    place = np.flatnonzero(second)
    known = _shares(fit_head(heard, masked, weights, config), heard)[place, 1].mean()
    told_otherwise = _shares(fit_head(heard, absent, weights, config), heard)[place, 1].mean()
    assert known > told_otherwise + 0.1


def test_where_only_one_class_is_known_a_row_teaches_nothing() -> None:
    """All others masked, its share is 1 whatever the head says: the gradient is zero."""
    heard, truth, weights = _drawn()
    silent = np.tile(np.array([[1, -1, -1]], np.int8), (len(heard), 1))
    alone = fit_head(heard, truth, weights, HeadConfig(l2=0.01))
    beside = fit_head(  # twice the rows, half the mean loss: the penalty is halved with it
        np.concatenate([heard, heard]),
        np.concatenate([truth, silent]),
        np.concatenate([weights, weights]),
        HeadConfig(l2=0.005),
    )
    np.testing.assert_allclose(_shares(beside, heard), _shares(alone, heard), rtol=0, atol=0.002)


def test_a_target_is_shared_among_the_classes_present() -> None:
    """Rows with two present classes end at about one half each."""
    heard, truth, weights = _drawn()
    truth[truth[:, 2] == 1, 1] = 1
    found = _shares(fit_head(heard, truth, weights, HeadConfig(l2=1e-3)), heard)
    both = truth[:, 2] == 1
    np.testing.assert_allclose(found[both, 1:].mean(axis=0), 0.45, atol=0.06)


def test_a_weight_counts_as_so_many_rows() -> None:
    """Weight 3 is three rows, and weight 0 is none."""
    heard, truth, _ = _drawn()
    weights = np.arange(len(heard)) % 4
    rows = np.repeat(np.arange(len(heard)), weights)
    ours = fit_head(heard, truth, weights.astype(float), HeadConfig(l2=0.01))
    theirs = fit_head(heard[rows], truth[rows], np.ones(len(rows)), HeadConfig(l2=0.01))
    np.testing.assert_allclose(_shares(ours, heard), _shares(theirs, heard), rtol=0, atol=1e-3)


def test_rows_without_a_present_class_are_left_out() -> None:
    """Whatever they sound like, also where they are no numbers."""
    heard, truth, weights = _drawn()
    nothing = np.full((5, DIM), np.nan, np.float32)
    absent = np.zeros((5, CLASSES), np.int8)
    ours = fit_head(heard, truth, weights, HeadConfig())
    theirs = fit_head(
        np.concatenate([nothing, heard]),
        np.concatenate([absent, truth]),
        np.concatenate([np.full(5, 9.0), weights]),
        HeadConfig(),
    )
    np.testing.assert_array_equal(ours.weight, theirs.weight)
    np.testing.assert_array_equal(ours.bias, theirs.bias)


@pytest.mark.parametrize("value", [0.0, 1e-20, 3.25, 1e6])
def test_a_constant_dimension_says_nothing(value: float) -> None:
    """Its weight is zero, and the rest is as without it."""
    heard, truth, weights = _drawn()
    constant = np.full((len(heard), 1), value, np.float32)
    head = fit_head(np.hstack([heard, constant]), truth, weights, HeadConfig())
    assert np.isfinite(head.weight).all()
    assert np.abs(head.weight[:, -1]).max() <= 1e-9
    without = fit_head(heard, truth, weights, HeadConfig())
    np.testing.assert_allclose(
        _shares(head, np.hstack([heard, constant])), _shares(without, heard), rtol=0, atol=0.01
    )


def test_the_same_input_gives_the_same_head() -> None:
    """Bit for bit."""
    heard, truth, weights = _drawn()
    one, other = (fit_head(heard, truth, weights, HeadConfig()) for _ in range(2))
    np.testing.assert_array_equal(one.weight, other.weight)
    np.testing.assert_array_equal(one.bias, other.bias)


def test_nothing_to_fit_on_is_refused() -> None:
    """No present class in any row."""
    heard, truth, weights = _drawn()
    with pytest.raises(StoreError, match="no row has a present class"):
        fit_head(heard, np.minimum(truth, 0), weights, HeadConfig())


def test_embeddings_that_are_no_numbers_are_refused() -> None:
    """Counted by row."""
    heard, truth, weights = _drawn()
    heard[3, 1], heard[7] = np.nan, np.inf
    with pytest.raises(StoreError, match="2 embeddings are not finite"):
        fit_head(heard, truth, weights, HeadConfig())


@pytest.mark.parametrize("setting", [{"l2": 0.0}, {"max_iterations": 0}, {"max_windows": 0}])
def test_settings_without_sense_are_refused(setting: dict[str, Any]) -> None:
    """No penalty has no one minimum; no step and no window fit nothing."""
    with pytest.raises(ValidationError, match=next(iter(setting))):
        HeadConfig(**setting)


@given(counts=st.lists(st.integers(0, 40), max_size=12), most=st.integers(1, 30))
@settings(max_examples=200, deadline=None)
def test_windows_are_spread_over_each_recording(counts: list[int], most: int) -> None:
    """As many as allowed, ascending, first and last among them, no gap twice as wide as another."""
    rows = spread_rows(np.array(counts, dtype=np.int64), most)
    assert (np.diff(rows) > 0).all()
    start = 0
    for count in counts:
        mine = rows[(rows >= start) & (rows < start + count)] - start
        assert len(mine) == min(count, most)
        if len(mine) > 1:
            assert (mine[0], mine[-1]) == (0, count - 1)
            assert np.diff(mine).max() - np.diff(mine).min() <= 1
        start += count
    assert len(rows) == sum(min(count, most) for count in counts)
