"""Folds: which labelled recordings are held out together, made once and stored.

The unit is the group (`birdstack.store.groups`), the strata are the primary labels, and
the method is scikit-learn's StratifiedGroupKFold.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from birdstack.store.errors import StoreError
from birdstack.store.groups import GROUPING, group_recordings
from birdstack.store.tables import ANNOTATED, FOLDS
from birdstack.store.views import canonical_json

_NO_ESTIMATE = "no honest out-of-fold estimate possible: all recordings lie in one fold"
_EMPTY = "no labelled recordings: the split is empty"

SoundscapeGroup = Literal["site", "site-date", "recording"]


class FoldsConfig(BaseModel):
    """How labelled recordings are split into folds.

    Attributes:
        n_folds: number of folds; fewer are made where there are fewer groups.
        seed: seed of the shuffle before groups are dealt out.
        soundscapes: what of labelled soundscapes is held out together: all of a `site`, a day
            at a site (`site-date`), or each `recording` by itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_folds: int = Field(default=6, ge=2, le=100)
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    soundscapes: SoundscapeGroup = "site"


@dataclass(frozen=True)
class Split:
    """A finished assignment of labelled recordings to folds.

    Attributes:
        frame: rows of `tables.FOLDS`, sorted by `recording_id`.
        recipe: JSON-able mapping that determines the assignment.
        report: JSON-able findings: `recordings`, `groups`, `folds` (fold, recordings,
            groups), `rare_classes` (label, recordings, groups, folds_without: classes with
            fewer groups than folds, or without a positive in some fold), `largest_group`
            (group, recordings, share), `moved` (recording_id, from_fold, to_fold), `leaks`
            (group, folds, n) and `notes` (sentences).
    """

    frame: pl.DataFrame
    recipe: Mapping[str, Any]
    report: Mapping[str, Any]


def make_folds(
    recordings: pl.DataFrame,
    labels: pl.DataFrame,
    config: FoldsConfig | None = None,
    *,
    previous: pl.DataFrame | None = None,
) -> Split:
    """Split the labelled recordings into folds that share no group.

    The result depends on the values alone, not on the order of rows. Labels of recordings
    that are not passed are ignored, so a caller that leaves out test recordings need not
    filter the labels.

    Args:
        recordings: `recording_id`, `author`, `duplicate_group`, `duplicate_of` of
            `tables.RECORDINGS`.
        labels: `recording_id`, `label`, `role` of `tables.LABELS`.
        config: number of folds and seed.
        previous: an earlier split (`recording_id`, `fold`). Groups with a recording in it
            keep that fold; one that now joins several folds goes to the fold that holds
            most of it. Only new groups are split, and the largest share of them goes to
            the smallest fold.

    Raises:
        SchemaError: a column is missing.
        StoreError: a recording stands twice, or `previous` has a fold beyond `n_folds`.
    """
    config = config or FoldsConfig()
    table = _labelled(recordings, labels)
    kept, moved = _keep(table, previous, config)
    new = table.join(kept, on="group", how="anti").sort("recording_id")
    dealt, notes = _deal(new, config)
    if previous is not None:
        dealt = _attach(dealt, table, kept, config.n_folds)
    frame = table.join(pl.concat([kept, dealt]), on="group").sort("recording_id")
    frame = frame.select(list(FOLDS)).cast(FOLDS)
    recipe = {
        "method": "sklearn.StratifiedGroupKFold",
        "n_folds": config.n_folds,
        "seed": config.seed,
        "grouping": list(GROUPING),
        "inputs": _digest(table),
        "previous": None if previous is None else _digest(_pairs(previous)),
    }
    n_groups = table["group"].n_unique()
    if 1 < n_groups < config.n_folds:
        notes.append(
            f"{n_groups} groups make {n_groups} folds, fewer than n_folds={config.n_folds}"
        )
    return Split(frame, recipe, split_report(frame, labels, moved=moved, notes=notes))


def given_folds(recordings: pl.DataFrame, labels: pl.DataFrame) -> Split:
    """Take the dataset's own folds (`given_fold`) as they are, and report what leaks.

    Args:
        recordings: as for `make_folds`, with `given_fold` filled.
        labels: `recording_id`, `label`, `role` of `tables.LABELS`.

    Raises:
        SchemaError: a column is missing.
        StoreError: a labelled recording has no `given_fold`.
    """
    table = _labelled(recordings, labels)
    given = recordings.select("recording_id", pl.col("given_fold").cast(pl.Int32).alias("fold"))
    frame = table.join(given, on="recording_id", how="left").select(list(FOLDS)).cast(FOLDS)
    without = frame.filter(pl.col("fold").is_null())
    if len(without):
        first = without["recording_id"][0]
        message = f"given_fold is empty for {len(without)} labelled recordings, first {first!r}"
        raise StoreError(message, remedy="fill the fold column, or let birdstack make the folds")
    frame = frame.sort("recording_id")
    recipe = {"method": "given", "grouping": list(GROUPING), "inputs": _digest(frame)}
    return Split(frame, recipe, split_report(frame, labels, moved=[], notes=[]))


def check_no_leak(split: Split) -> None:
    """Hold that every group lies in exactly one fold.

    Raises:
        StoreError: a group spans folds; the message names the first and counts the rest.
    """
    leaks = _leaks(split.frame)
    if leaks:
        first = leaks[0]
        message = (
            f"{len(leaks)} groups span several folds, e.g. group {first['group']!r} with "
            f"{first['n']} recordings lies in folds {first['folds']}"
        )
        raise StoreError(message, remedy="make the folds with make_folds, which keeps groups whole")


def _labelled(recordings: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """`recording_id`, `group`, `stratum` of the labelled recordings, sorted.

    The stratum is the primary label; of several the alphabetically first, and where there
    is none, the first secondary label; empty where somebody listened and heard nothing.
    """
    heard = pl.when(pl.col("role") != ANNOTATED).then(pl.col("label")).alias("label")
    strata = (
        labels.with_columns(heard, second=pl.col("role") != "primary")
        .sort("recording_id", "second", "label", nulls_last=True)
        .group_by("recording_id", maintain_order=True)
        .agg(pl.col("label").first().fill_null("").alias("stratum"))
    )
    present = recordings.join(strata, on="recording_id", how="semi")
    return group_recordings(present).join(strata, on="recording_id").sort("recording_id")


def _keep(
    table: pl.DataFrame, previous: pl.DataFrame | None, config: FoldsConfig
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Groups that have a fold already (`group`, `fold`), and the recordings that move."""
    if previous is None:
        return pl.DataFrame(schema={"group": pl.String, "fold": pl.Int32}), []
    earlier = _pairs(previous)
    beyond = earlier.filter(~pl.col("fold").is_between(0, config.n_folds - 1))
    if len(beyond):
        name, fold = beyond.row(0)
        message = f"previous split: fold must be in 0..{config.n_folds - 1}, {name!r} has {fold}"
        raise StoreError(message, remedy="keep n_folds, or split anew without a previous split")
    placed = table.join(earlier, on="recording_id")
    kept = (
        placed.group_by("group", "fold")
        .len()
        .sort(["group", "len", "fold"], descending=[False, True, False])
        .unique("group", keep="first", maintain_order=True)
        .select("group", "fold")
    )
    moved = (
        placed.join(kept, on="group", suffix="_now")
        .filter(pl.col("fold") != pl.col("fold_now"))
        .sort("recording_id")
        .select("recording_id", from_fold="fold", to_fold="fold_now")
    )
    return kept, moved.to_dicts()


def _pairs(previous: pl.DataFrame) -> pl.DataFrame:
    return previous.select("recording_id", pl.col("fold").cast(pl.Int32)).sort("recording_id")


def _deal(table: pl.DataFrame, config: FoldsConfig) -> tuple[pl.DataFrame, list[str]]:
    """`group`, `fold` for each group of `table` by StratifiedGroupKFold, and notes."""
    group = (table["group"].rank("dense").to_numpy() - 1).astype(np.int64)
    stratum = (table["stratum"].rank("dense").to_numpy() - 1).astype(np.int64)
    n_folds = min(config.n_folds, table["group"].n_unique())
    notes: list[str] = []
    if n_folds < 2:  # noqa: PLR2004 - one fold is no split
        fold = np.zeros(len(table), np.int32)
    else:
        if np.bincount(stratum).max() < n_folds:
            # scikit-learn refuses this; sizes can still be balanced.
            stratum = np.zeros_like(stratum)
            notes.append(
                f"every class has fewer than {n_folds} recordings: folds are balanced in size only"
            )
        fold = _fill_empty(_kfold(group, stratum, n_folds, config.seed), group, n_folds)
    frame = table.select("group").with_columns(pl.Series("fold", fold, dtype=pl.Int32))
    return frame.unique("group", keep="first", maintain_order=True), notes


def _kfold(
    group: NDArray[np.int64], stratum: NDArray[np.int64], n_folds: int, seed: int
) -> NDArray[np.int32]:
    """Fold of each row, groups whole, strata spread."""
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415 - slow to import

    splitter = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    fold = np.zeros(len(group), np.int32)
    with warnings.catch_warnings():
        # Both are said, with the classes' names, by the report's `rare_classes`.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        for number, (_, held_out) in enumerate(splitter.split(stratum, stratum, group)):
            fold[held_out] = number
    return fold


def _fill_empty(
    fold: NDArray[np.int32], group: NDArray[np.int64], n_folds: int
) -> NDArray[np.int32]:
    """Give a fold that got nothing the smallest group of the fold with most groups.

    The greedy deal compares floating-point spreads, so a tie can go against an empty fold.
    """
    first = np.unique(group, return_index=True)[1]
    size = np.bincount(group)
    fold_of_group = fold[first]
    for empty in np.setdiff1d(np.arange(n_folds), fold_of_group):
        richest = np.bincount(fold_of_group).argmax()
        candidates = np.flatnonzero(fold_of_group == richest)
        fold_of_group[candidates[size[candidates].argmin()]] = empty
    filled: NDArray[np.int32] = fold_of_group[group]
    return filled


def _attach(
    dealt: pl.DataFrame, table: pl.DataFrame, kept: pl.DataFrame, n_folds: int
) -> pl.DataFrame:
    """Rename the folds of new groups so that the largest new share meets the smallest fold."""

    def sizes(assigned: pl.DataFrame) -> NDArray[np.int64]:
        folds = table.join(assigned, on="group")["fold"].to_numpy()
        return np.bincount(folds, minlength=n_folds)

    now, added = sizes(kept), sizes(dealt)
    renamed = np.empty(n_folds, np.int32)
    renamed[np.argsort(-added, kind="stable")] = np.argsort(now, kind="stable")
    fold = pl.Series("fold", renamed[dealt["fold"].to_numpy()], dtype=pl.Int32)
    return dealt.with_columns(fold)


def _digest(frame: pl.DataFrame) -> str:
    """Sha256 of the rows of an ordered frame, hexadecimal."""
    return hashlib.sha256(canonical_json({"rows": frame.rows()}).encode()).hexdigest()


def _leaks(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Groups that lie in several folds: `group`, `folds`, `n` recordings."""
    return (
        frame.group_by("group")
        .agg(pl.col("fold").unique().sort().alias("folds"), pl.len().alias("n"))
        .filter(pl.col("folds").list.len() > 1)
        .sort("group")
        .to_dicts()
    )


def split_report(
    frame: pl.DataFrame, labels: pl.DataFrame, *, moved: list[dict[str, Any]], notes: list[str]
) -> dict[str, Any]:
    """The findings of a split, as `Split.report` has them.

    Args:
        frame: rows of `tables.FOLDS`.
        labels: `recording_id`, `label`, `role` of `tables.LABELS`.
        moved: recordings that have left an earlier fold.
        notes: sentences that are known already.
    """
    folds = (
        frame.group_by("fold")
        .agg(pl.len().alias("recordings"), pl.col("group").n_unique().alias("groups"))
        .sort("fold")
    )
    largest = (
        frame.group_by("group")
        .len("recordings")
        .sort(["recordings", "group"], descending=[True, False])
        .head(1)
        .with_columns(share=pl.col("recordings") / len(frame))
    )
    if frame.is_empty():
        notes = [*notes, _EMPTY]
    elif len(folds) == 1:
        notes = [*notes, _NO_ESTIMATE]
    return {
        "recordings": len(frame),
        "groups": frame["group"].n_unique(),
        "folds": folds.to_dicts(),
        "rare_classes": _rare_classes(frame, labels, folds["fold"].to_list()),
        "largest_group": next(iter(largest.to_dicts()), None),
        "moved": moved,
        "leaks": _leaks(frame),
        "notes": notes,
    }


def _rare_classes(
    frame: pl.DataFrame, labels: pl.DataFrame, folds: list[int]
) -> list[dict[str, Any]]:
    """Classes (by primary label) that not every fold can hold or does hold, rarest first."""
    positives = (
        labels.filter(pl.col("role") == "primary")
        .select("recording_id", "label")
        .unique()
        .join(frame, on="recording_id")
        .group_by("label")
        .agg(
            pl.len().alias("recordings"),
            pl.col("group").n_unique().alias("groups"),
            pl.col("fold").unique(),
        )
        .sort("groups", "label")
    )
    return [
        {
            "label": row["label"],
            "recordings": row["recordings"],
            "groups": row["groups"],
            "folds_without": sorted(set(folds) - set(row["fold"])),
        }
        for row in positives.to_dicts()
        if row["groups"] < len(folds) or len(row["fold"]) < len(folds)
    ]
