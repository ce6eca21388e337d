"""Changed recordings leave their parts, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import fault_support as toy
import pytest

from birdstack.store.replace import superseded, without_live
from birdstack.store.store import Store


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store]:
    """Eight recordings in two parts, and another store to make newcomers in."""
    store = Store.create(tmp_path / "a")
    toy.fill(store, toy.toy_recordings(8))
    return store, Store.create(tmp_path / "b")


def _newcomer(stores: tuple[Store, Store], recordings) -> list:
    """Parts with these recordings, lying in the first store, uncommitted."""
    store, other = stores
    toy.fill(other, recordings, unit_recordings=99)
    (part,) = toy.parts_of(other)
    (Path(store.url) / part.path).write_bytes((Path(other.url) / part.path).read_bytes())
    return [part]


def test_a_changed_recording_leaves_its_part(stores) -> None:
    """The part is written again without it; the other part is untouched."""
    store, _ = stores
    changed = toy.toy_recordings(1, first=2, content="edited")
    added = _newcomer(stores, changed)
    old = toy.parts_of(store)
    (hit,) = [p for p in old if changed[0].recording_id in {c.recording_id for c in p.recordings}]
    rewritten, removed = superseded(store.files, store.log.head(), added)
    assert removed == [hit.path]
    assert [c.recording_id for c in rewritten[0].recordings] == [
        c.recording_id for c in hit.recordings if c.recording_id != changed[0].recording_id
    ]
    assert rewritten[0].rows == sum(c.windows for c in rewritten[0].recordings)


def test_a_part_that_is_all_changed_goes_without_an_heir(stores) -> None:
    """Nothing is written where nothing is left."""
    store, _ = stores
    added = _newcomer(stores, toy.toy_recordings(8, content="edited"))
    rewritten, removed = superseded(store.files, store.log.head(), added)
    assert rewritten == []
    assert sorted(removed) == sorted(p.path for p in toy.parts_of(store))


def test_the_same_content_supersedes_nothing(stores) -> None:
    """A newcomer with what is there already is dropped, or trimmed to what is new."""
    store, _ = stores
    added = _newcomer(stores, toy.toy_recordings(4, first=6))
    assert superseded(store.files, store.log.head(), added) == ([], [])
    (trimmed,) = without_live(store.files, store.log.head(), added)
    assert {c.recording_id for c in trimmed.recordings} == {
        r.recording_id for r in toy.toy_recordings(2, first=8)
    }
    assert without_live(store.files, store.log.head(), toy.parts_of(store)) == []


def test_other_views_and_recipes_are_left_alone(stores) -> None:
    """A recording that changed for one view keeps its rows in another."""
    store, _ = stores
    toy.fill(store, toy.toy_recordings(8), extractors=[toy.ToyExtractor("other")])
    toy.fill(store, toy.toy_recordings(8), extractors=[toy.ToyExtractor(version=2)])
    changed = [*toy.toy_recordings(1, content="edited"), *toy.toy_recordings(8)[1:]]
    toy.fill(store, changed)
    toy.assert_holds(store, changed)
    toy.assert_holds(store, toy.toy_recordings(8), view="other")
    second = toy.toy_spec(version=2).recipe_hash
    assert store.view("toy", recipe=second).collect().equals(toy.truth(toy.toy_recordings(8)))
