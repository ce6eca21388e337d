"""The demo folder: what is in it, that it repeats, and that it is never half there."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from birdstack.features import demo_dataset
from birdstack.features.demo_config import DemoConfig
from birdstack.features.demo_dataset import make_demo, plan_demo
from birdstack.features.demo_focal import recording_counts
from birdstack.features.demo_soundscapes import JITTER_DB, SNR_DB
from birdstack.features.demo_tables import MIN_OVERLAP_S, truth_csv
from birdstack.features.probe import AudioProbe
from birdstack.store.errors import DatasetError, UsageError
from birdstack.store.ingest import ingest
from birdstack.store.ingest_config import IngestConfig
from birdstack.store.store import Store

TINY = DemoConfig(
    seed=11, n_species=2, n_recordings=2, n_unlabeled=1, unlabeled_s=10, n_test=1, test_s=10
)
SMALL = DemoConfig.of_size("small")
DEFAULT = plan_demo(DemoConfig())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished demo data of the small size; tests do not change them."""
    folder = tmp_path_factory.mktemp("demo") / "birds"
    make_demo(folder, SMALL)
    return folder


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    """Every file of two runs with one seed is identical; another seed changes all audio."""
    for name, seed in (("a", 11), ("b", 11), ("c", 12)):
        make_demo(tmp_path / name, TINY.model_copy(update={"seed": seed}))
    first, second, other = (_hashes(tmp_path / name) for name in "abc")
    assert first == second
    assert not set(first.values()) & {h for name, h in other.items() if name.endswith(".ogg")}


def test_the_default_has_a_dozen_species_and_a_long_tail() -> None:
    """At least 12 species, most with 10 recordings or more, some with few, the last with 2."""
    counts = sorted(Counter(focal.species.code for focal in DEFAULT.focal).values())
    assert len(counts) >= 12
    assert counts[0] == 2
    assert sum(count >= 10 for count in counts) > len(counts) / 2
    assert len([count for count in counts if count < 8]) >= 3
    minutes = sum(focal.scene.duration_s for focal in DEFAULT.focal) / 60
    assert 20 < minutes < 32


@pytest.mark.parametrize(("n_species", "most"), [(2, 2), (4, 6), (14, 12), (48, 500)])
def test_counts_never_rise_along_the_tail(n_species: int, most: int) -> None:
    """Whatever the size: every species has 2 to `most` recordings, and the last has 2."""
    counts = recording_counts(n_species, most)
    assert len(counts) == n_species
    assert counts[-1] == 2
    assert all(2 <= count <= most for count in counts)


def test_focal_recordings_look_like_birdclef() -> None:
    """Lengths of 8 to 40 s, several recordings of each author, secondaries listed and unlisted."""
    focal = DEFAULT.focal
    assert all(8 <= one.scene.duration_s <= 40 for one in focal)
    assert np.median(list(Counter(one.author.handle for one in focal).values())) >= 3
    heard = [{e.species for e in one.scene.events} - {one.species.code} for one in focal]
    assert all(set(one.secondary) <= others for one, others in zip(focal, heard, strict=True))
    listed = sum(bool(one.secondary) for one in focal)
    unlisted = sum(len(o) > len(one.secondary) for one, o in zip(focal, heard, strict=True))
    assert listed >= 10
    assert unlisted >= 4
    assert all(any(e.species == one.species.code for e in one.scene.events) for one in focal)


def test_ratings_follow_what_is_heard() -> None:
    """Among rated recordings, rating and signal-to-noise ratio are strongly correlated."""
    rated = [(one.rating, one.scene.events[0].snr_db) for one in DEFAULT.focal if one.rating]
    rating, snr_db = np.array(rated).T
    assert 0 < len(DEFAULT.focal) - len(rated) < 0.2 * len(DEFAULT.focal)
    assert np.corrcoef(rating, snr_db)[0, 1] > 0.7


def test_ranges_and_hours_belong_to_the_species() -> None:
    """Recordings lie around the centre of the range; the owl is recorded at night only."""
    for species in DEFAULT.species:
        own = [one for one in DEFAULT.focal if one.species is species]
        away = [abs(one.latitude - species.latitude) / species.spread_deg for one in own]
        assert np.median(away) < 2
    owls = [one for one in DEFAULT.focal if one.species.code == "demowl1"]
    assert owls
    assert all(one.time.hour >= 15 or one.time.hour <= 9 for one in owls)


def test_every_class_sings_in_the_test_soundscapes_within_the_range() -> None:
    """Each species has events in two soundscapes; ratios lie in the range and fill it."""
    events = [event for plan in DEFAULT.test for event in plan.scene.events]
    where = {(e.species, plan.scene.path) for plan in DEFAULT.test for e in plan.scene.events}
    assert min(Counter(species for species, _ in where).values()) >= 2
    assert {e.species for e in events} == set(DEFAULT.classes)
    ratios = np.array([event.snr_db for event in events])
    assert ratios.min() >= SNR_DB[0] - JITTER_DB - 0.01
    assert ratios.max() <= SNR_DB[1] + JITTER_DB + 0.01
    assert np.ptp(ratios) > 0.8 * (SNR_DB[1] - SNR_DB[0])
    assert all(0 <= e.start_s < e.end_s <= 240 for e in events)


def test_windows_without_any_bird_are_there() -> None:
    """A fifth to three quarters of the test windows are silent, as in the field."""
    lines = truth_csv(DEFAULT.test, DEFAULT.classes).splitlines()[1:]
    silent = np.mean(["1" not in line.split(",")[1:] for line in lines])
    assert 0.2 < silent < 0.75


def test_the_truth_is_the_events(small: Path) -> None:
    """The table of windows follows from the table of events, by the documented rule."""
    truth = pl.read_csv(small / "test_soundscapes_truth.csv")
    events = pl.read_csv(small / "test_soundscapes_events.csv")
    expected = []
    for row_id in truth["row_id"]:
        stem, _, end = row_id.rpartition("_")
        own = events.filter(pl.col("filename") == f"{stem}.ogg")
        overlap = pl.min_horizontal("end_s", pl.lit(float(end))) - pl.max_horizontal(
            "start_s", pl.lit(float(end) - 5)
        )
        needed = pl.min_horizontal(pl.lit(MIN_OVERLAP_S), pl.col("end_s") - pl.col("start_s"))
        heard = set(own.filter(overlap > needed - 0.0005)["species"])
        expected.append([int(label in heard) for label in truth.columns[1:]])
    assert truth.drop("row_id").rows() == [tuple(row) for row in expected]
    assert truth.drop("row_id").sum().row(0) > (0,) * 4


def test_tables_agree_with_each_other_and_the_files(small: Path) -> None:
    """Submission, truth and taxonomy name the same classes; every row names a file."""
    submission = pl.read_csv(small / "sample_submission.csv")
    truth = pl.read_csv(small / "test_soundscapes_truth.csv")
    metadata = pl.read_csv(small / "train_metadata.csv")
    assert submission.columns == truth.columns
    assert submission["row_id"].equals(truth["row_id"])
    assert submission.columns[1:] == pl.read_csv(small / "taxonomy.csv")["primary_label"].to_list()
    assert metadata.columns[:12] == [
        *("primary_label", "secondary_labels", "type", "latitude", "longitude"),
        *("scientific_name", "common_name", "author", "license", "rating", "url", "filename"),
    ]
    files = {p.relative_to(small / "train_audio").as_posix() for p in small.rglob("DEMO*.ogg")}
    assert set(metadata["filename"]) == files
    assert metadata["filename"].is_unique().all()
    per_file = truth.select(pl.col("row_id").str.extract(r"^(.*)_\d+$").alias("f")).group_by("f")
    assert dict(per_file.len().iter_rows()) == {
        path.stem: 12 for path in (small / "test_soundscapes").iterdir()
    }


def test_audio_is_sound(small: Path) -> None:
    """Mono OGG Vorbis at 32 kHz of the planned length; finite, not silent, clipped by few."""
    scenes = {scene.path: scene for scene in plan_demo(SMALL).scenes}
    assert set(scenes) == {p.relative_to(small).as_posix() for p in small.rglob("*.ogg")}
    for name, scene in scenes.items():
        info = soundfile.info(small / name)
        assert (info.format, info.subtype, info.channels) == ("OGG", "VORBIS", 1)
        sound, rate_hz = soundfile.read(small / name, dtype="float32")
        assert (rate_hz, len(sound)) == (32_000, scene.n_samples)
        assert np.isfinite(sound).all()
        assert np.sqrt(np.mean(np.square(sound))) > 1e-4
        if scene.equipment.peak_db is None or scene.equipment.peak_db < -1.0:
            assert np.abs(sound).max() < 1.05  # Vorbis may overshoot a little


def test_sizes_are_kept(small: Path) -> None:
    """The small size takes less than 6 MB, at most 80 kbit/s of sound."""
    n_bytes = sum(path.stat().st_size for path in small.rglob("*.ogg"))
    seconds = sum(scene.duration_s for scene in plan_demo(SMALL).scenes)
    assert n_bytes < 6e6
    assert n_bytes * 8 / seconds < 80_000


def test_ingestion_finds_everything_and_no_test_label(small: Path, tmp_path: Path) -> None:
    """Every file is taken in without a reject; the test split stays unlabelled."""
    store = Store.create(str(tmp_path / "store"))
    with AudioProbe() as probe:
        report = ingest(store, small, IngestConfig(), None, probe=probe)
    assert report.rejects.is_empty()
    recordings, labels = (store.snapshot().table(name) for name in ("recordings", "labels"))
    plan = plan_demo(SMALL)
    assert Counter(recordings["split"]) == {
        "train": len(plan.focal),
        "unlabeled": len(plan.unlabeled),
        "test": len(plan.test),
    }
    train = set(recordings.filter(pl.col("split") == "train")["recording_id"])
    assert set(labels["recording_id"]) == train
    assert set(labels["label"]) == set(plan.classes)
    unlabeled = recordings.filter(pl.col("split") == "unlabeled")
    assert unlabeled.select("site", "date", "time").null_count().row(0) == (0, 0, 0)


def test_a_second_run_leaves_finished_data_alone(small: Path) -> None:
    """Nothing is written again, and the report says that the data were there."""
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    report = make_demo(small, SMALL)
    assert not report.made
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


def test_an_interrupted_run_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target appears only when whole; what was written is kept, and the bytes are the same."""
    target = tmp_path / "birds"
    rendered = []

    def stop_after_two(done: int, total: int, words: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_demo(target, TINY, stop_after_two)
    assert not target.exists()
    render = demo_dataset.render_scene
    monkeypatch.setattr(
        demo_dataset, "render_scene", lambda scene: rendered.append(scene.path) or render(scene)
    )
    assert make_demo(target, TINY).made
    assert len(rendered) == len(plan_demo(TINY).scenes) - 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["birds"]
    make_demo(tmp_path / "at once", TINY)
    assert _hashes(target) == _hashes(tmp_path / "at once")


def test_what_another_seed_left_unfinished_is_not_mixed_in(tmp_path: Path) -> None:
    """An interrupted run with another seed is thrown away, not continued."""
    target = tmp_path / "birds"

    def stop(done: int, total: int, words: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_demo(target, TINY.model_copy(update={"seed": 99}), stop)
    make_demo(target, TINY)
    plan = plan_demo(TINY)
    audio = {p.relative_to(target).as_posix() for p in target.rglob("*.ogg")}
    assert audio == {scene.path for scene in plan.scenes}
    assert json.loads((target / "demo.json").read_text())["seed"] == 11


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    """A folder that was made beforehand and holds nothing is filled."""
    (tmp_path / "birds").mkdir()
    assert make_demo(tmp_path / "birds", TINY).made
    assert (tmp_path / "birds" / "demo.json").is_file()


@pytest.mark.parametrize("name", ["notes.txt", "demo.json"])
def test_a_foreign_folder_is_refused_and_untouched(tmp_path: Path, name: str) -> None:
    """A folder with anything else in it is never written to, whatever its files are called."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("[]")
    with pytest.raises(UsageError, match=r"mine' holds something that is not demo data"):
        make_demo(tmp_path / "mine", TINY)
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", name]


def test_demo_data_of_another_seed_are_refused(small: Path) -> None:
    """Finished data of another configuration stay; the message shows both."""
    with pytest.raises(UsageError, match=r"'seed': 0.*asked for was.*'seed': 4"):
        make_demo(small, SMALL.model_copy(update={"seed": 4}))


def test_lost_files_are_noticed(small: Path, tmp_path: Path) -> None:
    """Finished data from which a file was removed are not taken for whole."""
    copy = tmp_path / "copy"
    shutil.copytree(small, copy)
    (copy / "taxonomy.csv").unlink()
    with pytest.raises(DatasetError, match=r"1 of \d+ files are gone, first taxonomy.csv"):
        make_demo(copy, SMALL)


def test_a_file_in_the_way_and_a_missing_parent_are_refused(tmp_path: Path) -> None:
    """The folder must be a folder, and lie in one."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        make_demo(tmp_path / "file", TINY)
    with pytest.raises(UsageError, match="no folder at"):
        make_demo(tmp_path / "no" / "birds", TINY)


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    """While another process writes the same target, a second one refuses at once."""
    partial = tmp_path / ".birds.partial"
    partial.mkdir()
    handle = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(DatasetError, match="another process is writing"):
            make_demo(tmp_path / "birds", TINY)
    finally:
        os.close(handle)
    assert make_demo(tmp_path / "birds", TINY).made


def test_a_full_disk_is_told_and_the_run_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the file system names the place and the remedy; nothing is half there."""

    def no_room(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(demo_dataset, "_write", no_room)
        with pytest.raises(DatasetError, match="No space left") as told:
            make_demo(tmp_path / "birds", TINY)
    assert "run it again" in told.value.remedy
    assert not (tmp_path / "birds").exists()
    assert make_demo(tmp_path / "birds", TINY).made
