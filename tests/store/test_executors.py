"""Units run in this thread, in threads and in processes, with the same receipts."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import fault_support as toy
import pytest

from birdstack.store.errors import ConfigError, ConflictError, CorruptError, StoreError
from birdstack.store.executors import available_processors, run_units
from birdstack.store.plan import Task
from birdstack.store.store import Store
from birdstack.store.unit import Tally, Workshop

EXECUTORS = ["serial", "threads", "processes"]


def _units(n: int, size: int = 2):
    tasks = [Task(r, ("toy",)) for r in toy.toy_recordings(n)]
    return [tuple(tasks[i : i + size]) for i in range(0, n, size)]


def _workshop(folder: Path, **source) -> Workshop:
    store = Store.create(folder)
    store.register(toy.toy_spec())
    return Workshop(store.files, store.grid, toy.ToySource(**source), (toy.ToyExtractor(),))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_every_unit_once(tmp_path: Path, executor: str) -> None:
    """Eleven units on two workers: eleven receipts, each recording in one part."""
    receipts = [
        receipt
        for receipt in run_units(
            _workshop(tmp_path),
            _units(22),
            executor=executor,
            workers=2,
            stop=threading.Event(),
            tally=Tally(),
        )
        if receipt is not None
    ]
    assert len(receipts) == 11
    held = [c.recording_id for r in receipts for part in r.parts for c in part.recordings]
    assert sorted(held) == sorted(r.recording_id for r in toy.toy_recordings(22))
    assert sum(receipt.heard for receipt in receipts) == 22


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_stop_ends_early(tmp_path: Path, executor: str) -> None:
    """After a stop nothing new begins, and what was begun comes back."""
    stop = threading.Event()
    receipts = []
    for receipt in run_units(
        _workshop(tmp_path),
        iter(_units(200)),
        executor=executor,
        workers=2,
        stop=stop,
        tally=Tally(),
    ):
        if receipt is not None:
            receipts.append(receipt)
            stop.set()
    assert 1 <= len(receipts) <= 8


def test_few_units_are_taken_ahead(tmp_path: Path) -> None:
    """However long the plan, no more than workers + 1 units are in flight."""
    taken = 0

    def plan():
        nonlocal taken
        for unit in _units(100, size=1):
            taken += 1
            yield unit

    done = 0
    for receipt in run_units(
        _workshop(tmp_path),
        plan(),
        executor="threads",
        workers=2,
        stop=threading.Event(),
        tally=Tally(),
    ):
        done += receipt is not None
        assert taken <= done + 3 + 3  # finished together, given out one by one
    assert (done, taken) == (100, 100)


@pytest.mark.slow
def test_a_recording_that_kills_its_worker(tmp_path: Path) -> None:
    """In processes it costs one recording, which is skipped and named; the rest is heard."""
    store = Store.create(tmp_path)
    recordings = toy.toy_recordings(12)
    report = toy.fill(store, recordings, source=toy.Deadly(), executor="processes", workers=2)
    assert [(s.recording_id, s.code) for s in report.skips] == [
        ("site5/rec00005.ogg", "worker_crashed")
    ]
    toy.assert_holds(store, [r for r in recordings if not r.recording_id.endswith("00005.ogg")])


@pytest.mark.parametrize("kind", [StoreError, CorruptError, ConflictError, ConfigError])
def test_errors_travel_between_processes(kind) -> None:
    """Message, remedy and class survive pickling."""
    import pickle

    error = pickle.loads(pickle.dumps(kind("what", remedy="do this")))  # noqa: S301 - our own
    assert type(error) is kind
    assert (error.message, error.remedy, str(error)) == (
        "what",
        "do this",
        "what\n  remedy: do this",
    )


def test_ctrl_c_in_the_terminal_leaves_workers_to_their_parent(tmp_path: Path) -> None:
    """Worker processes ignore SIGINT: the parent ends the run in good order."""
    receipts = []
    started = time.monotonic()
    for receipt in run_units(
        _workshop(tmp_path, delay_s=0.05),
        _units(12, size=1),
        executor="processes",
        workers=2,
        stop=threading.Event(),
        tally=Tally(),
    ):
        if receipt is None:
            continue
        if not receipts:
            import multiprocessing

            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGINT)
        receipts.append(receipt)
    assert sum(receipt.heard for receipt in receipts) == 12
    assert not [skip for receipt in receipts for skip in receipt.skips]
    assert time.monotonic() - started < 60


def test_processors_of_this_process() -> None:
    """A container's share, at least one."""
    assert 1 <= available_processors() <= (os.cpu_count() or 1)
