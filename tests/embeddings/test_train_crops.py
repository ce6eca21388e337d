"""Sound for a training: crops, the grid, a bounded cache, threads, and what cannot be heard."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from support.tones import GRID, RATE_HZ, ToneSource, tone_set

from birdstack.embeddings.crops import CropSource
from birdstack.embeddings.prefetch import ahead
from birdstack.features.audio import Sound
from birdstack.store.errors import SkipRecording


def _crops(source, *, cache_mb: int = 64, rate_hz: int = RATE_HZ) -> CropSource:
    recordings = tone_set().recordings
    return CropSource(source, recordings, sample_rate_hz=rate_hz, cache_mb=cache_mb)


def test_crops_start_anywhere_and_hold_the_sound() -> None:
    """Starts cover the range, ends included, and each crop is a piece of the recording."""

    class Ramp(ToneSource):
        def open(self, recording):
            return Sound(np.arange(RATE_HZ + 20, dtype=np.float32), RATE_HZ, GRID)

    crops, rng = _crops(Ramp()), np.random.default_rng(0)
    drawn = [crops.crop(0, rng) for _ in range(300)]
    assert {int(crop[0]) for crop in drawn} == set(range(21))
    assert all((np.diff(crop) == 1).all() and len(crop) == RATE_HZ for crop in drawn)


def test_a_short_sound_has_zeros_behind_it() -> None:
    """The crop of a sound shorter than a window is the sound, then silence."""
    crops = _crops(ToneSource(duration_s=0.7))
    crop = crops.crop(0, np.random.default_rng(0))
    sound = crops.sound(0)
    assert len(crop) == RATE_HZ
    assert np.array_equal(crop[: len(sound.samples)], sound.samples)
    assert (crop[len(sound.samples) :] == 0).all()


def test_the_grid_is_the_store_s() -> None:
    """Windows for validation are those of the sound's own grid; one past the end is skipped."""
    source = ToneSource()
    crops = _crops(source)
    sound = source.open(tone_set().recordings[4])
    for window in range(sound.n_windows):
        assert np.array_equal(crops.window(4, window), sound.window(window))
    with pytest.raises(SkipRecording, match="no_window"):
        crops.window(4, 99)


def test_sounds_are_kept_while_there_is_room() -> None:
    """With room each is decoded once; without, the least recently used go first."""
    source = ToneSource()
    crops = _crops(source)
    for _ in range(3):
        for index in range(18):
            crops.sound(index)
    assert len(source.opened) == 18

    source = ToneSource(duration_s=20)  # .6 MB each
    crops = _crops(source, cache_mb=2)
    for index in (0, 1, 2, 0, 3, 0, 1):
        crops.sound(index)
    assert source.opened == ["0/0", "0/1", "0/2", "0/3", "0/1"]


def test_threads_that_ask_at_once_share_a_decode() -> None:
    """One decode serves all that wait for it."""

    class Slow(ToneSource):
        def open(self, recording):
            time.sleep(0.1)
            return super().open(recording)

    source = Slow()
    crops = _crops(source)
    with ThreadPoolExecutor(8) as pool:
        sounds = list(pool.map(crops.sound, [0] * 8))
    assert source.opened == ["0/0"]
    assert all(sound is sounds[0] for sound in sounds)


def test_what_cannot_be_heard_is_remembered() -> None:
    """A failed decode is not tried again, by any thread, and its reason is kept."""
    source = ToneSource(broken=frozenset({"0/1"}))
    crops = _crops(source)
    for _ in range(3):
        with pytest.raises(SkipRecording, match="decode_error"):
            crops.crop(1, np.random.default_rng(0))
    assert source.opened == ["0/1"]
    assert crops.skipped == {"0/1": ("decode_error", "made so")}


def test_another_rate_is_resampled_once() -> None:
    """A network at half the rate gets windows of half the samples, of the same pitch."""
    source = ToneSource()
    window = _crops(source, rate_hz=RATE_HZ // 2).window(0, 0)
    assert len(window) == RATE_HZ // 2
    assert np.abs(np.fft.rfft(window)).argmax() == 500  # Hz, in a second


def test_work_is_done_ahead_and_handed_over_in_order() -> None:
    """Results keep their order however long each takes, and no more is begun than asked for."""
    begun: list[int] = []
    gate = threading.Event()

    def task(number: int) -> int:
        begun.append(number)
        gate.wait(5 if number % 2 else 0)
        return number

    with ThreadPoolExecutor(4) as pool:
        results = ahead((partial(task, n) for n in range(100)), pool, 3)
        gate.set()
        assert [next(results) for _ in range(10)] == list(range(10))
        results.close()
    assert len(begun) <= 10 + 4
    with ThreadPoolExecutor(2) as pool:
        assert list(ahead(iter([]), pool, 3)) == []


def test_an_error_in_a_task_arrives_in_its_place() -> None:
    """Results before it are handed over first."""

    def fail() -> int:
        message = "third"
        raise ValueError(message)

    with ThreadPoolExecutor(2) as pool:
        results = ahead([lambda: 1, lambda: 2, fail, lambda: 4], pool, 2)
        assert [next(results), next(results)] == [1, 2]
        with pytest.raises(ValueError, match="third"):
            next(results)
