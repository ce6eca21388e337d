"""Decoded samples, windows, recipe and configuration of the audio source."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from birdstack.features.audio import AudioConfig, AudioSource, Sound
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording
from birdstack.store.views import canonical_json


@pytest.fixture(scope="module")
def source():
    """A source that decodes in child processes."""
    with AudioSource() as source:
        yield source


def _recording(path: Path) -> Recording:
    return Recording(recording_id=path.name, path=path, content_hash="")


def _noise(seconds: float, rate_hz: int, channels: int) -> np.ndarray:
    shape = (round(seconds * rate_hz), channels)
    return (np.random.default_rng(11).normal(size=shape) * 0.1).astype(np.float32)


def _reference(path: Path, rate_hz: int) -> np.ndarray:
    """What soundfile and soxr give when each is called once."""
    sound, source_rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    mono = sound.mean(axis=1)
    if source_rate_hz == rate_hz:
        return mono
    return soxr.resample(mono, source_rate_hz, rate_hz, quality="HQ")


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 32_000, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG"])
def test_samples_equal_the_libraries(container, rate_hz, channels, source, tmp_path):
    """Block-wise decode, mix and resampling equal one call to soundfile and one to soxr."""
    path = tmp_path / "sound"
    with path.open("wb") as file:
        soundfile.write(file, _noise(7.3, rate_hz, channels), rate_hz, format=container)
    np.testing.assert_array_equal(source.open(_recording(path)).samples, _reference(path, 32_000))


def test_real_recordings_equal_the_libraries(real_data, source):
    """A sample of real focal clips and soundscapes decodes exactly, without notes of damage."""
    files = [file for file in sorted(real_data.rglob("*")) if file.suffix in {".ogg", ".wav"}]
    for path in files[:: max(len(files) // 12, 1)]:
        sound = source.open(_recording(path))
        np.testing.assert_array_equal(sound.samples, _reference(path, 32_000))
        assert "truncated" not in sound.notes


@pytest.mark.parametrize(
    ("seconds", "windows"), [(4.9, 1), (5.0, 1), (5.0001, 1), (7.5, 2), (9.99, 2), (10.0, 2)]
)
def test_window_counts_at_the_edges(seconds, windows, source, tmp_path):
    """The number of windows follows the grid, with no off-by-one at its edges."""
    path = tmp_path / "edge.wav"
    soundfile.write(path, _noise(seconds, 32_000, 1), 32_000)
    assert source.open(_recording(path)).n_windows == windows


@given(
    n_samples=st.integers(0, 400),
    window=st.integers(1, 60),
    overlap=st.floats(0, 0.9),
    fraction=st.floats(0.01, 1),
)
def test_windows_tile_the_samples(n_samples, window, overlap, fraction):
    """Laid back at their starts, windows give the samples, and zeros only past the end."""
    hop_s = max(window * (1 - overlap), 1.0)
    grid = WindowGrid(window_s=window, hop_s=hop_s, min_real_fraction=fraction)
    samples = np.arange(1, n_samples + 1, dtype=np.float32)
    sound = Sound(samples, 1, grid)
    laid = np.zeros(n_samples + 2 * window, dtype=np.float32)
    covered = 0
    for index, heard in enumerate(sound.windows()):
        start = grid.start_sample(index, 1)
        assert heard.shape == (window,)
        assert heard.dtype == np.float32
        assert start <= covered, "a gap between windows"
        laid[start : start + window] = heard
        covered = start + window
        assert covered <= n_samples or index == sound.n_windows - 1, "only the last is padded"
    reach = min(covered, n_samples)
    np.testing.assert_array_equal(laid[:reach], samples[:reach])
    assert not laid[n_samples:].any()
    assert n_samples - reach < window, "a whole window was left out"


def test_full_windows_are_views():
    """Only the padded window is copied."""
    sound = Sound(np.ones(8, dtype=np.float32), 1, WindowGrid(window_s=5, hop_s=5))
    assert np.shares_memory(sound.window(0), sound.samples)
    np.testing.assert_array_equal(sound.window(1), [1, 1, 1, 0, 0])


@pytest.mark.parametrize("index", [-1, 2])
def test_a_window_that_is_not_there(index):
    """Asking past the windows is an error, not silence."""
    sound = Sound(np.ones(8, dtype=np.float32), 1, WindowGrid(window_s=5, hop_s=5))
    with pytest.raises(IndexError, match=f"window {index} of a recording with 2 windows"):
        sound.window(index)


def test_threads_share_a_source(source, tmp_path):
    """Concurrent opens give each thread its own recording."""
    paths = []
    for level in range(8):
        path = tmp_path / f"{level}.flac"
        soundfile.write(path, np.full(200_000, level / 16), 32_000)
        paths.append(path)
    with ThreadPoolExecutor(4) as threads:
        sounds = list(threads.map(lambda path: source.open(_recording(path)), paths * 4))
    for level, sound in enumerate(sounds):
        assert np.all(sound.samples == level % 8 / 16)
    assert 1 <= len(source.decoders.pids) <= 4


def test_recipe_holds_what_determines_the_samples():
    """The recipe changes with the sample rate, not with limits or isolation."""
    plain = AudioSource().recipe
    assert json.loads(canonical_json(plain)) == plain
    assert AudioSource(AudioConfig(isolate=False, max_channels=2)).recipe == plain
    assert AudioSource(AudioConfig(sample_rate_hz=48_000)).recipe != plain


def test_a_source_can_be_pickled(source, tmp_path):
    """A copy in another process has the same configuration and its own decoders."""
    path = tmp_path / "a.wav"
    soundfile.write(path, _noise(6, 32_000, 1), 32_000)
    source.open(_recording(path))
    with pickle.loads(pickle.dumps(source)) as copy:  # noqa: S301 - our own bytes
        assert (copy.config, copy.grid) == (source.config, source.grid)
        assert copy.open(_recording(path)).n_windows == 1
        assert not set(copy.decoders.pids) & set(source.decoders.pids)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("sample_rate_hz", 0), ("max_duration_s", -1), ("max_channels", 0), ("no_such_setting", 1)],
)
def test_settings_outside_their_bounds(setting, value):
    """The configuration names the setting that does not fit."""
    with pytest.raises(ValidationError, match=setting):
        AudioConfig(**{setting: value})
