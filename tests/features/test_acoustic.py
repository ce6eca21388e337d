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
from support.listening import AUDIO, GRID, RATE_HZ, RECORDING, extract, extractor_of, hear, scene

from birdstack.features.acoustic import GROUPS, AcousticConfig, AcousticExtractor
from birdstack.features.audio import Sound
from birdstack.store.errors import ConfigError
from birdstack.store.keys import WindowGrid
from birdstack.store.views import Column, canonical_json

SHORT = WindowGrid(window_s=0.25, hop_s=0.25)
GOLDEN = Path(__file__).parent.parent / "golden" / "acoustic_columns.txt"


def out_of_range(values: dict[str, np.ndarray], columns: tuple[Column, ...]) -> dict[str, list]:
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
    assert extractor_of().spec.column_names == GOLDEN.read_text().split()


def test_every_column_is_described_and_named_after_its_group():
    """A column says what it is, and begins with one of the groups."""
    for column in extractor_of().spec.columns:
        assert column.name.split("_")[0] in GROUPS
        assert len(column.description) > 20
        assert column.dtype == "float32"


def test_groups_can_be_chosen_and_keep_their_order():
    """Fewer groups give fewer columns, in the order of the whole view."""
    some = extractor_of(groups=("index", "mfcc")).spec
    assert some.column_names[0] == "mfcc_00_mean"
    assert some.column_names[-1] == "index_h"
    assert some.recipe_hash == extractor_of(groups=("mfcc", "index")).spec.recipe_hash
    assert some.recipe_hash != extractor_of().spec.recipe_hash


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_alone_gives_the_values_it_has_in_the_whole_view(group):
    """No group leans on another."""
    samples = scene(5)
    whole, alone = extract(samples), extract(samples, groups=(group,))
    assert list(alone) == extractor_of(groups=(group,)).spec.column_names
    for name, values in alone.items():
        np.testing.assert_array_equal(values, whole[name])


def test_recipe_determines_the_numbers():
    """Parameters, audio and grid enter the recipe, which is plain JSON."""
    spec = extractor_of().spec
    assert spec.recipe["implementation"] == "reference"
    assert spec.recipe["audio"] == AUDIO
    assert canonical_json(spec.recipe)
    other = AcousticExtractor(AcousticConfig(), AUDIO | {"mono": "left"}, GRID).spec
    hashes = {spec.recipe_hash, other.recipe_hash, extractor_of(hop=256).spec.recipe_hash}
    hashes.add(extractor_of(SHORT).spec.recipe_hash)
    assert len(hashes) == 4


def test_asking_for_the_spec_imports_no_heavy_library():
    """A command that only plans stays quick."""
    script = (
        "import sys\n"
        "from birdstack.features.acoustic import AcousticConfig, AcousticExtractor\n"
        "from birdstack.store.keys import WindowGrid\n"
        "AcousticExtractor(AcousticConfig(), {'sample_rate_hz': 32000}, WindowGrid()).spec\n"
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
        extractor_of().extract(sound, RECORDING)


# --- values --------------------------------------------------------------------------------


def test_a_recording_without_windows_gives_empty_columns():
    """No window, no row; the columns are there."""
    values = extract(np.zeros(100))
    assert list(values) == extractor_of().spec.column_names
    assert {(v.shape, v.dtype.str) for v in values.values()} == {((0,), "<f4")}


def test_silence_is_defined():
    """Digital silence: levels at the floor, entropies at their maximum, the rest 0."""
    row = {name: float(values[0]) for name, values in extract(np.zeros(5 * RATE_HZ)).items()}
    expected = {
        "mfcc_01_mean": 0.0,
        "spectral_centroid_p50": 0.0,
        "spectral_flatness_mean": 1.0,
        "wave_level_db": -100.0,
        "wave_level_relative_db": 0.0,
        "wave_crest_db": 0.0,
        "logmel_00_mean": -100.0,
        "logmel_shape_00_mean": 0.0,
        "pcen_00_mean": 0.0,
        "onset_periodicity": 0.0,
        "activity_snr_db": 0.0,
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
    assert not out_of_range(values, extractor_of().spec.columns)


def test_clipping_is_counted():
    """Half of the samples at full scale are half of the window clipped."""
    samples = scene(5) * 0.5
    samples[: len(samples) // 2] = 1.0
    assert extract(samples)["wave_clipped_share"][0] == pytest.approx(0.5, abs=1e-4)


def test_real_recordings_lie_in_the_declared_ranges(real_data):
    """Every kind of real recording gives finite values within bounds."""
    files = [
        *sorted(real_data.glob("xc10/train_audio/*/*.mp3"))[::20],
        *sorted(real_data.glob("esc10/train_audio/*/*.ogg"))[::40],
        *sorted(real_data.glob("soundscapes/*/*.wav"))[::6],
    ]
    for path in files:
        assert not out_of_range(extract(hear(path)), extractor_of().spec.columns), path.name


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
    assert not out_of_range(values, extractor.spec.columns)
