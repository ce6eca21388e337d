"""Exact and near copies, and their connected components."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from birdstack.store.duplicates import flag_conflicts, mark_duplicates
from birdstack.store.fault_rules import RejectLog
from birdstack.store.tables import LABELS, RECORDINGS

Row = tuple[str, str | None, float | None, str | None, str | None]


def frames(rows: list[Row]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Recordings and labels from (id, hash, duration, author, label)."""
    recordings = pl.DataFrame(
        [
            {"recording_id": i, "path": i, "content_hash": h, "duration_s": d, "author": a}
            for i, h, d, a, _ in rows
        ],
        schema=RECORDINGS,
        orient="row",
    )
    labels = pl.DataFrame(
        [{"recording_id": r[0], "label": r[4], "role": "primary"} for r in rows if r[4]],
        schema=LABELS,
        orient="row",
    )
    return recordings, labels


def groups(rows: list[Row]) -> dict[str, tuple[str | None, str | None]]:
    """`duplicate_of` and `duplicate_group` by id."""
    marked = mark_duplicates(*frames(rows))
    assert marked.schema == RECORDINGS
    assert marked["recording_id"].to_list() == [row[0] for row in rows]
    return {
        row["recording_id"]: (row["duplicate_of"], row["duplicate_group"])
        for row in marked.to_dicts()
    }


def test_exact_copies_point_at_the_first_id() -> None:
    """The first is by id, not by row."""
    found = groups(
        [("b", "h", None, None, "x"), ("a", "h", None, None, "x"), ("c", "i", None, None, "x")]
    )
    assert found == {"b": ("a", "a"), "a": (None, "a"), "c": (None, None)}


def test_near_copies_need_duration_author_and_label() -> None:
    """All three must agree and be known."""
    found = groups(
        [
            ("a", "1", 12.3401, "ann", "x"),
            ("b", "2", 12.3404, "ann", "x"),
            ("c", "3", 12.3420, "ann", "x"),
            ("d", "4", 12.3401, "bob", "x"),
            ("e", "5", 12.3401, "ann", "y"),
            ("f", "6", 12.3401, None, "x"),
            ("g", "7", None, "ann", "x"),
            ("h", "8", 12.3401, "ann", None),
            ("i", "9", 0.0, "ann", "x"),
            ("j", "0", 0.0, "ann", "x"),
        ]
    )
    assert {key for key, (_, group) in found.items() if group} == {"a", "b"}
    assert found["b"] == (None, "a")


def test_groups_join_through_both_kinds() -> None:
    """Equal to one by bytes and to another by three signs: the three are one group."""
    found = groups(
        [("c", "2", 5.0, "ann", "x"), ("b", "1", 5.0, "ann", "x"), ("a", "1", 5.0, None, "x")]
    )
    assert {group for _, group in found.values()} == {"a"}
    assert found["b"][0] == "a"


def test_nulls_are_never_copies_of_each_other() -> None:
    """Recordings without audio have no hash, and are not all the same recording."""
    found = groups([("a", None, None, "ann", "x"), ("b", None, None, "ann", "x")])
    assert set(found.values()) == {(None, None)}


def test_no_recordings_give_no_rows() -> None:
    """An empty store is no special case."""
    assert groups([]) == {}


def test_conflict_names_both_labels() -> None:
    """A copy under another label is listed; one under the same label is not."""
    recordings, labels = frames(
        [("a", "h", 1.0, None, "x"), ("b", "h", 1.0, None, "y"), ("c", "h", 1.0, None, "x")]
    )
    log = RejectLog("birds")
    flag_conflicts(mark_duplicates(recordings, labels), labels, log)
    (row,) = log.frame().to_dicts()
    assert (row["recording_id"], row["value"], row["severity"]) == ("b", "y", "flagged")
    assert row["reason"] == "same bytes as a, which is labelled x"


@given(
    st.lists(
        st.tuples(
            st.sampled_from("pqrst"),
            st.sampled_from([1.0, 2.0, 3.0]),
            st.sampled_from(["ann", "bob"]),
            st.sampled_from("xy"),
        ),
        max_size=12,
    )
)
def test_groups_are_the_components_of_the_relation(
    facts: list[tuple[str, float, str, str]],
) -> None:
    """Against a plain closure: two recordings share a group iff a chain of copies joins them."""
    rows: list[Row] = [(f"r{i:02}", *fact) for i, fact in enumerate(facts)]
    found = groups(rows)
    for row in rows:
        reached, waiting = {row[0]}, [row]
        while waiting:
            here = waiting.pop()
            for other in rows:
                same = other[1] == here[1] or other[2:] == here[2:]
                if same and other[0] not in reached:
                    reached.add(other[0])
                    waiting.append(other)
        expected = min(reached) if len(reached) > 1 else None
        assert found[row[0]][1] == expected
