"""`birdstack export`: what it writes and checks, and when it writes nothing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.command import birdstack
from support.small_bundles import SETTINGS, SmallRun, done, small_run

from birdstack.embeddings.linear_head import LinearHead
from birdstack.embeddings.model_folder import load_model, save_heads, seal
from birdstack.stacking import bundle_networks
from birdstack.stacking.bundle import load_bundle
from birdstack.stacking.export_check import EXACT, ROUGH, ExportFigures


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A stack of whistles; read only."""
    return small_run(tmp_path_factory.mktemp("made"))


@pytest.fixture
def run(made: SmallRun, tmp_path: Path) -> Path:
    """A run of one's own."""
    return Path(shutil.copytree(made.run, tmp_path / "run"))


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings leak in from where the tests run."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("BIRDSTACK_") and "TEST" not in n]:
        monkeypatch.delenv(name)


def _figures(**changes: Any) -> ExportFigures:
    plain: dict[str, Any] = {
        "engine": "openvino",
        "domain": "test",
        "recordings": 8,
        "windows": 384,
        "classes": 14,
        "auc_exported": 0.75,
        "auc_store": 0.75,
        "auc_in_memory": None,
        "against": "store",
        "difference": 0.0,
        "limit": EXACT,
        "largest_value_difference": 0.0,
    }
    return ExportFigures(**{**plain, **changes})


# --- the consistency check -----------------------------------------------------------------------


def test_the_figures_of_the_check_stand_in_the_bundle(run: Path, tmp_path: Path) -> None:
    """Recordings with truth, both AUCs, the difference and its limit."""
    ran = done(birdstack("export", run, "--out", tmp_path / "bundle", "--json"))
    check = load_bundle(tmp_path / "bundle").facts.check
    assert check is not None
    assert (check["domain"], check["recordings"], check["passed"]) == ("simulated", 3, True)
    assert check["difference"] < EXACT
    assert check["auc_exported"] == pytest.approx(check["auc_store"], abs=1e-6)
    assert 0.5 < check["auc_exported"] < 1, "an AUC of 1 would hide a difference"
    assert ran.events[-1]["check"]["difference"] == check["difference"]


def test_the_check_takes_test_soundscapes_where_their_truth_is_known(
    made: SmallRun, tmp_path: Path
) -> None:
    """All fold models then, averaged, as in a prediction."""
    rows = pl.read_parquet(made.run / "windows" / "test" / "rows.parquet")
    stems = rows["recording_id"].str.extract(r"([^/]+)\.ogg$")
    truth = pl.DataFrame(
        {
            "row_id": [f"{s}_{e:.0f}" for s, e in zip(stems, rows["end_s"], strict=True)],
            **{name: [1, 0] * 4 for name in ("bird0", "bird1", "bird2")},
        }
    )
    truth.write_csv(tmp_path / "truth.csv")
    run = shutil.copytree(made.run, tmp_path / "run")
    home = run / "windows" / "test"
    keys = rows.select("recording_id", "window")
    labels = truth.select(pl.exclude("row_id").cast(pl.Int8))
    keys.hstack(labels).write_parquet(home / "truth.parquet")
    done(birdstack("export", run, "--out", tmp_path / "bundle"))
    check = load_bundle(tmp_path / "bundle").facts.check
    assert check is not None
    assert (check["domain"], check["recordings"], check["windows"]) == ("test", 2, 8)
    assert check["difference"] < EXACT


def test_a_bundle_that_predicts_otherwise_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads of the wrong folds: exit code 1, and nothing left in place."""
    real = bundle_networks._heads

    def turned(folder: Path, folds: Any) -> dict[int, LinearHead]:
        heads = real(folder, folds)
        return {fold: heads[(fold + 1) % len(heads)] for fold in heads}

    monkeypatch.setattr(bundle_networks, "_heads", turned)
    ran = birdstack("export", run, "--out", tmp_path / "bundle", "--json")
    assert ran.code == 1
    assert ran.events[-1]["check"]["passed"] is False
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_failed_export_leaves_the_earlier_bundle(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte."""
    done(birdstack("export", run, "--out", tmp_path / "bundle"))
    before = (tmp_path / "bundle" / "bundle.json").read_bytes()
    monkeypatch.setattr(
        "birdstack.stacking.run_export.check_export", lambda *_, **__: _figures(difference=1.0)
    )
    assert birdstack("export", run, "--out", tmp_path / "bundle").code == 1
    assert (tmp_path / "bundle" / "bundle.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"difference": 9e-7}, True),
        ({"difference": 1.1e-6}, False),
        ({"difference": 9e-4, "limit": ROUGH, "auc_exported": 0.7509}, True),
        ({"difference": 1.1e-3, "limit": ROUGH, "auc_exported": 0.7511}, False),
        ({"against": "in_memory", "auc_in_memory": 0.7504, "auc_exported": 0.7504}, True),
        ({"against": "in_memory", "auc_in_memory": 0.76, "auc_exported": 0.76}, False),
        ({"difference": float("nan")}, False),
    ],
)
def test_limits_of_the_check(changes: dict[str, Any], passed: bool) -> None:
    """1e-6 in float32, 1e-3 in bfloat16, and never further than that from the store."""
    assert _figures(**changes).passed is passed


def test_another_engines_sums_are_held_to_that_engine(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the store's scores are a last digit off, the networks themselves are asked."""
    from birdstack.stacking import export_check

    real, calls = export_check.macro_auc, []

    def nudged(scores: np.ndarray, truth: np.ndarray) -> Any:
        found = real(scores, truth)
        calls.append(found.value)
        if len(calls) == 2:  # that of the store's views
            return type(found)(found.value + 1e-5, found.per_class)
        return found

    monkeypatch.setattr(export_check, "macro_auc", nudged)
    done(birdstack("export", run, "--out", tmp_path / "bundle", "--json"))
    check = load_bundle(tmp_path / "bundle").facts.check
    assert check is not None
    assert (check["against"], check["passed"]) == ("in_memory", True)
    assert check["auc_in_memory"] == pytest.approx(check["auc_exported"], abs=1e-9)


def test_without_audio_nothing_can_be_checked(made: SmallRun, tmp_path: Path) -> None:
    """Wrong usage, unless one asks for no check; the bundle then says so."""
    away = made.store.parent / "gone"
    places = [(made.birds, away / "birds"), (made.store / "simulated", away / "simulated")]
    away.mkdir()
    for here, there in places:
        here.rename(there)
    try:
        ran = birdstack("export", made.run, "--out", tmp_path / "bundle")
        assert (ran.code, "nothing can be checked" in ran.err) == (2, True)
        ran = done(birdstack("export", made.run, "--out", tmp_path / "bundle", "--no-check"))
        assert "not checked" in ran.err
    finally:
        for here, there in places:
            there.rename(here)
    assert load_bundle(tmp_path / "bundle").facts.check is None


# --- what is exported ----------------------------------------------------------------------------


def test_only_what_the_columns_need_is_in_the_bundle(made: SmallRun, tmp_path: Path) -> None:
    """The acoustic groups of the design, as their recipes say, and place."""
    done(birdstack("export", made.run, "--out", tmp_path / "bundle"))
    facts = load_bundle(tmp_path / "bundle").facts
    (part,) = facts.acoustic
    assert set(part.views) == {"acoustic/spectral", "acoustic/wave"}
    assert set(part.config.groups) == {"spectral", "wave"}
    assert facts.place is not None
    assert [network.config.name for network in facts.networks] == ["toy"]
    assert facts.networks[0].folds == (0, 1, 2)


def test_settings_of_today_do_not_change_what_was_heard(made: SmallRun, tmp_path: Path) -> None:
    """Sample rate and frames come from the store's recipes, not from the settings at hand."""
    words = ["--set", "acoustic.n_fft=1024", "--set", "audio.sample_rate_hz=16000"]
    done(birdstack("export", made.run, "--out", tmp_path / "bundle", *words))
    facts = load_bundle(tmp_path / "bundle").facts
    assert facts.audio.sample_rate_hz == 32_000
    assert facts.acoustic[0].config.n_fft == 2048


def test_a_bundle_is_replaced_but_nothing_else(run: Path, tmp_path: Path) -> None:
    """A folder with other files is refused before any work."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    ran = birdstack("export", run, "--out", tmp_path / "mine")
    assert ran.code == 2
    assert "holds files, but no bundle" in ran.err
    for _ in range(2):
        done(birdstack("export", run, "--out", tmp_path / "bundle", "--no-check"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "mine", "run"]


# --- runs that cannot be exported ----------------------------------------------------------------


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    """Wrong usage."""
    ran = birdstack("export", tmp_path, "--out", tmp_path / "bundle")
    assert ran.code == 2
    assert "run.json" in ran.err


def test_a_stack_of_a_bare_table_has_no_networks(run: Path, tmp_path: Path) -> None:
    """And is told so."""
    told = json.loads((run / "run.json").read_text("utf-8"))
    (run / "run.json").write_text(json.dumps({**told, "kind": "table", "store": None}), "utf-8")
    ran = birdstack("export", run, "--out", tmp_path / "bundle")
    assert ran.code == 2
    assert "bare table" in ran.err


def test_a_damaged_stack_is_refused(run: Path, tmp_path: Path) -> None:
    """Before any network is converted."""
    path = run / "stack" / "weights.json"
    path.write_text(path.read_text("utf-8").replace("0", "1", 1), "utf-8")
    ran = birdstack("export", run, "--out", tmp_path / "bundle")
    assert ran.code == 1
    assert "weights.json" in ran.err
    assert not (tmp_path / "bundle").exists()


def test_heads_that_were_fitted_anew_are_not_taken_for_the_old(
    made: SmallRun, run: Path, tmp_path: Path
) -> None:
    """The stack learnt from the logits of one model; another of that name will not do."""
    store = Path(shutil.copytree(made.store, tmp_path / "store"))
    told = json.loads((run / "run.json").read_text("utf-8"))
    (run / "run.json").write_text(json.dumps({**told, "store": str(store)}), "utf-8")
    (folder,) = [path for path in (store / "models" / "toy").iterdir() if path.is_dir()]
    model = load_model(folder)
    heads = {k: LinearHead(h.weight + 1, h.bias) for k, h in model.heads().items()}
    save_heads(folder, heads)
    seal(
        folder,
        model.config,
        "frozen",
        classes=model.classes,
        folds=model.folds,
        training=model.training,
        trained_on=model.trained_on(),
    )
    ran = birdstack("export", run, "--out", tmp_path / "bundle")
    assert ran.code == 1
    assert f"no model {model.fingerprint}" in ran.err


def test_a_store_with_other_views_is_refused(made: SmallRun, tmp_path: Path) -> None:
    """Views are pinned to recipes; the run keeps its snapshot, so a later hearing is no matter."""
    store = Path(shutil.copytree(made.store, tmp_path / "store"))
    run = Path(shutil.copytree(made.run, tmp_path / "run"))
    told = json.loads((run / "run.json").read_text("utf-8"))
    (run / "run.json").write_text(json.dumps({**told, "store": str(store)}), "utf-8")
    words = [*SETTINGS, "--set", "acoustic.n_fft=1024"]
    done(birdstack("features", "--store", store, "--backbones", "toy", *words))
    done(birdstack("export", run, "--out", tmp_path / "bundle", "--no-check"))
    later = {**told, "store": str(store), "pin": None, "snapshot": -1}
    from birdstack.store.store import Store

    later["snapshot"] = Store.open(store).snapshot().version
    (run / "run.json").write_text(json.dumps(later), "utf-8")
    ran = birdstack("export", run, "--out", tmp_path / "other")
    assert ran.code == 2
    assert "recipe" in ran.err
