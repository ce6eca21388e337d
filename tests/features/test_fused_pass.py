"""The shared spectral pass: spectra and pictures equal to librosa's and scipy's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pydantic import ValidationError
from support.listening import RATE_HZ, hear, scene

from birdstack.features.fused_pass import SpectralPass, thread_pass
from birdstack.features.fused_plan import FrontEnd, hann, mel_weights

FRONT_ENDS = [
    FrontEnd(),
    FrontEnd(n_fft=1024, hop=320, n_mels=64, mel_fmin_hz=50, mel_fmax_hz=14000),
    FrontEnd(n_fft=1200, hop=500, n_mels=40),
    FrontEnd(sample_rate_hz=48000, n_fft=4096, hop=278, n_mels=96, mel_fmax_hz=3000),
    FrontEnd(n_fft=64, hop=64, n_mels=128),  # bands narrower than a bin: some are empty
]


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.filterwarnings("ignore:Empty filters")
def test_filters_are_librosas(front_end):
    """Slaney's bands, without importing librosa."""
    import librosa

    expected = librosa.filters.mel(
        sr=front_end.sample_rate_hz,
        n_fft=front_end.n_fft,
        n_mels=front_end.n_mels,
        fmin=front_end.mel_fmin_hz,
        fmax=front_end.mel_fmax_hz,
        dtype=np.float64,
    )
    np.testing.assert_allclose(mel_weights(front_end), expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("n_fft", [64, 1200, 2048])
def test_the_window_is_scipys(n_fft):
    """Periodic Hann."""
    import scipy.signal

    expected = scipy.signal.get_window("hann", n_fft, fftbins=True)
    np.testing.assert_allclose(hann(n_fft), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("n_samples", [160_000, 12_345, 4096])
def test_spectra_are_librosas(front_end, n_samples):
    """Power, magnitude and mel of one transform, whatever the sizes."""
    import librosa

    samples = scene(5)[:n_samples]
    own = SpectralPass(front_end)
    own.transform(samples)
    stft = librosa.stft(samples.astype(np.float64), n_fft=front_end.n_fft, hop_length=front_end.hop)
    magnitude = np.abs(stft)
    assert own.n_frames == magnitude.shape[1]
    np.testing.assert_allclose(own.magnitude, magnitude, rtol=1e-6, atol=1e-11)
    np.testing.assert_allclose(own.power, magnitude**2, rtol=1e-6, atol=1e-15)
    mel = mel_weights(front_end) @ magnitude**2
    np.testing.assert_allclose(own.mel, mel, rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize(("precision", "atol_db"), [("float64", 1e-4), ("float32", 0.01)])
def test_pictures_are_librosas(real_data, precision, atol_db):
    """Log-mel pictures of real sound, in both precisions."""
    import librosa

    samples = hear(sorted(real_data.glob("soundscapes/*/*.wav"))[3])[: 5 * RATE_HZ]
    mel = librosa.feature.melspectrogram(
        y=samples.astype(np.float64), sr=RATE_HZ, n_fft=2048, hop_length=512
    )
    own = SpectralPass(FrontEnd(), precision)
    picture = own.log_mel(samples)
    assert (picture.dtype, picture.shape) == (np.float32, (128, 313))
    np.testing.assert_allclose(picture, librosa.power_to_db(mel, ref=np.max), rtol=0, atol=atol_db)
    np.testing.assert_allclose(
        own.log_mel(relative=False), librosa.power_to_db(mel), rtol=0, atol=atol_db
    )


def test_a_picture_is_kept_when_the_pass_moves_on():
    """What log_mel returns is a copy; None takes the window transformed last."""
    own = SpectralPass(FrontEnd())
    first = own.log_mel(scene(5))
    kept = first.copy()
    np.testing.assert_array_equal(own.log_mel(), kept)
    own.log_mel(scene(5, seed=9))
    np.testing.assert_array_equal(first, kept)


def test_windows_of_any_length_follow_each_other():
    """Buffers are made anew, not read stale, when the length changes."""
    own = SpectralPass(FrontEnd())
    for n_samples in (160_000, 40_000, 161_000, 40_000):
        samples = scene(6)[:n_samples]
        expected = SpectralPass(FrontEnd()).log_mel(samples)
        np.testing.assert_array_equal(own.log_mel(samples), expected)


def test_silence_has_a_picture():
    """Digital silence is 0 dB below its own maximum, at -100 dB."""
    own = SpectralPass(FrontEnd())
    assert not own.log_mel(np.zeros(160_000)).any()
    assert (own.log_mel(relative=False) == -100.0).all()


def test_each_thread_has_its_own_pass():
    """Buffers are never shared; within a thread the pass is kept."""
    mine = thread_pass(FrontEnd())
    assert thread_pass(FrontEnd()) is mine
    assert thread_pass(FrontEnd(), "float32") is not mine
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(thread_pass, FrontEnd()).result() is not mine


def test_bands_that_do_not_fit_are_refused():
    """A front end names its limits."""
    with pytest.raises(ValidationError, match="mel_fmax_hz=16000 at 22050 Hz"):
        FrontEnd(sample_rate_hz=22050)
