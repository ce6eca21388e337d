"""A bare table of scores: what is read, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_stacks import Small, as_frame, small_stack

from birdstack.stacking.deal_folds import deal_folds
from birdstack.stacking.table_input import read_table, read_table_with_notes
from birdstack.store.errors import BirdstackError, DatasetError, UsageError

Edit = Callable[[pl.DataFrame], pl.DataFrame]


def frame(**columns: Any) -> pl.DataFrame:
    """Six recordings of two windows, one class, one backbone."""
    usual: dict[str, Any] = {
        "recording_id": [name for name in "abcdef" for _ in range(2)],
        "window": [0, 1] * 6,
        "group": [name for name in "uuvvww" for _ in range(2)],
        "fold": [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2],
        "y:wren": [1, 0, 0, 0, 1, 1, 0, 0, None, 0, 1, 0],
        "net:wren": np.linspace(-4, 4, 12),
    }
    return pl.DataFrame({**usual, **columns})


def written(tmp_path: Path, table: pl.DataFrame) -> Path:
    """A Parquet file of it."""
    path = tmp_path / "scores.parquet"
    table.write_parquet(path)
    return path


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    """Scores, labels, folds and groups of a drawn table survive the file, rows in any order."""
    table, _ = small_stack(Small(seed=1, second=0.8, unknown=0.05), fresh_files=2)
    shuffled = as_frame(table).sample(fraction=1, shuffle=True, seed=3)
    read = read_table(written(tmp_path, shuffled))
    assert read.recording_ids == table.recording_ids
    assert (read.truth == table.truth).all()
    assert (read.fold == table.fold).all()
    assert read.backbones == table.backbones
    assert read.classes == table.classes
    np.testing.assert_array_equal(read.logits, table.logits)
    np.testing.assert_array_equal(read.index, table.index)


def test_probabilities_become_logits_and_are_told(tmp_path: Path) -> None:
    """A backbone within [0, 1] is read as probabilities; 0 and 1 stay finite."""
    share = np.array([0.0, 1.0, 0.5, *np.linspace(0.1, 0.9, 9)])
    path = written(tmp_path, frame(**{"prior:wren": share}))
    table, notes = read_table_with_notes(path)
    assert notes.probabilities == ("prior",)
    assert np.isfinite(table.logits).all()
    assert table.logits[1, 2, 0] == 0
    inner = slice(3, None)
    np.testing.assert_allclose(
        1 / (1 + np.exp(-table.logits[1, inner, 0])), share[inner], rtol=1e-5
    )


def test_a_backbone_may_lack_a_class(tmp_path: Path) -> None:
    """What a backbone does not speak of is NaN throughout, and counted."""
    path = written(tmp_path, frame(**{"y:owl": [0, 1] * 6, "prior:owl": np.arange(12.0)}))
    table, notes = read_table_with_notes(path)
    assert notes.lacking == {"net": 1, "prior": 1}
    assert np.isnan(table.logits[0, :, 1]).all()
    assert np.isfinite(table.logits[1, :, 1]).all()


def test_extra_columns_may_hold_what_is_not_known(tmp_path: Path) -> None:
    """Null, NaN and infinite extra values are all NaN."""
    values = [1.0, None, float("nan"), float("inf"), -float("inf"), *([2.0] * 7)]
    table = read_table(written(tmp_path, frame(**{"x:rain": values})))
    assert table.extra_names == ("rain",)
    assert np.isnan(table.extra[1:5, 0]).all()
    assert table.extra[0, 0] == 1


def test_gaps_between_windows_stay_gaps(tmp_path: Path) -> None:
    """Windows 0 and 7 of one recording are not neighbours."""
    table = read_table(written(tmp_path, frame(window=[0, 7] + [0, 1] * 5)))
    assert list(table.segments[:3]) == [0, 1, 2]


def test_without_groups_a_recording_is_its_own(tmp_path: Path) -> None:
    """And folds are dealt where there are none, with groups kept whole, always alike."""
    table = read_table(written(tmp_path, frame().drop("group", "fold")), n_folds=3)
    assert table.groups == table.recording_ids
    again = read_table(written(tmp_path, frame().drop("fold")), n_folds=3)
    by_group: dict[str, set[int]] = {}
    for group, fold in zip(again.groups, again.fold, strict=True):
        by_group.setdefault(group, set()).add(int(fold))
    assert {len(folds) for folds in by_group.values()} == {1}
    assert sorted(np.unique(again.fold)) == [0, 1, 2]
    shuffled = frame().drop("fold").sample(fraction=1, shuffle=True, seed=1)
    assert (read_table(written(tmp_path, shuffled), n_folds=3).fold == again.fold).all()


def _cell(column: str, row: int, value: Any) -> Edit:
    def edit(table: pl.DataFrame) -> pl.DataFrame:
        values = table[column].to_list()
        values[row] = value
        return table.with_columns(pl.Series(column, values, strict=False))

    return edit


FAULTS: dict[str, tuple[Edit, str]] = {
    "no recording": (lambda t: t.drop("recording_id"), "'recording_id' is missing"),
    "no window": (lambda t: t.drop("window"), "'window' is missing"),
    "no label column": (lambda t: t.drop("y:wren", "net:wren"), "no column y:<class>"),
    "no scores": (lambda t: t.drop("net:wren"), "no column <backbone>:<class>"),
    "unknown columns": (
        lambda t: t.with_columns(site=pl.lit("hill"), hour=pl.lit(3)),
        "unknown columns 'site', 'hour'",
    ),
    "scores without labels": (
        lambda t: t.with_columns(pl.lit(0.5).alias("net:owl")),
        "'net:owl' have no column y:owl",
    ),
    "labels without scores": (
        lambda t: t.with_columns(pl.lit(0).alias("y:owl")),
        "class 'owl' .*no backbone",
    ),
    "empty key": (_cell("recording_id", 4, None), "row 4, column 'recording_id': empty"),
    "twice": (_cell("window", 3, 0), "rows 2 and 3: recording_id 'b', window 0 stands twice"),
    "window not whole": (_cell("window", 3, 0.5), "'window' must hold whole numbers"),
    "window below zero": (_cell("window", 3, -1), "row 3, column 'window': -1 is below zero"),
    "label 2": (_cell("y:wren", 5, 2), "row 5, column 'y:wren': .*1, 0 or null, got 2"),
    "label 0.5": (_cell("y:wren", 5, 0.5), "row 5, column 'y:wren': .*got 0.5"),
    "label NaN": (_cell("y:wren", 5, float("nan")), "row 5, column 'y:wren': .*got nan"),
    "label in words": (
        lambda t: t.with_columns(pl.col("y:wren").cast(pl.String)),
        "column 'y:wren': a label must be 1, 0 or null, its type is String with '1'",
    ),
    "score NaN": (_cell("net:wren", 7, float("nan")), "row 7, column 'net:wren': .*got nan"),
    "score inf": (_cell("net:wren", 7, float("inf")), "row 7, column 'net:wren': .*got inf"),
    "score null": (_cell("net:wren", 7, None), "row 7, column 'net:wren': .*got null"),
    "score in words": (
        lambda t: t.with_columns(pl.lit("high").alias("net:wren")),
        "column 'net:wren': .*its type is String with 'high'",
    ),
    "no positives": (lambda t: t.with_columns(pl.lit(0).alias("y:wren")), "nothing to learn"),
    "group in two folds": (
        lambda t: t.with_columns(group=pl.lit("one")),
        "group 'one' lies in folds 0 and 1 \\(recording 'c'\\)",
    ),
    "recording in two folds": (
        _cell("fold", 1, 2),
        "row 1, column 'fold': recording 'a' has 0 and 2",
    ),
    "recording in two groups": (_cell("group", 1, "z"), "row 1, column 'group': recording 'a'"),
    "one fold": (lambda t: t.with_columns(fold=pl.lit(1)), "all rows are in fold 1"),
    "fold below zero": (_cell("fold", 1, -1), "row 1, column 'fold': .*got -1"),
    "one group to deal": (
        lambda t: t.drop("fold").with_columns(group=pl.lit("one")),
        "all rows are of one group, 'one'",
    ),
    "no rows": (lambda t: t.head(0), "no rows"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_names_place_rule_value_and_remedy(fault: str, tmp_path: Path) -> None:
    """The message names the file, the row and column of the file, the rule, the value."""
    edit, words = FAULTS[fault]
    path = written(tmp_path, edit(frame()))
    with pytest.raises(DatasetError, match=words) as caught:
        read_table(path)
    assert str(path) in caught.value.message
    assert caught.value.remedy


def test_a_file_that_is_none(tmp_path: Path) -> None:
    """A missing file is wrong usage, a text file is named as what it is not."""
    with pytest.raises(UsageError, match="no such file"):
        read_table(tmp_path / "nothing.parquet")
    path = tmp_path / "text.parquet"
    path.write_text("recording_id,window\n")
    with pytest.raises(DatasetError, match="not a Parquet file"):
        read_table(path)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=2, max_size=40), st.integers(2, 7), st.integers(0, 99))
def test_dealt_folds_keep_groups_whole_and_leave_none_empty(
    groups: list[int], n_folds: int, seed: int
) -> None:
    """Whatever the groups, each lies in one fold, and as many folds as can be are filled."""
    present = np.random.default_rng(seed).random((len(groups), 5)) < 0.2
    names = [f"g{number}" for number in groups]
    fold = deal_folds(names, present, n_folds)
    homes: dict[str, set[int]] = {}
    for name, number in zip(names, fold, strict=True):
        homes.setdefault(name, set()).add(int(number))
    assert all(len(found) == 1 for found in homes.values())
    assert set(fold.tolist()) == set(range(min(n_folds, len(set(names)))))


def test_a_class_in_two_recordings_is_dealt_to_two_folds() -> None:
    """The rarest classes are dealt first, so that both halves of them are seen."""
    present = np.zeros((20, 3), dtype=bool)
    present[[3, 11], 0] = True
    present[::2, 1] = True
    fold = deal_folds([f"r{number:02d}" for number in range(20)], present, 5)
    assert fold[3] != fold[11]
    assert np.bincount(fold).max() - np.bincount(fold).min() <= 2


def test_errors_are_of_the_family(tmp_path: Path) -> None:
    """All of them can be caught as one."""
    with pytest.raises(BirdstackError):
        read_table(tmp_path)
