"""Views and tables as one flat file, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import duckdb
import fault_support as toy
import polars as pl
import pytest

from birdstack.store.errors import UsageError
from birdstack.store.export import export
from birdstack.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Eight recordings, one of which was skipped."""
    store = Store.create(tmp_path / "store")
    bad = toy.toy_recordings(1)[0].recording_id
    toy.fill(store, toy.toy_recordings(8), source=toy.ToySource(codes={bad: "no_audio"}))
    return store


def test_a_view_as_parquet(store: Store, tmp_path: Path) -> None:
    """Keys and columns of every row, for any tool."""
    out = tmp_path / "toy.parquet"
    expected = toy.truth(toy.toy_recordings(8)[1:])
    assert export(store.snapshot(), "toy", out) == expected.height
    assert pl.read_parquet(out).equals(expected.cast(dict(pl.read_parquet_schema(out))))
    rows = duckdb.read_parquet(str(out)).aggregate("count(*)").fetchall()
    assert rows == [(expected.height,)]


def test_a_view_as_csv(store: Store, tmp_path: Path) -> None:
    """Vectors are joined by `;`, everything else is as it is."""
    out = tmp_path / "toy.CSV"
    expected = toy.truth(toy.toy_recordings(8)[1:])
    assert export(store.snapshot(), "toy", out) == expected.height
    found = pl.read_csv(out)
    assert found["recording_id"].to_list() == expected["recording_id"].to_list()
    assert found["level"].to_list() == expected["level"].to_list()
    vectors = [[float(v) for v in text.split(";")] for text in found["vector"]]
    assert vectors == [list(v) for v in expected["vector"].to_list()]


def test_an_older_snapshot(store: Store, tmp_path: Path) -> None:
    """What was there then."""
    before = store.snapshot()
    toy.fill(store, toy.toy_recordings(12), retry_skipped=True)
    export(before, "toy", tmp_path / "then.parquet")
    export(store.snapshot(0), "toy", tmp_path / "too.parquet")
    export(store.snapshot(), "toy", tmp_path / "now.parquet")
    then, too, now = (pl.read_parquet(tmp_path / f"{n}.parquet") for n in ("then", "too", "now"))
    assert then.equals(too)
    assert now.height == toy.truth(toy.toy_recordings(12)).height > then.height


def test_skips_and_empty_tables(store: Store, tmp_path: Path) -> None:
    """Reasons why recordings are lacking; a table without rows is a file without rows."""
    assert export(store.snapshot(), "skips", tmp_path / "skips.csv") == 1
    assert pl.read_csv(tmp_path / "skips.csv")["code"].to_list() == ["no_audio"]
    assert export(store.snapshot(), "labels", tmp_path / "labels.parquet") == 0


def test_what_is_in_the_way(store: Store, tmp_path: Path) -> None:
    """Existing files, missing folders and odd endings are refused, and nothing is written."""
    out = tmp_path / "toy.parquet"
    out.write_text("mine")
    with pytest.raises(UsageError, match="the file is there already"):
        export(store.snapshot(), "toy", out)
    assert out.read_text() == "mine"
    assert export(store.snapshot(), "toy", out, overwrite=True) > 0
    with pytest.raises(UsageError, match="there is no folder"):
        export(store.snapshot(), "toy", tmp_path / "none" / "toy.parquet")
    with pytest.raises(UsageError, match=r"must be one of \.parquet, \.csv"):
        export(store.snapshot(), "toy", tmp_path / "toy.xlsx")
    with pytest.raises(UsageError, match="no view 'tot'"):
        export(store.snapshot(), "tot", tmp_path / "tot.parquet")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store", "toy.parquet"]
