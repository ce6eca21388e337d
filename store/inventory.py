"""What is in a store, as plain values for people and programs to read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from birdstack.store.commit import Commit
from birdstack.store.errors import UsageError
from birdstack.store.recipes import read_recipe
from birdstack.store.snapshot import Snapshot
from birdstack.store.tables import TABLES


@dataclass(frozen=True, slots=True)
class Entry:
    """One view or table.

    Attributes:
        name: of the view or table.
        kind: `windows` (keyed by recording_id, window) or `table`.
        recipe: hash of the recipe; for `folds` the split; empty for other tables.
        active: whether readers get this recipe when they name none.
        version: the newest snapshot that changed nothing of it later, i.e. the one asked for.
        rows: number of rows.
        columns: names of all columns, keys first.
        recordings: how many recordings it holds; 0 for tables.
        skipped: recordings that it lacks because they could not be used.
        parts: number of files.
        bytes: their size.
    """

    name: str
    kind: str
    recipe: str
    active: bool
    version: int
    rows: int
    columns: list[str]
    recordings: int
    skipped: int
    parts: int
    bytes: int


def list_entries(snapshot: Snapshot) -> list[Entry]:
    """Every view, recipe by recipe, then every table that has rows."""
    state = snapshot.state
    entries = []
    for view, recipe in state.window_views():
        parts = state.view_parts(view, recipe)
        spec = read_recipe(snapshot.files, view, recipe)
        entries.append(
            Entry(
                name=view,
                kind="windows",
                recipe=recipe,
                active=state.active.get(view) == recipe,
                version=snapshot.version,
                rows=sum(part.rows for part in parts),
                columns=["recording_id", "window", "start_s", "end_s", *spec.column_names],
                recordings=sum(len(part.recordings) for part in parts),
                skipped=sum(1 for v, r, _ in state.skips if (v, r) == (view, recipe)),
                parts=len(parts),
                bytes=sum(part.n_bytes for part in parts),
            )
        )
    for name, schema in TABLES.items():
        parts = state.table_parts(name)
        if name in state.active:
            parts = [part for part in parts if part.key == state.active[name]]
        if parts:
            entries.append(
                Entry(
                    name=name,
                    kind="table",
                    recipe=state.active.get(name, ""),
                    active=True,
                    version=snapshot.version,
                    rows=sum(part.rows for part in parts),
                    columns=list(schema),
                    recordings=0,
                    skipped=0,
                    parts=len(parts),
                    bytes=sum(part.n_bytes for part in parts),
                )
            )
    return entries


def describe(snapshot: Snapshot, name: str, recipe: str | None = None) -> dict[str, Any]:
    """One view or table: what it is, its columns, and for views statistics of the values.

    Statistics are those taken when rows were committed; rows that were replaced since are
    still counted in them.

    Raises:
        UsageError: no such view or table.
    """
    entries = [entry for entry in list_entries(snapshot) if entry.name == name]
    if name in TABLES:
        if not entries:
            message = f"table {name!r} is empty in {snapshot.files.url}"
            raise UsageError(message, remedy="run `birdstack ingest DATASET`")
        columns = [{"name": c, "dtype": str(t)} for c, t in TABLES[name].items()]
        return {**asdict(entries[0]), "columns": columns}
    chosen = snapshot.recipe_of(name, recipe)
    entry = next(entry for entry in entries if entry.recipe == chosen)
    spec = snapshot.spec(name, chosen)
    statistics = snapshot.state.statistics.get(f"{name}/{chosen}", {})
    columns = []
    for column in spec.columns:
        body = asdict(column)
        if column.name in statistics:
            s = statistics[column.name]
            body |= {
                "min": s.low,
                "mean": s.mean,
                "std": s.std,
                "max": s.high,
                "nan": s.nan,
                "values": s.n,
            }
        columns.append(body)
    return {**asdict(entry), "recipe_content": dict(spec.recipe), "columns": columns}


def summarise(commit: Commit) -> dict[str, Any]:
    """One line of history."""
    windows: dict[str, int] = {}
    for part in commit.add:
        windows[part.view] = windows.get(part.view, 0) + part.rows
    return {
        "version": commit.version,
        "time_utc": commit.time_utc,
        "operation": commit.operation,
        "author": commit.author,
        "run_id": commit.run_id,
        "rows_added": windows,
        "parts_added": len(commit.add),
        "parts_removed": len(commit.remove),
        "skipped": len({skip.recording_id for skip in commit.skip}),
        "activated": dict(commit.activate),
        "config": commit.info.get("config"),
        "environment": commit.info.get("environment"),
    }
