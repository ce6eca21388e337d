"""The windows that cost most: birds ranked below almost everything, and false alarms on top.

A missed window is a positive one that many negative windows outrank; a false alarm is a negative
one that outranks many positives. Both are shares of pairs, so they compare between classes.
Among them are wrong labels: listen before you blame the scores.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from birdstack.features.audio import AudioConfig, AudioSource, Sound
from birdstack.features.clips import encode_clip, spectrogram_png
from birdstack.features.pictures_spectrogram import spectrogram
from birdstack.stacking.report_places import placed
from birdstack.stacking.report_run import SHIPPED, Domain, Run
from birdstack.stacking.report_scores import Ranked
from birdstack.store.errors import BirdstackError, SkipRecording
from birdstack.store.keys import WindowGrid
from birdstack.store.labels import ABSENT, PRESENT
from birdstack.store.recordings import Recording

AROUND = 2
"""Windows shown on either side."""
_HEARD = 1  # windows that are heard on either side
_PER_CLASS = 2
_COLUMNS, _ROWS = 440, 128
_MOST_HZ = 16_000.0
_MOST_AUDIO_BYTES = 8_000_000
_USUAL_HOP_S = 5.0


def worst_errors(ranked: Ranked, clips: int) -> list[dict[str, Any]]:
    """Missed windows and false alarms in turn, the worst first, at most two of a class."""
    scores = ranked.domain.scores(SHIPPED)
    missed, alarms = _candidates(ranked, scores)
    chosen: list[tuple[str, int, int, float]] = []
    taken: dict[int, int] = {}
    met: set[tuple[int, str]] = set()
    queues = [("missed", iter(missed)), ("false alarm", iter(alarms))]
    while queues and len(chosen) < clips:
        kind, queue = queues.pop(0)
        for cost, row, number in queue:
            where = (number, str(ranked.domain.recording[row]))
            if taken.get(number, 0) < _PER_CLASS and where not in met:
                met.add(where)
                taken[number] = taken.get(number, 0) + 1
                chosen.append((kind, row, number, cost))
                queues.append((kind, queue))
                break
    return [_described(ranked, scores, one) for one in chosen]


def add_media(
    run: Run, errors: list[dict[str, Any]], *, audio: bool, advance: Callable[[], None]
) -> None:
    """Add pictures and, if wanted, sound to errors; say why where that cannot be."""
    by_recording: dict[str, list[dict[str, Any]]] = {}
    for error in errors:
        by_recording.setdefault(error["recording_id"], []).append(error)
    known = _paths_of_store(run, set(by_recording))
    spent = 0
    grid = WindowGrid(window_s=run.window_s, hop_s=float(run.facts.get("hop_s") or run.window_s))
    with AudioSource(AudioConfig(), grid) as source:
        for recording_id, mine in by_recording.items():
            path = known.get(recording_id) or mine[0].pop("path", None)
            sound, why = _open(source, recording_id, path)
            for error in mine:
                error.pop("path", None)
                if sound is None:
                    error["media"] = {"why": why}
                    continue
                wanted = audio and spent < _MOST_AUDIO_BYTES
                error["media"] = _media(sound, error, audio=wanted)
                spent += len(error["media"].get("audio", ""))
                if audio and not wanted:
                    error["media"]["why"] = "the report holds as much sound as it may"
            advance()


def _candidates(
    ranked: Ranked, scores: np.ndarray
) -> tuple[list[tuple[float, int, int]], list[tuple[float, int, int]]]:
    """(cost, row, class) of missed windows and of false alarms, the worst first."""
    missed: list[tuple[float, float, int, int]] = []
    alarms: list[tuple[float, float, int, int]] = []
    for number in range(scores.shape[1]):
        label, column = ranked.truth[:, number], scores[:, number]
        present, absent = np.flatnonzero(label == PRESENT), np.flatnonzero(label == ABSENT)
        if not len(present) or not len(absent):
            continue
        width = float(column.std()) or 1.0
        lost = 1 - placed(column[present], column[absent])
        for at in np.argsort(-lost, kind="stable")[: 4 * _PER_CLASS]:
            depth = float(-(column[present[at]] - column.mean()) / width)
            missed.append((float(lost[at]), depth, int(present[at]), number))
        top = absent[np.argsort(-column[absent], kind="stable")[: 4 * _PER_CLASS]]
        beaten = placed(column[top], column[present])
        for row, cost in zip(top, beaten, strict=True):
            height = float((column[row] - column.mean()) / width)
            alarms.append((float(cost), height, int(row), number))
    both = []
    for found in (missed, alarms):
        found.sort(key=lambda one: (-one[0], -one[1], one[2], one[3]))
        both.append([(cost, row, number) for cost, _, row, number in found])
    return both[0], both[1]


def _described(
    ranked: Ranked, scores: np.ndarray, chosen: tuple[str, int, int, float]
) -> dict[str, Any]:
    domain, (kind, row, number, cost) = ranked.domain, chosen
    facts = domain.rows.row(row, named=True)
    window = int(facts["window"])
    near = np.flatnonzero(domain.recording == facts["recording_id"])
    index = domain.rows["window"].to_numpy()[near]
    near = near[np.abs(index - window) <= AROUND]
    ordered = np.sort(scores[:, number])
    neighbours = [
        {
            "window": int(domain.rows["window"][int(at)]),
            "outranks": float(np.searchsorted(ordered, scores[at, number]) / len(ordered)),
            "label": _label(int(ranked.truth[at, number])),
        }
        for at in near
    ]
    known = _hop_s(domain)
    hop_s = known or _USUAL_HOP_S
    there = [domain.classes[i] for i in np.flatnonzero(ranked.truth[row] == PRESENT)]
    return {
        "kind": kind,
        "class": domain.classes[number],
        "recording_id": str(facts["recording_id"]),
        "window": window,
        "timed": known is not None,
        "start_s": window * hop_s,
        "hop_s": hop_s,
        "window_s": hop_s,
        "cost": cost,
        "labels": there,
        "neighbours": neighbours,
        "path": facts.get("path"),
    }


def _hop_s(domain: Domain) -> float | None:
    """Seconds from window to window; None where a run knows no seconds."""
    if "start_s" not in domain.rows.columns:
        return None
    window, start = (
        domain.rows[name].cast(pl.Float64).to_numpy() for name in ("window", "start_s")
    )
    moved = (window > 0) & np.isfinite(start)
    return float(np.median(start[moved] / window[moved])) if moved.any() else None


def _label(value: int) -> str:
    return {PRESENT: "present", ABSENT: "absent"}.get(value, "not known")


def _paths_of_store(run: Run, wanted: set[str]) -> Mapping[str, Path]:
    """Where the store has its recordings; nothing where there is no store to ask."""
    from birdstack.store.catalog import load_recordings  # noqa: PLC0415 - only with a store
    from birdstack.store.store import Store  # noqa: PLC0415 - only with a store

    if not run.facts.get("store"):
        return {}
    try:
        snapshot = Store.open(str(run.facts["store"])).snapshot(run.facts.get("snapshot"))
        found = load_recordings(snapshot)
    except (BirdstackError, OSError):
        return {}
    return {r.recording_id: r.path for r in found if r.recording_id in wanted}


def _open(
    source: AudioSource, recording_id: str, path: str | Path | None
) -> tuple[Sound | None, str]:
    if path is None:
        return None, "where its sound lies is not known"
    if not Path(path).is_file():
        return None, f"its sound is not at {path}"
    try:
        return source.open(Recording(recording_id, Path(path), content_hash="")), ""
    except (SkipRecording, BirdstackError) as error:
        return None, f"its sound cannot be decoded: {error}"


def _media(sound: Sound, error: dict[str, Any], *, audio: bool) -> dict[str, Any]:
    rate_hz, window_s = sound.sample_rate_hz, sound.grid.window_s
    error["window_s"] = window_s
    begin_s = max(0.0, error["start_s"] - AROUND * error["hop_s"])
    end_s = error["start_s"] + window_s + AROUND * error["hop_s"]
    highest_hz = min(_MOST_HZ, rate_hz / 2)
    try:
        picture = spectrogram(
            sound.samples,
            rate_hz,
            start_s=begin_s,
            end_s=end_s,
            fmin_hz=0.0,
            fmax_hz=highest_hz,
            max_columns=_COLUMNS,
            max_rows=_ROWS,
        )
    except ValueError as empty:
        return {"why": f"its sound ends before this window: {empty}"}
    found: dict[str, Any] = {
        "picture": _data_uri(spectrogram_png(picture), "image/png"),
        "start_s": picture.start_s,
        "end_s": picture.end_s,
        "fmax_hz": highest_hz,
    }
    if audio:
        first_s = max(0.0, error["start_s"] - _HEARD * error["hop_s"])
        last_s = min(error["start_s"] + window_s + _HEARD * error["hop_s"], sound.duration_s)
        clip = encode_clip(
            sound.samples[round(first_s * rate_hz) : round(last_s * rate_hz)], rate_hz
        )
        found |= {
            "audio": _data_uri(clip.data, clip.mime),
            "audio_start_s": first_s,
            "audio_end_s": last_s,
            "gain_db": round(clip.gain_db, 1),
        }
    return found


def _data_uri(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
