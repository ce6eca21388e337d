"""`birdstack features` with networks, on real files: views, scores, interruptions, leaks."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.birds import make_birds
from support.command import Ran, birdstack

from birdstack.embeddings.fake import FakeBackbone
from birdstack.embeddings.linear_head import LinearHead
from birdstack.embeddings.model_folder import load_model, save_heads, seal
from birdstack.features.audio import AudioSource
from birdstack.stacking import run_networks
from birdstack.store.store import Store
from birdstack.store.table_writer import write_tables
from birdstack.store.trained import trained_frame

TOYS = [{"name": "toy", "kind": "fake"}, {"name": "other", "kind": "fake", "seed": 1}]
DEFINED = ["--set", f"networks.define={json.dumps(TOYS)}"]
FEW = ["--set", 'acoustic.groups=["wave"]', "--set", "views.place=false"]
QUICK = [*DEFINED, *FEW, "--set", "run.unit_recordings=4", "--executor", "serial"]
FOLD_VIEWS = ["logits/toy.m0", "logits/toy.m1", "logits/toy.m2"]
VIEWS = ["acoustic/wave", "embedding/toy", "logits/toy", *FOLD_VIEWS]


def features(*words: object, backbones: str | None = "toy") -> Ran:
    """Hear with the toy network and one acoustic group."""
    named = [] if backbones is None else ["--backbones", backbones]
    return birdstack("features", *words, *QUICK, *named)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Ran]:
    """A dataset, the store made of it, and what was said; tests that change them take a copy."""
    folder = tmp_path_factory.mktemp("finished")
    birds = make_birds(folder / "birds", soundscapes=2)
    ran = features(birds, "--store", folder / "store", "--folds", 3, "--json")
    assert ran.code == 0, ran.err
    return birds, folder / "store", ran


@pytest.fixture
def birds(finished: tuple[Path, Path, Ran], tmp_path: Path) -> Path:
    """A dataset of one's own."""
    return Path(shutil.copytree(finished[0], tmp_path / "birds"))


@pytest.fixture
def store(finished: tuple[Path, Path, Ran], tmp_path: Path) -> Path:
    """A filled store of one's own."""
    return Path(shutil.copytree(finished[1], tmp_path / "store"))


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings leak in from where the tests run."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("BIRDSTACK_") and "TEST" not in n]:
        monkeypatch.delenv(name)


def _rows(store: Path, view: str, recipe: str | None = None) -> pl.DataFrame:
    return Store.open(store).snapshot().view(view, recipe=recipe).collect()


def _edit(birds: Path, old: str, new: str) -> None:
    table = birds / "train_metadata.csv"
    text = table.read_text("utf-8")
    assert old in text
    table.write_text(text.replace(old, new), "utf-8")


def _resplit(birds: Path, store: Path) -> dict[str, int]:
    """Put another split in force, and hear nothing."""
    before = dict(Store.open(store).table("folds").select("recording_id", "fold").iter_rows())
    ran = birdstack("ingest", birds, "--store", store, "--folds", 3, "--set", "folds.seed=5")
    assert ran.code == 0, ran.err
    after = dict(Store.open(store).table("folds").select("recording_id", "fold").iter_rows())
    assert after != before, "the other seed must move recordings, or nothing is tested"
    return after


def _counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Recordings that are decoded from now on."""
    opened: list[str] = []
    real = AudioSource.open

    def open_(self: AudioSource, recording: Any) -> Any:
        opened.append(recording.recording_id)
        return real(self, recording)

    monkeypatch.setattr(AudioSource, "open", open_)
    return opened


def _interrupt_at(
    monkeypatch: pytest.MonkeyPatch, owner: type, method: str, call: int
) -> Callable[[], None]:
    """Ctrl-C in the middle of the `call`-th call; returns what takes that back."""
    real, calls = getattr(owner, method), []

    def once(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(owner, method, once)
    return lambda: monkeypatch.setattr(owner, method, real)


# --- what comes out -----------------------------------------------------------------------------


def test_features_end_with_embeddings_and_logits(finished: tuple[Path, Path, Ran]) -> None:
    """One command: sound, embeddings, heads, out-of-fold logits."""
    _, store, ran = finished
    assert Store.open(store).snapshot().views == VIEWS
    embeddings, labelled = _rows(store, "embedding/toy"), _rows(store, "logits/toy")
    assert embeddings.height == 12 * 2 + 2 * 4  # 7.6 s are two windows, 19 s are four
    assert labelled.height == 24
    assert (labelled["fold"] == labelled["model_fold"]).all()
    assert sorted(labelled["fold"].unique()) == [0, 1, 2]
    for fold, view in enumerate(FOLD_VIEWS):
        rows = _rows(store, view)
        assert rows["recording_id"].str.starts_with("unlabeled_soundscapes/").all()
        assert (rows.height, rows["model_fold"].unique().to_list()) == (8, [fold])
    (fitted,) = ran.named("fitted")
    assert (fitted["folds"], fitted["recordings"], fitted["classes"]) == (3, 12, 3)


def test_scores_are_stored_and_exported(finished: tuple[Path, Path, Ran], tmp_path: Path) -> None:
    """Macro AUC over windows and recordings, as it was printed."""
    _, store, ran = finished
    out = tmp_path / "scores.parquet"
    assert birdstack("store", "export", "scores", "--out", out, "--store", store).code == 0
    scores = pl.read_parquet(out)
    assert scores.select("view", "metric", "level").rows() == [
        ("logits/toy", "macro_auc", "window"),
        ("logits/toy", "macro_auc", "recording"),
    ]
    assert scores["recipe"][0] == Store.open(store).snapshot().recipe_of("logits/toy")
    assert [event["value"] for event in ran.named("scored")] == scores["value"].to_list()
    assert min(scores["value"].to_list()) > 0.9, "whistles at three pitches are easy"
    assert scores["windows"].to_list() == [24, 24]


def test_events_are_json_and_end_with_finished(finished: tuple[Path, Path, Ran]) -> None:
    """For programs: what was ingested, heard, fitted, scored, in that order."""
    _, store, ran = finished
    names = [event["event"] for event in ran.events]
    order = ["ingested", "started", "fitted", "scored", "finished"]
    assert [name for name in dict.fromkeys(names) if name in order] == order
    end = ran.events[-1]
    assert (end["event"], end["exit_code"], end["heard"]) == ("finished", 0, 14)
    assert end["version"] == Store.open(store).snapshot().version


def test_a_second_run_does_nothing(
    finished: tuple[Path, Path, Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No sound, no fit, no commit; the scores are shown again."""
    birds, store, ran = finished
    opened, version = _counting(monkeypatch), Store.open(store).snapshot().version
    monkeypatch.setattr(run_networks, "score_view", lambda *_: pytest.fail("scored again"))
    again = features(birds, "--store", store, "--json")
    assert again.code == 0
    assert again.events[-1]["already"] == 14
    assert not again.named("fitted")
    assert opened == []
    assert Store.open(store).snapshot().version == version
    assert again.named("scored") == ran.named("scored")
    people = features("--store", store)
    assert "nothing to do" in people.out
    assert "logits/toy" in people.out
    assert "macro AUC" in people.out


def test_training_by_name_is_the_same_as_hearing(finished: tuple[Path, Path, Ran]) -> None:
    """`train` of a frozen backbone finds its heads fitted."""
    _, store, _ = finished
    version = Store.open(store).snapshot().version
    ran = birdstack("train", "toy", *DEFINED, "--store", store, "--json")
    assert ran.code == 0, ran.err
    assert ran.events[-1]["already"] == 14
    assert not ran.named("fitted")
    assert Store.open(store).snapshot().version == version


# --- which networks hear --------------------------------------------------------------------------


def test_none_hears_with_no_network(birds: Path) -> None:
    """`--backbones none`."""
    assert features(birds, "--store", "s", backbones="none").code == 0
    assert Store.open("s").snapshot().views == ["acoustic/wave"]


def test_a_group_hears_with_no_network_unless_one_is_named(birds: Path) -> None:
    """`--group` asks for these columns only."""
    words = ["--store", "s", *DEFINED, "--executor", "serial"]
    named = ["--set", 'networks.backbones=["toy"]']
    assert birdstack("features", birds, *words, *named, "--group", "wave").code == 0
    assert Store.open("s").snapshot().views == ["acoustic/wave"]
    ran = birdstack("features", *words, "--group", "indices", "--backbones", "toy", "--json")
    assert ran.code == 0
    views = Store.open("s").snapshot().views
    assert {"acoustic/indices", "embedding/toy", "logits/toy"} <= set(views)


def test_several_networks_each_have_their_views(store: Path) -> None:
    """The second is added to what is there; the first is not heard again."""
    before = _rows(store, "embedding/toy")
    ran = features("--store", store, "--json", backbones="toy,other")
    assert ran.code == 0
    assert [event["backbone"] for event in ran.named("fitted")] == ["other"]
    assert {event["view"] for event in ran.named("scored")} == {"logits/toy", "logits/other"}
    assert _rows(store, "embedding/toy").equals(before)
    added = {p.view for p in Store.open(store).log.head().parts.values()} - set(VIEWS)
    assert {"embedding/other", "logits/other", "logits/other.m2"} <= added


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--backbones", "toyy"], "did you mean 'toy'"),
        (["--backbones", "toy,lite00"], "did you mean 'lite0'"),
        (["--set", 'networks.backbones=["qqqq"]'], "known: lite0"),
        (["--backbones", "lite0-tuned"], "birdstack train lite0-tuned"),
        (["--backbones", "mist"], "efficientnet_b0"),
        (["--backbones", "narrow"], "n_fft"),
        (["--backbones", "lost"], "no/such.safetensors"),
        (["--backbones", "packed"], "packaged"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_cannot_work_is_refused_before_any_sound(
    store: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, the nearest name or the remedy, nothing heard and nothing written."""
    defined = [
        *TOYS,
        {"name": "mist", "model": "efficentnet_b0", "weights": "random"},
        {"name": "narrow", "weights": "random", "mel": {"n_fft": 65536, "sample_rate_hz": 8000,
                                                         "fmax_hz": 4000}},
        {"name": "lost", "weights": "no/such.safetensors"},
        {"name": "packed", "model": "resnet18"},
    ]  # fmt: skip
    opened, version = _counting(monkeypatch), Store.open(store).snapshot().version
    further = [
        "--set",
        f"networks.define={json.dumps(defined)}",
        "--set",
        'acoustic.groups=["mfcc"]',
    ]
    ran = birdstack("features", "--store", store, *further, *words)
    assert ran.code == 2, (ran.out, ran.err)
    assert said in ran.err
    assert opened == []
    assert Store.open(store).snapshot().version == version


def test_a_name_that_stands_twice_is_refused(store: Path) -> None:
    """Two networks cannot fill one view."""
    assert features("--store", store, "--set", 'networks.backbones=["toy","toy"]').code == 2
    twice = json.dumps([TOYS[0], TOYS[0]])
    ran = birdstack("features", "--store", store, "--set", f"networks.define={twice}")
    assert ran.code == 2
    assert "stands twice" in ran.err


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ('{"name": "toy", "nonsense": 1}', "[0].nonsense: Extra inputs are not permitted"),
        ('{"name": "toy", "mode": "given", "weights": "random"}', "mode given needs a checkpoint"),
        ('{"name": "toy", "mode": "full", "kind": "onnx"}', "kind onnx cannot be trained"),
    ],
)
def test_a_definition_is_told_what_is_wrong_inside(store: Path, entry: str, told: str) -> None:
    """A list written as JSON is refused by the place inside it, not as a text that is no list."""
    ran = birdstack("features", "--store", store, "--set", f"networks.define=[{entry}]")
    assert ran.code == 2
    assert told in ran.err


@pytest.mark.slow
def test_processes_give_the_same_numbers(birds: Path, finished: tuple[Path, Path, Ran]) -> None:
    """Networks, heads and the guard travel to other processes."""
    words = [*DEFINED, *FEW, "--set", "run.unit_recordings=4", "--backbones", "toy"]
    many = ["--executor", "processes", "--workers", 2]
    ran = birdstack("features", birds, "--store", "s", "--folds", 3, *words, *many, "--json")
    assert ran.code == 0, ran.err
    for view in VIEWS:
        assert _rows(Path("s"), view).equals(_rows(finished[1], view)), view
    assert ran.named("scored") == finished[2].named("scored")


# --- interruptions ----------------------------------------------------------------------------------


def test_stopped_while_hearing_it_goes_on(
    birds: Path, finished: tuple[Path, Path, Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C keeps what was finished, writes no logits yet; the next run does the rest."""
    mend = _interrupt_at(monkeypatch, FakeBackbone, "run", 6)
    first = features(birds, "--store", "s", "--folds", 3, "--json")
    assert first.code == 130
    assert (first.events[-1]["event"], first.events[-1]["exit_code"]) == ("finished", 130)
    heard = set(Store.open("s").snapshot().covered("embedding/toy"))
    assert 0 < len(heard) < 14
    assert not Store.open("s").snapshot().table("trained").height
    mend()
    opened = _counting(monkeypatch)
    second = features("--store", "s", "--json")
    assert second.code == 0, second.err
    assert second.events[-1]["already"] == len(heard)
    assert not heard & set(opened)
    for view in VIEWS:
        assert _rows(Path("s"), view).equals(_rows(finished[1], view)), view


def test_stopped_while_writing_logits_it_goes_on(
    birds: Path, finished: tuple[Path, Path, Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 130, the heads kept; the next run hears no sound and fits nothing."""
    mend = _interrupt_at(monkeypatch, LinearHead, "logits", 6)
    first = features(birds, "--store", "s", "--folds", 3, "--json")
    assert first.code == 130
    assert first.events[-1]["exit_code"] == 130
    assert not first.named("scored")
    held = len(Store.open("s").snapshot().covered("logits/toy"))
    assert 0 < held < 12
    mend()
    opened = _counting(monkeypatch)
    second = features("--store", "s", "--json")
    assert second.code == 0, second.err
    assert opened == []
    assert not second.named("fitted")
    for view in VIEWS:
        assert _rows(Path("s"), view).equals(_rows(finished[1], view)), view
    assert second.named("scored") == finished[2].named("scored")


# --- what has changed -------------------------------------------------------------------------------


def test_a_changed_label_fits_heads_anew(birds: Path, store: Path) -> None:
    """Another recipe beside the old one, another score; no sound is heard."""
    before, rows = Store.open(store).snapshot().recipe_of("logits/toy"), _rows(store, "logits/toy")
    _edit(birds, "bird0,\"['bird1']\"", "bird0,[]")
    ran = features(birds, "--store", store, "--json")
    assert ran.code == 0, ran.err
    assert ran.events[-1]["heard"] == 0
    assert len(ran.named("fitted")) == 1
    assert Store.open(store).snapshot().recipe_of("logits/toy") != before
    assert _rows(store, "logits/toy", before).equals(rows)
    assert len({row["split"] for row in Store.open(store).table("scores").to_dicts()}) == 2
    models = sorted(path.name for path in (store / "models" / "toy").iterdir())
    assert len(models) == 2


def test_what_a_secondary_label_is_worth_is_part_of_heads_and_scores(store: Path) -> None:
    """Another setting, other heads and another score."""
    ran = features("--store", store, "--set", "labels.secondary=present", "--json")
    assert ran.code == 0
    assert len(ran.named("fitted")) == 1
    assert Store.open(store).table("scores").height == 4


def test_another_split_leads_to_new_logits(birds: Path, store: Path) -> None:
    """Every row by the new folds, none by the old ones."""
    old = Store.open(store).snapshot().recipe_of("logits/toy")
    fold_of = _resplit(birds, store)
    ran = features("--store", store, "--json")
    assert ran.code == 0, ran.err
    assert ran.events[-1]["heard"] == 0
    assert Store.open(store).snapshot().recipe_of("logits/toy") != old
    rows = _rows(store, "logits/toy")
    assert (rows["fold"] == rows["model_fold"]).all()
    assert dict(rows.select("recording_id", "fold").iter_rows()) == fold_of


def test_a_class_in_one_fold_is_warned_of(birds: Path) -> None:
    """Its model never heard it; all else goes on."""
    _edit(birds, "author 21", "author 20")
    ran = features(birds, "--store", "s", "--folds", 3, "--json")
    assert ran.code == 0, ran.err
    said = [w["message"] for w in ran.named("warning") if "one fold only" in w["message"]]
    assert len(said) == 1
    assert "toy: 1 class with positives in one fold only (bird2)" in said[0]
    assert len(_rows(Path("s"), "logits/toy")) == 24


def test_one_author_is_too_few_for_logits(tmp_path: Path) -> None:
    """Embeddings are written, and it is said why there are no logits."""
    birds = make_birds(tmp_path / "few", species=1, clips=1, soundscapes=1)
    ran = features(birds, "--store", "s", "--json")
    assert ran.code == 0, ran.err
    assert any("toy: no logits" in warning["message"] for warning in ran.named("warning"))
    assert Store.open("s").snapshot().views == ["acoustic/wave", "embedding/toy"]
    assert ran.events[-1]["event"] == "finished"


def test_soundscapes_alone_have_embeddings(tmp_path: Path) -> None:
    """Without any label there is nothing to fit, and that is no failure."""
    birds = make_birds(tmp_path / "few", species=1, clips=1, soundscapes=2)
    ran = features(birds / "unlabeled_soundscapes", "--store", "s", "--json")
    assert ran.code == 0, ran.err
    assert any("lie in 0 folds" in warning["message"] for warning in ran.named("warning"))
    assert len(Store.open("s").snapshot().covered("embedding/toy")) == 2


def test_a_copy_of_a_training_recording_is_said(birds: Path, store: Path) -> None:
    """Among the soundscapes: models that have heard its twin give it no logits."""
    twin = birds / "train_audio/bird0/XC0001.ogg"
    copy = birds / "unlabeled_soundscapes/SITE7_20240501_073000.ogg"
    copy.write_bytes(twin.read_bytes())
    ran = features(birds, "--store", store, "--json")
    skipped = {(s["recording_id"].rpartition("/")[2], s["code"]) for s in ran.named("skipped")}
    assert skipped == {(copy.name, "seen_in_training")}
    assert any("without logits of some fold models" in w["message"] for w in ran.named("warning"))
    held = [copy.name in "".join(Store.open(store).snapshot().covered(v)) for v in FOLD_VIEWS]
    assert sum(held) == 1


# --- what must never come in ------------------------------------------------------------------------


def test_tampered_heads_end_the_run(store: Path) -> None:
    """Exit code 1, the file named; the old logits stay as they are."""
    rows = _rows(store, "logits/toy")
    (heads,) = (store / "models" / "toy").glob("*/heads.safetensors")
    data = bytearray(heads.read_bytes())
    data[-1] ^= 1
    heads.write_bytes(data)
    ran = features("--store", store, "--json")
    assert ran.code == 1
    assert ran.events[-1]["event"] == "failed"
    assert "heads.safetensors" in ran.events[-1]["error"]
    assert _rows(store, "logits/toy").equals(rows)


def test_a_broken_description_of_heads_ends_the_run(store: Path) -> None:
    """It is not taken for a backbone without labels."""
    (model,) = (store / "models" / "toy").glob("*/model.json")
    model.write_text("{}")
    ran = features("--store", store)
    assert ran.code == 1
    assert "model.json" in ran.err


def test_heads_of_another_split_are_refused(birds: Path, store: Path) -> None:
    """Swapped for the new ones, with a record that is true: not a row of theirs comes in."""
    (old,) = (store / "models" / "toy").iterdir()
    fold_of = _resplit(birds, store)
    assert features("--store", store).code == 0
    (new,) = (path for path in (store / "models" / "toy").iterdir() if path != old)
    honest = Store.open(store).snapshot().recipe_of("logits/toy")
    rows = _rows(store, "logits/toy")
    model = load_model(old)
    save_heads(new, model.heads())
    swapped = seal(
        new,
        model.config,
        "frozen",
        classes=model.classes,
        folds=model.folds,
        training={**model.training, "key": new.name},
        trained_on=model.trained_on(),
    )

    ran = features("--store", store, "--json")

    assert ran.code == 1
    assert "was trained on this very recording" in ran.events[-1]["error"]
    snapshot = Store.open(store).snapshot()
    parts = [p for p in snapshot.state.parts.values() if p.view.startswith("logits/")]
    models = {snapshot.spec(p.view, p.recipe).recipe["training"]["model"] for p in parts}
    assert len(models) == 2, "the first split's and the second's"
    assert swapped.fingerprint not in models
    assert _rows(store, "logits/toy", honest).equals(rows)
    assert dict(rows.select("recording_id", "model_fold").iter_rows()) == fold_of


def test_heads_trained_on_everything_are_refused(
    birds: Path, finished: tuple[Path, Path, Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A memorising model that says so in its record writes not one row of logits."""

    def all_of_it(session: Any, store: Store, model: Any) -> None:
        ids = model.trained_on()["recording_id"].to_list()
        frame = trained_frame(store.snapshot(), model.fingerprint, dict.fromkeys(model.folds, ids))
        write_tables(store, {("trained", model.fingerprint): frame}, operation="train")

    monkeypatch.setattr(run_networks, "record_training", all_of_it)
    ran = features(birds, "--store", "s", "--folds", 3, "--json")
    assert ran.code == 1
    assert "was trained on this very recording" in ran.events[-1]["error"]
    snapshot = Store.open("s").snapshot()
    assert not [v for v in snapshot.views if v.startswith("logits/") and snapshot.covered(v)]
    assert len(snapshot.covered("embedding/toy")) == 14
    assert np.isfinite(np.stack(_rows(Path("s"), "embedding/toy")["embedding"].to_list())).all()
