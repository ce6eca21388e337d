"""verify names everything that is damaged; repair takes it out of use, and deletes nothing."""

from __future__ import annotations

from pathlib import Path

import fault_support as toy
import pytest

from birdstack.store.layout import entry_path
from birdstack.store.store import Store
from birdstack.store.verify import count_orphans, repair, verify


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three parts and a pin."""
    store = Store.create(tmp_path)
    toy.fill(store, toy.toy_recordings(12))
    store.pin("kept")
    return store


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_whole_store(store: Store) -> None:
    """No problems; progress ends at all bytes."""
    seen: list[tuple[int, int]] = []
    assert verify(store, progress=lambda done, total: seen.append((done, total))) == []
    total = sum(part.n_bytes for part in toy.parts_of(store))
    assert seen[-1] == (total, total)
    assert len(seen) == 3


def test_everything_at_once(store: Store, tmp_path: Path) -> None:
    """Pin, recipe and two parts in one report, each by its path."""
    first, second, _ = toy.parts_of(store)
    recipe = next(tmp_path.glob("views/toy/*/recipe.json"))
    for path in (recipe, tmp_path / "pins" / "kept.json", tmp_path / first.path):
        _damage(path)
    (tmp_path / second.path).unlink()
    problems = verify(Store.open(tmp_path))
    assert [(p.kind, p.path) for p in problems] == [
        ("pin", "pins/kept.json"),
        ("recipe", recipe.parent.relative_to(tmp_path).as_posix()),
        ("part", first.path),
        ("part", second.path),
    ]
    files = {p for p in tmp_path.rglob("*") if p.is_file()}
    said = repair(Store.open(tmp_path), problems)
    assert len(said) == 4
    after = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert {p.name for p in files} <= after  # nothing is deleted
    toy.fill(Store.open(tmp_path), toy.toy_recordings(12))
    toy.assert_holds(Store.open(tmp_path), toy.toy_recordings(12))
    (tmp_path / "pins" / "kept.json").unlink()
    assert verify(Store.open(tmp_path)) == []


def test_a_damaged_log_hides_the_rest_until_it_is_mended(store: Store, tmp_path: Path) -> None:
    """While an entry is unreadable, what is live is unknown: only the entry is reported."""
    toy.fill(store, toy.toy_recordings(16))
    _damage(tmp_path / entry_path(1))
    _damage(tmp_path / toy.parts_of(store)[0].path)
    again = Store.open(tmp_path)
    problems = verify(again)
    assert [p.kind for p in problems] == ["log"]
    repair(again, problems)
    problems = verify(again)
    assert [p.kind for p in problems] == ["part"]
    repair(again, problems)
    toy.fill(again, toy.toy_recordings(16))
    toy.assert_holds(Store.open(tmp_path), toy.toy_recordings(16))


def test_orphans_are_counted(store: Store, tmp_path: Path) -> None:
    """Parts that the newest snapshot does not name."""
    assert count_orphans(store, store.log.head()) == 0
    (tmp_path / toy.parts_of(store)[0].path).with_name("part-x.parquet").touch()
    assert count_orphans(store, store.log.head()) == 1
