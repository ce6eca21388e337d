"""Compaction changes how rows lie, never which rows there are."""

from __future__ import annotations

import tempfile
from pathlib import Path

import fault_support as toy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdstack.store.compact import compact
from birdstack.store.scan import overlapping
from birdstack.store.store import Store
from birdstack.store.verify import verify

N = 24


@settings(deadline=None, max_examples=20)
@given(
    st.permutations(range(N)),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sampled_from([0.001, 0.003, 0.01, 256.0]),
)
def test_rows_stay_the_same(order: list[int], units: list[int], megabytes: float) -> None:
    """Any order, any parts, any size: equal rows, old snapshots too, fewer or sorted parts."""
    store = Store.create(tempfile.mkdtemp())
    recordings = toy.toy_recordings(N)
    step = -(-N // len(units))
    for number, unit in enumerate(units):
        batch = [recordings[i] for i in order[number * step : (number + 1) * step]]
        toy.fill(store, batch, unit_recordings=unit)
    before, parts = store.log.head().version, toy.parts_of(store)
    (done,) = compact(store, megabytes=megabytes)
    assert (done.parts_before, done.parts_after) == (len(parts), len(toy.parts_of(store)))
    toy.assert_holds(store, recordings)
    assert store.view("toy", at=before).collect().equals(toy.truth(recordings))
    assert all(len(cluster) == 1 for cluster in overlapping(toy.parts_of(store)))
    assert verify(store) == []
    assert toy.fill(store, recordings).already == N
    if megabytes == 256.0:
        version = store.log.head().version
        assert len(toy.parts_of(store)) == 1
        compact(store)
        assert store.log.head().version == version


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two views of twelve recordings in small parts."""
    store = Store.create(tmp_path)
    toy.fill(store, toy.toy_recordings(12), unit_recordings=2)
    toy.fill(store, toy.toy_recordings(12), extractors=[toy.ToyExtractor("other")])
    return store


def test_one_view_only(store: Store) -> None:
    """Named views are compacted, others left."""
    other = toy.parts_of(store, "other")
    (done,) = compact(store, ["toy"])
    assert (done.view, done.parts_after) == ("toy", 1)
    assert toy.parts_of(store, "other") == other


def test_statistics_do_not_count_twice(store: Store) -> None:
    """Rows that move are not new rows."""
    before = store.snapshot().state.statistics
    compact(store)
    assert store.snapshot().state.statistics == before


def test_parts_of_about_the_size_asked_for(store: Store) -> None:
    """A small target makes several sorted parts."""
    toy.fill(store, toy.toy_recordings(400), unit_recordings=50)
    compact(store, ["toy"])
    (whole,) = toy.parts_of(store)
    again = Store.create(Path(store.url) / "small")
    toy.fill(again, toy.toy_recordings(400), unit_recordings=10)
    compact(again, megabytes=whole.n_bytes / 4 / 1e6)
    assert 4 <= len(toy.parts_of(again)) <= 20
    toy.assert_holds(again, toy.toy_recordings(400))


def test_recordings_added_later_are_sorted_in(store: Store) -> None:
    """New parts that overlap a large one are merged with it."""
    compact(store, ["toy"])
    toy.fill(store, toy.toy_recordings(30))
    compact(store, ["toy"])
    assert len(toy.parts_of(store)) == 1
    toy.assert_holds(store, toy.toy_recordings(30))
