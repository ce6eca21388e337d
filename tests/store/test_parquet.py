"""Parts: every type and vector comes back as it was, and any tool opens them."""

from __future__ import annotations

from pathlib import Path

import duckdb
import fault_support as toy
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from birdstack.store.commit import Covered
from birdstack.store.errors import SchemaError
from birdstack.store.local_files import LocalFiles
from birdstack.store.parquet_read import PartReader, column_arrays, read_orphan, window_frame
from birdstack.store.parquet_schema import part_schema, polars_schema, round_mantissa, window_table
from birdstack.store.parquet_write import write_window_part
from birdstack.store.views import Column, ViewSpec

DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "bool", "str")
shared_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)


def _write(folder: Path, spec: ViewSpec, values: dict[str, np.ndarray], n: int, **options):
    keys = {
        "recording_id": ["a ☃.ogg"] * n,
        "window": np.arange(n, dtype=np.int32),
        "start_s": np.arange(n) * 5.0,
        "end_s": np.arange(n) * 5.0 + 5,
    }
    table = window_table(spec, keys, values)
    return write_window_part(
        LocalFiles(folder), spec, "part.parquet", table, [Covered("a ☃.ogg", "h", n)], **options
    )


def _elements(dtype: str):
    if dtype == "str":
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    return hnp.from_dtype(np.dtype(dtype))


@st.composite
def columns_and_values(draw):
    """Columns of any type, their values, and the number of rows."""
    n = draw(st.integers(0, 12))
    columns, values = [], {}
    for number in range(draw(st.integers(1, 4))):
        dtype = draw(st.sampled_from(DTYPES))
        dim = draw(st.one_of(st.none(), st.integers(1, 5))) if dtype != "str" else None
        name = f"c{number} ü.[0]"[: draw(st.integers(2, 9))] + str(number)
        columns.append(Column(name, dtype, dim=dim))
        shape = (n,) if dim is None else (n, dim)
        kind = object if dtype == "str" else dtype
        values[name] = draw(hnp.arrays(kind, shape, elements=_elements(dtype)))
    return tuple(columns), values, n


@shared_folder
@given(columns_and_values(), st.integers(1, 5))
def test_every_type_survives(tmp_path: Path, made, row_group_rows: int) -> None:
    """Scalars and vectors of each dtype, any names, any row groups, no rows too."""
    columns, values, n = made
    spec = ViewSpec("v", columns, {"r": 1})
    part = _write(tmp_path, spec, values, n, row_group_rows=row_group_rows)
    assert (part.rows, part.n_bytes) == (n, (tmp_path / "part.parquet").stat().st_size)
    with PartReader(LocalFiles(tmp_path), part) as reader:
        frame = window_frame(reader, [*polars_schema(spec)])
        assert frame.schema == polars_schema(spec)
        assert sum(reader.row_group_rows) == n
        parts = [
            column_arrays(reader, [c.name for c in columns], [group])
            for group in range(len(reader.row_group_rows))
        ]
    for column in columns:
        expected = values[column.name]
        if column.dtype == "str":
            assert frame[column.name].to_list() == expected.tolist()
        found = [part[column.name] for part in parts]
        if found and n:
            whole = np.concatenate(found)
            assert whole.shape == expected.shape
            if column.dtype != "str":
                assert whole.dtype == expected.dtype
                assert np.array_equal(whole, expected, equal_nan=column.dtype.startswith("float"))
    orphan, _ = read_orphan(LocalFiles(tmp_path), spec, "part.parquet")
    assert orphan == part


finite = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


@given(hnp.arrays(np.float32, 20, elements=finite), st.integers(1, 22))
def test_rounding_keeps_its_bound(values: np.ndarray, bits: int) -> None:
    """Relative error at most 2^-(bits+1), sign and zero kept, low bits empty, idempotent."""
    found = round_mantissa(values, bits)
    exact = values.astype(np.float64)
    overflow = np.isinf(found)  # the largest floats round up to infinity, as by IEEE
    assert (np.abs(exact[overflow]) > 3e38 * (1 - 2.0**-bits)).all()
    error = np.abs(found[~overflow].astype(np.float64) - exact[~overflow])
    assert (error <= np.abs(exact[~overflow]) * 2.0 ** -(bits + 1)).all()
    assert np.array_equal(np.signbit(found), np.signbit(values))
    assert (found.view(np.uint32) & np.uint32((1 << (23 - bits)) - 1) == 0).all()
    assert np.array_equal(round_mantissa(found, bits), found)


def test_rounding_leaves_nan_and_infinity(tmp_path: Path) -> None:
    """Payloads of NaN never round into infinity, nor infinities into NaN."""
    odd = np.array([np.nan, np.inf, -np.inf], np.float32)
    odd = np.append(odd, np.array([0x7F800001], np.uint32).view(np.float32))
    found = round_mantissa(odd, 10)
    assert np.array_equal(np.isnan(found), np.isnan(odd))
    assert np.array_equal(found[1:3], odd[1:3])
    spec = ViewSpec("v", (Column("x", mantissa_bits=10),), {"r": 1})
    part = _write(tmp_path, spec, {"x": odd}, 4)
    with PartReader(LocalFiles(tmp_path), part) as reader:
        (read,) = column_arrays(reader, ["x"], [0]).values()
    assert np.array_equal(read, found, equal_nan=True)


@pytest.mark.parametrize("dim", [None, 16])
def test_rounded_columns_are_smaller(tmp_path: Path, dim: int | None) -> None:
    """The declared precision pays: 10 of 23 bits take at most 60 % of the bytes."""
    values = np.random.default_rng(0).normal(size=(2000,) if dim is None else (2000, dim))
    sizes = {}
    for bits in (None, 10):
        spec = ViewSpec("v", (Column("x", dim=dim, mantissa_bits=bits),), {"bits": bits})
        part = _write(tmp_path, spec, {"x": values.astype(np.float32)}, 2000)
        metadata = pq.read_metadata(tmp_path / part.path)
        chunks = [metadata.row_group(g).column(4) for g in range(metadata.num_row_groups)]
        sizes[bits] = sum(chunk.total_compressed_size for chunk in chunks)
        encodings = {e for chunk in chunks for e in chunk.encodings}
        assert ("BYTE_STREAM_SPLIT" in encodings) == (bits is not None)
    assert sizes[10] <= 0.6 * sizes[None]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"x": np.zeros(2, np.float32)}, r"y \(missing\)"),
        ({"x": np.zeros(2), "y": np.zeros((2, 2)), "z": np.zeros(2)}, r"z \(not in the view\)"),
        (
            {"x": np.zeros(3), "y": np.zeros((2, 2))},
            r"column 'x': shape must be \(2,\), got \(3,\)",
        ),
        ({"x": np.zeros(2), "y": np.zeros((2, 3))}, r"shape must be \(2, 2\), got \(2, 3\)"),
        ({"x": np.array(["a", "b"]), "y": np.zeros((2, 2))}, "does not fit float32"),
        ({"x": np.zeros(2, complex), "y": np.zeros((2, 2))}, "complex128 does not fit float32"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, values, says: str) -> None:
    """Missing, unknown, misshapen and mistyped columns: what, where, how."""
    spec = ViewSpec("v", (Column("x"), Column("y", dim=2)), {"r": 1})
    with pytest.raises(SchemaError, match=says):
        _write(tmp_path, spec, values, 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [[1, 2], ["a", None], ["a", "\udcff"]])
def test_text_that_is_none_is_refused(tmp_path: Path, bad: list[object]) -> None:
    """Numbers, nulls and lone surrogates in a text column are a SchemaError."""
    spec = ViewSpec("v", (Column("t", "str"),), {"r": 1})
    with pytest.raises(SchemaError, match="column 't'"):
        _write(tmp_path, spec, {"t": np.array(bad, dtype=object)}, 2)


def test_nullable_text_may_be_null(tmp_path: Path) -> None:
    """A nullable column keeps its nulls."""
    spec = ViewSpec("v", (Column("t", "str", nullable=True),), {"r": 1})
    part = _write(tmp_path, spec, {"t": np.array(["a", None, "b"], dtype=object)}, 3)
    with PartReader(LocalFiles(tmp_path), part) as reader:
        assert window_frame(reader, ["t"])["t"].to_list() == ["a", None, "b"]
    assert read_orphan(LocalFiles(tmp_path), spec, part.path)[0] == part


def test_other_tools_open_a_part(tmp_path: Path) -> None:
    """polars, DuckDB, pandas and plain pyarrow read the file without our code."""
    recordings = toy.toy_recordings(3)
    from birdstack.store.store import Store

    store = Store.create(tmp_path)
    toy.fill(store, recordings)
    file = tmp_path / toy.parts_of(store)[0].path
    expected = toy.truth(recordings)
    found = pl.read_parquet(file)
    assert found.equals(expected.cast(dict(found.schema)))
    assert found.schema["vector"] == pl.Array(pl.Float32, toy.DIM)
    rows = duckdb.read_parquet(str(file)).aggregate("sum(level), count(*)").fetchall()
    assert rows == [(expected["level"].cast(pl.Float64).sum(), expected.height)]
    assert pd.read_parquet(file)["tag"].tolist() == expected["tag"].to_list()
    schema = pq.read_schema(file)
    assert schema.field("level").metadata == {b"unit": b"dB", b"description": b""}
    assert schema.names == part_schema(toy.toy_spec()).names


def test_pages_carry_checksums_and_keys_statistics(tmp_path: Path) -> None:
    """Page checksums are written for whoever verifies them; statistics only for recording_id."""
    spec = ViewSpec("v", (Column("x"),), {"r": 1})
    part = _write(tmp_path, spec, {"x": np.arange(5.0)}, 5)
    metadata = pq.read_metadata(tmp_path / part.path).row_group(0)
    has = {metadata.column(i).path_in_schema: metadata.column(i).is_stats_set for i in range(5)}
    assert has == {"recording_id": True, "window": False, "start_s": False, "end_s": False,
                   "x": False}  # fmt: skip
    data = bytearray((tmp_path / part.path).read_bytes())
    chunk = metadata.column(4)
    data[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 1
    (tmp_path / part.path).write_bytes(data)
    with (
        pytest.raises(OSError, match="CRC"),
        pq.ParquetFile(tmp_path / part.path, page_checksum_verification=True) as file,
    ):
        file.read()
