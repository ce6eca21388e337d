"""The one file-system layer: what a store asks of the place it lies in.

Two places: a local folder (`local_files`) and `s3://bucket/prefix` (`s3_files`, extra `s3`).
Paths are relative to the store, with `/` separators. Everything that makes a store safe
rests on two promises: `put_new` lets exactly one of several writers win, and what it or
`staged` has returned from survives a power cut.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from birdstack.store.errors import UsageError


class FileInfo(NamedTuple):
    """One file below a store."""

    path: str
    n_bytes: int
    modified_s: float  # seconds since the epoch, by the clock of the place


class RandomFile(Protocol):
    """An open file that can be read anywhere."""

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        ...

    @property
    def identity(self) -> tuple[object, ...] | None:
        """Equal for two openings of the very same bytes; None where that cannot be told."""
        ...

    def read_at(self, offset: int, length: int) -> memoryview:
        """Exactly `length` bytes from `offset`, or fewer at the end of the file."""
        ...

    def prefetch(self, ranges: list[tuple[int, int]]) -> None:
        """Say which `(offset, length)` ranges will be read, so that they come in one trip."""
        ...

    def handle(self) -> Any:
        """A Python file object or path that a Parquet reader accepts."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


class Files(Protocol):
    """A folder tree with atomic, durable writes."""

    @property
    def url(self) -> str:
        """Where the tree lies, as the user would write it."""
        ...

    def read(self, path: str) -> bytes:
        """The whole file. Raises FileNotFoundError."""
        ...

    def open(self, path: str) -> RandomFile:
        """Open for random reads. Raises FileNotFoundError."""
        ...

    def put_new(self, path: str, data: bytes) -> None:
        """Create the file whole and durable. Raises FileExistsError if it is there already."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """Create or replace the file, whole and durable."""
        ...

    def staged(self, path: str) -> contextlib.AbstractContextManager[Path]:
        """A local path to write to; on a clean exit the file becomes `path`, durably."""
        ...

    def local_copy(self, path: str) -> contextlib.AbstractContextManager[Path]:
        """A local path to read the file from, while the context lasts."""
        ...

    def list(self, folder: str) -> list[str]:
        """Names of the files directly in `folder`; empty if there is no such folder."""
        ...

    def walk(self, folder: str) -> Iterator[FileInfo]:
        """Every file below `folder`, hidden and temporary ones too."""
        ...

    def delete(self, path: str) -> None:
        """Remove the file; nothing happens if it is not there."""
        ...


def open_files(url: str) -> Files:
    """The layer for a local path or an `s3://` address.

    Raises:
        UsageError: the scheme is not known, or the extra for it is not installed.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        from birdstack.store.local_files import LocalFiles  # noqa: PLC0415 - one layer is loaded

        return LocalFiles(Path(url))
    if scheme == "s3":
        from birdstack.store.s3_files import S3Files  # noqa: PLC0415 - needs the extra

        return S3Files(url)
    message = f"a store lies in a local folder or at s3://bucket/prefix, got {url!r}"
    raise UsageError(message, remedy="give --store a folder or an s3:// address")
