"""A saved stack predicts bit-equal, and tells what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.rich_stack import QUICK, rich

from birdstack.stacking.class_columns import ClassColumns
from birdstack.stacking.controls import Material
from birdstack.stacking.stack_folder import load_stack, save_stack
from birdstack.stacking.stacker import Stacker
from birdstack.stacking.trees import members_of
from birdstack.store.errors import CorruptError, FormatVersionError, UsageError


@pytest.fixture(scope="module", params=["lightgbm", "xgboost", "control"])
def stacker(request: pytest.FixtureRequest) -> Stacker:
    """Stacks of both libraries, and a control."""
    kind = request.param
    how = {"ship": "control"} if kind == "control" else {"ship": "stack", "booster": kind}
    return Stacker(**how, **QUICK).fit(rich(80))  # type: ignore[arg-type]


def test_a_saved_stack_predicts_bit_equal(stacker: Stacker, tmp_path: Path) -> None:
    """On fresh rows, for both libraries and for a control."""
    fresh = rich(40, seed=9)
    before = stacker.predict(fresh)
    after = load_stack(save_stack(stacker.shipped_, tmp_path / "stack")).predict(fresh)
    assert before.dtype == after.dtype == np.float32
    assert before.tobytes() == after.tobytes()


def test_nothing_in_it_is_a_pickle(stacker: Stacker, tmp_path: Path) -> None:
    """All files are text, JSON where they say so, and listed with their hashes."""
    folder = save_stack(stacker.shipped_, tmp_path / "stack", made_from={"pin": "v3"})
    index = json.loads((folder / "stack.json").read_text())
    assert index["made_from"] == {"pin": "v3"}
    assert "numpy" in index["versions"]
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {*index["files"], "stack.json"}
    for name in files:
        text = (folder / name).read_bytes().decode("utf-8")
        if name.endswith(".json"):
            json.loads(text)


def test_saving_again_replaces_and_spares_other_files(stacker: Stacker, tmp_path: Path) -> None:
    """A stack is replaced whole; a folder of something else is left alone."""
    folder = tmp_path / "stack"
    save_stack(stacker.shipped_, folder)
    (folder / "boosters").mkdir(exist_ok=True)
    (folder / "boosters" / "left-over.txt").write_text("old")
    save_stack(stacker.shipped_, folder)
    assert not (folder / "boosters" / "left-over.txt").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("text")
    with pytest.raises(UsageError, match="no saved stack"):
        save_stack(stacker.shipped_, other)
    assert (other / "thesis.tex").read_text() == "text"


def test_damage_is_named(stacker: Stacker, tmp_path: Path) -> None:
    """A changed byte, a missing file, a newer format, no stack at all."""
    folder = save_stack(stacker.shipped_, tmp_path / "stack")
    weights = folder / "weights.json"
    whole = weights.read_text()
    weights.write_text(whole + " ")
    with pytest.raises(CorruptError, match=r"weights\.json: its bytes are not"):
        load_stack(folder)
    weights.unlink()
    with pytest.raises(CorruptError, match=r"weights\.json: cannot be read"):
        load_stack(folder)
    index = folder / "stack.json"
    kept = json.loads(index.read_text())
    index.write_text(json.dumps({**kept, "format": 99}))
    with pytest.raises(FormatVersionError, match="format 99"):
        load_stack(folder)
    index.write_text("{}")
    with pytest.raises(CorruptError, match="not the index"):
        load_stack(folder)
    with pytest.raises(UsageError, match="no saved stack"):
        load_stack(tmp_path / "nowhere")


def test_classes_that_differ_are_refused(stacker: Stacker, tmp_path: Path) -> None:
    """A loaded stack holds its classes and backbones against the table's."""
    loaded = load_stack(save_stack(stacker.shipped_, tmp_path / "stack"))
    table = rich(10)
    with pytest.raises(UsageError, match="classes"):
        loaded.predict(replace(table, classes=("d", "c", "b", "a")))
    with pytest.raises(UsageError, match="backbones"):
        loaded.predict(replace(table, backbones=("another",)))


@pytest.mark.parametrize("booster", ["lightgbm", "xgboost"])
def test_a_bag_of_boosters_is_the_mean_of_its_seeds(booster: str, tmp_path: Path) -> None:
    """Seeds differ, scores are averaged, and every member has a file of its own."""
    table, fresh = rich(80), rich(40, seed=9)
    usual: dict[str, Any] = {**QUICK, "booster": booster, "ship": "stack"}
    bagged = Stacker(**usual, bags=3).fit(table).shipped_
    alone = Stacker(**usual).fit(table).shipped_
    assert bagged.stack is not None
    assert alone.stack is not None
    number, model = next(iter(bagged.stack.classes.items()))
    held, fitted = next(iter(model.folds.items()))
    same = alone.stack.classes[number].folds[held].trees
    assert fitted.trees is not None
    assert same is not None
    members = members_of(fitted.trees)
    assert len({member.text() for member in members}) == 3
    assert members[0].text() == members_of(same)[0].text()
    columns = ClassColumns(Material(table), bagged.stack.plan)
    rows = columns.of_class(number, np.arange(20))
    apart = np.mean([member.raw(rows, 25) for member in members], axis=0)
    np.testing.assert_array_equal(fitted.trees.raw(rows, 25), apart)
    again = load_stack(save_stack(bagged, tmp_path / "stack"))
    np.testing.assert_array_equal(again.predict(fresh), bagged.predict(fresh))
