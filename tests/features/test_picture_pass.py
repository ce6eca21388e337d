"""The pass of pictures: mel power of the exact pass, whatever the sizes and the transform."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.listening import scene

from birdstack.features.fused_pass import SpectralPass
from birdstack.features.fused_plan import FrontEnd
from birdstack.features.picture_pass import PicturePass, picture_pass, scipy_fourier

FRONT_ENDS = [
    FrontEnd(hop=500),
    FrontEnd(n_fft=1024, hop=320, n_mels=64, mel_fmin_hz=50, mel_fmax_hz=14000),
    FrontEnd(n_fft=1202, hop=500, n_mels=40),  # half of it is odd
    FrontEnd(sample_rate_hz=48000, n_fft=4096, hop=278, n_mels=96, mel_fmax_hz=3000),
    FrontEnd(n_fft=64, hop=64, n_mels=128),  # bands narrower than a bin: some are empty
]


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("n_samples", [160_000, 12_345, 4096, 100])
def test_mel_power_is_the_exact_passs(front_end, n_samples):
    """Within 5e-7 of the window's maximum, for whole blocks and for single rows."""
    samples = scene(5)[:n_samples]
    exact = SpectralPass(front_end)
    exact.transform(samples)
    rough = PicturePass(front_end)
    rough.transform(samples)
    assert (rough.mel.dtype, rough.mel.shape) == (np.float32, exact.mel.shape)
    assert exact.mel.max() > 0
    np.testing.assert_allclose(rough.mel, exact.mel, rtol=2e-6, atol=5e-7 * exact.mel.max())


def test_windows_of_any_length_follow_each_other():
    """Nothing of a longer window before is left in a shorter one."""
    own = PicturePass(FrontEnd())
    for n_samples in (160_000, 40_000, 161_000, 40_000):
        samples = scene(6)[:n_samples]
        fresh = PicturePass(FrontEnd())
        fresh.transform(samples)
        own.transform(samples)
        np.testing.assert_array_equal(own.mel, fresh.mel)
        assert own.n_frames == own.mel.shape[1] == 1 + n_samples // 512


def test_the_samples_are_left_alone():
    """Frames are cut from them, not transformed in place."""
    samples = scene(5)
    before = samples.copy()
    PicturePass(FrontEnd()).transform(samples)
    np.testing.assert_array_equal(samples, before)


def test_each_thread_has_its_own_pass():
    """Buffers are never shared; within a thread the pass is kept, one for each transform."""
    mine = picture_pass(FrontEnd())
    assert picture_pass(FrontEnd()) is mine
    assert picture_pass(FrontEnd(), lambda rows: scipy_fourier(rows)) is not mine  # noqa: PLW0108 - another one
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(picture_pass, FrontEnd()).result() is not mine
