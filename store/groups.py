"""Groups of recordings that must never part between folds.

Two recordings belong together if one author made both, if they are duplicates, or if a
chain of such links leads from one to the other. A model that trained on one of them has,
in part, already heard the other: the same microphone, the same site, often the same bird.
"""

from __future__ import annotations

import polars as pl

from birdstack.store.errors import SchemaError, StoreError

GROUPING = ("recording", "author", "duplicate_group", "duplicate_of")
"""What joins recordings into one group; part of the recipe of a split."""

UNKNOWN_AUTHORS = frozenset(
    {
        "",
        "-",
        "?",
        "anon",
        "anonymous",
        "n/a",
        "na",
        "nan",
        "none",
        "null",
        "unknown",
        "unknown author",
        "unknown recordist",
        "various",
    }
)
"""Author names, stripped and casefolded, that name nobody and so join nothing."""

_COLUMNS = ("recording_id", "author", "duplicate_group", "duplicate_of")


def normalise_author(name: str | None) -> str | None:
    """The author's name as compared between recordings; None if it names nobody.

    Only surrounding space and case are levelled: guessing that `J. Smith` is `John Smith`
    could join hundreds of strangers into one group.
    """
    key = (name or "").strip().casefold()
    return None if key in UNKNOWN_AUTHORS else key


def group_recordings(recordings: pl.DataFrame) -> pl.DataFrame:
    """Connected components of recordings linked by author or duplication.

    Args:
        recordings: `recording_id`, `author`, `duplicate_group` and `duplicate_of` of
            `tables.RECORDINGS`; other columns are ignored, and so is the order of rows.

    Returns:
        `recording_id` and `group`, sorted by `recording_id`. A group is named after its
        smallest `recording_id`, so its name does not depend on what else is in the table.

    Raises:
        SchemaError: a column is missing.
        StoreError: a `recording_id` is null or stands twice.
    """
    ordered = _checked(recordings)
    if ordered.is_empty():
        return ordered.select("recording_id", pl.col("recording_id").alias("group"))
    component = pl.Series("component", _components(ordered))
    return ordered.select("recording_id", component).select(
        "recording_id", pl.col("recording_id").min().over("component").alias("group")
    )


def _checked(recordings: pl.DataFrame) -> pl.DataFrame:
    missing = [name for name in _COLUMNS if name not in recordings.columns]
    if missing:
        message = f"recordings: column {missing[0]!r} is missing, found {recordings.columns}"
        raise SchemaError(message, remedy="pass the table `recordings` of the store")
    ordered = recordings.select(pl.col(_COLUMNS).cast(pl.String)).sort("recording_id")
    identity = ordered["recording_id"]
    if identity.null_count():
        message = f"recordings: recording_id is null in {identity.null_count()} rows"
        raise StoreError(message, remedy="ingest the dataset again")
    doubled = identity.filter(identity.is_duplicated())
    if len(doubled):
        message = f"recordings: recording_id must be unique, {doubled[0]!r} stands twice or more"
        raise StoreError(message, remedy="pass each recording once")
    return ordered


def _components(ordered: pl.DataFrame) -> list[int]:
    """Number of the connected component of each row.

    The graph has a node for each recording and one for each thing that recordings share;
    `duplicate_of` shares the node of the recording it names, whether or not that
    recording is in the table.
    """
    import numpy as np  # noqa: PLC0415 - beside scipy, which is slow to import
    from scipy.sparse import coo_array  # noqa: PLC0415 - slow to import
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415 - slow to import

    names = {name: normalise_author(name) for name in ordered["author"].unique().to_list()}
    authors = pl.Series([names[name] for name in ordered["author"]], dtype=pl.String)
    shared = {
        "recording_id": ("recording:", ordered["recording_id"]),
        "duplicate_of": ("recording:", ordered["duplicate_of"]),
        "author": ("author:", authors),
        "duplicate_group": ("duplicates:", ordered["duplicate_group"]),
    }
    links = pl.concat(
        pl.DataFrame({"row": range(len(ordered)), "thing": values}).select(
            "row", (pl.lit(prefix) + pl.col("thing")).alias("thing")
        )
        for prefix, values in shared.values()
    ).drop_nulls()
    row = links["row"].to_numpy()
    thing = links["thing"].rank("dense").to_numpy().astype(np.int64) - 1 + len(ordered)
    n_nodes = int(thing.max()) + 1
    graph = coo_array((np.ones(len(row), np.int8), (row, thing)), shape=(n_nodes, n_nodes))
    _, component = connected_components(graph, directed=False)
    numbers: list[int] = component[: len(ordered)].tolist()
    return numbers
