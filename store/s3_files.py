"""A store on `s3://bucket/prefix`, by obstore (extra `s3`): conditional puts, ranged reads.

Credentials, region and endpoint come from the usual `AWS_*` variables
(`AWS_ENDPOINT_URL` for other services than Amazon's). A service that ignores
`If-None-Match` cannot hold a store: `put_new` would let two writers win.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from birdstack.store.errors import StoreError, UsageError
from birdstack.store.files import FileInfo

try:
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
    from obstore.store import S3Store
except ImportError as missing:
    _message = "a store on s3:// needs the extra `s3`"
    raise UsageError(_message, remedy="pip install 'birdstack[s3]'") from missing


class S3Files:
    """The `Files` layer on an S3 bucket."""

    def __init__(self, url: str, *, store: Any = None) -> None:
        self._url = url.rstrip("/")
        self._store = store if store is not None else S3Store.from_url(self._url)

    @property
    def url(self) -> str:
        """The address."""
        return self._url

    def read(self, path: str) -> bytes:
        """The whole object."""
        with _explained(path):
            return bytes(obstore.get(self._store, path).bytes())

    def open(self, path: str) -> S3File:
        """Open for ranged reads."""
        with _explained(path):
            return S3File(self._store, path, int(obstore.head(self._store, path)["size"]))

    def put_new(self, path: str, data: bytes) -> None:
        """Put with `If-None-Match: *`."""
        with _explained(path):
            obstore.put(self._store, path, data, mode="create", use_multipart=False)

    def put(self, path: str, data: bytes) -> None:
        """Put, replacing."""
        with _explained(path):
            obstore.put(self._store, path, data)

    @contextlib.contextmanager
    def staged(self, path: str) -> Iterator[Path]:
        """Write to a local temporary folder, then upload; S3 shows only whole objects."""
        with tempfile.TemporaryDirectory(prefix="birdstack-") as folder:
            aside = Path(folder) / Path(path).name
            yield aside
            with _explained(path):
                obstore.put(self._store, path, aside)

    @contextlib.contextmanager
    def local_copy(self, path: str) -> Iterator[Path]:
        """A download in a temporary folder."""
        with tempfile.TemporaryDirectory(prefix="birdstack-") as folder:
            local = Path(folder) / Path(path).name
            local.write_bytes(self.read(path))
            yield local

    def list(self, folder: str) -> list[str]:
        """Names directly in a folder."""
        with _explained(folder):
            listed = obstore.list_with_delimiter(self._store, folder)
        return [str(item["path"]).rsplit("/", 1)[-1] for item in listed["objects"]]

    def walk(self, folder: str) -> Iterator[FileInfo]:
        """Every object below a folder."""
        with _explained(folder):
            items = [item for batch in obstore.list(self._store, folder or None) for item in batch]
        for item in items:
            modified_s = item["last_modified"].timestamp()
            yield FileInfo(str(item["path"]), int(item["size"]), modified_s)

    def delete(self, path: str) -> None:
        """Remove an object."""
        with contextlib.suppress(FileNotFoundError), _explained(path):
            obstore.delete(self._store, path)


class S3File(io.RawIOBase):
    """A ranged reader; `prefetch` brings several ranges in one trip and keeps them."""

    def __init__(self, store: Any, path: str, n_bytes: int) -> None:
        super().__init__()
        self._store, self._path, self.n_bytes = store, path, n_bytes
        self.identity: tuple[object, ...] | None = None
        self._position = 0
        self._starts: list[int] = []
        self._kept: dict[int, memoryview] = {}

    def prefetch(self, ranges: list[tuple[int, int]]) -> None:
        """Fetch and keep `(offset, length)` ranges; neighbours travel together."""
        if not ranges:
            return
        starts = [offset for offset, _ in ranges]
        lengths = [length for _, length in ranges]
        with _explained(self._path):
            fetched = obstore.get_ranges(self._store, self._path, starts=starts, lengths=lengths)
        self._kept.update({s: memoryview(d) for s, d in zip(starts, fetched, strict=True)})
        self._starts = sorted(self._kept)

    def read_at(self, offset: int, length: int) -> memoryview:
        """Bytes from the kept ranges, or from the network."""
        length = max(0, min(length, self.n_bytes - offset))
        at = bisect_right(self._starts, offset) - 1
        if at >= 0:
            start = self._starts[at]
            kept = self._kept[start]
            if offset + length <= start + len(kept):
                return kept[offset - start : offset - start + length]
        if length == 0:
            return memoryview(b"")
        with _explained(self._path):
            data = obstore.get_range(self._store, self._path, start=offset, length=length)
        return memoryview(data)

    def handle(self) -> S3File:
        """Itself: it is a Python file object."""
        return self

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.n_bytes}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Read from the position."""
        length = self.n_bytes - self._position if size is None or size < 0 else size
        data = bytes(memoryview(self.read_at(self._position, length)))
        self._position += len(data)
        return data


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn obstore's errors into those the layer promises."""
    try:
        yield
    except NotFoundError as error:
        raise FileNotFoundError(path) from error
    except AlreadyExistsError as error:
        raise FileExistsError(path) from error
    except BaseError as error:
        message = f"the object store refused {path!r}: {error}"
        remedy = "check the address, the AWS_* variables and the network, then run again"
        raise StoreError(message, remedy=remedy) from error
