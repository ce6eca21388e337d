"""The acoustic view equals librosa, function by function, and scikit-maad, index by index."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from birdstack.features import pcen
from birdstack.features.acoustic import AcousticConfig, AcousticExtractor, flat
from birdstack.features.audio import AudioConfig, AudioSource, Sound
from birdstack.features.spectrum import HeardWindow
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording

RATE_HZ = 32000
FFT = {"n_fft": 2048, "hop_length": 512}
CONFIG = AcousticConfig()
GRID = WindowGrid()
ALL = ("mean", "std", "p05", "p50", "p95")
SYNTHETIC = ("silence", "noise", "song", "clipped", "half_silent", "faint")
REAL = {
    "xc10": "xc10/train_audio/*/*.mp3",
    "esc10": "esc10/train_audio/rooster/*.ogg",
    "soundscape": "soundscapes/unlabeled_soundscapes/*_050000.wav",
}


def synthetic(kind: str) -> np.ndarray:
    """Five seconds of made-up sound, `[sample]` float32."""
    rng = np.random.default_rng(7)
    time_s = np.arange(5 * RATE_HZ) / RATE_HZ
    noise = rng.normal(0, 0.05, len(time_s))
    song = 0.4 * np.sin(2 * np.pi * (3000 * time_s + 400 * np.sin(2 * np.pi * 6 * time_s)))
    samples = {
        "noise": noise,
        "song": song * (np.sin(2 * np.pi * 1.5 * time_s) > 0) + noise / 50,
        "silence": np.zeros_like(noise),
        "clipped": np.clip(60 * noise, -1, 1),
        "half_silent": np.where(time_s < 2.5, noise, 0.0),
        "faint": noise / 5000,
    }[kind]
    return samples.astype(np.float32)


Heard = tuple[np.ndarray, dict[str, float]]


def measured(kind: str, request: pytest.FixtureRequest) -> Heard:
    """The samples of one window, and its row of the view."""
    if kind in REAL:
        folder: Path = request.getfixturevalue("real_data")
        path = min(folder.glob(REAL[kind]))
        content_hash = hashlib.sha256(path.read_bytes()).hexdigest()
        with AudioSource(AudioConfig(isolate=False), GRID) as source:
            samples = source.open(Recording("real", path, content_hash)).window(0)
    else:
        samples = synthetic(kind)
    sound = Sound(samples, RATE_HZ, GRID)
    extractor = AcousticExtractor(CONFIG, {"sample_rate_hz": RATE_HZ}, GRID)
    views = [spec.name for spec in extractor.specs]
    columns = flat(extractor.extract(sound, Recording("window", Path("window.wav"), ""), views))
    # librosa computes in the precision of its input: float64, as the view does.
    return samples.astype(np.float64), {name: float(v[0]) for name, v in columns.items()}


@pytest.fixture(scope="module", params=[*SYNTHETIC, *REAL])
def heard(request) -> Heard:
    """Every sound."""
    return measured(request.param, request)


@pytest.fixture(scope="module", params=[*SYNTHETIC[1:], *REAL])
def sounding(request) -> Heard:
    """Every sound but silence, whose maximum scikit-maad divides by."""
    return measured(request.param, request)


def statistics_of(name: str, series: np.ndarray, wanted=ALL) -> dict[str, float]:
    """Statistics of a series of frames, written anew."""
    ordered = {"p05": 0.05, "p50": 0.5, "p95": 0.95}
    found = {}
    for statistic in wanted:
        if statistic in ordered:
            found[f"{name}_{statistic}"] = float(np.quantile(series, ordered[statistic]))
        else:
            found[f"{name}_{statistic}"] = float(getattr(np, statistic)(series))
    return found


def rows_of(name: str, rows: np.ndarray, wanted=("mean", "std")) -> dict[str, float]:
    """Statistics of numbered rows."""
    found = {}
    for number, row in enumerate(rows):
        found |= statistics_of(f"{name}_{number:02d}", row, wanted)
    return found


def assert_equal(
    actual: Mapping[str, float], expected: Mapping[str, float], *, atol: float = 1e-6
) -> None:
    """Equal to 1e-5 of the value: float32 keeps 6e-8, summing in another order the rest."""
    assert expected
    wrong = {
        name: (actual[name], value)
        for name, value in expected.items()
        if not np.isclose(actual[name], value, rtol=1e-5, atol=atol)
    }
    assert not wrong


def kept(row: Mapping[str, float], expected: Mapping[str, float]) -> dict[str, float]:
    """The expected statistics that the view has: redundant ones were dropped."""
    return {name: value for name, value in expected.items() if name in row}


def test_mfcc_and_deltas_equal_librosa(heard):
    """Cepstral coefficients and their derivatives are librosa's."""
    import librosa

    samples, row = heard
    mfcc = librosa.feature.mfcc(y=samples, sr=RATE_HZ, n_mfcc=20, **FFT)
    expected = rows_of("mfcc", mfcc)
    expected |= rows_of("mfcc_delta", librosa.feature.delta(mfcc), ("std",))
    expected |= rows_of("mfcc_delta2", librosa.feature.delta(mfcc, order=2), ("std",))
    # librosa's mel weights are float32: 1e-7 of a power is 4e-7 dB, times sqrt(128) in the DCT.
    assert_equal(row, expected, atol=2e-5)


def test_spectral_shape_equals_librosa(heard):
    """Centroid, bandwidth, rolloff and flatness are librosa's."""
    from librosa import feature

    samples, row = heard
    sound = {"y": samples, "sr": RATE_HZ, **FFT}
    expected = statistics_of("spectral_centroid", feature.spectral_centroid(**sound)[0])
    expected |= statistics_of("spectral_bandwidth", feature.spectral_bandwidth(**sound)[0])
    for percent in (85, 95):
        rolloff = feature.spectral_rolloff(**sound, roll_percent=percent / 100)[0]
        expected |= statistics_of(f"spectral_rolloff{percent}", rolloff)
    flatness = feature.spectral_flatness(y=samples, **FFT)[0]
    expected |= statistics_of("spectral_flatness", flatness)
    assert len(kept(row, expected)) == len(expected) - 2  # centroid_p50, flatness_std
    assert_equal(row, kept(row, expected))


def test_band_flatness_equals_librosa_of_the_band(heard):
    """Band flatness is librosa's of the rows from 300 Hz to 15 kHz, at any level."""
    import librosa

    samples, row = heard
    frequencies = librosa.fft_frequencies(sr=RATE_HZ, n_fft=2048)
    magnitude = np.abs(librosa.stft(samples, **FFT))[(frequencies >= 300) & (frequencies <= 15000)]
    mean = (magnitude**2).mean(axis=0)
    scaled = np.where(mean > 0, magnitude / np.sqrt(np.where(mean > 0, mean, 1)), 1.0)
    flatness = librosa.feature.spectral_flatness(S=scaled, amin=1e-8)[0]
    assert_equal(row, {"spectral_band_flatness_mean": float(flatness.mean())})


def test_contrast_equals_librosa_below_its_limit(heard):
    """Contrast is librosa's of the spectrogram cut at 12.8 kHz."""
    import librosa

    samples, row = heard
    frequencies = librosa.fft_frequencies(sr=RATE_HZ, n_fft=2048)
    kept = frequencies <= 12800
    magnitude = np.abs(librosa.stft(samples, **FFT))[kept]
    contrast = librosa.feature.spectral_contrast(
        S=magnitude, sr=RATE_HZ, freq=frequencies[kept], fmin=200, n_bands=6
    )
    assert_equal(row, rows_of("contrast", contrast))


def test_contrast_below_its_top_band_equals_librosa_of_the_waveform(heard):
    """The cut leaves librosa's own values in every band but the highest."""
    import librosa

    samples, row = heard
    contrast = librosa.feature.spectral_contrast(y=samples, sr=RATE_HZ, **FFT)
    assert_equal(row, rows_of("contrast", contrast[:6]))


def test_onset_strength_equals_librosa(heard):
    """Onset strength is librosa's, its delay included."""
    import librosa

    samples, row = heard
    strength = librosa.onset.onset_strength(y=samples, sr=RATE_HZ, **FFT)
    assert_equal(row, statistics_of("onset_strength", strength))


def test_log_mel_bands_equal_librosa(heard):
    """Log-mel columns are means of eight neighbouring bands of librosa's."""
    import librosa

    samples, row = heard
    mel = librosa.feature.melspectrogram(y=samples, sr=RATE_HZ, **FFT)
    decibel = librosa.power_to_db(mel).reshape(16, 8, -1).mean(axis=1)
    assert_equal(row, rows_of("logmel", decibel, ("std",)), atol=1e-5)
    relative = librosa.power_to_db(mel, ref=np.max, amin=1e-30)
    shape = (relative - relative.mean()).reshape(16, 8, -1).mean(axis=1)
    assert_equal(row, rows_of("logmel_shape", shape, ("mean",)), atol=1e-5)


def test_pcen_equals_its_recursion_from_the_mean_of_its_start(heard):
    """PCEN follows Wang et al. 2017, written as a loop over frames."""
    import librosa

    samples, row = heard
    energy = librosa.feature.melspectrogram(y=samples, sr=RATE_HZ, **FFT) * 2.0**31
    b = pcen.smoothing(512, RATE_HZ)
    smooth = energy[:, 2:27].mean(axis=1)  # .4 s, without the frames that hold padding
    frames = []
    for frame in energy.T:
        smooth = b * frame + (1 - b) * smooth
        frames.append((frame / (1e-6 + smooth) ** 0.98 + 2) ** 0.5 - 2**0.5)
    grouped = np.array(frames).T.reshape(16, 8, -1).mean(axis=1)
    assert_equal(row, rows_of("pcen", grouped))


def test_pcen_equals_librosa_once_the_start_is_forgotten():
    """After five seconds librosa's own starting state has decayed; the values agree."""
    import librosa

    mel = librosa.feature.melspectrogram(
        y=np.tile(synthetic("noise"), 2).astype(np.float64), sr=RATE_HZ, **FFT
    )
    ours, _ = pcen.normalise(
        mel, None, config=CONFIG, sample_rate_hz=RATE_HZ, frames_to_next=mel.shape[1]
    )
    theirs = librosa.pcen(mel * 2.0**31, sr=RATE_HZ, hop_length=512)
    np.testing.assert_allclose(ours[:, 320:], theirs[:, 320:], rtol=1e-4)
    assert not np.allclose(ours[:, :20], theirs[:, :20], rtol=0.1)


CROSSINGS_SCRIPT = """
import sys
import numpy as np, librosa
samples = np.load(sys.argv[1])
rates = [librosa.feature.zero_crossing_rate(y, frame_length=2048, hop_length=512)[0] for y in samples]
roots = [librosa.feature.rms(y=y, frame_length=2048, hop_length=512, dtype=np.float64)[0] for y in samples]
np.savez(sys.argv[2], rates=rates, roots=roots)
"""


@pytest.mark.slow
def test_zero_crossings_and_rms_equal_librosa(tmp_path):
    """Both equal librosa's, which runs apart: its kernels need a numba cache of their own."""
    from birdstack.features import waveform

    def window_of(samples: np.ndarray) -> HeardWindow:
        return HeardWindow(samples, config=CONFIG, sample_rate_hz=RATE_HZ)

    sounds = np.stack([synthetic(kind) for kind in SYNTHETIC]).astype(np.float64)
    np.save(tmp_path / "sounds.npy", sounds)
    subprocess.run(
        [sys.executable, "-c", CROSSINGS_SCRIPT, tmp_path / "sounds.npy", tmp_path / "out.npz"],
        check=True,
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "numba")},
    )
    expected = np.load(tmp_path / "out.npz")
    rates = np.stack([waveform.wave_zcr(window_of(samples)) for samples in sounds])
    roots = np.stack([waveform.wave_rms(window_of(samples)) for samples in sounds])
    np.testing.assert_array_equal(rates, expected["rates"])
    np.testing.assert_allclose(roots, expected["roots"], rtol=1e-9)


# --- scikit-maad -------------------------------------------------------------------------


def maad_features():
    """scikit-maad's features; importing it warns of others' deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from maad import features

    return features


def maad_entropy(weights: np.ndarray) -> float:
    """scikit-maad's normalised entropy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from maad.util import entropy

    return float(entropy(weights))


@pytest.fixture
def spectra(sounding) -> HeardWindow:
    """The transform of the window."""
    return HeardWindow(sounding[0], config=CONFIG, sample_rate_hz=RATE_HZ)


def band(spectra: HeardWindow) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies and magnitudes from 300 Hz to 15 kHz."""
    kept = (spectra.frequencies_hz >= 300) & (spectra.frequencies_hz <= 15000)
    return spectra.frequencies_hz[kept], spectra.magnitude[kept]


def test_aci_equals_maad_in_the_band(sounding, spectra):
    """ACI is scikit-maad's of the spectrogram cut to the band."""
    _, magnitude = band(spectra)
    _, _, expected = maad_features().acoustic_complexity_index(magnitude)
    assert_equal(sounding[1], {"index_aci": expected})


def test_adi_and_aei_equal_maad_in_the_band(sounding, spectra):
    """ADI and AEI are scikit-maad's of the cut spectrogram, in bands from 0 to 15 kHz."""
    maad = maad_features()
    frequencies, magnitude = band(spectra)
    limits = {"fmin": 0, "fmax": 15000}
    adi = maad.acoustic_diversity_index(magnitude, frequencies, bin_step=1000, **limits)
    aei = maad.acoustic_eveness_index(magnitude, frequencies, bin_step=500, **limits)
    assert_equal(sounding[1], {"index_adi": adi, "index_aei": aei})


def test_ndsi_equals_maad_with_kastens_bands(sounding, spectra):
    """NDSI compares 2-11 kHz with 1-2 kHz, which scikit-maad names by lower edges."""
    ndsi, ratio, anthrophony, biophony = maad_features().soundscape_index(
        spectra.power,
        spectra.frequencies_hz,
        flim_bioPh=(2000, 10000),
        flim_antroPh=(1000, 1000),
        R_compatible=None,
    )
    assert_equal(
        sounding[1], {"index_ndsi": ndsi, "index_bio_anthro_ratio_db": 10 * np.log10(ratio)}
    )
    frequencies = spectra.frequencies_hz
    inside = (frequencies >= 1000) & (frequencies < 2000)
    assert anthrophony == pytest.approx(spectra.power[inside].sum())
    inside = (frequencies >= 2000) & (frequencies < 11000)
    assert biophony == pytest.approx(spectra.power[inside].sum())


def test_bi_equals_maad(sounding, spectra):
    """BI is scikit-maad's as in soundecology, cut spectrogram or not."""
    frequencies, magnitude = band(spectra)
    maad = maad_features()
    cut = maad.bioacoustics_index(magnitude, frequencies)
    whole = maad.bioacoustics_index(spectra.magnitude, spectra.frequencies_hz)
    assert_equal(sounding[1], {"index_bi": cut})
    assert cut == pytest.approx(whole, rel=1e-9)


def test_entropies_equal_maad_in_the_band(sounding, spectra):
    """Hf is scikit-maad's of the cut power; Ht its entropy of the frames' power."""
    _, magnitude = band(spectra)
    hf, _ = maad_features().frequency_entropy(magnitude**2)
    ht = maad_entropy((magnitude**2).sum(axis=0))
    assert_equal(sounding[1], {"index_hf": hf, "index_ht": ht, "index_h": hf * ht})
