"""Where everything lies in a store.

store.json                                 format version, window grid, created with
views/<view>/<recipe>/recipe.json          everything that determines the numbers
views/<view>/<recipe>/part-*.parquet       immutable; written aside, synced, renamed
views/<table>/table/part-*.parquet         recordings, labels, folds, ... by dataset
log/0000000042.json                        one commit
log/0000000050.<digest>.checkpoint.parquet the state after it, a cache
pins/<name>.json                           a named snapshot
damaged/                                   what `verify --repair` set aside
"""

from __future__ import annotations

import uuid

MARKER = "store.json"
TABLE_RECIPE = "table"
"""Stands where a window view has its recipe hash, for tables such as `recordings`."""
CHECKPOINT_SUFFIX = ".checkpoint.parquet"


def recipe_path(view: str, recipe: str) -> str:
    """Path of a view's recipe."""
    return f"views/{view}/{recipe}/recipe.json"


def new_part_path(view: str, recipe: str) -> str:
    """A path for a new part that no other writer can choose."""
    return f"views/{view}/{recipe}/part-{uuid.uuid4().hex}.parquet"


def entry_path(version: int) -> str:
    """Path of one log entry."""
    return f"log/{version:010d}.json"


def log_number(name: str) -> int:
    """Number of the commit that a file of `log/` is about; -1 for a foreign file."""
    digits = name.partition(".")[0]
    return int(digits) if digits.isdigit() else -1


def checkpoint_path(version: int, digest: str) -> str:
    """Path of the checkpoint after one log entry; carries the digest of its own bytes."""
    return f"log/{version:010d}.{digest}{CHECKPOINT_SUFFIX}"


def pin_path(name: str) -> str:
    """Path of a named snapshot."""
    return f"pins/{name}.json"
