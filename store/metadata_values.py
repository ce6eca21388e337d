"""Values of single cells: lists written as Python literals, dates and times of day.

Each parser takes the text of a cell and returns the value, or `MALFORMED`; what people write
for "not known" (an empty cell, `-`, `?`, `xx:xx`, as in the BirdCLEF 2022 table) is None.
"""

from __future__ import annotations

import ast
import datetime as dt
import re
import warnings
from collections.abc import Callable
from enum import Enum
from typing import Final, TypeVar

import polars as pl

NULL_TEXT = ("", "nan", "NaN", "None", "null", "NULL", "<NA>")
"""Cells that mean "nothing" in any column."""

NULL_VALUE = (*NULL_TEXT, "-", "?", "NA", "N/A", "n/a", "na")
"""Cells that mean "not known" in a column of numbers, dates or times."""

LONGEST_LIST = 10_000
"""Characters of a list cell; a longer one is malformed."""

_STRING = r"""(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")"""
_LIST = re.compile(rf"\[\s*(?:{_STRING}\s*(?:,\s*{_STRING}\s*)*,?\s*)?\]")
_UNKNOWN_TIME = re.compile(r"[?xX:.\-\s]*")
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(am|pm)?", re.IGNORECASE)
_DATES = (
    re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})"),
    re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})"),
    re.compile(r"(\d{4})(\d{2})(\d{2})"),
)
_NOON = 12


class Malformed(Enum):
    """The one value of a cell that cannot be read."""

    MALFORMED = "malformed"


MALFORMED: Final = Malformed.MALFORMED

Value = TypeVar("Value")


def parse_list(text: str) -> list[str] | Malformed | None:
    """Read `['asbfly', 'ashpri1']`; `[]` and `['']` (BirdCLEF 2025) are empty lists.

    The text must have the shape of a flat list of quoted strings before it is evaluated, so
    nothing nested, called or computed ever reaches the evaluator.
    """
    text = text.strip()
    if text in NULL_TEXT:
        return None
    if len(text) > LONGEST_LIST or not _LIST.fullmatch(text):
        return MALFORMED
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape such as '\d' is no fault
            items = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return MALFORMED
    cleaned = [item.strip() for item in items]
    if any(not _is_unicode(item) for item in cleaned):
        return MALFORMED
    return list(dict.fromkeys(item for item in cleaned if item))


def parse_time(text: str) -> dt.time | Malformed | None:
    """Read `7:30`, `07:30:15` or `7:30pm`; `?:?` and `xx:xx` are None."""
    text = text.strip()
    if text in NULL_VALUE or _UNKNOWN_TIME.fullmatch(text):
        return None
    match = _TIME.fullmatch(text)
    if match is None or not text.isascii():
        return MALFORMED
    hour = int(match[1])
    if match[4]:
        if not 1 <= hour <= _NOON:
            return MALFORMED
        hour = hour % _NOON + (_NOON if match[4].lower() == "pm" else 0)
    try:
        return dt.time(hour, int(match[2]), int(match[3] or 0))
    except ValueError:
        return MALFORMED


def parse_date(text: str) -> dt.date | Malformed | None:
    """Read `2019-05-22`, `2019/5/22` or `20190522`."""
    text = text.strip()
    if text in NULL_VALUE:
        return None
    match = next((found for form in _DATES if (found := form.fullmatch(text))), None)
    if match is None or not text.isascii():
        return MALFORMED
    try:
        return dt.date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return MALFORMED


def parse_column(
    column: pl.Series, parse: Callable[[str], Value | Malformed | None], dtype: pl.DataType
) -> tuple[pl.Series, pl.Series]:
    """Parse a text column, each distinct value once.

    Returns:
        The values with type `dtype`, null where unknown or malformed, and a boolean column
        that is True where the cell is malformed.
    """
    texts = column.unique(maintain_order=True)
    parsed = [None if text is None else parse(text) for text in texts]
    values = pl.Series([None if value is MALFORMED else value for value in parsed], dtype=dtype)
    faults = pl.Series([value is MALFORMED for value in parsed], dtype=pl.Boolean)
    place = {text: i for i, text in enumerate(texts)}
    where = pl.Series([place[text] for text in column], dtype=pl.UInt32)
    return values.gather(where).alias(column.name), faults.gather(where).alias(column.name)


def _is_unicode(text: str) -> bool:
    """False for a lone surrogate, which an escape in a literal can write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
