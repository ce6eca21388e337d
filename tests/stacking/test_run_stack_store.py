"""`birdstack stack` of a store: its design, what it writes, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.command import Ran, birdstack
from support.stacked import FOLDS, QUICK, make_stackable, write_truth

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.design import Design, DesignConfig, plan_design
from birdstack.stacking.design_table import fresh_recordings, fresh_table, training_table
from birdstack.stacking.run_folder import read_run
from birdstack.stacking.stack_folder import load_stack
from birdstack.store.errors import LeakError, UsageError
from birdstack.store.labels import label_matrix
from birdstack.store.store import Store
from birdstack.store.table_writer import write_tables


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dataset and store; tests that change them take a copy."""
    folder: Path = make_stackable(tmp_path_factory.mktemp("stackable"))
    return folder


@pytest.fixture(scope="module")
def truth(made: Path) -> Path:
    """Labels of the test soundscapes."""
    snapshot = Store.open(made / "store").snapshot()
    design = plan_design(snapshot, DesignConfig(views=()))
    rows = fresh_recordings(snapshot, design, "test")
    counts = snapshot.covered("embedding/toy")
    ids = [f"{Path(i).stem}_{5 * (w + 1)}" for i in rows.ids for w in range(counts[i].windows)]
    write_truth(made / "truth.csv", ids, list(design.classes))
    return made / "truth.csv"


@pytest.fixture(scope="module")
def ran(made: Path, truth: Path) -> Ran:
    """The verb, once."""
    return birdstack(
        "stack", "--store", made / "store", "--out", made / "run", "--truth", truth,
        "--resamples", 100, "--ship", "stack", "--set", "stack.min_positives=3", "--json",
    )  # fmt: skip


def test_the_table_is_the_views_and_labels_of_the_snapshot(made: Path) -> None:
    """Scores, extra columns and labels equal what the store says, row by row."""
    snapshot = Store.open(made / "store").snapshot()
    design = plan_design(snapshot, DesignConfig())
    table, scored = training_table(snapshot, design)
    assert not scored.lacking
    logits = snapshot.view("logits/toy", recordings=scored.ids).collect()
    np.testing.assert_array_equal(table.logits[0], logits.select(design.classes).to_numpy())
    np.testing.assert_array_equal(table.window_fold, logits["fold"].to_numpy())
    wave = snapshot.view("acoustic/wave", recordings=scored.ids).collect()
    names = [name.removeprefix("acoustic/wave:") for name in table.extra_names]
    np.testing.assert_array_equal(table.extra, wave.select(names).to_numpy())
    keys = logits.select("recording_id", "window", "start_s", "end_s")
    labels = label_matrix(keys, snapshot.table("labels"), list(design.classes))
    np.testing.assert_array_equal(table.truth, labels)
    assert set(table.domain or ()) == {"focal", "simulated"}
    assert table.judged.sum() == sum(
        windows
        for windows, domain in zip(table.windows, table.domain or (), strict=True)
        if domain == "simulated"
    )


def test_it_writes_a_run_folder(ran: Ran, made: Path) -> None:
    """Every domain has rows, labels and scores; figures can be computed again from them."""
    assert ran.code == 0, ran.err
    run = read_run(made / "run")
    assert run["store"] == str(made / "store")
    assert set(run["domains"]) == {"focal", "simulated", "test"}
    report = json.loads((made / "run" / "scores.json").read_text())
    for name, summary in run["domains"].items():
        folder = made / "run" / "windows" / name
        rows = pl.read_parquet(folder / "rows.parquet")
        assert rows.height == summary["windows"]
        values = pl.read_parquet(folder / "truth.parquet").select(run["classes"])
        labels = values.fill_null(-1).to_numpy().astype(np.int8)
        for score in ("stack", "mean_kernel", "chosen"):
            scores = pl.read_parquet(folder / f"{score}.parquet").select(run["classes"]).to_numpy()
            said = next(r for r in report["domains"][name]["rows"] if r["name"] == score)
            found = macro_auc(scores, labels).value
            assert found == pytest.approx(said["macro_auc"]["value"], abs=1e-9)
    assert report["provenance"][0]["view"] == "logits/toy"


def test_test_windows_are_scored_by_each_fold_model_and_averaged(ran: Ran, made: Path) -> None:
    """The saved stack and its design give the same scores from the store again."""
    assert ran.code == 0, ran.err
    snapshot = Store.open(made / "store").snapshot()
    text = (made / "run" / "stack" / "design.json").read_text()
    design = Design.model_validate_json(text)
    assert design.fold_models == tuple(range(FOLDS))
    shipped = load_stack(made / "run" / "stack")
    ids = fresh_recordings(snapshot, design, "test").ids
    found = np.mean(
        [
            shipped.predict(fresh_table(snapshot, design, ids, k), held=k)
            for k in design.fold_models
        ],
        axis=0,
    )
    folder = made / "run" / "windows" / "test"
    written = pl.read_parquet(folder / "shipped.parquet").select(design.classes).to_numpy()
    np.testing.assert_allclose(found, written, atol=1e-6)


def test_the_snapshot_is_pinned_and_an_earlier_pin_let_go(made: Path, tmp_path: Path) -> None:
    """One pin for each run, of the snapshot it was made from."""
    store = Path(shutil.copytree(made / "store", tmp_path / "store"))
    words = ["stack", "--store", store, "--out", tmp_path / "mine", "--ship", "control"]
    words += ["--resamples", 60]
    assert birdstack(*words).code == 0
    version = Store.open(store).snapshot().version
    assert Store.open(store).pins()[f"stack-mine-{version}"] == version
    scores = Store.open(store).snapshot().table("scores")
    write_tables(Store.open(store), {("scores", "x/y"): scores}, operation="score", info={})
    assert birdstack(*words).code == 0
    later = Store.open(store).snapshot().version
    assert later > version
    pins = Store.open(store).pins()
    assert pins[f"stack-mine-{later}"] == later
    assert f"stack-mine-{version}" not in pins


def test_a_design_refuses_a_store_of_other_views_or_classes(made: Path) -> None:
    """The message names the view, or the classes."""
    snapshot = Store.open(made / "store").snapshot()
    design = plan_design(snapshot, DesignConfig())
    other = design.model_copy(update={"classes": (*design.classes, "wren")})
    with pytest.raises(UsageError, match=r"lacks \['wren'\]"):
        other.check(snapshot)
    pin = design.backbones[0].model_copy(update={"recipe": "0" * 12})
    with pytest.raises(UsageError, match="view 'logits/toy' has recipe"):
        design.model_copy(update={"backbones": (pin,)}).check(snapshot)
    with pytest.raises(UsageError, match="no logits of 'toyy'"):
        plan_design(snapshot, DesignConfig(backbones=("toyy",)))
    with pytest.raises(UsageError, match="no view 'acustic'"):
        plan_design(snapshot, DesignConfig(views=("acustic",)))


def test_a_split_that_moved_is_a_leak(made: Path, tmp_path: Path) -> None:
    """Logits that were honest under the old folds are refused under the new ones."""
    store = Store.open(shutil.copytree(made / "store", tmp_path / "store"))
    folds = store.snapshot().table("folds")
    moved = folds.with_columns((pl.col("fold") + 1) % FOLDS)
    key = store.snapshot().state.active["folds"]
    write_tables(store, {("folds", key): moved}, operation="split", info={})
    snapshot = store.snapshot()
    design = plan_design(snapshot, DesignConfig())
    with pytest.raises(LeakError, match="fold"):
        training_table(snapshot, design)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--store", "nowhere"], 2, "nowhere"),
        (["--at", "999"], 2, "999"),
        (["--backbones", "lite7"], 2, "lite7"),
        (["--views", "acustic"], 2, "acustic"),
        (["--truth", "nowhere.csv"], 2, "nowhere.csv"),
        (["--set", "stack.leaves=1"], 2, "stack.leaves"),
    ],
)
def test_wrong_usage(made: Path, tmp_path: Path, words: list[str], code: int, said: str) -> None:
    """Exit code 2, before anything is fitted or written."""
    store = [] if "--store" in words else ["--store", made / "store"]
    found = birdstack("stack", *store, "--out", tmp_path / "out", *words)
    assert found.code == code, found.err
    assert said in found.err
    assert not (tmp_path / "out").exists()


def test_shards_and_a_last_command_give_the_same_stack(made: Path, tmp_path: Path) -> None:
    """Layers fitted by jobs are assembled; without all of them a strict job refuses."""
    words = ["stack", "--store", made / "store", "--resamples", 60, "--ship", "stack"]
    words += ["--set", "stack.min_positives=3"]
    whole, parts = [*words, "--out", tmp_path / "whole"], [*words, "--out", tmp_path / "parts"]
    assert birdstack(*whole).code == 0
    first = birdstack(*parts, "--shard", "1/2")
    assert first.code == 0, first.err
    assert "fitted" in first.out
    assert not (tmp_path / "parts" / "run.json").exists()
    strict = birdstack(*parts, "--require-all")
    assert strict.code == 2
    assert "--shard 2/2" in strict.err
    assert birdstack(*parts, "--shard", "2/2").code == 0
    assert birdstack(*parts, "--require-all").code == 0
    for name in ("oof.parquet", "stack/weights.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    both = birdstack(*parts, "--shard", "1/2", "--classes", "bird0")
    assert both.code == 2
    assert birdstack(*parts, "--shard", "3/2").code == 2
    wrong = birdstack(*parts, "--classes", "bird00")
    assert wrong.code == 2
    assert "bird0" in wrong.err


def test_a_copy_of_a_training_recording_is_nothing_to_judge_by(
    made: Path, truth: Path, tmp_path: Path
) -> None:
    """The fold models have met it; it is neither scored nor judged by."""
    birds = Path(shutil.copytree(made / "birds", tmp_path / "birds"))
    clip = min((birds / "train_audio" / "bird0").iterdir())
    shutil.copy(clip, birds / "test_soundscapes" / "night_9.ogg")
    for words in (
        ("ingest", birds, "--store", tmp_path / "store", "--folds", FOLDS),
        ("features", "--store", tmp_path / "store", *QUICK),
        ("stack", "--store", tmp_path / "store", "--out", tmp_path / "out", "--truth", truth),
    ):
        ran = birdstack(*words)
        assert ran.code in {0, 3}, ran.err
    rows = pl.read_parquet(tmp_path / "out" / "windows" / "test" / "rows.parquet")
    judged = {Path(name).name for name in rows["recording_id"]}
    assert judged == {"night_0.ogg", "night_1.ogg"}
