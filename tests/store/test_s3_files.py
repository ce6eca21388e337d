"""Both file layers keep one contract, and a store works on either."""

from __future__ import annotations

import builtins
import errno
import os
import sys
from pathlib import Path

import fault_support as toy
import numpy as np
import polars as pl
import pytest
from files_contract import FilesContract
from obstore.store import MemoryStore

from birdstack.store.compact import compact
from birdstack.store.errors import CorruptError, StoreError, UsageError
from birdstack.store.files import open_files
from birdstack.store.keys import WindowGrid
from birdstack.store.local_files import LocalFiles
from birdstack.store.s3_files import S3Files
from birdstack.store.store import Store
from birdstack.store.vacuum import vacuum
from birdstack.store.verify import repair, verify


class TestLocalFiles(FilesContract):
    @pytest.fixture
    def files(self, tmp_path: Path) -> LocalFiles:
        return LocalFiles(tmp_path / "store")


class TestLocalFilesWithoutHardLinks(FilesContract):
    """exFAT and some network mounts refuse link(2)."""

    @pytest.fixture
    def files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalFiles:
        def refuse(*_paths: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
        return LocalFiles(tmp_path / "store")


class TestS3Files(FilesContract):
    @pytest.fixture
    def files(self) -> S3Files:
        return S3Files("s3://bucket/store", store=MemoryStore())


@pytest.fixture
def bucket() -> MemoryStore:
    """A bucket in memory."""
    return MemoryStore()


def _open(bucket: MemoryStore) -> Store:
    return Store.open(S3Files("s3://bucket/store", store=bucket))


def test_a_store_on_s3(bucket: MemoryStore) -> None:
    """Create, fill, change, read, slice, compact, pin, verify, vacuum: as on a disk."""
    store = Store.create(S3Files("s3://bucket/store/", store=bucket), WindowGrid())
    assert store.url == "s3://bucket/store"
    recordings = toy.toy_recordings(12)
    toy.fill(store, recordings, executor="threads", workers=2, commit_interval_s=0.0)
    toy.assert_holds(_open(bucket), recordings)
    changed = [*toy.toy_recordings(3, content="edited"), *recordings[3:]]
    assert toy.fill(store, changed).heard == 3
    toy.assert_holds(_open(bucket), changed)
    one = changed[5].recording_id
    frame = store.view("toy").filter(pl.col("recording_id") == one).collect()
    assert frame.equals(toy.truth([changed[5]]))
    matrix = store.matrix({"toy": ["level", "vector"]})
    expected = toy.truth(changed)
    assert np.array_equal(matrix.values[:, 0], expected["level"].to_numpy())
    assert np.array_equal(matrix.values[:, 1:], expected["vector"].to_numpy())
    assert matrix.keys.equals(expected.select(matrix.keys.columns))
    store.pin("kept", at=0)
    (done,) = compact(store)
    assert (done.parts_before > 1, done.parts_after) == (True, 1)
    toy.assert_holds(_open(bucket), changed)
    assert verify(store) == []
    assert vacuum(store, grace_hours=0).files
    toy.assert_holds(_open(bucket), changed)
    assert not _open(bucket).view("toy", at="kept").collect().is_empty()
    with pytest.raises(UsageError, match="snapshot 1 was vacuumed"):
        _open(bucket).snapshot(1)
    assert toy.fill(_open(bucket), changed).already == 12


def test_damage_on_s3(bucket: MemoryStore) -> None:
    """A changed byte is refused, found, set aside and made good."""
    store = Store.create(S3Files("s3://bucket/store", store=bucket))
    recordings = toy.toy_recordings(8)
    toy.fill(store, recordings)
    part = toy.parts_of(store)[0]
    data = bytearray(store.files.read(part.path))
    data[200] ^= 4
    store.files.put(part.path, bytes(data))
    with pytest.raises(CorruptError, match=rf"part s3://bucket/store/{part.path} is damaged"):
        store.view("toy").collect()
    problems = verify(store)
    assert [p.path for p in problems] == [part.path]
    repair(store, problems)
    toy.fill(_open(bucket), recordings)
    toy.assert_holds(_open(bucket), recordings)


def test_one_column_brings_few_bytes(bucket: MemoryStore) -> None:
    """Reading one column of many prefetches that column's chunk alone."""
    counting = toy.Counting(S3Files("s3://bucket/store", store=bucket))
    store = Store.create(counting)
    toy.fill(store, toy.toy_recordings(64), unit_recordings=64)
    counting.prefetched.clear()
    store.matrix({"toy": ["level"]})
    (part,) = toy.parts_of(store)
    assert len(counting.prefetched) == 1
    assert sum(length for _, _, length in counting.prefetched) < part.n_bytes / 4


def test_the_layer_follows_the_address(tmp_path: Path) -> None:
    """A path is local, `s3://` is S3, anything else is refused."""
    assert isinstance(open_files(str(tmp_path)), LocalFiles)
    with pytest.raises(UsageError, match=r"at s3://bucket/prefix, got 'ftp://host/x'"):
        open_files("ftp://host/x")


def test_s3_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.delitem(sys.modules, "birdstack.store.s3_files")
    real = builtins.__import__

    def without_obstore(name: str, *rest, **more):
        if name.startswith("obstore"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_obstore)
    with pytest.raises(UsageError, match="needs the extra `s3`") as caught:
        open_files("s3://bucket/store")
    assert "birdstack[s3]" in caught.value.remedy


def test_a_full_disk_without_hard_links_leaves_no_torn_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a name is taken before its bytes are there, a refused write frees it again."""
    files = LocalFiles(tmp_path)
    real = os.fsync

    def refuse(*_paths: object) -> None:
        def no_space(_descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", no_space)
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreError, match=r"cannot write .*0000000001\.json"):
        files.put_new("log/0000000001.json", b"entry")
    monkeypatch.setattr(os, "fsync", real)
    assert list(files.walk("")) == []
