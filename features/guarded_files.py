"""Opening a file that may be anything: guards that never block, hash, and patched views."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Mapping
from typing import Any

from birdstack.store.errors import SkipRecording

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_FORBIDDEN = {errno.EACCES, errno.EPERM}


def open_regular(path: str) -> io.FileIO:
    """Open a regular file for reading, without ever waiting on a pipe or device.

    Symbolic links are followed: what they lead to must be a regular file. The kind is
    checked before opening, since opening a device can act on it, and again on the open
    file, since a name can change hands in between.

    Raises:
        SkipRecording: `not_regular_file`, `missing`, `permission`, `read_error`.
    """
    try:
        _require_regular(os.stat(path).st_mode)  # noqa: PTH116 - a str keeps surrogate escapes
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise skip_for(error) from error
    except ValueError as error:  # a NUL byte in the name
        code, reason = "missing", f"no file can have this name: {error}"
        raise SkipRecording(code, reason) from error
    file = io.FileIO(descriptor, "r")
    try:
        _require_regular(os.fstat(descriptor).st_mode)
    except SkipRecording:
        file.close()
        raise
    return file


def _require_regular(mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kind = next((name for test, name in _KINDS if test(mode)), "not a regular file")
    code, reason = "not_regular_file", f"the path leads to {kind}, only regular files are read"
    raise SkipRecording(code, reason)


def skip_for(error: OSError) -> SkipRecording:
    """The skip that a failure of the file system amounts to."""
    words = error.strerror or type(error).__name__
    if error.errno in _GONE:
        return SkipRecording("missing", f"the file cannot be found: {words}")
    if error.errno in _FORBIDDEN:
        return SkipRecording("permission", f"the file may not be read by this user: {words}")
    return SkipRecording("read_error", f"the file system failed while reading: {words}")


def check_size(n_bytes: int, max_file_bytes: int) -> None:
    """Refuse files without a byte or above the cap.

    Raises:
        SkipRecording: `empty`, `too_large`.
    """
    if n_bytes == 0:
        code, reason = "empty", "the file has 0 bytes"
        raise SkipRecording(code, reason)
    if n_bytes > max_file_bytes:
        code = "too_large"
        reason = f"the file has {n_bytes:,} bytes, above max_file_bytes={max_file_bytes:,}"
        raise SkipRecording(code, reason)


def check_hash(file: io.FileIO, expected: str) -> None:
    """Refuse bytes other than those the dataset was read with.

    Raises:
        SkipRecording: `changed`, `read_error`.
    """
    try:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise skip_for(error) from error
    if found != expected.lower():
        code = "changed"
        reason = (
            f"the file's sha256 is {found[:12]}..., the dataset was read with {expected[:12]}..."
        )
        raise SkipRecording(code, reason)


def check_unchanged(before: os.stat_result, file: io.FileIO) -> None:
    """Refuse a file that was written to while it was decoded.

    Raises:
        SkipRecording: `changed`.
    """
    after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        code = "changed"
        reason = (
            f"the file was written to while it was decoded "
            f"({before.st_size:,} bytes before, {after.st_size:,} after)"
        )
        raise SkipRecording(code, reason)


class FileView(io.RawIOBase):
    """The bytes `[start, end)` of an open file, some of them overridden.

    Lets libsndfile read one link of a chained stream, or a header with the sizes that a
    crashed recorder never wrote, without copying or touching the file.

    Args:
        descriptor: an open file that supports `pread`; not closed by the view.
        start: first byte.
        end: one past the last byte.
        patches: bytes to show instead, by offset in the view.
    """

    def __init__(
        self, descriptor: int, start: int, end: int, patches: Mapping[int, bytes] | None = None
    ) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._start = start
        self._size = end - start
        self._patches = dict(patches or {})
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Position in the view."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; it never leaves the view."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = min(max(base + offset, 0), self._size)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from the position on."""
        wanted = memoryview(buffer).cast("B")
        first = self._position
        wanted = wanted[: self._size - first]
        count = os.preadv(self._descriptor, [wanted], self._start + first) if wanted else 0
        for offset, patch in self._patches.items():
            low, high = max(offset, first), min(offset + len(patch), first + count)
            if low < high:
                wanted[low - first : high - first] = patch[low - offset : high - offset]
        self._position += count
        return count
