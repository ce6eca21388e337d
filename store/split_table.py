"""A split under its own name: what it is called in the store, and what it was made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from birdstack.store.layout import recipe_path
from birdstack.store.snapshot import Snapshot
from birdstack.store.store import Store

SPLIT_TABLE = "folds"


def split_key(frame: pl.DataFrame) -> str:
    """The name of a split: a short hash of its rows."""
    return hashlib.sha256(frame.write_csv().encode()).hexdigest()[:12]


def write_split_recipe(
    store: Store, key: str, recipe: Mapping[str, Any], report: Mapping[str, Any]
) -> None:
    """What the folds were made from, beside them; the first to make a split writes it."""
    body = json.dumps({"recipe": dict(recipe), "report": dict(report)}, indent=1)
    with contextlib.suppress(FileExistsError):
        store.files.put_new(recipe_path(SPLIT_TABLE, key), body.encode() + b"\n")


def read_split_recipe(snapshot: Snapshot) -> dict[str, Any] | None:
    """`recipe` and `report` of the split in force; None if there is none."""
    active = snapshot.state.active.get(SPLIT_TABLE)
    if active is None:
        return None
    found: dict[str, Any] = json.loads(snapshot.files.read(recipe_path(SPLIT_TABLE, active)))
    return found
