"""The invented species of the demo data: how they sing, where they live, and when.

No animal sings like this and no taxon bears these names: they are made so that some pairs
are easy to confuse (two trillers, two flutes, owl and dove, reeler and insects).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from birdstack.features.demo_song import Kind, Phrase, Run, Syllable, Voice

SPECIES_MOST = 48
"""Most species that `species_bank` gives."""

_DAWN = ((6.2, 1.3), (17.6, 1.2))
_DAY = ((7.5, 2.2), (16.0, 2.5))
_NIGHT = ((21.0, 2.0), (3.5, 2.0))
_SIBLINGS = ("Lesser", "Greater")


@dataclass(frozen=True)
class Species:
    """An invented species.

    Attributes:
        code: primary label, six letters and a digit as in eBird.
        scientific_name: invented.
        common_name: invented.
        voices: song and call.
        latitude: centre of its range.
        longitude: centre of its range.
        spread_deg: standard deviation of its range, in degrees.
        hours: peaks of singing, as (hour, standard deviation).
        month: height of its season, 1 to 12 with fractions.
    """

    code: str
    scientific_name: str
    common_name: str
    voices: dict[Kind, Voice]
    latitude: float
    longitude: float
    spread_deg: float
    hours: tuple[tuple[float, float], ...] = _DAWN
    month: float = 4.0

    def activity(self, hour: float) -> float:
        """How readily it sings at a time of day: 0.01 to about 1."""
        away = [min(abs(hour - peak), 24 - abs(hour - peak)) / sd for peak, sd in self.hours]
        return 0.01 + float(np.exp(-0.5 * np.square(away)).max())


def species_bank(n_species: int) -> tuple[Species, ...]:
    """The first `n_species` species; beyond the 16 made by hand come siblings of those.

    A sibling sings as its model does, higher or lower and slower or faster.

    Raises:
        ValueError: fewer than 1 or more than `SPECIES_MOST` are asked for.
    """
    if not 1 <= n_species <= SPECIES_MOST:
        message = f"n_species={n_species} must lie between 1 and {SPECIES_MOST}"
        raise ValueError(message)
    made = _made_by_hand()
    bank = list(made)
    for rank, name in enumerate(_SIBLINGS, start=2):
        bank += [_sibling(model, rank, name) for model in made]
    return tuple(bank[:n_species])


def _sibling(model: Species, rank: int, name: str) -> Species:
    pitch, tempo = (1.16, 0.84) if name == "Lesser" else (0.86, 1.2)

    def moved(phrase: Phrase) -> Phrase:
        return tuple(
            replace(
                run,
                interval_s=run.interval_s * tempo,
                syllables=tuple(
                    replace(
                        s,
                        duration_s=s.duration_s * tempo,
                        contour_hz=tuple(min(hz * pitch, 9500.0) for hz in s.contour_hz),
                    )
                    for s in run.syllables
                ),
            )
            for run in phrase
        )

    voices = {
        kind: replace(voice, phrases=tuple(moved(phrase) for phrase in voice.phrases))
        for kind, voice in model.voices.items()
    }
    return replace(
        model,
        code=f"{model.code[:6]}{rank}",
        scientific_name=f"{model.scientific_name}{'ella' if rank == 2 else 'issima'}",  # noqa: PLR2004 - the first sibling
        common_name=f"{name} {model.common_name}",
        voices=voices,
        latitude=model.latitude + (0.6 if rank == 2 else -0.6),  # noqa: PLR2004 - the first sibling
    )


def _voices(song: Voice, call: Voice) -> dict[Kind, Voice]:
    return {"song": song, "call": call}


def _one(syllable: Syllable, pause_s: tuple[float, float], repeats: tuple[int, int]) -> Voice:
    """A call of one syllable, given singly or in loose series."""
    return Voice(((Run((syllable,), repeats, interval_s=0.45),),), pause_s, spread=0.04)


def _made_by_hand() -> tuple[Species, ...]:
    return (
        Species(
            "demwar1", "Demonia fictaria", "Rattling Mock-warbler",
            _voices(_trill(6900, 4300, 0.055, 0.082, (16, 28)),
                    _one(Syllable(0.045, (8200, 6300)), (0.8, 3.0), (1, 3))),
            11.6, 76.2, 0.7,
        ),
        Species(
            "demowl1", "Nocticta nulla", "Hollow Mock-owl",
            _voices(_hoots(), _one(Syllable(0.5, (900, 1350, 1000), (1, 0.3, 0.2), fm_hz=22,
                                            fm_depth=0.04), (2.0, 6.0), (1, 2))),
            11.2, 76.6, 0.9, _NIGHT, 2.0,
        ),
        Species(
            "demtit1", "Simulatrix duplex", "See-saw Mock-tit",
            _voices(_see_saw(), _one(Syllable(0.3, (5200, 4700), (1, 0.4, 0.3), am_hz=70,
                                              am_depth=0.9), (0.8, 2.5), (1, 4))),
            12.0, 76.0, 0.8, _DAY,
        ),
        Species(
            "demtri1", "Demonia iterata", "Two-speed Mock-warbler",
            _voices(_two_speed(), _one(Syllable(0.04, (7900, 6000)), (0.8, 3.0), (1, 3))),
            10.9, 76.9, 0.7,
        ),
        Species(
            "demflu1", "Tibiola ficta", "Fluting Mock-thrush",
            _voices(_flutes(), _one(Syllable(0.09, (2600, 1800), (1, 0.6, 0.4), rough=0.6),
                                    (0.6, 2.0), (2, 6))),
            11.9, 75.9, 0.6, ((5.7, 1.0), (18.3, 0.9)), 4.5,
        ),
        Species(
            "demdov1", "Columbula falsa", "Purring Mock-dove",
            _voices(_coos(), _one(Syllable(0.6, (620, 560), (1, 0.2), am_hz=24, am_depth=0.8),
                                  (2.0, 5.0), (1, 2))),
            11.0, 76.3, 1.0, _DAY, 5.0,
        ),
        Species(
            "dembun1", "Granivora inventa", "Drawling Mock-bunting",
            _voices(_drawl(), _one(Syllable(0.06, (6600, 5200), rough=0.4), (0.7, 2.5), (1, 2))),
            12.4, 76.4, 0.6, _DAY, 5.5,
        ),
        Species(
            "demkin1", "Minutula ficticia", "Needle Mock-kinglet",
            _voices(_needles(), _one(Syllable(0.11, (7600, 7900, 7500)), (0.5, 2.0), (2, 5))),
            10.4, 77.1, 0.5,
        ),
        Species(
            "demcro1", "Raucitor nullus", "Harsh Mock-crow",
            _voices(_caws(), _one(Syllable(0.16, (1500, 1250), (0.6, 1, 0.8, 0.4), rough=0.9),
                                  (1.0, 3.0), (1, 3))),
            11.4, 76.5, 1.1, _DAY, 3.0,
        ),
        Species(
            "demree1", "Stridulina mendax", "Reeling Mock-hopper",
            _voices(_reel(), _one(Syllable(0.05, (6400, 5900), rough=0.5), (0.6, 2.0), (1, 4))),
            10.7, 76.7, 0.6, ((4.8, 1.3), (19.2, 1.3)), 5.0,
        ),
        Species(
            "dembel1", "Tibiola sonans", "Bell Mock-thrush",
            _voices(_bells(), _one(Syllable(0.08, (2400, 1900), (1, 0.5, 0.5), rough=0.5),
                                   (0.6, 2.0), (2, 5))),
            11.3, 76.1, 0.6, ((5.9, 1.1), (18.0, 1.0)), 4.5,
        ),
        Species(
            "demwoo1", "Tympanista ficta", "Drumming Mock-woodpecker",
            _voices(_drum(), _one(Syllable(0.05, (3100, 2300), (1, 0.7, 0.4), rough=0.5),
                                  (1.0, 4.0), (1, 3))),
            12.1, 76.2, 0.9, _DAY, 2.5,
        ),
        Species(
            "demlar1", "Vagula ficta", "Rambling Mock-lark",
            _voices(_ramble(), _one(Syllable(0.16, (3900, 3000), (1, 0.3)), (0.7, 2.5), (1, 3))),
            12.7, 76.6, 0.5, _DAY, 4.0,
        ),
        Species(
            "demnig1", "Nocticta stridens", "Churring Mock-nightjar",
            _voices(_churr(), _one(Syllable(0.18, (1500, 2100, 1700), (1, 0.3)), (1.0, 4.0), (1, 3))),
            10.8, 76.4, 0.7, _NIGHT, 3.0,
        ),
        Species(
            "demfly1", "Muscitor fictus", "Wheezing Mock-flycatcher",
            _voices(_wheeze(), _one(Syllable(0.05, (5400, 4100), (1, 0.4)), (0.6, 2.5), (1, 4))),
            11.5, 75.8, 0.7, _DAY, 4.0,
        ),
        Species(
            "demrai1", "Palustrina falsa", "Whinnying Mock-rail",
            _voices(_whinny(), _one(Syllable(0.07, (2300, 1500), (1, 0.6, 0.3), rough=0.4),
                                    (0.7, 2.5), (1, 4))),
            10.5, 76.2, 0.6, ((5.2, 1.2), (19.6, 1.6)), 6.0,
        ),
    )  # fmt: skip


def _trill(
    high: float, low: float, duration_s: float, interval_s: float, repeats: tuple[int, int]
) -> Voice:
    down = Syllable(duration_s, (high, 0.5 * (high + low), low), (1, 0.08))
    return Voice(((Run((down,), repeats, interval_s, swell_db=0.12),),), (2.0, 6.0), 2, 0.05)


def _two_speed() -> Voice:
    slow = Run((Syllable(0.07, (6500, 4900, 4500), (1, 0.08)),), (5, 9), 0.125, gap_s=0.03)
    fast = Run((Syllable(0.045, (6100, 4100), (1, 0.08)),), (8, 14), 0.066)
    return Voice(((slow, fast),), (2.0, 6.0), 2, 0.05)


def _hoots() -> Voice:
    def hoot(duration_s: float) -> Syllable:
        return Syllable(duration_s, (395, 430, 420, 400), (1, 0.12, 0.05), attack=0.25)

    phrase = (Run((hoot(0.42),), gap_s=0.75), Run((hoot(0.16),), (2, 3), 0.3, gap_s=0.12),
              Run((hoot(0.75),)))  # fmt: skip
    return Voice((phrase,), (4.0, 10.0), 1, 0.03)


def _coos() -> Voice:
    def note(duration_s: float, *pitch: float) -> Syllable:
        return Syllable(duration_s, pitch, (1, 0.15, 0.04), attack=0.3)

    phrase = (Run((note(0.25, 470, 500),), gap_s=0.14), Run((note(0.5, 520, 555, 520),), gap_s=0.2),
              Run((note(0.22, 480, 470),), (2, 3), 0.34))  # fmt: skip
    return Voice((phrase,), (1.2, 4.0), 1, 0.035)


def _see_saw() -> Voice:
    high = Syllable(0.12, (5700, 5500, 5600), (1, 0.1))
    low = Syllable(0.16, (4300, 4150, 4200), (1, 0.15))
    third = Syllable(0.07, (6300, 5200), (1, 0.1))
    pair = (Run((high, low), (6, 14), 0.2),)
    triple = (Run((third, high, low), (6, 15), 0.17),)
    return Voice((pair, triple), (1.5, 5.0), 2, 0.05)


def _flutes() -> Voice:
    def flute(duration_s: float, *pitch: float) -> Syllable:
        return Syllable(duration_s, pitch, (1, 0.1, 0.03), fm_hz=6, fm_depth=0.006, attack=0.12)

    twitter = Run((Syllable(0.05, (5200, 7200, 4800)), Syllable(0.04, (7400, 6000)),
                   Syllable(0.06, (5600, 5000, 6600))), (3, 9), 0.07, swell_db=-0.8)  # fmt: skip
    one = (Run((flute(0.32, 2100, 2250, 2200),), gap_s=0.06),
           Run((flute(0.25, 2900, 2700),), gap_s=0.04), Run((flute(0.4, 2300, 1900),)), twitter)  # fmt: skip
    two = (Run((flute(0.2, 1800, 2500),), (1, 2), 0.28), Run((flute(0.45, 3100, 2900, 3000),)),
           Run((flute(0.22, 2400, 2100),), gap_s=0.03), twitter)  # fmt: skip
    return Voice((one, two), (1.8, 4.5), 6, 0.12)


def _bells() -> Voice:
    def bell(duration_s: float, pitch: float) -> Syllable:
        return Syllable(duration_s, (pitch, pitch), (1, 0.05, 0.25, 0, 0.08), attack=0.05)

    one = (Run((bell(0.35, 2350), bell(0.45, 2800)), (2, 4), 0.55),)
    two = (Run((bell(0.3, 2800), bell(0.3, 2100), bell(0.45, 2450)), (3, 6), 0.45),)
    return Voice((one, two), (2.0, 6.0), 2, 0.04)


def _drawl() -> Voice:
    tick = Run((Syllable(0.06, (4700, 5600, 4600), (1, 0.1)),), (5, 10), 0.15, 0.96, 1.01, 0.7,
               gap_s=0.03)  # fmt: skip
    end = Run((Syllable(0.75, (6100, 5900, 5800), (1, 0.1), am_hz=90, am_depth=0.9),))
    return Voice(((tick, end),), (4.0, 9.0), 2, 0.05)


def _needles() -> Voice:
    see = (Syllable(0.1, (7100, 8000)), Syllable(0.07, (8600, 7800)))
    end = Run((Syllable(0.05, (8300, 6400)),), (3, 6), 0.06)
    return Voice(((Run(see, (6, 12), 0.13, swell_db=0.5), end),), (2.0, 6.0), 1, 0.03)


def _caws() -> Voice:
    caw = Syllable(
        0.34,
        (780, 900, 820, 640),
        (0.5, 1, 0.9, 0.7, 0.5, 0.35, 0.2),
        fm_hz=55,
        fm_depth=0.03,
        rough=0.7,
    )
    return Voice(((Run((caw,), (2, 5), 0.62),),), (2.0, 7.0), 2, 0.06)


def _reel() -> Voice:
    reel = Syllable(4.5, (5750, 5650), (1,), am_hz=27, am_depth=0.98, rough=0.5, attack=0.2)
    short = replace(reel, duration_s=2.2)
    return Voice(((Run((reel,)),), (Run((short,)),)), (1.5, 6.0), 2, 0.04)


def _churr() -> Voice:
    high = Syllable(2.6, (1850, 1830), (1, 0.35, 0.15), am_hz=34, am_depth=0.95, rough=0.35)
    low = Syllable(1.6, (1580, 1570), (1, 0.35, 0.15), am_hz=29, am_depth=0.95, rough=0.35)
    return Voice(((Run((high, low), (2, 4), gap_s=0.1),),), (2.0, 6.0), 1, 0.03)


def _drum() -> Voice:
    knock = Syllable(0.022, (1150, 950), (1, 0.5, 0.3), rough=1.8, attack=0.05)
    slow = (Run((knock,), (12, 18), 0.075, 0.97, swell_db=-0.25),)
    fast = (Run((knock,), (16, 26), 0.05, 0.995, swell_db=-0.2),)
    return Voice((slow, fast), (4.0, 10.0), 1, 0.05)


def _ramble() -> Voice:
    """Long and varied, with borrowed pieces: trills, whistles, buzzes, sweeps."""
    pieces = (
        Run((Syllable(0.06, (3400, 4600)), Syllable(0.05, (4800, 3600))), (4, 10), 0.085),
        Run((Syllable(0.13, (2700, 3300, 2500), (1, 0.2)),), (2, 5), 0.18),
        Run((Syllable(0.2, (4100, 3900), (1, 0.2), am_hz=60, am_depth=0.8),), (1, 2), 0.26),
        Run((Syllable(0.045, (6400, 4200)),), (5, 12), 0.07),
        Run((Syllable(0.1, (5200, 3100), (1, 0.1)), Syllable(0.07, (3000, 3600))), (3, 8), 0.12),
    )
    orders = ((0, 1, 3, 2, 4, 0), (4, 2, 0, 3, 1, 4), (1, 4, 2, 0, 3, 3))
    phrases = tuple(tuple(pieces[i] for i in order) for order in orders)
    return Voice(phrases, (0.4, 2.5), 8, 0.16)


def _wheeze() -> Voice:
    rise = Syllable(0.5, (4200, 4700, 6700), (1, 0.25), am_hz=115, am_depth=0.7, rough=0.3)
    fall = Syllable(0.35, (6200, 4600), (1, 0.25), am_hz=115, am_depth=0.7, rough=0.3)
    return Voice(((Run((rise,)),), (Run((rise, fall), (2, 2), 0.62),)), (1.5, 5.0), 2, 0.05)


def _whinny() -> Voice:
    note = Syllable(0.1, (1750, 2050, 1700), (1, 0.3, 0.1))
    return Voice(((Run((note,), (12, 22), 0.19, 0.955, 0.975, -0.2),),), (3.0, 9.0), 1, 0.04)
