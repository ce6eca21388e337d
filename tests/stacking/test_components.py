"""Components: each fold's basis knows the other folds only, and columns mean the same in all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.decomposition import PCA

from birdstack.stacking.components import Components, ComponentsConfig, fit_components
from birdstack.store.errors import SchemaError, UsageError

FOLDS = 4


def embedding(rows: int = 400, dim: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows with six strong directions, and their folds."""
    rng = np.random.default_rng(seed)
    strong = rng.normal(size=(rows, 6)) * np.array([9, 7, 5.5, 4, 3, 2])
    values = strong @ np.linalg.qr(rng.normal(size=(dim, 6)))[0].T
    values += 0.3 * rng.normal(size=values.shape) + rng.normal(size=dim)
    return values.astype(np.float32), np.arange(rows) % FOLDS


def blocks(values: np.ndarray, size: int = 70) -> Iterator[np.ndarray]:
    """The rows in uneven stretches."""
    for first in range(0, len(values), size):
        yield values[first : first + size]


def config(count: int = 5, *, standardise: bool = False) -> ComponentsConfig:
    """A handful of components."""
    return ComponentsConfig(count=count, standardise=standardise)


@pytest.mark.parametrize("standardise", [False, True])
def test_the_common_basis_is_scikit_learns(standardise: bool) -> None:
    """All rows give the components of PCA, but for signs."""
    values, fold = embedding()
    found = fit_components(blocks(values), fold, config(standardise=standardise)).new(values)
    given = values.astype(np.float64)
    if standardise:
        given = (given - given.mean(axis=0)) / given.std(axis=0)
    theirs = PCA(5, svd_solver="full").fit(given)
    expected = theirs.transform(given)
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=2e-4 * np.abs(expected).max())
    fitted = fit_components(blocks(values), fold, config(standardise=standardise))
    np.testing.assert_allclose(fitted.explained, theirs.explained_variance_ratio_, rtol=1e-4)


@pytest.mark.parametrize("standardise", [False, True])
def test_the_basis_of_a_fold_is_that_of_the_other_folds(standardise: bool) -> None:
    """Mean and span are those of a PCA of the other folds' rows."""
    values, fold = embedding()
    fitted = fit_components(blocks(values), fold, config(standardise=standardise))
    for place, held in enumerate(fitted.folds[1:], start=1):
        others = values[fold != held].astype(np.float64)
        scale = others.std(axis=0) if standardise else np.ones(values.shape[1])
        theirs = PCA(5, svd_solver="full").fit((others - others.mean(axis=0)) / scale)
        ours = fitted.basis[place]
        np.testing.assert_allclose(fitted.mean[place], others.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(
            ours @ ours.T, theirs.components_.T @ theirs.components_, atol=1e-4
        )


def test_held_out_rows_leave_their_own_basis_as_it_is() -> None:
    """Changed beyond recognition, they move the bases of the other folds and not their own."""
    values, fold = embedding()
    before = fit_components(blocks(values), fold, config())
    wild = values.copy()
    wild[fold == 2] = 1000 * np.random.default_rng(5).normal(size=wild[fold == 2].shape)
    after = fit_components(blocks(wild), fold, config())
    own, other = 1 + 2, 1 + 0
    np.testing.assert_array_equal(after.mean[own], before.mean[own])
    np.testing.assert_array_equal(after.scale[own], before.scale[own])
    span = [fitted.basis[own] @ fitted.basis[own].T for fitted in (before, after)]
    np.testing.assert_allclose(span[1], span[0], atol=1e-5)
    moved = [fitted.basis[other] @ fitted.basis[other].T for fitted in (before, after)]
    assert np.abs(moved[1] - moved[0]).max() > 0.1


def test_columns_of_different_folds_mean_the_same() -> None:
    """Each basis gives one row nearly the same components; unturned ones do not."""
    values, fold = embedding()
    fitted = fit_components(blocks(values), fold, config())
    assert fitted.agreement.min() > 0.98
    rows = np.zeros(len(values), dtype=np.int64)
    read = [fitted.out_of_fold(values, rows + number) for number in range(FOLDS)]
    for one in read[1:]:
        for column in range(5):
            assert np.corrcoef(read[0][:, column], one[:, column])[0, 1] > 0.98
    # Two directions that carry alike are drawn anew by every fold, were they not turned.
    alike = np.random.default_rng(1).normal(size=(400, 4)).astype(np.float32)
    turned = fit_components([alike], fold, config(4))
    assert turned.agreement.min() > 0.99


def test_rows_are_read_by_the_basis_without_their_fold() -> None:
    """And rows of no fold by the common one."""
    values, fold = embedding()
    fitted = fit_components(blocks(values), fold, config())
    mixed = fold.copy()
    mixed[:10] = -1
    found = fitted.out_of_fold(values, mixed)
    np.testing.assert_array_equal(found[:10], fitted.new(values[:10]))
    rows = np.flatnonzero(mixed == 3)
    by_hand = (values[rows] - fitted.mean[4]) @ fitted.basis[4]
    np.testing.assert_allclose(found[rows], by_hand, rtol=1e-5, atol=1e-4)
    assert found.dtype == np.float32


def test_rows_without_a_fold_are_not_learnt_from() -> None:
    """Test rows change nothing."""
    values, fold = embedding()
    alone = fit_components(blocks(values), fold, config())
    more = np.concatenate([values, 50 + values[::-1]])
    beside = fit_components([more], np.append(fold, np.full(len(values), -1)), config())
    np.testing.assert_allclose(beside.basis, alone.basis, atol=1e-4)


@pytest.mark.parametrize("standardise", [False, True])
def test_constant_columns_and_more_components_than_there_are(standardise: bool) -> None:
    """Constant columns get no weight; components beyond the rank are 0."""
    values, fold = embedding(rows=12, dim=20)
    values[:, 3], values[:, 4] = 7.0, 0.0
    fitted = fit_components([values], fold, config(16, standardise=standardise))
    found = fitted.out_of_fold(values, fold)
    assert found.shape == (12, 16)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(fitted.basis[:, [3, 4]], 0, atol=1e-5)
    np.testing.assert_array_equal(fitted.new(values)[:, 11:], 0)
    few = fit_components([values[:, :2]], fold, config(5)).new(values[:, :2])
    np.testing.assert_array_equal(few[:, 2:], 0)


def test_rows_that_are_not_finite_stay_unknown() -> None:
    """They are not learnt from, and have no components."""
    values, fold = embedding()
    broken = values.copy()
    broken[[5, 17]] = [[np.nan], [np.inf]]
    fitted = fit_components(blocks(broken), fold, config())
    found = fitted.out_of_fold(broken, fold)
    assert np.isnan(found[[5, 17]]).all()
    assert np.isfinite(np.delete(found, [5, 17], axis=0)).all()


def test_saved_and_loaded_they_are_bit_equal() -> None:
    """Arrays carry all there is."""
    values, fold = embedding()
    fitted = fit_components(blocks(values), fold, config())
    again = Components.from_arrays({name: a.copy() for name, a in fitted.arrays().items()})
    np.testing.assert_array_equal(again.out_of_fold(values, fold), fitted.out_of_fold(values, fold))
    with pytest.raises(SchemaError, match="array 'mean' is missing"):
        Components.from_arrays({"folds": fitted.folds})


def test_what_does_not_fit_is_refused() -> None:
    """Lengths, widths, folds."""
    values, fold = embedding()
    fitted = fit_components(blocks(values), fold, config())
    with pytest.raises(UsageError, match="without fold 9"):
        fitted.out_of_fold(values, np.full(len(values), 9))
    with pytest.raises(SchemaError, match=r"\(400, 30\), got \(400, 29\)"):
        fitted.new(values[:, 1:])
    for wrong in (fold[:-1], np.append(fold, 0)):
        with pytest.raises(SchemaError, match="the blocks hold"):
            fit_components(blocks(values), wrong, config())
    with pytest.raises(SchemaError, match="rows 70 on"):
        fit_components(iter([values[:70], values[70:, 1:]]), fold, config())
    with pytest.raises(UsageError, match="in 1 folds"):
        fit_components([values], np.zeros(len(values), dtype=int), config())
    with pytest.raises(UsageError, match="without fold 0 only 1 rows"):
        fit_components([values[:3]], np.array([0, 0, 1]), config())
