"""Parts that a dead run finished are taken over, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import fault_support as toy
import pytest

from birdstack.store.commit import Commit
from birdstack.store.layout import entry_path
from birdstack.store.store import Store


@pytest.fixture
def orphaned(tmp_path: Path) -> Store:
    """Twelve recordings in three parts, of which the log mentions none."""
    store = Store.create(tmp_path)
    toy.fill(store, toy.toy_recordings(12))
    (tmp_path / entry_path(0)).unlink()
    return Store.open(tmp_path)


def test_whole_parts_are_adopted(orphaned: Store) -> None:
    """Nothing is heard again; the statistics are those of the rows."""
    recordings = toy.toy_recordings(12)
    report = toy.fill(orphaned, recordings)
    assert (report.adopted, report.heard, report.already) == (3, 0, 0)
    toy.assert_holds(orphaned, recordings)
    (commit,) = orphaned.log.history()
    assert commit.operation == "adopt"
    (columns,) = orphaned.snapshot().state.statistics.values()
    frame = toy.truth(recordings)
    assert columns["level"].n == frame.height
    assert columns["level"].high == frame["level"].max()
    assert columns["vector"].n == frame.height * toy.DIM


def test_parts_of_changed_recordings_are_left(orphaned: Store) -> None:
    """A part with one recording that has changed since is not what a run would compute now."""
    recordings = toy.toy_recordings(12)
    wanted = [*toy.toy_recordings(1, content="edited"), *recordings[1:]]
    report = toy.fill(orphaned, wanted)
    assert (report.adopted, report.heard) == (2, 4)
    toy.assert_holds(orphaned, wanted)


def test_parts_of_unwanted_recordings_are_left(orphaned: Store) -> None:
    """A part that holds more than what is asked for is not taken."""
    recordings = sorted(toy.toy_recordings(12), key=lambda r: r.recording_id)[:6]
    report = toy.fill(orphaned, recordings)
    assert (report.adopted, report.heard) == (1, 2)
    toy.assert_holds(orphaned, recordings)


def test_torn_foreign_and_odd_files_are_left(orphaned: Store) -> None:
    """Torn parts, parts of another recipe, and other files stay where they are, unread."""
    folder = next(Path(orphaned.url).glob("views/toy/*"))
    first, second, third = sorted(folder.glob("part-*"))
    first.write_bytes(first.read_bytes()[:-4])
    second.write_bytes(b"")
    (folder / "notes.txt").write_text("mine")
    (folder / "part-mine.parquet").write_text("no Parquet")
    other = toy.ToyExtractor(version=2)
    target = folder.with_name(other.spec.recipe_hash)
    target.mkdir()
    third.rename(target / third.name)
    report = toy.fill(orphaned, toy.toy_recordings(12))
    assert (report.adopted, report.heard) == (0, 12)
    assert toy.fill(orphaned, toy.toy_recordings(12), extractors=[other]).adopted == 0
    toy.assert_holds(orphaned, toy.toy_recordings(12))


def test_two_orphans_of_the_same_recordings(orphaned: Store) -> None:
    """Of two parts with the same recordings one is adopted: rows never double."""
    folder = next(Path(orphaned.url).glob("views/toy/*"))
    first = min(folder.glob("part-*"))
    (folder / "part-copy.parquet").write_bytes(first.read_bytes())
    assert toy.fill(orphaned, toy.toy_recordings(12)).adopted == 3
    toy.assert_holds(orphaned, toy.toy_recordings(12))


def test_an_orphan_with_new_content_replaces_the_old_rows(tmp_path: Path) -> None:
    """A run that died after rewriting a changed recording: its part is taken, old rows go."""
    store = Store.create(tmp_path)
    old = toy.toy_recordings(4)
    toy.fill(store, old)
    new = [*toy.toy_recordings(1, content="edited"), *old[1:]]
    toy.fill(store, new)
    (tmp_path / entry_path(1)).unlink()
    again = Store.open(tmp_path)
    report = toy.fill(again, new)
    assert (report.adopted, report.heard) == (1, 0)
    toy.assert_holds(again, new)


def test_a_live_writers_part_that_was_adopted_is_there_once(tmp_path: Path) -> None:
    """Another run adopts a part before its writer commits it: the writer's commit adds nothing."""
    store = Store.create(tmp_path)
    recordings = toy.toy_recordings(4)
    toy.fill(store, recordings)
    commit = store.log.read(0)
    (tmp_path / entry_path(0)).unlink()
    again = Store.open(tmp_path)
    assert toy.fill(again, recordings).adopted == 1
    late = Commit("features", add=commit.add, activate=commit.activate)
    assert Store.open(tmp_path).log.append(late) is None
    toy.assert_holds(Store.open(tmp_path), recordings)
