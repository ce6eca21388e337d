"""`birdstack stack --components`: made inside folds, saved with the stack, made again from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from support.command import Ran, birdstack
from support.stacked import make_stackable

from birdstack.stacking import design_columns
from birdstack.stacking.component_pin import pin_components
from birdstack.stacking.components import ComponentsConfig, fit_components
from birdstack.stacking.design import Design, DesignConfig, plan_design
from birdstack.stacking.design_columns import DesignColumns
from birdstack.stacking.design_table import (
    fit_columns,
    fresh_recordings,
    fresh_table,
    training_table,
)
from birdstack.stacking.report_columns import extra_columns
from birdstack.stacking.report_run import read_run
from birdstack.stacking.stack_folder import load_stack
from birdstack.store.errors import CorruptError, SchemaError, UsageError
from birdstack.store.snapshot import Snapshot
from birdstack.store.store import Store
from birdstack.store.views import Column, ViewSpec

COUNT = 5
NAMES = tuple(f"embedding/toy:pc{number:02d}" for number in range(COUNT))
WORDS = ["--resamples", 60, "--ship", "stack", "--set", "stack.min_positives=3"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dataset and store; read only."""
    folder: Path = make_stackable(tmp_path_factory.mktemp("stackable"))
    return folder


@pytest.fixture(scope="module")
def ran(made: Path) -> Ran:
    """The verb, once."""
    here = ["--store", made / "store", "--out", made / "run"]
    return birdstack("stack", *here, *WORDS, "--components", COUNT)


@pytest.fixture(scope="module")
def snapshot(made: Path) -> Snapshot:
    """What was stacked."""
    return Store.open(made / "store").snapshot()


@pytest.fixture(scope="module")
def design(ran: Ran, made: Path) -> Design:
    """As it was saved."""
    assert ran.code == 0, ran.err
    return Design.model_validate_json((made / "run" / "stack" / "design.json").read_text())


def test_they_are_columns_behind_those_of_the_views(
    made: Path, design: Design, snapshot: Snapshot
) -> None:
    """Named, with view and recipe in the provenance; the stack was given them."""
    assert design.extra_names[-COUNT:] == NAMES
    told = json.loads((made / "run" / "scores.json").read_text())["provenance"]
    mine = [row for row in told if row["columns"].startswith("x:embedding/")]
    assert [row["columns"] for row in mine] == [f"x:{name}" for name in NAMES]
    assert {row["recipe"] for row in mine} == {snapshot.recipe_of("embedding/toy")}
    shipped = load_stack(made / "run" / "stack")
    assert shipped.extra_names == design.extra_names
    assert shipped.stack is not None
    seen = {design.extra_names[at] for row in shipped.stack.plan.extras for at in row}
    assert seen & set(NAMES)


def test_those_saved_are_those_of_the_rows_with_a_fold(
    made: Path, design: Design, snapshot: Snapshot
) -> None:
    """Bit-equal to a fit on the whole embedding; a row of a fold is made without its fold."""
    fitted = load_stack(made / "run" / "stack").components
    assert fitted is not None
    table, scored = training_table(snapshot, design, components=fitted)
    values = snapshot.matrix({"embedding/toy": ["embedding"]}, recordings=scored.ids).values
    again = fit_components([values], table.window_fold, ComponentsConfig(count=COUNT))
    for name, array in again.arrays().items():
        np.testing.assert_array_equal(fitted.arrays()[name], array)
    expected = again.out_of_fold(values, table.window_fold)
    np.testing.assert_array_equal(table.extra[:, -COUNT:], expected)
    assert np.abs(expected - again.new(values)).max() > 1e-3
    assert table.computed == table.extra_names


def test_the_embedding_is_never_held_whole(
    design: Design, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read some recordings at a time, and gives the same columns."""
    whole = training_table(snapshot, design, components=fit_columns(snapshot, design))[0]
    heights: list[int] = []
    read = Snapshot.matrix

    def watched(self: Snapshot, views: Any, **how: Any) -> Any:
        found = read(self, views, **how)
        if "embedding/toy" in views:
            heights.append(len(found.values))
        return found

    monkeypatch.setattr(design_columns, "_ROWS", 10)
    monkeypatch.setattr(Snapshot, "matrix", watched)
    parts = training_table(snapshot, design, components=fit_columns(snapshot, design))[0]
    assert max(heights) <= 10
    assert sum(heights) == 2 * whole.n_windows
    scale = np.abs(whole.extra[:, -COUNT:]).max()
    np.testing.assert_allclose(parts.extra[:, -COUNT:], whole.extra[:, -COUNT:], atol=1e-4 * scale)


def test_new_windows_are_scored_from_the_saved_arrays(
    made: Path, design: Design, snapshot: Snapshot
) -> None:
    """From the store, and from columns and embeddings as the sound comes in."""
    shipped = load_stack(made / "run" / "stack")
    ids = fresh_recordings(snapshot, design, "test").ids
    tables = [fresh_table(snapshot, design, ids, k, shipped.components) for k in design.fold_models]
    found = np.mean(
        [shipped.predict(t, held=k) for k, t in zip(design.fold_models, tables, strict=True)],
        axis=0,
    )
    path = made / "run" / "windows" / "test" / "shipped.parquet"
    written = pl.read_parquet(path).select(design.classes).to_numpy()
    np.testing.assert_allclose(found, written, atol=1e-6)
    maker = DesignColumns(design, shipped.components)
    by_view = {
        pin.view: {
            name: snapshot.matrix({pin.view: [name]}, recordings=ids).values[:, 0]
            for name in pin.columns
        }
        for pin in design.extras
    }
    heard = snapshot.matrix({"embedding/toy": ["embedding"]}, recordings=ids).values
    n_windows = len(heard)
    extra = maker.columns(by_view, heard, n_windows=n_windows)
    np.testing.assert_allclose(extra, tables[0].extra, rtol=1e-5, atol=1e-5)
    assert np.isfinite(extra[:, -COUNT:]).all()
    without = maker.columns(by_view, n_windows=n_windows)
    assert np.isnan(without[:, -COUNT:]).all()
    np.testing.assert_array_equal(without[:, :-COUNT], extra[:, :-COUNT])


def test_the_saved_arrays_are_needed_and_verified(
    made: Path, design: Design, snapshot: Snapshot, tmp_path: Path
) -> None:
    """No columns without them, none from others, and a flipped bit is told."""
    with pytest.raises(UsageError, match=f"{COUNT} components of 'embedding/toy'"):
        training_table(snapshot, design)
    with pytest.raises(UsageError, match="which are fitted"):
        DesignColumns(design)
    fitted = load_stack(made / "run" / "stack").components
    assert design.components is not None
    fewer = design.components.model_copy(update={"count": COUNT - 1})
    with pytest.raises(SchemaError, match="the design has"):
        DesignColumns(design.model_copy(update={"components": fewer}), fitted)
    folder = Path(shutil.copytree(made / "run" / "stack", tmp_path / "stack"))
    data = bytearray((folder / "components.zip").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "components.zip").write_bytes(data)
    with pytest.raises(CorruptError, match=r"components\.zip: its bytes"):
        load_stack(folder)
    (folder / "components.zip").unlink()
    with pytest.raises(CorruptError, match=r"components\.zip: cannot be read"):
        load_stack(folder)


def test_a_store_of_other_embeddings_is_refused(design: Design, snapshot: Snapshot) -> None:
    """The recipe of the embedding is part of the design."""
    assert design.components is not None
    pin = design.components.model_copy(update={"recipe": "0" * 12})
    with pytest.raises(UsageError, match="view 'embedding/toy' has recipe"):
        design.model_copy(update={"components": pin}).check(snapshot)


def test_off_by_default(made: Path, snapshot: Snapshot) -> None:
    """No column, no file, nothing to fit."""
    design = plan_design(snapshot, DesignConfig())
    assert design.components is None
    assert fit_columns(snapshot, design) is None
    assert not [name for name in design.extra_names if "embedding" in name]
    ran = birdstack("stack", "--store", made / "store", "--out", made / "plain", *WORDS)
    assert ran.code == 0, ran.err
    assert not (made / "plain" / "stack" / "components.zip").exists()


def test_shards_assemble_a_stack_with_components(made: Path, ran: Ran, tmp_path: Path) -> None:
    """Every job makes the same columns, and so finds the same shelf."""
    assert ran.code == 0
    words = ["stack", "--store", made / "store", "--out", tmp_path / "run", *WORDS]
    words += ["--components", COUNT]
    for part in ("1/2", "2/2"):
        assert birdstack(*words, "--shard", part).code == 0
    last = birdstack(*words, "--require-all")
    assert last.code == 0, last.err
    for name in ("oof.parquet", "stack/weights.json", "stack/components.zip"):
        assert (tmp_path / "run" / name).read_bytes() == (made / "run" / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "design.embedding=nobody"], "no embeddings of nobody"),
        (["--components", 100_000], "design.components"),
        (["--components", 1000], "vectors of"),
    ],
)
def test_wrong_usage(made: Path, tmp_path: Path, words: list[object], said: str) -> None:
    """Exit code 2, before anything is fitted or written."""
    here = ["--store", made / "store", "--out", tmp_path / "out", "--components", COUNT]
    found = birdstack("stack", *here, *words)
    assert found.code == 2, found.err
    assert said in found.err
    assert not (tmp_path / "out").exists()


def test_a_bare_table_has_no_embeddings(tmp_path: Path) -> None:
    """Nor places: both are refused, and what to do instead is said."""
    for words, said in ((["--components", 3], "--components 3"), (["--prior", "range"], "--prior")):
        ran = birdstack("stack", "--table", tmp_path / "t.parquet", "--out", tmp_path / "o", *words)
        assert ran.code == 2
        assert said in ran.err
        assert "x:<name>" in ran.err


@pytest.mark.parametrize(
    ("columns", "recipe", "said"),
    [
        ((Column("embedding", dim=8),), {"training": {"model": "f00"}}, "trained on the folds"),
        ((Column("fold", "int16"), Column("embedding", dim=8)), {}, "column 'fold'"),
        ((Column("a", dim=8), Column("b", dim=8)), {}, "2 columns of vectors"),
    ],
)
def test_embeddings_of_fold_models_are_refused(
    columns: tuple[Column, ...], recipe: dict[str, Any], said: str
) -> None:
    """A column of theirs would mean something else in every fold."""
    spec = ViewSpec("embedding/whole", columns, recipe)
    snapshot = SimpleNamespace(
        files=SimpleNamespace(url="s"), version=3, views=["embedding/whole"], spec=lambda _: spec
    )
    with pytest.raises(UsageError, match=said) as no:
        pin_components(cast("Snapshot", snapshot), ["whole"], "", 4)
    assert "design.embedding" in no.value.remedy


def test_the_first_backbone_with_embeddings_serves(snapshot: Snapshot) -> None:
    """One without them is passed over; a named one goes first."""
    found = pin_components(snapshot, ["lost", "toy"], "", 4)
    assert found is not None
    assert found.view == "embedding/toy"
    with pytest.raises(UsageError, match="there are embeddings of toy"):
        pin_components(snapshot, ["toy"], "lost", 4)


def test_a_report_reads_them_again(made: Path, design: Design, snapshot: Snapshot) -> None:
    """What importance is measured on equals what the stack saw."""
    fitted = load_stack(made / "run" / "stack").components
    table, _ = training_table(snapshot, design, components=fitted)
    run = read_run(made / "run")
    domain = run.domains["focal"]
    found = extra_columns(run, domain, np.ones(len(domain.rows), dtype=bool))
    assert found.names == design.extra_names
    rows = np.asarray(table.domain)[table.recording] == "focal"
    np.testing.assert_array_equal(found.values, table.extra[rows])


def test_export_refuses_what_a_bundle_cannot_make(made: Path, ran: Ran, tmp_path: Path) -> None:
    """Before any network is converted, with the stack that can be exported."""
    assert ran.code == 0
    found = birdstack("export", made / "run", "--out", tmp_path / "bundle")
    assert found.code == 2, found.out + found.err
    assert f"{COUNT} components of 'embedding/toy'" in found.err
    assert "design.components=0" in found.err
    assert not (tmp_path / "bundle").exists()
