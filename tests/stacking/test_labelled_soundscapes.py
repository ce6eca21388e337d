"""Labelled soundscapes from their table to out-of-fold logits, through the command."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.birds import make_birds
from support.command import Ran, birdstack

from birdstack.stacking.simulate_plan import gather
from birdstack.stacking.training_data import training_set
from birdstack.store.labels import LabelsConfig, label_matrix
from birdstack.store.out_of_fold import assert_out_of_fold
from birdstack.store.snapshot import Snapshot
from birdstack.store.store import Store

TOY = ["--set", f"networks.define={json.dumps([{'name': 'toy', 'kind': 'fake'}])}"]
FEW = ["--set", 'acoustic.groups=["wave"]', "--set", "views.place=false"]
TABLE = "train_soundscape_labels.csv"
NAMES = [f"{i}_SITE{i}_20240501" for i in range(3)]


def features(birds: Path, store: Path) -> Ran:
    """Ingest, and hear with the toy network."""
    words = ["--executor", "serial", "--backbones", "toy", "--folds", 3, "--json"]
    return birdstack("features", birds, "--store", store, *TOY, *FEW, *words)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings leak in from where the tests run."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("BIRDSTACK_") and "TEST" not in n]:
        monkeypatch.delenv(name)


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """Clips of three birds, and soundscapes of four windows at three sites, not labelled yet."""
    root = make_birds(tmp_path / "birds", soundscapes=3)
    (root / "train_soundscapes").mkdir()
    for path, name in zip(
        sorted((root / "unlabeled_soundscapes").iterdir()), NAMES[:2], strict=False
    ):
        shutil.move(path, root / "train_soundscapes" / f"{name}.ogg")
    return root


def label(birds: Path) -> None:
    """Bird 0 in the first window of the first; the second was listened to for two windows."""
    rows = [f"0_SITE0_{s},SITE0,0,{s},{'bird0' if s == 5 else 'nocall'}" for s in (5, 10, 15, 20)]
    rows += [f"1_SITE1_{s},SITE1,1,{s},nocall" for s in (5, 10)]
    text = "\n".join(["row_id,site,audio_id,seconds,birds", *rows, ""])
    (birds / TABLE).write_text(text, "utf-8")


def scored(ran: Ran) -> dict[str, float | None]:
    """Macro AUC of each level."""
    return {row["level"]: row["value"] for row in ran.named("scored")}


def logits(snapshot: Snapshot) -> pl.DataFrame:
    """Fold and fold model of the soundscapes' windows."""
    rows = snapshot.view("logits/toy").select("recording_id", "window", "fold", "model_fold")
    return rows.collect().filter(pl.col("recording_id").str.starts_with("train_soundscapes"))


def test_labels_that_come_in_later_give_out_of_fold_logits(birds: Path, tmp_path: Path) -> None:
    """No network learns from them, no focal recording moves, and their own fold's model scores."""
    store = tmp_path / "store"
    before = features(birds, store)
    assert before.code == 0, before.err
    first = Store.open(store).snapshot()
    label(birds)

    ran = features(birds, store)

    assert ran.code == 0, ran.err
    assert not ran.named("fitted"), "the heads have nothing new to learn from"
    snapshot = Store.open(store).snapshot()
    ids = [f"train_soundscapes/{name}.ogg" for name in NAMES[:2]]
    fold_of = dict(snapshot.table("folds").select("recording_id", "fold").iter_rows())
    assert dict(first.table("folds").select("recording_id", "fold").iter_rows()).items() <= (
        fold_of.items()
    )
    rows = logits(snapshot)
    assert rows.group_by("recording_id").len().sort("recording_id").rows() == [
        (name, 4) for name in ids
    ]
    assert (rows["fold"] == rows["model_fold"]).all()
    assert {(r, f) for r, f in rows.select("recording_id", "fold").rows()} == {
        (name, fold_of[name]) for name in ids
    }
    assert_out_of_fold(snapshot, "logits/toy")
    assert not set(snapshot.table("trained")["recording_id"]) & set(ids)

    keys = snapshot.view("logits/toy").select("recording_id", "window", "start_s", "end_s")
    keys = keys.collect().filter(pl.col("recording_id").is_in(ids))
    truth = label_matrix(keys, snapshot.table("labels"), ["bird0", "bird1", "bird2"])
    assert truth[:4].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert truth[4:].tolist() == [[0, 0, 0], [0, 0, 0], [-1, -1, -1], [-1, -1, -1]]

    levels = scored(ran)
    assert set(levels) == {"window", "recording", "soundscape window", "soundscape recording"}
    assert np.isfinite(levels["soundscape window"])
    assert levels["window"] == scored(before)["window"], "focal scores are of focal recordings"


def test_networks_and_simulations_leave_them_alone(birds: Path, tmp_path: Path) -> None:
    """Neither trained on, nor a source of clips, nor a background."""
    label(birds)
    assert birdstack("ingest", birds, "--store", tmp_path / "store", "--folds", 3).code == 0
    snapshot = Store.open(tmp_path / "store").snapshot()
    data = training_set(snapshot, LabelsConfig())
    assert {r.recording_id.partition("/")[0] for r in data.recordings} == {"train_audio"}
    assert data.window_labels == {}
    material = gather(snapshot)
    sources = {
        source.recording.recording_id.partition("/")[0]
        for of_fold in material.sources.values()
        for of_label in of_fold.values()
        for source in of_label
    }
    assert sources == {"train_audio"}
    assert material.left_out == 0
    assert [b.recording_id.partition("/")[0] for b in material.backdrops] == [
        "unlabeled_soundscapes"
    ]


def test_labels_that_go_take_the_folds_along(birds: Path, tmp_path: Path) -> None:
    """Without its table a soundscape is unlabelled again, and the store says nothing of it."""
    store = tmp_path / "store"
    label(birds)
    words = ["--store", store, "--folds", 3]
    assert birdstack("ingest", birds, *words).code == 0
    assert len(Store.open(store).table("folds")) == 12 + 2
    (birds / TABLE).unlink()
    assert birdstack("ingest", birds, *words).code == 0
    opened = Store.open(store)
    assert len(opened.table("folds")) == 12
    scapes = opened.table("recordings").filter(kind="soundscape")
    assert set(scapes["split"]) == {"unlabeled"}
    assert not opened.table("labels").filter(pl.col("role") == "annotated").height


def test_soundscapes_come_before_the_clips(birds: Path, tmp_path: Path) -> None:
    """A store of labelled soundscapes alone has folds; clips that join it are dealt as ever."""
    store, scapes = tmp_path / "store", tmp_path / "scapes"
    scapes.mkdir()
    label(birds)
    for path in sorted((birds / "train_soundscapes").iterdir()):
        shutil.move(path, scapes / path.name)
    shutil.move(birds / TABLE, scapes / TABLE)
    ran = birdstack("ingest", scapes, "--store", store, "--json")
    assert ran.code == 0, ran.err
    first = Store.open(store)
    assert first.table("classes")["label"].to_list() == ["bird0"]
    assert len(first.table("folds")) == 2

    ran = birdstack("ingest", birds, "--store", store, "--json")

    assert ran.code == 0, ran.err
    folds = Store.open(store).table("folds")
    assert len(folds) == 2 + 12
    focal = folds.filter(pl.col("recording_id").str.starts_with("train_audio"))
    assert set(folds["fold"]) == set(focal["fold"])
    assert Store.open(store).table("classes")["label"].to_list() == ["bird0", "bird1", "bird2"]


def test_a_fault_is_told_and_the_exit_code_says_so(birds: Path, tmp_path: Path) -> None:
    """3: finished, with rows left out; the table of rejects names place and remedy."""
    label(birds)
    with (birds / TABLE).open("a", encoding="utf-8") as handle:
        handle.write("0_SITE0_5,SITE0,0,5,dodo\n")
    ran = birdstack("ingest", birds, "--store", tmp_path / "store")
    assert ran.code == 3
    assert "2 labelled soundscapes" in ran.out
    rejects = Store.open(tmp_path / "store").table("rejects")
    assert rejects.select("file", "row", "column", "rule", "value").rows() == [
        (TABLE, 8, "birds", "soundscape_label", "dodo")
    ]


def test_a_table_that_is_not_there_is_wrong_usage(birds: Path, tmp_path: Path) -> None:
    """Nothing is ingested, and the message says where was looked."""
    words = ["--set", "ingest.soundscape_labels=gone.csv"]
    ran = birdstack("ingest", birds, "--store", tmp_path / "store", *words)
    assert ran.code == 2
    assert "no file 'gone.csv'" in ran.err
