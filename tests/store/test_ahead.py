"""The next recording is opened while the present one is heard: one, in order, and no more."""

from __future__ import annotations

import threading
import time
import weakref
from pathlib import Path

import fault_support as toy
import pytest

from birdstack.store.ahead import opened_in_order, opened_in_turn
from birdstack.store.errors import SkipRecording, StoreError
from birdstack.store.extractor import KnownWindows
from birdstack.store.plan import Task
from birdstack.store.run_config import RunConfig
from birdstack.store.store import Store
from birdstack.store.unit import Tally, Workshop


def _helpers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("birdstack-ahead")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """Whatever happens in a test, its helper threads have ended."""
    yield
    assert not _helpers()


class Sources:
    """Opens toy sounds and notes who opened what, and how many sounds were alive at most."""

    def __init__(self, fail: dict[str, Exception] | None = None, delay_s: float = 0.0) -> None:
        self.fail = fail or {}
        self.delay_s = delay_s
        self.opened: list[str] = []
        self.threads: list[str] = []
        self.begun = {r.recording_id: threading.Event() for r in toy.toy_recordings(40)}
        self.alive: weakref.WeakSet[Sound] = weakref.WeakSet()
        self.most_alive = 0

    def open(self, recording):
        self.most_alive = max(self.most_alive, len(self.alive) + 1)
        self.opened.append(recording.recording_id)
        self.threads.append(threading.current_thread().name)
        self.begun[recording.recording_id].set()
        time.sleep(self.delay_s)
        if recording.recording_id in self.fail:
            raise self.fail[recording.recording_id]
        sound = Sound(toy.toy_windows(recording))
        self.alive.add(sound)
        return sound


class Sound:
    """A toy sound that can be watched."""

    def __init__(self, n_windows: int) -> None:
        self.n_windows = n_windows
        self.notes: dict[str, object] = {}


def _run(folder: Path, source, extractor=None, n: int = 8, stop=None, *, prefetch: bool = True):
    store = Store.create(folder / f"store-{prefetch}")
    extractor = extractor or toy.ToyExtractor()
    for spec in extractor.specs:
        store.register(spec)
    workshop = Workshop(store.files, store.grid, source, (extractor,), prefetch=prefetch)
    tasks = [Task(r, ("toy",)) for r in _recordings(n)]
    return workshop.run(tasks, stop, Tally())


def _recordings(n: int):
    return sorted(toy.toy_recordings(n), key=lambda r: r.recording_id)


def test_the_next_is_opened_while_the_present_is_heard(tmp_path: Path) -> None:
    """Hearing one waits until the next is being opened: only a thread of its own can do that."""
    source = Sources()
    ids = [r.recording_id for r in _recordings(8)]

    class Waits(toy.ToyExtractor):
        def measure(self, sound, recording):
            number = ids.index(recording.recording_id)
            if number + 1 < len(ids):
                assert source.begun[ids[number + 1]].wait(10), "nobody opens the next"
            assert number + 2 >= len(ids) or not source.begun[ids[number + 2]].is_set()
            return super().measure(sound, recording)

    receipt = _run(tmp_path, source, Waits())
    assert receipt.heard == 8
    assert not receipt.skips
    assert source.opened == ids
    assert [name.startswith("birdstack-ahead") for name in source.threads] == [False] + [True] * 7


def test_two_sounds_are_held_at_most(tmp_path: Path) -> None:
    """The present one and the next: never a third."""
    source = Sources(delay_s=0.002)
    _run(tmp_path, source, n=12)
    assert source.most_alive == 2


def test_the_receipt_is_the_same_with_and_without(tmp_path: Path) -> None:
    """Skips arrive in their turn, and nothing else differs but the thread."""
    ids = [r.recording_id for r in _recordings(8)]
    receipts = []
    for prefetch in (False, True):
        fail = {i: SkipRecording("no_audio", f"told {i}") for i in (ids[0], ids[3], ids[4], ids[7])}
        source = Sources(fail)
        receipt = _run(tmp_path, source, prefetch=prefetch)
        assert source.opened == ids
        receipts.append(receipt)
    plain, ahead = receipts
    assert [s.recording_id for s in ahead.skips] == [ids[0], ids[3], ids[4], ids[7]]
    assert (plain.skips, plain.notes, plain.statistics) == (
        ahead.skips,
        ahead.notes,
        ahead.statistics,
    )
    assert [p.recordings for p in plain.parts] == [p.recordings for p in ahead.parts]
    assert (plain.heard, plain.windows) == (ahead.heard, ahead.windows)


def test_a_failure_ahead_is_raised_in_its_turn(tmp_path: Path) -> None:
    """What comes before a source that gives up is heard first."""
    ids = [r.recording_id for r in _recordings(8)]
    heard = []

    class Notes(toy.ToyExtractor):
        def measure(self, sound, recording):
            heard.append(recording.recording_id)
            return super().measure(sound, recording)

    source = Sources({ids[3]: StoreError("the source gives up")})
    with pytest.raises(StoreError, match="the source gives up"):
        _run(tmp_path, source, Notes())
    assert heard == ids[:3]
    assert source.opened == ids[:4]


def test_an_extractor_that_gives_up_ends_the_helper(tmp_path: Path) -> None:
    """The sound that is being opened then is waited for and dropped."""
    source = Sources(delay_s=0.1)

    class Fails(toy.ToyExtractor):
        def measure(self, sound, recording):
            assert source.begun[_recordings(8)[1].recording_id].wait(10)
            message = "the extractor gives up"
            raise StoreError(message)

    with pytest.raises(StoreError, match="the extractor gives up"):
        _run(tmp_path, source, Fails())
    assert not _helpers()
    assert len(source.opened) == 2


def test_a_stop_finishes_the_recording_in_hand(tmp_path: Path) -> None:
    """The one that was opened ahead is not heard, and nothing more is opened."""
    stop = threading.Event()
    source = Sources()

    class Stops(toy.ToyExtractor):
        def measure(self, sound, recording):
            if recording == _recordings(8)[2]:
                stop.set()
            return super().measure(sound, recording)

    receipt = _run(tmp_path, source, Stops(), stop=stop)
    assert receipt.heard == 3
    assert len(source.opened) <= 4
    assert not receipt.skips


def test_what_needs_no_sound_needs_no_thread() -> None:
    """Only items that are slow to open are opened ahead."""
    threads = {}

    def open_(item: int) -> int:
        threads[item] = threading.current_thread().name
        return -item

    found = list(opened_in_order(range(6), open_, lambda item: item in (3, 4), None))
    assert found == [0, -1, -2, -3, -4, -5]
    assert {i for i, name in threads.items() if name.startswith("birdstack-ahead")} == {3, 4}
    assert list(opened_in_turn(range(6), open_, None)) == found


def test_known_windows_are_not_opened(tmp_path: Path) -> None:
    """A view that hears nothing gets its windows from the task, with prefetch as without."""

    class Mute(toy.ToyExtractor):
        needs_sound = False

        def measure(self, sound, recording):
            assert isinstance(sound, KnownWindows)
            return super().measure(sound, recording)

    store = Store.create(tmp_path)
    store.register(Mute().spec)
    source = Sources()
    workshop = Workshop(store.files, store.grid, source, (Mute(),), prefetch=True)
    receipt = workshop.run([Task(r, ("toy",), windows=2) for r in _recordings(4)])
    assert (receipt.heard, receipt.windows, source.opened) == (4, 8, [])


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_runs_with_prefetch_hold_the_truth(tmp_path: Path, executor: str) -> None:
    """All executors, with skips: what the store holds is right."""
    recordings = toy.toy_recordings(21)
    bad = {recordings[5].recording_id: "no_audio", recordings[20].recording_id: "no_audio"}
    store = Store.create(tmp_path)
    report = toy.fill(
        store,
        recordings,
        source=toy.ToySource(delay_s=0.002, codes=bad),
        executor=executor,
        workers=2,
        prefetch=True,
    )
    assert (report.heard, report.skipped_recordings) == (19, set(bad))
    toy.assert_holds(store, [r for r in recordings if r.recording_id not in bad])


def test_the_serial_executor_uses_no_other_thread(tmp_path: Path) -> None:
    """It is for debugging: everything happens where the debugger is."""
    source = Sources()
    toy.fill(Store.create(tmp_path), toy.toy_recordings(8), source=source, executor="serial")
    assert RunConfig().prefetch
    assert set(source.threads) == {"MainThread"}
