"""Ingestion as a whole: tables, duplicates across datasets, folds, one commit."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from support.birds import make_birds

from birdstack.features.probe import AudioProbe
from birdstack.store.catalog import load_recordings, refresh_changed
from birdstack.store.folds import FoldsConfig
from birdstack.store.ingest import IngestReport, ingest
from birdstack.store.ingest_config import IngestConfig
from birdstack.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.create(tmp_path / "store")


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """12 clips of 3 species and a soundscape."""
    return make_birds(tmp_path / "birds")


def bring_in(
    store: Store, root: Path, *, n_folds: int = 3, seed: int = 0, **config
) -> IngestReport:
    """Ingest a dataset as the command does."""
    with AudioProbe() as probe:
        return ingest(
            store,
            root,
            IngestConfig(**config),
            None if n_folds is None else FoldsConfig(n_folds=n_folds, seed=seed),
            probe=probe,
        )


def test_one_commit_holds_the_whole_dataset(store: Store, birds: Path):
    """Recordings, labels, classes, folds and rejects come into being together."""
    report = bring_in(store, birds)

    assert report.commit is not None
    assert report.commit.version == 0
    assert store.table("recordings").height == 13
    assert store.table("classes")["label"].to_list() == ["bird0", "bird1", "bird2"]
    labels = store.table("labels")
    assert labels.filter(pl.col("role") == "secondary").height == 3
    assert store.table("folds").height == 12
    assert store.table("rejects").height == 0


def test_authors_never_part(store: Store, birds: Path):
    """All clips of one author lie in one fold."""
    bring_in(store, birds)

    joined = store.table("folds").join(store.table("recordings"), on="recording_id")
    assert joined.group_by("author").agg(pl.col("fold").n_unique())["fold"].max() == 1


def test_a_second_time_nothing_changes(store: Store, birds: Path):
    """An unchanged dataset makes no commit."""
    bring_in(store, birds)

    again = bring_in(store, birds)

    assert again.commit is None
    assert again.summary["read_files"] == 0


def test_recordings_keep_their_folds_when_the_dataset_grows(store: Store, birds: Path):
    """New clips are dealt out around the old assignment."""
    bring_in(store, birds)
    before = dict(store.table("folds").select("recording_id", "fold").iter_rows())
    more = make_birds(birds.parent / "more", clips=9, soundscapes=0, seed=5)
    for extra in sorted(more.rglob("*.ogg")):
        target = birds / extra.relative_to(more)
        if not target.exists():
            shutil.copy(extra, target)
    shutil.copy(more / "train_metadata.csv", birds / "train_metadata.csv")

    bring_in(store, birds)

    after = dict(store.table("folds").select("recording_id", "fold").iter_rows())
    assert len(after) == 27
    assert {i: after[i] for i in before} == before


def test_another_seed_makes_another_split(store: Store, birds: Path):
    """Settings of the folds that change are not passed over; the old split stays readable."""
    bring_in(store, birds, n_folds=3, seed=0)
    first = store.table("folds")

    report = bring_in(store, birds, n_folds=2, seed=1)

    assert report.commit is not None
    assert store.table("folds")["fold"].n_unique() == 2
    assert store.table("folds", at=0).equals(first)


def test_the_split_in_force_is_carried_on_unless_asked_otherwise(store: Store, birds: Path):
    """A later ingestion without settings of the folds changes none of them."""
    bring_in(store, birds, n_folds=2, seed=3)

    again = bring_in(store, birds, n_folds=None)

    assert again.commit is None
    assert store.table("folds")["fold"].n_unique() == 2


def test_the_datasets_own_folds_are_taken_as_they_are(store: Store, birds: Path):
    """--fold-column wins over made folds."""
    table = birds / "train_metadata.csv"
    lines = table.read_text("utf-8").splitlines()
    own = [lines[0] + ",official_fold"] + [f"{x},{i % 4 + 1}" for i, x in enumerate(lines[1:])]
    table.write_text("\n".join(own) + "\n", "utf-8")

    report = bring_in(store, birds, fold_column="official_fold")

    assert report.split is not None
    assert sorted(store.table("folds")["fold"].unique()) == [1, 2, 3, 4]
    assert report.split.report["leaks"], "authors span the given folds, which must be said"

    again = bring_in(store, birds, n_folds=None)

    assert again.commit is None, "the fold column is remembered"


def test_copies_across_datasets_share_a_group(store: Store, birds: Path):
    """The same bytes in a second dataset are known as a duplicate of the first."""
    bring_in(store, birds)
    other = birds.parent / "other"
    (other / "bird1").mkdir(parents=True)
    shutil.copy(birds / "train_audio/bird1/XC1000.ogg", other / "bird1/copy.ogg")

    bring_in(store, other)

    recordings = store.table("recordings")
    copies = recordings.filter(pl.col("duplicate_group").is_not_null())
    assert set(copies["recording_id"]) == {"bird1/copy.ogg", "train_audio/bird1/XC1000.ogg"}
    folds = dict(store.table("folds").select("recording_id", "fold").iter_rows())
    assert folds["bird1/copy.ogg"] == folds["train_audio/bird1/XC1000.ogg"]


def test_an_id_that_another_dataset_owns_is_rejected(store: Store, birds: Path):
    """Two datasets with the same paths do not overwrite each other."""
    bring_in(store, birds)
    twin = make_birds(birds.parent / "twin", seed=9, soundscapes=0)

    report = bring_in(store, twin)

    assert report.summary["rejected"] == 12
    assert set(report.rejects["rule"]) == {"unique_recording_id"}
    assert store.table("recordings").height == 13


def test_a_replaced_file_is_noticed_without_another_ingestion(store: Store, birds: Path):
    """Size and time tell that a file changed; its hash follows."""
    bring_in(store, birds)
    target = birds / "train_audio/bird0/XC0001.ogg"
    shutil.copy(birds / "train_audio/bird2/XC2003.ogg", target)

    with AudioProbe() as probe:
        changed = refresh_changed(store, probe)
        again = refresh_changed(store, probe)

    assert changed == ["train_audio/bird0/XC0001.ogg"]
    assert again == []
    hashes = {r.recording_id: r.content_hash for r in load_recordings(store.snapshot())}
    assert hashes[changed[0]] == hashes["train_audio/bird2/XC2003.ogg"]


def test_only_the_wanted_split_is_listed(store: Store, birds: Path):
    """Splits part focal clips from soundscapes."""
    bring_in(store, birds)

    assert len(load_recordings(store.snapshot(), ["train"])) == 12
    assert len(load_recordings(store.snapshot(), ["unlabeled"])) == 1
    soundscape = load_recordings(store.snapshot(), ["unlabeled"])[0]
    assert soundscape.site == "SITE0"
    assert str(soundscape.date) == "2024-05-01"
