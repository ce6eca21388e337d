"""Pictures: the right pixels are bright, the file is whole, nothing global is touched."""

from __future__ import annotations

import datetime as dt
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from birdstack.features.pictures import (
    Curve,
    draw_recording,
    facts_line,
    find_column,
    save_png,
)
from birdstack.features.pictures_day import dark_stretches, draw_day
from birdstack.features.pictures_spectrogram import (
    FLOOR_DB,
    Spectrogram,
    colour_limits_db,
    spectrogram,
)
from birdstack.store.errors import UsageError
from birdstack.store.keys import WindowGrid

RATE_HZ = 32_000


def sine(hz: float, seconds: float, level: float = 1.0) -> np.ndarray:
    """A tone."""
    return (level * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE_HZ)) / RATE_HZ)).astype(
        np.float32
    )


def seen(samples: np.ndarray, **where: float) -> Spectrogram:
    """The whole of it, unless `where` says less."""
    whole = {
        "start_s": 0.0,
        "end_s": len(samples) / RATE_HZ,
        "fmin_hz": 0.0,
        "fmax_hz": RATE_HZ / 2,
    }
    return spectrogram(samples, RATE_HZ, **(whole | where))


def pixels_of(figure, path: Path) -> np.ndarray:
    """What the saved picture shows, `[row, column, colour]`."""
    save_png(figure, path)
    with Image.open(path) as image:
        image.load()
        return np.asarray(image.convert("RGB"))


def test_a_full_scale_tone_is_0_db_at_its_frequency() -> None:
    """Level and place of a tone are those that the axes will show."""
    picture = seen(sine(5000, 2.0))
    row, _ = np.unravel_index(picture.level_db.argmax(), picture.level_db.shape)
    assert picture.level_db.max() == pytest.approx(0, abs=0.1)
    assert (row + 0.5) / len(picture.level_db) * RATE_HZ / 2 == pytest.approx(5000, abs=60)


def test_a_click_in_an_hour_stays_visible() -> None:
    """A tenth of a second in an hour of silence is as loud in the picture as it is."""
    samples = np.zeros(3600 * RATE_HZ, np.float32)
    samples[1800 * RATE_HZ : 1800 * RATE_HZ + 3200] = sine(4000, 0.1, 0.1)
    picture = seen(samples)
    assert picture.level_db.shape[1] <= 1100
    assert picture.level_db.max() == pytest.approx(-20, abs=0.5)
    column = picture.level_db.max(axis=0).argmax()
    assert (column + 0.5) / picture.level_db.shape[1] * 3600 == pytest.approx(1800, abs=4)


def test_a_stretch_shows_only_itself() -> None:
    """Sound before and behind the stretch, and outside the band, leaves no trace."""
    samples = np.concatenate([sine(2000, 2), np.zeros(4 * RATE_HZ, np.float32), sine(2000, 2)])
    middle = seen(samples, start_s=3, end_s=5)
    assert (middle.start_s, middle.end_s) == (3, 5)
    assert middle.level_db.max() == FLOOR_DB
    above = seen(samples, fmin_hz=8000)
    assert above.level_db.max() < -60


def test_a_stretch_beyond_the_sound_ends_with_it() -> None:
    """The time axis never promises sound that is not there."""
    assert seen(sine(1000, 2), start_s=1, end_s=9).end_s == 2


@pytest.mark.parametrize("where", [{"start_s": 5, "end_s": 6}, {"fmin_hz": 20_000, "fmax_hz": 3e4}])
def test_nothing_to_show_is_an_error(where: dict[str, float]) -> None:
    """An empty stretch or band is refused rather than drawn."""
    with pytest.raises(ValueError, match="nothing to show"):
        seen(sine(1000, 2), **where)


@given(
    n=st.integers(1, 200_000),
    rate_hz=st.sampled_from([1000, 8000, 22_050, 32_000, 384_000]),
    columns=st.integers(1, 50),
    rows=st.integers(1, 50),
)
@settings(max_examples=40, deadline=None)
def test_any_length_and_rate_fits_the_picture(
    n: int, rate_hz: int, columns: int, rows: int
) -> None:
    """The picture is never larger than asked for, never empty, always finite."""
    samples = np.random.default_rng(n).normal(size=n).astype(np.float32)
    picture = spectrogram(
        samples,
        rate_hz,
        start_s=0,
        end_s=n / rate_hz,
        fmin_hz=0,
        fmax_hz=rate_hz / 2,
        max_columns=columns,
        max_rows=rows,
    )
    height, width = picture.level_db.shape
    assert 1 <= height <= rows
    assert 1 <= width <= columns
    assert np.isfinite(picture.level_db).all()


def test_blocks_do_not_show() -> None:
    """A picture made of many blocks equals one transform of all frames."""
    samples = np.random.default_rng(0).normal(size=30 * RATE_HZ).astype(np.float32)
    picture = spectrogram(
        samples, RATE_HZ, start_s=0, end_s=30, fmin_hz=0, fmax_hz=16_000, max_columns=200
    )
    hop = 512
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, 512), 1024)[::hop]
    frames = frames[: -(-len(samples) // hop)]
    window = np.hanning(1025)[:-1]
    power = np.abs(np.fft.rfft(frames * window)) ** 2 * (2 / window.sum()) ** 2
    edges = np.linspace(0, len(power), 201).astype(int)[:-1]
    rows = np.linspace(0, 513, 361).astype(int)[:-1]
    pooled = np.maximum.reduceat(np.maximum.reduceat(power, edges, axis=0), rows, axis=1).T
    np.testing.assert_allclose(picture.level_db, 10 * np.log10(pooled), atol=1e-3)


def test_silence_has_colours_too() -> None:
    """A silent recording has limits, and limits always leave contrast."""
    low, high = colour_limits_db(np.full((3, 3), FLOOR_DB))
    assert low < high
    low, high = colour_limits_db(np.full((3, 3), -50.0))
    assert high - low >= 20


def test_a_whole_picture(tmp_path: Path) -> None:
    """1,200 pixels wide, not blank, brighter where the tone is, and no half-made file beside."""
    samples = np.concatenate([np.zeros(5 * RATE_HZ, np.float32), sine(8000, 5)])
    curves = [
        Curve("index_ndsi", np.array([0.1, np.nan]), "", -1, 1),
        Curve("night", np.full(2, np.nan)),
    ]
    figure = draw_recording(
        seen(samples), WindowGrid(), 2, curves, title="$a$ 夜 _b_^{", subtitle="x"
    )
    pixels = pixels_of(figure, tmp_path / "a.png")
    assert pixels.shape[1] == 1200
    yellow = (pixels[..., 0] > 200) & (pixels[..., 1] > 200) & (pixels[..., 2] < 80)
    left, right = yellow[:, :580].sum(), yellow[:, 600:1090].sum()
    assert right > 300
    assert left == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(("n_windows", "hop_s"), [(1, 5.0), (48, 5.0), (720, 5.0), (95, 2.5)])
def test_window_numbers_stay_readable(tmp_path: Path, n_windows: int, hop_s: float) -> None:
    """However many windows there are, at most 25 numbers stand above the picture."""
    grid = WindowGrid(hop_s=hop_s)
    end_s = grid.end_s(n_windows - 1)
    picture = Spectrogram(np.random.default_rng(1).normal(size=(9, 90)), 0, end_s, 0, 16_000)
    curve = Curve("x", np.arange(float(n_windows)))
    figure = draw_recording(picture, grid, n_windows, [curve], title="t")
    numbers = [text.get_text() for text in figure.axes[0].texts if text.get_text().isdigit()]
    assert numbers[0] == "0"
    assert len(numbers) <= 25
    steps = np.diff([int(number) for number in numbers])
    assert (steps == steps[0]).all() if len(steps) else n_windows == 1
    pixels_of(figure, tmp_path / "a.png")


def test_a_value_stands_over_its_own_window() -> None:
    """The step of window 3 runs from 15 to 20 s; with overlap it is centred on its window."""
    picture = Spectrogram(np.zeros((2, 2)), 0, 30, 0, 16_000)
    for hop_s, edges in ((5.0, (15, 20)), (2.5, (8.75, 11.25))):
        grid = WindowGrid(hop_s=hop_s)
        figure = draw_recording(picture, grid, 6, [Curve("x", np.arange(6.0))], title="t")
        values, drawn, _ = figure.axes[-1].patches[0].get_data()
        assert tuple(drawn[3:5]) == edges
        assert values[3] == 3


def test_what_hardly_moves_looks_flat() -> None:
    """A panel covers at least a tenth of the range that the column can have."""
    picture = Spectrogram(np.zeros((2, 2)), 0, 10, 0, 16_000)
    curve = Curve("index_ndsi", np.array([0.9970, 0.9990]), "", -1, 1)
    figure = draw_recording(picture, WindowGrid(), 2, [curve], title="t")
    low, high = figure.axes[-1].get_ylim()
    assert high - low == pytest.approx(0.2)
    assert low < curve.values.min()
    assert high > curve.values.max()


def test_drawing_uses_no_global_state(tmp_path: Path) -> None:
    """Without pyplot nothing is shared, and two threads may draw at once."""
    before = "matplotlib.pyplot" in sys.modules
    failures = []

    def draw(number: int) -> None:
        try:
            picture = seen(sine(1000.0 * (number + 1), 5))
            figure = draw_recording(picture, WindowGrid(), 1, [], title=str(number))
            save_png(figure, tmp_path / f"{number}.png")
        except Exception as error:  # noqa: BLE001 - told below, in the main thread
            failures.append(error)

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert ("matplotlib.pyplot" in sys.modules) == before
    assert (tmp_path / "0.png").read_bytes() != (tmp_path / "1.png").read_bytes()


def test_the_same_picture_twice_is_the_same_file(tmp_path: Path) -> None:
    """No date or version makes a picture differ from itself."""
    for name in ("a", "b"):
        figure = draw_recording(seen(sine(1000, 5)), WindowGrid(), 1, [], title="t")
        save_png(figure, tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """The error names the file, and no half picture is left."""
    figure = draw_recording(seen(sine(1000, 5)), WindowGrid(), 1, [], title="t")
    with pytest.raises(UsageError, match=r"nowhere.*cannot be written"):
        save_png(figure, tmp_path / "nowhere" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UsageError, match=r"folder\.png cannot be written"):
        save_png(figure, tmp_path / "folder.png")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_columns_are_found_by_their_end() -> None:
    """A whole name wins; an end counts if one column has it."""
    known = ["index_ndsi", "wave_level_db", "other_level_db", "ndsi_x"]
    assert find_column("index_ndsi", known) == "index_ndsi"
    assert find_column("ndsi", known) == "index_ndsi"
    assert find_column("level_db", known) is None
    assert find_column("si", known) is None


def test_facts_are_told_as_far_as_they_are_known() -> None:
    """Unknown facts leave no trace, known ones carry their unit."""
    assert facts_line({"site": None, "solar_elevation_deg": float("nan")}) == ""
    facts = {
        "site": "S4",
        "latitude": -3.119,
        "longitude": -60.02,
        "elevation_m": 92.0,
        "date": dt.date(2019, 5, 22),
        "time": dt.time(6, 30),
        "solar_elevation_deg": -4.2,
    }
    line = "S4 · 3.119° S, 60.020° W · 92 m · 2019-05-22 06:30:00 · sun -4°"
    assert facts_line(facts) == line


def test_a_day_with_and_without_night(tmp_path: Path) -> None:
    """Darkness is shaded where it is known, and only there."""
    hour = np.arange(24.0)
    curves = [Curve("a", np.sin(hour)), Curve("b", np.where(hour < 3, np.nan, hour))]
    light = pixels_of(draw_day(hour, curves, title="d"), tmp_path / "light.png")
    nights = [(0.0, 5.5), (18.5, 24.0)]
    dark = pixels_of(draw_day(hour, curves, title="d", nights=nights), tmp_path / "dark.png")
    grey = (np.abs(dark.astype(int) - 224).max(axis=2) <= 2).mean()
    assert grey > 0.2
    assert (np.abs(light.astype(int) - 224).max(axis=2) <= 2).mean() < 0.02


def test_dark_stretches() -> None:
    """Runs of set flags, at the edges too; NaN is not dark."""
    hour = np.arange(6.0)
    night = np.array([1, 1, 0, np.nan, 1, 1])
    assert dark_stretches(hour, night) == [(0.0, 1.0), (4.0, 5.0)]
    assert dark_stretches(hour, np.full(6, np.nan)) == []
