"""A family of views, such as `acoustic`, read as one: its members side by side.

The members (`acoustic/mfcc`, `acoustic/indices`, ...) are views of their own, so that one can
be added or made anew without the others. Every view has its rows in one order, so reading
them together needs no join.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import polars as pl
from polars.io.plugins import register_io_source

from birdstack.store.commit import Part
from birdstack.store.errors import SchemaError, UsageError
from birdstack.store.files import Files
from birdstack.store.keys import KEY_COLUMNS, WindowGrid
from birdstack.store.parquet_schema import polars_schema
from birdstack.store.scan import limited, on_keys_only, overlapping, read_rows
from birdstack.store.views import ViewSpec

Member = tuple[ViewSpec, Sequence[Part]]
"""A view and its live parts, ordered by first recording."""


def scan_family(
    files: Files,
    grid: WindowGrid,
    name: str,
    members: Sequence[Member],
    recordings: Sequence[str] | None = None,
) -> pl.LazyFrame:
    """Keys, then the columns of every member; rows are the recordings that all members hold.

    Args:
        files: where the parts lie.
        grid: the store's window grid.
        name: of the family, for messages.
        members: its views.
        recordings: only these; None for all.

    Raises:
        UsageError: two members have a column of the same name.
        SchemaError: two members disagree on the number of windows of a recording.
    """
    owners = column_owners(name, members)
    schema = polars_schema(members[0][0])
    for spec, _ in members[1:]:
        columns = polars_schema(spec).items()
        schema.update({c: kind for c, kind in columns if c not in KEY_COLUMNS})
    wanted = set(common_windows(members, recordings))

    def read(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001 - batches are the parts as they lie
    ) -> Iterator[pl.DataFrame]:
        columns = with_columns if with_columns is not None else list(schema)
        on_keys = on_keys_only(predicate, n_rows)
        filtered = predicate if on_keys else None
        frames = _side_by_side(
            files,
            grid,
            members,
            owners=owners,
            columns=columns,
            wanted=wanted,
            on_keys=filtered,
        )
        yield from limited(frames, n_rows, None if on_keys else predicate)

    return register_io_source(read, schema=schema, validate_schema=False, is_pure=True)


def column_owners(name: str, members: Sequence[Member]) -> dict[str, int]:
    """Column -> number of the member that has it; keys belong to the first.

    Raises:
        UsageError: two members have a column of the same name.
    """
    owners = dict.fromkeys(KEY_COLUMNS, 0)
    for number, (spec, _) in enumerate(members):
        for column in spec.column_names:
            if column in owners:
                other = members[owners[column]][0].name
                message = f"{name!r} is a family whose members {other!r} and {spec.name!r} both "
                message += f"have a column {column!r}"
                raise UsageError(message, remedy=f"name one of them, such as {spec.name}")
            owners[column] = number
    return owners


def common_windows(
    members: Sequence[Member], recordings: Sequence[str] | None = None
) -> dict[str, int]:
    """recording_id -> windows, for the recordings that every member holds.

    Args:
        members: the views.
        recordings: only these; None for all.

    Raises:
        SchemaError: two members disagree on the number of windows of a recording.
    """
    common: dict[str, int] | None = None
    chosen = None if recordings is None else frozenset(recordings)
    for spec, parts in members:
        held = (covered for part in parts for covered in part.recordings)
        if chosen is not None:
            held = (covered for covered in held if covered.recording_id in chosen)
        mine = {covered.recording_id: covered.windows for covered in held}
        if common is None:
            common = mine
            continue
        for recording_id in common.keys() & mine.keys():
            if common[recording_id] != mine[recording_id]:
                message = (
                    f"recording {recording_id!r} has {common[recording_id]} windows in view "
                    f"{members[0][0].name!r} and {mine[recording_id]} in view {spec.name!r}"
                )
                remedy = "the file changed between the two: run `birdstack features` for both views"
                raise SchemaError(message, remedy=remedy)
        common = {i: n for i, n in common.items() if i in mine}
    return common or {}


def _side_by_side(
    files: Files,
    grid: WindowGrid,
    members: Sequence[Member],
    *,
    owners: Mapping[str, int],
    columns: Sequence[str],
    wanted: set[str],
    on_keys: pl.Expr | None,
) -> Iterator[pl.DataFrame]:
    """Frames with columns of several members, as many rows at a time as the first has parts."""
    by_member: dict[int, list[str]] = {}
    for column in columns:
        by_member.setdefault(owners[column], []).append(column)
    by_member = by_member or {0: []}
    lead = min(by_member)
    for cluster in overlapping(members[lead][1]):
        ids = {c.recording_id for part in cluster for c in part.recordings} & wanted
        if not ids:
            continue
        pieces = []
        for number, names in by_member.items():
            mine = [
                p for p in members[number][1] if any(c.recording_id in ids for c in p.recordings)
            ]
            frames = list(
                read_rows(files, grid, mine, names, chosen=frozenset(ids), on_keys=on_keys)
            )
            if frames:
                pieces.append(pl.concat(frames))
        if pieces:
            yield pl.concat(pieces, how="horizontal").select(columns)
