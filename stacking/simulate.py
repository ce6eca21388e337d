"""A folder of simulated soundscapes: audio, the table of what sings in it, and its mark.

DIR/simulated.json                        settings, and a digest of what was mixed from
DIR/simulated_soundscapes/fold0_0000.ogg  the audio
DIR/events/fold0_0000.csv                 its events, written before the audio
DIR/events.csv                            all of them
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from birdstack.features.audio import AudioConfig, AudioSource
from birdstack.features.demo_ogg import encode_ogg
from birdstack.features.demo_song import RATE_HZ
from birdstack.stacking.simulate_mix import Mixed, mix
from birdstack.stacking.simulate_plan import (
    SIMULATE_VERSION,
    Material,
    PlannedSoundscape,
    SimulateConfig,
    plan,
)
from birdstack.store.errors import DatasetError, UsageError
from birdstack.store.tables import schema

MARK = "simulated.json"
_ASIDE = ".aside"
EVENTS = schema(
    {
        "recording_id": pl.String,
        "fold": pl.Int32,
        "label": pl.String,
        "role": pl.String,
        "start_s": pl.Float64,
        "end_s": pl.Float64,
        "source_recording_id": pl.String,
        "source_start_s": pl.Float64,
        "snr_db": pl.Float64,
    }
)
"""One row for each clip and label of the recording that it is of."""

Told = Callable[[int, int, str], None]


@dataclass
class Simulated:
    """What lies in the folder now.

    Attributes:
        folder: where.
        soundscapes: all that were asked for, by name.
        events: schema `EVENTS`.
        made: soundscapes that were mixed in this run.
        unheard: recording -> why its clips were left out, in this run.
        stopped: whether the run was told to stop before its end.
    """

    folder: Path
    soundscapes: list[PlannedSoundscape]
    events: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=EVENTS))
    made: int = 0
    unheard: dict[str, str] = field(default_factory=dict)
    stopped: bool = False


def simulate(
    folder: Path,
    material: Material,
    config: SimulateConfig,
    audio: AudioConfig,
    *,
    workers: int,
    told: Told,
    stop: threading.Event,
) -> Simulated:
    """Mix the soundscapes that the folder lacks. The same seed gives the same files.

    Args:
        folder: made if it is not there.
        material: what is mixed.
        config: how many, how long, which seed.
        audio: limits of decoding.
        workers: soundscapes mixed at a time.
        told: how many are done, how many there are, and a few words.
        stop: finish what is begun, and begin nothing else.

    Raises:
        UsageError: the folder holds something else.
        DatasetError: none of the clips of a soundscape can be heard.
    """
    found = Simulated(folder, plan(material, config))
    _claim(folder, config, material)
    wanted = [s for s in found.soundscapes if not (folder / s.name).is_file()]
    done, total = len(found.soundscapes) - len(wanted), len(found.soundscapes)
    told(done, total, "")
    rate = audio.model_copy(update={"sample_rate_hz": RATE_HZ})
    with AudioSource(rate) as source, ThreadPoolExecutor(workers, "simulate") as pool:

        def make(soundscape: PlannedSoundscape) -> dict[str, str] | None:
            return None if stop.is_set() else _make(folder, soundscape, source)

        try:
            for soundscape, unheard in zip(wanted, pool.map(make, wanted), strict=True):
                if unheard is None:
                    found.stopped = True
                    continue
                found.made += 1
                found.unheard |= unheard
                told(done + found.made, total, soundscape.name)
        except BaseException:
            stop.set()
            raise
    if not found.stopped:
        found.events = pl.concat(
            [pl.read_csv(_beside(folder, s), schema=EVENTS) for s in found.soundscapes]
        )
        _write(folder / "events.csv", found.events.write_csv().encode())
    return found


def _make(folder: Path, soundscape: PlannedSoundscape, source: AudioSource) -> dict[str, str]:
    """Mix and write one, its audio last: what has audio is finished. Returns who is missing."""
    mixed = mix(soundscape, lambda recording: source.open(recording).samples)
    if not mixed.events:
        name, why = next(iter(mixed.unheard.items()))
        message = f"{soundscape.name}: none of its clips can be heard, e.g. {name!r} ({why})"
        raise DatasetError(message, remedy="put the recordings back, or ingest what is there")
    _write(_beside(folder, soundscape), _rows(soundscape, mixed).write_csv().encode())
    serial = zlib.crc32(soundscape.name.encode())
    _write(folder / soundscape.name, encode_ogg(mixed.samples, serial=serial))
    return mixed.unheard


def _rows(soundscape: PlannedSoundscape, mixed: Mixed) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for event in mixed.events:
        source = event.source
        own: Sequence[tuple[str, tuple[str, ...]]] = (
            ("primary", source.primary),
            ("secondary", source.secondary),
        )
        rows += [
            {
                "recording_id": soundscape.name,
                "fold": source.fold,
                "label": label,
                "role": role,
                "start_s": event.start_s,
                "end_s": event.end_s,
                "source_recording_id": source.recording.recording_id,
                "source_start_s": event.source_start_s,
                "snr_db": event.snr_db,
            }
            for role, labels in own
            for label in labels
        ]
    return pl.DataFrame(rows, schema=EVENTS)


def _beside(folder: Path, soundscape: PlannedSoundscape) -> Path:
    return folder / "events" / f"{Path(soundscape.name).stem}.csv"


def _claim(folder: Path, config: SimulateConfig, material: Material) -> None:
    """Make the folder, or see that it holds soundscapes of the same settings and recordings."""
    mark = {
        "version": SIMULATE_VERSION,
        "duration_s": config.duration_s,
        "seed": config.seed,
        "mixed_from": material.digest(),
    }
    if folder.exists() and not folder.is_dir():
        message = f"{str(folder)!r} is a file, simulated soundscapes need a folder"
        raise UsageError(message, remedy="name another --out")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = json.loads((folder / MARK).read_text("utf-8"))
    except (OSError, ValueError):
        found = None
    if found is None and any(entry.suffix != _ASIDE for entry in folder.iterdir()):
        message = f"{str(folder)!r} holds something that is not simulated soundscapes (no {MARK})"
        raise UsageError(message, remedy="name another --out")
    if found is None:
        _write(folder / MARK, (json.dumps(mark, indent=2) + "\n").encode())
    elif found != mark:
        differs = [key for key, value in mark.items() if found.get(key) != value]
        what = "other recordings, labels or folds" if differs == ["mixed_from"] else differs
        message = f"{str(folder)!r} holds soundscapes that were simulated from {what}"
        if differs != ["mixed_from"]:
            held, asked = ({k: m.get(k) for k in differs} for m in (found, mark))
            message = f"{str(folder)!r} holds soundscapes simulated with {held}, asked is {asked}"
        raise UsageError(message, remedy="remove that folder, or name another --out")


def _write(path: Path, content: bytes) -> None:
    """Written aside and renamed: a name that is there has all its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}{_ASIDE}")
    aside.write_bytes(content)
    aside.replace(path)
