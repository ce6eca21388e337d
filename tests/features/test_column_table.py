"""The documented features are the features."""

from __future__ import annotations

from pathlib import Path

import pytest

from birdstack.features.acoustic_config import GROUPS, AcousticConfig
from birdstack.features.column_table import TITLES, features_markdown, group_table, with_features
from birdstack.features.feature import feature
from birdstack.features.registry import all_features, group_feature_columns, isolated

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "features.md"


def test_the_page_is_in_step_with_the_registry():
    """Rewriting the page's tables changes nothing; if it does, run the module's command."""
    page = PAGE.read_text("utf-8")
    assert with_features(page, features_markdown()) == page


def test_every_feature_and_group_is_on_the_page():
    """Each feature has a row with its source, each group a section."""
    page = PAGE.read_text("utf-8")
    assert set(TITLES) == set(GROUPS)
    for group in GROUPS:
        assert f"### `acoustic/{group}`" in page
    for each in all_features():
        assert f"| `{each.name}` |" in page
        assert each.source.replace("|", r"\|") in page


def test_a_feature_is_one_row():
    """Bands and statistics fold into one row with a count; a bar in a formula is escaped."""
    with isolated():

        @feature(
            group="onset",
            formula="sum |S| over {c.hop} samples",
            source="nobody",
            needs=("magnitude",),
            unit="dB",
            low=0.0,
            high=8.0,
            rows=2,
            statistics=("mean", "std"),
        )
        def onset_band(_window):
            raise NotImplementedError

        columns = group_feature_columns("onset", AcousticConfig(), 32000)
        last = group_table("onset", columns).splitlines()[-1]
    assert last == (
        r"| `onset_band` | 4: `_NN_(mean, std)` | dB | 0 | 8 | sum \|S\| over 512 samples "
        "| nobody |  |  |  |  |"
    )


def test_a_page_without_markers_is_refused():
    """Nothing is guessed about where the tables belong."""
    with pytest.raises(ValueError, match="the page must hold"):
        with_features("# A page\n", "| table |")
