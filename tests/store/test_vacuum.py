"""Vacuum deletes what nobody can read any more, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import fault_support as toy
import pytest

from birdstack.store.compact import compact
from birdstack.store.errors import UsageError
from birdstack.store.store import Store
from birdstack.store.vacuum import vacuum
from birdstack.store.verify import verify

OLD, NEW = toy.toy_recordings(8), toy.toy_recordings(8, content="edited")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Snapshot 0 of the old contents, 1 of the new, 2 compacted."""
    store = Store.create(tmp_path)
    toy.fill(store, OLD)
    toy.fill(store, NEW)
    compact(store)
    assert store.log.head().version == 2
    return store


def _parts(store: Store) -> set[str]:
    return {info.path for info in store.files.walk("views") if info.path.endswith(".parquet")}


def test_old_snapshots_go_and_say_so(store: Store) -> None:
    """With no grace only the newest stays; an older one is refused with the reason."""
    before = _parts(store)
    done = vacuum(store, grace_hours=0)
    assert {info.path for info in done.files} == before - {toy.parts_of(store)[0].path}
    assert done.n_bytes > 0
    assert _parts(store) == {part.path for part in toy.parts_of(store)}
    toy.assert_holds(Store.open(store.url), NEW)
    for at in (0, "1"):
        with pytest.raises(UsageError, match=rf"snapshot {at} was vacuumed; the oldest is 2"):
            Store.open(store.url).snapshot(at)
    assert verify(store) == []
    assert vacuum(store, grace_hours=0).files == ()


def test_pinned_snapshots_stay(store: Store) -> None:
    """A pin keeps its parts through any number of vacuums, until it is taken away."""
    store.pin("paper", at=0)
    vacuum(store, grace_hours=0)
    vacuum(store, grace_hours=0)
    again = Store.open(store.url)
    assert again.view("toy", at="paper").collect().equals(toy.truth(OLD))
    assert again.view("toy", at=0).collect().equals(toy.truth(OLD))
    with pytest.raises(UsageError, match="snapshot 1 was vacuumed"):
        again.snapshot(1)
    again.unpin("paper")
    assert len(vacuum(again, grace_hours=0).files) == 2
    with pytest.raises(UsageError, match="snapshot 0 was vacuumed"):
        Store.open(store.url).snapshot(0)


def test_grace_keeps_recent_snapshots(store: Store) -> None:
    """A snapshot that was the newest within the grace period can still be read."""
    assert vacuum(store).files == ()
    assert store.view("toy", at=0).collect().equals(toy.truth(OLD))


def test_young_files_stay_whatever_they_are(store: Store) -> None:
    """A part that a running writer has not committed yet is not rubbish."""
    (part,) = toy.parts_of(store)
    folder = (Path(store.url) / part.path).parent
    young, old = folder / "part-young.parquet", folder / "part-old.parquet"
    for file in (young, old):
        file.write_bytes(b"x")
    hours_ago = time.time() - 48 * 3600
    os.utime(old, (hours_ago, hours_ago))
    assert [info.path.rsplit("/", 1)[1] for info in vacuum(store).files] == [old.name]
    assert (young.exists(), old.exists()) == (True, False)


def test_dry_run_deletes_nothing(store: Store) -> None:
    """It says what would go, and writes no commit."""
    before = _parts(store)
    done = vacuum(store, grace_hours=0, dry_run=True)
    assert done.files
    assert _parts(store) == before
    assert store.log.head().version == 2
    store.snapshot(0)


def test_other_files_are_not_ours(store: Store) -> None:
    """Recipes, notes and what repair set aside stay."""
    kept = [Path(store.url) / "damaged" / "0000000001.json"]
    kept += [*Path(store.url).glob("views/toy/*/recipe.json")]
    kept += [kept[-1].with_name("notes.txt"), Path(store.url) / "mine.txt"]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    vacuum(store, grace_hours=0)
    assert all(path.exists() for path in kept)


def test_an_empty_store_and_a_negative_grace(tmp_path: Path) -> None:
    """Nothing to do is fine; a negative period is refused."""
    store = Store.create(tmp_path)
    assert vacuum(store, grace_hours=0).files == ()
    with pytest.raises(UsageError, match="grace_hours must be >= 0, got -1"):
        vacuum(store, grace_hours=-1)
