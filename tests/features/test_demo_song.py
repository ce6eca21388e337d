"""Invented song: what a species sings, how birds of it differ, and what it sounds like."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdstack.features.demo_scene import band_power
from birdstack.features.demo_song import HIGHEST_HZ, RATE_HZ, Bird, Note, Syllable, band_hz, render
from birdstack.features.demo_species import SPECIES_MOST, species_bank

BANK = species_bank(SPECIES_MOST)


def _song(code: str, seed: int, kind: str = "song") -> list[Note]:
    (species,) = (s for s in BANK if s.code == code)
    rng = np.random.default_rng(seed)
    bird = Bird.hatch(species.voices, rng)
    return [note for phrase in bird.sing(kind, 0.0, 8.0, rng) for note in phrase]


def test_names_are_distinct_and_codes_have_the_shape_of_ebird() -> None:
    """Codes are six letters and a digit; no two species share a code or a name."""
    for names in zip(*((s.code, s.scientific_name, s.common_name) for s in BANK), strict=True):
        assert len(set(names)) == SPECIES_MOST
    assert all(re.fullmatch(r"[a-z]{6}\d", species.code) for species in BANK)
    assert all("Mock-" in species.common_name for species in BANK)


@pytest.mark.parametrize("n_species", [0, SPECIES_MOST + 1])
def test_the_bank_has_an_end(n_species: int) -> None:
    """A number of species that the bank does not have is refused, naming the bounds."""
    with pytest.raises(ValueError, match=f"n_species={n_species} .* 1 and {SPECIES_MOST}"):
        species_bank(n_species)


def test_some_species_sing_at_night_and_others_by_day() -> None:
    """At 22 h owl and nightjar are the most active, at 7 h neither is."""
    by_hour = {
        hour: {s.code for s in sorted(BANK[:16], key=lambda s: -s.activity(hour))[:2]}
        for hour in (22.0, 7.0)
    }
    assert by_hour[22.0] == {"demowl1", "demnig1"}
    assert not by_hour[7.0] & {"demowl1", "demnig1"}


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(BANK), st.sampled_from(["song", "call"]), st.integers(0, 2**32))
def test_every_voice_sounds_within_its_limits(species: object, kind: str, seed: int) -> None:
    """Any bird's song is finite, not silent, not far above full scale, and ends with its notes."""
    notes = _song(species.code, seed, kind)
    starts = [note.start_s for note in notes]
    assert starts == sorted(starts)
    assert starts[0] == 0.0
    end_s = notes[-1].end_s
    sound = render(notes, round((end_s + 1.0) * RATE_HZ), np.random.default_rng(seed))
    assert np.isfinite(sound).all()
    assert 0.2 < np.abs(sound).max() < 4.0
    assert not sound[round((end_s + 0.01) * RATE_HZ) :].any()


def test_a_song_lies_in_its_band() -> None:
    """At least 80 % of a whistler's power lies between the frequencies that its notes name."""
    notes = _song("demkin1", 3)
    sound = render(notes, 8 * RATE_HZ, np.random.default_rng(0))
    inside, total = band_power(sound, *band_hz(notes)), band_power(sound, 0.0, RATE_HZ / 2)
    assert inside > 0.8 * total
    assert total == pytest.approx(float(np.mean(np.square(sound))), rel=0.01)


def test_birds_of_one_species_differ_and_a_bird_stays_itself() -> None:
    """Two birds have their own pitch and phrases; the same seed gives the same bird."""
    first, again, other = (_song("demflu1", seed) for seed in (1, 1, 2))
    assert first == again
    assert {note.syllable for note in first}.isdisjoint(note.syllable for note in other)


def test_partials_above_the_limit_are_left_out() -> None:
    """A partial that would alias is silent instead."""
    tone = Syllable(0.5, (6000.0, 6000.0), harmonics=(1.0, 1.0, 1.0))
    sound = render([Note(0.0, tone)], RATE_HZ // 2, np.random.default_rng(0))
    assert band_power(sound, 11_500.0, 12_500.0) > 0.01
    assert band_power(sound, HIGHEST_HZ, 16_000.0) < 1e-6
    assert band_power(sound, 13_500.0, 14_400.0) < 1e-6  # where 18 kHz would fold back to


def test_notes_outside_the_recording_are_cut_off() -> None:
    """A note that begins before or ends after the recording is heard in part."""
    tone = Syllable(1.0, (1000.0, 1000.0))
    whole = render([Note(0.0, tone)], RATE_HZ, np.random.default_rng(0))
    cut = render([Note(-0.25, tone), Note(0.9, tone)], RATE_HZ, np.random.default_rng(0))
    np.testing.assert_array_equal(cut[: RATE_HZ // 2], whole[RATE_HZ // 4 : 3 * RATE_HZ // 4])
    assert cut[-RATE_HZ // 20 :].any()
