"""What a prediction has finished: scores of each recording on disk, so that a killed run goes on.

```
work/                 in the folder of the results
  plan.json           bundle, engine, fold models: scores of other plans are not mixed in
  done.jsonl          a line for each finished recording: content hash, windows, SHA-256
  scores/<name>.npy   float32 [window, class]
```

A line is written once its file is whole. A torn last line, a file that is gone or whose bytes
have changed, and a recording whose content has changed count for nothing: it is done again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from birdstack.store.errors import UsageError

WORK, PLAN, JOURNAL, SCORES = "work", "plan.json", "done.jsonl", "scores"
_NAME = 32


@dataclass(frozen=True)
class Done:
    """A finished recording.

    Attributes:
        recording_id: of it.
        content_hash: of the file that was heard.
        windows: number of them.
        sha256: of the file of scores.
        notes: deviations found while decoding.
    """

    recording_id: str
    content_hash: str
    windows: int
    sha256: str
    notes: Mapping[str, Any]


class PredictParts:
    """Scores of finished recordings. Threads may add at once; close it at the end.

    Args:
        folder: `DIR/work`; is made.
        plan: JSON-able: what decides the scores.

    Raises:
        UsageError: the folder holds scores of another plan.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        (folder / SCORES).mkdir(parents=True, exist_ok=True)
        held = read_plan(folder)
        if held is not None and held != plan:
            key = next(k for k in sorted({*held, *plan}) if held.get(k) != plan.get(k))
            message = (
                f"{folder}: holds scores of another plan: {key} was {held.get(key)!r}, "
                f"is {plan.get(key)!r}"
            )
            raise UsageError(message, remedy="give another --out, or delete this folder")
        if held is None:
            _write(folder / PLAN, json.dumps(dict(plan), indent=1).encode() + b"\n")
        self._done = {done.recording_id: done for done in _journal(folder / JOURNAL)}
        self._file: BinaryIO = (folder / JOURNAL).open("ab")
        if self._file.tell() and not _ends_with_newline(folder / JOURNAL):
            self._file.write(b"\n")  # after a line that a kill has torn

    def finished(self, recording_id: str, content_hash: str) -> Done | None:
        """A recording that needs nothing more: same content, scores whole."""
        done = self._done.get(recording_id)
        if done is None or done.content_hash != content_hash:
            return None
        try:
            data = self._path(recording_id).read_bytes()
        except OSError:
            return None
        return done if hashlib.sha256(data).hexdigest() == done.sha256 else None

    def add(
        self, recording_id: str, content_hash: str, scores: np.ndarray, notes: Mapping[str, Any]
    ) -> None:
        """Keep the scores `[window, class]` of one recording, durably."""
        held = io.BytesIO()
        np.save(held, scores.astype(np.float32), allow_pickle=False)
        data = held.getvalue()
        _write(self._path(recording_id), data)
        digest = hashlib.sha256(data).hexdigest()
        done = Done(recording_id, content_hash, len(scores), digest, dict(notes))
        line = json.dumps(asdict(done), default=str).encode() + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._done[recording_id] = done

    def scores(self, recording_id: str) -> np.ndarray:
        """Scores of a finished recording, float32 `[window, class]`."""
        return np.asarray(np.load(self._path(recording_id), allow_pickle=False))

    def close(self) -> None:
        """Let go of the journal."""
        self._file.close()

    def _path(self, recording_id: str) -> Path:
        name = hashlib.sha256(recording_id.encode()).hexdigest()[:_NAME]
        return self.folder / SCORES / f"{name}.npy"


def read_plan(folder: Path) -> dict[str, Any] | None:
    """The plan of a work folder; None where there is none that can be read."""
    try:
        found = json.loads((folder / PLAN).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _journal(path: Path) -> list[Done]:
    found = []
    for line in path.read_bytes().split(b"\n") if path.is_file() else []:
        try:
            found.append(Done(**json.loads(line)))
        except (ValueError, TypeError):  # torn by a kill, or empty
            continue
    return found


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _write(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
