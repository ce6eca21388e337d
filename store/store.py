"""The store: open or create it, look at a snapshot of it, commit to it.

Example:
    >>> import tempfile
    >>> from birdstack.store import Store
    >>> store = Store.create(tempfile.mkdtemp())
    >>> store.snapshot().version
    -1
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import polars as pl
from pydantic import ValidationError

from birdstack.store.commit import FORMAT_VERSION, newer_format
from birdstack.store.errors import CorruptError, NoStoreError, UsageError
from birdstack.store.files import Files, open_files
from birdstack.store.keys import WindowGrid
from birdstack.store.layout import MARKER, pin_path
from birdstack.store.local_files import TEMPORARY_PREFIX
from birdstack.store.log import CommitLog
from birdstack.store.matrix import Matrix
from birdstack.store.out_of_fold import refuse_leaks
from birdstack.store.recipes import write_recipe
from birdstack.store.sealed import seal, unseal
from birdstack.store.snapshot import Snapshot
from birdstack.store.views import ViewSpec

At = int | str | Snapshot | None
"""Which snapshot: number in the log, name of a pin, one in hand, or None for the newest."""


class Store:
    """A Parquet feature store in a local folder or on `s3://`.

    Attributes:
        files: the file-system layer it lies on.
        grid: how recordings are cut into windows; fixed for the life of the store.
        log: its commit log.
    """

    def __init__(self, files: Files, grid: WindowGrid) -> None:
        self.files = files
        self.grid = grid
        self.log = CommitLog(files, functools.partial(refuse_leaks, files, grid))

    @classmethod
    def create(cls, url: str | Path | Files, grid: WindowGrid | None = None) -> Store:
        """Open the store at `url`, or make one there.

        Args:
            url: local folder, `s3://bucket/prefix`, or a layer of one's own.
            grid: window grid of a new store; must agree with that of an existing one.

        Raises:
            UsageError: the folder holds something else, or the grids differ.
        """
        files = _layer(url)
        try:
            store = cls(files, _read_marker(files))
        except FileNotFoundError:
            _refuse_foreign_folder(files)
            body = {
                "birdstack_store": FORMAT_VERSION,
                "grid": (grid or WindowGrid()).model_dump(),
                "created_utc": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
                "created_with": f"birdstack {metadata.version('birdstack')}",
            }
            with contextlib.suppress(FileExistsError):  # somebody else created it this moment
                files.put_new(MARKER, seal(body))
            store = cls(files, _read_marker(files))
        if grid is not None and grid != store.grid:
            message = f"{store.url} was made with the window grid {store.grid}, not {grid}"
            raise UsageError(message, remedy="use those settings, or another --store")
        return store

    @classmethod
    def open(cls, url: str | Path | Files) -> Store:
        """Open an existing store.

        Raises:
            NoStoreError: there is no store at `url`.
            FormatVersionError: a newer birdstack made it.
        """
        files = _layer(url)
        try:
            return cls(files, _read_marker(files))
        except FileNotFoundError:
            message = f"there is no birdstack store at {files.url} (no {MARKER} in it)"
            remedy = "give --store the folder that `birdstack ingest DATASET --store PATH` made"
            raise NoStoreError(message, remedy=remedy) from None

    @property
    def url(self) -> str:
        """Where it lies."""
        return self.files.url

    def snapshot(self, at: At = None) -> Snapshot:
        """A view of the whole store that no later commit changes.

        Args:
            at: number in the log, name of a pin, a snapshot, or None for the newest.

        Raises:
            UsageError: there is no such snapshot or pin, or it was vacuumed.
        """
        if isinstance(at, Snapshot):
            return at
        head = self.log.head()
        if at is None:
            return Snapshot(self.files, self.grid, head)
        version = int(at) if isinstance(at, int) or at.isdigit() else self._pinned(at)
        if 0 <= version < head.oldest and version not in self.pins().values():
            message = f"{self.url}: snapshot {version} was vacuumed; the oldest is {head.oldest}"
            raise UsageError(message, remedy="pin snapshots you want to keep: `store pin NAME`")
        return Snapshot(self.files, self.grid, self.log.at(version))

    def view(
        self,
        name: str,
        *,
        at: At = None,
        recipe: str | None = None,
        recordings: Sequence[str] | None = None,
    ) -> pl.LazyFrame:
        """One window view as a LazyFrame; see `Snapshot.view`."""
        return self.snapshot(at).view(name, recipe=recipe, recordings=recordings)

    def matrix(
        self,
        views: str | Mapping[str, Sequence[str] | None],
        *,
        at: At = None,
        recordings: Sequence[str] | None = None,
    ) -> Matrix:
        """Columns of one or more views as one float32 array; see `Snapshot.matrix`."""
        return self.snapshot(at).matrix(views, recordings=recordings)

    def table(self, name: str, *, at: At = None) -> pl.DataFrame:
        """One table such as `recordings`; see `Snapshot.table`."""
        return self.snapshot(at).table(name)

    def register(self, spec: ViewSpec) -> None:
        """Write a view's recipe beside its future parts; nothing happens if it is there.

        Raises:
            SchemaError: the same recipe was registered with other columns.
        """
        write_recipe(self.files, spec)

    def pin(self, name: str, at: At = None) -> int:
        """Keep a snapshot under a name; vacuum respects it. Returns the number.

        Raises:
            UsageError: the name is taken, or cannot be a file name.
        """
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.isdigit():
            message = f"a pin's name has letters, digits, - _ . and not digits alone; got {name!r}"
            raise UsageError(message, remedy="choose a name such as stack-2026-03")
        version = self.snapshot(at).version
        if version < 0:
            message = f"{self.url} is empty: there is no snapshot to pin"
            raise UsageError(message, remedy="pin after the first commit")
        body = {"version": version, "created_utc": dt.datetime.now(dt.UTC).isoformat()}
        try:
            self.files.put_new(pin_path(name), seal(body))
        except FileExistsError:
            message = f"{self.url}: pin {name!r} is taken (snapshot {self.pins()[name]})"
            raise UsageError(message, remedy="choose another name, or `unpin` it first") from None
        return version

    def unpin(self, name: str) -> None:
        """Forget a named snapshot."""
        self._pinned(name)
        self.files.delete(pin_path(name))

    def pins(self) -> dict[str, int]:
        """Name -> number of every pinned snapshot."""
        found = {}
        for file in sorted(self.files.list("pins")):
            name = file.removesuffix(".json")
            try:
                found[name] = int(unseal(self.files.read(f"pins/{file}"))["version"])
            except (ValueError, KeyError, TypeError) as error:
                message = f"pin {self.url}/pins/{file} is damaged: {error}"
                remedy = "delete the file and pin the snapshot again"
                raise CorruptError(message, remedy=remedy) from error
        return found

    def _pinned(self, name: str) -> int:
        pins = self.pins()
        if name not in pins:
            known = ", ".join(pins) or "none"
            message = f"{self.url}: no pin {name!r}; pins: {known}"
            raise UsageError(message, remedy="give a pin's name, or a number of `store history`")
        return pins[name]


def _layer(url: str | Path | Files) -> Files:
    return open_files(str(url)) if isinstance(url, str | Path) else url


def _read_marker(files: Files) -> WindowGrid:
    """The window grid in `store.json`. Raises FileNotFoundError if there is none."""
    place = f"{files.url}/{MARKER}"
    try:
        data = files.read(MARKER)
        version = int(json.loads(data)["birdstack_store"])
        if version > FORMAT_VERSION:  # its seal may be another
            raise newer_format(place, version)
        return WindowGrid(**unseal(data)["grid"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        message = f"{place} is damaged: {error}"
        remedy = "restore it from a backup, or write it anew from another store of the same grid"
        raise CorruptError(message, remedy=remedy) from error


def _refuse_foreign_folder(files: Files) -> None:
    """A store is made only where nothing else is: it must never mix with a user's files."""
    for info in files.walk(""):
        if info.path.startswith(TEMPORARY_PREFIX):
            continue  # of a creation that was killed
        if MARKER in files.list(""):
            return  # somebody else created it this moment
        message = f"{files.url} is not a birdstack store and is not empty (it has {info.path})"
        raise UsageError(message, remedy="give --store a new or empty folder")
