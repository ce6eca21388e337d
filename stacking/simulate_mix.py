"""Mixes one simulated soundscape: a background, and clips at their place and level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from birdstack.features.demo_background import Weather, background, self_noise
from birdstack.features.demo_scene import band_power
from birdstack.features.demo_song import RATE_HZ, Samples
from birdstack.stacking.simulate_plan import PlannedClip, PlannedSoundscape, Source
from birdstack.store.errors import SkipRecording
from birdstack.store.recordings import Recording

SONG_BAND_HZ = (1000.0, 14_000.0)
"""In which levels are compared: wind and engines below are no part of a ratio that birds feel."""

_PEAK = 0.9
_FADE_S = 0.05
_JOIN_S = 1.0
_FLOOR_DB = -80.0  # hiss below every backdrop: a ratio to digital silence would be none
_SILENT = 1e-12  # power below which a clip holds nothing that could be heard

Open = Callable[[Recording], Samples]
"""Decodes a recording at `RATE_HZ`; raises `SkipRecording`."""


@dataclass(frozen=True)
class Event:
    """A clip as it was mixed.

    Attributes:
        source: the recording it is of.
        start_s: in the soundscape.
        end_s: in the soundscape.
        source_start_s: in the recording.
        snr_db: as planned, and as reached.
    """

    source: Source
    start_s: float
    end_s: float
    source_start_s: float
    snr_db: float


@dataclass(frozen=True)
class Mixed:
    """A finished soundscape.

    Attributes:
        samples: `[sample]` at `RATE_HZ`.
        events: what can be heard in it.
        unheard: recording -> why its clips were left out.
    """

    samples: Samples
    events: list[Event]
    unheard: dict[str, str]


def mix(plan: PlannedSoundscape, open_recording: Open) -> Mixed:
    """Background and clips together, lowered as a whole where they would clip.

    A recording that cannot be decoded, or is silent there, is left out and named.
    """
    total, clips, unheard = mix_parts(plan, open_recording)
    for event, sound in clips:
        first = round(event.start_s * RATE_HZ)
        total[first : first + len(sound)] += sound
    peak = float(np.abs(total).max())
    if peak > _PEAK:
        total *= np.float32(_PEAK / peak)
    return Mixed(total, [event for event, _ in clips], unheard)


def mix_parts(
    plan: PlannedSoundscape, open_recording: Open
) -> tuple[Samples, list[tuple[Event, Samples]], dict[str, str]]:
    """The background, each event with its sound, and why recordings are missing."""
    rng = np.random.default_rng(plan.seed)
    around, unheard = _around(plan, open_recording, rng)
    clips = []
    for clip in plan.clips:
        name = clip.source.recording.recording_id
        try:
            clips.append(_placed(clip, around, open_recording(clip.source.recording)))
        except SkipRecording as skip:
            unheard[name] = str(skip)
    return around, clips, unheard


def _placed(clip: PlannedClip, around: Samples, sound: Samples) -> tuple[Event, Samples]:
    """The loudest of the planned stretches, at its level above the background around it."""
    first = round(clip.start_s * RATE_HZ)
    n = min(round(clip.length_s * RATE_HZ), len(sound), len(around) - first)
    places = [round(share * (len(sound) - n)) for share in clip.offsets]
    powers = [band_power(sound[place : place + n], *SONG_BAND_HZ) for place in places]
    place = places[int(np.argmax(powers))]
    cut = sound[place : place + n] * _fades(n)
    power = band_power(cut, *SONG_BAND_HZ)
    if power < _SILENT:
        code, reason = "silent", f"nothing to hear in {n / RATE_HZ:.1f} s of it"
        raise SkipRecording(code, reason)
    behind = band_power(around[first : first + n], *SONG_BAND_HZ)
    cut *= np.float32(np.sqrt(behind / power * 10 ** (clip.snr_db / 10)))
    event = Event(
        source=clip.source,
        start_s=clip.start_s,
        end_s=round(clip.start_s + n / RATE_HZ, 3),
        source_start_s=round(place / RATE_HZ, 3),
        snr_db=clip.snr_db,
    )
    return event, cut


def _around(
    plan: PlannedSoundscape, open_recording: Open, rng: np.random.Generator
) -> tuple[Samples, dict[str, str]]:
    """A stretch of the backdrop, or coloured noise; and why a backdrop could not be used."""
    n = round(plan.duration_s * RATE_HZ)
    unheard: dict[str, str] = {}
    if plan.backdrop is not None:
        try:
            stretch = _stretch(open_recording(plan.backdrop), n, rng)
        except SkipRecording as skip:
            unheard[plan.backdrop.recording_id] = str(skip)
        else:
            stretch += self_noise(n, _FLOOR_DB, rng)
            return stretch, unheard
    wind_db, stream_db, hiss_db = rng.uniform((-48, -56, -62), (-34, -42, -52)).tolist()
    around = background(Weather(wind_db=wind_db, stream_db=stream_db), n, rng)
    around += self_noise(n, hiss_db, rng)
    return around, unheard


def _stretch(sound: Samples, n: int, rng: np.random.Generator) -> Samples:
    """`n` samples from a random place; a shorter recording follows upon itself, cross-faded."""
    if len(sound) >= n:
        place = int(rng.integers(len(sound) - n + 1))
        return sound[place : place + n].copy()
    join = min(round(_JOIN_S * RATE_HZ), len(sound) // 2)
    angle = np.linspace(0.0, np.pi / 2, join, dtype=np.float32)
    step = len(sound) - join
    piece = sound.copy()
    piece[:join] = sound[:join] * np.sin(angle) + sound[step:] * np.cos(angle)
    # Each round ends where the next one's cross-fade takes over.
    looped: Samples = np.resize(piece[:step], n + step)
    first = int(rng.integers(step))
    return looped[first : first + n].copy()


def _fades(n: int) -> Samples:
    """1, but rising and falling as half cosines at the ends, so that no clip clicks."""
    edge = min(round(_FADE_S * RATE_HZ), n // 2)
    rise = (0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, edge))).astype(np.float32)
    shape: Samples = np.ones(n, dtype=np.float32)
    shape[:edge] = rise
    shape[n - edge :] = rise[::-1]
    return shape
