"""Inputs of the recording in hand: prepared once, shared honestly, let go of after."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.listening import AUDIO, RECORDING, scene

from birdstack.embeddings import shelf as shelf_module
from birdstack.embeddings.backbones import PRESETS
from birdstack.embeddings.mel_config import MelConfig
from birdstack.embeddings.mel_input import MelInput
from birdstack.embeddings.shelf import BLOCK, InputShelf
from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.audio import Sound
from birdstack.features.fast_acoustic import FastAcousticExtractor
from birdstack.features.resample import resample
from birdstack.store.keys import WindowGrid

RATE_HZ = 8_000
GRID = WindowGrid(window_s=1.0, hop_s=0.5)


class DoubleInput:
    """Takes the samples, doubled, and counts how often it is asked.

    Args:
        rate_hz: of the samples it takes.
        version: of its recipe.
    """

    def __init__(self, rate_hz: int = RATE_HZ, version: int = 1) -> None:
        self.rate_hz = rate_hz
        self.version = version
        self.prepared = 0

    @property
    def sample_rate_hz(self) -> int:
        return self.rate_hz

    @property
    def shape(self) -> tuple[int, ...]:
        return (round(GRID.window_s * self.rate_hz),)

    @property
    def recipe(self) -> Mapping[str, Any]:
        return {"input": "double", "rate_hz": self.rate_hz, "version": self.version}

    def prepare(self, samples: np.ndarray) -> np.ndarray:
        self.prepared += 1
        assert samples.shape == self.shape
        return 2 * samples


def _sound(seconds: float = 4.2, seed: int = 0, grid: WindowGrid = GRID) -> Sound:
    rng = np.random.default_rng(seed)
    return Sound(rng.normal(size=round(seconds * RATE_HZ)).astype(np.float32), RATE_HZ, grid)


def _all(shelf: InputShelf, sound: Sound, taken: Any, shift_s: float = 0.0) -> np.ndarray:
    return np.concatenate(list(shelf.blocks(sound, taken, shift_s=shift_s)))


@pytest.mark.parametrize("seconds", [0.6, 1.0, 4.0, 4.3, 40.0])
def test_inputs_are_those_of_each_window(seconds: float) -> None:
    """Every window of the grid, the padded last one too, in blocks of 64."""
    sound, taken = _sound(seconds), DoubleInput()
    blocks = list(InputShelf().blocks(sound, taken))
    assert [len(block) for block in blocks[:-1]] == [BLOCK] * (len(blocks) - 1)
    assert 0 < len(blocks[-1]) <= BLOCK
    expected = np.stack([taken.prepare(window) for window in sound.windows()])
    np.testing.assert_array_equal(np.concatenate(blocks), expected)
    assert blocks[0].dtype == np.float32


def test_networks_with_one_recipe_share_the_work() -> None:
    """The second asks for nothing; another recipe is prepared by itself."""
    shelf, sound = InputShelf(), _sound()
    first, second, other = DoubleInput(), DoubleInput(), DoubleInput(version=2)
    ours = _all(shelf, sound, first)
    np.testing.assert_array_equal(_all(shelf, sound, second), ours)
    _all(shelf, sound, other)
    assert (first.prepared, second.prepared, other.prepared) == (
        sound.n_windows,
        0,
        sound.n_windows,
    )


def test_the_next_recording_is_heard_anew() -> None:
    """Its inputs are its own, and the one before is let go of."""
    shelf, taken = InputShelf(), DoubleInput()
    sound = _sound(seed=0)
    gone = weakref.ref(next(iter(shelf.blocks(sound, taken))).base)
    other = _sound(seed=1)
    expected = np.stack([2 * window for window in other.windows()])
    np.testing.assert_array_equal(_all(shelf, other, taken), expected)
    gc.collect()
    assert gone() is None, "the inputs of the recording before are still held"
    np.testing.assert_array_equal(_all(shelf, sound, taken)[0], 2 * sound.window(0))


def test_the_shelf_does_not_keep_a_recording_alive() -> None:
    """A decoded recording is large, and the engine decides when it goes."""
    shelf, sound = InputShelf(), _sound()
    _all(shelf, sound, DoubleInput())
    gone = weakref.ref(sound)
    del sound
    gc.collect()
    assert gone() is None


def test_threads_have_shelves_of_their_own() -> None:
    """Each hears its own recording and gets its own inputs."""
    shelf, start = InputShelf(), threading.Barrier(3)
    right: dict[int, bool] = {}

    def work(seed: int) -> None:
        sound, taken = _sound(seed=seed), DoubleInput()
        expected = np.stack([2 * window for window in sound.windows()])
        start.wait()
        right[seed] = all(np.array_equal(_all(shelf, sound, taken), expected) for _ in range(5))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == {0: True, 1: True, 2: True}


def test_what_is_too_large_is_prepared_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same inputs, nothing kept: the second network pays for its own."""
    sound, taken = _sound(40.0), DoubleInput()
    expected = np.stack([2 * window for window in sound.windows()])
    monkeypatch.setattr(shelf_module, "_KEPT_BYTES", expected.nbytes - 1)
    shelf = InputShelf()
    blocks = shelf.blocks(sound, taken)
    first = next(blocks)
    assert taken.prepared == len(first) == BLOCK, "later windows wait until they are asked for"
    np.testing.assert_array_equal(np.concatenate([first, *blocks]), expected)
    _all(shelf, sound, taken)
    assert taken.prepared == 2 * sound.n_windows
    monkeypatch.setattr(shelf_module, "_KEPT_BYTES", expected.nbytes)
    _all(shelf, sound, taken)
    _all(shelf, sound, taken)
    assert taken.prepared == 3 * sound.n_windows


@given(seconds=st.floats(0.5, 5.0), shift_s=st.floats(-3.0, 3.0))
@settings(max_examples=100, deadline=None)
def test_a_shifted_window_stays_inside_the_recording(seconds: float, shift_s: float) -> None:
    """It moves by the shift, but not before the beginning, nor, moved later, past the end."""
    sound = _sound(seconds)
    length, shift = GRID.window_samples(RATE_HZ), round(shift_s * RATE_HZ)
    found = _all(InputShelf(), sound, DoubleInput(), shift_s)
    padded = np.concatenate([sound.samples, np.zeros(length, np.float32)])
    for index, heard in enumerate(found):
        start = GRID.start_sample(index, RATE_HZ) + shift
        if shift_s > 0:
            start = min(start, len(sound.samples) - length)
        start = max(start, 0)
        np.testing.assert_array_equal(heard, 2 * padded[start : start + length])


def test_shifts_are_kept_apart() -> None:
    """A shifted window is another input than the one in place."""
    shelf, sound, taken = InputShelf(), _sound(), DoubleInput()
    place, later = _all(shelf, sound, taken), _all(shelf, sound, taken, 0.25)
    np.testing.assert_array_equal(place[0], 2 * sound.window(0))
    np.testing.assert_array_equal(later[0], 2 * sound.samples[2000:10000])


def test_another_rate_is_resampled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole recording, not window by window, and once for all networks of that rate."""
    calls = []

    def counted(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
        calls.append((from_hz, to_hz))
        return resample(samples, from_hz, to_hz)

    monkeypatch.setattr(shelf_module, "resample", counted)
    shelf, sound = InputShelf(), _sound(4.3)
    found = _all(shelf, sound, DoubleInput(4_000))
    _all(shelf, sound, DoubleInput(4_000, version=2))
    assert calls == [(RATE_HZ, 4_000)]
    whole = np.concatenate([resample(sound.samples, RATE_HZ, 4_000), np.zeros(4_000, np.float32)])
    expected = [2 * whole[i * 2_000 : i * 2_000 + 4_000] for i in range(sound.n_windows)]
    np.testing.assert_array_equal(found, np.stack(expected))


def test_a_copy_for_another_process_starts_empty() -> None:
    """What was prepared stays here."""
    shelf, sound, taken = InputShelf(), _sound(), DoubleInput()
    ours = _all(shelf, sound, taken)
    travelled = pickle.loads(pickle.dumps(shelf))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(_all(travelled, sound, taken), ours)
    assert taken.prepared == 2 * sound.n_windows


# --- pictures drawn while the acoustic views are measured -----------------------------------


def _shared_picture() -> MelInput:
    """The picture of the default preset, which the acoustic views' transform serves."""
    return MelInput(PRESETS["lite0"].mel, 5.0)


@pytest.mark.parametrize("seconds", [12.4, 20.0])
def test_pictures_drawn_in_passing_are_the_same_to_the_bit(seconds: float) -> None:
    """What makes sharing honest: whoever draws it, a network sees one picture."""
    sound = Sound(scene(seconds), 32_000, WindowGrid())
    sound.samples[40_000:80_000] = 0  # digital silence too
    picture = _shared_picture()
    config = AcousticConfig()
    acoustic = FastAcousticExtractor(config, AUDIO, sound.grid)
    shelf = InputShelf()
    wanted = [spec.name for spec in acoustic.specs]
    acoustic.extract(sound, RECORDING, wanted, listener=shelf.listener(sound, picture))
    expected = np.stack([picture.prepare(window) for window in sound.windows()])

    class Deaf(MelInput):
        """Has the recipe, and cannot prepare."""

        def prepare(self, samples: np.ndarray) -> np.ndarray:
            raise AssertionError

    found = _all(shelf, sound, Deaf(PRESETS["lite0"].mel, 5.0))
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 1000


def test_drawing_changes_no_acoustic_column() -> None:
    """The views are the same with a listener and without."""
    sound = Sound(scene(11.0), 32_000, WindowGrid())
    acoustic = FastAcousticExtractor(AcousticConfig(groups=("wave", "indices")), AUDIO, sound.grid)
    wanted = [spec.name for spec in acoustic.specs]
    shelf = InputShelf()
    with_pictures = acoustic.extract(
        sound, RECORDING, wanted, listener=shelf.listener(sound, _shared_picture())
    )
    without = acoustic.extract(sound, RECORDING, wanted)
    for view, columns in without.items():
        for name, values in columns.items():
            np.testing.assert_array_equal(with_pictures[view][name], values, err_msg=name)


def test_a_pass_that_is_cut_short_leaves_no_half_drawn_pictures() -> None:
    """Pictures count once the last window was heard."""
    sound, picture = Sound(scene(11.0), 32_000, WindowGrid()), _shared_picture()
    acoustic = FastAcousticExtractor(AcousticConfig(groups=("wave",)), AUDIO, sound.grid)
    shelf = InputShelf()
    draw = shelf.listener(sound, picture)

    def failing(index: int, heard: Any) -> None:
        if index == 1:
            raise KeyboardInterrupt
        draw(index, heard)

    with pytest.raises(KeyboardInterrupt):
        acoustic.extract(sound, RECORDING, ["acoustic/wave"], listener=failing)
    expected = np.stack([picture.prepare(window) for window in sound.windows()])
    np.testing.assert_array_equal(_all(shelf, sound, picture), expected)


def test_pictures_that_are_too_large_are_not_drawn_in_passing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are drawn when they are asked for."""
    sound = Sound(scene(11.0), 32_000, WindowGrid())
    picture = MelInput(MelConfig(hop=512, precision="float64"), 5.0)
    monkeypatch.setattr(shelf_module, "_KEPT_BYTES", 1000)
    shelf = InputShelf()
    draw = shelf.listener(sound, picture)
    draw(0, None)  # type: ignore[arg-type]
    expected = np.stack([picture.prepare(window) for window in sound.windows()])
    np.testing.assert_array_equal(_all(shelf, sound, picture), expected)
