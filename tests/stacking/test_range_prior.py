"""The range prior: counted elsewhere, silent where nothing is known, used only if it pays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.deal_folds import deal_folds
from birdstack.stacking.prior_weight import prior_weight
from birdstack.stacking.range_prior import RangePrior, RangePriorConfig, fit_prior
from birdstack.store.errors import SchemaError, UsageError


def world(rows: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eight birds with ranges of their own: places, labels, folds."""
    rng = np.random.default_rng(seed)
    homes = np.array([[10 * number - 35.0, 20 * number - 70.0] for number in range(8)])
    label = rng.integers(0, 8, rows)
    places = homes[label] + rng.normal(0, 6, (rows, 2))
    truth = np.zeros((rows, 8), dtype=np.int8)
    truth[np.arange(rows), label] = 1
    return places, truth, rng.integers(0, 5, rows)


def real_table(real_data: Path, year: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, primary labels (others in the background are not known), folds by author."""
    path = real_data / "metadata" / f"birdclef{year}_train_metadata.csv.gz"
    rows = pl.read_csv(path, infer_schema=False)
    places = rows.select(pl.col("latitude", "longitude").cast(pl.Float64, strict=False)).to_numpy()
    primary = rows["primary_label"].to_list()
    names = sorted(set(primary))
    place = {name: number for number, name in enumerate(names)}
    truth = np.zeros((len(rows), len(names)), dtype=np.int8)
    for row, (own, others) in enumerate(zip(primary, rows["secondary_labels"], strict=True)):
        for other in others.strip("[]").replace("'", "").split(", "):
            if other in place:
                truth[row, place[other]] = -1
        truth[row, place[own]] = 1
    authors = rows["author"].fill_null("unknown").to_list()
    return places, truth, deal_folds(authors, truth == 1, 5)


@pytest.mark.parametrize(("year", "least"), [(2022, 0.87), (2023, 0.80)])
def test_real_places_tell_of_birds_and_shuffled_ones_do_not(
    real_data: Path, year: int, least: float
) -> None:
    """The prior alone, counted on other authors, ranks well: .885 and .818 were measured."""
    places, truth, fold = real_table(real_data, year)
    prior = fit_prior(places, truth, fold).out_of_fold(places, fold)
    assert macro_auc(prior, truth).value > least
    mixed = places[np.random.default_rng(0).permutation(len(places))]
    by_chance = fit_prior(mixed, truth, fold).out_of_fold(mixed, fold)
    assert macro_auc(by_chance, truth).value == pytest.approx(0.5, abs=0.02)
    unknown = ~np.isfinite(places).all(axis=1)
    assert (prior[unknown] == 0).all()


def test_the_gain_over_scores_is_lost_when_places_are_shuffled(real_data: Path) -> None:
    """Noisy scores of real recordings: the prior is taken and helps; shuffled it is left out."""
    places, truth, fold = real_table(real_data, 2022)
    rng = np.random.default_rng(0)
    scores = (1.5 * (truth == 1) + rng.normal(size=truth.shape)).astype(np.float32)
    base = macro_auc(scores, truth).value
    prior = fit_prior(places, truth, fold).out_of_fold(places, fold)
    found = prior_weight(scores, prior, truth, fold)
    assert found.weight > 0
    assert macro_auc(found.scores, truth).value > base + 0.03
    mixed = places[rng.permutation(len(places))]
    shuffled = fit_prior(mixed, truth, fold).out_of_fold(mixed, fold)
    lost = prior_weight(scores, shuffled, truth, fold)
    assert lost.weight == 0
    assert set(lost.by_fold.values()) == {0.0}
    np.testing.assert_array_equal(lost.scores, scores)


def test_the_prior_is_the_formula() -> None:
    """Shares in a Gaussian neighbourhood, shrunk by 8 recordings, over the overall share."""
    places = np.array([[0.0, 0.0]] * 12 + [[40.0, 100.0]] * 20)
    truth = np.zeros((32, 2), dtype=np.int8)
    truth[:9, 0] = truth[12:14, 0] = 1
    truth[9:12, 1] = -1
    fold = np.zeros(32, dtype=int)
    found = fit_prior(places, truth, fold).new(np.array([[0.0, 0.0], [0.0, 3.6]]))
    share = (11 + 0.5) / (32 + 1)
    assert found[0, 0] == pytest.approx(np.log((9 + 8 * share) / (12 + 8) / share), rel=1e-4)
    near = np.exp(-0.5 * (3.6 * 111.195 / 400) ** 2)
    there = np.log((9 * near + 8 * share) / (12 * near + 8) / share)
    assert found[1, 0] == pytest.approx(there, rel=1e-3)
    assert (found[:, 1] == 0).all()


def test_nothing_near_says_nothing_and_much_is_clipped() -> None:
    """Far from all recordings the prior is 0; it never exceeds the limit."""
    places, truth, fold = world()
    prior = fit_prior(places, truth, fold, RangePriorConfig(width_km=100, limit=0.5))
    far = prior.new(np.array([[-89.0, 179.0]]))
    np.testing.assert_allclose(far, 0, atol=1e-6)
    assert np.abs(prior.new(places)).max() == pytest.approx(0.5)


def test_a_fold_is_scored_without_its_own_labels() -> None:
    """Labels of a fold dealt anew leave its prior as it was, bit by bit."""
    places, truth, fold = world()
    held = fold == 3
    changed = truth.copy()
    changed[held] = 1 - changed[held]
    before = fit_prior(places, truth, fold).out_of_fold(places, fold)
    after = fit_prior(places, changed, fold).out_of_fold(places, fold)
    np.testing.assert_array_equal(after[held], before[held])
    assert np.abs(after[~held] - before[~held]).max() > 0.1


def test_leaving_out_a_second_fold() -> None:
    """`without` counts as if neither fold were there."""
    places, truth, fold = world()
    prior = fit_prior(places, truth, fold)
    nested = prior.out_of_fold(places, fold, without=2)
    rest = fold != 2
    alone = fit_prior(places[rest], truth[rest], fold[rest]).out_of_fold(places[rest], fold[rest])
    np.testing.assert_allclose(nested[rest], alone, rtol=1e-4, atol=1e-5)


def test_the_date_line_and_the_pole_are_no_border() -> None:
    """Distance is along the great circle."""
    places = np.array([[10.0, 179.9]] * 20 + [[-60.0, 0.0]] * 20)
    truth = (np.arange(40) < 20).astype(np.int8)[:, None]
    prior = fit_prior(places, truth, np.zeros(40, dtype=int))
    beyond = prior.new(np.array([[10.0, -179.9], [10.0, 179.7]]))[:, 0]
    assert beyond[0] == pytest.approx(beyond[1], rel=1e-3)
    assert beyond[0] > 0.3


@pytest.mark.parametrize("unknown", [[np.nan, np.nan], [np.nan, 12.0], [12.0, np.nan]])
def test_an_unknown_place_leaves_the_score_exactly_as_it_is(unknown: list[float]) -> None:
    """Half a place is none; the sum is the base score, bit by bit."""
    places, truth, fold = world()
    prior = fit_prior(places, truth, fold)
    lost = np.array(places)
    lost[::3] = unknown
    values = prior.out_of_fold(lost, fold)
    scores = np.random.default_rng(1).normal(size=truth.shape).astype(np.float32)
    found = prior_weight(scores, values, truth, fold)
    assert found.weight > 0
    np.testing.assert_array_equal(found.scores[::3], scores[::3])
    assert (found.scores[1::3] != scores[1::3]).any()
    none = prior.new(np.full((5, 2), np.nan))
    assert none.dtype == np.float32
    assert (none == 0).all()


def test_the_choice_for_a_fold_depends_on_no_label_of_it() -> None:
    """With the nested prior, other labels in a fold leave its weight."""
    places, truth, fold = world(seed=2)
    scores = np.random.default_rng(1).normal(size=truth.shape).astype(np.float32)
    changed = truth.copy()
    changed[fold == 1] = changed[fold == 1][:, ::-1]
    found = []
    for labels in (truth, changed):
        prior = fit_prior(places, labels, fold)

        def nested(which: int, prior: RangePrior = prior) -> np.ndarray:
            return prior.out_of_fold(places, fold, without=which)

        values = prior.out_of_fold(places, fold)
        found.append(prior_weight(scores, values, labels, fold, without=nested))
    assert found[0].by_fold[1] == found[1].by_fold[1]
    np.testing.assert_array_equal(found[0].scores[fold == 1], found[1].scores[fold == 1])


def test_a_weight_has_to_lead_by_more_than_a_standard_error() -> None:
    """A prior of noise, and one that helps a single class by chance, are left out."""
    rng = np.random.default_rng(0)
    _, truth, fold = world()
    scores = (truth + rng.normal(size=truth.shape)).astype(np.float32)
    noise = rng.normal(size=truth.shape).astype(np.float32)
    assert prior_weight(scores, noise, truth, fold).weight == 0
    one = np.zeros_like(noise)
    one[:, 0] = truth[:, 0]
    assert prior_weight(scores, one, truth, fold).weight == 0
    silent = prior_weight(scores, np.zeros_like(noise), truth, fold)
    assert (silent.weight, silent.gain) == (0, 0)
    assert "left out" in silent.why


def test_saved_and_loaded_it_is_bit_equal() -> None:
    """Arrays and configuration carry all there is."""
    places, truth, fold = world()
    prior = fit_prior(places, truth, fold)
    again = RangePrior.from_arrays(prior.arrays(), RangePriorConfig())
    np.testing.assert_array_equal(again.new(places), prior.new(places))
    with pytest.raises(SchemaError, match="array 'fold' is missing"):
        RangePrior.from_arrays({"place": prior.place}, prior.config)


def test_recordings_count_and_windows_or_rows_without_a_fold_do_not() -> None:
    """Rows of no fold are not counted, and are scored by all counts."""
    places, truth, fold = world()
    beside = fit_prior(
        np.concatenate([places, places]),
        np.concatenate([truth, 1 - truth]),
        np.concatenate([fold, np.full(len(fold), -1)]),
    )
    alone = fit_prior(places, truth, fold)
    np.testing.assert_array_equal(beside.new(places), alone.new(places))
    np.testing.assert_array_equal(
        alone.out_of_fold(places, np.full(len(places), -1)), alone.new(places)
    )


def test_what_does_not_fit_is_refused() -> None:
    """Shapes, degrees, weights."""
    places, truth, fold = world()
    with pytest.raises(SchemaError, match="400 places, 399 labels, 400 folds"):
        fit_prior(places, truth[1:], fold)
    with pytest.raises(SchemaError, match="recording 1 has latitude 95"):
        fit_prior(np.array([[0.0, 0.0], [95.0, 0.0]]), truth[:2], fold[:2])
    with pytest.raises(SchemaError, match="recording 0 has longitude 200"):
        fit_prior(np.array([[0.0, 200.0]]), truth[:1], fold[:1])
    with pytest.raises(SchemaError, match=r"\[recording, 2\]"):
        fit_prior(places[:, :1], truth, fold)
    scores = np.zeros(truth.shape, np.float32)
    with pytest.raises(UsageError, match="below 0"):
        prior_weight(scores, scores, truth, fold, weights=(-1.0,))
    with pytest.raises(UsageError, match="one shape"):
        prior_weight(scores[1:], scores, truth, fold)
