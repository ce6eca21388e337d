"""Stacks that were saved once still load, and predict what they did."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from support.golden_stack import BOOSTERS, GOLDEN, table

from birdstack.stacking.stack_folder import load_stack
from birdstack.stacking.table_input import read_table_with_notes


@pytest.mark.parametrize("booster", BOOSTERS)
def test_a_saved_stack_still_predicts_what_it_did(booster: str) -> None:
    """The table is read from its file; sums may end in another last bit on another processor."""
    given, _ = read_table_with_notes(GOLDEN / "table.parquet")
    kept = pl.read_parquet(GOLDEN / f"{booster}.parquet")
    shipped = load_stack(GOLDEN / booster)
    assert shipped.what == "stack"
    assert kept["window"].to_list() == given.index.tolist()
    wanted = kept.select(shipped.classes).to_numpy()
    assert wanted.std(axis=0).min() > 0.1
    found = shipped.predict(given)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_both_libraries_are_among_them() -> None:
    """Layers of classes by each, and the shared layer by LightGBM."""
    for booster, suffix in (("lightgbm", "txt"), ("xgboost", "json")):
        names = [path.name for path in (GOLDEN / booster / "boosters").iterdir()]
        assert {f"class-{number}-{fold}.{suffix}" for number in range(3) for fold in (0, 1)} <= {
            *names
        }
        assert {"shared-0.txt", "shared-1.txt"} <= {*names}


def test_the_table_is_read_as_it_was_made() -> None:
    """Holes, gaps and a backbone that lacks a class come through the file."""
    given, _ = read_table_with_notes(GOLDEN / "table.parquet")
    made = table()
    np.testing.assert_array_equal(given.logits, made.logits)
    np.testing.assert_array_equal(given.extra, made.extra)
    np.testing.assert_array_equal(given.index, made.index)
    assert np.isnan(given.logits[1, :, 2]).all()
    assert len(given.segments) == 24 + 2


def test_it_is_small() -> None:
    """It lies in the repository for ever."""
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 200_000
