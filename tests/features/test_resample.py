"""Resampling keeps what is heard, and says when it cannot."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from birdstack.features.resample import resample
from birdstack.store.errors import ConfigError

RATES_HZ = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def _whistle(pitch_hz: float, rate_hz: int, seconds: float = 2.0) -> np.ndarray:
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.3 * np.sin(2 * np.pi * pitch_hz * time_s)).astype(np.float32)


def test_equal_rates_copy_nothing() -> None:
    """The same array comes back."""
    samples = _whistle(3000, 32_000)
    assert resample(samples, 32_000, 32_000) is samples


def test_it_is_soxr_at_hq() -> None:
    """Bit for bit what soxr gives, and not what its quick quality gives."""
    samples = np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)
    ours = resample(samples, 32_000, 48_000)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, soxr.resample(samples, 32_000, 48_000, quality="HQ"))
    assert not np.array_equal(ours, soxr.resample(samples, 32_000, 48_000, quality="QQ"))


@given(
    n_samples=st.integers(0, 5_000),
    from_hz=st.sampled_from(RATES_HZ),
    to_hz=st.sampled_from(RATES_HZ),
)
@settings(deadline=None, max_examples=60)
def test_the_length_follows_the_rates(n_samples: int, from_hz: int, to_hz: int) -> None:
    """Seconds stay what they were, to one sample; short and empty sound included."""
    out = resample(np.zeros(n_samples, dtype=np.float32), from_hz, to_hz)
    assert abs(len(out) - n_samples * to_hz / from_hz) <= 1
    assert out.dtype == np.float32


@pytest.mark.parametrize(("from_hz", "to_hz"), [(32_000, 48_000), (44_100, 32_000)])
def test_a_whistle_stays_where_it_is(from_hz: int, to_hz: int) -> None:
    """Away from the ends, a whistle equals the same whistle made at the other rate."""
    ours = resample(_whistle(3000, from_hz), from_hz, to_hz)
    inner = slice(1000, -1000)
    np.testing.assert_allclose(ours[inner], _whistle(3000, to_hz)[inner], atol=1e-4)


def test_input_is_left_alone() -> None:
    """Read-only samples, as extractors share them, are accepted."""
    samples = _whistle(3000, 32_000)
    samples.flags.writeable = False
    assert len(resample(samples, 32_000, 16_000)) == 32_000


@pytest.mark.parametrize(("from_hz", "to_hz"), [(0, 32_000), (32_000, -1)])
def test_rates_above_zero(from_hz: int, to_hz: int) -> None:
    """A rate that is none is named."""
    with pytest.raises(ConfigError, match=rf"from {from_hz} Hz to {to_hz} Hz"):
        resample(np.zeros(10, dtype=np.float32), from_hz, to_hz)


def test_importing_it_loads_no_soxr() -> None:
    """The library is loaded by the first use."""
    code = "import sys, birdstack.features.resample; sys.exit('soxr' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
