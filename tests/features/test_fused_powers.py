"""The fused pass's own logarithms, powers and quantile equal numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from birdstack.features.kernel_cache import _part

ROWS = {
    "noise": np.random.default_rng(0).normal(0, 5, (128, 313)),
    "silence": np.zeros((16, 40)),
    "mostly silent": np.maximum(np.random.default_rng(1).normal(-9, 5, (32, 100)), 0),
    "one loud row": np.outer([1.0, 2.0, 1e6], np.arange(20.0)),
    "one cell": np.full((1, 1), -3.0),
}


def test_logarithms_are_numpys():
    """From the least mel power to the largest PCEN energy, and floored below."""
    values = 10.0 ** np.random.default_rng(0).uniform(-29, 30, (4, 320))
    values[0, :5] = [0.0, 1.0, np.nextafter(1.0, 0), 1e-30, 1e-300]
    found = np.empty_like(values)
    _part("natural_logs")(values, 1e-30, found)
    expected = np.log(np.maximum(values, 1e-30))
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-15)


def test_exponentials_are_numpys():
    """In place, over the exponents that PCEN's gains have."""
    values = np.random.default_rng(0).uniform(-80, 80, (4, 320))
    values[0, :2] = [0.0, -0.0]
    expected = np.exp(-0.98 * values)
    _part("exponentials")(values, -0.98)
    np.testing.assert_allclose(values, expected, rtol=1e-13)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.95, 1.0])
def test_the_high_cell_is_numpys_quantile(name, share):
    """Whether cells differ, are all equal or lie in one row."""
    rows = np.sort(ROWS[name], axis=1)
    found = _part("high_cell")(rows, share)
    assert found == pytest.approx(np.quantile(rows, share), rel=1e-12, abs=1e-15)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.floats(-80, 80) | st.sampled_from([0.0, -80.0, 1e-300]),
    ),
    st.floats(0, 1),
)
def test_any_high_cell_is_numpys_quantile(rows, share):
    """With ties, and cells that differ by the least number."""
    rows = np.sort(rows, axis=1)
    found = _part("high_cell")(rows, share)
    assert found == pytest.approx(np.quantile(rows, share), rel=1e-9, abs=1e-12)
