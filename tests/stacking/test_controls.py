"""The simple controls: what each computes, and that none sees the fold it scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from support.small_stacks import Small, small_stack

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.controls import BY_NAME, CONTROLS, Material, out_of_fold
from birdstack.stacking.fold_scales import aligned
from birdstack.stacking.greedy import greedy_weights
from birdstack.stacking.score_views import KERNEL, ScoreViews
from birdstack.stacking.select_control import all_scores, choose_control
from birdstack.stacking.stack_table import StackTable


@pytest.fixture(scope="module")
def table() -> StackTable:
    """A strong network, a second one and a prior, with fold models that differ."""
    return small_stack(
        Small(seed=5, files=30, windows=8, classes=20, second=0.8, fold_models=0.4), fresh_files=2
    )[0]


@pytest.fixture(scope="module")
def material(table: StackTable) -> Material:
    """Its views."""
    return Material(table)


def slow_kernel(scores: np.ndarray, table: StackTable) -> np.ndarray:
    """The kernel, window by window."""
    out = np.empty_like(scores)
    for start, end in zip(table.segments[:-1], table.segments[1:], strict=True):
        for row in range(start, end):
            inside = [(k, row + d) for d, k in zip(range(-2, 3), KERNEL, strict=True)]
            inside = [(k, at) for k, at in inside if start <= at < end]
            out[row] = sum(k * scores[at] for k, at in inside) / sum(k for k, _ in inside)
    return out


def test_the_kernel_equals_a_slow_one_and_stays_within_recordings(table: StackTable) -> None:
    """Also with recordings of one window, and with a window missing."""
    uneven = replace(
        table,
        windows=np.array([1, 2, *([8] * 28), 13]),
        recording_ids=[f"r{number:02d}" for number in range(31)],
        groups=[f"r{number:02d}" for number in range(31)],
        fold=np.arange(31) % 5,
        window_index=None,
        domain=None,
    )
    index = uneven.index.copy()
    index[-5:] += 3
    uneven = replace(uneven, window_index=index)
    scores = uneven.logits[0]
    np.testing.assert_allclose(
        ScoreViews(uneven).smooth(scores), slow_kernel(scores, uneven), rtol=1e-4, atol=1e-5
    )


def test_others_mean_leaves_the_window_out(table: StackTable) -> None:
    """The mean of the recording's other windows, standardised scores."""
    views = ScoreViews(table)
    rows = np.flatnonzero(table.recording == 3)
    for row in rows:
        others = views.z[1][rows[rows != row]].mean(axis=0)
        np.testing.assert_allclose(views.z_others[1][row], others, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_no_control_sees_a_label_of_the_fold_it_scores(
    control: object, table: StackTable, material: Material
) -> None:
    """Turning every label of a fold around changes no score of that fold."""
    held = table.window_fold == 2
    turned = np.where(held[:, None] & (table.truth >= 0), 1 - table.truth, table.truth)
    other = Material(replace(table, truth=turned.astype(np.int8)))
    ours = out_of_fold(control, material)  # type: ignore[arg-type]
    theirs = out_of_fold(control, other)  # type: ignore[arg-type]
    np.testing.assert_array_equal(ours[held], theirs[held])


def test_the_choice_sees_no_label_of_the_fold_it_scores(
    table: StackTable, material: Material
) -> None:
    """Nor does what is chosen inside folds, fold by fold."""
    held = table.window_fold == 2
    turned = np.where(held[:, None] & (table.truth >= 0), 1 - table.truth, table.truth)
    other = Material(replace(table, truth=turned.astype(np.int8)))
    ours = choose_control(material, all_scores(material, CONTROLS))
    theirs = choose_control(other, all_scores(other, CONTROLS))
    assert ours.by_fold[2] == theirs.by_fold[2]
    a, b = ours.out_of_fold[held], theirs.out_of_fold[held]
    # Other folds' scores of a learned control may move the scale, never the order.
    assert (np.argsort(a, axis=0, kind="stable") == np.argsort(b, axis=0, kind="stable")).all()


def test_alignment_takes_out_what_fold_models_add_and_nothing_else() -> None:
    """An offset and a gain of each fold model vanish; one model for all is left as it is."""
    alike, _ = small_stack(Small(seed=2, prior=False), fresh_files=2)
    kept = np.corrcoef(aligned(alike)[0].ravel(), alike.logits[0].ravel())[0, 1]
    assert kept > 0.99
    apart = replace(
        alike,
        logits=alike.logits
        + (np.array([0, 40, -30, 20, -10], np.float32)[alike.window_fold])[None, :, None],
    )
    plain = macro_auc(alike.logits[0], alike.truth).value
    hurt = macro_auc(apart.logits[0], alike.truth).value
    mended = macro_auc(aligned(apart)[0], alike.truth).value
    assert hurt < plain - 0.05
    assert mended > plain - 0.01


def test_a_prior_counted_without_the_fold_is_brought_to_one_scale() -> None:
    """Counted without the fold, it is lowest just where a rare class occurs: undone."""
    table, _ = small_stack(Small(seed=4), fresh_files=2)
    prior = table.backbones.index("prior")
    assert macro_auc(table.logits[prior], table.truth).value < 0.45
    assert macro_auc(aligned(table)[prior], table.truth).value > 0.52


def test_ranks_and_z_scores_do_not_hang_on_the_scale_of_a_backbone(table: StackTable) -> None:
    """A backbone in other units gives the same blend, and the same choice of weights."""
    units = np.array([1, 50, 0.01], np.float32)[:, None, None]
    other = Material(replace(table, logits=table.logits * units + units))
    ours = Material(table)
    for name in ("z_mean", "rank_mean", "z_kernel", "ranker"):
        here, there = (out_of_fold(BY_NAME[name], m) for m in (ours, other))
        np.testing.assert_allclose(here, there, atol=0.02)


def test_best_single_is_the_best_on_the_other_folds(material: Material) -> None:
    """By macro AUC, as scikit-learn has it class by class."""
    rows = material.table.window_fold != 0
    values = []
    for layer in material.aligned:
        aucs = [
            roc_auc_score(material.truth[rows, c], layer[rows, c])
            for c in range(layer.shape[1])
            if len(np.unique(material.truth[rows, c])) == 2
        ]
        values.append(np.mean(aucs))
    assert material.best_backbone(rows) == int(np.argmax(values))


def test_greedy_weights_find_the_one_that_knows() -> None:
    """One score that knows among noise gets nearly all the weight."""
    rng = np.random.default_rng(0)
    truth = (rng.random((400, 6)) < 0.2).astype(np.int8)
    library = rng.normal(size=(4, 400, 6)).astype(np.float32)
    library[2] += 2 * truth
    weights = greedy_weights(library, truth, np.ones(400, dtype=bool))
    assert weights.argmax() == 2
    assert weights[2] > 0.8
    assert weights.sum() == pytest.approx(1)


def test_every_control_scores_every_window(table: StackTable) -> None:
    """Also where a backbone lacks a class, and a column is constant."""
    logits = table.logits.copy()
    logits[0, :, 3] = np.nan
    logits[1, :, 4] = 7
    logits[:2, :, 5] = np.nan
    material = Material(replace(table, logits=logits))
    for name, scores in all_scores(material, CONTROLS).items():
        assert np.isfinite(scores).all(), name
