"""What is drawn in a training: by weight, by seed, from any step; and what data is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.tones import tone_set

from birdstack.embeddings.sampler import ANYWHERE, Sampler, make_units
from birdstack.embeddings.train_config import TrainConfig
from birdstack.store.errors import StoreError


def _imbalanced():
    """16 recordings of one class, 4 of another, 1 of a third."""
    data = tone_set(3, 7)
    labels = np.zeros_like(data.labels)
    labels[np.arange(21), np.repeat([0, 1, 2], [16, 4, 1])] = 1
    return dataclasses.replace(data, labels=labels)


def test_classes_are_drawn_by_the_inverse_root_of_their_size() -> None:
    """With exponent 1/2, a class with a quarter of the recordings has half the windows."""
    units = make_units(_imbalanced(), np.arange(21), TrainConfig())
    share = units.weight @ (units.labels == 1)
    assert share[1] / share[0] == pytest.approx(0.5)
    assert share[2] / share[0] == pytest.approx(0.25)
    even = make_units(_imbalanced(), np.arange(21), TrainConfig(class_balance=0))
    assert even.weight == pytest.approx(np.full(21, 1 / 21))


def test_ratings_weigh_and_the_unrated_count_as_the_mean() -> None:
    """A recording with twice the rating is drawn twice as often."""
    rating = np.full(21, 4.0)
    rating[0], rating[1], rating[2] = 2.0, np.nan, 0.0
    data = dataclasses.replace(_imbalanced(), rating=rating)
    weight = make_units(data, np.arange(21), TrainConfig(rating_weights=True)).weight
    assert weight[3] / weight[0] == pytest.approx(2)
    assert weight[1] == weight[2] == pytest.approx(weight[3] * rating[rating > 0].mean() / 4)
    assert make_units(data, np.arange(21), TrainConfig()).weight[0] == pytest.approx(
        make_units(data, np.arange(21), TrainConfig()).weight[3]
    )


def test_windows_with_labels_of_their_own_are_units() -> None:
    """A recording labelled by window is drawn by window; windows of which nothing is known not."""
    timed = np.array([[1, 0, 0], [-1, -1, -1], [0, 0, 0]], np.int8)
    data = dataclasses.replace(tone_set(), window_labels={"0/0": timed})
    units = make_units(data, np.array([0, 1]), TrainConfig())
    assert list(zip(units.recording, units.window, strict=True)) == [(0, 0), (0, 2), (1, ANYWHERE)]
    assert units.labels.tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_an_epoch_draws_each_unit_as_often_as_its_weight_says() -> None:
    """Systematic resampling: within one of the expected number, in every epoch."""
    units = make_units(_imbalanced(), np.arange(21), TrainConfig())
    config = TrainConfig(epoch_windows=320, batch_size=32)
    sampler = Sampler(units.weight, config, fold=0)
    for epoch in range(3):
        steps = range(epoch * 10, epoch * 10 + 10)
        drawn = np.concatenate([sampler.units(step) for step in steps])
        count = np.bincount(drawn, minlength=21)
        assert (np.abs(count - 320 * units.weight) <= 1).all()


def test_any_step_can_be_asked_for_at_any_time() -> None:
    """Batches do not depend on what was asked before; epochs, seeds and folds differ."""
    weight = np.full(50, 1 / 50)
    config = TrainConfig(batch_size=8, epochs=4)
    forward = [Sampler(weight, config, 0).units(step).tolist() for step in range(20)]
    one = Sampler(weight, config, 0)
    backward = [one.units(step).tolist() for step in reversed(range(20))][::-1]
    assert forward == backward
    assert forward[:7] != forward[7:14]
    assert one.steps_per_epoch == 7
    assert all(len(batch) == 8 for batch in forward)
    other_seed = TrainConfig(batch_size=8, epochs=4, seed=1)
    assert Sampler(weight, other_seed, 0).units(0).tolist() != forward[0]
    assert Sampler(weight, config, 1).units(0).tolist() != forward[0]
    assert one.augment_seed(3) == Sampler(weight, config, 0).augment_seed(3) != one.layer_seed(3)


def test_a_class_in_one_fold_only_is_named() -> None:
    """Before the training, in one sentence; a class of no fold too."""
    data = tone_set(4, 4)
    labels = data.labels.copy()
    labels[(labels[:, 1] == 1) & (data.fold == 0), 1] = 0
    labels[:, 3] = 0
    warnings = dataclasses.replace(data, labels=labels).warnings(1)
    assert len(warnings) == 2
    assert "bird1" in warnings[0]
    assert "never heard" in warnings[0]
    assert "bird3" in warnings[1]
    assert dataclasses.replace(data, labels=labels).warnings(0)[0].count("bird3") == 1
    assert tone_set().warnings(0) == ()


def test_no_fold_left_is_an_error() -> None:
    """One fold, or labels that are all unknown elsewhere, leave nothing to train on."""
    data = tone_set()
    with pytest.raises(StoreError, match="no labelled recording is left to train on"):
        dataclasses.replace(data, fold=np.zeros_like(data.fold)).split(0)
    with pytest.raises(StoreError, match=r"left to validate on.*folds \[0, 1\]"):
        data.split(7)
    unknown = np.where((data.fold == 1)[:, None], -1, data.labels).astype(np.int8)
    with pytest.raises(StoreError, match="left to train on"):
        dataclasses.replace(data, labels=unknown).split(0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fold": np.zeros(3, int)}, "need fold"),
        ({"classes": ("a",)}, "1 classes need"),
        ({"rating": np.zeros(3)}, "as many ratings"),
        ({"window_labels": {"0/0": np.zeros((2, 5), np.int8)}}, r"0/0 must be \[window, class"),
        ({"labels": np.full((18, 3), 2, np.int8)}, "1, 0 and -1 alone"),
    ],
)
def test_a_training_set_that_does_not_fit_is_refused(change, said: str) -> None:
    """The message says what does not fit."""
    with pytest.raises(StoreError, match=said):
        dataclasses.replace(tone_set(), **change)


def test_labels_by_window_follow_the_sound() -> None:
    """Windows beyond the labels are not known, labels beyond the sound are dropped."""
    timed = np.array([[1, 0, 0], [0, 1, 0]], np.int8)
    data = dataclasses.replace(tone_set(), window_labels={"0/0": timed})
    assert data.truth(0, 3).tolist() == [[1, 0, 0], [0, 1, 0], [-1, -1, -1]]
    assert data.truth(0, 1).tolist() == [[1, 0, 0]]
    assert data.truth(6, 2).tolist() == [[0, 1, 0]] * 2


def test_the_digest_knows_data_from_data() -> None:
    """Labels, folds, ratings, files and classes all count; paths do not."""
    data = tone_set()
    labels, fold = data.labels.copy(), data.fold.copy()
    labels[0], fold[0] = -1, 1
    changed = [
        dataclasses.replace(data, labels=labels),
        dataclasses.replace(data, fold=fold),
        dataclasses.replace(data, rating=np.ones(18)),
        dataclasses.replace(data, classes=("a", "b", "c")),
        dataclasses.replace(data, window_labels={"0/0": np.ones((1, 3), np.int8)}),
    ]
    assert len({d.digest() for d in [data, *changed]}) == 6
    assert tone_set().digest() == data.digest()


def test_patience_needs_select_best() -> None:
    """What would look at the held-out fold must be asked for."""
    with pytest.raises(ValueError, match="select='best'"):
        TrainConfig(patience=3)
    assert TrainConfig(patience=3, select="best").patience == 3
