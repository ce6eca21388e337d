"""Finds the audio files below a folder, and reads their size, hash and header.

Files are looked at with `stat` before they are opened, so that a pipe or a device can never
stop a run. What an earlier ingestion learnt of an unchanged file is used again.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from birdstack.store.errors import SkipRecording
from birdstack.store.fault_rules import RejectLog
from birdstack.store.recordings import Probe
from birdstack.store.tables import RECORDINGS

AUDIO_SUFFIXES = frozenset({".ogg", ".oga", ".opus", ".flac", ".wav", ".mp3"})
"""Extensions, in lower case, that count as audio."""

Progress = Callable[[str, int, int], None]
"""Told the stage, how many are done and how many there are."""

_FACTS = ("content_hash", "bytes", "mtime_ns", "format", "sample_rate_hz", "channels", "duration_s")
FACTS = pl.Schema([(name, RECORDINGS[name]) for name in ("recording_id", *_FACTS)])
"""What is known of an audio file; null where it was not read."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A plain file with an audio extension.

    Attributes:
        recording_id: path below the dataset's root with `/` separators.
        n_bytes: its size.
        mtime_ns: when it was last written.
    """

    recording_id: str
    n_bytes: int
    mtime_ns: int


@dataclass
class Listing:
    """What lies below a folder.

    Attributes:
        files: audio files by recording id, sorted.
        ignored: number of other files.
    """

    files: dict[str, FoundFile] = field(default_factory=dict)
    ignored: int = 0

    def below(self, folder: str) -> dict[str, FoundFile]:
        """The files below one folder."""
        start = f"{folder}/"
        return {key: file for key, file in self.files.items() if key.startswith(start)}


def is_audio_name(name: str) -> bool:
    """Whether a file of this name is taken for audio."""
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES  # noqa: PTH122 - 10 times as fast


def list_audio(root: Path, folders: Sequence[str], log: RejectLog) -> Listing:
    """Walk `folders` (below `root`; an empty name is the root itself).

    Links are followed and every folder is entered once, so a loop of links ends. Hidden files
    and folders are passed over. What cannot be used is noted in `log`.
    """
    walk = _Walk(root, log, waiting=list(reversed(folders)))
    while walk.waiting or walk.links:
        walk.enter(walk.waiting.pop() if walk.waiting else walk.links.pop(0))
    walk.listing.files = dict(sorted(walk.listing.files.items()))
    return walk.listing


def find_file(root: Path, recording_id: str) -> FoundFile | None:
    """The plain file at this path, or None; for a file behind a link that the walk left out."""
    try:
        status = (root / recording_id).stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return FoundFile(recording_id, status.st_size, status.st_mtime_ns)


def read_facts(
    root: Path,
    files: Sequence[FoundFile],
    *,
    probe: Probe | None,
    known: pl.DataFrame | None,
    threads: int,
    log: RejectLog,
    progress: Progress | None = None,
) -> tuple[pl.DataFrame, int]:
    """Hash and probe every file, except those that `known` has unchanged.

    Args:
        root: the dataset's root.
        files: what to read.
        probe: reads a header; None reads no audio, and only sizes are filled in.
        known: frame with the schema `RECORDINGS` from an earlier ingestion.
        threads: files read at once (hashing releases the interpreter lock).
        log: takes a row for every file that cannot be read.
        progress: told of every file that was read.

    Returns:
        Frame with the schema `FACTS` (without the files that failed), and the number of files
        that were not read again.
    """
    sizes = pl.DataFrame(
        {
            "recording_id": [file.recording_id for file in files],
            "bytes": [file.n_bytes for file in files],
            "mtime_ns": [file.mtime_ns for file in files],
        },
        schema={name: FACTS[name] for name in ("recording_id", "bytes", "mtime_ns")},
    )
    if known is None:
        known = pl.DataFrame(schema=FACTS)
    old = known.select(FACTS.names()).drop_nulls("content_hash" if probe is None else list(FACTS))
    keys = ["recording_id", "bytes", "mtime_ns"]
    facts = sizes.join(old.unique(keys), on=keys, how="left", maintain_order="left")
    facts = facts.select(FACTS.names())
    if probe is None:
        return facts, facts["content_hash"].count()
    reused = facts.drop_nulls("content_hash")
    unchanged = set(reused["recording_id"].to_list())
    waiting = [file for file in files if file.recording_id not in unchanged]
    rows = list(_read_all(root, waiting, probe=probe, threads=threads, log=log, progress=progress))
    fresh = pl.DataFrame(rows, schema=FACTS, orient="row")
    return pl.concat([reused, fresh]).sort("recording_id"), reused.height


@dataclass
class _Walk:
    """The state of one walk: what is listed, what waits, and which folders were entered."""

    root: Path
    log: RejectLog
    waiting: list[str]
    links: list[str] = field(default_factory=list)
    listing: Listing = field(default_factory=Listing)
    entered: set[tuple[int, int]] = field(default_factory=set)

    def enter(self, folder: str) -> None:
        """List one folder and queue the folders in it, unless it was entered before."""
        try:
            status = os.stat(self.root / folder)  # noqa: PTH116 - as os.scandir below
            identity = (status.st_dev, status.st_ino)
            if identity in self.entered:
                return
            self.entered.add(identity)
            with os.scandir(self.root / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            self.log.add("unreadable_file", file=folder or ".", value=error.strerror)
            return
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if _is_folder(entry) and not is_audio_name(path) and _is_wanted(entry.name):
                # Links wait for the end, so that a file keeps the id of its own folder.
                (self.links if entry.is_symlink() else self.waiting).append(path)
            else:
                self.take(entry, path)

    def take(self, entry: os.DirEntry[str], path: str) -> None:
        """List a file, count it as ignored, or note what is wrong with it."""
        named_as_audio = is_audio_name(path) and not entry.name.startswith(".")
        if not named_as_audio and (entry.name.startswith(".") or not _is_folder(entry)):
            self.listing.ignored += 1
        elif not _is_utf8(entry.name):
            escaped = os.fsencode(path).decode("utf-8", "backslashreplace")
            self.log.add("non_utf8_name", file=escaped, value=escaped.rpartition("/")[2])
        elif _is_folder(entry):
            self.log.add("directory_named_as_audio", file=path)
        else:
            self.take_audio(entry, path)

    def take_audio(self, entry: os.DirEntry[str], path: str) -> None:
        """List a file with an audio name if it is a plain file; it is not opened."""
        try:
            status = entry.stat()
        except OSError as error:
            self.log.add("unreadable_file", file=path, value=error.strerror, recording_id=path)
            return
        if stat.S_ISREG(status.st_mode):
            self.listing.files[path] = FoundFile(path, status.st_size, status.st_mtime_ns)
        else:
            self.log.add("not_a_file", file=path, recording_id=path)


def _is_wanted(name: str) -> bool:
    """Whether a folder of this name is entered: not a hidden one, nor one without a text name."""
    return not name.startswith(".") and _is_utf8(name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_all(
    root: Path,
    files: Sequence[FoundFile],
    *,
    probe: Probe,
    threads: int,
    log: RejectLog,
    progress: Progress | None,
) -> Iterable[dict[str, Any]]:
    """Facts of every file in order; a failure becomes a row of `log`."""
    executor = ThreadPoolExecutor(threads, thread_name_prefix="ingest")
    try:
        results = executor.map(lambda file: _read_one(root, file, probe), files)
        for done, (file, result) in enumerate(zip(files, results, strict=True), 1):
            if isinstance(result, SkipRecording):
                name = file.recording_id
                log.add(result.code, file=name, recording_id=name, reason=result.reason)
            else:
                yield result
            if progress is not None:
                progress("audio", done, len(files))
    finally:
        executor.shutdown(cancel_futures=True)


def _read_one(root: Path, file: FoundFile, probe: Probe) -> dict[str, Any] | SkipRecording:
    path = root / file.recording_id
    try:
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
            status = os.fstat(handle.fileno())
        if (status.st_size, status.st_mtime_ns) != (file.n_bytes, file.mtime_ns):
            sizes = f"from {file.n_bytes} to {status.st_size} bytes"
            return SkipRecording("changed_while_read", f"the file changed while read, {sizes}")
        header = probe(path)
    except SkipRecording as skip:
        return skip
    except OSError as error:
        return SkipRecording(
            "unreadable_file", f"the file cannot be read: {error.strerror or error}"
        )
    except (ValueError, RuntimeError) as error:
        return SkipRecording("probe_error", f"the audio header cannot be read: {error}")
    return {
        "recording_id": file.recording_id,
        "content_hash": digest,
        "bytes": file.n_bytes,
        "mtime_ns": file.mtime_ns,
        "format": header.format,
        "sample_rate_hz": header.sample_rate_hz,
        "channels": header.channels,
        "duration_s": header.duration_s,
    }
