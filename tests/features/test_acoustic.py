"""The acoustic view as a whole: its spec, its order, its behaviour over a recording."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from birdstack.features.acoustic import GROUPS, AcousticConfig, AcousticExtractor
from birdstack.features.audio import AudioConfig, AudioSource, Sound
from birdstack.store.errors import ConfigError
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording
from birdstack.store.views import Column, canonical_json

RATE_HZ = 32000
AUDIO = {"sample_rate_hz": RATE_HZ}
GRID = WindowGrid()
SHORT = WindowGrid(window_s=0.25, hop_s=0.25)
RECORDING = Recording("train_audio/asbfly/XC1.ogg", Path("XC1.ogg"), "")
GOLDEN = Path(__file__).parent.parent / "golden" / "acoustic_columns.txt"


def extractor_of(grid: WindowGrid = GRID, **settings_) -> AcousticExtractor:
    """An extractor at 32 kHz."""
    return AcousticExtractor(AcousticConfig(**settings_), AUDIO, grid)


def extract(samples, grid: WindowGrid = GRID, **settings_) -> dict[str, np.ndarray]:
    """The view of `samples`."""
    sound = Sound(np.asarray(samples, dtype=np.float32), RATE_HZ, grid)
    return extractor_of(grid, **settings_).extract(sound, RECORDING)


def hear(path: Path) -> np.ndarray:
    """A real recording at 32 kHz, `[sample]`."""
    content_hash = hashlib.sha256(path.read_bytes()).hexdigest()
    with AudioSource(AudioConfig(isolate=False), GRID) as source:
        return np.asarray(source.open(Recording(path.name, path, content_hash)).samples)


def scene(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise that swells, with calls in it: `[sample]` float32, peaks near .5."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    noise = rng.normal(0, 0.02, len(time_s)) * (1.5 + np.sin(2 * np.pi * 0.07 * time_s))
    gate = np.sin(2 * np.pi * 0.9 * time_s) > 0.6
    call = 0.3 * gate * np.sin(2 * np.pi * (4000 * time_s + 300 * np.sin(9 * time_s)))
    return (noise + call).astype(np.float32)


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


# --- over a recording ----------------------------------------------------------------------


def test_threads_share_one_extractor():
    """Recordings heard at once come out as if heard one by one."""
    sounds = [Sound(scene(10, seed), RATE_HZ, GRID) for seed in range(4)]
    extractor = extractor_of()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda sound: extractor.extract(sound, RECORDING), sounds))
    for sound, values in zip(sounds, together, strict=True):
        alone = extractor_of().extract(sound, RECORDING)
        for name in alone:
            np.testing.assert_array_equal(values[name], alone[name])


def test_only_pcen_and_relative_level_know_the_neighbours():
    """Every other column of a window depends on that window alone."""
    samples = scene(15)
    whole, alone = extract(samples), extract(samples[5 * RATE_HZ : 10 * RATE_HZ])
    differ = {name.split("_")[0] for name in whole if whole[name][1] != alone[name][0]}
    assert differ == {"pcen", "wave"}
    assert whole["wave_level_db"][1] == alone["wave_level_db"][0]


def test_windows_that_overlap_hand_on_the_state_at_their_start():
    """Half-overlapping windows carry PCEN as closely as disjoint ones: same sound, same value."""
    samples = scene(20)
    disjoint = extract(samples, groups=("pcen",))
    overlapping = extract(samples, WindowGrid(window_s=5.0, hop_s=2.5), groups=("pcen",))
    for name, values in disjoint.items():
        np.testing.assert_allclose(overlapping[name][::2], values, rtol=0.05, atol=0.01)


def librosa_pcen(samples: np.ndarray) -> dict[str, float]:
    """PCEN means of the second window alone, from librosa's fixed state."""
    import librosa

    window = samples[5 * RATE_HZ : 10 * RATE_HZ].astype(np.float64)
    mel = librosa.feature.melspectrogram(y=window, sr=RATE_HZ, n_fft=2048, hop_length=512)
    bands = librosa.pcen(mel * 2.0**31, sr=RATE_HZ, hop_length=512).reshape(16, 8, -1)
    return {f"pcen_{band:02d}_mean": float(value.mean()) for band, value in enumerate(bands)}


def shift_moves(samples: np.ndarray) -> tuple[float, float, float]:
    """Mean move of the PCEN means of the second window under a shift of 8 ms.

    Returns:
        Carried over the recording; restarted as at a recording's start; restarted as
        librosa does.
    """
    shift = round(0.008 * RATE_HZ)
    samples = np.pad(samples, (0, shift))
    here, there = samples[:-shift], samples[shift:]
    rows = [
        (
            {name: values[1] for name, values in extract(sound, groups=("pcen",)).items()},
            {
                name: values[0]
                for name, values in extract(sound[5 * RATE_HZ :], groups=("pcen",)).items()
            },
            librosa_pcen(sound),
        )
        for sound in (here, there)
    ]
    names = librosa_pcen(here).keys()
    carried, restarted, fixed = (
        float(np.mean([abs(before[name] - after[name]) for name in names]))
        for before, after in zip(*rows, strict=True)
    )
    return carried, restarted, fixed


def test_pcen_moves_less_under_a_shift_than_restarted_windows_do():
    """Where a window is cut matters less once no window starts from librosa's fixed state."""
    moves = np.mean([shift_moves(scene(10, seed)) for seed in range(6)], axis=0)
    carried, restarted, fixed = moves
    assert carried < 0.8 * fixed
    assert restarted < 0.8 * fixed


def test_pcen_of_real_soundscapes_moves_less_under_a_shift(real_data):
    """The same over a real day."""
    paths = sorted(real_data.glob("soundscapes/*/*.wav"))[::3]
    found = [shift_moves(hear(path)) for path in paths]
    carried, restarted, fixed = np.mean(found, axis=0)
    assert carried < 0.8 * fixed
    assert restarted < 0.8 * fixed


# --- gain ----------------------------------------------------------------------------------

FOLLOWS_GAIN = ("logmel_", "wave_rms_", "wave_level_db", "mfcc_00_mean", "pcen_")
INVARIANT = ("logmel_shape_", "activity_", "index_", "onset_modulation_", "wave_crest_db")
INVARIANT += ("wave_level_relative_db", "spectral_centroid_", "spectral_rolloff")


def test_gain_leaves_the_level_invariant_columns():
    """At -20 dB only columns of level move; the level-invariant ones do not."""
    samples = scene(15)
    loud, soft = extract(samples), extract(samples * np.float32(0.1))
    for name, values in loud.items():
        if name.startswith(INVARIANT):
            np.testing.assert_allclose(soft[name], values, rtol=1e-4, atol=1e-4, err_msg=name)
        elif name.startswith(("pcen_",)):
            # E / M^.98 leaves E^.02: 20 dB are a factor 100^.02 = 1.10 before the root.
            np.testing.assert_allclose(soft[name], values, rtol=0.12, err_msg=name)
        elif not name.startswith(FOLLOWS_GAIN):
            np.testing.assert_allclose(soft[name], values, rtol=2e-3, atol=2e-3, err_msg=name)
    np.testing.assert_allclose(soft["wave_level_db"], loud["wave_level_db"] - 20, atol=1e-3)
    np.testing.assert_allclose(soft["logmel_05_mean"], loud["logmel_05_mean"] - 20, atol=1e-3)


def test_gain_leaves_the_level_invariant_columns_of_real_sound(real_data):
    """The columns that claim it keep it where librosa's absolute floors bite others."""
    samples = hear(min(real_data.glob("soundscapes/*/*_060000.wav")))
    loud, soft = extract(samples), extract(samples * np.float32(0.1))
    for name, values in loud.items():
        if name.startswith(INVARIANT):
            np.testing.assert_allclose(soft[name], values, rtol=1e-3, atol=1e-3, err_msg=name)


# --- numba ---------------------------------------------------------------------------------

REFUSE_SCRIPT = """
import sys
import numpy as np
import librosa, librosa.feature, librosa.onset
from numba.core.dispatcher import Dispatcher
from numba.np.ufunc.dufunc import DUFunc
from numba.np.ufunc.gufunc import GUFunc

def refuse(*args, **kwargs):
    raise RuntimeError("a numba kernel was called")

refused = 0
for name, module in list(sys.modules.items()):
    if name.startswith("librosa"):
        for attribute, value in list(vars(module).items()):
            if isinstance(value, (Dispatcher, DUFunc, GUFunc)):
                setattr(module, attribute, refuse)
                refused += 1

from pathlib import Path
from birdstack.features.acoustic import AcousticConfig, AcousticExtractor
from birdstack.features.audio import Sound
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording
grid = WindowGrid()
samples = np.random.default_rng(0).normal(0, .1, 320000).astype(np.float32)
extractor = AcousticExtractor(AcousticConfig(), {"sample_rate_hz": 32000}, grid)
extractor.extract(Sound(samples, 32000, grid), Recording("r", Path("r"), ""))
try:
    librosa.feature.zero_crossing_rate(samples)
except RuntimeError:
    print(refused)
"""


def test_no_numba_kernel_is_called():
    """With every numba kernel of librosa broken, the extractor still runs."""
    done = subprocess.run(
        [sys.executable, "-c", REFUSE_SCRIPT], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 10
