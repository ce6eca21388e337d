"""The transform of pictures: torch's where it is, scipy's where it is not, the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from birdstack.embeddings import fourier
from birdstack.features.picture_pass import scipy_fourier


@pytest.fixture
def chosen_anew():
    """The choice is made once a process; here it may be made again."""
    fourier.fastest_fourier.cache_clear()
    yield
    fourier.fastest_fourier.cache_clear()


def rows() -> np.ndarray:
    """Complex noise `[row, point]`."""
    parts = np.random.default_rng(0).normal(size=(5, 2048)).astype(np.float32)
    return parts.view(np.complex64)


@pytest.mark.parametrize("threads", [1, 2])
def test_torchs_is_numpys(threads, chosen_anew):
    """Within what float32 holds; torch's number of threads is as before."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        transform = fourier.fastest_fourier()
        assert transform is not scipy_fourier
        found = transform(rows())
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert (found.dtype, found.shape) == (np.complex64, (5, 1024))
    expected = np.fft.fft(rows().astype(np.complex128))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_without_torch_it_is_scipys(monkeypatch, chosen_anew):
    """Pictures need no torch."""
    monkeypatch.setattr(fourier, "has", lambda _module: False)
    assert fourier.fastest_fourier() is scipy_fourier
    expected = np.fft.fft(rows().astype(np.complex128))
    np.testing.assert_allclose(
        scipy_fourier(rows()), expected, rtol=0, atol=1e-6 * np.abs(expected).max()
    )
