"""One commit: what changed, across any views, and why; as text with its own checksum.

A log entry is two lines. The first is a header with the format version and the sha256 and
length of the second; the second is the commit as JSON. A torn or flipped entry therefore
shows, and cannot be read as an older or emptier commit.
"""

from __future__ import annotations

import datetime as dt
import getpass
import hashlib
import json
import socket
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from birdstack.store.errors import CorruptError, FormatVersionError

FORMAT_VERSION = 1
"""Version of the store's layout and log that this code writes and reads."""


class Covered(NamedTuple):
    """One recording held by a part, by what determined its numbers."""

    recording_id: str
    content_hash: str  # the view's content key, see `Extractor.content_key`
    windows: int


@dataclass(frozen=True, slots=True)
class Part:
    """One immutable Parquet file of one view.

    Attributes:
        path: below the store.
        view: name of the view.
        recipe: hash of its recipe; for tables the word `table`.
        rows: number of rows.
        n_bytes: size of the file.
        sha256: of the whole file.
        footer: xxh3-64 of the Parquet footer, hexadecimal.
        chunks: base64 of one little-endian uint32 for each row group and column: the low
            half of the xxh3-64 of that column chunk's bytes.
        key: for a table part, the dataset (or split, model, view) that owns its rows; empty
            for window views.
        recordings: for window views, what it holds, in row order.
    """

    path: str
    view: str
    recipe: str
    rows: int
    n_bytes: int
    sha256: str
    footer: str
    chunks: str
    key: str = ""
    recordings: tuple[Covered, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; recordings as short rows."""
        body = {name: getattr(self, name) for name in self.__slots__ if name != "recordings"}
        body["recordings"] = [[c.recording_id, c.content_hash, c.windows] for c in self.recordings]
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Part:
        """Back from `to_json`."""
        rows = tuple(map(Covered._make, body["recordings"]))
        return cls(**{**body, "recordings": rows})


@dataclass(frozen=True, slots=True)
class Skip:
    """A recording that one view could not be made for; retried when its content changes."""

    view: str
    recipe: str
    recording_id: str
    content_hash: str
    code: str
    reason: str


@dataclass(frozen=True)
class Commit:
    """What one commit says.

    Attributes:
        operation: the verb that made it, e.g. `features`.
        version: number in the log, -1 until it is written.
        add: parts that become live.
        remove: paths of parts that cease to be.
        skip: recordings passed over, with reasons.
        notes: recording_id -> facts about its sound worth keeping, such as truncation.
        activate: view name -> recipe that readers of that view get from now on.
        statistics: `view/recipe` -> column -> counts and moments of the added rows.
        expire: snapshots before this number can no longer be read, unless pinned.
        info: configuration, environment, counts: for people and for reproduction.
        time_utc: when, by the writer's clock (order comes from `version`).
        author: user@host.
        run_id: the same for all commits of one run.
    """

    operation: str
    version: int = -1
    add: tuple[Part, ...] = ()
    remove: tuple[str, ...] = ()
    skip: tuple[Skip, ...] = ()
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    activate: Mapping[str, str] = field(default_factory=dict)
    statistics: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    expire: int = 0
    info: Mapping[str, Any] = field(default_factory=dict)
    time_utc: str = ""
    author: str = ""
    run_id: str = ""

    def signed(self, version: int) -> Commit:
        """The same commit with its number, time and author filled in."""
        return replace(
            self,
            version=version,
            time_utc=dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
            author=self.author or _author(),
            run_id=self.run_id or new_run_id(),
        )

    def to_bytes(self) -> bytes:
        """As a log entry."""
        body = {name: getattr(self, name) for name in self.__dataclass_fields__}
        body["add"] = [part.to_json() for part in self.add]
        body["skip"] = [asdict(skip) for skip in self.skip]
        payload = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
        header = {
            "birdstack_log": FORMAT_VERSION,
            "sha256": hashlib.sha256(payload).hexdigest(),
            "bytes": len(payload),
        }
        return json.dumps(header).encode() + b"\n" + payload + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, place: str) -> Commit:
        """Back from a log entry.

        Args:
            data: the file's bytes.
            place: where it was read, for messages.

        Raises:
            FormatVersionError: a newer birdstack wrote it.
            CorruptError: it is not what was written.
        """
        first, _, rest = data.partition(b"\n")
        payload = rest[:-1]
        header = _parse_header(first, place)
        if header.get("birdstack_log", 0) > FORMAT_VERSION:
            raise newer_format(place, header["birdstack_log"])
        if not rest.endswith(b"\n") or header.get("bytes") != len(payload):
            raise damaged_entry(place, f"{len(payload)} bytes instead of {header.get('bytes')}")
        if header.get("sha256") != hashlib.sha256(payload).hexdigest():
            raise damaged_entry(place, "its sha256 does not match")
        body = json.loads(payload)
        body["add"] = tuple(Part.from_json(part) for part in body["add"])
        body["skip"] = tuple(Skip(**skip) for skip in body["skip"])
        body["remove"] = tuple(body["remove"])
        return cls(**body)


def newer_format(place: str, found: int) -> FormatVersionError:
    """The error for a store that a newer birdstack wrote."""
    message = f"{place} has format version {found}; this birdstack reads up to {FORMAT_VERSION}"
    return FormatVersionError(message, remedy="upgrade birdstack: pip install -U birdstack")


def new_run_id() -> str:
    """A short random name for one run."""
    return uuid.uuid4().hex[:12]


def _parse_header(line: bytes, place: str) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or not isinstance(header.get("birdstack_log"), int):
        raise damaged_entry(place, f"its first line is not a log header: {line[:60]!r}")
    return dict(header)


def damaged_entry(place: str, what: str) -> CorruptError:
    """The error for a log entry that is missing or not what was written."""
    message = f"log entry {place} is damaged: {what}"
    remedy = (
        "restore the file from a backup, or run `birdstack store verify --repair` to set it "
        "aside and recompute what only it knew"
    )
    return CorruptError(message, remedy=remedy)


def _author() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # no name for this uid, as in many containers
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
