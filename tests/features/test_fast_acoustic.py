"""The fused pass equals the reference, on every kind of sound, column by column."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.listening import AUDIO, GRID, RATE_HZ, RECORDING, hear, scene

from birdstack.features import registry
from birdstack.features.acoustic import AcousticConfig, AcousticExtractor, flat
from birdstack.features.audio import Sound
from birdstack.features.fast_acoustic import FastAcousticExtractor
from birdstack.features.feature import feature
from birdstack.features.fused_features import FUSED
from birdstack.features.spectrum import HeardWindow
from birdstack.store.errors import ConfigError
from birdstack.store.keys import WindowGrid

RELATIVE = 1e-4
FLOOR = 1e-6  # in the column's unit: values that are 0 but for rounding
SHORT = WindowGrid(window_s=0.25, hop_s=0.25)
BIN_HZ = RATE_HZ / 2048

FLIPPING = {
    # A sum that meets its share within rounding reaches it one bin earlier or later.
    "spectral_rolloff": BIN_HZ,
    # Two bins, or two modulation rates, of equal power: either is the largest.
    "spectral_dominant": RATE_HZ / 2,
    "modulation_rate": RATE_HZ / 512,
    "modulation_regularity": 1.0,
    # A cell within rounding of its threshold is above or below it: one cell in a thousand.
    "activity_cell_share": 1e-3,
    "activity_frame_share": 0.01,
    "activity_song_frame_share": 0.01,
    "activity_song_event": 0.4,
    "index_adi": 1e-2,
    "index_aei": 1e-2,
}
"""Columns whose definition can flip, by the beginning of their names, and how far they may go.

On real sound none of them does: there they are held to the same limits as all others.
"""

SOUNDS = {
    "scene": scene(11),
    "noise": np.random.default_rng(1).normal(0, 0.1, 10 * RATE_HZ),
    "silence": np.zeros(10 * RATE_HZ),
    "padded": scene(7),
    "clipped": np.clip(scene(10) * 10, -1, 1),
    "very quiet": scene(10) * 1e-5,
    "below 24 bits": scene(10) * 1e-12,
    "loud after soft": np.concatenate([scene(5) * 1e-6, scene(5)]),
    "half silent": np.where(np.arange(10 * RATE_HZ) < 4 * RATE_HZ, 0.0, scene(10)),
    "tone between bins": np.sin(2 * np.pi * 3000.3 * np.arange(10 * RATE_HZ) / RATE_HZ),
    "trill": scene(5) * (np.sin(2 * np.pi * 12 * np.arange(5 * RATE_HZ) / RATE_HZ) > 0),
    "clicks": np.where(np.arange(10 * RATE_HZ) % 16411 == 0, 1.0, 0.0),
}


def both(samples, grid: WindowGrid = GRID, **settings_):
    """Columns of the reference and of the fused pass, and the names of columns."""
    sound = Sound(np.asarray(samples, dtype=np.float32), RATE_HZ, grid)
    config = AcousticConfig(**settings_)
    reference = AcousticExtractor(config, AUDIO, grid)
    fused = FastAcousticExtractor(config, AUDIO, grid)
    views = [spec.name for spec in reference.specs]
    found = [flat(each.extract(sound, RECORDING, views)) for each in (reference, fused)]
    assert list(found[0]) == list(found[1])
    return found


def differing(reference, fused, *, may_flip: bool = False) -> dict[str, tuple[float, float]]:
    """Columns that differ by more than is allowed, with a pair of values that do."""
    wrong = {}
    for name, expected in reference.items():
        bound = max((b for start, b in FLIPPING.items() if name.startswith(start)), default=0.0)
        expected64, found64 = expected.astype(np.float64), fused[name].astype(np.float64)
        allowed = RELATIVE * np.abs(expected64) + FLOOR + (bound if may_flip else 0.0)
        apart = ~(np.abs(found64 - expected64) <= allowed)
        if apart.any():
            wrong[name] = (float(expected64[apart][0]), float(found64[apart][0]))
    return wrong


@pytest.mark.parametrize("name", SOUNDS)
def test_every_kind_of_sound_gives_the_reference(name):
    """Noise, tones, silence, clipping, clicks and soft sound: every column agrees.

    The spectrum of a click is flat, so its dominant frequency is any.
    """
    assert not differing(*both(SOUNDS[name]), may_flip=name == "clicks")


def test_real_recordings_give_the_reference(real_data):
    """Soundscapes, focal recordings and clips: every column agrees, those that could flip too."""
    files = [
        *sorted(real_data.glob("xc10/train_audio/*/*.mp3"))[::40],
        *sorted(real_data.glob("esc10/train_audio/*/*.ogg"))[::60],
        *sorted(real_data.glob("soundscapes/*/*.wav"))[::8],
    ]
    assert len(files) >= 10
    wrong = {path.name: differing(*both(hear(path)[: 20 * RATE_HZ])) for path in files}
    assert not {name: columns for name, columns in wrong.items() if columns}


@pytest.mark.slow
def test_a_soundscape_of_48_windows_gives_the_reference():
    """What is carried from window to window does not drift over a recording."""
    reference, fused = both(scene(240, seed=3))
    assert len(fused["index_aci"]) == 48
    assert not differing(reference, fused)


@pytest.mark.parametrize("hop_s", [1.0, 2.5, 4.99])
def test_overlapping_windows_give_the_reference(hop_s):
    """PCEN's state is handed on at the next window's start."""
    assert not differing(*both(scene(12), WindowGrid(window_s=5.0, hop_s=hop_s)))


@pytest.mark.parametrize(
    "settings_",
    [
        {"n_fft": 1024, "hop": 320, "n_mels": 64, "n_mfcc": 13},
        {"n_fft": 1200, "hop": 500, "n_bands": 8},
        {"n_fft": 2000, "hop": 2000, "contrast_octaves": 4},
        {"n_fft": 4096, "hop": 333, "mel_fmin_hz": 50.0, "mel_fmax_hz": 14000.0},
        {"n_fft": 2048, "contrast_fmin_hz": 250.0, "contrast_octaves": 5},  # edges on bins
        {"index_fmin_hz": 1000.0, "index_fmax_hz": 10000.0, "song_fmin_hz": 500.0},
    ],
)
def test_other_settings_give_the_reference(settings_):
    """Sizes that share no factor, and bands that share bins."""
    assert not differing(*both(scene(6), **settings_))


def _pieces() -> st.SearchStrategy[np.ndarray]:
    """Any samples in [-1, 1], repeated and scaled into one to three short windows."""
    sample = st.floats(-1, 1, width=32) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-20])
    motif = hnp.arrays(np.float32, st.integers(1, 64), elements=sample)
    return st.builds(
        lambda first, second, seed, count, cut: (
            np.concatenate([np.resize(first, cut), np.resize(second, count * 8000 - cut)])
            + np.random.default_rng(seed).normal(0, 1e-3, count * 8000)
        ),
        motif,
        motif,
        st.integers(0, 99),
        st.integers(1, 3),
        st.integers(0, 8000),
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_pieces())
def test_any_sound_with_a_noise_floor_gives_the_reference(samples):
    """Whatever repeats, jumps or clips in it."""
    assert not differing(*both(samples, SHORT), may_flip=True)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_pieces())
def test_any_sound_is_finite_and_in_range(samples):
    """Bare of noise too, no column leaves its declared range."""
    bare = np.round(samples, 2)
    sound = Sound(bare.astype(np.float32), RATE_HZ, SHORT)
    extractor = FastAcousticExtractor(AcousticConfig(), AUDIO, SHORT)
    views = extractor.extract(sound, RECORDING, [spec.name for spec in extractor.specs])
    for spec in extractor.specs:
        for column in spec.columns:
            values = views[spec.name][column.name].astype(np.float64)
            low = -np.inf if column.low is None else column.low
            high = np.inf if column.high is None else column.high
            assert np.isfinite(values).all(), column.name
            assert ((values >= low - 1e-6) & (values <= high * (1 + 1e-6) + 1e-6)).all(), (
                column.name
            )


# --- the extractor --------------------------------------------------------------------------


def fast(grid: WindowGrid = GRID, **settings_) -> FastAcousticExtractor:
    """The fused extractor at 32 kHz."""
    return FastAcousticExtractor(AcousticConfig(**settings_), AUDIO, grid)


def sound_of(samples, grid: WindowGrid = GRID) -> Sound:
    """Samples as an opened recording."""
    return Sound(np.asarray(samples, dtype=np.float32), RATE_HZ, grid)


def test_only_the_implementation_tells_the_recipes_apart():
    """Same views, same columns; other numbers lie in other folders."""
    reference, fused = AcousticExtractor(AcousticConfig(), AUDIO, GRID), fast()
    rough = FastAcousticExtractor(AcousticConfig(), AUDIO, GRID, precision="float32")
    for ours, theirs, third in zip(fused.specs, reference.specs, rough.specs, strict=True):
        assert (ours.name, ours.columns) == (theirs.name, theirs.columns)
        assert {**ours.recipe, "implementation": "reference"} == theirs.recipe
        assert len({ours.recipe_hash, theirs.recipe_hash, third.recipe_hash}) == 3


def test_every_feature_of_the_registry_has_a_kernel_or_is_known_to_have_none():
    """A feature without a kernel is right but slow: it is added here on purpose."""
    slow = {
        each.name
        for each in registry.all_features()
        if each.scope == "window" and not (each.name in FUSED and FUSED[each.name].stands_for(each))
    }
    assert slow == set()
    assert set(FUSED) <= {each.name for each in registry.all_features()}


def test_wanted_views_alone_give_the_same_values():
    """No group leans on another, and nothing else is returned."""
    sound, extractor = sound_of(scene(12)), fast()
    names = [spec.name for spec in extractor.specs]
    whole = extractor.extract(sound, RECORDING, names)
    for name in names:
        alone = extractor.extract(sound, RECORDING, {name})
        assert list(alone) == [name]
        for column, values in alone[name].items():
            np.testing.assert_array_equal(values, whole[name][column])


def test_what_needs_no_transform_makes_none(monkeypatch):
    """The samples' own columns cost no spectrum; all others cost one for each block."""
    calls = []
    transform = np.fft.rfft
    monkeypatch.setattr(
        np.fft, "rfft", lambda *a, **k: calls.append(a[0].shape) or transform(*a, **k)
    )
    extractor, sound = fast(), sound_of(scene(5))
    extractor.extract(sound, RECORDING, ["acoustic/wave"])
    assert calls == []
    extractor.extract(sound, RECORDING, [spec.name for spec in extractor.specs])
    frames = [shape[0] for shape in calls if shape[1] == 2048]
    assert sum(frames) == 313


def test_a_new_feature_is_heard_without_a_second_transform():
    """A registered function without a kernel, or of another version, is asked itself."""

    def loudness(window: HeardWindow) -> float:
        return float(window.magnitude.max())

    declare = feature(group="spectral", formula="max |S|", source="own", needs=("magnitude",))
    with registry.isolated():
        declare(loudness)
        reference, fused = both(scene(10))
        assert "loudness" in fused
        assert not differing(reference, fused)


def test_a_raised_version_sets_the_kernel_aside(monkeypatch):
    """A kernel stands for one version of a definition."""
    import dataclasses

    assert FUSED["index_aci"].stands_for(registry.REGISTERED["index_aci"])
    changed = dataclasses.replace(
        registry.REGISTERED["index_aci"], version=99, measure=lambda _window: 7.0
    )
    with registry.isolated():
        registry.REGISTERED["index_aci"] = changed
        found = fast().extract(sound_of(scene(5)), RECORDING, ["acoustic/indices"])
    assert found["acoustic/indices"]["index_aci"] == 7.0


def test_threads_share_an_extractor_and_not_its_buffers():
    """Recordings measured at once give what they give one after the other."""
    extractor = fast()
    views = [spec.name for spec in extractor.specs]
    sounds = [sound_of(scene(10 + seed, seed)) for seed in range(6)]
    alone = [flat(extractor.extract(sound, RECORDING, views)) for sound in sounds]
    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(extractor.extract, sound, RECORDING, views) for sound in sounds]
        together = [flat(each.result()) for each in work]
    for expected, found in zip(alone, together, strict=True):
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)


def test_a_recording_leaves_nothing_to_the_next():
    """State and buffers of one recording do not reach another."""
    extractor, other = fast(), fast()
    views = [spec.name for spec in extractor.specs]
    extractor.extract(sound_of(scene(10, 5) * 3), RECORDING, views)
    second = flat(extractor.extract(sound_of(scene(6)), RECORDING, views))
    first = flat(other.extract(sound_of(scene(6)), RECORDING, views))
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values)


def test_a_listener_takes_the_networks_picture():
    """The picture of every window, in order, equal to librosa's, from the same pass."""
    import librosa

    samples, pictures = scene(10), {}
    extractor = fast()
    extractor.extract(
        sound_of(samples),
        RECORDING,
        ["acoustic/indices"],
        listener=lambda index, heard: pictures.update({index: heard.spectral.log_mel()}),
    )
    assert list(pictures) == [0, 1]
    window = samples[: 5 * RATE_HZ].astype(np.float64)
    mel = librosa.feature.melspectrogram(y=window, sr=RATE_HZ, n_fft=2048, hop_length=512)
    np.testing.assert_allclose(pictures[0], librosa.power_to_db(mel, ref=np.max), rtol=0, atol=1e-4)


def test_float32_is_near():
    """Rough numbers are close where sound is; only faint bins go astray."""
    sound = sound_of(scene(10))
    rough = FastAcousticExtractor(AcousticConfig(), AUDIO, GRID, precision="float32")
    views = [spec.name for spec in rough.specs]
    expected, found = (flat(each.extract(sound, RECORDING, views)) for each in (fast(), rough))
    apart = [
        name
        for name, values in expected.items()
        if not np.allclose(found[name], values, rtol=2e-3, atol=1e-4)
    ]
    assert len(apart) <= 3, apart


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_broken_samples_break_no_process(bad):
    """The decoder lets none through; if one came, the next window is whole again."""
    samples = scene(15)
    samples[RATE_HZ] = bad
    extractor = fast()
    names = ["acoustic/contrast", "acoustic/indices", "acoustic/spectral", "acoustic/wave"]
    with np.errstate(all="ignore"):
        found = flat(extractor.extract(sound_of(samples), RECORDING, names))
    whole = flat(extractor.extract(sound_of(scene(15)), RECORDING, names))
    for name in ("contrast_03_mean", "index_aci", "spectral_centroid_mean", "wave_rms_mean"):
        assert found[name][1:] == pytest.approx(whole[name][1:])


def test_an_extractor_travels_to_another_process():
    """It is pickled without its buffers."""
    extractor = fast()
    sound = sound_of(scene(5))
    before = flat(extractor.extract(sound, RECORDING, ["acoustic/mfcc"]))
    copy = pickle.loads(pickle.dumps(extractor))  # noqa: S301 - its own
    after = flat(copy.extract(sound, RECORDING, ["acoustic/mfcc"]))
    np.testing.assert_array_equal(before["mfcc_01_mean"], after["mfcc_01_mean"])


def test_a_recording_without_windows_gives_empty_columns():
    """No window, no row; the columns are there."""
    found = flat(fast().extract(sound_of(np.zeros(100)), RECORDING, ["acoustic/wave"]))
    assert {(v.shape, v.dtype.str) for v in found.values()} == {((0,), "<f4")}


def test_sound_of_another_rate_is_refused():
    """The frequencies of the columns hold for one rate only."""
    with pytest.raises(ConfigError, match="set to 32000 Hz, got sound of 48000 Hz"):
        fast().extract(Sound(np.zeros(5 * 48000, np.float32), 48000, GRID), RECORDING, [])
