"""Labels of windows: weak and strong, present, absent and not known."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from birdstack.store import tables
from birdstack.store.errors import SchemaError, StoreError
from birdstack.store.labels import (
    ABSENT,
    PRESENT,
    UNKNOWN,
    LabelsConfig,
    label_frame,
    label_matrix,
)

CLASSES = ["owl", "robin", "wren"]


def keys(**windows):
    """Key columns of recordings with so many windows of five seconds."""
    rows = [
        (name, index, index * 5.0, index * 5.0 + 5.0)
        for name, count in sorted(windows.items())
        for index in range(count)
    ]
    return pl.DataFrame(
        rows,
        schema={"recording_id": pl.String, "window": pl.Int32}
        | {"start_s": pl.Float64, "end_s": pl.Float64},
        orient="row",
    )


def labels(*rows):
    """Rows of LABELS; times may be left out."""
    return pl.DataFrame(
        [(*row, None, None)[:5] for row in rows], schema=tables.LABELS, orient="row"
    )


def slow_matrix(frame, table, classes, secondary):
    """The definition, one window and class at a time."""
    value = {"masked": UNKNOWN, "present": PRESENT, "absent": ABSENT}[secondary]
    out = np.full((len(frame), len(classes)), UNKNOWN, np.int8)
    for i, (recording, _, start, end) in enumerate(frame.rows()):
        own = [row for row in table.rows() if row[0] == recording]
        for j, name in enumerate(classes):
            rows = [row for row in own if row[1] == name]
            if any(row[3] is not None for row in rows):
                rows = [row for row in rows if row[3] is not None]
                rows = [row for row in rows if row[3] < end and start < row[4]]
            roles = {row[2] for row in rows}
            if not own:
                continue
            out[i, j] = PRESENT if "primary" in roles else value if roles else ABSENT
    return out


TIMES = st.one_of(
    st.just((None, None)),
    st.tuples(st.integers(0, 20), st.integers(1, 9)).map(
        lambda pair: (float(pair[0]), float(sum(pair)))
    ),
)
LABEL = st.tuples(
    st.sampled_from(["a", "b", "c", "elsewhere"]),
    st.sampled_from(CLASSES),
    st.sampled_from(["primary", "secondary"]),
    TIMES,
).map(lambda row: (*row[:3], *row[3]))


@settings(deadline=None)
@given(
    rows=st.lists(LABEL, max_size=12),
    counts=st.tuples(*[st.integers(0, 5)] * 3),
    secondary=st.sampled_from(["masked", "present", "absent"]),
)
def test_the_matrix_equals_its_definition(rows, counts, secondary):
    """The vectorised matrix agrees with a loop over windows and classes."""
    frame = keys(**dict(zip("abc", counts, strict=True)))
    table = labels(*rows)
    found = label_matrix(frame, table, CLASSES, LabelsConfig(secondary=secondary))
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, slow_matrix(frame, table, CLASSES, secondary))


def test_a_weak_label_holds_for_every_window_of_its_recording_alone():
    """Windows of the labelled recording take the label; the unlabelled one is unknown."""
    found = label_matrix(keys(a=2, b=1), labels(("a", "robin", "primary")), CLASSES)
    assert found.tolist() == [[0, 1, 0], [0, 1, 0], [-1, -1, -1]]


def test_a_strong_label_holds_where_half_open_intervals_overlap():
    """A call that ends at 10 s is not in the window that begins there."""
    found = label_matrix(keys(a=4), labels(("a", "owl", "primary", 5.0, 10.0)), CLASSES)
    assert found[:, 0].tolist() == [0, 1, 0, 0]
    assert (found[:, 1:] == ABSENT).all()


def test_strong_labels_replace_weak_ones_of_the_same_class_only():
    """The owl is where its times say; the weak robin is still everywhere."""
    table = labels(
        ("a", "owl", "primary"), ("a", "owl", "primary", 0.0, 1.0), ("a", "robin", "primary")
    )
    assert label_matrix(keys(a=2), table, CLASSES).tolist() == [[1, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("secondary", "value"), [("masked", UNKNOWN), ("present", PRESENT), ("absent", ABSENT)]
)
def test_what_a_secondary_label_is_worth(secondary, value):
    """The setting decides, and a primary label of the same class outweighs it."""
    table = labels(("a", "owl", "primary"), ("a", "owl", "secondary"), ("a", "wren", "secondary"))
    found = label_matrix(keys(a=1), table, CLASSES, LabelsConfig(secondary=secondary))
    assert found.tolist() == [[PRESENT, ABSENT, value]]


def test_secondary_labels_are_masked_unless_said():
    """The default claims neither presence nor absence."""
    found = label_matrix(keys(a=1), labels(("a", "wren", "secondary")), CLASSES)
    assert found.tolist() == [[ABSENT, ABSENT, UNKNOWN]]


def test_a_label_that_is_no_class_is_named():
    """The message has the label, its recording and how many more there are."""
    table = labels(("a", "owl", "primary"), ("b", "rail", "secondary"), ("c", "rail", "primary"))
    wanted = r"label 'rail' of 'b' \(secondary\) is not among the 3 classes; 2 rows, 1 such"
    with pytest.raises(StoreError, match=wanted):
        label_matrix(keys(a=1), table, CLASSES)


@pytest.mark.parametrize("times", [(3.0, 3.0), (4.0, 3.0), (None, 3.0), (3.0, None)])
def test_times_that_make_no_interval_are_refused(times):
    """An event without length would vanish in silence."""
    with pytest.raises(StoreError, match="start_s must be below end_s"):
        label_matrix(keys(a=1), labels(("a", "owl", "primary", *times)), CLASSES)


def test_an_unknown_role_is_refused():
    """Only primary, secondary and annotated have a meaning."""
    with pytest.raises(
        StoreError, match=r"role must be one of primary, secondary, annotated.*'tertiary'"
    ):
        label_matrix(keys(a=1), labels(("a", "owl", "tertiary")), CLASSES)


def test_a_doubled_class_is_refused():
    """One column per class."""
    with pytest.raises(StoreError, match="'owl' stands twice"):
        label_matrix(keys(a=1), labels(), ["owl", "owl"])


@pytest.mark.parametrize("order", [[1, 0], [0, 0]], ids=["unsorted", "doubled"])
def test_keys_must_be_sorted_and_unique(order):
    """Rows of the matrix are rows of the view, so their order is checked."""
    with pytest.raises(SchemaError, match="row 1"):
        label_matrix(keys(a=2)[order], labels(), CLASSES)


def test_recordings_in_pieces_are_refused():
    """A recording that comes back later is not sorted."""
    with pytest.raises(SchemaError, match="sorted"):
        label_matrix(keys(a=2, b=1)[[0, 2, 1]], labels(), CLASSES)


def test_a_missing_key_column_is_named():
    """Without times no strong label can be placed."""
    with pytest.raises(SchemaError, match="'end_s' is missing"):
        label_matrix(keys(a=1).drop("end_s"), labels(), CLASSES)


def test_the_frame_has_null_for_unknown():
    """Keys first, then one nullable Int8 column per class."""
    table = labels(("a", "owl", "primary"), ("a", "wren", "secondary"))
    found = label_frame(keys(a=1, b=1), table, CLASSES)
    assert found.columns == ["recording_id", "window", "start_s", "end_s", *CLASSES]
    assert found.schema["owl"] == pl.Int8
    assert found.select(CLASSES).rows() == [(1, 0, None), (None, None, None)]


def test_no_windows_or_no_classes_are_still_a_frame():
    """Empty sides keep their shape."""
    assert label_matrix(keys(), labels(), CLASSES).shape == (0, 3)
    assert label_frame(keys(a=2), labels(), []).shape == (2, 4)


def test_a_class_named_like_a_key_column_is_refused():
    """Two columns of one name cannot stand in a frame."""
    with pytest.raises(SchemaError, match="'window' has the name of a key column"):
        label_frame(keys(a=1), labels(), ["window"])


def test_config_refuses_other_words():
    """Only the three meanings of a secondary label exist."""
    with pytest.raises(ValidationError, match="masked"):
        LabelsConfig(secondary="maybe")


def test_many_windows_are_labelled_in_about_a_second():
    """200,000 windows of 4,000 recordings and 264 classes; the limit leaves room for load."""
    classes = [f"c{number:03d}" for number in range(264)]
    frame = keys(**{f"r{number:04d}": 50 for number in range(4000)})
    table = labels(
        *[(f"r{n:04d}", classes[n % 264], "primary") for n in range(4000)],
        *[
            (
                f"r{n % 4000:04d}",
                classes[(n % 4000 + n // 4000 + 1) % 264],
                "secondary",
                n % 240,
                243,
            )
            for n in range(20_000)
        ],
    )
    started = time.perf_counter()
    matrix = label_matrix(frame, table, classes)
    assert time.perf_counter() - started < 5
    assert matrix.shape == (200_000, 264)
    assert (matrix == PRESENT).sum() == 200_000


STRETCH = st.tuples(st.sampled_from("ab"), st.sampled_from([None, *CLASSES]), TIMES).map(
    lambda row: (row[0], row[1], "annotated", *row[2])
)


@settings(deadline=None)
@given(rows=st.lists(st.one_of(LABEL, STRETCH), max_size=12), n_windows=st.integers(0, 5))
def test_absent_is_known_only_where_somebody_listened(rows, n_windows):
    """With annotated stretches, a window is absent if each of its seconds lies in one."""
    frame = keys(a=n_windows, b=2, c=1)
    stretches = [row for row in rows if row[2] == "annotated"]
    heard = [row for row in rows if row[2] != "annotated"]
    # Where the labels themselves say nothing, the definition below decides.
    expected = slow_matrix(frame, labels(*heard), CLASSES, "masked")
    said = label_matrix(frame, labels(*heard), CLASSES) == PRESENT
    for i, (recording, _, start, end) in enumerate(frame.rows()):
        own = [row for row in stretches if row[0] == recording]
        for j, name in enumerate(CLASSES):
            if not own:
                continue
            asked = [row for row in own if row[1] in {None, name}]
            listened = all(
                any(s is None or (s <= second and second + 1 <= e) for *_, s, e in asked)
                for second in range(int(start), int(end))
            )
            weak = labels(*(r for r in heard if r[:2] == (recording, name)))
            masked = slow_matrix(frame[i : i + 1], weak, [name], "masked")[0, 0] == UNKNOWN
            claimed = said[i, j] or (len(weak) and masked)
            if not claimed:
                expected[i, j] = ABSENT if listened else UNKNOWN
    np.testing.assert_array_equal(label_matrix(frame, labels(*rows), CLASSES), expected)


def test_an_annotated_recording_without_any_label_is_absent_throughout():
    """Somebody listened and heard nothing: that is no unlabelled recording."""
    table = labels(("a", None, "annotated"))
    assert label_matrix(keys(a=2, b=1), table, CLASSES).tolist() == [[0] * 3, [0] * 3, [-1] * 3]


def test_a_window_half_listened_to_is_unknown():
    """Unless what was heard in that half makes the class present."""
    table = labels(("a", None, "annotated", 0.0, 7.0), ("a", "owl", "primary", 6.0, 7.0))
    assert label_matrix(keys(a=2), table, CLASSES).tolist() == [[0, 0, 0], [1, -1, -1]]


def test_stretches_that_touch_cover_a_window_together():
    """Rows of two seconds make a window of five seconds known, if no gap is between them."""
    pieces = [("a", None, "annotated", s, s + 2.0) for s in (0.0, 2.0, 4.0)]
    assert (label_matrix(keys(a=1), labels(*pieces), CLASSES) == ABSENT).all()
    assert (label_matrix(keys(a=1), labels(pieces[0], pieces[2]), CLASSES) == UNKNOWN).all()


def test_a_class_can_be_listened_for_alone():
    """An annotated row with a label speaks of that class, not of the others."""
    table = labels(("a", "robin", "annotated"))
    assert label_matrix(keys(a=1), table, CLASSES).tolist() == [[-1, 0, -1]]


def test_an_annotated_class_that_is_no_class_is_named():
    """A class list that lost a species is noticed here too."""
    with pytest.raises(StoreError, match=r"label 'rail' of 'a' \(annotated\)"):
        label_matrix(keys(a=1), labels(("a", "rail", "annotated")), CLASSES)
