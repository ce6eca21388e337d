"""The place view: where and when a window was recorded, and where the sun stood.

It knows what the recordings table knows and nothing of the sound; what is not known is NaN.
Labels never enter: class priors over place and season are fitted inside the fold, elsewhere.
"""

from __future__ import annotations

import calendar
import datetime as dt
import hashlib
import math
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from birdstack.features.sun import CIVIL_TWILIGHT_DEG, solar_elevation_deg
from birdstack.store.extractor import OpenedRecording, SingleView
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording
from birdstack.store.views import Column, ViewSpec

VIEW_NAME = "place"
VERSION = 1
"""Raised whenever the numbers change for the same recipe."""

_HOUR_S = 3600.0
_DAY_S = 24 * _HOUR_S
_LAST_HOUR = np.nextafter(np.float32(24), np.float32(0))
_DEGREES_PER_HOUR = 15.0
_UNIX_EPOCH = dt.date(1970, 1, 1)

Clock = Literal["local_solar", "utc"] | Annotated[float, Field(ge=-12, le=14)]


class PlaceConfig(BaseModel):
    """How the times of recordings are understood.

    Attributes:
        clock: what the clock of a recording showed, for the sun's elevation only; `hour`
            and the date parts stay as written. `local_solar`: local time, taken as mean
            solar time, `longitude / 15` hours ahead of UTC. That is off by as much as the
            legal time differs from the sun's: commonly less than 1 hour, up to 2.5 hours
            with summer time or at the western end of a wide zone (xeno-canto, and so
            BirdCLEF, give legal local time). An hour moves the sun by up to 15 degrees.
            `utc`: as AudioMoth writes it. A number: legal time that many hours ahead of UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clock: Clock = "local_solar"


COLUMNS = (
    Column("latitude", unit="degrees", low=-90, high=90, description="degrees north"),
    Column("longitude", unit="degrees", low=-180, high=180, description="degrees east"),
    Column("sphere_x", low=-1, high=1, description="cos(latitude) cos(longitude)"),
    Column("sphere_y", low=-1, high=1, description="cos(latitude) sin(longitude)"),
    Column("sphere_z", low=-1, high=1, description="sin(latitude)"),
    Column("elevation_m", unit="m", description="height above sea level"),
    Column("site", dtype="str", nullable=True, description="recorder or site; not in matrices"),
    Column("year", unit="years", description="year of the window's start"),
    Column("month", low=1, high=12, description="month of the window's start"),
    Column("day_of_year_sin", low=-1, high=1, description="sine of the year as a circle"),
    Column("day_of_year_cos", low=-1, high=1, description="cosine of it; 1 on 1 January"),
    Column(
        "hour",
        unit="hours",
        low=0,
        high=24,
        description="time of day at the window's start, on the clock of the recording",
    ),
    Column("hour_sin", low=-1, high=1, description="sine of the day as a circle"),
    Column("hour_cos", low=-1, high=1, description="cosine of it; 1 at midnight"),
    Column(
        "solar_elevation_deg",
        unit="degrees",
        low=-90,
        high=90,
        description="centre of the sun above the horizon, without refraction. NOAA, Meeus 1991",
    ),
    Column(
        "night",
        low=0,
        high=1,
        description=f"1 where the sun is below {CIVIL_TWILIGHT_DEG:g} degrees (civil twilight)",
    ),
)
"""Columns of the view."""


class PlaceExtractor(SingleView):
    """Fills the place view; holds no state, so one serves any number of threads.

    Args:
        grid: how recordings are cut into windows.
        config: how times are understood.
    """

    needs_sound = False

    def __init__(self, grid: WindowGrid, config: PlaceConfig | None = None) -> None:
        self.grid = grid
        self.config = config or PlaceConfig()
        recipe = {
            "extractor": VIEW_NAME,
            "version": VERSION,
            "parameters": self.config.model_dump(mode="json"),
            "grid": grid.model_dump(mode="json"),
        }
        self.spec = ViewSpec(VIEW_NAME, COLUMNS, recipe)

    def content_key(self, recording: Recording) -> str:
        """Changes with place and time too, so that a corrected table is heard of."""
        facts = (
            recording.content_hash,
            recording.latitude,
            recording.longitude,
            recording.elevation_m,
            recording.site,
            recording.date,
            recording.time,
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]

    def measure(self, sound: OpenedRecording, recording: Recording) -> dict[str, np.ndarray]:
        """Place and time of every window of a recording.

        Args:
            sound: only its number of windows is asked for, no sample is touched.
            recording: what its table says of it.

        Returns:
            Column -> `[window]`: float32, and str or None for `site`.
        """
        start_s = np.array([self.grid.start_s(i) for i in range(sound.n_windows)])
        return place_columns(recording, start_s, self.config)


def place_columns(
    recording: Recording, start_s: np.ndarray, config: PlaceConfig
) -> dict[str, np.ndarray]:
    """Columns of the place view.

    Args:
        recording: place, date and time; None where unknown.
        start_s: start of each window in the recording, `[window]`.
        config: how its time is understood.

    Returns:
        Column -> `[window]` in the order of `COLUMNS`.
    """
    latitude, longitude = _number(recording.latitude), _number(recording.longitude)
    theta, phi = math.radians(latitude), math.radians(longitude)
    constants = {
        "latitude": latitude,
        "longitude": longitude,
        "sphere_x": math.cos(theta) * math.cos(phi),
        "sphere_y": math.cos(theta) * math.sin(phi),
        # NaN where either coordinate is unknown: half a point is none.
        "sphere_z": math.sin(theta) if not math.isnan(longitude) else math.nan,
        "elevation_m": _number(recording.elevation_m),
    }
    values = {name: np.full(len(start_s), value) for name, value in constants.items()}
    values |= _dates(recording, start_s) | _times(recording, start_s)
    values |= _light(recording, start_s, config)
    columns = {
        column.name: values[column.name].astype(np.float32)
        for column in COLUMNS
        if column.dtype == "float32"
    }
    # float32 rounds the last moments of a day up, to an hour that no day has.
    columns["hour"] = np.minimum(columns["hour"], _LAST_HOUR)
    site = np.full(len(start_s), recording.site, dtype=object)
    return {column.name: columns.get(column.name, site) for column in COLUMNS}


def _dates(recording: Recording, start_s: np.ndarray) -> dict[str, np.ndarray]:
    """Date parts; a window past midnight belongs to the next day if the time is known."""
    names = ("year", "month", "day_of_year_sin", "day_of_year_cos")
    if recording.date is None:
        return {name: np.full(len(start_s), np.nan) for name in names}
    clock_s = 0.0 * start_s if recording.time is None else _clock_s(recording.time) + start_s
    days = [_later(recording.date, int(day)) for day in clock_s // _DAY_S]
    turn = 2 * np.pi * np.array([_share_of_year(day) for day in days])
    parts = [[day.year for day in days], [day.month for day in days], np.sin(turn), np.cos(turn)]
    return {name: np.array(part, float) for name, part in zip(names, parts, strict=True)}


def _times(recording: Recording, start_s: np.ndarray) -> dict[str, np.ndarray]:
    """Time of day on the recording's own clock, and as a point on a circle."""
    if recording.time is None:
        hour = np.full(len(start_s), np.nan)
    else:
        hour = (_clock_s(recording.time) + start_s) % _DAY_S / _HOUR_S
    turn = 2 * math.pi * hour / 24
    return {"hour": hour, "hour_sin": np.sin(turn), "hour_cos": np.cos(turn)}


def _light(recording: Recording, start_s: np.ndarray, config: PlaceConfig) -> dict[str, np.ndarray]:
    """Elevation of the sun and whether it is night, where place, date and time are known."""
    elevation = np.full(len(start_s), np.nan)
    latitude, longitude = _number(recording.latitude), _number(recording.longitude)
    known = not math.isnan(latitude) and not math.isnan(longitude)
    if known and recording.date is not None and recording.time is not None:
        began_s = (recording.date - _UNIX_EPOCH).days * _DAY_S + _clock_s(recording.time)
        utc_s = began_s - utc_offset_h(config.clock, longitude) * _HOUR_S + start_s
        elevation = solar_elevation_deg(latitude, longitude, utc_s)
    night = np.where(np.isnan(elevation), np.nan, elevation < CIVIL_TWILIGHT_DEG)
    return {"solar_elevation_deg": elevation, "night": night}


def utc_offset_h(clock: Clock, longitude_deg: float) -> float:
    """Hours by which a clock is ahead of UTC at a place."""
    if clock == "local_solar":
        return longitude_deg / _DEGREES_PER_HOUR
    return 0.0 if clock == "utc" else float(clock)


def _number(value: float | None) -> float:
    return math.nan if value is None or not math.isfinite(value) else float(value)


def _clock_s(time: dt.time) -> float:
    return time.hour * _HOUR_S + time.minute * 60 + time.second + time.microsecond / 1e6


def _later(date: dt.date, days: int) -> dt.date:
    return date + dt.timedelta(days=days) if days else date


def _share_of_year(date: dt.date) -> float:
    """0 on 1 January, almost 1 on 31 December."""
    return (date.timetuple().tm_yday - 1) / (365 + calendar.isleap(date.year))
