"""Views as Arrow tables: schemas, exact shapes and types, declared rounding.

Together with `parquet_write` and `parquet_read` the only door to pyarrow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import xxhash

from birdstack.store.errors import SchemaError
from birdstack.store.keys import KEY_COLUMNS
from birdstack.store.views import Column, ViewSpec

_ARROW_TYPES = {
    "float32": pa.float32(),
    "float64": pa.float64(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "bool": pa.bool_(),
    "str": pa.string(),
}


def polars_schema(spec: ViewSpec) -> pl.Schema:
    """Schema of a window view as polars sees it."""
    empty = pl.from_arrow(part_schema(spec).empty_table())
    return pl.DataFrame(empty).schema


def part_schema(spec: ViewSpec) -> pa.Schema:
    """Arrow schema of a window view's parts: the key columns, then its own."""
    keys = [
        pa.field("recording_id", pa.string(), nullable=False),
        pa.field("window", pa.int32(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
    ]
    return pa.schema(keys + [_arrow_field(column) for column in spec.columns])


def _arrow_field(column: Column) -> pa.Field:
    kind = _ARROW_TYPES[column.dtype]
    if column.dim is not None:
        kind = pa.list_(pa.field("item", kind, nullable=False), column.dim)
    metadata = {"unit": column.unit, "description": column.description}
    return pa.field(column.name, kind, nullable=column.nullable, metadata=metadata)


def window_table(
    spec: ViewSpec, keys: Mapping[str, Any], values: Mapping[str, np.ndarray]
) -> pa.Table:
    """An Arrow table of key and value columns in the view's exact schema.

    Args:
        spec: the view.
        keys: `recording_id`, `window`, `start_s`, `end_s`, each `[window]`.
        values: every column of the view, `[window]` or `[window, dim]`.

    Raises:
        SchemaError: columns are missing, unknown, or of another shape.
    """
    n_rows = len(keys["window"])
    unknown, missing = set(values) - set(spec.column_names), set(spec.column_names) - set(values)
    if unknown or missing:
        lines = [f"  - {name} (missing)" for name in sorted(missing)]
        lines += [f"  + {name} (not in the view)" for name in sorted(unknown)]
        message = f"view {spec.name!r}: columns differ from its specification:\n" + "\n".join(lines)
        raise SchemaError(
            message, remedy="make the extractor return exactly the columns it declares"
        )
    schema = part_schema(spec)
    arrays = [pa.array(keys[name], type=schema.field(name).type) for name in KEY_COLUMNS]
    arrays += [_arrow_values(spec.name, c, values[c.name], n_rows) for c in spec.columns]
    return pa.Table.from_arrays(arrays, schema=schema)


def _arrow_values(view: str, column: Column, values: np.ndarray, n_rows: int) -> pa.Array:
    shape = (n_rows,) if column.dim is None else (n_rows, column.dim)
    array = np.asarray(values)
    if array.shape != shape:
        message = f"view {view!r}, column {column.name!r}: shape must be {shape}, got {array.shape}"
        raise SchemaError(message, remedy="return one row for each window of the recording")
    if column.dtype == "str":
        return _arrow_text(view, column, array)
    if not np.can_cast(array.dtype, column.dtype, casting="same_kind"):
        message = (
            f"view {view!r}, column {column.name!r}: {array.dtype} does not fit {column.dtype}"
        )
        raise SchemaError(message, remedy="convert in the extractor, where the loss can be judged")
    array = np.ascontiguousarray(array, dtype=column.dtype)
    if column.mantissa_bits is not None:
        array = round_mantissa(array, column.mantissa_bits)
    if column.dim is None:
        return pa.array(array)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(array.ravel()), type=_arrow_field(column).type
    )


def numpy_values(column: pa.ChunkedArray) -> np.ndarray:
    """`[window]` or, for vectors, `[window, dim]`; without a copy where there is one chunk."""
    if pa.types.is_fixed_size_list(column.type):
        values = pa.chunked_array([c.flatten() for c in column.chunks], column.type.value_type)
        return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(
            len(column), column.type.list_size
        )
    return np.asarray(column.to_numpy(zero_copy_only=False))


def table_digest(table: pa.Table, receipt: Mapping[str, Any]) -> str:
    """xxh3-64 of a window part's values and of what it says it holds.

    The log keeps digests of a part's bytes; one that no commit mentions yet has only this.
    """
    digest = xxhash.xxh3_64(json.dumps(receipt).encode())
    for column in table.columns:
        if pa.types.is_string(column.type):
            digest.update(json.dumps(column.to_pylist()).encode())
        else:
            digest.update(np.ascontiguousarray(numpy_values(column)).data)
    return digest.hexdigest()


def _arrow_text(view: str, column: Column, values: np.ndarray) -> pa.Array:
    try:
        text = pa.array(values.tolist(), type=pa.string())
    except (pa.ArrowException, UnicodeEncodeError) as error:
        message = f"view {view!r}, column {column.name!r}: not all values are text: {error}"
        raise SchemaError(message, remedy="make the extractor return str values") from error
    if text.null_count and not column.nullable:
        message = f"view {view!r}, column {column.name!r}: {text.null_count} values are null"
        raise SchemaError(message, remedy="declare the column nullable, or fill the values")
    return text


def round_mantissa(values: np.ndarray, bits: int) -> np.ndarray:
    """float32 values rounded to nearest-even with `bits` explicit mantissa bits.

    The relative error is at most 2^-(bits+1); 10 bits is the precision of float16 with the
    range of float32. The zeroed bits compress away under byte-stream-split.
    """
    drop = 23 - bits
    raw = values.astype(np.float32, copy=True).view(np.uint32)
    finite = np.isfinite(values)
    lowest_kept = (raw >> np.uint32(drop)) & np.uint32(1)
    rounded = raw + (np.uint32((1 << (drop - 1)) - 1) + lowest_kept)
    rounded &= np.uint32(0xFFFFFFFF ^ ((1 << drop) - 1))
    return np.where(finite, rounded.view(np.float32), values).astype(np.float32)
