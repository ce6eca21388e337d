"""The commit log: numbered entries, each created only if nobody else has.

The next number is taken by put-if-absent; whoever loses looks at what the winner did and
tries again on top of it. A commit that adds parts may go on; a commit that removes parts
must find each of them still live, or two compactions would double every row.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import polars as pl
import xxhash

from birdstack.store.commit import Commit, Part, damaged_entry
from birdstack.store.errors import ConflictError, StoreError, UsageError
from birdstack.store.files import Files
from birdstack.store.layout import (
    CHECKPOINT_SUFFIX,
    TABLE_RECIPE,
    checkpoint_path,
    entry_path,
    log_number,
)
from birdstack.store.state import State

CHECKPOINT_EVERY = 50
CHECKPOINT_BYTES = 4_000_000
"""A checkpoint is also due after so many bytes of entries, which take long to read as JSON."""
_MAX_TRIES = 1000


Admit = Callable[[State, Sequence[Part]], None]


class CommitLog:
    """Reads and appends to the log of one store; safe to share between threads.

    Args:
        files: the file-system layer of the store.
        admit: asked about the newest state and the parts that a commit adds to it; raises
            to keep them out.
    """

    def __init__(self, files: Files, admit: Admit | None = None) -> None:
        self._files = files
        self._admit = admit
        self._lock = threading.RLock()
        self._state: State | None = None
        self._bytes_since_checkpoint = 0

    def head(self) -> State:
        """The state after the newest commit."""
        with self._lock:
            if self._state is None:
                self._state = self._load(None)
            self._state = self._state.applied(self._commits_after(self._state.version))
            return self._state

    def at(self, version: int) -> State:
        """The state after commit `version`.

        Raises:
            UsageError: there is no such commit.
        """
        newest = self.head()
        if version == newest.version:
            return newest
        if not 0 <= version < newest.version:
            message = f"{self._files.url}: no snapshot {version}; there are 0 to {newest.version}"
            raise UsageError(message, remedy="see `birdstack store history` for the numbers")
        return self._load(version)

    def read(self, version: int) -> Commit:
        """One commit of those that must be there.

        Raises:
            CorruptError: the entry is missing or damaged.
            FormatVersionError: a newer birdstack wrote it.
        """
        try:
            return self._read(version)
        except FileNotFoundError:
            place = f"{self._files.url}/{entry_path(version)}"
            raise damaged_entry(place, "the file is missing") from None

    def _read(self, version: int) -> Commit:
        """One commit. Raises FileNotFoundError if there is none of that number."""
        path = entry_path(version)
        place = f"{self._files.url}/{path}"
        commit = Commit.from_bytes(self._files.read(path), place)
        if commit.version != version:
            raise damaged_entry(place, f"it says that its number is {commit.version}")
        return commit

    def append(self, commit: Commit) -> Commit | None:
        """Write a commit on top of whatever is newest, and return it with its number.

        Parts whose recordings another writer has committed meanwhile are left out: the
        numbers are the same, and rows must not double. Returns None if nothing is left.

        Raises:
            ConflictError: a part to be removed is no longer live, or a part to be added
                shares some but not all of its recordings with live ones.
            LeakError: a part to be added brings in logits that are not out-of-fold.
        """
        with self._lock:
            for _ in range(_MAX_TRIES):
                state = self.head()
                _check_removals(commit, state, self._files.url)
                kept = _new_parts(commit, state, self._files.url)
                if self._admit is not None:
                    self._admit(state, kept)
                draft = replace(commit, add=kept)
                if not (
                    kept or draft.remove or draft.skip or draft.expire or _activates(draft, state)
                ):
                    return None
                signed = draft.signed(state.version + 1)
                data = signed.to_bytes()
                try:
                    self._files.put_new(entry_path(signed.version), data)
                except FileExistsError:
                    continue
                self._state = state.applied([signed])
                self._bytes_since_checkpoint += len(data)
                due = signed.version and signed.version % CHECKPOINT_EVERY == 0
                if due or self._bytes_since_checkpoint >= CHECKPOINT_BYTES:
                    self._write_checkpoint(self._state)
                return signed
        message = f"{self._files.url}: lost {_MAX_TRIES} races for the next commit"
        raise ConflictError(message, remedy="run fewer writers at once, then run again")

    def history(self) -> Iterator[Commit]:
        """All commits, newest first."""
        for version in range(self.head().version, -1, -1):
            yield self.read(version)

    def _commits_after(self, version: int) -> Iterator[Commit]:
        while True:
            version += 1
            try:
                yield self._read(version)
            except FileNotFoundError:
                return

    def _load(self, upto: int | None) -> State:
        """The state at `upto` (None: the newest), from the last good checkpoint on."""
        names = self._files.list("log")
        state = self._from_checkpoint(names, upto) or State()
        if upto is None:
            newest = max(map(log_number, names), default=-1)  # before the replay: it may grow
            state = state.applied(self._commits_after(state.version))
            if state.version < newest:  # a gap: what lies behind it must not be forgotten
                place = f"{self._files.url}/{entry_path(state.version + 1)}"
                raise damaged_entry(place, "the file is missing")
            return state
        return state.applied(self.read(v) for v in range(state.version + 1, upto + 1))

    def _from_checkpoint(self, names: list[str], upto: int | None) -> State | None:
        """The newest checkpoint that is whole; a damaged one is passed over."""
        for name in sorted(names, reverse=True):
            if not name.endswith(CHECKPOINT_SUFFIX) or (
                upto is not None and log_number(name) > upto
            ):
                continue
            digest = name.removesuffix(CHECKPOINT_SUFFIX).rpartition(".")[2]
            data = self._files.read(f"log/{name}")
            if xxhash.xxh3_64_hexdigest(data) == digest:
                return State.from_checkpoint(pl.read_parquet(io.BytesIO(data)))
        return None

    def _write_checkpoint(self, state: State) -> None:
        """Best effort: readers manage without it, and the commit itself has succeeded."""
        self._bytes_since_checkpoint = 0
        buffer = io.BytesIO()
        state.to_checkpoint().write_parquet(buffer, compression="zstd", compression_level=1)
        data = buffer.getvalue()
        path = checkpoint_path(state.version, xxhash.xxh3_64_hexdigest(data))
        try:
            self._files.put(path, data)
        except (OSError, StoreError):
            return


def _check_removals(commit: Commit, state: State, url: str) -> None:
    gone = [path for path in commit.remove if path not in state.parts]
    if gone:
        message = (
            f"{url}: another writer has replaced {len(gone)} of the {len(commit.remove)} parts "
            f"that this commit replaces, e.g. {gone[0]}"
        )
        raise ConflictError(message, remedy="run the command again: it starts from the new state")


def _new_parts(commit: Commit, state: State, url: str) -> tuple[Part, ...]:
    """The parts whose recordings no live part of the same view holds already."""
    views = {(part.view, part.recipe) for part in commit.add if part.recipe != TABLE_RECIPE}
    removed = set(commit.remove)
    live = {
        (part.view, part.recipe, covered.recording_id): covered.content_hash
        for part in state.parts.values()
        if (part.view, part.recipe) in views and part.path not in removed
        for covered in part.recordings
    }
    kept = []
    for part in commit.add:
        if part.path in state.parts:
            continue
        mine = {(part.view, part.recipe, c.recording_id): c.content_hash for c in part.recordings}
        same = sum(live.get(key) == content_hash for key, content_hash in mine.items())
        if mine and same == len(mine):
            continue
        if not live.keys().isdisjoint(mine):
            message = (
                f"{url}: another writer has committed {len(live.keys() & mine.keys())} of the "
                f"{len(mine)} recordings of {part.path}"
            )
            raise ConflictError(message, remedy="run the command again: it does only what is left")
        kept.append(part)
        live |= mine
    return tuple(kept)


def _activates(commit: Commit, state: State) -> bool:
    return any(state.active.get(view) != recipe for view, recipe in commit.activate.items())
