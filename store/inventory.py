"""What is in a store, as plain values for people and programs to read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from birdstack.store.commit import Commit
from birdstack.store.errors import UsageError
from birdstack.store.family import column_owners
from birdstack.store.keys import KEY_COLUMNS
from birdstack.store.recipes import read_recipe
from birdstack.store.snapshot import Snapshot
from birdstack.store.tables import TABLES
from birdstack.store.views import recipe_hash


@dataclass(frozen=True, slots=True)
class Entry:
    """One view or table.

    Attributes:
        name: of the view or table.
        kind: `windows` (a view keyed by recording_id, window), `family` (views side by side,
            such as `acoustic`) or `table`.
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
    """Families, every view recipe by recipe, then every table that has rows."""
    views = [_view_entry(snapshot, *view) for view in snapshot.state.window_views()]
    names = [name for name in snapshot.views if "/" in name]
    families = dict.fromkeys(name.split("/", 1)[0] for name in names)
    entries = [
        _family_entry(snapshot, family, members)
        for family in families
        if _are_one(members := [v for v in views if v.active and v.name.startswith(f"{family}/")])
    ]
    tables = [_table_entry(snapshot, name) for name in TABLES]
    return [*entries, *views, *(table for table in tables if table is not None)]


def _view_entry(snapshot: Snapshot, view: str, recipe: str) -> Entry:
    state = snapshot.state
    parts = state.view_parts(view, recipe)
    spec = read_recipe(snapshot.files, view, recipe)
    return Entry(
        name=view,
        kind="windows",
        recipe=recipe,
        active=state.active.get(view) == recipe,
        version=snapshot.version,
        rows=sum(part.rows for part in parts),
        columns=[*KEY_COLUMNS, *spec.column_names],
        recordings=sum(len(part.recordings) for part in parts),
        skipped=sum(1 for v, r, _ in state.skips if (v, r) == (view, recipe)),
        parts=len(parts),
        bytes=sum(part.n_bytes for part in parts),
    )


def _are_one(members: list[Entry]) -> bool:
    """Whether views can be read side by side; two networks' logits have equal columns."""
    columns = [column for member in members for column in member.columns[len(KEY_COLUMNS) :]]
    return len(set(columns)) == len(columns)


def _family_entry(snapshot: Snapshot, family: str, members: list[Entry]) -> Entry:
    """What reading the family gives: the recordings that all active members hold."""
    held = snapshot.covered(family)
    skips = snapshot.state.skips
    return Entry(
        name=family,
        kind="family",
        recipe=recipe_hash({member.name: member.recipe for member in members}),
        active=True,
        version=snapshot.version,
        rows=sum(covered.windows for covered in held.values()),
        columns=[*KEY_COLUMNS, *(c for m in members for c in m.columns[len(KEY_COLUMNS) :])],
        recordings=len(held),
        skipped=len({i for v, r, i in skips for m in members if (v, r) == (m.name, m.recipe)}),
        parts=sum(member.parts for member in members),
        bytes=sum(member.bytes for member in members),
    )


def _table_entry(snapshot: Snapshot, name: str) -> Entry | None:
    state = snapshot.state
    parts = state.table_parts(name)
    if name in state.active:
        parts = [part for part in parts if part.key == state.active[name]]
    if not parts:
        return None
    return Entry(
        name=name,
        kind="table",
        recipe=state.active.get(name, ""),
        active=True,
        version=snapshot.version,
        rows=sum(part.rows for part in parts),
        columns=list(TABLES[name]),
        recordings=0,
        skipped=0,
        parts=len(parts),
        bytes=sum(part.n_bytes for part in parts),
    )


def describe(snapshot: Snapshot, name: str, recipe: str | None = None) -> dict[str, Any]:
    """One view, family or table: what it is, its columns, and for views statistics of the values.

    Statistics are those taken when rows were committed; rows that were replaced since are
    still counted in them.

    Raises:
        UsageError: no such view or table, or a family that cannot be read side by side.
    """
    entries = [entry for entry in list_entries(snapshot) if entry.name == name]
    if name in TABLES:
        if not entries:
            message = f"table {name!r} is empty in {snapshot.files.url}"
            raise UsageError(message, remedy="run `birdstack ingest DATASET`")
        columns = [{"name": c, "dtype": str(t)} for c, t in TABLES[name].items()]
        return {**asdict(entries[0]), "columns": columns}
    members = snapshot.members(name)
    if members == [name] or recipe is not None:
        chosen = snapshot.recipe_of(name, recipe)
        entry = next(entry for entry in entries if entry.recipe == chosen)
        content = dict(snapshot.spec(name, chosen).recipe)
        return {
            **asdict(entry),
            "recipe_content": content,
            "columns": _columns(snapshot, name, chosen),
        }
    recipes = {member: snapshot.recipe_of(member) for member in members}
    column_owners(name, [(snapshot.spec(m, r), ()) for m, r in recipes.items()])
    return {
        **asdict(entries[0]),
        "recipe_content": {m: dict(snapshot.spec(m).recipe) for m in members},
        "columns": [c for m, chosen in recipes.items() for c in _columns(snapshot, m, chosen)],
    }


def _columns(snapshot: Snapshot, view: str, recipe: str) -> list[dict[str, Any]]:
    """Columns of one view with the statistics of their values."""
    statistics = snapshot.state.statistics.get(f"{view}/{recipe}", {})
    columns = []
    for column in snapshot.spec(view, recipe).columns:
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
    return columns


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
