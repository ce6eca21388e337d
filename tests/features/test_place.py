"""The place view: what is known becomes numbers, what is not becomes NaN."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from birdstack.features.place import COLUMNS, PlaceConfig, PlaceExtractor, utc_offset_h
from birdstack.store.extractor import KnownWindows
from birdstack.store.keys import WindowGrid
from birdstack.store.materialise import materialise
from birdstack.store.parquet_schema import window_table
from birdstack.store.recordings import Recording
from birdstack.store.run_config import RunConfig
from birdstack.store.store import Store

NUMERIC = [column.name for column in COLUMNS if column.dtype != "str"]
DATES = st.dates(dt.date(1900, 1, 1), dt.date(2100, 12, 31))


def recording(**facts: Any) -> Recording:
    """A recording of which only `facts` are known."""
    return Recording("train_audio/a/XC1.ogg", Path("XC1.ogg"), "0" * 64, **facts)


def place(
    known: Recording, n_windows: int = 3, clock: Any = "local_solar", **grid: float
) -> dict[str, np.ndarray]:
    """Columns of the view."""
    extractor = PlaceExtractor(WindowGrid(**grid), PlaceConfig(clock=clock))
    sound = KnownWindows(n_windows)
    return dict(extractor.extract(sound, known, {"place"})["place"])


LONDON = {"latitude": 51.5074, "longitude": -0.1278}
NOON = {"date": dt.date(2024, 6, 20), "time": dt.time(12, 0)}


def test_the_columns_are_those_of_the_spec() -> None:
    """Names, order, types and length are what the view declares, and a part can hold them."""
    (spec,) = PlaceExtractor(WindowGrid()).specs
    columns = place(recording(**LONDON, **NOON, site="Hill"))
    assert list(columns) == spec.column_names
    assert {columns[name].dtype for name in NUMERIC} == {np.dtype(np.float32)}
    window = np.arange(3, dtype=np.int32)
    keys = {
        "recording_id": np.repeat("a", 3),
        "window": window,
        "start_s": window * 5.0,
        "end_s": window * 5.0 + 5.0,
    }
    assert window_table(spec, keys, columns).num_rows == 3


def test_nothing_known_gives_nan_and_no_site() -> None:
    """A recording without place and time has no number in any column."""
    columns = place(recording())
    assert all(np.isnan(columns[name]).all() for name in NUMERIC)
    assert columns["site"].tolist() == [None] * 3


def test_only_what_is_wanted_is_computed() -> None:
    """A recording that has the view already gets nothing."""
    sound = KnownWindows(2)
    assert PlaceExtractor(WindowGrid()).extract(sound, recording(), ()) == {}


def test_place_without_time_and_time_without_place() -> None:
    """Each is given as far as it is known; the sun needs both."""
    only_place = place(recording(**LONDON, elevation_m=35.0, site="Hill"))
    assert only_place["latitude"][0] == np.float32(51.5074)
    assert only_place["elevation_m"].tolist() == [35.0] * 3
    assert only_place["site"].tolist() == ["Hill"] * 3
    only_time = place(recording(**NOON))
    assert only_time["hour"][0] == 12
    assert only_time["year"][0] == 2024
    for columns in (only_place, only_time, place(recording(**LONDON, date=NOON["date"]))):
        assert np.isnan(columns["solar_elevation_deg"]).all()
        assert np.isnan(columns["night"]).all()


def test_half_a_coordinate_is_no_point() -> None:
    """With the longitude unknown there is no point on the sphere and no sun."""
    columns = place(recording(latitude=10.0, **NOON))
    assert columns["latitude"][0] == 10
    for name in ("longitude", "sphere_x", "sphere_y", "sphere_z", "solar_elevation_deg"):
        assert np.isnan(columns[name]).all()


def test_the_sun_at_noon_and_at_night() -> None:
    """London at the summer solstice, in UTC: high at noon, civil night at 00:00 in winter."""
    noon = place(recording(**LONDON, **NOON), clock="utc")
    assert noon["solar_elevation_deg"][0] == pytest.approx(61.926, abs=0.02)
    assert noon["night"].tolist() == [0, 0, 0]
    winter = {"date": dt.date(2024, 12, 21), "time": dt.time(0, 0)}
    assert place(recording(**LONDON, **winter), clock="utc")["night"].tolist() == [1, 1, 1]


def test_twilight_is_not_night() -> None:
    """Tromso at noon of the polar night: the sun is down, but above -6 degrees."""
    known = recording(latitude=69.65, longitude=18.96, date=dt.date(2024, 12, 21), time=dt.time(11))
    columns = place(known, clock="utc")
    assert columns["solar_elevation_deg"][0] == pytest.approx(-3.14, abs=0.1)
    assert columns["night"][0] == 0


def test_clocks_agree_when_they_say_the_same_moment() -> None:
    """One moment, written in UTC, in legal time and in solar time, has one sun."""
    here = {"latitude": -23.55, "longitude": -45.0}
    day = dt.date(2021, 10, 3)
    in_utc = place(recording(**here, date=day, time=dt.time(9, 30)), clock="utc")
    legal = place(recording(**here, date=day, time=dt.time(6, 30)), clock=-3)
    solar = place(recording(**here, date=day, time=dt.time(6, 30)))
    for name in ("solar_elevation_deg", "night"):
        np.testing.assert_allclose(legal[name], in_utc[name], atol=1e-5)
        np.testing.assert_allclose(solar[name], in_utc[name], atol=1e-5)
    assert in_utc["hour"][0] == 9.5  # the hour stays as written


def test_windows_run_past_midnight_into_the_next_day() -> None:
    """The clock goes on from window to window, and day, month and year with it."""
    known = recording(**LONDON, date=dt.date(2023, 12, 31), time=dt.time(23, 59, 55))
    columns = place(known, n_windows=2)
    assert columns["hour"].tolist() == pytest.approx([24 - 5 / 3600, 0], abs=1e-5)
    assert columns["year"].tolist() == [2023, 2024]
    assert columns["month"].tolist() == [12, 1]
    assert columns["day_of_year_cos"][1] == 1


def test_windows_are_timed_by_the_grid() -> None:
    """With a hop of 900 s the hour advances by a quarter."""
    columns = place(recording(**NOON), window_s=900, hop_s=900)
    assert columns["hour"].tolist() == [12, 12.25, 12.5]


def test_the_last_moment_of_a_day_is_not_hour_24() -> None:
    """Rounding to float32 never gives the hour 24."""
    known = recording(date=dt.date(2024, 1, 1), time=dt.time(23, 59, 59, 999999))
    assert place(known, n_windows=1)["hour"][0] < 24


def test_the_clock_is_part_of_the_recipe() -> None:
    """Another clock gives another sun, hence another recipe; the same one the same."""
    grid = WindowGrid()
    hashes = [
        PlaceExtractor(grid, PlaceConfig(clock=clock)).specs[0].recipe_hash
        for clock in ("local_solar", "utc", 2, 2.0)
    ]
    assert len(set(hashes)) == 3
    assert hashes[2] == hashes[3]


@pytest.mark.parametrize("clock", ["gmt", 15, -12.5, float("nan")])
def test_a_clock_that_is_none_is_refused(clock: Any) -> None:
    """Unknown words and offsets that no legal time has are configuration errors."""
    with pytest.raises(ValidationError, match="clock"):
        PlaceConfig(clock=clock)


def test_offsets_follow_the_clock() -> None:
    """Solar time from the longitude, UTC none, a number as it is."""
    assert utc_offset_h("local_solar", -90.0) == -6
    assert utc_offset_h("utc", -90.0) == 0
    assert utc_offset_h(5.5, -90.0) == 5.5


def test_the_view_in_a_store(tmp_path: Path) -> None:
    """The engine fills it; matrices leave the site out, frames keep it."""
    store = Store.create(tmp_path / "store")
    known = recording(**LONDON, **NOON, site="Hill")
    source = SimpleNamespace(open=lambda _: KnownWindows(2))
    report = materialise(
        store, [known], source, [PlaceExtractor(store.grid)], RunConfig(executor="serial")
    )
    assert (report.heard, report.skips, report.warnings) == (1, [], [])
    matrix = store.matrix("place")
    assert matrix.columns == NUMERIC
    expected = place(known, 2)
    np.testing.assert_array_equal(matrix.values.T, [expected[name] for name in NUMERIC])
    assert store.view("place").select("site").collect()["site"].to_list() == ["Hill"] * 2


@given(
    latitude=st.floats(-90, 90),
    longitude=st.floats(-180, 180),
    date=DATES,
    time=st.times(),
    n_windows=st.integers(1, 100),
)
def test_every_value_lies_in_its_declared_range(
    latitude: float, longitude: float, date: dt.date, time: dt.time, n_windows: int
) -> None:
    """Whatever place and time: ranges hold, and points lie on sphere and circles."""
    known = recording(latitude=latitude, longitude=longitude, date=date, time=time, elevation_m=1.0)
    columns = place(known, n_windows)
    for column in COLUMNS:
        values = columns[column.name]
        assert values.shape == (n_windows,)
        if column.dtype == "str":
            continue
        assert np.isfinite(values).all(), column.name
        assert column.low is None or (values >= column.low).all(), column.name
        assert column.high is None or (values <= column.high).all(), column.name
    x, y, z = (columns[f"sphere_{axis}"].astype(float) for axis in "xyz")
    np.testing.assert_allclose(x**2 + y**2 + z**2, 1, atol=1e-6)
    for circle in ("day_of_year", "hour"):
        sine, cosine = (columns[f"{circle}_{part}"].astype(float) for part in ("sin", "cos"))
        np.testing.assert_allclose(sine**2 + cosine**2, 1, atol=1e-6)


@given(latitude=st.floats(-89, 89), date=DATES, time=st.times())
def test_solar_time_makes_the_sun_independent_of_longitude(
    latitude: float, date: dt.date, time: dt.time
) -> None:
    """On a solar clock the sun depends on latitude and season, up to its daily drift."""
    suns = [
        place(recording(latitude=latitude, longitude=longitude, date=date, time=time), 1)
        for longitude in (-180.0, 0.0, 180.0)
    ]
    elevations = [float(columns["solar_elevation_deg"][0]) for columns in suns]
    assert max(elevations) - min(elevations) < 0.6
