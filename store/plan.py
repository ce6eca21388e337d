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
        return self.keys.get(view, self.recording.content_hash)


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
    content_keys: Mapping[str, Callable[[Recording], str]] | None = None,
) -> Plan:
    """Compare what is wanted with what is there; nothing is read but the state.

    Args:
        state: of the store.
        specs: the views wanted.
        recordings: the recordings wanted.
        retry_skipped: forget earlier skips.
        content_keys: view -> what of a recording determines its numbers; the file's hash for
            views that are not named.

    Raises:
        UsageError: a recording is wanted twice (its rows would double).
    """
    counts = Counter(recording.recording_id for recording in recordings)
    twice = sorted(recording_id for recording_id, count in counts.items() if count > 1)
    if twice:
        message = f"{len(twice)} recordings are wanted more than once, e.g. {twice[0]!r}"
        raise UsageError(message, remedy="give each recording one id")
    holdings = [(spec, state.covered(spec.name, spec.recipe_hash)) for spec in specs]
    key_of = content_keys or {}
    known = _known_windows(state)
    tasks, skipped, done = [], [], 0
    for recording in sorted(recordings, key=lambda r: r.recording_id):
        lacking, still_skipped = [], []
        own_keys = {}
        for spec, holding in holdings:
            key = recording.content_hash
            if spec.name in key_of:
                key = own_keys[spec.name] = key_of[spec.name](recording)
            held = holding.get(recording.recording_id)
            if held is not None and held.content_hash == key:
                continue
            skip = state.skips.get((spec.name, spec.recipe_hash, recording.recording_id))
            if skip is not None and not retry_skipped and _still_holds(skip, key):
                still_skipped.append(skip)
            else:
                lacking.append(spec.name)
        if lacking:
            windows = known.get((recording.recording_id, recording.content_hash))
            tasks.append(Task(recording, tuple(lacking), windows, own_keys))
        elif not still_skipped:
            done += 1
        skipped += still_skipped
    return Plan(tuple(tasks), done, tuple(skipped))


def _known_windows(state: State) -> dict[tuple[str, str], int]:
    """(recording_id, content hash) -> number of windows, as any view has counted them."""
    return {
        (covered.recording_id, covered.content_hash): covered.windows
        for part in state.parts.values()
        for covered in part.recordings
    }


def _still_holds(skip: Skip, key: str) -> bool:
    return skip.content_hash == key and skip.code not in TRANSIENT_CODES
