"""What is left to do: recordings whose (content, recipe) a view lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from birdstack.store.commit import Skip
from birdstack.store.errors import UsageError
from birdstack.store.recordings import Recording
from birdstack.store.state import State
from birdstack.store.views import ViewSpec

TRANSIENT_CODES = frozenset(
    {
        "missing",
        "permission",
        "not_regular_file",
        "read_error",
        "changed",
        "decode_timeout",
        "decoder_crashed",
        "extractor_error",  # a defect of ours, which an upgrade may have mended
    }
)
"""Reasons that lie outside the file's content: tried again on every run."""

_DEFAULT_DURATION_S = 30.0  # for units only, where the header was never probed


@dataclass(frozen=True, slots=True)
class Task:
    """One recording and the views that lack it.

    Attributes:
        recording: what to hear.
        views: names of the views.
        windows: number of its windows, where another view knows it; else None.
        keys: view -> content key, where it is not the file's hash.
    """

    recording: Recording
    views: tuple[str, ...]
    windows: int | None = None
    keys: Mapping[str, str] = field(default_factory=dict)

    def key(self, view: str) -> str:
        """What of the recording determines the numbers of a view."""
        return self.keys.get(view, self.recording.content_key)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do.

    Attributes:
        tasks: recordings that some view lacks, by recording_id.
        done: number of recordings that no view lacks.
        skipped: earlier skips that still hold, since neither content nor recipe has changed.
    """

    tasks: tuple[Task, ...]
    done: int
    skipped: tuple[Skip, ...]

    def units(self, *, max_recordings: int, max_audio_s: float) -> Iterator[tuple[Task, ...]]:
        """Neighbouring tasks in groups that are worth one part each."""
        unit: list[Task] = []
        audio_s = 0.0
        for task in self.tasks:
            duration_s = task.recording.duration_s or _DEFAULT_DURATION_S
            if unit and (len(unit) >= max_recordings or audio_s + duration_s > max_audio_s):
                yield tuple(unit)
                unit, audio_s = [], 0.0
            unit.append(task)
            audio_s += duration_s
        if unit:
            yield tuple(unit)


def make_plan(
    state: State,
    specs: Sequence[ViewSpec],
    recordings: Sequence[Recording],
    *,
    retry_skipped: bool = False,
    content_keys: Mapping[str, Callable[[Recording], str | None]] | None = None,
) -> Plan:
    """Compare what is wanted with what is there; nothing is read but the state.

    Args:
        state: of the store.
        specs: the views wanted.
        recordings: the recordings wanted.
        retry_skipped: forget earlier skips.
        content_keys: view -> what of a recording determines its numbers, None where the view
            does not take the recording; the file's hash for views that are not named.

    Raises:
        UsageError: a recording is wanted twice (its rows would double).
    """
    counts = Counter(recording.recording_id for recording in recordings)
    twice = sorted(recording_id for recording_id, count in counts.items() if count > 1)
    if twice:
        message = f"{len(twice)} recordings are wanted more than once, e.g. {twice[0]!r}"
        raise UsageError(message, remedy="give each recording one id")
    wanted = _wanted_keys(specs, recordings, content_keys or {})
    missing: dict[str, list[ViewSpec]] = {}
    for spec in specs:
        held = state.held(spec.name, spec.recipe_hash)
        for recording_id, _ in wanted[spec.name].items() - held.items():
            missing.setdefault(recording_id, []).append(spec)
    if not missing:
        return Plan((), len(recordings), ())
    by_id = {recording.recording_id: recording for recording in recordings}
    known = _known_windows(state)
    tasks, skipped = [], []
    for recording_id in sorted(missing):
        keys, still_skipped = {}, []
        for spec in missing[recording_id]:
            key = wanted[spec.name][recording_id]
            skip = state.skips.get((spec.name, spec.recipe_hash, recording_id))
            if skip is not None and not retry_skipped and _still_holds(skip, key):
                still_skipped.append(skip)
            else:
                keys[spec.name] = key
        if keys:
            recording = by_id[recording_id]
            windows = known.get((recording_id, recording.content_key))
            tasks.append(Task(recording, tuple(keys), windows, keys))
        skipped += still_skipped
    return Plan(tuple(tasks), len(recordings) - len(missing), tuple(skipped))


def _wanted_keys(
    specs: Sequence[ViewSpec],
    recordings: Sequence[Recording],
    content_keys: Mapping[str, Callable[[Recording], str | None]],
) -> dict[str, dict[str, str]]:
    """View -> recording_id -> content key, for the recordings that the view takes.

    Computed once for all views of one extractor.
    """
    made: dict[Callable[[Recording], str | None], dict[str, str]] = {}
    wanted = {}
    for spec in specs:
        key_of = content_keys.get(spec.name, _file_key)
        if key_of not in made:
            keys = ((r.recording_id, key_of(r)) for r in recordings)
            made[key_of] = {recording_id: key for recording_id, key in keys if key is not None}
        wanted[spec.name] = made[key_of]
    return wanted


def _file_key(recording: Recording) -> str:
    return recording.content_key


def _known_windows(state: State) -> dict[tuple[str, str], int]:
    """(recording_id, content hash) -> number of windows, as any view has counted them."""
    return {
        (covered.recording_id, covered.content_hash): covered.windows
        for part in state.parts.values()
        for covered in part.recordings
    }


def _still_holds(skip: Skip, key: str) -> bool:
    return skip.content_hash == key and skip.code not in TRANSIENT_CODES
