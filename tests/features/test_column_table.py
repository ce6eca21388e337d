"""The documented columns are the columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from birdstack.features.column_table import column_table, reference_spec, with_table
from birdstack.features.summaries import Series, row_columns
from birdstack.store.views import Column, ViewSpec

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "acoustic-view.md"


def test_the_page_is_in_step_with_the_spec():
    """Rewriting the page's table changes nothing; if it does, run the module's command."""
    page = PAGE.read_text("utf-8")
    assert with_table(page, column_table(reference_spec())) == page


def test_the_page_counts_the_columns():
    """The number of columns in the text is that of the view."""
    assert f"{len(reference_spec().columns)} columns" in PAGE.read_text("utf-8")


def test_columns_of_one_quantity_share_a_row():
    """Numbers and statistics fold into one row with a count; a bar in the text is escaped."""
    band = Series("band", "sum |S|", "dB", 0.0, 8.0)
    columns = (*row_columns(band, 2), Column("level", high=1.5, description="level"))
    assert column_table(ViewSpec("acoustic", columns, {})).splitlines()[2:] == [
        r"| `band_NN` | mean, std | 4 | dB | 0 | 8 | sum \|S\| |",
        "| `level` |  | 1 |  |  | 1.5 | level |",
    ]


def test_a_page_without_markers_is_refused():
    """Nothing is guessed about where a table belongs."""
    with pytest.raises(ValueError, match="the page must hold"):
        with_table("# A page\n", "| table |")
