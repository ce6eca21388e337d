"""Several writers on one store, in processes: nothing is lost, nothing is doubled."""

from __future__ import annotations

import threading
from pathlib import Path

import fault_support as toy
import pytest

from birdstack.store.commit import Commit
from birdstack.store.compact import compact
from birdstack.store.errors import ConflictError
from birdstack.store.layout import entry_path
from birdstack.store.local_files import LocalFiles
from birdstack.store.log import CommitLog
from birdstack.store.store import Store
from birdstack.store.verify import verify

N = 120


def _settings(unit: int, **options):
    return {"n": N, "unit_recordings": unit, "commit_interval_s": 0.0, "delay_s": 0.001, **options}


@pytest.mark.parametrize("units", [(3, 5), (2, 3, 5, 7)], ids=["two", "four"])
def test_writers_of_the_same_recordings(tmp_path: Path, units: tuple[int, ...]) -> None:
    """Writers that hear the same recordings in other units: every row is there once."""
    store = Store.create(tmp_path / "store")
    results = toy.race([("fill", _settings(unit)) for unit in units], tmp_path / "store")
    assert not [result for result in results if "error" in result]
    toy.assert_holds(store, toy.toy_recordings(N))
    assert verify(store) == []
    assert toy.fill(store, toy.toy_recordings(N)).already == N


@pytest.mark.parametrize("writers", [2, 4])
def test_writers_of_different_recordings(tmp_path: Path, writers: int) -> None:
    """Interleaved recordings from several writers all arrive, with one commit a unit."""
    store = Store.create(tmp_path / "store")
    each = N // writers
    work = [
        ("fill", _settings(4, first=first, step=writers) | {"n": each}) for first in range(writers)
    ]
    results = toy.race(work, tmp_path / "store")
    assert [result["heard"] for result in results] == [each] * writers
    toy.assert_holds(store, toy.toy_recordings(N))
    versions = [commit.version for commit in store.log.history()]
    assert versions == list(range(len(versions) - 1, -1, -1))
    assert len(versions) >= writers * (each // 4)
    authors = {commit.run_id for commit in store.log.history() if commit.add}
    assert len(authors) >= writers


def test_racing_compactions(tmp_path: Path) -> None:
    """Of compactions that replace the same parts one wins; the others say so, rows stay once."""
    store = Store.create(tmp_path / "store")
    toy.fill(store, toy.toy_recordings(N), unit_recordings=1)
    results = toy.race([("compact", {})] * 4, tmp_path / "store")
    winners = [result for result in results if "parts" in result]
    losers = [result for result in results if "error" in result]
    assert winners
    assert all(loser["error"] == "ConflictError" for loser in losers)
    assert all("another writer has replaced" in loser["message"] for loser in losers)
    assert all("remedy: " in loser["message"] for loser in losers)
    assert sum(commit.operation == "compact" for commit in store.log.history()) == 1
    toy.assert_holds(store, toy.toy_recordings(N))
    assert len(toy.parts_of(store)) == 1


def test_compaction_races_appends(tmp_path: Path) -> None:
    """Compactions beside two writers: what they append stays, and every row is there once."""
    store = Store.create(tmp_path / "store")
    toy.fill(store, toy.toy_recordings(N), unit_recordings=2)
    work = [
        ("fill", _settings(2, first=N)),
        ("fill", _settings(3, first=2 * N)),
        ("compact", {}),
        ("compact", {"megabytes": 0.01}),
    ]
    results = toy.race(work, tmp_path / "store")
    assert [result["heard"] for result in results[:2]] == [N, N]
    assert {result.get("error", "ConflictError") for result in results[2:]} == {"ConflictError"}
    toy.assert_holds(store, toy.toy_recordings(3 * N))
    compact(store)
    toy.assert_holds(Store.open(tmp_path / "store"), toy.toy_recordings(3 * N))


def test_the_second_of_two_compactions_is_refused(tmp_path: Path) -> None:
    """A commit that removes parts which are gone already is refused, and changes nothing."""
    store = Store.create(tmp_path / "store")
    toy.fill(store, toy.toy_recordings(8))
    slow = Store.open(store.url)
    old = toy.parts_of(slow)
    compact(store)
    before = store.log.head().version
    with pytest.raises(ConflictError, match=r"another writer has replaced 2 of the 2 parts"):
        slow.log.append(
            Commit("compact", add=(toy.parts_of(store)[0],), remove=tuple(p.path for p in old))
        )
    assert store.log.head().version == before
    toy.assert_holds(store, toy.toy_recordings(8))


def test_a_unit_that_another_writer_has_done_in_part(tmp_path: Path) -> None:
    """What only the slower writer heard is kept, what both heard is there once."""
    store = Store.create(tmp_path / "store")
    wanted = toy.toy_recordings(8)

    class Overtaking(toy.ToyExtractor):
        """While the first recording is heard, another writer commits recordings 2 to 4."""

        def measure(self, sound, recording):
            other = Store.open(store.url)
            if other.snapshot().version < 0:
                toy.fill(other, wanted[2:5], unit_recordings=3)
            return super().measure(sound, recording)

    report = toy.fill(store, wanted, extractors=[Overtaking()], unit_recordings=8)
    assert report.heard == 8
    toy.assert_holds(store, wanted)
    assert toy.fill(store, wanted).heard == 0


def test_writers_of_one_recording_with_different_content(tmp_path: Path) -> None:
    """The later commit wins whole: the view never mixes two contents of one recording."""
    store = Store.create(tmp_path / "store")
    old, new = toy.toy_recordings(6), toy.toy_recordings(6, content="edited")

    class Overtaking(toy.ToyExtractor):
        def measure(self, sound, recording):
            other = Store.open(store.url)
            if other.snapshot().version < 0:
                toy.fill(other, old, unit_recordings=4)
            return super().measure(sound, recording)

    toy.fill(store, new, extractors=[Overtaking()], unit_recordings=3)
    toy.assert_holds(store, new)


def test_a_part_that_half_overlaps_is_refused_by_the_log(tmp_path: Path) -> None:
    """The log itself never lets rows double, nor drops half a part without a word."""
    store = Store.create(tmp_path / "store")
    toy.fill(store, toy.toy_recordings(4), unit_recordings=4)
    other = Store.create(tmp_path / "other")
    toy.fill(other, toy.toy_recordings(4, first=2), unit_recordings=4)
    with pytest.raises(ConflictError, match=r"committed 2 of the 4 recordings of views/toy/"):
        store.log.append(Commit("features", add=tuple(toy.parts_of(other))))
    same = Store.create(tmp_path / "same")
    toy.fill(same, toy.toy_recordings(3), unit_recordings=4)
    assert store.log.append(Commit("features", add=tuple(toy.parts_of(same)))) is None


def test_one_winner_for_each_number_of_the_log(tmp_path: Path) -> None:
    """8 threads with logs of their own take 25 numbers each: 200 entries, none overwritten."""
    files = LocalFiles(tmp_path)
    start = threading.Barrier(8)
    given: list[int] = []

    def write(name: int) -> None:
        log = CommitLog(files)
        start.wait()
        for i in range(25):
            commit = log.append(Commit("test", activate={f"view{name}": str(i)}))
            given.append(commit.version)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == list(range(200))
    assert CommitLog(files).head().active == {f"view{name}": "24" for name in range(8)}
    assert len([n for n in files.list("log") if n.endswith(".json")]) == 200
    assert (tmp_path / entry_path(199)).is_file()


def test_writers_in_one_process_share_a_log(tmp_path: Path) -> None:
    """Threads that share one store object lose nothing either."""
    store = Store.create(tmp_path / "store")
    work = [toy.toy_recordings(30, first=first, step=3) for first in range(3)]
    threads = [
        threading.Thread(
            target=toy.fill, args=(store, recordings), kwargs={"commit_interval_s": 0.0}
        )
        for recordings in work
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    toy.assert_holds(store, toy.toy_recordings(90))
