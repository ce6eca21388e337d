"""Site, date and time out of file names."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdstack.store.soundscape_names import NameFacts, parse_soundscape_name

DAY, CLOCK = dt.date(2019, 5, 22), dt.time(4, 30, 15)


@pytest.mark.parametrize(
    ("stem", "facts"),
    [
        ("S4A03895_20190522_043015", NameFacts("S4A03895", DAY, CLOCK)),
        ("20190522_043015", NameFacts(None, DAY, CLOCK)),
        ("20190522_043015T", NameFacts(None, DAY, CLOCK)),
        ("20190522T043015Z", NameFacts(None, DAY, CLOCK)),
        ("SITE_20190522_0430", NameFacts("SITE", DAY, dt.time(4, 30))),
        ("SM4-A_20190522$043015", NameFacts("SM4-A", DAY, CLOCK)),
        ("SM4_0_20190522_043015_L", NameFacts("SM4_0", DAY, CLOCK)),
        ("SITE-20190522-043015", NameFacts("SITE", DAY, CLOCK)),
        ("S_20190522_043015.copy", NameFacts("S", DAY, CLOCK)),
        ("S_20190522_043015(1)", NameFacts("S", DAY, CLOCK)),
        ("10534_SSW_20190522", NameFacts("SSW", DAY, None)),
        ("BC2026_Train_0001_S08_20190522_043015", NameFacts("S08", DAY, CLOCK)),
        ("S_20190522_243015", NameFacts("S", malformed=True)),
        ("S_20191322_043015", NameFacts("S", malformed=True)),
        ("S_20199999", NameFacts()),
        ("soundscape_1008115302", NameFacts()),
        ("soundscape_20131231999", NameFacts()),
        ("460830", NameFacts()),
        ("XC134896", NameFacts()),
        ("XC20190522", NameFacts()),
        ("", NameFacts()),
        ("S_٢٠١٩٠٥٢٢_٠٤٣٠١٥", NameFacts()),
    ],
)
def test_names_of_recorders(stem: str, facts: NameFacts) -> None:
    """Names of AudioMoth, Song Meter and BirdCLEF, and names that only look like them."""
    assert parse_soundscape_name(stem) == facts


@given(st.text())
def test_any_name_gives_facts(stem: str) -> None:
    """No name raises; a time never comes without a day."""
    facts = parse_soundscape_name(stem)
    assert facts.date is not None or facts.time is None


@given(
    st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,8}", fullmatch=True),
    st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2099, 12, 31)),  # noqa: DTZ001 - recorders know no zone
)
def test_written_names_come_back(site: str, start: dt.datetime) -> None:
    """A name made from site and start gives them back."""
    facts = parse_soundscape_name(f"{site}_{start:%Y%m%d_%H%M%S}")
    assert facts == NameFacts(site, start.date(), start.time().replace(microsecond=0))
