"""Plans the focal recordings: which bird, whose recorder, where, when, how well heard."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from birdstack.features.demo_config import DEMO_VERSION, DemoConfig
from birdstack.features.demo_scene import Event, Scene, make_event
from birdstack.features.demo_song import Bird, Kind
from birdstack.features.demo_species import Species
from birdstack.features.demo_world import Author, weather_at

FOCAL, INDIVIDUAL = 1, 2
"""Streams of random numbers, so that no recording depends on the ones before it."""

_HEAD_SHARE = 0.65
_FEWEST = 2
_LONGEST_S = 40.0
_SNR_DB = (-3.0, 32.0)


@dataclass(frozen=True)
class Focal:
    """A focal recording: its scene and its row of the metadata table."""

    scene: Scene
    species: Species
    author: Author
    kinds: tuple[Kind, ...]
    secondary: tuple[str, ...]
    latitude: float
    longitude: float
    rating: float
    date: dt.date
    time: dt.time


def recording_counts(n_species: int, most: int) -> list[int]:
    """Recordings per species: most species have nearly `most`, the tail falls to 2."""
    n_head = max(1, round(_HEAD_SHARE * n_species))
    head = [max(_FEWEST, most - rank % 3) for rank in range(n_head)]
    tail = np.geomspace(_FEWEST, max(_FEWEST, 0.6 * most), n_species - n_head)[::-1]
    return [*head, *(round(count) for count in tail)]


def plan_focal(
    config: DemoConfig, species: Sequence[Species], authors: Sequence[Author]
) -> list[Focal]:
    """Plan every focal recording, sorted by file name."""
    rng = np.random.default_rng([config.seed, DEMO_VERSION, FOCAL])
    counts = recording_counts(len(species), config.n_recordings)
    order = rng.permutation(len(species))
    numbers = iter(rng.permutation(9 * sum(counts)) + 100_000)
    plans = [
        _recording(config.seed, int(next(numbers)), int(which), species, authors)
        for which, count in zip(order, counts, strict=True)
        for _ in range(count)
    ]
    return sorted(plans, key=lambda focal: focal.scene.path)


def distance_for(snr_db: float, rng: np.random.Generator) -> float:
    """A distance in metres that goes with a signal-to-noise ratio: far birds are faint."""
    return float(np.clip(60 * 10 ** (-snr_db / 28) * np.exp(rng.normal(0.0, 0.3)), 3.0, 180.0))


def individual(seed: int, species: Sequence[Species], which: int, *key: int) -> Bird:
    """The same bird for the same key."""
    rng = np.random.default_rng([seed, DEMO_VERSION, INDIVIDUAL, which, *key])
    return Bird.hatch(species[which].voices, rng)


def _recording(
    seed: int, number: int, which: int, species: Sequence[Species], authors: Sequence[Author]
) -> Focal:
    key = (seed, DEMO_VERSION, FOCAL, number)
    rng = np.random.default_rng(key)
    own = species[which]
    latitude = float(rng.normal(own.latitude, own.spread_deg))
    longitude = float(rng.normal(own.longitude, own.spread_deg))
    by = _author_near(authors, latitude, longitude, rng)
    author = authors[by]
    hour = _hour(own, rng)
    duration_s = round(min(8.0 + float(rng.gamma(2.0, 2.7)), _LONGEST_S), 3)
    snr_db = float(np.clip(rng.normal(15.0, 7.0) + author.skill_db, *_SNR_DB))
    chosen: tuple[tuple[Kind, ...], ...] = (("song",), ("call",), ("call", "song"))
    kinds = chosen[int(rng.choice(3, p=[0.62, 0.2, 0.18]))]
    bird = individual(seed, species, which, by, int(rng.integers(3)))
    events = _own_events(bird, own.code, kinds, rng, duration_s=duration_s, snr_db=snr_db)
    other = _other_event(seed, species, which, rng, duration_s=duration_s, hour=hour, snr_db=snr_db)
    listed = other is not None and rng.uniform() < 0.65  # noqa: PLR2004 - the others go unnoticed
    if other is not None:
        events.append(other)
    stream_db = float(rng.uniform(-56.0, -44.0)) if rng.uniform() < 0.15 else None  # noqa: PLR2004 - share near a stream
    scene = Scene(
        path=f"train_audio/{own.code}/DEMO{number}.ogg",
        duration_s=duration_s,
        weather=weather_at(hour, stream_db, rng),
        equipment=author.equipment,
        reverb_s=float(rng.uniform(0.3, 1.0)),
        events=tuple(events),
        seed=(*key, 1),
    )
    return Focal(
        scene=scene,
        species=own,
        author=author,
        kinds=kinds,
        secondary=(other.species,) if other is not None and listed else (),
        latitude=round(latitude, 4),
        longitude=round(longitude, 4),
        rating=_rating(snr_db, rng),
        date=_date(own, rng),
        time=dt.time(int(hour), int(hour % 1 * 60)),
    )


def _own_events(
    bird: Bird,
    code: str,
    kinds: tuple[Kind, ...],
    rng: np.random.Generator,
    *,
    duration_s: float,
    snr_db: float,
) -> list[Event]:
    """The recorded bird: one event for each kind; a fifth of the clips begin with silence."""
    waits = rng.uniform() < 0.2  # noqa: PLR2004 - share of clips that begin with silence
    now_s = float(rng.uniform(2.5, 0.5 * duration_s) if waits else rng.uniform(0.0, 1.5))
    distance_m = distance_for(snr_db, rng)
    events = []
    for number, kind in enumerate(kinds):
        last = number == len(kinds) - 1
        until_s = duration_s - 0.5 if last else 0.5 * (now_s + duration_s)
        notes = [n for phrase in bird.sing(kind, now_s, until_s, rng) for n in phrase]
        events.append(
            make_event(
                code, kind, notes, duration_s=duration_s, distance_m=distance_m, snr_db=snr_db
            )
        )
        now_s = min(notes[-1].end_s + 0.5, duration_s - 1.0)
    return events


def _other_event(
    seed: int,
    species: Sequence[Species],
    which: int,
    rng: np.random.Generator,
    *,
    duration_s: float,
    hour: float,
    snr_db: float,
) -> Event | None:
    """In three of ten clips another species that sings at this hour, mostly fainter."""
    if rng.uniform() > 0.3:  # noqa: PLR2004 - share of clips with another species
        return None
    weights = np.array([other.activity(hour) for other in species])
    weights[which] = 0.0
    other = int(rng.choice(len(species), p=weights / weights.sum()))
    bird = individual(seed, species, other, len(species), int(rng.integers(40)))
    kind: Kind = "song" if rng.uniform() < 0.75 else "call"  # noqa: PLR2004 - share of songs
    start_s = float(rng.uniform(0.0, 0.7 * duration_s))
    end_s = min(start_s + float(rng.uniform(2.0, 9.0)), duration_s - 0.2)
    notes = [n for phrase in bird.sing(kind, start_s, end_s, rng) for n in phrase]
    snr_db = float(np.clip(snr_db - rng.uniform(3.0, 15.0), -6.0, 18.0))
    return make_event(
        species[other].code,
        kind,
        notes,
        duration_s=duration_s,
        distance_m=distance_for(snr_db, rng),
        snr_db=snr_db,
    )


def _author_near(
    authors: Sequence[Author], latitude: float, longitude: float, rng: np.random.Generator
) -> int:
    away = np.array(
        [(a.latitude - latitude) ** 2 + (a.longitude - longitude) ** 2 for a in authors]
    )
    weights = np.array([a.share for a in authors]) * (0.15 + np.exp(-0.5 * away / 0.5**2))
    return int(rng.choice(len(authors), p=weights / weights.sum()))


def _hour(species: Species, rng: np.random.Generator) -> float:
    peak, sd = species.hours[int(rng.integers(len(species.hours)))]
    return float(rng.normal(peak, 0.8 * sd)) % 24


def _date(species: Species, rng: np.random.Generator) -> dt.date:
    day = round(float(rng.normal(30.4 * (species.month - 0.5), 35.0))) % 365
    return dt.date(int(rng.integers(2015, 2024)), 1, 1) + dt.timedelta(days=day)


def _rating(snr_db: float, rng: np.random.Generator) -> float:
    """0.5 to 5 in halves, following the signal-to-noise ratio; 0, not rated, for 7 %."""
    given = float(np.clip(round(2 * (1.4 + snr_db / 7.5 + rng.normal(0.0, 0.6))) / 2, 0.5, 5.0))
    return 0.0 if rng.uniform() < 0.07 else given  # noqa: PLR2004 - share without a rating
