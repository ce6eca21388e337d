"""The acoustic view as a whole: its spec, its order, its behaviour over a recording."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from support.listening import (
    AUDIO,
    GRID,
    RATE_HZ,
    RECORDING,
    columns_of,
    extract,
    extract_all,
    extractor_of,
    hear,
    scene,
)

from birdstack.features.acoustic import GROUPS, AcousticConfig, AcousticExtractor
from birdstack.features.audio import Sound
from birdstack.store.errors import ConfigError
from birdstack.store.keys import WindowGrid
from birdstack.store.views import Column, canonical_json

SHORT = WindowGrid(window_s=0.25, hop_s=0.25)
GOLDEN = Path(__file__).parent.parent / "golden" / "acoustic_columns.txt"


def out_of_range(values: dict[str, np.ndarray], columns: list[Column]) -> dict[str, list]:
    """Columns with a value that is not finite or lies outside its declared range."""
    wrong = {}
    for column in columns:
        found = values[column.name].astype(np.float64)
        low = -math.inf if column.low is None else column.low
        high = math.inf if column.high is None else column.high
        if not (np.isfinite(found) & (found >= low) & (found <= high)).all():
            wrong[column.name] = found.tolist()
    return wrong


# --- the spec ------------------------------------------------------------------------------


def test_columns_keep_their_names_and_order():
    """The order of columns is part of the format: it changes only on purpose."""
    names = [column.name for column in columns_of(extractor_of())]
    assert names == GOLDEN.read_text().split()


def test_every_column_is_described_and_named_after_its_group():
    """A column says what it is, and begins with its group (indices: with `index`)."""
    for spec in extractor_of().specs:
        group = spec.name.removeprefix("acoustic/")
        for column in spec.columns:
            assert column.name.split("_")[0] == {"indices": "index"}.get(group, group)
            assert len(column.description) > 20
            assert column.dtype == "float32"


def test_groups_are_views_of_their_own():
    """Each chosen group is one view, in the order of `GROUPS`, whatever order is given."""
    some = extractor_of(groups=("indices", "mfcc")).specs
    assert [spec.name for spec in some] == ["acoustic/mfcc", "acoustic/indices"]
    whole = {spec.name: spec for spec in extractor_of().specs}
    assert list(whole) == [f"acoustic/{group}" for group in GROUPS]
    for spec in some:
        assert spec == whole[spec.name]


@pytest.mark.parametrize("group", GROUPS)
def test_a_view_alone_gives_the_values_it_has_beside_the_others(group):
    """Nothing but the wanted view is returned, and no group leans on another."""
    sound = Sound(scene(10), RATE_HZ, GRID)
    extractor = extractor_of()
    (spec,) = [spec for spec in extractor.specs if spec.name == f"acoustic/{group}"]
    alone = extractor.extract(sound, RECORDING, [spec.name])
    assert list(alone) == [spec.name]
    assert list(alone[spec.name]) == spec.column_names
    whole = extract_all(extractor, sound)
    for name, values in alone[spec.name].items():
        np.testing.assert_array_equal(values, whole[name])


def hashes(extractor: AcousticExtractor) -> dict[str, str]:
    """Recipe hash of each group."""
    return {spec.name.removeprefix("acoustic/"): spec.recipe_hash for spec in extractor.specs}


def changed(**settings_) -> set[str]:
    """Groups whose recipe another setting changes."""
    plain, other = hashes(extractor_of()), hashes(extractor_of(**settings_))
    return {group for group in plain if plain[group] != other[group]}


def test_a_recipe_holds_what_determines_the_group_and_nothing_else():
    """A setting recomputes the groups that need it."""
    mel = {"mfcc", "logmel", "pcen", "onset"}
    assert changed(n_mfcc=13) == {"mfcc"}
    assert changed(n_bands=8) == {"logmel", "pcen"}
    assert changed(n_mels=64) == {*mel, "activity"}
    assert changed(contrast_octaves=5) == {"contrast"}
    assert changed(index_fmin_hz=500) == {"indices", "spectral", "activity"}
    assert changed(song_fmax_hz=10000) == {"modulation", "activity"}
    assert changed(hop=256) == set(GROUPS)


def test_audio_and_grid_enter_every_recipe():
    """Another way of decoding or cutting recomputes everything; recipes are plain JSON."""
    plain = hashes(extractor_of())
    other = hashes(AcousticExtractor(AcousticConfig(), AUDIO | {"mono": "left"}, GRID))
    short = hashes(extractor_of(SHORT))
    for group, value in plain.items():
        assert len({value, other[group], short[group]}) == 3
    for spec in extractor_of().specs:
        assert spec.recipe["implementation"] == "reference"
        assert spec.recipe["audio"] == AUDIO
        assert canonical_json(spec.recipe)


def test_asking_for_the_spec_imports_no_heavy_library():
    """A command that only plans stays quick."""
    script = (
        "import sys\n"
        "from birdstack.features.acoustic import AcousticConfig, AcousticExtractor\n"
        "from birdstack.store.keys import WindowGrid\n"
        "AcousticExtractor(AcousticConfig(), {'sample_rate_hz': 32000}, WindowGrid()).specs\n"
        "heavy = {'librosa', 'numba', 'scipy.signal', 'scipy', 'torch', 'soundfile', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_settings_that_do_not_fit_are_refused():
    """Each refusal names the setting and its value."""
    with pytest.raises(ValidationError, match="n_bands must divide n_mels, got 16 and 100"):
        AcousticConfig(n_mels=100)
    with pytest.raises(ValidationError, match="hop must be <= n_fft"):
        AcousticConfig(n_fft=256, hop=512)
    with pytest.raises(ValidationError, match="lower frequency limit"):
        AcousticConfig(song_fmin_hz=9000)
    with pytest.raises(ConfigError, match=r"half the sample rate \(11025 Hz\), got 16000 Hz"):
        AcousticExtractor(AcousticConfig(), {"sample_rate_hz": 22050}, GRID)
    with pytest.raises(ConfigError, match="contrast_fmin_hz=200, got 250 Hz at n_fft=128"):
        extractor_of(n_fft=128, hop=64)
    with pytest.raises(ConfigError, match="must hold sample_rate_hz"):
        AcousticExtractor(AcousticConfig(), {}, GRID)
    with pytest.raises(ConfigError, match=r"got window_s=0\.1 with 7 frames"):
        extractor_of(WindowGrid(window_s=0.1, hop_s=0.1))


def test_sound_of_another_rate_is_refused():
    """The frequencies of the columns hold for one rate only."""
    sound = Sound(np.zeros(5 * 48000, dtype=np.float32), 48000, GRID)
    with pytest.raises(ConfigError, match="set to 32000 Hz, got sound of 48000 Hz"):
        extractor_of().extract(sound, RECORDING, ["acoustic/mfcc"])


# --- values --------------------------------------------------------------------------------


def test_a_recording_without_windows_gives_empty_columns():
    """No window, no row; the columns are there."""
    values = extract(np.zeros(100))
    assert list(values) == [column.name for column in columns_of(extractor_of())]
    assert {(v.shape, v.dtype.str) for v in values.values()} == {((0,), "<f4")}


def test_silence_is_defined():
    """Digital silence: levels at the floor, entropies at their maximum, the rest 0."""
    row = {name: float(values[0]) for name, values in extract(np.zeros(5 * RATE_HZ)).items()}
    expected = {
        "mfcc_01_mean": 0.0,
        "spectral_centroid_p05": 0.0,
        "spectral_flatness_mean": 1.0,
        "wave_level_db": -100.0,
        "wave_level_relative_db": 0.0,
        "wave_crest_db": 0.0,
        "logmel_00_std": 0.0,
        "logmel_shape_00_mean": 0.0,
        "pcen_00_mean": 0.0,
        "onset_periodicity": 0.0,
        "modulation_00": 0.0,
        "modulation_rate": 0.0,
        "modulation_regularity": 0.0,
        "activity_snr_db": 0.0,
        "activity_song_snr_db": 0.0,
        "activity_song_frame_share": 0.0,
        "activity_song_event_rate": 0.0,
        "activity_song_event_s": 0.0,
        "activity_song_share": 0.0,
        "spectral_dominant": 0.0,
        "spectral_band_flatness_mean": 1.0,
        "wave_rms_variation": 0.0,
        "index_aci": 0.0,
        "index_adi": math.log(15),
        "index_aei": 0.0,
        "index_ndsi": 0.0,
        "index_bio_anthro_ratio_db": 0.0,
        "index_bi": 0.0,
        "index_h": 1.0,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 0.5, 1e-6])
def test_constant_sound_is_finite_and_in_range(value):
    """A stuck converter gives numbers, not failures."""
    values = extract(np.full(5 * RATE_HZ, value))
    assert not out_of_range(values, columns_of(extractor_of()))


def test_clipping_is_counted():
    """Half of the samples at full scale are half of the window clipped."""
    samples = scene(5) * 0.5
    samples[: len(samples) // 2] = 1.0
    assert extract(samples)["wave_clipped_share"][0] == pytest.approx(0.5, abs=1e-4)


def trill(rate_hz: float, *, active: float = 1.0) -> np.ndarray:
    """Five seconds of a 4 kHz tone that beats at `rate_hz`, on faint noise, `[sample]`."""
    time_s = np.arange(5 * RATE_HZ) / RATE_HZ
    noise = np.random.default_rng(1).normal(0, 1e-3, len(time_s))
    beat = 0.5 - 0.5 * np.cos(2 * np.pi * rate_hz * time_s)
    tone = 0.3 * beat * np.sin(2 * np.pi * 4000 * time_s)
    return (tone * (time_s < 5 * active) + noise).astype(np.float32)


@pytest.mark.parametrize(("rate_hz", "band"), [(1.0, 0), (3.0, 1), (6.0, 2), (12.0, 3)])
def test_a_trill_is_heard_at_its_rate(rate_hz, band):
    """The modulation of most energy is the rate of the beat, and lies in its band."""
    row = {name: values[0] for name, values in extract(trill(rate_hz)).items()}
    bands = [row[f"modulation_{number:02d}"] for number in range(5)]
    assert int(np.argmax(bands)) == band
    if rate_hz >= 2:
        assert row["modulation_rate"] == pytest.approx(rate_hz, abs=0.2)
        assert row["modulation_regularity"] > 0.9
        assert row["spectral_dominant"] == pytest.approx(4000, abs=16)


def test_activity_counts_events_and_their_length():
    """Four bursts of .25 s within five seconds: their share, number, length and height."""
    time_s = np.arange(5 * RATE_HZ) / RATE_HZ
    noise = np.random.default_rng(1).normal(0, 1e-3, len(time_s))
    burst = (time_s % 1.25 > 0.5) & (time_s % 1.25 < 0.75)
    samples = noise + 0.3 * burst * np.sin(2 * np.pi * 4000 * time_s)
    row = {name: float(values[0]) for name, values in extract(samples).items()}
    assert row["activity_song_event_rate"] == pytest.approx(4 / 5, rel=0.01)
    # A frame of 64 ms sees a burst before it begins and after it ends.
    assert row["activity_song_event_s"] == pytest.approx(0.3, abs=0.03)
    assert row["activity_song_frame_share"] == pytest.approx(4 * 0.3 / 5, abs=0.03)
    noise_power = 1e-6 * (8000 - 1000) / (RATE_HZ / 2)
    snr_db = 10 * np.log10(0.045 / noise_power)
    assert row["activity_song_snr_db"] == pytest.approx(snr_db, abs=2)
    assert row["activity_song_share"] > 0.99


def test_real_recordings_lie_in_the_declared_ranges(real_data):
    """Every kind of real recording gives finite values within bounds."""
    files = [
        *sorted(real_data.glob("xc10/train_audio/*/*.mp3"))[::20],
        *sorted(real_data.glob("esc10/train_audio/*/*.ogg"))[::40],
        *sorted(real_data.glob("soundscapes/*/*.wav"))[::6],
    ]
    for path in files:
        assert not out_of_range(extract(hear(path)), columns_of(extractor_of())), path.name


def _pieces() -> st.SearchStrategy[np.ndarray]:
    """Any samples in [-1, 1], repeated and scaled into one to three short windows."""
    sample = st.floats(-1, 1, width=32) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-20])
    motif = hnp.arrays(np.float32, st.integers(1, 64), elements=sample)
    return st.builds(
        lambda first, second, count, cut: np.concatenate(
            [np.resize(first, cut), np.resize(second, count * 8000 - cut)]
        ),
        motif,
        motif,
        st.integers(1, 3),
        st.integers(0, 8000),
    )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # the first example imports librosa
@given(samples=_pieces())
def test_any_sound_gives_finite_values_in_the_declared_ranges(samples):
    """Whatever the samples in [-1, 1], no column leaves its range."""
    extractor = extractor_of(SHORT)
    values = extract(samples, SHORT)
    assert {len(v) for v in values.values()} == {len(samples) // 8000}
    assert not out_of_range(values, columns_of(extractor))
