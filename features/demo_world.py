"""The invented world of the demo data: who records, where recorders stand, how it sounds there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from birdstack.features.demo_background import Insect, Weather
from birdstack.features.demo_scene import Equipment
from birdstack.features.demo_species import Species

INSECTS = (
    Insect(4300, 30, 0.35, 0.5, 0),
    Insect(3100, 55, 0.0, 0.0, 0),
    Insect(6900, 24, 0.0, 0.0, 0),
    Insect(9200, 14, 0.14, 0.4, 0),
    Insect(5400, 95, 2.5, 1.5, 0),
)
"""Species of insects, silent until given a level; the last ones sing by day."""

_NIGHT_INSECTS, _DAY_INSECTS = (0, 1, 2, 3), (3, 4)
_DAWN_H, _DUSK_H = 5.5, 18.5


@dataclass(frozen=True)
class Author:
    """Somebody with a recorder.

    Attributes:
        handle: invented; names nobody.
        latitude: home.
        longitude: home.
        share: how much of all recording is theirs; sums to 1 over all authors.
        skill_db: added to the signal-to-noise ratio of their recordings.
        equipment: their recorder.
    """

    handle: str
    latitude: float
    longitude: float
    share: float
    skill_db: float
    equipment: Equipment


@dataclass(frozen=True)
class Site:
    """A place with an autonomous recorder."""

    name: str
    latitude: float
    longitude: float
    stream_db: float | None
    reverb_s: float
    equipment: Equipment


def make_authors(species: Sequence[Species], rng: np.random.Generator) -> tuple[Author, ...]:
    """A few who record much and many who record little (shares fall as 1 / rank^0.7)."""
    n_authors = max(6, round(1.8 * len(species)))
    shares = (1 + np.arange(n_authors)) ** -0.7
    numbers = rng.permutation(n_authors) + 1
    authors = []
    for number, share in zip(numbers, shares / shares.sum(), strict=True):
        near = species[int(rng.integers(len(species)))]
        clips = rng.uniform() < 0.2  # noqa: PLR2004 - one in five turns the gain too high
        peak_db = rng.uniform(0.5, 4.0) if clips else rng.uniform(-16.0, -1.0)
        equipment = Equipment(
            low_cut_hz=float(rng.choice([40.0, 80.0, 150.0, 250.0, 350.0])),
            high_cut_hz=float(rng.choice([8500.0, 10_500.0, 12_500.0, 14_500.0])),
            presence_db=float(rng.normal(0.0, 3.5)),
            hiss_db=float(rng.uniform(-72.0, -52.0)),
            peak_db=float(peak_db),
        )
        authors.append(
            Author(
                handle=f"recordist-{number:02d}",
                latitude=float(near.latitude + rng.normal(0.0, 0.3)),
                longitude=float(near.longitude + rng.normal(0.0, 0.3)),
                share=float(share),
                skill_db=float(rng.normal(0.0, 3.0)),
                equipment=equipment,
            )
        )
    return tuple(authors)


def make_sites(n_sites: int, rng: np.random.Generator) -> tuple[Site, ...]:
    """Places in the middle of the region, each with a recorder of one model."""
    sites = []
    for number in range(n_sites):
        equipment = Equipment(
            low_cut_hz=110.0,
            high_cut_hz=float(rng.uniform(11_500.0, 14_000.0)),
            presence_db=float(rng.normal(2.0, 1.5)),
            hiss_db=float(rng.uniform(-62.0, -55.0)),
        )
        sites.append(
            Site(
                name=f"DM{number + 1:02d}",
                latitude=round(float(rng.normal(11.4, 0.3)), 4),
                longitude=round(float(rng.normal(76.3, 0.25)), 4),
                stream_db=float(rng.uniform(-52.0, -42.0)) if number % 2 else None,
                reverb_s=float(rng.uniform(0.4, 1.1)),
                equipment=equipment,
            )
        )
    return tuple(sites)


def weather_at(hour: float, stream_db: float | None, rng: np.random.Generator) -> Weather:
    """Wind mostly by day, insects mostly by night, rain now and then, a stream where one is."""
    night = not _DAWN_H <= hour <= _DUSK_H
    kinds = rng.permutation(_NIGHT_INSECTS if night else _DAY_INSECTS)
    n_insects = int(rng.integers(1, 4) if night else rng.integers(0, 2))
    level_db = -50.0 if night else -57.0
    noon = float(np.exp(-0.5 * ((hour - 13.0) / 3.5) ** 2))
    wind_db = float(-50.0 + 9.0 * noon + rng.normal(0.0, 4.0))
    warmth = np.exp(rng.normal(0.0, 0.025))  # insects sing higher and faster when it is warm
    raining = rng.uniform() < 0.15  # noqa: PLR2004 - share of recordings with rain
    return Weather(
        wind_db=wind_db,
        rain_db=float(rng.uniform(-48.0, -38.0)) if raining else None,
        stream_db=stream_db,
        insects=tuple(
            replace(
                INSECTS[kind],
                carrier_hz=float(INSECTS[kind].carrier_hz * warmth),
                pulse_hz=float(INSECTS[kind].pulse_hz * warmth),
                level_db=float(level_db + rng.normal(0.0, 4.0)),
            )
            for kind in kinds[:n_insects]
        ),
    )
