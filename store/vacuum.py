"""Deleting files that nobody can read any more, and nothing else."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass

from birdstack.store.commit import Commit
from birdstack.store.errors import UsageError
from birdstack.store.files import FileInfo
from birdstack.store.local_files import TEMPORARY_PREFIX
from birdstack.store.store import Store

DEFAULT_GRACE_HOURS = 24.0


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What a vacuum has deleted, or would delete.

    Attributes:
        files: the files.
        oldest: the oldest snapshot that stays readable besides the pinned ones.
    """

    files: tuple[FileInfo, ...]
    oldest: int

    @property
    def n_bytes(self) -> int:
        """Bytes freed."""
        return sum(info.n_bytes for info in self.files)


def vacuum(
    store: Store, *, grace_hours: float = DEFAULT_GRACE_HOURS, dry_run: bool = False
) -> Vacuumed:
    """Delete parts that no retained snapshot names, and leftovers of crashed writers.

    Retained are the newest snapshot, those committed within the grace period, and pinned
    ones. Files younger than the grace period are kept whatever they are: they may belong to
    a run that has not committed them yet.

    Args:
        store: the store.
        grace_hours: length of the grace period.
        dry_run: only say what would go.

    Raises:
        UsageError: a negative grace period.
    """
    if grace_hours < 0:
        message = f"grace_hours must be >= 0, got {grace_hours}"
        raise UsageError(message, remedy="give a number of hours such as 24")
    now_s = time.time()
    oldest = _oldest_retained(store, now_s - grace_hours * 3600)
    named = _named_since(store, oldest)
    for version in store.pins().values():
        named |= set(store.log.at(version).parts)
    gone = [
        info
        for folder in ("views", "log", "pins")
        for info in store.files.walk(folder)
        if now_s - info.modified_s >= grace_hours * 3600 and _unnamed(info.path, named)
    ]
    if gone and not dry_run:
        # The commit comes first: a reader must never meet a promise that files have broken.
        store.log.append(Commit("vacuum", expire=oldest, info={"files": len(gone)}))
        for info in gone:
            store.files.delete(info.path)
    return Vacuumed(tuple(gone), oldest)


def _named_since(store: Store, oldest: int) -> set[str]:
    """Parts of every snapshot from `oldest` on: what was live then, or was added later."""
    newest = store.log.head().version
    if oldest < 0:
        return set()
    named = set(store.log.at(oldest).parts)
    for version in range(oldest + 1, newest + 1):
        named |= {part.path for part in store.log.read(version).add}
    return named


def _unnamed(path: str, named: set[str]) -> bool:
    name = path.rsplit("/", 1)[-1]
    if name.startswith(TEMPORARY_PREFIX):
        return True
    return path.startswith("views/") and name.startswith("part-") and path not in named


def _oldest_retained(store: Store, since_s: float) -> int:
    """Number of the oldest snapshot that was the newest one at some time in the grace period."""
    oldest = store.log.head().version
    for commit in store.log.history():
        oldest = commit.version
        if dt.datetime.fromisoformat(commit.time_utc).timestamp() < since_s:
            break
    return oldest
