"""Logits by the model that has not met the recording, and by every one for the rest."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.aviary import AUDIO, BIRDS, GRID, HEAD, TOY, Aviary, fake, make_aviary, rows_of

from birdstack.embeddings import fold_logits
from birdstack.embeddings.backbone import hear
from birdstack.embeddings.fold_heads import fit_heads, head_data
from birdstack.embeddings.fold_logits import HeadLogits, NetworkLogits
from birdstack.embeddings.linear_head import fit_head
from birdstack.embeddings.model_folder import FoldModel, checkpoint_name, save_heads, seal
from birdstack.embeddings.network_views import hear_recording
from birdstack.embeddings.shelf import InputShelf
from birdstack.store.errors import CorruptError, LeakError
from birdstack.store.labels import LabelsConfig
from birdstack.store.recordings import Recording

FOLD_VIEWS = ["logits/toy.m0", "logits/toy.m1", "logits/toy.m2"]


@pytest.fixture
def aviary(tmp_path: Path) -> Aviary:
    """A store with embeddings."""
    made = make_aviary(tmp_path)
    made.hear()
    return made


@pytest.fixture
def model(aviary: Aviary, tmp_path: Path) -> FoldModel:
    """Heads of three folds, their training on record."""
    return aviary.fit(tmp_path / "models")[0]


def _logits_held(aviary: Aviary) -> list[str]:
    """Views of logits that hold a recording."""
    snapshot = aviary.store.snapshot()
    return [v for v in snapshot.views if v.startswith("logits/") and snapshot.covered(v)]


def _loud(aviary: Aviary, folder: Path) -> FoldModel:
    """A model whose every head was fitted on all recordings, as if no fold were held out."""
    data = head_data(aviary.store.snapshot(), TOY, HEAD, LabelsConfig())
    head = fit_head(data.embeddings, data.truth, data.weights, HEAD)
    save_heads(folder, dict.fromkeys(data.folds, head))
    return seal(
        folder,
        TOY,
        "frozen",
        classes=data.classes,
        folds=data.folds,
        training={"held_out": False},
        trained_on=data.recordings,
    )


# --- heads ------------------------------------------------------------------------------------


def test_every_labelled_row_is_by_the_head_that_has_not_met_it(
    aviary: Aviary, model: FoldModel
) -> None:
    """model_fold equals fold, and the numbers are that head's."""
    aviary.fill(*aviary.head_logits(model))
    snapshot = aviary.store.snapshot()
    rows = rows_of(snapshot, "logits/toy")
    assert set(rows["recording_id"]) == set(aviary.primary)
    assert (rows["fold"] == rows["model_fold"]).all()
    assert dict(rows.select("recording_id", "fold").iter_rows()) == aviary.fold
    heads = model.heads()
    for recording_id, fold in aviary.fold.items():
        embeddings = snapshot.matrix("embedding/toy", recordings=[recording_id]).values
        mine = rows.filter(pl.col("recording_id") == recording_id).select(BIRDS).to_numpy()
        np.testing.assert_allclose(mine, heads[fold].logits(embeddings), rtol=0, atol=1e-5)
        other = heads[(fold + 1) % 3].logits(embeddings)
        assert np.abs(mine - other).max() > 1e-3


def test_a_recording_without_a_fold_gets_a_row_of_every_model(
    aviary: Aviary, model: FoldModel
) -> None:
    """One view for each fold model; fold is -1, model_fold says which."""
    aviary.fill(*aviary.head_logits(model))
    snapshot = aviary.store.snapshot()
    heads = model.heads()
    assert [v for v in snapshot.views if v.startswith("logits/toy.")] == FOLD_VIEWS
    for fold, view in enumerate(FOLD_VIEWS):
        rows = rows_of(snapshot, view)
        assert set(rows["recording_id"]) == set(aviary.unlabelled)
        assert rows["fold"].unique().to_list() == [-1]
        assert rows["model_fold"].unique().to_list() == [fold]
        embeddings = snapshot.matrix("embedding/toy", recordings=aviary.unlabelled).values
        np.testing.assert_allclose(
            rows.select(BIRDS).to_numpy(), heads[fold].logits(embeddings), rtol=0, atol=1e-5
        )


def test_heads_hear_no_sound(aviary: Aviary, model: FoldModel) -> None:
    """Embeddings are read from the store; nothing is decoded."""
    aviary.opened.clear()
    report = aviary.fill(*aviary.head_logits(model))
    assert report.heard == 20
    assert aviary.opened == []


def test_a_second_run_does_nothing(aviary: Aviary, model: FoldModel) -> None:
    """And commits nothing."""
    aviary.fill(*aviary.head_logits(model))
    version = aviary.store.snapshot().version
    report = aviary.fill(*aviary.head_logits(model))
    assert (report.heard, report.already) == (0, 20)
    assert aviary.store.snapshot().version == version


def test_a_changed_label_leads_to_logits_beside_the_old(
    aviary: Aviary, model: FoldModel, tmp_path: Path
) -> None:
    """Other heads are another recipe; the old numbers can still be read."""
    aviary.fill(*aviary.head_logits(model))
    before = aviary.store.snapshot()
    old, rows = before.recipe_of("logits/toy"), rows_of(before, "logits/toy")
    aviary.primary["0/0"] = "bird1"
    aviary.write()
    aviary.fill(*aviary.head_logits(aviary.fit(tmp_path / "models")[0]))
    after = aviary.store.snapshot()
    assert after.recipe_of("logits/toy") != old
    assert rows_of(after, "logits/toy", old).equals(rows)
    assert not rows_of(after, "logits/toy").equals(rows)


def test_another_split_leads_to_new_logits(
    aviary: Aviary, model: FoldModel, tmp_path: Path
) -> None:
    """No row of the old split stays among those of the new one."""
    aviary.fill(*aviary.head_logits(model))
    old = aviary.store.snapshot().recipe_of("logits/toy")
    aviary.fold = {i: (fold + int(i[0])) % 3 for i, fold in aviary.fold.items()}
    aviary.write(split="second")
    aviary.fill(*aviary.head_logits(aviary.fit(tmp_path / "models")[0]))
    snapshot = aviary.store.snapshot()
    rows = rows_of(snapshot, "logits/toy")
    assert snapshot.recipe_of("logits/toy") != old
    assert (rows["fold"] == rows["model_fold"]).all()
    assert dict(rows.select("recording_id", "fold").iter_rows()) == aviary.fold


def test_a_newcomer_without_label_needs_no_new_heads(aviary: Aviary, model: FoldModel) -> None:
    """Its rows are added, and no other is written."""
    aviary.fill(*aviary.head_logits(model))
    aviary.unlabelled.append("2/95")
    aviary.write()
    aviary.hear()
    assert aviary.fill(*aviary.head_logits(model)).heard == 1
    for view in FOLD_VIEWS:
        assert "2/95" in set(rows_of(aviary.store.snapshot(), view)["recording_id"])


def test_a_recording_without_embeddings_waits(aviary: Aviary, model: FoldModel) -> None:
    """It was not heard yet: no row, no skip."""
    aviary.unlabelled.append("2/95")
    aviary.write()
    report = aviary.fill(*aviary.head_logits(model))
    assert report.skips == []
    assert "2/95" not in aviary.store.snapshot().covered("logits/toy.m0")


def test_embeddings_are_read_with_their_neighbours(
    aviary: Aviary, model: FoldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks smaller than the store, few of them held: the same logits in any order."""
    (whole, _) = aviary.head_logits(model)
    expected = {r.recording_id: whole.logits(None, r, [0])[0] for r in aviary.recordings}
    monkeypatch.setattr(fold_logits, "_NEIGHBOURS", 3)
    monkeypatch.setattr(fold_logits, "_BLOCKS_HELD", 2)
    (small, _) = aviary.head_logits(model)
    order = np.random.default_rng(0).permutation(2 * list(range(len(aviary.recordings))))
    for place in order:
        recording = aviary.recordings[place]
        found = small.logits(None, recording, [0])[0]
        np.testing.assert_array_equal(found, expected[recording.recording_id])


def test_the_extractor_travels_to_another_process(aviary: Aviary, model: FoldModel) -> None:
    """With processes as executor, its copy reads the same embeddings."""
    (ours, _) = aviary.head_logits(model)
    theirs = pickle.loads(pickle.dumps(ours))  # noqa: S301 - our own bytes
    recording = aviary.recordings[3]
    assert theirs.content_key(recording) == ours.content_key(recording)
    np.testing.assert_array_equal(
        theirs.logits(None, recording, [1])[0], ours.logits(None, recording, [1])[0]
    )


def test_a_tampered_head_is_refused(aviary: Aviary, model: FoldModel) -> None:
    """Before any row is written."""
    path = model.folder / "heads.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=r"heads\.safetensors"):
        aviary.head_logits(model)


# --- whole networks -----------------------------------------------------------------------------


def _networks(aviary: Aviary, folder: Path, *, record: bool = True) -> FoldModel:
    """A model of three whole networks: fakes of another seed each."""
    folder.mkdir()
    for fold in range(3):
        (folder / checkpoint_name(fold)).write_bytes(b"weights of %d" % fold)
    trained_on = head_data(aviary.store.snapshot(), TOY, HEAD, LabelsConfig()).recordings
    model = seal(
        folder,
        TOY.model_copy(update={"mode": "full"}),
        "full",
        classes=BIRDS,
        folds=range(3),
        training={"epochs": 1},
        trained_on=trained_on,
    )
    if record:
        aviary.record(model)
    return model


def _network_logits(
    aviary: Aviary, model: FoldModel, shifts: tuple[float, ...] = (0.0,)
) -> list[NetworkLogits]:
    shelf = InputShelf()
    return [
        NetworkLogits(
            model,
            [fake(BIRDS, seed=10 + fold) for fold in range(3)],
            aviary.fold,
            audio_recipe=AUDIO,
            grid=GRID,
            shelf=shelf,
            held_out=held_out,
            shifts=shifts,
        )
        for held_out in (True, False)
    ]


def test_whole_networks_hear_what_they_have_not_met(aviary: Aviary, tmp_path: Path) -> None:
    """Each labelled recording by its own fold's network, the others by all of them."""
    model = _networks(aviary, tmp_path / "full")
    report = aviary.fill(*_network_logits(aviary, model))
    assert report.heard == 20
    snapshot = aviary.store.snapshot()
    labelled = rows_of(snapshot, "logits/toy")
    assert (labelled["fold"] == labelled["model_fold"]).all()
    for recording in aviary.recordings:
        name = recording.recording_id
        windows = list(aviary.open(recording).windows())
        folds = [aviary.fold[name]] if name in aviary.fold else [0, 1, 2]
        for fold in folds:
            view = "logits/toy" if name in aviary.fold else f"logits/toy.m{fold}"
            rows = rows_of(snapshot, view).filter(pl.col("recording_id") == name)
            expected = hear(fake(BIRDS, seed=10 + fold), windows).logits
            assert rows["model_fold"].unique().to_list() == [fold]
            np.testing.assert_array_equal(rows.select(BIRDS).to_numpy(), expected)
    assert aviary.fill(*_network_logits(aviary, model)).heard == 0


def test_a_newcomer_that_moves_is_scored_by_another_network(aviary: Aviary, tmp_path: Path) -> None:
    """No network was trained on it; its rows follow its fold, and no other row is written."""
    model = _networks(aviary, tmp_path / "full")
    aviary.fill(*_network_logits(aviary, model))
    aviary.primary["1/8"] = "bird1"
    for fold in (0, 2):
        aviary.fold["1/8"] = fold
        aviary.write(split=f"split {fold}")
        aviary.opened.clear()
        aviary.fill(*_network_logits(aviary, model))
        rows = rows_of(aviary.store.snapshot(), "logits/toy")
        mine = rows.filter(pl.col("recording_id") == "1/8")
        assert mine.select("fold", "model_fold").unique().rows() == [(fold, fold)]
        assert aviary.opened == ["1/8"]


def test_whole_networks_hear_shifted_windows_too(aviary: Aviary, tmp_path: Path) -> None:
    """The mean over shifts, in a recipe of its own."""
    model, shifts = _networks(aviary, tmp_path / "full"), (0.0, -0.25, 0.25)
    (plain, _), (shifted, _) = (
        _network_logits(aviary, model),
        _network_logits(aviary, model, shifts),
    )
    assert plain.specs[0].recipe_hash != shifted.specs[0].recipe_hash
    recording = aviary.recordings[0]
    sound = aviary.open(recording)
    expected = hear_recording(fake(BIRDS, seed=11), sound, InputShelf(), shifts).logits
    np.testing.assert_array_equal(shifted.logits(sound, recording, [1])[0], expected)


def test_retrained_networks_are_another_recipe(aviary: Aviary, tmp_path: Path) -> None:
    """One fold's weights are enough."""
    model = _networks(aviary, tmp_path / "full")
    (model.folder / checkpoint_name(1)).write_bytes(b"other weights")
    again = seal(
        model.folder,
        model.config,
        "full",
        classes=BIRDS,
        folds=range(3),
        training={"epochs": 1},
        trained_on=model.trained_on(),
    )
    one, other = (_network_logits(aviary, each)[0].specs[0] for each in (model, again))
    assert one.recipe_hash != other.recipe_hash


# --- what must never come in ---------------------------------------------------------------------


class WrongModel(HeadLogits):
    """Asks the next fold's head, and says so."""

    def extract(self, sound: Any, recording: Recording, wanted: Any) -> Any:
        rows = super().extract(sound, recording, wanted)
        for columns in rows.values():
            columns["model_fold"] = (columns["model_fold"] + 1) % 3
        return rows


def _refused(aviary: Aviary, extractors: Sequence[Any], match: str) -> None:
    """LeakError, and not a row of logits in the store, whatever was already written."""
    with pytest.raises(LeakError, match=match):
        aviary.fill(*extractors)
    assert _logits_held(aviary) == []
    aviary.fill(aviary.extractor())  # a later run adopts nothing of it either
    assert _logits_held(aviary) == []


def test_heads_that_have_met_everything_are_refused(aviary: Aviary, tmp_path: Path) -> None:
    """The record says that each was trained on all folds."""
    model = _loud(aviary, tmp_path / "loud")
    aviary.record(model, dict.fromkeys(range(3), sorted(aviary.primary)))
    _refused(aviary, aviary.head_logits(model), "was trained on this very recording")


def test_swapped_heads_are_refused(aviary: Aviary, model: FoldModel, tmp_path: Path) -> None:
    """A model whose training is on record vouches for no other."""
    loud = _loud(aviary, tmp_path / "loud")
    assert loud.fingerprint != model.fingerprint
    _refused(aviary, aviary.head_logits(loud), "nobody knows what")


def test_the_head_of_another_fold_is_refused(aviary: Aviary, model: FoldModel) -> None:
    """It has met the recording."""
    snapshot = aviary.store.snapshot()
    wrong = WrongModel(model, snapshot, "embedding/toy", aviary.fold, held_out=True)
    _refused(aviary, [wrong], "was trained on this very recording")


def test_heads_of_the_split_before_are_refused(aviary: Aviary, model: FoldModel) -> None:
    """After a re-split, neither by the old folds nor by the new ones."""
    stale = aviary.head_logits(model)
    aviary.fold = {i: (fold + 1) % 3 for i, fold in aviary.fold.items()}
    aviary.write(split="second")
    _refused(aviary, stale, "the recording lies in fold")
    _refused(aviary, aviary.head_logits(model), "was trained on this very recording")


def test_networks_that_have_met_everything_are_refused(aviary: Aviary, tmp_path: Path) -> None:
    """As heads are, and before that where nothing is known of their training."""
    model = _networks(aviary, tmp_path / "full", record=False)
    _refused(aviary, _network_logits(aviary, model), "nobody knows what")
    aviary.record(model, dict.fromkeys(range(3), sorted(aviary.primary)))
    _refused(aviary, _network_logits(aviary, model), "was trained on this very recording")


def test_a_copy_of_a_training_recording_is_passed_over(aviary: Aviary, model: FoldModel) -> None:
    """Among the unlabelled: only the model that did not hear its twin may score it."""
    aviary.unlabelled.append("0/96")
    real = aviary._hash
    aviary._hash = lambda recording_id: real(  # type: ignore[method-assign]
        "0/1" if recording_id == "0/96" else recording_id
    )
    aviary.write()
    aviary.hear()
    report = aviary.fill(*aviary.head_logits(model))
    twin = aviary.fold["0/1"]
    held = {k: "0/96" in aviary.store.snapshot().covered(v) for k, v in enumerate(FOLD_VIEWS)}
    assert held == {k: k == twin for k in range(3)}
    assert {(s.recording_id, s.code) for s in report.skips} == {("0/96", "seen_in_training")}


def test_fitted_heads_are_what_the_store_accepts(aviary: Aviary, tmp_path: Path) -> None:
    """The same way in without a swap: nothing is refused."""
    snapshot = aviary.store.snapshot()
    model, _ = fit_heads(snapshot, TOY, tmp_path / "honest", HEAD, LabelsConfig())
    aviary.record(model)
    aviary.fill(*aviary.head_logits(model))
    assert _logits_held(aviary) == ["logits/toy", *FOLD_VIEWS]
