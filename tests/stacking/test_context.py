"""Context equals its specification, and never looks across an edge."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdstack.stacking import context_kernels
from birdstack.stacking.context import ClassContext, context
from birdstack.stacking.context_grammar import (
    CONTROL_KERNEL,
    DEFAULT_TERMS,
    FOCAL_TERMS,
    parse_terms,
)
from birdstack.stacking.context_reference import reference_context
from birdstack.stacking.stack_table import StackTable
from birdstack.store.errors import UsageError

WIDE = parse_terms(
    "lead(7) local_max(4) logsumexp(3) minus_local_mean(2) smooth(1,5,1) smooth(3,1,1,1,1,1,9) "
    "lag(1) rank lag(12) window_sum others_max position window_max others_mean"
)
SENTINEL = 7e4


@st.composite
def tables(draw):
    """Logits, stretches, recordings and marks of a small table, with whatever can be wrong."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    recordings = np.append(0, np.cumsum(lengths))
    total = int(recordings[-1])
    gaps = draw(st.lists(st.integers(1, total), max_size=3))
    segments = np.unique([*recordings, *gaps])
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.1, 3.0, 40.0, 3000.0]))
    logits = rng.normal(0, scale, (total, draw(st.integers(1, 7)))).astype(np.float32)
    if draw(st.booleans()):
        logits = np.round(logits)  # ties
    logits[rng.random(logits.shape) < draw(st.sampled_from([0.0, 0.2, 0.9]))] = np.nan
    logits[rng.random(logits.shape) < draw(st.sampled_from([0.0, 0.1]))] = np.inf
    marks = np.repeat(rng.random(len(lengths)) < 0.6, lengths)
    return logits, segments, recordings, marks


def agree(found: np.ndarray, wanted: np.ndarray, logits: np.ndarray, terms: tuple) -> None:
    """Equal to 1e-6 of the logits' size, and NaN in the same places."""
    size = max(1.0, float(np.abs(logits[np.isfinite(logits)]).max(initial=0)))
    for index, term in enumerate(terms):
        # A probability, a rank, a share knows nothing of how large the logits are.
        scale = 1.0 if term.across_classes or str(term) == "position" else size
        np.testing.assert_allclose(
            found[:, index] / scale,
            wanted[:, index] / scale,
            rtol=1e-6,
            atol=1e-6,
            err_msg=str(term),
        )


@pytest.mark.parametrize("terms", [DEFAULT_TERMS, WIDE], ids=["default", "wide"])
@settings(max_examples=60, deadline=None)
@given(table=tables())
def test_it_equals_the_reference(terms, table) -> None:
    """Whatever the stretches, gaps, ties and missing values: alone, by number, and in turn."""
    logits, segments, recordings, soundscape = table
    edges = {"recordings": recordings, "soundscape": soundscape}
    shared = ClassContext(logits, segments, terms, **edges)
    for index, in_turn in enumerate(shared):
        wanted = reference_context(logits, segments, terms, class_index=index, **edges)
        agree(in_turn, wanted, logits, terms)
        np.testing.assert_array_equal(shared.one(index), in_turn)
        alone = context(logits, segments, terms, class_index=index, **edges)
        np.testing.assert_array_equal(alone, in_turn)


@settings(max_examples=30, deadline=None)
@given(table=tables())
def test_runs_of_any_length_give_the_same(table) -> None:
    """Where a table is cut into runs changes no number."""
    logits, segments, recordings, soundscape = table
    edges = {"recordings": recordings, "soundscape": soundscape, "class_index": 0}
    whole = context(logits, segments, WIDE, **edges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context_kernels, "RUN_ROWS", 3)
        pieces = context(logits, segments, WIDE, **edges)
    np.testing.assert_array_equal(whole, pieces)


@settings(max_examples=40, deadline=None)
@given(table=tables(), planted=st.data())
def test_no_term_sees_another_recording(table, planted) -> None:
    """A value planted in one recording changes nothing in any other."""
    logits, segments, recordings, _ = table
    marks = np.ones(len(logits), dtype=bool)
    hit = planted.draw(st.integers(0, len(recordings) - 2))
    inside = slice(recordings[hit], recordings[hit + 1])
    other = logits.copy()
    other[inside] = SENTINEL
    for terms, index in itertools.product((DEFAULT_TERMS, WIDE), range(logits.shape[1])):
        edges = {"recordings": recordings, "soundscape": marks, "class_index": index}
        before = context(logits, segments, terms, **edges)
        after = context(other, segments, terms, **edges)
        before[inside] = after[inside] = 0
        np.testing.assert_array_equal(before, after)


def test_no_neighbour_is_seen_across_a_missing_window() -> None:
    """Within a recording, a sentinel behind a gap reaches the recording's aggregates alone."""
    logits = np.array([1.0, 2.0, SENTINEL, SENTINEL], dtype=np.float32)
    gapped = context(
        logits,
        np.array([0, 2, 4]),
        DEFAULT_TERMS[6:10] + DEFAULT_TERMS[:6] + DEFAULT_TERMS[-2:],
        recordings=np.array([0, 4]),
        soundscape=np.ones(4, dtype=bool),
    )
    assert np.nanmax(np.abs(gapped[:2, :-2])) < 3
    assert gapped[0].tolist()[-2:] == [pytest.approx((2 + 2 * SENTINEL) / 3), SENTINEL]


def test_edges_by_hand() -> None:
    """Lags and leads are NaN beyond an edge; means are over what there is."""
    logits = np.array([1.0, 2.0, 4.0], dtype=np.float32)
    terms = "lag(1) lead(2) minus_local_mean(1) local_max(1) smooth(1,2,1) position"
    found = context(logits, np.array([0, 3]), terms)
    nan = np.nan
    wanted = [
        [nan, 4.0, -0.5, 2.0, 4 / 3, 1 / 6],
        [1.0, nan, 2 - 7 / 3, 4.0, 9 / 4, 3 / 6],
        [2.0, nan, 1.0, 4.0, 10 / 3, 5 / 6],
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert found.dtype == np.float32


def test_a_recording_of_one_window_keeps_its_score() -> None:
    """The control and the soft maximum give the value itself; there is no difference to see."""
    terms = parse_terms("smooth(0.1,0.2,0.4,0.2,0.1) logsumexp(1) minus_local_mean(1) lag(1)")
    found = context(np.array([-3.25], dtype=np.float32), np.array([0, 1]), terms)
    np.testing.assert_allclose(found, [[-3.25, -3.25, 0.0, np.nan]], atol=1e-6)


def test_the_control_gives_every_known_row_a_score() -> None:
    """No edge and no missing neighbour makes the smoothed score NaN."""
    logits = np.array([1.0, np.nan, 3.0, np.nan, 5.0], dtype=np.float32)
    found = context(logits, np.array([0, 3, 4, 5]), [CONTROL_KERNEL])[:, 0]
    weighted = [(0.4 * 1 + 0.1 * 3) / 0.5, 2.0, (0.1 * 1 + 0.4 * 3) / 0.5, np.nan, 5.0]
    np.testing.assert_allclose(found, weighted, rtol=1e-6)


def test_aggregates_leave_the_window_out_and_keep_to_soundscapes() -> None:
    """A focal row has none; a soundscape's row sees the others, not itself."""
    logits = np.array([9.0, 1.0, 1.0, 5.0, 9.0, 7.0], dtype=np.float32)
    segments = np.array([0, 3, 5, 6])
    marks = np.array([True] * 3 + [False] * 2 + [True])
    found = context(logits, segments, "others_mean others_max", soundscape=marks)
    nan = np.nan
    mean, largest = [1.0, 5.0, 5.0, nan, nan, nan], [1.0, 9.0, 9.0, nan, nan, nan]
    np.testing.assert_allclose(found, np.transpose([mean, largest]))
    unmarked = context(logits, segments, "others_mean others_max")
    assert np.isnan(unmarked).all(), "no row is known to be soundscape-like"


@pytest.mark.parametrize("classes", [[2], [0, 1, 2, 3, 4, 5]], ids=["counted", "sorted"])
def test_ties_share_a_rank_and_the_unknown_have_none(classes) -> None:
    """Ranks are counted from the highest logit, by either way of finding them."""
    logits = np.array([[1.0, 5.0, 5.0, np.nan, 9.0, 5.0]], dtype=np.float32)
    shared = ClassContext(logits, np.array([0, 1]), "rank", classes=classes)
    ranks = {number: shared.one(number)[0, 0] for number in classes}
    wanted = dict(enumerate([5.0, 3.0, 3.0, np.nan, 1.0, 3.0]))
    np.testing.assert_equal(ranks, {number: wanted[number] for number in classes})


def test_very_low_and_high_logits_stay_numbers() -> None:
    """Probabilities and soft maxima neither overflow nor vanish, and warn of nothing."""
    logits = np.array([[-3e38, 1.0], [3e38, -1.0], [-900.0, 0.0]], dtype=np.float32)
    terms = parse_terms("window_max window_sum logsumexp(1)")
    found = context(logits, np.array([0, 1, 2, 3]), terms, class_index=0)
    wanted = reference_context(logits, np.array([0, 1, 2, 3]), terms)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_columns_carry_their_origin() -> None:
    """Each column names its term and its backbone, in order."""
    shared = ClassContext(np.zeros((2, 1)), np.array([0, 2]), "lag(1..2) smooth(1,2,1)")
    assert shared.column_names("lite0") == ("lag(1):lite0", "lag(2):lite0", "smooth(1,2,1):lite0")


def test_an_array_can_be_given_to_write_into() -> None:
    """Some columns of a wider matrix are filled, the others stay."""
    rng = np.random.default_rng(0)
    logits, segments = rng.normal(size=(20, 3)), np.array([0, 7, 20])
    shared = ClassContext(logits, segments, FOCAL_TERMS)
    wide = np.full((20, len(FOCAL_TERMS) + 2), 42.0, dtype=np.float32)
    given_back = shared.one(1, out=wide[:, 1:-1])
    assert np.shares_memory(given_back, wide)
    np.testing.assert_array_equal(wide[:, 1:-1], shared.one(1))
    assert (wide[:, [0, -1]] == 42).all()
    with pytest.raises(UsageError, match=r"out is float64 \(20, 14\), and must be float32"):
        shared.one(1, out=np.empty((20, 14)))


def test_threads_may_share_it() -> None:
    """Classes computed side by side equal those computed in turn."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3000, 24)).astype(np.float32)
    shared = ClassContext(logits, np.arange(0, 3001, 10), FOCAL_TERMS)
    in_turn = list(shared)
    found: dict[int, np.ndarray] = {}

    def work(classes: range) -> None:
        for number in classes:
            found[number] = shared.one(number)

    threads = [threading.Thread(target=work, args=(range(k, 24, 4),)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(24))
    for number, columns in found.items():
        np.testing.assert_array_equal(columns, in_turn[number])


def test_of_a_table_knows_its_recordings_gaps_and_marks() -> None:
    """Stretches end at missing windows, aggregates keep to marked recordings."""
    table = StackTable(
        recording_ids=["a", "b"],
        windows=np.array([3, 2]),
        groups=["a", "b"],
        fold=np.array([0, 1]),
        backbones=("dull", "sharp"),
        classes=("owl",),
        logits=np.stack([np.zeros((5, 1)), np.arange(5.0)[:, None]]).astype(np.float32),
        truth=np.zeros((5, 1), dtype=np.int8),
        window_index=np.array([0, 1, 5, 0, 1], dtype=np.int32),
        domain=("soundscapes", "focal"),
    )
    found = ClassContext.of(table, "sharp", "lag(1) others_max").one(0)
    nan = np.nan
    np.testing.assert_equal(found.T.tolist(), [[nan, 0, nan, nan, 3], [2, 2, 1, nan, nan]])
    with pytest.raises(UsageError, match=r"no backbone 'shrap'.*\n.*name one of dull, sharp"):
        ClassContext.of(table, "shrap")


def test_an_empty_table_has_empty_context() -> None:
    """No windows, no rows; the columns are there."""
    found = context(np.empty((0, 2), np.float32), np.array([0]), FOCAL_TERMS, class_index=1)
    assert found.shape == (0, len(FOCAL_TERMS))


LOGITS = np.zeros((4, 2), dtype=np.float32)
BOUNDS = np.array([0, 4])


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((LOGITS, BOUNDS, "lag(1)"), {}, "one of 2 classes must be named"),
        ((LOGITS, BOUNDS, "lag(1)"), {"class_index": 2}, "class 2 of 2 classes"),
        ((LOGITS, BOUNDS, "lag(1)"), {"class_index": -1}, "class -1 of 2 classes"),
        ((LOGITS[:, 0], BOUNDS, "lag(1) rank"), {}, "'rank' compares the classes"),
        ((LOGITS[None], BOUNDS, "lag(1)"), {"class_index": 0}, r"float32 \(1, 4, 2\), not floats"),
        ((LOGITS.astype(int), BOUNDS, "lag(1)"), {"class_index": 0}, "int64"),
        ((LOGITS[:, 0], np.array([0, 3]), "lag(1)"), {}, "segments must rise from 0 to 4"),
        ((LOGITS[:, 0], np.array([0, 2, 2, 4]), "lag(1)"), {}, "segments must rise"),
        ((LOGITS[:, 0], np.array([0.0, 4.0]), "lag(1)"), {}, "segments must rise"),
        (
            (LOGITS[:, 0], BOUNDS, "lag(1)"),
            {"recordings": np.array([0, 1, 4])},
            "reaches across the recording that begins at row 1",
        ),
        ((LOGITS[:, 0], BOUNDS, "lag(1)"), {"soundscape": np.ones(1)}, r"soundscape is \(1,\)"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, options, said) -> None:
    """Each refusal names the value and the rule."""
    with pytest.raises(UsageError, match=said):
        context(*arguments, **options)


def test_a_class_that_was_not_prepared_is_refused() -> None:
    """Ranks are kept for the classes announced, and no other is answered."""
    shared = ClassContext(LOGITS, BOUNDS, "rank", classes=[1])
    with pytest.raises(UsageError, match="class 0 is none of the 1 prepared"):
        shared.one(0)
