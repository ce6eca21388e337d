"""The acoustic view over whole recordings: threads, neighbours, shift, gain, kernels."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from support.listening import GRID, RATE_HZ, extract, extract_all, extractor_of, hear, scene

from birdstack.features.audio import Sound
from birdstack.store.keys import WindowGrid


def test_threads_share_one_extractor():
    """Recordings heard at once come out as if heard one by one."""
    sounds = [Sound(scene(10, seed), RATE_HZ, GRID) for seed in range(4)]
    extractor = extractor_of()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda sound: extract_all(extractor, sound), sounds))
    for sound, values in zip(sounds, together, strict=True):
        alone = extract_all(extractor_of(), sound)
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

FOLLOWS_GAIN = ("wave_rms_", "wave_level_db", "mfcc_00_mean", "pcen_")
INVARIANT = ("logmel_shape_", "activity_", "index_", "modulation_", "wave_crest_db")
INVARIANT += ("wave_level_relative_db", "wave_rms_variation", "spectral_centroid_")
INVARIANT += ("spectral_rolloff", "spectral_band_flatness_", "spectral_dominant")


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
    levels = soft["mfcc_00_mean"], loud["mfcc_00_mean"]  # sqrt(128) times the mean of 128 bands
    np.testing.assert_allclose(levels[0], levels[1] - 20 * np.sqrt(128), atol=1e-2)


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
views = [spec.name for spec in extractor.specs]
extractor.extract(Sound(samples, 32000, grid), Recording("r", Path("r"), ""), views)
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
