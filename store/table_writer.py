"""Committing tables: whole rows of a dataset are replaced, unchanged ones left alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from birdstack.store.commit import Commit
from birdstack.store.errors import SchemaError
from birdstack.store.layout import TABLE_RECIPE, new_part_path
from birdstack.store.parquet_write import write_frame_part
from birdstack.store.store import Store
from birdstack.store.tables import TABLES
from birdstack.store.trained import check_record


def write_tables(
    store: Store,
    frames: Mapping[tuple[str, str], pl.DataFrame],
    *,
    operation: str,
    info: Mapping[str, Any] | None = None,
    activate: Mapping[str, str] | None = None,
) -> Commit | None:
    """Replace the rows of some (table, key), in one commit.

    Args:
        store: the store.
        frames: (table, key) -> its rows; the key is a dataset, a split for `folds`, a model's
            fingerprint for `trained`, `view/recipe` for `scores`.
        operation: the verb in the log.
        info: kept in the commit.
        activate: table -> key that readers get from now on.

    Returns:
        The commit, or None if everything was there already.

    Raises:
        SchemaError: a frame does not have its table's exact schema.
        LeakError: rows of `trained` would forget what a model was trained on.
    """
    snapshot = store.snapshot()
    add, remove = [], []
    for (name, key), frame in frames.items():
        _check_schema(name, frame)
        old = [part for part in snapshot.state.table_parts(name) if part.key == key]
        rows = snapshot.read_table(old, name)
        if old and rows.equals(frame):
            continue
        if name == "trained":
            check_record(key, rows, frame)
        remove += [part.path for part in old]
        path = new_part_path(name, TABLE_RECIPE)
        add.append(write_frame_part(store.files, path, frame, view=name, key=key))
    draft = Commit(
        operation,
        add=tuple(add),
        remove=tuple(remove),
        info=info or {},
        activate=activate or {},
    )
    return store.log.append(draft)


def _check_schema(name: str, frame: pl.DataFrame) -> None:
    expected = TABLES[name]
    if frame.schema == expected:
        return
    lines = [f"  - {c}: {t}" for c, t in expected.items() if frame.schema.get(c) != t]
    lines += [f"  + {c}: {t}" for c, t in frame.schema.items() if expected.get(c) != t]
    message = f"table {name!r} does not have its schema:\n" + "\n".join(
        lines or ["  the order of the columns"]
    )
    raise SchemaError(message, remedy="build the frame with the schema in birdstack.store.tables")
