"""Macro AUC is scikit-learn's, class by class, and says what it left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from birdstack.embeddings.auc import macro_auc
from birdstack.store.errors import UsageError


def _drawn(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores with few distinct values, so that many tie, and labels of all three kinds."""
    rng = np.random.default_rng(seed)
    rows, classes = int(rng.integers(1, 60)), int(rng.integers(1, 5))
    scores = 0.05 * rng.integers(0, levels, (rows, classes))
    scores = scores.astype(rng.choice([np.float16, np.float32, np.float64]))
    return scores, rng.choice([-1, 0, 1], (rows, classes), p=[0.2, 0.5, 0.3]).astype(np.int8)


@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([1, 2, 5, 10**6]))
@settings(max_examples=1000, deadline=None)
def test_each_class_is_scikit_learns(seed: int, levels: int) -> None:
    """To 1e-12 with ties, over known labels; a class with one kind of label has no AUC."""
    scores, truth = _drawn(seed, levels)
    found = macro_auc(scores, truth)
    expected = np.full(truth.shape[1], np.nan)
    for index, label in enumerate(truth.T):
        known = label != -1
        if len(set(label[known])) == 2:
            expected[index] = roc_auc_score(label[known], scores[known, index])
    np.testing.assert_allclose(found.per_class, expected, rtol=0, atol=1e-12)
    assert found.counted == int(np.isfinite(expected).sum())
    if found.counted:
        assert found.value == pytest.approx(np.nanmean(expected), abs=1e-12)
    else:
        assert np.isnan(found.value)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_only_the_order_of_scores_counts(seed: int) -> None:
    """A rising function changes nothing, and the opposite order gives one minus the value."""
    scores, truth = _drawn(seed, 7)
    found = macro_auc(scores, truth).per_class
    np.testing.assert_array_equal(macro_auc(np.exp(3 * scores), truth).per_class, found)
    np.testing.assert_allclose(macro_auc(-scores, truth).per_class, 1 - found, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("laid", ["C", "F"])
def test_many_classes_and_rows_are_scikit_learns(dtype: type, laid: str) -> None:
    """More than the tiles in which columns are laid out, also from a matrix laid out by class."""
    rng = np.random.default_rng(0)
    truth = (rng.random((2500, 70)) < 0.1).astype(np.int8)
    scores = np.asarray(rng.normal(size=truth.shape) + truth, dtype=dtype, order=laid)
    scores[:, ::2] = scores[:, ::2].round(1)
    before = scores.copy()
    found = macro_auc(scores, truth)
    expected = [roc_auc_score(truth[:, k], scores[:, k]) for k in range(70)]
    np.testing.assert_allclose(found.per_class, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(scores, before)
    order = rng.permutation(2500)
    np.testing.assert_array_equal(macro_auc(scores[order], truth[order]).per_class, found.per_class)


def test_labels_may_be_of_any_type_and_scores_whole_numbers() -> None:
    """Booleans and floats count as the integers do."""
    scores = np.array([[3], [1], [2], [2]])
    truth = np.array([[1], [0], [1], [0]])
    for labels in (truth, truth.astype(bool), truth.astype(np.float32)):
        assert macro_auc(scores, labels).value == 0.875


def test_scores_that_differ_in_the_last_bit_do_not_tie() -> None:
    """Double precision is kept."""
    scores = np.array([[1.0], [np.nextafter(1.0, 0.0)]])
    assert macro_auc(scores, np.array([[1], [0]])).value == 1.0


def test_nothing_to_score_gives_no_figure() -> None:
    """No rows, or no classes."""
    for shape in ((0, 3), (5, 0)):
        found = macro_auc(np.zeros(shape), np.zeros(shape))
        assert np.isnan(found.value)
        assert found.counted == 0


def test_a_label_that_is_not_known_has_no_influence() -> None:
    """Its score may be anything, also no number."""
    scores, truth = _drawn(3, 10)
    truth[0] = -1
    changed = scores.copy()
    changed[truth == -1] = np.nan
    found = macro_auc(changed, truth)
    assert found.counted > 0
    np.testing.assert_array_equal(found.per_class, macro_auc(scores, truth).per_class)


def test_infinite_scores_have_a_rank() -> None:
    """The largest and the smallest of all."""
    scores = np.array([[np.inf], [-np.inf], [0.0], [np.inf]])
    assert macro_auc(scores, np.array([[1], [0], [0], [0]])).value == pytest.approx(2.5 / 3)


def test_a_score_without_a_number_is_refused() -> None:
    """NaN has no rank: the class and how many."""
    scores = np.zeros((4, 2))
    scores[1:3, 1] = np.nan
    with pytest.raises(UsageError, match="class 1: 2 of 4 scores are NaN"):
        macro_auc(scores, np.array([[1, 1], [0, 0], [1, 1], [0, 0]]))


@pytest.mark.parametrize("shape", [(3, 2), (4, 1), (4,)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    """One score for each label."""
    with pytest.raises(UsageError, match=r"must both be \[row, class\]"):
        macro_auc(np.zeros(shape), np.zeros((4, 2)))
