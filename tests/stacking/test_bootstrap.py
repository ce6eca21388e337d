"""The bootstrap over recordings is what ranking every resample anew would give."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking import bootstrap, pair_table
from birdstack.stacking.bootstrap import Interval, RecordingBootstrap
from birdstack.store.errors import UsageError


def _drawn(seed: int, levels: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recordings of uneven length in no order, tied scores, labels of all three kinds.

    A class may lack positives, or have them in one recording only.
    """
    rng = np.random.default_rng(seed)
    recordings, classes = int(rng.integers(2, 9)), int(rng.integers(1, 5))
    recording = np.concatenate(
        [np.arange(recordings), rng.integers(0, recordings, int(rng.integers(0, 50)))]
    )
    rng.shuffle(recording)
    shape = len(recording), classes
    scores = 0.1 * rng.integers(0, levels, shape).astype(np.float64)
    truth = rng.choice([-1, 0, 1], shape, p=[0.2, 0.6, 0.2]).astype(np.int8)
    return recording, scores.astype(rng.choice([np.float32, np.float64])), truth


def _naive(
    recording: np.ndarray, scores: np.ndarray, truth: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """AUC of each class when the windows of recording k are written down `times[k]` times."""
    names = np.unique(recording)
    rows = np.concatenate(
        [
            np.flatnonzero(recording == name)
            for name, count in zip(names, times, strict=True)
            for _ in range(count)
        ]
    )
    found = np.full(truth.shape[1], np.nan)
    for index in range(truth.shape[1]):
        label, score = truth[rows, index], scores[rows, index]
        known = label != -1
        if len(set(label[known])) == 2:
            found[index] = roc_auc_score(label[known], score[known])
    return found


def _macro(per_class: np.ndarray) -> float:
    known = per_class[~np.isnan(per_class)]
    return float(np.mean(known)) if len(known) else float("nan")


@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([1, 3, 6, 10**6]))
@settings(max_examples=100, deadline=None)
def test_every_resample_is_the_naive_one(seed: int, levels: int) -> None:
    """Recordings put together and ranked by scikit-learn: the same to 1e-12, NaN in the same places."""
    recording, scores, truth = _drawn(seed, levels)
    book = RecordingBootstrap(recording, truth, resamples=4, seed=seed)
    draws = book.draws(scores)
    times = book.multiplicities
    assert (times.sum(axis=0) == len(times)).all()
    expected = np.array([_naive(recording, scores, truth, each) for each in times.T])
    np.testing.assert_allclose(draws.drawn, expected.T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(draws.macro, [_macro(each) for each in expected], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(draws.value, macro_auc(scores, truth).per_class)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_blocks_and_types_change_nothing(seed: int) -> None:
    """One row, one positive at a time, in double precision: the same bits."""
    recording, scores, truth = _drawn(seed)
    whole = RecordingBootstrap(recording, truth, resamples=5).draws(scores)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "_TABLE", 1)
        patch.setattr(bootstrap, "_EXACT_SINGLE", 0)
        patch.setattr(pair_table, "_CHUNK", 1)
        patch.setattr(pair_table, "_LEAST", 1)
        split = RecordingBootstrap(recording, truth, resamples=5).draws(scores)
    np.testing.assert_array_equal(whole.drawn, split.drawn)


def test_large_counts_leave_single_precision() -> None:
    """Wins beyond 2**24 are still exact: two recordings of 6,000 windows against scikit-learn."""
    rng = np.random.default_rng(0)
    recording = np.repeat([0, 1], 6000)
    truth = rng.integers(0, 2, (12000, 1))
    scores = rng.normal(size=(12000, 1)) + 0.1 * truth
    book = RecordingBootstrap(recording, truth, resamples=4)
    assert book._exact(book._most_wins[0]).dtype == np.float64
    for resample, times in enumerate(book.multiplicities.T):
        expected = _naive(recording, scores, truth, times)
        np.testing.assert_allclose(
            book.draws(scores).drawn[:, resample], expected, rtol=0, atol=1e-12
        )


def _clustered(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """120 recordings of 20 windows: a class sings in whole recordings, and these differ."""
    rng = np.random.default_rng(seed)
    recording = np.repeat(np.arange(120), 20)
    sings = rng.random((120, 3)) < 0.3
    truth = np.repeat(sings, 20, axis=0).astype(np.int8)
    louder = np.repeat(rng.normal(size=(120, 3)), 20, axis=0)
    return recording, truth + louder + 0.3 * rng.normal(size=truth.shape), truth


def _naive_unseen(recording: np.ndarray, truth: np.ndarray, *scores: np.ndarray) -> float:
    """Variance of the macro AUC, or of a difference of two, that resamples do not show.

    Class by class and recording by recording, each ranked by scikit-learn.
    """
    names = np.unique(recording)
    classes = range(truth.shape[1])
    signs = (1, -1)[: len(scores)]
    whole = np.array([[roc_auc_score(truth[:, c], each[:, c]) for c in classes] for each in scores])
    held = [[(truth[recording == n, c] == 1).sum() for n in names] for c in classes]
    alone = [
        [
            [
                roc_auc_score(truth[rows, c], each[rows, c])
                for n, count in zip(names, held[c], strict=True)
                if count
                for rows in [((recording == n) & (truth[:, c] == 1)) | (truth[:, c] == 0)]
            ]
            for c in classes
        ]
        for each in scores
    ]
    share = np.array([np.sum(np.square(h)) / np.sum(h) ** 2 for h in held])
    number = np.array([np.count_nonzero(h) for h in held])

    def pooled(apart: list[np.ndarray], spread: np.ndarray) -> float:
        several = [c for c in classes if number[c] > 1]
        squares = sum(np.sum(np.square(apart[c])) for c in several)
        return squares / sum((number[c] - 1) * spread[c] for c in several)

    spread = np.zeros(len(classes))
    for values, each in zip(whole, alone, strict=True):
        raw = values * (1 - values)
        lent = pooled([np.array(each[c]) - values[c] for c in classes], raw)
        spread += raw / np.maximum(1 - lent * share, 0.2)
    value = np.tensordot(signs, whole, 1)
    apart = [
        np.tensordot(signs, np.array([each[c] for each in alone]), 1) - value[c] for c in classes
    ]
    lacking = pooled(apart, spread) * spread * share / number
    return float(np.sum(lacking) / len(classes) ** 2)


def _widened(apart: np.ndarray, unseen: float) -> np.ndarray:
    return np.percentile(apart, [2.5, 97.5]) * np.sqrt(1 + unseen / np.var(apart, ddof=1))


def test_an_interval_is_that_of_deviations_widened_by_what_they_cannot_show() -> None:
    """Where every resample has all classes, these are the deviations of the macro AUC."""
    recording, scores, truth = _clustered()
    book = RecordingBootstrap(recording, truth, resamples=300)
    found, draws = book.interval(scores), book.draws(scores)
    value = macro_auc(scores, truth).value
    assert found.value == pytest.approx(value, abs=1e-15)
    apart, unseen = draws.macro - value, _naive_unseen(recording, truth, scores)
    assert (found.low, found.high) == pytest.approx(value + _widened(apart, unseen), abs=1e-12)
    assert found.standard_error == pytest.approx(np.sqrt(np.var(apart, ddof=1) + unseen))
    assert found.resamples == 300
    # With 36 singing recordings a class, that is next to nothing.
    low, high = np.percentile(draws.macro, [2.5, 97.5])
    assert 1 < (found.high - found.low) / (high - low) < 1.03


def _long_tail(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """80 recordings of 8 windows, 30 classes in 12 to 1 of them; the rare ones are hard."""
    rng = np.random.default_rng(seed)
    recording = np.repeat(np.arange(80), 8)
    number = np.maximum(1, np.geomspace(12, 0.6, 30)).astype(int)
    sings = np.zeros((80, 1, 30), bool)
    for column, count in enumerate(number):
        sings[rng.permutation(80)[:count], 0, column] = True
    present = np.broadcast_to(sings, (80, 8, 30))
    loudness = rng.normal(size=(80, 1, 30))
    scores = np.linspace(2.5, 0.5, 30) * present + loudness + 0.5 * rng.normal(size=present.shape)
    return recording, scores.reshape(-1, 30), present.reshape(-1, 30).astype(np.int8)


def test_in_a_long_tail_intervals_hold_the_truth_and_percentiles_do_not() -> None:
    """Of 120 draws, at least 90 %; percentiles of the resamples' macro AUC less than 85 %."""
    # A positive lies 2.5 to .5 above; differences of two windows have a variance of 2.5.
    truth_auc = np.mean([_normal_below(shift / 2.5**0.5) for shift in np.linspace(2.5, 0.5, 30)])
    held = {"ours": 0, "percentile": 0}
    for seed in range(120):
        recording, scores, truth = _long_tail(seed)
        draws = RecordingBootstrap(recording, truth, resamples=200, seed=seed).draws(scores)
        found = draws.interval()
        low, high = np.percentile(draws.macro, [2.5, 97.5])
        held["ours"] += found.low <= truth_auc <= found.high
        held["percentile"] += low <= truth_auc <= high
    assert held["ours"] >= 108, held
    assert held["percentile"] < 102, held


def _normal_below(z: float) -> float:
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([1, 3, 10**6]))
@settings(max_examples=60, deadline=None)
def test_the_figure_lies_within_its_interval(seed: int, levels: int) -> None:
    """Also of a difference, whatever was drawn, and no end leaves what is possible."""
    recording, scores, truth = _drawn(seed, levels)
    draws = RecordingBootstrap(recording, truth, resamples=8, seed=seed).draws(scores)
    other = RecordingBootstrap(recording, truth, resamples=8, seed=seed).draws(-scores)
    for each, least in ((draws.interval(), 0), ((draws - other).interval(), -1)):
        if np.isfinite(each.value) and each.resamples > 1:
            assert least <= each.low <= each.value <= each.high <= 1
            assert each.standard_error >= 0


def test_windows_taken_as_independent_look_too_sure() -> None:
    """Resampling windows instead of recordings gives an interval less than half as wide."""
    recording, scores, truth = _clustered()
    right = RecordingBootstrap(recording, truth, resamples=300).interval(scores)
    windows = np.arange(len(truth))
    wrong = RecordingBootstrap(windows, truth, resamples=300).interval(scores)
    assert wrong.high - wrong.low < 0.5 * (right.high - right.low)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Of 100 draws of recordings, 95 % intervals hold the true AUC in 87 or more."""
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        recording = np.repeat(np.arange(60), 5)
        truth = np.repeat(rng.integers(0, 2, (60, 1)), 5, axis=0)
        scores = np.repeat(rng.normal(size=(60, 1)), 5, axis=0) + truth
        found = RecordingBootstrap(recording, truth, resamples=200, seed=seed).interval(scores)
        held += found.low <= 0.7602 <= found.high  # P(N(1, 2) > 0)
    assert 87 <= held <= 100


def test_differences_are_paired() -> None:
    """Both scores in the same resamples: the difference is surer than either."""
    recording, scores, truth = _clustered()
    other = scores + 0.2 * np.random.default_rng(5).normal(size=scores.shape)
    book = RecordingBootstrap(recording, truth, resamples=200)
    found = book.paired(scores, other)
    value = macro_auc(scores, truth).value - macro_auc(other, truth).value
    apart = book.draws(scores).macro - book.draws(other).macro - value
    ends = value + _widened(apart, _naive_unseen(recording, truth, scores, other))
    np.testing.assert_allclose((found.value, found.low, found.high), (value, *ends), atol=1e-12)
    assert found.standard_error < 0.5 * book.interval(scores).standard_error
    assert book.against(other, {"ours": scores, "itself": other}) == {
        "ours": found,
        "itself": Interval(0.0, 0.0, 0.0, 0.0, 200),
    }


def test_a_class_counts_in_the_resamples_that_have_it() -> None:
    """One that sings in one recording is missing from the others; one that never does, from all."""
    recording, scores, truth = _clustered()
    truth = truth.copy()
    truth[:, 1] = recording == 7
    truth[:, 2] = 0
    book = RecordingBootstrap(recording, truth, resamples=200)
    always, rare, never = book.per_class(scores)
    with_it = int((book.multiplicities[7] > 0).sum())
    assert 80 < with_it < 180
    assert (always.resamples, rare.resamples, never.resamples) == (200, with_it, 0)
    assert np.isnan([never.value, never.low, never.high, never.standard_error]).all()
    drawn = book.draws(scores).drawn
    without = book.multiplicities[7] == 0
    np.testing.assert_array_equal(book.draws(scores).macro[without], drawn[0, without])


def test_no_class_at_all_gives_no_figure() -> None:
    """NaN, and no resample counted."""
    book = RecordingBootstrap(np.array([0, 1]), np.zeros((2, 3)), resamples=10)
    found = book.interval(np.ones((2, 3)))
    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.resamples == 0


def test_neither_names_nor_the_order_of_windows_matter() -> None:
    """The same seed gives the same draws for the sorted names; another seed gives others."""
    recording, scores, truth = _clustered()
    found = RecordingBootstrap(recording, truth, resamples=20, seed=4).draws(scores)
    order = np.random.default_rng(0).permutation(len(truth))
    named = np.array([f"XC{number:04}" for number in recording])
    again = RecordingBootstrap(named[order], truth[order], resamples=20, seed=4)
    np.testing.assert_array_equal(again.draws(scores[order]).drawn, found.drawn)
    other = RecordingBootstrap(recording, truth, resamples=20, seed=5).draws(scores)
    assert not np.array_equal(other.drawn, found.drawn)


def test_groups_are_drawn_whole() -> None:
    """As if each group were one recording."""
    recording, scores, truth = _clustered()
    by_group = RecordingBootstrap(recording, truth, groups=recording // 4, resamples=20)
    as_one = RecordingBootstrap(recording // 4, truth, resamples=20)
    assert by_group.multiplicities.shape == (30, 20)
    np.testing.assert_array_equal(by_group.draws(scores).drawn, as_one.draws(scores).drawn)


def test_a_recording_in_two_groups_is_refused() -> None:
    """By its name."""
    with pytest.raises(UsageError, match="recording XC2 lies in two groups"):
        RecordingBootstrap(
            np.array(["XC1", "XC2", "XC2"]), np.zeros((3, 1)), groups=np.array(["a", "a", "b"])
        )


def test_memory_does_not_grow_with_the_positives() -> None:
    """10,000 positives by 200 recordings would be 16 MB for one class; a few are enough."""
    rng = np.random.default_rng(0)
    recording = np.repeat(np.arange(200), 100)
    truth = rng.integers(0, 2, (20000, 2)).astype(np.int8)
    scores = rng.normal(size=truth.shape).astype(np.float32)
    book = RecordingBootstrap(recording, truth, resamples=50)
    tracemalloc.start()
    try:
        book.draws(scores)
        assert tracemalloc.get_traced_memory()[1] < 6e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("recordings", "groups", "what"),
    [(["a", "a"], None, "2 recordings to draw from, got 1"), ([1, 2], [3, 3], "2 groups to draw")],
)
def test_one_recording_is_not_enough(recordings: list, groups: list | None, what: str) -> None:
    """Nothing can be said about how recordings differ."""
    given_groups = None if groups is None else np.array(groups)
    with pytest.raises(UsageError, match=what):
        RecordingBootstrap(np.array(recordings), np.zeros((2, 1)), groups=given_groups)


def test_what_does_not_fit_is_refused() -> None:
    """Lengths, shapes and counts, each with what was given."""
    truth = np.zeros((4, 2))
    with pytest.raises(UsageError, match=r"recording has shape \(3,\), truth has 4 windows"):
        RecordingBootstrap(np.arange(3), truth)
    with pytest.raises(UsageError, match=r"groups has shape \(2,\), truth has 4 windows"):
        RecordingBootstrap(np.arange(4), truth, groups=np.arange(2))
    with pytest.raises(UsageError, match=r"truth must be \[window, class\], got \(4,\)"):
        RecordingBootstrap(np.arange(4), truth[:, 0])
    with pytest.raises(UsageError, match="resamples must be at least 2, got 1"):
        RecordingBootstrap(np.arange(4), truth, resamples=1)
    with pytest.raises(UsageError, match=r"must both be \[row, class\]"):
        RecordingBootstrap(np.arange(4), truth).draws(np.zeros((4, 3)))


def test_a_score_without_a_number_is_refused_where_it_counts() -> None:
    """NaN has no rank: the class and how many; where the label is not known it does no harm."""
    truth = np.array([[1, 1], [0, 0], [1, -1], [0, 0]])
    scores = np.zeros((4, 2))
    scores[2, 1] = np.nan
    book = RecordingBootstrap(np.arange(4), truth, resamples=10)
    assert book.draws(scores).value.tolist() == [0.5, 0.5]
    scores[1:, 1] = np.nan
    with pytest.raises(UsageError, match="class 1: 2 of 4 scores are NaN"):
        book.draws(scores)
