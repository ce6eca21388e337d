"""What resamples cannot show is lent by classes with several recordings."""

from __future__ import annotations

import numpy as np
import pytest

from birdstack.stacking.unseen_variance import Singers


def _singers(by_class: list[list[float]], positives: int = 3) -> tuple[Singers, np.ndarray]:
    """Classes given by the AUC of their recordings, and the AUC of each class."""
    of = np.concatenate([np.full(len(aucs), number) for number, aucs in enumerate(by_class)])
    value = np.array([np.mean(aucs) if aucs else np.nan for aucs in by_class])
    auc = np.concatenate(by_class)
    held = np.full(len(auc), positives)
    return Singers.measured(of.astype(np.int64), held, auc, value), value


def test_a_class_of_one_recording_is_lent_the_variance_of_the_others() -> None:
    """One class with two recordings .2 apart, one with a single one: by hand."""
    bare = Singers(
        np.array([0, 0, 1]), np.array([1, 1, 1]), np.array([0.6, 0.8, 0.5]), np.array([1.0, 2.0])
    )
    value = np.array([0.7, 0.5])
    assert bare.lent(value) == pytest.approx(2 * 0.1**2)  # squares .02, one degree of freedom
    # The first lacks half of its variance of the mean; the second all of it, at twice the spread.
    expected = 0.02 * (1 * 0.5 / 2 + 2 * 1.0 / 1) / 2**2
    assert bare.unseen(value) == pytest.approx(expected)


def test_variance_that_is_shown_and_unseen_add_up_to_all_of_it() -> None:
    """Over many draws the two together are the variance of the mean over classes."""
    rng = np.random.default_rng(0)
    numbers = [1] * 10 + [2] * 5 + [8] * 5
    macros, shown, unseen = [], [], []
    for _ in range(2000):
        aucs = [list(rng.beta(6, 2, n)) for n in numbers]
        singers, value = _singers(aucs)
        macros.append(value.mean())
        shown.append(sum(np.var(a) / len(a) for a in aucs) / len(aucs) ** 2)
        unseen.append(singers.unseen(value))
    total = np.var(macros)
    assert np.mean(shown) < 0.4 * total
    assert np.mean(shown) + np.mean(unseen) == pytest.approx(total, rel=0.1)


def test_recordings_with_many_positives_count_for_more() -> None:
    """A class with 98 positives in one recording and one in each of two others is nearly one."""
    singers = Singers(np.zeros(3, np.int64), np.array([98, 1, 1]), np.zeros(3), np.ones(1))
    number, share = singers.counts()
    assert number.tolist() == [3]
    assert share[0] == pytest.approx((98**2 + 2) / 100**2)


def test_where_no_class_has_two_recordings_nothing_can_be_lent() -> None:
    """No variance is made up."""
    singers, value = _singers([[0.7], [0.9], []])
    assert singers.lent(value) == 0
    assert singers.unseen(value) == 0


def test_differences_are_those_of_each_recording() -> None:
    """Two scores that move together from recording to recording differ by little variance."""
    rng = np.random.default_rng(1)
    first = [list(rng.uniform(0.5, 1, 6)) for _ in range(8)]
    second = [[auc - 0.01 for auc in aucs] for aucs in first]
    (ours, value), (theirs, other) = _singers(first), _singers(second)
    assert (ours - theirs).unseen(value - other) == pytest.approx(0, abs=1e-20)
    assert ours.unseen(value) > 1e-5
