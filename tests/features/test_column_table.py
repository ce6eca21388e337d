"""The documented columns are the columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from birdstack.features.column_table import column_table, reference_spec, with_table
from birdstack.store.views import Column, ViewSpec

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "acoustic-view.md"


def test_the_page_is_in_step_with_the_spec():
    """Rewriting the page's table changes nothing; if it does, run the module's command."""
    page = PAGE.read_text("utf-8")
    assert with_table(page, column_table(reference_spec())) == page


def test_the_page_counts_the_columns():
    """The number of columns in the text is that of the view."""
    assert f"{len(reference_spec().columns)} columns" in PAGE.read_text("utf-8")


def test_numbered_columns_share_a_row():
    """`band_00` and `band_01` become one row with a count; a bar in the text is escaped."""
    spec = ViewSpec(
        "acoustic",
        (
            Column("band_00_mean", unit="dB", low=0.0, description="sum |S|"),
            Column("band_01_mean", unit="dB", low=0.0, description="sum |S|"),
            Column("level", high=1.5, description="level"),
        ),
        {},
    )
    assert column_table(spec).splitlines()[2:] == [
        r"| `band_NN_mean` | 2 | dB | 0 |  | sum \|S\| |",
        "| `level` | 1 |  |  | 1.5 | level |",
    ]


def test_a_page_without_markers_is_refused():
    """Nothing is guessed about where a table belongs."""
    with pytest.raises(ValueError, match="the page must hold"):
        with_table("# A page\n", "| table |")
