"""A store in a local folder: temporary name, fsync, link or rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from birdstack.store.errors import StoreError
from birdstack.store.files import FileInfo

TEMPORARY_PREFIX = ".tmp-"
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


class LocalFiles:
    """The `Files` layer on a local folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().absolute()

    @property
    def url(self) -> str:
        """The folder."""
        return str(self._root)

    def read(self, path: str) -> bytes:
        """The whole file."""
        return (self._root / path).read_bytes()

    def open(self, path: str) -> LocalFile:
        """Open for random reads through the page cache."""
        return LocalFile(self._root / path)

    def put_new(self, path: str, data: bytes) -> None:
        """Create the file with link(2), which fails if the name is taken."""
        target = self._root / path
        with _explained(target), _temporary(target) as aside:
            _write_synced(aside, data)
            try:
                os.link(aside, target)
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                # exFAT and some network mounts have no hard links. An exclusive create is
                # still exclusive; a crash here can leave a torn file, which the checksum in
                # every log entry makes visible.
                _write_exclusive(target, data)
            _sync_folder(target.parent)

    def put(self, path: str, data: bytes) -> None:
        """Create or replace the file by rename."""
        with self.staged(path) as aside:
            aside.write_bytes(data)

    @contextlib.contextmanager
    def staged(self, path: str) -> Iterator[Path]:
        """Write aside in the same folder, then sync and rename."""
        target = self._root / path
        with _explained(target), _temporary(target) as aside:
            yield aside
            descriptor = os.open(aside, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            aside.replace(target)
            _sync_folder(target.parent)

    @contextlib.contextmanager
    def local_copy(self, path: str) -> Iterator[Path]:
        """The file itself."""
        yield self._root / path

    def list(self, folder: str) -> list[str]:
        """Names of the finished files in a folder."""
        try:
            with os.scandir(self._root / folder) as entries:
                return [e.name for e in entries if not e.name.startswith(".") and e.is_file()]
        except FileNotFoundError:
            return []

    def walk(self, folder: str) -> Iterator[FileInfo]:
        """Every file below a folder."""
        for parent, _, names in os.walk(self._root / folder):
            for name in names:
                full = Path(parent) / name
                with contextlib.suppress(FileNotFoundError):
                    status = full.stat()
                    relative = full.relative_to(self._root).as_posix()
                    yield FileInfo(relative, status.st_size, status.st_mtime)

    def delete(self, path: str) -> None:
        """Remove a file."""
        (self._root / path).unlink(missing_ok=True)


class LocalFile:
    """A read-only memory map of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as handle:
            status = os.fstat(handle.fileno())
            self.n_bytes = status.st_size
            self.identity: tuple[object, ...] | None = (
                str(path),
                status.st_dev,
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
            )
            # An empty file cannot be mapped; it is an empty buffer all the same.
            self._map: mmap.mmap | bytes = (
                mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) if self.n_bytes else b""
            )

    def read_at(self, offset: int, length: int) -> memoryview:
        """A view into the page cache; nothing is copied."""
        return memoryview(self._map)[offset : offset + length]

    def prefetch(self, ranges: list[tuple[int, int]]) -> None:
        """Nothing to do: the page cache fetches."""

    def handle(self) -> str:
        """The path: Parquet readers map it themselves."""
        return str(self._path)

    def close(self) -> None:
        """Drop the map (it is released once nobody looks into it)."""
        if isinstance(self._map, mmap.mmap):
            with contextlib.suppress(BufferError):
                self._map.close()


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A name beside `target` that is gone afterwards, whatever happens."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{target.suffix}"
    try:
        yield aside
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def _write_exclusive(path: Path, data: bytes) -> None:
    """Create the file under its own name; a refused write leaves nothing behind."""
    with path.open("xb") as handle:
        try:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network mounts cannot sync a folder
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(target: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into errors with a remedy."""
    try:
        yield
    except OSError as error:
        remedies = {
            errno.ENOSPC: "free space and run the same command again: nothing committed is lost",
            errno.EDQUOT: "free quota and run the same command again: nothing committed is lost",
            errno.EFBIG: "raise the limit on file sizes (`ulimit -f`) and run the command again",
            errno.EROFS: "give --store a folder on a disk that can be written",
            errno.EACCES: "give --store a folder you may write to",
            errno.EPERM: "give --store a folder you may write to",
        }
        if error.errno not in remedies:
            raise
        message = f"cannot write {target}: {error.strerror}"
        raise StoreError(message, remedy=remedies[error.errno]) from error
