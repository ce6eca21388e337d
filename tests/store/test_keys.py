"""The window grid: integers are identity, seconds follow from them."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from birdstack.store.keys import WindowGrid

RATES_HZ = st.sampled_from([8000, 16000, 22050, 32000, 44100, 48000])
milliseconds = st.integers(50, 20_000)


@st.composite
def grids(draw) -> WindowGrid:
    """Any grid that leaves no gap."""
    window_ms = draw(milliseconds)
    hop_ms = draw(st.integers(max(50, window_ms // 8), window_ms))
    share = draw(st.sampled_from([0.01, 0.25, 0.5, 0.75, 1.0]))
    return WindowGrid(window_s=window_ms / 1000, hop_s=hop_ms / 1000, min_real_fraction=share)


def _counted(grid: WindowGrid, n_samples: int, rate_hz: int) -> int:
    """Windows laid down one after another, from the definition."""
    length = grid.window_samples(rate_hz)
    count = covered = 0
    while grid.start_sample(count, rate_hz) + length <= n_samples:
        covered = grid.start_sample(count, rate_hz) + length
        count += 1
    real = n_samples - grid.start_sample(count, rate_hz)
    return count + (real >= grid.min_real_fraction * length and covered < n_samples)


@given(grids(), RATES_HZ, st.floats(0, 100))
def test_n_windows_is_what_counting_gives(grid: WindowGrid, rate_hz: int, seconds: float) -> None:
    """Whatever window, hop, share, rate and length."""
    n_samples = int(seconds * rate_hz)
    assert grid.n_windows(n_samples, rate_hz) == _counted(grid, n_samples, rate_hz)


@given(grids(), RATES_HZ, st.integers(0, 60), st.integers(-2, 2))
def test_n_windows_at_the_edges(grid: WindowGrid, rate_hz: int, index: int, off: int) -> None:
    """A sample more or less than a whole number of windows."""
    n_samples = grid.start_sample(index, rate_hz) + grid.window_samples(rate_hz) + off
    assume(n_samples >= 0)
    assert grid.n_windows(n_samples, rate_hz) == _counted(grid, n_samples, rate_hz)


@given(grids(), RATES_HZ, st.integers(0, 10**6), st.integers(0, 10**5))
def test_more_sound_never_has_fewer_windows(
    grid: WindowGrid, rate_hz: int, n_samples: int, more: int
) -> None:
    """n_windows grows with the length where hop and window agree."""
    grid = WindowGrid(window_s=grid.window_s, hop_s=grid.window_s)
    assert grid.n_windows(n_samples, rate_hz) <= grid.n_windows(n_samples + more, rate_hz)


@given(grids(), RATES_HZ, st.integers(0, 5000))
def test_windows_leave_no_gap(grid: WindowGrid, rate_hz: int, index: int) -> None:
    """Half-open: a window ends no earlier than the next begins, in seconds and in samples."""
    assert grid.start_s(index + 1) <= grid.end_s(index) + 1e-9 * index
    end = grid.start_sample(index, rate_hz) + grid.window_samples(rate_hz)
    assert grid.start_sample(index + 1, rate_hz) <= end + 1  # rounding to a sample
    assert grid.start_s(0) == 0.0
    assert grid.start_sample(0, rate_hz) == 0


@pytest.mark.parametrize(
    ("seconds", "share", "windows"),
    [
        (0, 0.5, 0),
        (2.4, 0.5, 0),
        (2.5, 0.5, 1),
        (5, 0.5, 1),
        (7.4, 0.5, 1),
        (7.5, 0.5, 2),
        (10, 0.5, 2),
        (9.99, 1.0, 1),
        (5.001, 0.0001, 2),
    ],
)
def test_five_second_windows(seconds: float, share: float, windows: int) -> None:
    """The usual grid by hand."""
    grid = WindowGrid(min_real_fraction=share)
    assert grid.n_windows(round(seconds * 32000), 32000) == windows


def test_a_partial_window_needs_sound_of_its_own() -> None:
    """With overlap, a last window of sound that was all heard already does not count."""
    grid = WindowGrid(window_s=5, hop_s=2.5, min_real_fraction=0.5)
    assert grid.n_windows(5 * 32000, 32000) == 1
    assert grid.n_windows(5 * 32000 + 1, 32000) == 2


@pytest.mark.parametrize(
    "bad",
    [
        {"window_s": 5, "hop_s": 5.1},
        {"window_s": 0},
        {"hop_s": -1},
        {"min_real_fraction": 0},
        {"min_real_fraction": 1.1},
        {"window_s": float("nan")},
        {"overlap": 1},
    ],
)
def test_grids_that_make_no_sense(bad: dict[str, float]) -> None:
    """Gaps, nothing, negative, and unknown settings are refused."""
    with pytest.raises(ValidationError):
        WindowGrid(**bad)
