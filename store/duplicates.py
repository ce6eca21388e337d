"""Recordings that are the same recording: exact copies, and near copies by three signs.

Near copies follow the rule of the winning BirdCLEF 2023 entry: same duration, author and
label. Cross-validation must keep both kinds on one side of a split.
"""

from __future__ import annotations

import polars as pl

from birdstack.store.fault_rules import RejectLog

_ID = "recording_id"


def mark_duplicates(recordings: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Fill `duplicate_of` and `duplicate_group`.

    Both frames may be the concatenation of several datasets.

    Args:
        recordings: frame with the schema `RECORDINGS`.
        labels: frame with the schema `LABELS`; only primary labels count.

    Returns:
        `recordings` with two columns replaced. `duplicate_of` is the first recording, by id,
        with the same bytes (null for that recording itself). `duplicate_group` is the first
        id of the connected component over same bytes, or same duration (to 1 ms), author and
        label; null for a recording that stands alone.
    """
    columns = recordings.columns
    facts = _with_primary(recordings, labels)
    first = facts.drop_nulls("content_hash").select(
        _ID, pl.col(_ID).min().over("content_hash").alias("first")
    )
    exact = first.filter(pl.col("first") != pl.col(_ID))
    groups = _components(_edges(facts))
    return (
        recordings.drop("duplicate_of", "duplicate_group")
        .join(exact.rename({"first": "duplicate_of"}), on=_ID, how="left", maintain_order="left")
        .join(groups, on=_ID, how="left", maintain_order="left")
        .select(columns)
    )


def flag_conflicts(recordings: pl.DataFrame, labels: pl.DataFrame, log: RejectLog) -> None:
    """Note every exact copy whose primary label differs from that of the first copy."""
    facts = _with_primary(recordings, labels).select(_ID, "path", "duplicate_of", "primary")
    pairs = facts.drop_nulls(["duplicate_of", "primary"]).join(
        facts.select(pl.col(_ID).alias("duplicate_of"), pl.col("primary").alias("other")),
        on="duplicate_of",
    )
    for row in pairs.filter(pl.col("primary") != pl.col("other")).sort(_ID).to_dicts():
        log.add(
            "conflicting_duplicate",
            file=row["path"],
            value=row["primary"],
            recording_id=row[_ID],
            reason=f"same bytes as {row['duplicate_of']}, which is labelled {row['other']}",
        )


def _with_primary(recordings: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    primary = (
        labels.filter(pl.col("role") == "primary")
        .group_by(_ID)
        .agg(pl.col("label").unique().sort().str.join(" ").alias("primary"))
    )
    return recordings.join(primary, on=_ID, how="left", maintain_order="left")


def _edges(facts: pl.DataFrame) -> list[tuple[str, str]]:
    """Pairs (first of the group, member) for every group of either kind."""
    near = facts.filter(pl.col("duration_s") > 0).with_columns(
        (pl.col("duration_s") * 1000).round().cast(pl.Int64).alias("ms")
    )
    edges: list[tuple[str, str]] = []
    for frame, keys in ((facts, ["content_hash"]), (near, ["ms", "author", "primary"])):
        pairs = frame.drop_nulls(keys).select(pl.col(_ID).min().over(keys).alias("first"), _ID)
        edges += pairs.filter(pl.col("first") != pl.col(_ID)).rows()
    return edges


def _components(edges: list[tuple[str, str]]) -> pl.DataFrame:
    """Connected components by union-find; the smallest id is the root of its component."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for left, right in edges:
        low, high = sorted((root(left), root(right)))
        parent[high] = low
    members = list(parent)
    return pl.DataFrame(
        {_ID: members, "duplicate_group": [root(node) for node in members]},
        schema={_ID: pl.String, "duplicate_group": pl.String},
    )
