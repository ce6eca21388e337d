"""Statistics of parts, merged in any order, are those of all values together."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from birdstack.store.statistics import (
    DRIFT_MIN_ROWS,
    ColumnStatistics,
    column_statistics,
    merge,
    merge_views,
    view_statistics,
    warnings,
)
from birdstack.store.views import Column, ViewSpec

COLUMN = Column("x", low=-100.0, high=100.0)
values = st.one_of(
    st.floats(-1e6, 1e6, width=32), st.sampled_from([math.nan, math.inf, -math.inf, 0.0])
)
arrays = hnp.arrays(np.float32, st.integers(0, 40), elements=values)


def _merged(parts: list[np.ndarray]) -> ColumnStatistics:
    total: dict[str, ColumnStatistics] = {}
    for part in parts:
        total = merge(total, {"x": column_statistics(COLUMN, part)})
    return total["x"]


@given(st.lists(arrays, min_size=1, max_size=6))
def test_merging_equals_numpy_on_everything(parts: list[np.ndarray]) -> None:
    """Counts and range exactly, moments to rounding."""
    whole = np.concatenate(parts).astype(np.float64)
    finite = whole[np.isfinite(whole)]
    found = _merged(parts)
    assert found.n == whole.size
    assert found.nan == np.isnan(whole).sum()
    assert found.inf == np.isinf(whole).sum()
    assert found.finite == finite.size
    assert found.outside == ((finite < -100) | (finite > 100)).sum()
    if not finite.size:
        assert math.isnan(found.mean)
        assert math.isnan(found.std)
        return
    assert (found.low, found.high) == (finite.min(), finite.max())
    scale = np.abs(finite).max() + 1e-30
    assert found.mean == pytest.approx(finite.mean(), abs=1e-9 * scale)
    assert found.std == pytest.approx(finite.std(), abs=1e-6 * scale, rel=1e-6)
    assert found.constant == (finite.min() == finite.max())


@given(arrays, arrays)
def test_merging_does_not_depend_on_the_order(left: np.ndarray, right: np.ndarray) -> None:
    """Two writers may commit in either order."""
    one, other = _merged([left, right]), _merged([right, left])
    assert (one.n, one.nan, one.inf, one.outside) == (other.n, other.nan, other.inf, other.outside)
    assert one.mean == pytest.approx(other.mean, nan_ok=True, rel=1e-9, abs=1e-9)
    assert one.m2 == pytest.approx(other.m2, nan_ok=True, rel=1e-6, abs=1e-6)


@given(hnp.arrays(np.float64, st.integers(0, 8), elements=st.floats(width=64)))
def test_statistics_survive_json(array: np.ndarray) -> None:
    """Whatever the values, the commit can be written, and read back the same."""
    found = column_statistics(Column("x", "float64"), array)
    text = json.dumps(found.to_json(), allow_nan=False)
    back = ColumnStatistics.from_json(json.loads(text))
    for name in ("n", "nan", "inf", "outside"):
        assert getattr(back, name) == getattr(found, name)
    for name in ("low", "high", "mean", "m2"):
        value = getattr(found, name)
        assert getattr(back, name) == pytest.approx(value if math.isfinite(value) else math.nan,
                                                    nan_ok=True)  # fmt: skip


def test_vectors_count_every_element() -> None:
    """A `[window, dim]` column has the statistics of all its elements; text and bits have none."""
    spec = ViewSpec("v", (Column("e", dim=3), Column("t", "str"), Column("b", "bool")), {})
    data = {
        "e": np.arange(12, dtype=np.float32).reshape(4, 3),
        "t": np.array(list("abcd")),
        "b": np.ones(4, bool),
    }
    found = view_statistics(spec, data)
    assert list(found) == ["e"]
    assert (found["e"].n, found["e"].low, found["e"].high, found["e"].mean) == (12, 0, 11, 5.5)


def test_views_are_merged_by_name() -> None:
    """Columns of other views stay apart."""
    left = {"a/1": {"x": column_statistics(COLUMN, np.array([1.0]))}}
    merge_views(left, {"a/1": {"x": column_statistics(COLUMN, np.array([3.0]))}, "b/1": {}})
    assert left["a/1"]["x"].mean == 2.0
    assert left["b/1"] == {}


def test_what_a_person_should_look_at() -> None:
    """Infinite, out of range, constant and drifted columns are each reported, good ones not."""
    rng = np.random.default_rng(0)
    n = DRIFT_MIN_ROWS * 2
    spec = ViewSpec("v", tuple(Column(c, low=-50, high=50) for c in "abcde"), {})
    old = {c: column_statistics(spec.columns[0], rng.normal(size=n)) for c in "abcde"}
    batch = {
        "a": np.append(rng.normal(size=n), np.inf),
        "b": np.append(rng.normal(size=n), 51.0),
        "c": np.zeros(n),
        "d": rng.normal(size=n) + 10,
        "e": rng.normal(size=n),
    }
    new = {c: column_statistics(spec.columns[0], v) for c, v in batch.items()}
    found = warnings(spec, new, old)
    assert len(found) == 4
    assert "column 'a': 1 of 401 values are infinite" in found[0]
    assert "column 'b': 1 of 401 values lie outside [-50, 50]" in found[1]
    assert "column 'c': all 400 values are 0" in found[2]
    assert "column 'd': mean moved by" in found[3]
    assert warnings(spec, new | {"d": old["d"]}, {})[-1].endswith("are 0")


def test_small_batches_do_not_drift() -> None:
    """A batch of one species or one night is another mean by chance."""
    spec = ViewSpec("v", (Column("a"),), {})
    old = {"a": column_statistics(spec.columns[0], np.random.default_rng(0).normal(size=1000))}
    new = {"a": column_statistics(spec.columns[0], np.full(DRIFT_MIN_ROWS - 1, 100.0))}
    assert warnings(spec, new, old) == []
