"""The sun's elevation against published and independent figures."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdstack.features.sun import solar_elevation_deg

LATITUDES = st.floats(-90, 90)
LONGITUDES = st.floats(-180, 180)
MOMENTS = st.floats(-6e8, 2.5e9)
OBLIQUITY_DEG = 23.44


def utc(text: str) -> float:
    """Seconds since 1970 of an ISO time in UTC."""
    return dt.datetime.fromisoformat(f"{text}+00:00").timestamp()


def test_the_example_of_the_nrel_report() -> None:
    """Reda and Andreas (2004), table A5.1: topocentric elevation without refraction."""
    found = solar_elevation_deg(39.742476, -105.1786, utc("2003-10-17T19:30:30"))
    assert found == pytest.approx(39.872046, abs=0.01)


@pytest.mark.parametrize(
    ("latitude", "longitude", "moment", "elevation"),
    [
        (51.5074, -0.1278, "2024-06-20T12:00:00", 61.926),  # London, solstice, noon
        (51.5074, -0.1278, "2024-12-21T00:00:00", -61.930),  # and winter midnight
        (-1.2864, 36.8172, "2024-03-20T09:30:00", 87.123),  # Nairobi, equinox, near the zenith
        (-33.8688, 151.2093, "2024-12-21T02:00:00", 79.465),  # Sydney, summer solstice
        (69.6492, 18.9553, "2024-06-20T23:00:00", 3.119),  # Tromso, midnight sun
        (69.6492, 18.9553, "2024-12-21T11:00:00", -3.144),  # and polar night at noon
        (-17.7134, 178.065, "2022-09-23T18:00:00", 0.075),  # Fiji, by the date line
        (21.3069, -157.8583, "1990-05-05T04:30:00", 5.388),  # Honolulu
        (-3.119, -60.0217, "2019-05-22T10:00:00", -0.324),  # Manaus, dawn
    ],
)
def test_places_and_times(latitude: float, longitude: float, moment: str, elevation: float) -> None:
    """Within 0.02 degrees of NREL's algorithm (figures computed with pvlib 0.16)."""
    found = solar_elevation_deg(latitude, longitude, utc(moment))
    assert found == pytest.approx(elevation, abs=0.02)


@pytest.mark.parametrize(
    ("latitude", "longitude", "rises", "sets"),
    [
        # As newspapers gave them for the solstice of 2024, to the minute; here in UTC.
        (51.5, -0.1167, "2024-06-20T03:43:00", "2024-06-20T20:21:00"),  # London
        (40.7128, -74.006, "2024-06-20T09:25:00", "2024-06-21T00:31:00"),  # New York
    ],
)
def test_sunrise_and_sunset(latitude: float, longitude: float, rises: str, sets: str) -> None:
    """At a published sunrise or sunset the centre is 50 minutes of arc below the horizon."""
    found = solar_elevation_deg(latitude, longitude, np.array([utc(rises), utc(sets)]))
    np.testing.assert_allclose(found, -50 / 60, atol=0.25)


@pytest.mark.parametrize("latitude", [70.0, -70.0])
def test_polar_day_and_night(latitude: float) -> None:
    """Beyond the polar circle the sun does not set at one solstice, nor rise at the other."""
    june = solar_elevation_deg(latitude, 20, utc("2023-06-21T00:00:00") + 600 * np.arange(144))
    december = solar_elevation_deg(latitude, 20, utc("2023-12-22T00:00:00") + 600 * np.arange(144))
    light, dark = (june, december) if latitude > 0 else (december, june)
    assert light.min() > 0 > dark.max()


@pytest.mark.parametrize("latitude", [-60.0, -23.0, 0.0, 35.0, 60.0])
def test_noon_and_midnight_of_an_equinox(latitude: float) -> None:
    """On the equinox the sun culminates at 90 degrees less the latitude, north or south."""
    day = solar_elevation_deg(latitude, 0, utc("2024-03-20T00:00:00") + 60 * np.arange(1440))
    assert day.max() == pytest.approx(90 - abs(latitude), abs=0.2)
    # Midnight comes 20 hours after the equinox: the sun has moved a third of a degree by then.
    assert day.min() == pytest.approx(abs(latitude) - 90, abs=0.4)


@given(LATITUDES, LONGITUDES, MOMENTS)
def test_elevation_keeps_within_what_the_tilt_allows(
    latitude: float, longitude: float, moment: float
) -> None:
    """The sun never stands higher than the latitude and the earth's tilt allow."""
    elevation = float(solar_elevation_deg(latitude, longitude, moment))
    highest = min(90.0, 90 - abs(latitude) + OBLIQUITY_DEG + 0.03)
    assert -highest <= elevation <= highest


@given(LATITUDES, MOMENTS)
def test_both_sides_of_the_date_line_are_one_place(latitude: float, moment: float) -> None:
    """180 degrees east and west see the same sun."""
    east, west = (solar_elevation_deg(latitude, side, moment) for side in (180.0, -180.0))
    assert east == pytest.approx(west, abs=1e-6)


@given(LONGITUDES, MOMENTS)
def test_the_sun_is_up_in_half_of_the_world(longitude: float, moment: float) -> None:
    """Antipodes see the sun at opposite elevations."""
    here = solar_elevation_deg(30.0, longitude, moment)
    there = solar_elevation_deg(-30.0, longitude - 180, moment)
    assert here == pytest.approx(-there, abs=1e-6)
