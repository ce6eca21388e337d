"""Plans the soundscapes: which species sing at a site and hour, from where and for how long."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from birdstack.features.demo_config import DEMO_VERSION, DemoConfig
from birdstack.features.demo_focal import distance_for, individual
from birdstack.features.demo_scene import Event, Scene, make_event
from birdstack.features.demo_song import Kind, Note
from birdstack.features.demo_species import Species
from birdstack.features.demo_world import Site, weather_at

SNR_DB = (-6.0, 18.0)
"""Range from which a bird's signal-to-noise ratio in a soundscape is drawn."""

JITTER_DB = 1.0
"""Each event of a bird may lie this far above or below the bird's ratio."""

UNLABELED, TEST = 3, 4
_HOURS = (6.0, 21.5, 8.5, 17.75, 5.25, 19.5, 10.5, 3.5)
_JOIN_S = 1.0
_FEWEST_SCENES = 2


@dataclass(frozen=True)
class Soundscape:
    """A soundscape: its scene, place and start."""

    scene: Scene
    site: Site
    start: dt.datetime


def plan_unlabeled(
    config: DemoConfig, species: Sequence[Species], sites: Sequence[Site]
) -> list[Soundscape]:
    """Plan the unlabelled soundscapes, named as recorders name them."""
    rng = np.random.default_rng([config.seed, DEMO_VERSION, UNLABELED])
    starts = [_start(number, rng) for number in range(config.n_unlabeled)]
    choice = _cast(starts, species, config.unlabeled_s, rng)
    plans = []
    for number, start in enumerate(starts):
        site = sites[number % len(sites)]
        path = f"unlabeled_soundscapes/{site.name}_{start:%Y%m%d_%H%M%S}.ogg"
        key = (config.seed, DEMO_VERSION, UNLABELED, number)
        scene = _scene(
            path,
            config.unlabeled_s,
            site=site,
            start=start,
            species=species,
            chosen=choice[number],
            key=key,
        )
        plans.append(Soundscape(scene, site, start))
    return sorted(plans, key=lambda plan: plan.scene.path)


def plan_test(
    config: DemoConfig, species: Sequence[Species], sites: Sequence[Site]
) -> list[Soundscape]:
    """Plan the test soundscapes: no place or time in their names, every species in two."""
    rng = np.random.default_rng([config.seed, DEMO_VERSION, TEST])
    starts = [_start(number, rng) for number in range(config.n_test)]
    choice = _cast(starts, species, config.test_s, rng)
    _complete(choice, starts, species)
    numbers = rng.choice(900_000, config.n_test, replace=False) + 100_000
    plans = []
    for number, start in enumerate(starts):
        site = sites[(number + 1) % len(sites)]
        path = f"test_soundscapes/soundscape_{numbers[number]}.ogg"
        key = (config.seed, DEMO_VERSION, TEST, number)
        scene = _scene(
            path,
            config.test_s,
            site=site,
            start=start,
            species=species,
            chosen=choice[number],
            key=key,
        )
        plans.append(Soundscape(scene, site, start))
    return sorted(plans, key=lambda plan: plan.scene.path)


def _start(number: int, rng: np.random.Generator) -> dt.datetime:
    """Recorders start on the half hour; the hours go round the day."""
    hour = (_HOURS[number % len(_HOURS)] + 0.5 * float(rng.integers(-1, 2))) % 24
    day = dt.datetime(2024, 3, 20) + dt.timedelta(days=int(rng.integers(0, 70)))  # noqa: DTZ001 - a recorder's clock
    return day + dt.timedelta(minutes=30 * round(2 * hour), seconds=number)


def _cast(
    starts: Sequence[dt.datetime],
    species: Sequence[Species],
    duration_s: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    """Which species sing, `[soundscape, species]`: more in longer recordings, by the hour."""
    hours = [start.hour + start.minute / 60 for start in starts]
    active = np.array([[own.activity(hour) for own in species] for hour in hours])
    chance = active.clip(0, 1) * min(0.75, 0.35 + duration_s / 600)
    return np.asarray(rng.uniform(size=chance.shape) < chance)


def _complete(
    choice: npt.NDArray[np.bool_], starts: Sequence[dt.datetime], species: Sequence[Species]
) -> None:
    """Add absent species where they are most active, until each has its scenes."""
    for column, own in enumerate(species):
        active = np.array([own.activity(s.hour + s.minute / 60) for s in starts])
        for row in np.argsort(-active, kind="stable"):
            if choice[:, column].sum() >= min(_FEWEST_SCENES, len(starts)):
                break
            choice[row, column] = True


def _scene(
    path: str,
    duration_s: int,
    *,
    site: Site,
    start: dt.datetime,
    species: Sequence[Species],
    chosen: npt.NDArray[np.bool_],
    key: tuple[int, ...],
) -> Scene:
    rng = np.random.default_rng(key)
    hour = start.hour + start.minute / 60
    events = [
        event
        for which in np.flatnonzero(chosen)
        for event in _events_of(int(which), species, duration_s, key, rng)
    ]
    return Scene(
        path=path,
        duration_s=float(duration_s),
        weather=weather_at(hour, site.stream_db, rng),
        equipment=site.equipment,
        reverb_s=site.reverb_s,
        events=tuple(sorted(events, key=lambda event: (event.start_s, event.species))),
        seed=(*key, 1),
    )


def _events_of(
    which: int,
    species: Sequence[Species],
    duration_s: int,
    key: tuple[int, ...],
    rng: np.random.Generator,
) -> list[Event]:
    """One to four birds of a species, each with a bout of singing."""
    seed = key[0]
    events = []
    most = 2 + round(duration_s / 120)
    for _ in range(int(rng.integers(1, most + 1))):
        bird = individual(seed, species, which, len(species) + 1, *key[2:], int(rng.integers(99)))
        kind: Kind = "song" if rng.uniform() < 0.75 else "call"  # noqa: PLR2004 - share of songs
        snr_db = float(rng.uniform(*SNR_DB))
        distance_m = distance_for(snr_db, rng)
        start_s = float(rng.uniform(0.0, duration_s - 4.0))
        end_s = min(start_s + float(rng.uniform(6.0, 36.0)), duration_s - 1.0)
        for notes in _joined(bird.sing(kind, start_s, end_s, rng)):
            level_db = snr_db + float(rng.uniform(-JITTER_DB, JITTER_DB))
            event = make_event(
                species[which].code,
                kind,
                notes,
                duration_s=float(duration_s),
                distance_m=distance_m,
                snr_db=level_db,
            )
            events.append(event)
    return events


def _joined(phrases: list[list[Note]]) -> list[list[Note]]:
    """Phrases less than a second apart become one event."""
    events: list[list[Note]] = []
    for notes in phrases:
        if events and notes[0].start_s - events[-1][-1].end_s < _JOIN_S:
            events[-1].extend(notes)
        else:
            events.append(list(notes))
    return events
