"""The log refuses to be read wrongly: damage is named, and never becomes an older state."""

from __future__ import annotations

import json
import random
from pathlib import Path

import fault_support as toy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdstack.store import log as log_module
from birdstack.store.commit import Commit, Covered, Part, Skip
from birdstack.store.errors import (
    BirdstackError,
    CorruptError,
    FormatVersionError,
    StoreError,
    UsageError,
)
from birdstack.store.layout import entry_path
from birdstack.store.local_files import LocalFiles
from birdstack.store.log import CommitLog
from birdstack.store.store import Store
from birdstack.store.vacuum import vacuum
from birdstack.store.verify import repair, verify

text = st.text(max_size=12)
number = st.integers(0, 2**40)
covered = st.builds(Covered, text, text, st.integers(0, 2**31 - 1))
part = st.builds(
    Part, text, text, text, number, number, text, text, text, text, st.lists(covered).map(tuple)
)
commits = st.builds(
    Commit,
    operation=text,
    version=st.integers(0, 10**9),
    add=st.lists(part, max_size=3).map(tuple),
    remove=st.lists(text, max_size=3).map(tuple),
    skip=st.lists(st.builds(Skip, text, text, text, text, text, text), max_size=3).map(tuple),
    activate=st.dictionaries(text, text, max_size=3),
    expire=number,
    info=st.dictionaries(text, st.one_of(text, st.booleans(), st.none(), number), max_size=3),
    time_utc=text,
    author=text,
    run_id=text,
)


@given(commits)
def test_a_commit_survives_its_text(commit: Commit) -> None:
    """to_bytes and from_bytes are inverse for any names, line breaks and emoji included."""
    assert Commit.from_bytes(commit.to_bytes(), "here") == commit


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Five commits of four recordings each."""
    made = Store.create(tmp_path)
    for n in range(4, 24, 4):
        toy.fill(made, toy.toy_recordings(n))
    assert made.log.head().version == 4
    return made


def _state(folder: Path):
    return Store.open(folder).log.head()


@pytest.mark.parametrize("version", [4, 2, 0], ids=["newest", "middle", "first"])
def test_an_entry_truncated_at_every_length(store: Store, tmp_path: Path, version: int) -> None:
    """A half-written entry, down to an empty one, is a CorruptError with its name and remedy."""
    path = tmp_path / entry_path(version)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(CorruptError, match=rf"{entry_path(version)} is damaged") as caught:
            _state(tmp_path)
        assert "store verify --repair" in caught.value.remedy
    path.write_bytes(data)
    assert _state(tmp_path).version == 4


@pytest.mark.parametrize("version", [4, 1])
def test_every_byte_of_an_entry(store: Store, tmp_path: Path, version: int) -> None:
    """Each byte changed in three ways: an error that names the entry, or the same state."""
    path = tmp_path / entry_path(version)
    data = path.read_bytes()
    expected = store.log.head()
    header = data.index(b"\n")
    rng = random.Random(version)  # noqa: S311 - no secret
    refused = 0
    for offset, byte in enumerate(data):
        for mask in (0x01, 0x80, rng.randrange(2, 256)):
            path.write_bytes(data[:offset] + bytes([byte ^ mask]) + data[offset + 1 :])
            try:
                found = _state(tmp_path)
            except (CorruptError, FormatVersionError) as error:
                assert entry_path(version) in error.message  # noqa: PT017 - either way is right
                refused += 1
            else:
                assert offset < header, "a changed commit was accepted"
                assert found == expected
    assert refused > 3 * (len(data) - header)


def test_a_missing_entry_is_a_gap_not_an_end(store: Store, tmp_path: Path) -> None:
    """Without a middle entry nobody sees an older state, and nobody writes into the gap."""
    lost = tmp_path / entry_path(2)
    data = lost.read_bytes()
    lost.unlink()
    again = Store.open(tmp_path)
    for attempt in (
        again.snapshot,
        lambda: again.snapshot(1),
        lambda: toy.fill(again, toy.toy_recordings(24)),
        lambda: again.log.append(Commit("test", activate={"a": "b"})),
        lambda: list(store.log.history()),
        lambda: vacuum(again, grace_hours=0),
    ):
        with pytest.raises(CorruptError, match=r"0000000002\.json is damaged: the file is missing"):
            attempt()
    assert not lost.exists()
    assert [(p.kind, p.path) for p in verify(again)] == [("log", entry_path(2))]
    lost.write_bytes(data)
    toy.assert_holds(again, toy.toy_recordings(20))


def test_an_entry_under_another_number(store: Store, tmp_path: Path) -> None:
    """A whole entry in the place of another is refused."""
    (tmp_path / entry_path(4)).write_bytes((tmp_path / entry_path(3)).read_bytes())
    with pytest.raises(CorruptError, match="it says that its number is 3"):
        _state(tmp_path)


@pytest.mark.parametrize(
    ("damage", "version"),
    [
        *(
            (damage, version)
            for damage in ("truncated", "empty", "flipped")
            for version in (0, 2, 4)
        ),
        *(("missing", version) for version in (0, 2)),  # without its last a log is a shorter log
    ],
)
def test_repair_of_an_entry_restores_everything(
    store: Store, tmp_path: Path, damage: str, version: int
) -> None:
    """Verify -> repair -> run: parts that only the damaged entry named are taken over again."""
    path = tmp_path / entry_path(version)
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        damaged = {"truncated": data[:-9], "empty": b"", "flipped": data[:-9] + b"\x00" + data[-8:]}
        path.write_bytes(damaged[damage])
    again = Store.open(tmp_path)
    problems = verify(again)
    assert [(p.kind, p.path) for p in problems] == [("log", entry_path(version))]
    (said,) = repair(again, problems)
    assert "set aside in damaged/" in said
    assert (tmp_path / "damaged" / path.name).exists() == (damage != "missing")
    assert verify(again) == []
    report = toy.fill(Store.open(tmp_path), toy.toy_recordings(20))
    assert (report.heard, report.adopted) == (0, 1)
    toy.assert_holds(Store.open(tmp_path), toy.toy_recordings(20))
    assert toy.fill(Store.open(tmp_path), toy.toy_recordings(20)).already == 20


def test_repair_of_a_lost_compaction(store: Store, tmp_path: Path) -> None:
    """Without the entry of a compaction the parts from before it are live again."""
    from birdstack.store.compact import compact

    compact(store)
    path = tmp_path / entry_path(5)
    path.write_bytes(path.read_bytes()[:100])
    again = Store.open(tmp_path)
    repair(again, verify(again))
    toy.assert_holds(again, toy.toy_recordings(20))
    toy.fill(again, toy.toy_recordings(24))
    toy.assert_holds(Store.open(tmp_path), toy.toy_recordings(24))


def test_a_repair_that_is_interrupted_can_be_repeated(store: Store, tmp_path: Path) -> None:
    """Killed between setting an entry aside and replacing it: the copy is kept."""
    path = tmp_path / entry_path(2)
    half = path.read_bytes()[:50]
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / path.name).write_bytes(half)
    path.unlink()
    again = Store.open(tmp_path)
    repair(again, verify(again))
    assert (tmp_path / "damaged" / path.name).read_bytes() == half
    toy.fill(again, toy.toy_recordings(20))
    toy.assert_holds(again, toy.toy_recordings(20))


@pytest.fixture
def long_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Twelve commits with a checkpoint at every fifth."""
    monkeypatch.setattr(log_module, "CHECKPOINT_EVERY", 5)
    made = Store.create(tmp_path)
    toy.fill(made, toy.toy_recordings(12), unit_recordings=1, commit_interval_s=0.0)
    assert made.log.head().version == 11
    return made


def _checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "log").glob("*.checkpoint.parquet"))


def test_checkpoints_say_what_the_log_says(long_log: Store, tmp_path: Path) -> None:
    """With and without checkpoints every number has the same state."""
    assert [path.name[:10] for path in _checkpoints(tmp_path)] == ["0000000005", "0000000010"]
    from_checkpoints = [Store.open(tmp_path).log.at(v) for v in range(12)]
    for path in _checkpoints(tmp_path):
        path.unlink()
    assert [Store.open(tmp_path).log.at(v) for v in range(12)] == from_checkpoints
    assert [len(state.parts) for state in from_checkpoints] == list(range(1, 13))


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "foreign name"])
def test_a_damaged_checkpoint_is_passed_over(long_log: Store, tmp_path: Path, damage: str) -> None:
    """A checkpoint is a cache: the entries say the same."""
    expected = long_log.log.head()
    for path in _checkpoints(tmp_path):
        data = path.read_bytes()
        if damage == "flipped":
            path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
        elif damage == "truncated":
            path.write_bytes(data[: len(data) // 2])
        elif damage == "empty":
            path.write_bytes(b"")
        else:
            path.rename(path.with_name(f"copy of {path.name}"))
    assert _state(tmp_path) == expected
    toy.assert_holds(Store.open(tmp_path), toy.toy_recordings(12))
    assert verify(Store.open(tmp_path)) == []


def test_an_entry_lost_before_a_checkpoint(long_log: Store, tmp_path: Path) -> None:
    """The newest state is known from the checkpoint; what needs the entry names it."""
    (tmp_path / entry_path(3)).unlink()
    again = Store.open(tmp_path)
    toy.assert_holds(again, toy.toy_recordings(12))
    with pytest.raises(CorruptError, match=r"0000000003\.json is damaged: the file is missing"):
        again.snapshot(4)
    assert [p.path for p in verify(again)] == [entry_path(3)]
    repair(again, verify(again))
    toy.assert_holds(Store.open(tmp_path), toy.toy_recordings(12))


def test_the_entry_of_the_newest_checkpoint_is_missed(long_log: Store, tmp_path: Path) -> None:
    """Verify counts up to the newest file of any kind."""
    for version in (10, 11):
        (tmp_path / entry_path(version)).unlink()
    assert [p.path for p in verify(Store.open(tmp_path))] == [entry_path(10)]


def test_a_failing_checkpoint_does_not_fail_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit has happened when its checkpoint is written."""
    monkeypatch.setattr(log_module, "CHECKPOINT_EVERY", 1)

    class NoCheckpoints(LocalFiles):
        def put(self, path: str, data: bytes) -> None:
            message = f"cannot write {path}"
            raise StoreError(message)

    log = CommitLog(NoCheckpoints(tmp_path))
    for i in range(3):
        assert log.append(Commit("test", activate={"v": str(i)})).version == i


@pytest.mark.parametrize("at", [5, 99, -2, "99"])
def test_a_snapshot_that_never_was(store: Store, at: int | str) -> None:
    """A number beyond the log is refused with the range there is."""
    with pytest.raises(UsageError, match=r"no snapshot -?\d+; there are 0 to 4"):
        store.snapshot(at)


def test_nothing_to_say_is_no_commit(store: Store) -> None:
    """A commit that changes nothing is not written."""
    active = dict(store.log.head().active)
    assert store.log.append(Commit("features", activate=active)) is None
    assert store.log.head().version == 4


def test_history_is_signed(store: Store) -> None:
    """Each entry carries number, time, author, run; newest first."""
    history = list(store.log.history())
    assert [commit.version for commit in history] == [4, 3, 2, 1, 0]
    assert len({commit.run_id for commit in history}) == 5
    assert all("@" in commit.author and commit.time_utc.endswith("+00:00") for commit in history)
    header = json.loads((Path(store.url) / entry_path(0)).read_bytes().split(b"\n")[0])
    assert header["birdstack_log"] == 1


def test_other_files_in_the_log_folder_do_no_harm(store: Store, tmp_path: Path) -> None:
    """An editor's copy or a note beside the entries is passed over."""
    for name in ("notes.txt", "0000000002.json~", "0000000002.json.bak", "readme.json"):
        (tmp_path / "log" / name).write_text("hello")
    toy.assert_holds(Store.open(tmp_path), toy.toy_recordings(20))
    assert verify(Store.open(tmp_path)) == []


def test_a_damaged_log_is_a_birdstack_error_everywhere(store: Store, tmp_path: Path) -> None:
    """Whatever is called on a store with a torn log, the error is ours."""
    path = tmp_path / entry_path(4)
    path.write_bytes(path.read_bytes()[:-1])
    again = Store.open(tmp_path)
    for attempt in (
        lambda: again.view("toy"),
        lambda: again.matrix("toy"),
        lambda: again.table("recordings"),
        lambda: again.pin("kept"),
        lambda: vacuum(again),
    ):
        with pytest.raises(BirdstackError, match="is damaged"):
            attempt()
