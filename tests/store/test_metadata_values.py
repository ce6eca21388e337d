"""Lists, dates and times in single cells."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdstack.store.metadata_values import (
    LONGEST_LIST,
    MALFORMED,
    parse_column,
    parse_date,
    parse_list,
    parse_time,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[]", []),
        ("['']", []),
        ("['a', 'b']", ["a", "b"]),
        ("[\"it's\", 'b',]", ["it's", "b"]),
        ("['a', 'a ', '']", ["a"]),
        (r"['a\'b']", ["a'b"]),
        (r"['\d']", [r"\d"]),
        ("", None),
        ("nan", None),
        ("['a'", MALFORMED),
        ("['a' 'b']", MALFORMED),
        ("[['a']]", MALFORMED),
        ("('a',)", MALFORMED),
        ("[f'a']", MALFORMED),
        ("[None]", MALFORMED),
        (r"['\ud800']", MALFORMED),
        (r"['\N{nothing}']", MALFORMED),
        ("['" + "a" * LONGEST_LIST + "']", MALFORMED),
    ],
)
def test_lists(text: str, value: object) -> None:
    """Flat lists of strings are read; anything else is malformed and never evaluated."""
    assert parse_list(text) == value


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=5))
def test_any_list_of_strings_comes_back(items: list[str]) -> None:
    """Python's own writing of a list is read, up to blanks, repeats and order of the first."""
    wanted = list(dict.fromkeys(item.strip() for item in items if item.strip()))
    assert parse_list(repr(items)) == wanted


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7:05", dt.time(7, 5)),
        ("07:05:09", dt.time(7, 5, 9)),
        ("7:05am", dt.time(7, 5)),
        ("7:05 PM", dt.time(19, 5)),
        ("12:30am", dt.time(0, 30)),
        ("12:30pm", dt.time(12, 30)),
        ("?:?", None),
        ("xx.xx", None),
        (".", None),
        ("", None),
        ("24:00", MALFORMED),
        ("0:30am", MALFORMED),
        ("7:60", MALFORMED),
        ("7", MALFORMED),
        ("am", MALFORMED),
        ("\u0667:\u0660\u0665", MALFORMED),
    ],
)
def test_times(text: str, value: object) -> None:
    """Times as they stand in the real tables."""
    assert parse_time(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2019-05-22", dt.date(2019, 5, 22)),
        ("2019/5/2", dt.date(2019, 5, 2)),
        ("20190522", dt.date(2019, 5, 22)),
        ("-", None),
        ("2019-00-00", MALFORMED),
        ("22.05.2019", MALFORMED),
        ("0000-01-01", MALFORMED),
        ("2019-0\u0665-22", MALFORMED),
    ],
)
def test_dates(text: str, value: object) -> None:
    """Years come first; a month or day of zero is no date."""
    assert parse_date(text) == value


def test_columns_keep_their_rows() -> None:
    """Values and faults stand in the rows of their cells, and null is neither."""
    column = pl.Series("time", ["7:05", None, "noon", "7:05"])
    values, bad = parse_column(column, parse_time, pl.Time())
    assert values.to_list() == [dt.time(7, 5), None, None, dt.time(7, 5)]
    assert bad.to_list() == [False, False, True, False]
