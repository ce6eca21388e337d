"""The matrix is the view, as numbers."""

from __future__ import annotations

import fault_support as toy
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birdstack.store.compact import compact
from birdstack.store.errors import SchemaError, UsageError
from birdstack.store.store import Store
from birdstack.store.views import Column

N = 18
WIDE = (Column("x"), Column("b", "bool"), Column("i", "int8"), Column("d", "float64"),
        Column("v", "int16", dim=4), Column("t", "str"))  # fmt: skip


def _expected(columns: tuple[Column, ...], frame: pl.DataFrame, names: list[str]) -> np.ndarray:
    by_name = {column.name: column for column in columns}
    blocks = [
        np.asarray(frame[name].to_numpy(), dtype=np.float32).reshape(
            frame.height, by_name[name].dim or 1
        )
        for name in names
    ]
    return np.concatenate(blocks, axis=1)


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> tuple[Store, list]:
    """Two views of overlapping parts, `wide` lacking the last four recordings."""
    store = Store.create(tmp_path_factory.mktemp("matrix"))
    recordings = toy.toy_recordings(N)
    wide = toy.ToyExtractor("wide", columns=WIDE)
    toy.fill(store, recordings[::2], unit_recordings=3)
    toy.fill(store, recordings, unit_recordings=5)
    toy.fill(store, recordings[5:-4], extractors=[wide], unit_recordings=2)
    toy.fill(store, recordings[:-4], extractors=[wide], unit_recordings=4)
    return store, recordings


ids = st.sampled_from([r.recording_id for r in toy.toy_recordings(N)] + ["nobody"])
names = st.lists(st.sampled_from(["x", "b", "i", "d", "v"]), min_size=1, unique=True)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names, st.one_of(st.none(), st.lists(ids)))
def test_the_matrix_is_the_view(filled, chosen_columns, chosen) -> None:
    """Any columns in any order, any recordings: values, keys, names and offsets."""
    store, recordings = filled
    frame = toy.truth(recordings[:-4], WIDE)
    if chosen is not None:
        frame = frame.filter(pl.col("recording_id").is_in(chosen))
    matrix = store.matrix({"wide": chosen_columns}, recordings=chosen)
    assert np.array_equal(matrix.values, _expected(WIDE, frame, chosen_columns))
    assert matrix.values.dtype == np.float32
    assert matrix.values.flags.c_contiguous
    assert matrix.keys.equals(frame.select(matrix.keys.columns))
    assert matrix.recording_ids == frame["recording_id"].unique().sort().to_list()
    assert matrix.offsets[-1] == frame.height
    width = sum({"v": 4}.get(name, 1) for name in chosen_columns)
    assert len(matrix.columns) == width == matrix.values.shape[1]


def test_all_numeric_columns_by_name(filled) -> None:
    """A view's name alone gives every column but text, vectors element by element."""
    store, recordings = filled
    matrix = store.matrix("wide")
    assert matrix.columns == ["x", "b", "i", "d", "v[0]", "v[1]", "v[2]", "v[3]"]
    expected = _expected(WIDE, toy.truth(recordings[:-4], WIDE), ["x", "b", "i", "d", "v"])
    assert np.array_equal(matrix.values, expected)


def test_several_views_side_by_side(filled) -> None:
    """Rows are those of the recordings that every view holds; columns say whose they are."""
    store, recordings = filled
    matrix = store.matrix({"toy": ["level"], "wide": ["v", "x"]})
    assert matrix.columns == ["toy:level", *(f"wide:v[{i}]" for i in range(4)), "wide:x"]
    toys, wide = toy.truth(recordings[:-4]), toy.truth(recordings[:-4], WIDE)
    assert np.array_equal(matrix.values[:, :1], _expected(toy.COLUMNS, toys, ["level"]))
    assert np.array_equal(matrix.values[:, 1:], _expected(WIDE, wide, ["v", "x"]))
    assert matrix.keys.equals(toys.select(matrix.keys.columns))


def test_compaction_does_not_change_the_matrix(tmp_path) -> None:
    """The same numbers from many parts and from one."""
    store = Store.create(tmp_path)
    toy.fill(store, toy.toy_recordings(30), unit_recordings=4)
    before = store.matrix("toy")
    compact(store)
    after = store.matrix("toy")
    assert np.array_equal(before.values, after.values)
    assert before.keys.equals(after.keys)


def test_views_that_disagree_on_windows(tmp_path) -> None:
    """A file that changed between two views is named, with both numbers of windows."""
    store = Store.create(tmp_path)
    old = toy.toy_recordings(1)
    new = next(
        r
        for i in range(99)
        for r in toy.toy_recordings(1, content=f"edit{i}")
        if toy.toy_windows(r) != toy.toy_windows(old[0])
    )
    toy.fill(store, old)
    toy.fill(store, [new], extractors=[toy.ToyExtractor("other")])
    says = (
        f"recording '{new.recording_id}' has {toy.toy_windows(old[0])} windows in view 'toy' "
        f"and {toy.toy_windows(new)} in view 'other'"
    )
    with pytest.raises(SchemaError, match=says):
        store.matrix({"toy": None, "other": None})


def test_columns_that_cannot_be_had(filled) -> None:
    """Unknown columns and text are refused by name."""
    store, _ = filled
    with pytest.raises(UsageError, match="view 'wide': no column 'y'"):
        store.matrix({"wide": ["x", "y"]})
    with pytest.raises(UsageError, match="view 'wide': column 't' is text"):
        store.matrix({"wide": ["t"]})
    with pytest.raises(UsageError, match="no view 'nothing'"):
        store.matrix("nothing")


def test_a_view_without_a_common_recording(tmp_path) -> None:
    """Nothing in common: no rows, all columns."""
    store = Store.create(tmp_path)
    toy.fill(store, toy.toy_recordings(3))
    toy.fill(store, toy.toy_recordings(3, first=10), extractors=[toy.ToyExtractor("other")])
    matrix = store.matrix({"toy": ["level"], "other": ["level"]})
    assert matrix.values.shape == (0, 2)
    assert matrix.keys.is_empty()
