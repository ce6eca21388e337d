"""Groups: who may not part."""

from __future__ import annotations

import polars as pl
import pytest

from birdstack.store.errors import SchemaError, StoreError
from birdstack.store.groups import UNKNOWN_AUTHORS, group_recordings, normalise_author

SCHEMA = {
    "recording_id": pl.String,
    "author": pl.String,
    "duplicate_group": pl.String,
    "duplicate_of": pl.String,
}


def table(*rows):
    """Recordings from (id, author, duplicate_group, duplicate_of)."""
    return pl.DataFrame(list(rows), schema=SCHEMA, orient="row")


def groups(*rows):
    """Mapping of recording to group."""
    return dict(group_recordings(table(*rows)).rows())


def test_one_author_is_one_group_named_after_its_smallest_recording():
    """Recordings of an author join, whatever the case and the space around the name."""
    found = groups(
        ("c", " Ann Lee", None, None), ("b", "ann lee ", None, None), ("a", "Bo Ek", None, None)
    )
    assert found == {"a": "a", "b": "b", "c": "b"}


@pytest.mark.parametrize("author", [None, *sorted(UNKNOWN_AUTHORS), " Unknown "])
def test_unknown_authors_join_nothing(author):
    """A name that names nobody makes no group of strangers."""
    assert groups(("a", author, None, None), ("b", author, None, None)) == {"a": "a", "b": "b"}


def test_similar_names_stay_apart():
    """Initials are not expanded: the same person is not assumed."""
    assert normalise_author("J. Smith") != normalise_author("John Smith")


def test_a_chain_of_different_links_is_one_group():
    """Author, near duplicate and exact duplicate join across one another."""
    found = groups(
        ("a", "x", None, None),
        ("b", "x", "near", None),
        ("c", "y", "near", None),
        ("d", "z", None, "c"),
        ("e", "w", None, None),
    )
    assert found == {"a": "a", "b": "a", "c": "a", "d": "a", "e": "e"}


def test_copies_of_a_recording_outside_the_table_join():
    """Two copies of an unlabelled recording hold the same sound, though it is not there."""
    assert groups(("a", "x", None, "gone"), ("b", "y", None, "gone")) == {"a": "a", "b": "a"}


def test_equal_texts_of_different_kinds_do_not_join():
    """An author called like a recording, or like a duplicate group, is no link to it."""
    found = groups(("a", "b", None, None), ("b", "c", "a", None), ("d", "x", "c", None))
    assert found == {"a": "a", "b": "b", "d": "d"}


def test_no_recordings_make_no_groups():
    """An empty table is a table."""
    assert group_recordings(table()).columns == ["recording_id", "group"]


def test_a_doubled_recording_is_refused():
    """Identity is unique, and the message names the one that is not."""
    with pytest.raises(StoreError, match="'a' stands twice"):
        group_recordings(table(("a", None, None, None), ("a", None, None, None)))


def test_a_null_recording_is_refused():
    """A row without identity cannot be held out."""
    with pytest.raises(StoreError, match="null in 1 rows"):
        group_recordings(table((None, None, None, None)))


def test_a_missing_column_is_named():
    """Grouping without the duplicates would leak in silence."""
    with pytest.raises(SchemaError, match="'duplicate_of' is missing"):
        group_recordings(table().drop("duplicate_of"))
