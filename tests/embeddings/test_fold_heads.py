"""Heads for a frozen backbone: one for each fold, none of which has met its fold."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.aviary import BIRDS, HEAD, LABELS_CONFIG, TOY, Aviary, fake, make_aviary

from birdstack.embeddings.fold_heads import head_data, head_key
from birdstack.embeddings.linear_head import HeadConfig, fit_head
from birdstack.store.errors import CorruptError, StoreError
from birdstack.store.labels import LabelsConfig
from birdstack.store.table_writer import write_tables
from birdstack.store.tables import FOLDS


@pytest.fixture
def aviary(tmp_path: Path) -> Aviary:
    """A store with embeddings."""
    made = make_aviary(tmp_path)
    made.hear()
    return made


def _key(aviary: Aviary, head: HeadConfig = HEAD, labels: LabelsConfig = LABELS_CONFIG) -> str:
    return head_key(aviary.store.snapshot(), TOY, head, labels)


def test_a_head_is_fitted_on_all_folds_but_its_own(aviary: Aviary, tmp_path: Path) -> None:
    """Exactly the head that the other folds' windows give."""
    model, data = aviary.fit(tmp_path / "models")
    assert data is not None
    assert (model.folds, model.classes, model.mode) == ((0, 1, 2), BIRDS, "frozen")
    heads = model.heads()
    for fold in model.folds:
        others = data.fold != fold
        expected = fit_head(data.embeddings[others], data.truth[others], data.weights[others], HEAD)
        np.testing.assert_array_equal(heads[fold].weight, expected.weight)
        np.testing.assert_array_equal(heads[fold].bias, expected.bias)
    assert not np.array_equal(heads[0].weight, heads[1].weight)


def test_what_heads_are_fitted_on(aviary: Aviary) -> None:
    """Labelled windows with embedding, label and fold; each recording weighs the same."""
    data = head_data(aviary.store.snapshot(), TOY, HEAD, LABELS_CONFIG)
    matrix = aviary.store.snapshot().matrix("embedding/toy", recordings=sorted(aviary.primary))
    np.testing.assert_array_equal(data.embeddings, matrix.values)
    owner = np.repeat(matrix.recording_ids, matrix.windows)
    assert [aviary.fold[str(i)] for i in owner] == data.fold.tolist()
    said = [BIRDS[place] for place in data.truth.argmax(axis=1)]
    assert said == [aviary.primary[str(i)] for i in owner]
    assert (data.truth.sum(axis=1) == 1).all()
    for recording_id in aviary.primary:
        assert data.weights[owner == recording_id].sum() == pytest.approx(1)
    assert data.recordings["recording_id"].to_list() == sorted(aviary.primary)


def test_long_recordings_give_so_many_windows(aviary: Aviary) -> None:
    """No recording gives more than `max_windows`, and its weight stays."""
    head = HeadConfig(max_windows=1)
    data = head_data(aviary.store.snapshot(), TOY, head, LABELS_CONFIG)
    assert len(data.embeddings) == len(aviary.primary)
    np.testing.assert_array_equal(data.weights, 1.0)


def test_a_second_fit_reads_the_first(aviary: Aviary, tmp_path: Path) -> None:
    """Nothing is fitted, nothing is written."""
    model, data = aviary.fit(tmp_path / "models")
    assert data is not None
    written = {path: path.stat().st_mtime_ns for path in model.folder.iterdir()}
    again, nothing = aviary.fit(tmp_path / "models")
    assert nothing is None
    assert again == model
    assert {path: path.stat().st_mtime_ns for path in model.folder.iterdir()} == written


def test_an_unfinished_folder_is_fitted_again(aviary: Aviary, tmp_path: Path) -> None:
    """A crash before model.json leaves heads that nobody trusts."""
    model, _ = aviary.fit(tmp_path / "models")
    weight = model.heads()[0].weight
    (model.folder / "model.json").unlink()
    (model.folder / "heads.safetensors").write_bytes(b"half")
    again, data = aviary.fit(tmp_path / "models")
    assert data is not None
    assert again.fingerprint == model.fingerprint
    np.testing.assert_array_equal(again.heads()[0].weight, weight)


def test_heads_that_were_copied_here_are_refused(aviary: Aviary, tmp_path: Path) -> None:
    """A folder is named after what its heads were fitted on."""
    old, _ = aviary.fit(tmp_path / "models")
    aviary.primary["0/0"] = "bird1"
    aviary.write()
    shutil.copytree(old.folder, tmp_path / "models" / _key(aviary))
    with pytest.raises(CorruptError, match=f"holds heads '{old.folder.name}', not its own"):
        aviary.fit(tmp_path / "models")


@pytest.mark.parametrize(
    "what", ["label", "fold", "content", "embeddings", "classes", "head", "secondary", "newcomer"]
)
def test_whatever_changes_the_heads_changes_their_key(aviary: Aviary, what: str) -> None:
    """Labels, split, bytes, embeddings, settings: each asks for heads of its own."""
    before = _key(aviary)
    assert _key(aviary) == before
    head, labels = HEAD, LABELS_CONFIG
    if what == "label":
        aviary.primary["0/0"] = "bird1"
    elif what == "fold":
        aviary.fold["0/0"] = 1
    elif what == "content":
        aviary.content["0/0"] = "mended"
        aviary.write()
        aviary.hear()
    elif what == "embeddings":
        aviary.hear(fake(seed=1))
    elif what == "classes":
        classes = aviary.store.table("classes").with_columns(index=2 - pl.col("index"))
        write_tables(aviary.store, {("classes", "toy"): classes}, operation="ingest")
    elif what == "newcomer":
        aviary.primary["2/7"], aviary.fold["2/7"] = "bird2", 0
        aviary.write()
        aviary.hear()
    elif what == "head":
        head = HeadConfig(l2=0.5)
    else:
        labels = LabelsConfig(secondary="absent")
    if what in ("label", "fold"):
        aviary.write(split="second" if what == "fold" else "first")
    assert _key(aviary, head, labels) != before


def test_unlabelled_recordings_change_no_key(aviary: Aviary) -> None:
    """New soundscapes cost no new heads."""
    before = _key(aviary)
    aviary.unlabelled.append("1/99")
    aviary.write()
    aviary.hear()
    assert _key(aviary) == before


def test_a_changed_label_makes_heads_beside_the_old(aviary: Aviary, tmp_path: Path) -> None:
    """Another folder and fingerprint; the old model stays as it was."""
    old, _ = aviary.fit(tmp_path / "models")
    aviary.primary["0/0"] = "bird1"
    aviary.write()
    new, data = aviary.fit(tmp_path / "models")
    assert data is not None
    assert new.folder != old.folder
    assert new.fingerprint != old.fingerprint
    old.verify()


def test_a_class_in_one_fold_only_is_named(aviary: Aviary, tmp_path: Path) -> None:
    """Its heads are fitted, and whoever reads them is told."""
    for recording_id, bird in aviary.primary.items():
        if bird == "bird2":
            aviary.fold[recording_id] = 1
    aviary.write(split="second")
    model, data = aviary.fit(tmp_path / "models")
    assert data is not None
    assert data.lonely_classes() == ["bird2"]
    assert model.folds == (0, 1, 2)
    assert np.isfinite(model.heads()[1].weight).all()


def test_no_class_is_lonely_where_folds_are_mixed(aviary: Aviary) -> None:
    """Nor one without any positive."""
    aviary.primary = {i: "bird0" if bird == "bird1" else bird for i, bird in aviary.primary.items()}
    aviary.write()
    data = head_data(aviary.store.snapshot(), TOY, HEAD, LABELS_CONFIG)
    assert data.lonely_classes() == []
    assert not (data.truth[:, 1] == 1).any()


def test_one_fold_is_too_few(aviary: Aviary, tmp_path: Path) -> None:
    """Out-of-fold needs a fold that was held out."""
    aviary.fold = dict.fromkeys(aviary.fold, 0)
    aviary.write(split="second")
    with pytest.raises(StoreError, match=r"18 labelled recordings .* lie in 1 folds"):
        aviary.fit(tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_nothing_labelled_is_too_few(aviary: Aviary, tmp_path: Path) -> None:
    """A store of soundscapes has no heads."""
    frames = {("folds", "none"): pl.DataFrame(schema=FOLDS)}
    write_tables(aviary.store, frames, operation="ingest", activate={"folds": "none"})
    with pytest.raises(StoreError, match=r"0 labelled recordings .* lie in 0 folds"):
        aviary.fit(tmp_path / "models")
