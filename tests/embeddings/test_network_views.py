"""Embeddings and a network's own logits land in the store, heard once."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from support.aviary import AUDIO, BIRDS, GRID, RATE_HZ, Aviary, fake, make_aviary, rows_of

from birdstack.embeddings.backbone import Heard, hear
from birdstack.embeddings.fake import FakeBackbone
from birdstack.embeddings.network_views import (
    NetworkExtractor,
    embedding_view,
    hear_recording,
    logits_view,
)
from birdstack.embeddings.shelf import BLOCK, InputShelf
from birdstack.features.audio import Sound


@pytest.fixture
def aviary(tmp_path: Path) -> Aviary:
    """A store of its own."""
    return make_aviary(tmp_path)


class Spy(FakeBackbone):
    """Counts how often it runs, and on how many windows."""

    def run(self, inputs: np.ndarray) -> Heard:
        self.__dict__.setdefault("ran", []).append(len(inputs))
        return super().run(inputs)


def test_embeddings_in_the_store_are_the_backbones(aviary: Aviary) -> None:
    """Every window of every recording, to the ten bits of mantissa that are kept."""
    report = aviary.hear()
    snapshot = aviary.store.snapshot()
    assert report.heard == 20
    assert snapshot.views == ["embedding/toy"]
    rows = rows_of(snapshot, "embedding/toy")
    heard = [aviary.open(recording) for recording in aviary.recordings]
    expected = np.concatenate([hear(fake(), list(sound.windows())).embeddings for sound in heard])
    kept = np.stack(rows["embedding"].to_list())
    assert kept.shape == expected.shape
    assert (np.abs(kept - expected) <= 2**-11 * np.abs(expected)).all()
    assert (kept != expected).any(), "nothing was rounded"


def test_a_network_with_classes_writes_both_views_of_one_hearing(aviary: Aviary) -> None:
    """Logits bear fold and model_fold -1: the network was trained elsewhere."""
    spy = Spy("toy", window_s=1.0, sample_rate_hz=RATE_HZ, classes=BIRDS)
    report = aviary.hear(spy, fold_of=aviary.fold)
    rows = rows_of(aviary.store.snapshot(), "logits/toy")
    assert sum(spy.ran) == report.windows == len(rows)  # type: ignore[attr-defined]
    assert rows["model_fold"].unique().to_list() == [-1]
    said = dict(rows.select("recording_id", "fold").iter_rows())
    assert said == {**dict.fromkeys(aviary.unlabelled, -1), **aviary.fold}
    sound = aviary.open(aviary.recordings[0])
    logits = hear(spy, list(sound.windows())).logits
    assert logits is not None
    np.testing.assert_array_equal(rows.head(len(logits)).select(BIRDS).to_numpy(), logits)


@pytest.mark.parametrize(
    ("backbone", "embeddings", "views"),
    [
        (fake(), True, ["embedding/toy"]),
        (fake(BIRDS), True, ["embedding/toy", "logits/toy"]),
        (fake(BIRDS), False, ["logits/toy"]),
        (fake(), False, []),
    ],
    ids=["trunk", "both", "logits alone", "nothing"],
)
def test_which_views_are_filled(backbone: FakeBackbone, embeddings: bool, views: list[str]) -> None:
    """Embeddings are optional, logits come with classes."""
    found = NetworkExtractor(backbone, AUDIO, GRID, InputShelf(), embeddings=embeddings)
    assert [spec.name for spec in found.specs] == views


def test_classes_are_no_part_of_the_embeddings_recipe(aviary: Aviary) -> None:
    """A new class list makes new logits and keeps the embeddings."""
    one, other = (
        {spec.name: spec.recipe_hash for spec in aviary.extractor(fake(classes)).specs}
        for classes in (BIRDS, BIRDS[::-1])
    )
    assert one["embedding/toy"] == other["embedding/toy"]
    assert one["logits/toy"] != other["logits/toy"]


@pytest.mark.parametrize("what", ["network", "audio", "grid", "shifts"])
def test_what_determines_the_numbers_is_in_the_recipe(aviary: Aviary, what: str) -> None:
    """Other weights, decoding, windows or shifts lie beside the old numbers, not among them."""
    shelf, plain = InputShelf(), aviary.extractor()
    other = {
        "network": aviary.extractor(fake(seed=1)),
        "audio": NetworkExtractor(fake(), {**AUDIO, "sample_rate_hz": 16_000}, GRID, shelf),
        "grid": NetworkExtractor(fake(), AUDIO, GRID.model_copy(update={"hop_s": 0.5}), shelf),
        "shifts": aviary.extractor(shift_tta=True),
    }[what]
    assert other.specs[0].recipe_hash != plain.specs[0].recipe_hash


def test_a_second_run_hears_nothing(aviary: Aviary) -> None:
    """And other weights hear everything, into a recipe beside the old one."""
    aviary.hear()
    aviary.opened.clear()
    assert aviary.hear().heard == 0
    assert aviary.opened == []
    before = rows_of(aviary.store.snapshot(), "embedding/toy")
    old = aviary.store.snapshot().recipe_of("embedding/toy")
    assert aviary.hear(fake(seed=1)).heard == 20
    snapshot = aviary.store.snapshot()
    assert snapshot.recipe_of("embedding/toy") != old
    assert rows_of(snapshot, "embedding/toy", old).equals(before)
    assert not rows_of(snapshot, "embedding/toy").equals(before)


def test_a_moved_fold_is_written_anew(aviary: Aviary) -> None:
    """Rows of logits say where the recording lies now; nothing else is heard, no number changes."""
    aviary.hear(fake(BIRDS), fold_of=aviary.fold)
    before = aviary.store.snapshot()
    aviary.fold["0/0"] = 2
    aviary.write(split="second")
    aviary.opened.clear()
    aviary.hear(fake(BIRDS), fold_of=aviary.fold)
    after = aviary.store.snapshot()
    assert aviary.opened == ["0/0"]
    rows, old = rows_of(after, "logits/toy"), rows_of(before, "logits/toy")
    assert dict(rows.select("recording_id", "fold").iter_rows())["0/0"] == 2
    assert rows.drop("fold").equals(old.drop("fold"))
    assert rows_of(after, "embedding/toy").equals(rows_of(before, "embedding/toy"))


def test_shifts_are_averaged() -> None:
    """The mean of three hearings: in place, 2.5 s earlier, 2.5 s later."""
    rng = np.random.default_rng(0)
    sound = Sound(rng.normal(0, 0.1, 40 * RATE_HZ).astype(np.float32), RATE_HZ, GRID)
    network, shelf = fake(BIRDS), InputShelf()
    found = hear_recording(network, sound, shelf, (0.0, -2.5, 2.5))
    starts_s = (10.0, 7.5, 12.5)
    windows = [sound.samples[round(s * RATE_HZ) :][:RATE_HZ] for s in starts_s]
    alone = hear(network, windows)
    assert found.logits is not None
    assert alone.logits is not None
    np.testing.assert_allclose(found.embeddings[10], alone.embeddings.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.logits[10], alone.logits.mean(axis=0), atol=1e-5)
    assert found.embeddings.dtype == found.logits.dtype == np.float32
    plain = hear_recording(network, sound, shelf)
    assert np.abs(plain.embeddings - found.embeddings).max() > 1e-3


def test_long_recordings_are_heard_in_blocks() -> None:
    """More windows than one block holds: in order, none twice."""
    rng = np.random.default_rng(0)
    sound = Sound(rng.normal(0, 0.1, (2 * BLOCK + 3) * RATE_HZ).astype(np.float32), RATE_HZ, GRID)
    spy = Spy("toy", window_s=1.0, sample_rate_hz=RATE_HZ)
    found = hear_recording(spy, sound, InputShelf())
    assert spy.ran == [BLOCK, BLOCK, 3]  # type: ignore[attr-defined]
    assert found.logits is None
    np.testing.assert_array_equal(found.embeddings, hear(fake(), list(sound.windows())).embeddings)


def test_only_what_is_wanted_is_handed_over(aviary: Aviary) -> None:
    """A recording that has its embeddings gets logits alone."""
    extractor = aviary.extractor(fake(BIRDS))
    sound, recording = aviary.open(aviary.recordings[0]), aviary.recordings[0]
    assert extractor.extract(sound, recording, ["logits/toy"]).keys() == {"logits/toy"}
    assert extractor.extract(sound, recording, ["embedding/toy"]).keys() == {"embedding/toy"}


def test_the_extractor_travels_to_another_process(aviary: Aviary) -> None:
    """With processes as executor, its copy gives the same numbers."""
    extractor = aviary.extractor(fake(BIRDS), fold_of=aviary.fold)
    travelled = pickle.loads(pickle.dumps(extractor))  # noqa: S301 - our own bytes
    recording = aviary.recordings[0]
    views = [embedding_view("toy"), logits_view("toy")]
    ours = extractor.extract(aviary.open(recording), recording, views)
    theirs = travelled.extract(aviary.open(recording), recording, views)
    for view in views:
        for name, values in ours[view].items():
            np.testing.assert_array_equal(theirs[view][name], values)
