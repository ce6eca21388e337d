"""`birdstack simulate`: one fold to a soundscape, honest levels, strong labels, out-of-fold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.birds import make_birds
from support.command import Ran, birdstack

from birdstack.embeddings.fold_heads import head_key
from birdstack.features.demo_scene import band_power
from birdstack.features.demo_song import RATE_HZ
from birdstack.stacking.settings import Settings
from birdstack.stacking.simulate_mix import SONG_BAND_HZ, mix, mix_parts
from birdstack.stacking.simulate_plan import (
    MOST_AT_ONCE,
    PlannedClip,
    PlannedSoundscape,
    SimulateConfig,
    Source,
    gather,
    plan,
)
from birdstack.stacking.training_data import training_set
from birdstack.store.errors import SkipRecording
from birdstack.store.labels import LabelsConfig, label_matrix
from birdstack.store.recordings import Recording
from birdstack.store.store import Store

TOY = [{"name": "toy", "kind": "fake"}]
QUICK = ["--set", f"networks.define={json.dumps(TOY)}", "--set", 'acoustic.groups=["wave"]']
QUICK += ["--set", "views.place=false", "--executor", "serial", "--backbones", "toy"]
SHORT = ["--per-fold", 2, "--duration", 30]
FOLDS = 3


def _simulate(store: Path, *words: object) -> Ran:
    return birdstack("simulate", "--store", store, *SHORT, *words)


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose real recordings were heard before any soundscape was simulated."""
    folder = tmp_path_factory.mktemp("heard")
    birds = make_birds(folder / "birds", species=3, clips=6, soundscapes=1)
    ran = birdstack("features", birds, "--store", folder / "store", "--folds", FOLDS, *QUICK)
    assert ran.code == 0, ran.err
    return folder


@pytest.fixture(scope="module")
def finished(heard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same store with simulated soundscapes, not heard yet; tests do not change it."""
    store = tmp_path_factory.mktemp("finished") / "store"
    shutil.copytree(heard / "store", store)
    ran = _simulate(store)
    assert ran.code == 0, ran.err
    return store


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Path:
    """A store of one's own; its soundscapes lie in the first one's folder."""
    return Path(shutil.copytree(finished, tmp_path / "store"))


def _events(folder: Path) -> pl.DataFrame:
    return pl.read_csv(folder / "events.csv")


def _fold_of(store: Path) -> dict[str, int]:
    return dict(Store.open(store).table("folds").select("recording_id", "fold").iter_rows())


def test_every_clip_is_of_the_fold_of_its_soundscape(finished: Path) -> None:
    """The fold in FOLDS of a soundscape is that of every recording in its events."""
    events, fold_of = _events(finished / "simulated"), _fold_of(finished)
    assert set(events["fold"]) == set(range(FOLDS))
    for row in events.iter_rows(named=True):
        assert fold_of[row["source_recording_id"]] == fold_of[row["recording_id"]] == row["fold"]
    truth = Store.open(finished).table("labels").filter(pl.col("start_s").is_null())
    told = set(truth.select("recording_id", "label", "role").iter_rows())
    said = events.select("source_recording_id", "label", "role").iter_rows()
    assert set(said) <= told


def test_a_clip_has_the_ratio_that_was_asked_for() -> None:
    """Power of a planted clip over that of the background around it, to 0.05 dB."""
    rng = np.random.default_rng(0)
    song = np.sin(2 * np.pi * 4000 * np.arange(9 * RATE_HZ) / RATE_HZ).astype(np.float32)
    loud = song * np.linspace(0.1, 1, len(song), dtype=np.float32)
    rumble = rng.normal(0, 0.02, 20 * RATE_HZ).astype(np.float32)
    sounds = {"song": loud, "rumble": rumble}
    source = Source(Recording("song", Path("song"), ""), 0, ("bird",), ())
    for backdrop in (Recording("rumble", Path("rumble"), ""), None):
        for snr_db in (-6.0, 12.0):
            clip = PlannedClip(source, 12.0, 5.0, (0.0, 1.0, 0.5), snr_db)
            soundscape = PlannedSoundscape("s", 0, 30.0, (clip,), backdrop, (1,))
            around, parts, unheard = mix_parts(soundscape, lambda r: sounds[r.recording_id])
            ((event, sound),) = parts
            assert not unheard
            assert (event.start_s, event.end_s, event.source_start_s) == (12.0, 17.0, 4.0)
            first = 12 * RATE_HZ
            noise = band_power(around[first : first + len(sound)], *SONG_BAND_HZ)
            reached = 10 * np.log10(band_power(sound, *SONG_BAND_HZ) / noise)
            assert reached == pytest.approx(snr_db, abs=0.05)
            mixed = mix(soundscape, lambda r: sounds[r.recording_id]).samples
            assert len(mixed) == 30 * RATE_HZ
            rest = mixed[: 11 * RATE_HZ]
            np.testing.assert_allclose(rest, around[: len(rest)], atol=1e-6)


def test_what_cannot_be_heard_is_left_out_and_named() -> None:
    """A silent clip and one that does not decode make no event; the rest does."""

    def listen(recording: Recording) -> np.ndarray:
        if recording.recording_id == "broken":
            code = "decode_error"
            raise SkipRecording(code, recording.recording_id)
        level = 0.0 if recording.recording_id == "silent" else 0.1
        return np.random.default_rng(0).normal(0, level, 8 * RATE_HZ).astype(np.float32)

    clips = [
        PlannedClip(Source(Recording(name, Path(name), ""), 0, (name,), ()), 1.0, 5.0, (0.0,), 0.0)
        for name in ("silent", "broken", "sound")
    ]
    mixed = mix(PlannedSoundscape("s", 0, 20.0, tuple(clips), None, (1,)), listen)
    assert [event.source.recording.recording_id for event in mixed.events] == ["sound"]
    assert sorted(mixed.unheard) == ["broken", "silent"]


def test_plans_have_silence_overlap_and_every_class(heard: Path) -> None:
    """Over many plans: no, one and several birds at a time, never over three, all species."""
    material = gather(Store.open(heard / "store").snapshot())
    plans = plan(material, SimulateConfig(per_fold=10))
    at_once = set()
    for soundscape in plans:
        for now_s in np.arange(0.5, soundscape.duration_s, 1.0):
            singing = [c for c in soundscape.clips if c.start_s <= now_s < c.start_s + c.length_s]
            at_once.add(len(singing))
        assert soundscape.clips
        assert all(c.start_s + c.length_s <= soundscape.duration_s for c in soundscape.clips)
    assert at_once == set(range(MOST_AT_ONCE + 1))
    for fold, of_fold in material.sources.items():
        sung = {c.source.primary[0] for s in plans if s.fold == fold for c in s.clips}
        assert sung == set(of_fold)
    assert plan(material, SimulateConfig(per_fold=1))[1] == plans[10]


def test_the_same_seed_gives_the_same_bytes(heard: Path, finished: Path, tmp_path: Path) -> None:
    """Another run into another folder is equal byte by byte; another seed is not."""
    store = shutil.copytree(heard / "store", tmp_path / "store")
    assert _simulate(store, "--out", tmp_path / "again").code == 0
    assert _simulate(store, "--out", tmp_path / "other", "--seed", 1).code == 0
    names = sorted(p.relative_to(finished / "simulated") for p in finished.glob("simulated/*/*"))
    assert len(names) == 2 * 2 * FOLDS
    for name in [*names, Path("events.csv")]:
        first = (finished / "simulated" / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == first
        assert (tmp_path / "other" / name).read_bytes() != first


def test_a_second_run_makes_only_what_is_missing(store: Path) -> None:
    """Finished files keep their time of change; a lost one comes back; more may be asked for."""
    folder = store / "simulated"
    files = sorted(folder.glob("*/*.ogg"))
    lost, kept = files[0], files[1:]
    content, times = lost.read_bytes(), [path.stat().st_mtime_ns for path in kept]
    lost.unlink()
    (ended,) = _simulate(store, "--json").named("simulated")
    assert ended["made"] == 1
    assert lost.read_bytes() == content
    assert [path.stat().st_mtime_ns for path in kept] == times
    (ended,) = _simulate(store, "--json").named("simulated")
    assert (ended["made"], ended["version"]) == (0, None)
    (ended,) = _simulate(store, "--per-fold", 3, "--json").named("simulated")
    assert (ended["made"], ended["soundscapes"]) == (FOLDS, 3 * FOLDS)


def test_their_labels_hold_for_the_windows_that_overlap(finished: Path) -> None:
    """Window labels agree with the table of events, window by window."""
    opened = Store.open(finished)
    rows = opened.table("recordings").filter(split="simulated")
    assert set(rows["kind"]) == {"soundscape"}
    assert rows["duration_s"].to_list() == pytest.approx([30.0] * len(rows))
    classes = opened.table("classes").sort("index")["label"].to_list()
    events = _events(finished / "simulated").filter(role="primary")
    for name in rows["recording_id"]:
        start_s = np.arange(6) * 5.0
        keys = pl.DataFrame(
            {
                "recording_id": [name] * 6,
                "window": np.arange(6, dtype=np.int32),
                "start_s": start_s,
                "end_s": start_s + 5,
            }
        )
        matrix = label_matrix(keys, opened.table("labels"), classes)
        for column, label in enumerate(classes):
            own = events.filter(recording_id=name, label=label)
            expected = [
                any(a < s + 5 and b > s for a, b in own.select("start_s", "end_s").iter_rows())
                for s in start_s
            ]
            assert (matrix[:, column] == 1).tolist() == expected
    assert (matrix == 0).any()


def test_features_give_them_logits_by_the_model_of_their_fold(store: Path) -> None:
    """Their logits come from the model that held the fold out, whose heads are those of before."""
    models = {path.name for path in (store / "models" / "toy").iterdir()}
    ran = birdstack("features", "--store", store, *QUICK, "--json")
    assert ran.code == 0, ran.err
    assert {path.name for path in (store / "models" / "toy").iterdir()} == models
    snapshot = Store.open(store).snapshot()
    fold_of = _fold_of(store)
    logits = snapshot.view("logits/toy").collect()
    own = logits.filter(pl.col("recording_id").str.starts_with("simulated_soundscapes/"))
    assert len(own) == 2 * FOLDS * 6
    assert own["model_fold"].to_list() == [fold_of[name] for name in own["recording_id"]]
    assert own["model_fold"].equals(own["fold"].alias("model_fold"))
    levels = {row["level"]: row["recordings"] for row in ran.named("scored")}
    assert levels["window"] == levels["recording"] == 18
    assert levels["simulated window"] == levels["simulated recording"] == 2 * FOLDS


def test_no_training_hears_them(heard: Path, finished: Path) -> None:
    """Heads keep their key, and networks their training set."""
    settings = Settings.model_validate({"networks": {"define": TOY}})
    config = settings.networks.find("toy")
    keys, sets = [], []
    for path in (heard / "store", finished):
        snapshot = Store.open(path).snapshot()
        keys.append(head_key(snapshot, config, settings.head, settings.labels))
        data = training_set(snapshot, LabelsConfig())
        sets.append([recording.recording_id for recording in data.recordings])
    assert keys[0] == keys[1]
    assert sets[0] == sets[1]


def test_an_ingestion_keeps_them_unless_recordings_move(heard: Path, store: Path) -> None:
    """The same data change nothing; under a new split the soundscapes leave the folds."""
    before = _fold_of(store)
    ran = birdstack("ingest", heard / "birds", "--store", store, "--json")
    assert ran.code == 0, ran.err
    assert _fold_of(store) == before
    assert ran.named("ingested")[0]["version"] is None
    ran = birdstack("ingest", heard / "birds", "--store", store, "--set", "folds.seed=5")
    assert ran.code == 0, ran.err
    after = _fold_of(store)
    assert any(after.get(name, fold) != fold for name, fold in before.items())
    assert not [name for name in after if name.startswith("simulated_soundscapes/")]
    assert "simulate them again" in ran.err
    ran = _simulate(store)
    assert ran.code == 2
    assert "other recordings, labels or folds" in ran.err


def test_without_material_the_error_says_what_to_do(tmp_path: Path) -> None:
    """No store, no labels, one fold, a folder of something else: a message and a remedy."""
    ran = _simulate(tmp_path / "none")
    assert ran.code == 2
    birds = make_birds(tmp_path / "birds", species=1, clips=1, soundscapes=1)
    assert birdstack("ingest", birds / "unlabeled_soundscapes", "--store", tmp_path / "a").code == 0
    ran = _simulate(tmp_path / "a")
    assert ran.code == 1
    assert "no labelled recording with sound" in ran.err
    assert "remedy: ingest labelled recordings" in ran.err
    assert birdstack("ingest", birds, "--store", tmp_path / "b").code == 0
    ran = _simulate(tmp_path / "b")
    assert ran.code == 1
    assert "of 1 fold with sound" in ran.err


def test_a_folder_of_something_else_is_left_alone(heard: Path, tmp_path: Path) -> None:
    """What simulate has not made it does not write into."""
    store = shutil.copytree(heard / "store", tmp_path / "store")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("all of it")
    ran = _simulate(store, "--out", mine)
    assert ran.code == 2
    assert "not simulated soundscapes" in ran.err
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
