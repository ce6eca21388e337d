"""`birdstack stack --table`: what it writes, prints and ends with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.command import Ran, birdstack
from support.small_stacks import Small, as_frame, small_stack

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.stack_folder import load_stack
from birdstack.stacking.stack_table import StackTable


@pytest.fixture(scope="module")
def table() -> StackTable:
    """A small table of a strong network and a prior."""
    how = Small(seed=11, files=20, windows=6, classes=6, folds=4, unknown=0.05)
    return small_stack(how, fresh_files=2)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is all written."""
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="module")
def ran(table: StackTable, folder: Path) -> Ran:
    """The verb, once, with rows in any order."""
    path = folder / "scores.parquet"
    as_frame(table).sample(fraction=1, shuffle=True, seed=1).write_parquet(path)
    return birdstack("stack", "--table", path, "--out", folder / "out", "--resamples", 100)


def test_it_writes_scores_report_and_stack(ran: Ran, table: StackTable, folder: Path) -> None:
    """One finite score for each window and class, in the order of recordings and windows."""
    assert ran.code == 0, ran.err
    oof = pl.read_parquet(folder / "out" / "oof.parquet")
    assert oof.columns == ["recording_id", "window", *table.classes]
    assert oof["recording_id"].to_list() == np.repeat(table.recording_ids, table.windows).tolist()
    assert oof["window"].to_list() == table.index.tolist()
    scores = oof.select(table.classes).to_numpy()
    assert np.isfinite(scores).all()
    report = json.loads((folder / "out" / "scores.json").read_text())
    said = report["shipped"]["nested"]["value"]
    assert macro_auc(scores, table.truth).value == pytest.approx(said, abs=1e-9)
    loaded = load_stack(folder / "out" / "stack")
    assert loaded.what == report["shipped"]["what"]
    assert loaded.predict(table).shape == table.truth.shape


def test_it_prints_every_control_and_what_is_shipped(ran: Ran) -> None:
    """The table at the end, and the reason."""
    for words in ("best single backbone", "mean + kernel", "shared ranker", "L2 logistic", "stack"):
        assert words in ran.out
    assert "shipped: " in ran.out


def test_json_lines_for_programs(table: StackTable, tmp_path: Path) -> None:
    """Every line is JSON, the last one has the report; folds are dealt where there are none."""
    path = tmp_path / "scores.parquet"
    as_frame(table, fold=False).write_parquet(path)
    ran = birdstack(
        "stack", "--table", path, "--out", tmp_path / "out", "--ship", "control",
        "--resamples", 60, "--folds", 3, "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    events = [json.loads(line) for line in ran.out.splitlines()]
    assert events[-1]["event"] == "finished"
    assert events[-1]["data"]["folds"] == 3
    assert events[-1]["table"]["folds"].startswith("3 grouped folds, dealt")


def test_exit_codes(table: StackTable, tmp_path: Path) -> None:
    """2 for wrong usage, 1 for a table that does not fit; both say what to do."""
    missing = birdstack("stack", "--table", tmp_path / "no.parquet", "--out", tmp_path / "out")
    assert missing.code == 2
    assert "no such file" in missing.err
    path = tmp_path / "scores.parquet"
    as_frame(table).with_columns(pl.lit(3).alias("hour")).write_parquet(path)
    wrong = birdstack("stack", "--table", path, "--out", tmp_path / "out")
    assert wrong.code == 1
    assert "unknown columns 'hour'" in wrong.err
    assert "remedy: " in wrong.err
    assert not (tmp_path / "out").exists()
