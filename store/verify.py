"""Does the store still hold what was written? And what to do where it does not."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from birdstack.store.commit import Commit, Part
from birdstack.store.errors import CorruptError
from birdstack.store.files import Files
from birdstack.store.layout import entry_path, log_number
from birdstack.store.recipes import read_recipe
from birdstack.store.sealed import unseal
from birdstack.store.state import State
from birdstack.store.store import Store

_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it was written.

    Attributes:
        kind: `log`, `part`, `recipe` or `pin`.
        path: below the store.
        what: one sentence.
        recordings: how many recordings are hit.
    """

    kind: str
    path: str
    what: str
    recordings: int = 0


def verify(store: Store, *, progress: Callable[[int, int], None] | None = None) -> list[Problem]:
    """Compare every log entry, pin, recipe, and live or pinned part with its checksum.

    Args:
        store: the store.
        progress: called with (bytes checked, bytes in all).
    """
    problems = list(_damaged_entries(store))
    if problems:
        return problems  # what is live cannot be told before the log is whole
    problems += _damaged_pins(store)
    state = store.log.head()
    for view, recipe in state.window_views():
        try:
            read_recipe(store.files, view, recipe)
        except CorruptError as error:
            problems.append(Problem("recipe", f"views/{view}/{recipe}", error.message))
    parts = dict(state.parts)
    if not problems:  # a damaged pin cannot say what it names
        for version in set(store.pins().values()):
            parts |= store.log.at(version).parts
    total = sum(part.n_bytes for part in parts.values())
    done = 0
    for part in parts.values():
        what = _damage(store.files, part)
        if what:
            problems.append(Problem("part", part.path, what, len(part.recordings)))
        done += part.n_bytes
        if progress is not None:
            progress(done, total)
    return problems


def repair(store: Store, problems: list[Problem]) -> list[str]:
    """Take damaged things out of use, so that the next run makes them again.

    A damaged part leaves the log (its recordings are then lacking) and lies in `damaged/`
    from then on, where no run can adopt it. A damaged log entry is set aside in `damaged/` and
    an empty one takes its number (parts that only it named are adopted by the next run).
    Nothing is deleted.

    Returns:
        One sentence for each thing done.
    """
    said = []
    for problem in problems:
        if problem.kind == "log":
            _set_entry_aside(store.files, problem.path)
            said.append(f"{problem.path}: set aside in damaged/, an empty entry took its place")
        if problem.kind == "pin":
            said.append(f"{problem.path}: left as it is; delete it and pin the snapshot again")
        if problem.kind == "recipe":
            said.append(
                f"{problem.path}: the next run with the settings that made the view writes it"
            )
    live = store.log.head().parts if all(p.kind != "log" for p in problems) else {}
    damaged = [problem for problem in problems if problem.kind == "part"]
    parts = [problem for problem in damaged if problem.path in live]
    said += [
        f"{p.path}: only a pinned snapshot names it; restore it from a backup, or unpin"
        for p in damaged
        if p.path not in live
    ]
    if parts:
        info = {"damaged": [f"{problem.path}: {problem.what}" for problem in parts]}
        removed = tuple(problem.path for problem in parts)
        store.log.append(Commit("repair", remove=removed, info=info))
        for path in removed:
            _set_part_aside(store.files, path)
        said += [
            f"{p.path}: dropped; {p.recordings} recordings will be computed again"
            if p.recordings
            else f"{p.path}: dropped; run `birdstack ingest` again"
            for p in parts
        ]
    return said


def _damaged_entries(store: Store) -> Iterator[Problem]:
    newest = max(map(log_number, store.files.list("log")), default=-1)
    for version in range(newest + 1):
        try:
            store.log.read(version)
        except CorruptError as error:
            yield Problem("log", entry_path(version), error.message)


def _damaged_pins(store: Store) -> Iterator[Problem]:
    for name in sorted(store.files.list("pins")):
        try:
            unseal(store.files.read(f"pins/{name}"))
        except ValueError as error:
            yield Problem("pin", f"pins/{name}", str(error))


def _damage(files: Files, part: Part) -> str:
    """What is wrong with a part's file; empty if nothing is."""
    try:
        file = files.open(part.path)
    except FileNotFoundError:
        return "the file is missing"
    digest = hashlib.sha256()
    try:
        if file.n_bytes != part.n_bytes:
            return f"{file.n_bytes} bytes instead of {part.n_bytes}"
        for offset in range(0, part.n_bytes, _BLOCK):
            digest.update(file.read_at(offset, _BLOCK))
    finally:
        file.close()
    return "" if digest.hexdigest() == part.sha256 else "its sha256 does not match"


def _set_part_aside(files: Files, path: str) -> None:
    name = path.rsplit("/", 1)[-1]
    try:
        with files.local_copy(path) as damaged, files.staged(f"damaged/{name}") as aside:
            shutil.copyfile(damaged, aside)
    except FileNotFoundError:
        return
    files.delete(path)


def _set_entry_aside(files: Files, path: str) -> None:
    version = int(path.rsplit("/", 1)[-1].removesuffix(".json"))
    with contextlib.suppress(FileNotFoundError):
        files.put(f"damaged/{version:010d}.json", files.read(path))
    # A checkpoint at or after the entry may rest on what the entry said; it was made from
    # the whole entry, so it is right, and reading starts from it.
    files.delete(path)
    void = Commit("void", info={"reason": "damaged entry set aside"})
    files.put_new(path, void.signed(version).to_bytes())


def count_orphans(store: Store, state: State) -> int:
    """Parts on disk that the newest snapshot does not name (old, adopted later, or torn)."""
    return sum(
        1
        for info in store.files.walk("views")
        if info.path.endswith(".parquet") and info.path not in state.parts
    )
