"""Where the sun stands, from place and time alone.

The equations of NOAA's solar calculator (https://gml.noaa.gov/grad/solcalc/, after J. Meeus,
Astronomical Algorithms, 1991, chapters 22, 25 and 28). Thirty lines of our own, since the
one small library of the kind, astral, has had no release since 2022, and pvlib brings HDF5
and pandas. Held against NREL's solar position algorithm the elevation is within 0.02 degrees
from 1950 to 2050, which a bird does not notice.
"""

from __future__ import annotations

import numpy as np

CIVIL_TWILIGHT_DEG = -6.0
"""Below that elevation it is night: the sky no longer lights the ground."""

_J2000_UNIX_S = 946_728_000.0  # 2000-01-01 12:00 UTC
_DAY_S = 86_400.0
_CENTURY_S = 36_525 * _DAY_S


def solar_elevation_deg(
    latitude_deg: float, longitude_deg: float, utc_s: np.ndarray | float
) -> np.ndarray:
    """Angle of the centre of the sun above the horizon, without refraction.

    Args:
        latitude_deg: degrees north.
        longitude_deg: degrees east.
        utc_s: seconds since 1970-01-01 00:00 UTC, any shape.

    Returns:
        Degrees in [-90, 90], float64, of the shape of `utc_s`.
    """
    utc_s = np.asarray(utc_s, dtype=np.float64)
    declination, equation_of_time_min = _sun(utc_s)
    solar_min = utc_s % _DAY_S / 60 + equation_of_time_min + 4 * longitude_deg
    hour_angle = np.radians(solar_min / 4 - 180)
    latitude = np.radians(latitude_deg)
    sine = np.sin(latitude) * np.sin(declination)
    sine += np.cos(latitude) * np.cos(declination) * np.cos(hour_angle)
    return np.asarray(np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0))))


def _sun(utc_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Declination in radians, and apparent minus mean solar time in minutes."""
    t = (utc_s - _J2000_UNIX_S) / _CENTURY_S  # the minute between UTC and ephemeris time is nothing
    mean_longitude = np.radians(280.46646 + t * (36000.76983 + t * 0.0003032))
    anomaly = np.radians(357.52911 + t * (35999.05029 - t * 0.0001537))
    eccentricity = 0.016708634 - t * (0.000042037 + t * 0.0000001267)
    centre_deg = (
        np.sin(anomaly) * (1.914602 - t * (0.004817 + t * 0.000014))
        + np.sin(2 * anomaly) * (0.019993 - t * 0.000101)
        + np.sin(3 * anomaly) * 0.000289
    )
    node = np.radians(125.04 - 1934.136 * t)
    apparent = mean_longitude + np.radians(centre_deg - 0.00569 - 0.00478 * np.sin(node))
    tilt_seconds = 21.448 - t * (46.815 + t * (0.00059 - t * 0.001813))
    tilt = np.radians(23 + (26 + tilt_seconds / 60) / 60 + 0.00256 * np.cos(node))
    declination = np.arcsin(np.sin(tilt) * np.sin(apparent))
    y = np.tan(tilt / 2) ** 2
    equation_of_time = (
        y * np.sin(2 * mean_longitude)
        - 2 * eccentricity * np.sin(anomaly)
        + 4 * eccentricity * y * np.sin(anomaly) * np.cos(2 * mean_longitude)
        - 0.5 * y**2 * np.sin(4 * mean_longitude)
        - 1.25 * eccentricity**2 * np.sin(2 * anomaly)
    )
    return declination, 4 * np.degrees(equation_of_time)
