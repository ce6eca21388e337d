"""One pass over many recordings: heard and scored by threads, a few recordings at a time.

Memory hangs on the number of threads and the longest recording, not on how many there are:
each thread holds one decoded sound and the next, and the logits of a few recordings.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from birdstack.features.audio import Sound
from birdstack.stacking.predict_parts import PredictParts
from birdstack.stacking.predictor import HeardRecording, Predictor, soundscape_recording
from birdstack.store.ahead import opened_in_order
from birdstack.store.audio_files import list_audio
from birdstack.store.errors import BirdstackError, SkipRecording, UsageError
from birdstack.store.fault_rules import RejectLog
from birdstack.store.recordings import Recording

UNIT = 8
"""Recordings that are scored side by side at most. Of a stack of 14 classes and 6 fold models, a
recording of 48 windows costs 35 ms of processor alone, and 7 ms as one of eight."""


@dataclass(frozen=True)
class Skipped:
    """A file that could not be used.

    Attributes:
        recording_id: path below the folder.
        code: a short stable word.
        reason: one sentence.
        windows: that its header promises; None where it does not say.
    """

    recording_id: str
    code: str
    reason: str
    windows: int | None = None


@dataclass
class PassTally:
    """What a pass has done so far; threads add to it.

    Attributes:
        tried: recordings heard, skipped or found finished.
        heard: recordings heard now.
        already: recordings found finished.
        windows: heard now.
        seconds: of thread time, by stage.
        skips: files that could not be used.
    """

    tried: int = 0
    heard: int = 0
    already: int = 0
    windows: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    skips: list[Skipped] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(
        self,
        *,
        heard: int = 0,
        already: int = 0,
        windows: int = 0,
        skip: Skipped | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> None:
        """Count what was just done."""
        with self._lock:
            self.heard += heard
            self.already += already
            self.windows += windows
            self.skips += [] if skip is None else [skip]
            self.tried += heard + already + (skip is not None)
            for stage, spent_s in (seconds or {}).items():
                self.seconds[stage] = self.seconds.get(stage, 0.0) + spent_s


def find_soundscapes(folder: Path) -> tuple[Path, list[str], list[Skipped]]:
    """Audio files below a folder, or one file.

    Returns:
        The folder that names are relative to, names in order, and files that cannot be used.

    Raises:
        UsageError: there is no such folder, or no audio in it.
    """
    if folder.is_file():
        return folder.parent, [folder.name], []
    if not folder.is_dir():
        message = f"{folder}: no such folder"
        raise UsageError(message, remedy="name a folder of recordings")
    log = RejectLog(folder.name)
    listing = list_audio(folder, [""], log)
    skips = [
        Skipped(row["file"], row["rule"], row["reason"])
        for row in log.frame().iter_rows(named=True)
    ]
    if not listing.files and not skips:
        message = f"{folder}: no audio file ({listing.ignored} other files)"
        raise UsageError(
            message, remedy="name a folder with .ogg, .opus, .flac, .wav or .mp3 files"
        )
    return folder, list(listing.files), skips


def carry_out(
    predictor: Predictor,
    parts: PredictParts,
    root: Path,
    names: Sequence[str],
    *,
    workers: int,
    stop: threading.Event,
    tally: PassTally,
    show: Callable[[], None],
) -> None:
    """Hear and score what is not finished.

    Args:
        predictor: hears and scores.
        parts: takes the scores.
        root: folder of the recordings.
        names: of the recordings, relative to it.
        workers: threads.
        stop: once set, recordings in hand are finished and nothing more is begun.
        tally: told of every recording.
        show: called after each.

    Raises:
        BirdstackError: something that would fail every recording.
    """
    work = _Work(predictor, parts, root, stop, tally, show)
    size = min(UNIT, max(1, len(names) // (2 * workers)))  # few files are shared out too
    units = [names[at : at + size] for at in range(0, len(names), size)]
    with ThreadPoolExecutor(workers, thread_name_prefix="predict") as pool:
        waiting = [pool.submit(work.run, unit) for unit in units]
        try:
            for future in as_completed(waiting):
                future.result()
        except BaseException:
            stop.set()
            for future in waiting:
                future.cancel()
            raise


_Opened = tuple[Recording | None, Sound | SkipRecording | None]


@dataclass(frozen=True)
class _Work:
    predictor: Predictor
    parts: PredictParts
    root: Path
    stop: threading.Event
    tally: PassTally
    show: Callable[[], None]

    def run(self, unit: Sequence[str]) -> None:
        """Hear the recordings of a unit one by one, then score them side by side."""
        heard: list[tuple[Recording, HeardRecording]] = []
        with closing(self._openings(unit)) as openings:
            for name, (recording, sound) in zip(unit, openings, strict=False):
                if recording is not None and sound is None:
                    self.tally.add(already=1)
                elif recording is None or isinstance(sound, SkipRecording):
                    assert isinstance(sound, SkipRecording), "what was not found was skipped"
                    self._skip(name, sound)
                elif sound is not None:
                    found = self._hear(name, recording, sound)
                    heard += [] if found is None else [(recording, found)]
                self.show()
        if heard:
            self._keep(heard)
        self.show()

    def _openings(self, unit: Sequence[str]) -> Generator[_Opened, None, None]:
        return opened_in_order(unit, self._open, lambda _: True, self.stop)

    def _open(self, name: str) -> _Opened:
        """The sound of a recording, unless it is finished; runs ahead of the hearing."""
        started_s = time.perf_counter()
        recording: Recording | None = None
        try:
            recording = soundscape_recording(self.root / name, self.root)
            if self.parts.finished(name, recording.content_hash) is not None:
                return recording, None
            return recording, self.predictor.open(recording)
        except SkipRecording as skip:
            return recording, skip
        finally:
            self.tally.add(seconds={"decode": time.perf_counter() - started_s})

    def _hear(self, name: str, recording: Recording, sound: Sound) -> HeardRecording | None:
        try:
            found = self.predictor.hear(sound, recording)
        except (BirdstackError, MemoryError):
            raise
        except SkipRecording as skip:
            self._skip(name, skip)
            return None
        except Exception as error:  # noqa: BLE001 - one bad recording must cost one recording
            self._skip(name, SkipRecording("extractor_error", f"{type(error).__name__}: {error}"))
            return None
        self.tally.add(seconds=found.seconds)
        return found

    def _keep(self, heard: Sequence[tuple[Recording, HeardRecording]]) -> None:
        started_s = time.perf_counter()
        scored = self.predictor.score([found for _, found in heard])
        for (recording, found), scores in zip(heard, scored, strict=True):
            self.parts.add(recording.recording_id, recording.content_hash, scores, found.notes)
            self.tally.add(heard=1, windows=len(scores))
        self.tally.add(seconds={"stack": time.perf_counter() - started_s})

    def _skip(self, name: str, skip: SkipRecording) -> None:
        windows = self.predictor.declared_windows(self.root / name)
        reason = skip.reason.encode(errors="backslashreplace").decode()
        self.tally.add(skip=Skipped(name, skip.code, reason, windows))
