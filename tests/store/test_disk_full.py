"""A disk that is really full: a clear error, nothing committed is hurt, and it goes on later."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import fault_support as toy
import pytest

from birdstack.store.commit import Commit
from birdstack.store.compact import compact
from birdstack.store.errors import StoreError
from birdstack.store.export import export
from birdstack.store.local_files import TEMPORARY_PREFIX
from birdstack.store.store import Store
from birdstack.store.verify import verify


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 1 MB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root: see the file size limit instead")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill_up(folder: Path, leave: int = 0) -> Path:
    """A file that takes all the space but `leave` bytes."""
    ballast = folder / "ballast"
    with ballast.open("wb") as handle:
        handle.write(b"\0" * max(0, shutil.disk_usage(folder).free - leave))
    assert shutil.disk_usage(folder).free <= leave
    return ballast


def _temporary(folder: Path) -> list[Path]:
    return list(folder.rglob(f"{TEMPORARY_PREFIX}*"))


# Bytes left: none; room for a part but not for its commit; for some commits.
@pytest.mark.parametrize("leave", [0, 4096, 8192, 40960])
def test_full_disk_during_a_run(small_disk: Path, leave: int) -> None:
    """The run ends with a StoreError that names the file and the remedy; the next completes."""
    url = small_disk / "store"
    recordings = toy.toy_recordings(40)
    store = Store.create(url)
    toy.fill(store, recordings[:8])
    before = store.log.head().version
    ballast = _fill_up(small_disk, leave)
    with pytest.raises(StoreError, match=r"cannot write .*store/(views|log)/.*") as caught:
        toy.fill(store, recordings, commit_interval_s=0.0)
    assert "free space and run the same command again" in caught.value.remedy
    full = Store.open(url)
    held = toy.assert_holds_only_truth(full, recordings)
    assert {r.recording_id for r in recordings[:8]} <= held
    assert full.log.head().version >= before
    assert verify(full) == []
    assert not _temporary(small_disk)
    ballast.unlink()
    assert toy.fill(full, recordings).skips == []
    toy.assert_holds(Store.open(url), recordings)
    assert verify(Store.open(url)) == []


@pytest.mark.parametrize("leave", [0, 4096])
def test_full_disk_during_compaction(small_disk: Path, leave: int) -> None:
    """Compaction that does not fit leaves everything as it was."""
    store = Store.create(small_disk / "store")
    recordings = toy.toy_recordings(40)
    toy.fill(store, recordings, unit_recordings=2)
    before = store.log.head().version
    ballast = _fill_up(small_disk, leave)
    with pytest.raises(StoreError, match=r"cannot write .*part-.*No space left"):
        compact(store)
    again = Store.open(store.url)
    assert again.log.head().version == before
    toy.assert_holds(again, recordings)
    ballast.unlink()
    compact(again)
    toy.assert_holds(again, recordings)


def test_full_disk_when_a_store_is_created(small_disk: Path) -> None:
    """A store that does not fit is not half there: with space, creating it works."""
    ballast = _fill_up(small_disk)
    with pytest.raises(StoreError, match=r"cannot write .*store\.json: No space left"):
        Store.create(small_disk / "store")
    ballast.unlink()
    assert Store.create(small_disk / "store").snapshot().version == -1


def test_full_disk_for_pin_and_table(small_disk: Path) -> None:
    """A pin and a commit that do not fit leave no half file behind."""
    store = Store.create(small_disk / "store")
    toy.fill(store, toy.toy_recordings(4))
    ballast = _fill_up(small_disk)
    with pytest.raises(StoreError, match=r"pins/kept\.json: No space left"):
        store.pin("kept")
    with pytest.raises(StoreError, match=r"log/.*No space left"):
        store.log.append(Commit("test", activate={"toy": "else"}))
    assert store.pins() == {}
    ballast.unlink()
    assert store.pin("kept") == 0
    toy.assert_holds(Store.open(store.url), toy.toy_recordings(4))


def test_export_to_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    """An export that does not fit is a StoreError and leaves no file."""
    store = Store.create(tmp_path / "store")
    toy.fill(store, toy.toy_recordings(40))
    ballast = _fill_up(small_disk)
    for name in ("toy.parquet", "toy.csv"):
        with pytest.raises(StoreError, match=f"cannot write .*{name}"):
            export(store.snapshot(), "toy", small_disk / name)
    assert [path.name for path in small_disk.iterdir()] == [ballast.name]


@pytest.fixture
def small_files():
    """No file may grow beyond 3,000 bytes: writes fail as on a full disk, without root."""
    if not hasattr(signal, "SIGXFSZ"):
        pytest.skip("this system has no limit on file sizes")
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(n_bytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_file_size_limit_during_a_run(tmp_path: Path, small_files) -> None:
    """Writes that the system refuses half-way: a clear error, and the next run completes."""
    store = Store.create(tmp_path / "store")
    recordings = toy.toy_recordings(200)
    toy.fill(store, recordings[:8])
    small_files(3000)
    try:
        with pytest.raises(StoreError, match=r"cannot write .*part-.*File too large") as caught:
            toy.fill(store, recordings, unit_recordings=192)
    finally:
        small_files(resource.RLIM_INFINITY)
    assert "ulimit -f" in caught.value.remedy
    assert not _temporary(tmp_path)
    toy.assert_holds(Store.open(store.url), recordings[:8])
    toy.fill(store, recordings)
    toy.assert_holds(Store.open(store.url), recordings)


def test_read_only_store(small_disk: Path) -> None:
    """Reads work on a read-only disk; a run fails at once, saying where to write."""
    store = Store.create(small_disk / "store")
    recordings = toy.toy_recordings(8)
    toy.fill(store, recordings)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    toy.assert_holds(Store.open(store.url), recordings)
    assert verify(Store.open(store.url)) == []
    assert toy.fill(Store.open(store.url), recordings).heard == 0
    with pytest.raises(StoreError, match="Read-only file system") as caught:
        toy.fill(Store.open(store.url), toy.toy_recordings(12))
    assert "a disk that can be written" in caught.value.remedy
