"""A run that is killed at any moment loses nothing that was finished, and doubles nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import fault_support as toy
import pyarrow.parquet as pq
import pytest

from birdstack.store.local_files import TEMPORARY_PREFIX
from birdstack.store.store import Store
from birdstack.store.vacuum import vacuum
from birdstack.store.verify import verify

KILLS = 32
RECORDINGS = 2500


def _durable(store: Store) -> set[str]:
    """Recordings that lie in a finished part on disk, committed or not."""
    found: set[str] = set()
    for path in Path(store.url).glob("views/toy/*/part-*.parquet"):
        receipt = json.loads(pq.read_schema(path).metadata[b"birdstack"])
        found |= {recording_id for recording_id, _, _ in receipt["recordings"]}
    return found


@pytest.mark.slow
def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    """After each of 32 kills all that was finished is there, once, and is not heard again."""
    seed = int(os.environ.get("BIRDSTACK_KILL_SEED", random.SystemRandom().randrange(10**6)))
    rng = random.Random(seed)  # noqa: S311 - no secret
    print(f"BIRDSTACK_KILL_SEED={seed}")
    url = tmp_path / "store"
    store = Store.create(url)
    recordings = toy.toy_recordings(RECORDINGS)
    ids = {recording.recording_id for recording in recordings}
    journal = tmp_path / "heard"
    journal.touch()
    committed: set[str] = set()
    finished: set[str] = set()
    kills = in_flight = adopted_later = 0
    while kills < KILLS:
        heard_before = len(journal.read_text().split())
        writer = toy.start_writer(
            "fill",
            url,
            n=RECORDINGS,
            journal=str(journal),
            delay_s=0.002,
            executor="threads",
            workers=2,
            unit_recordings=3,
            commit_interval_s=0.03,
        )
        toy.wait_ready(writer)
        time.sleep(rng.uniform(0.0, 0.5))
        assert writer.poll() is None, f"done after {kills} kills: give it more recordings"
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
        kills += 1
        again = finished & set(journal.read_text().split()[heard_before:])
        assert not again, f"kill {kills}: finished recordings were heard again: {sorted(again)[:3]}"
        store = Store.open(url)  # nothing of what the killed run knew is in memory
        held = toy.assert_holds_only_truth(store, recordings)
        assert committed <= held, f"kill {kills}: committed recordings are gone"
        assert held <= ids
        adopted_later += len(finished - committed)
        committed, finished = held, _durable(store)
        in_flight += bool(finished - committed)
    # On a busy machine most kills land outside of the work; a handful of them is what it takes.
    assert in_flight >= KILLS // 16, "hardly a kill landed within the work"
    assert adopted_later
    assert verify(store) == []
    heard_before = len(journal.read_text().split())
    result = toy.result_of(
        toy.start_writer("fill", url, n=RECORDINGS, journal=str(journal), unit_recordings=64)
    )
    store = Store.open(url)
    toy.assert_holds(store, recordings)
    assert not finished & set(journal.read_text().split()[heard_before:])
    assert result["heard"] == len(ids - finished)
    assert verify(store) == []
    assert any(commit.operation == "adopt" for commit in store.log.history())


def test_a_kill_leaves_rubbish_that_vacuum_removes(tmp_path: Path) -> None:
    """Temporary files and torn parts of a killed run are never read, and are removed."""
    store = Store.create(tmp_path / "store")
    recordings = toy.toy_recordings(8)
    toy.fill(store, recordings)
    folder = Path(store.url) / toy.parts_of(store)[0].path
    torn = folder.with_name("part-torn.parquet")
    torn.write_bytes(folder.read_bytes()[:500])
    rubbish = [
        torn,
        folder.with_name(f"{TEMPORARY_PREFIX}1.parquet"),
        Path(store.url) / "log" / f"{TEMPORARY_PREFIX}2.json",
    ]
    for path in rubbish[1:]:
        path.write_bytes(b"half")
    again = Store.open(store.url)
    more = toy.toy_recordings(4, first=8)
    assert toy.fill(again, [*recordings, *more]).heard == 4
    toy.assert_holds(again, [*recordings, *more])
    assert {info.path for info in vacuum(again, grace_hours=24).files} == set()
    vacuum(again, grace_hours=0)
    assert not [path for path in rubbish if path.exists()]
    toy.assert_holds(Store.open(store.url), [*recordings, *more])


def test_a_killed_creation_is_carried_out_by_the_next(tmp_path: Path) -> None:
    """The temporary file of a creation that died does not make the folder a foreign one."""
    (tmp_path / f"{TEMPORARY_PREFIX}0123.json").write_bytes(b'{"birdstack')
    assert Store.create(tmp_path).snapshot().version == -1
