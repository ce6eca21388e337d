"""Invented bird song: syllables, runs and phrases, the birds that vary them, and their sound.

A syllable is a pitch contour with harmonics, modulation and roughness; a run repeats
syllables; a phrase is a sequence of runs. Every bird has a pitch, a tempo and a repertoire of
its own. Laying out the notes and turning them into samples are separate steps, so that the
truth about a scene is known before any of it is heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

RATE_HZ = 32_000
"""Sample rate of all demo audio."""

HIGHEST_HZ = 14_500.0
"""Partials above are left out: they would alias, or vanish in the recorder's filter."""

Samples = npt.NDArray[np.float32]
Kind = Literal["song", "call"]


@dataclass(frozen=True)
class Syllable:
    """One uninterrupted sound.

    Attributes:
        duration_s: length.
        contour_hz: fundamental at equally spaced moments, joined by straight lines.
        harmonics: amplitudes of the fundamental and the partials above it.
        am_hz: rate of amplitude modulation, 0 for none.
        am_depth: 0 to 1.
        fm_hz: rate of vibrato, 0 for none.
        fm_depth: greatest deviation of the pitch, relative to it.
        rough: standard deviation of a random walk of the phase, in radians per square root of
            a millisecond: broadens each partial by `160 * rough**2` Hz, from a tone to a rasp.
        attack: share of the length that the sound takes to rise.
    """

    duration_s: float
    contour_hz: tuple[float, ...]
    harmonics: tuple[float, ...] = (1.0,)
    am_hz: float = 0.0
    am_depth: float = 0.0
    fm_hz: float = 0.0
    fm_depth: float = 0.0
    rough: float = 0.0
    attack: float = 0.2


@dataclass(frozen=True)
class Run:
    """Syllables repeated in turn.

    Attributes:
        syllables: sung in this order, again and again.
        repeats: fewest and most syllables.
        interval_s: from one onset to the next; 0 lets each follow the one before.
        acceleration: factor of the interval from one syllable to the next.
        pitch_step: factor of the pitch from one syllable to the next.
        swell_db: change of level from one syllable to the next.
        gap_s: silence behind the run.
    """

    syllables: tuple[Syllable, ...]
    repeats: tuple[int, int] = (1, 1)
    interval_s: float = 0.0
    acceleration: float = 1.0
    pitch_step: float = 1.0
    swell_db: float = 0.0
    gap_s: float = 0.05


Phrase = tuple[Run, ...]


@dataclass(frozen=True)
class Voice:
    """One kind of vocalisation of a species.

    Attributes:
        phrases: the species' types; each bird varies them.
        pause_s: shortest and longest silence between two phrases.
        repertoire: phrases that one bird has.
        spread: how far birds' contours and durations differ (sd of the logarithm).
    """

    phrases: tuple[Phrase, ...]
    pause_s: tuple[float, float]
    repertoire: int = 1
    spread: float = 0.02


@dataclass(frozen=True)
class Note:
    """A syllable at its place in a scene."""

    start_s: float
    syllable: Syllable
    gain: float = 1.0

    @property
    def end_s(self) -> float:
        """Where it ends."""
        return self.start_s + self.syllable.duration_s


@dataclass(frozen=True)
class Bird:
    """One individual.

    Attributes:
        pitch: factor on every frequency of the species.
        tempo: factor on every duration.
        repertoire: its own phrases, by kind.
        voices: the species' voices, for pauses.
    """

    pitch: float
    tempo: float
    repertoire: dict[Kind, tuple[Phrase, ...]]
    voices: dict[Kind, Voice]

    @classmethod
    def hatch(cls, voices: dict[Kind, Voice], rng: np.random.Generator) -> Bird:
        """Draw an individual: pitch varies by 2.5 %, tempo by 7 % (standard deviations)."""
        pitch = float(np.exp(rng.normal(0.0, 0.025)))
        tempo = float(np.exp(rng.normal(0.0, 0.07)))
        repertoire = {
            kind: tuple(
                _varied(voice.phrases[int(rng.integers(len(voice.phrases)))], voice.spread, rng)
                for _ in range(voice.repertoire)
            )
            for kind, voice in voices.items()
        }
        return cls(pitch, tempo, repertoire, voices)

    def sing(
        self, kind: Kind, start_s: float, end_s: float, rng: np.random.Generator
    ) -> list[list[Note]]:
        """Lay out phrases from `start_s` on; none starts at or after `end_s`.

        Returns:
            One list of notes for each phrase. The last may reach beyond `end_s`.
        """
        phrases: list[list[Note]] = []
        own = self.repertoire[kind]
        now_s = start_s
        while now_s < end_s:
            notes = self._phrase(own[int(rng.integers(len(own)))], now_s, rng)
            phrases.append(notes)
            now_s = notes[-1].end_s + float(rng.uniform(*self.voices[kind].pause_s))
        return phrases

    def _phrase(self, phrase: Phrase, start_s: float, rng: np.random.Generator) -> list[Note]:
        notes: list[Note] = []
        now_s = start_s
        for run in phrase:
            interval_s = run.interval_s * self.tempo
            pitch, level_db = self.pitch, 0.0
            for number in range(int(rng.integers(run.repeats[0], run.repeats[1] + 1))):
                syllable = _scaled(
                    run.syllables[number % len(run.syllables)], pitch=pitch, tempo=self.tempo
                )
                gain = 10 ** ((level_db + float(rng.normal(0.0, 0.7))) / 20)
                notes.append(Note(now_s, syllable, gain))
                now_s += max(interval_s, syllable.duration_s + 0.004)
                interval_s *= run.acceleration
                pitch *= run.pitch_step
                level_db += run.swell_db
            now_s = notes[-1].end_s + run.gap_s * self.tempo
        return notes


def band_hz(notes: Iterable[Note]) -> tuple[float, float]:
    """Lowest and highest fundamental of some notes, widened by 15 % each way."""
    pitches = [hz for note in notes for hz in note.syllable.contour_hz]
    low, high = min(pitches) * 0.85, max(pitches) * 1.15
    return low, min(high, HIGHEST_HZ)


def render(notes: Sequence[Note], n_samples: int, rng: np.random.Generator) -> Samples:
    """The sound of notes, alone and near.

    Args:
        notes: times from the start of the result; what lies outside is cut off.
        n_samples: length of the result.
        rng: draws the roughness of rough syllables.

    Returns:
        `[sample]` at `RATE_HZ`, peaks of single notes near 1.
    """
    sound: Samples = np.zeros(n_samples, dtype=np.float32)
    pure: dict[Syllable, Samples] = {}
    for note in notes:
        if note.syllable.rough:
            wave = _wave(note.syllable, rng)
        elif (known := pure.get(note.syllable)) is not None:
            wave = known
        else:
            wave = pure[note.syllable] = _wave(note.syllable, rng)
        start = round(note.start_s * RATE_HZ)
        first, last = max(start, 0), min(start + len(wave), n_samples)
        if first < last:
            sound[first:last] += np.float32(note.gain) * wave[first - start : last - start]
    return sound


def _wave(syllable: Syllable, rng: np.random.Generator) -> Samples:
    n = max(round(syllable.duration_s * RATE_HZ), 8)
    place = np.linspace(0.0, 1.0, n)
    pitch_hz = np.interp(
        place, np.linspace(0.0, 1.0, len(syllable.contour_hz)), syllable.contour_hz
    )
    time_s = np.arange(n) / RATE_HZ
    if syllable.fm_hz:
        pitch_hz *= 1 + syllable.fm_depth * np.sin(2 * np.pi * syllable.fm_hz * time_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    walk = np.zeros(n)
    if syllable.rough:
        walk = np.cumsum(rng.standard_normal(n) * syllable.rough * np.sqrt(1000 / RATE_HZ))
    sound = np.zeros(n)
    for partial, amplitude in enumerate(syllable.harmonics, start=1):
        audible = partial * pitch_hz < HIGHEST_HZ
        if amplitude and audible.any():
            sound += amplitude * audible * np.sin(partial * phase + walk)
    if syllable.am_hz:
        wobble = 0.5 - 0.5 * np.cos(2 * np.pi * syllable.am_hz * time_s)
        sound *= 1 - syllable.am_depth * (1 - wobble)
    sound *= _envelope(place, syllable.attack) / max(sum(syllable.harmonics), 1e-9)
    return sound.astype(np.float32)


def _envelope(place: npt.NDArray[np.float64], attack: float) -> npt.NDArray[np.float64]:
    """Rises and falls as half cosines, so that no syllable begins or ends with a click."""
    rise = np.clip(place / attack, 0, 1)
    fall = np.clip((1 - place) / max(0.35 - 0.5 * attack, 0.05), 0, 1)
    shape: npt.NDArray[np.float64] = (0.5 - 0.5 * np.cos(np.pi * rise)) * (
        0.5 - 0.5 * np.cos(np.pi * fall)
    )
    return shape


def _scaled(syllable: Syllable, *, pitch: float, tempo: float) -> Syllable:
    return replace(
        syllable,
        duration_s=syllable.duration_s * tempo,
        contour_hz=tuple(hz * pitch for hz in syllable.contour_hz),
        am_hz=syllable.am_hz / tempo,
    )


def _varied(phrase: Phrase, spread: float, rng: np.random.Generator) -> Phrase:
    """The same phrase in another bird's mouth: contours, durations and intervals differ."""

    def vary(syllable: Syllable) -> Syllable:
        bend = np.exp(rng.normal(0.0, spread, len(syllable.contour_hz)))
        return replace(
            syllable,
            duration_s=syllable.duration_s * float(np.exp(rng.normal(0.0, spread))),
            contour_hz=tuple(
                float(hz * factor) for hz, factor in zip(syllable.contour_hz, bend, strict=True)
            ),
        )

    return tuple(
        replace(
            run,
            syllables=tuple(vary(syllable) for syllable in run.syllables),
            interval_s=run.interval_s * float(np.exp(rng.normal(0.0, 0.5 * spread))),
        )
        for run in phrase
    )
