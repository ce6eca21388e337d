"""Folds of labelled soundscapes: sites are held out whole, around the folds of the focal ones.

The folds of the other recordings are dealt as if there were no soundscapes, so that none of
them moves when labels of soundscapes come in. Soundscapes then go into those folds, as evenly
as their groups allow.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import polars as pl

from birdstack.store.folds import FoldsConfig, SoundscapeGroup, Split, split_report
from birdstack.store.groups import GROUPING, group_recordings
from birdstack.store.tables import FOLDS
from birdstack.store.views import canonical_json

_ID = "recording_id"
_NO_FOLDS = "soundscapes"  # method of a split of soundscapes alone


def with_soundscapes(
    split: Split | None,
    soundscapes: pl.DataFrame,
    others: pl.DataFrame,
    labels: pl.DataFrame,
    config: FoldsConfig,
    *,
    previous: pl.DataFrame | None = None,
) -> Split:
    """Give labelled soundscapes folds.

    A group is a site (or a day at a site, or a recording: `config.soundscapes`) with all copies
    of its recordings; a soundscape without a site is a group of its own. A group with a copy of
    a recording that has a fold goes into that fold; a copy of one in yet another fold gets
    none.

    Args:
        split: of the other recordings; None if there are none.
        soundscapes: rows of `tables.RECORDINGS`.
        others: those that `split` is of.
        labels: `recording_id`, `label`, `role` of `tables.LABELS`.
        config: how soundscapes are grouped, and how many folds there are where `split` is None.
        previous: an earlier split (`recording_id`, `fold`), whose folds groups keep.
    """
    numbers = range(config.n_folds) if split is None else _folds_of(split, others)
    groups = group_recordings(_keyed(soundscapes, config.soundscapes))
    copies = _copies(soundscapes, others, split)
    earlier = {} if previous is None else dict(previous.select(_ID, "fold").iter_rows())
    fold_of = _deal(groups, copies, earlier, numbers)
    table = groups.with_columns(
        pl.col("group").replace_strict(fold_of, return_dtype=pl.Int32).alias("fold")
    )
    parted = [
        name for name, fold in table.select(_ID, "fold").rows() if fold != copies.get(name, fold)
    ]
    own = table.filter(~pl.col(_ID).is_in(parted)).select(list(FOLDS)).cast(FOLDS)
    moved = [
        {_ID: name, "from_fold": earlier[name], "to_fold": fold}
        for name, fold in own.select(_ID, "fold").sort(_ID).iter_rows()
        if earlier.get(name, fold) != fold
    ]
    notes = _notes(table, parted, config.soundscapes)
    frame = own.sort(_ID)
    recipe: dict[str, Any] = {
        "method": _NO_FOLDS,
        "n_folds": config.n_folds,
        "seed": config.seed,
        "grouping": list(GROUPING),
    }
    if split is not None:
        frame = pl.concat([split.frame, own]).sort(_ID)
        recipe = dict(split.recipe)
        moved = [*split.report["moved"], *moved]
        notes = [*split.report["notes"], *notes]
    digest = hashlib.sha256(canonical_json({"rows": own.sort(_ID).rows()}).encode()).hexdigest()
    recipe["soundscapes"] = {"group": config.soundscapes, "inputs": digest}
    return Split(frame, recipe, split_report(frame, labels, moved=moved, notes=notes))


def _folds_of(split: Split, others: pl.DataFrame) -> Sequence[int]:
    """The folds that have sound: a fold of bare table rows has no model to score with."""
    heard = others.filter(pl.col("content_hash").is_not_null())
    frame = split.frame.join(heard, on=_ID, how="semi")
    numbers: list[int] = (
        (split.frame if frame.is_empty() else frame)["fold"].unique().sort().to_list()
    )
    return numbers


def _keyed(soundscapes: pl.DataFrame, by: SoundscapeGroup) -> pl.DataFrame:
    """The recordings with what joins them in the place of the author."""
    # Two datasets may well call different places SITE1.
    site = pl.concat_str("dataset", "site", separator="/")
    keys = {
        "site": site,
        "site-date": pl.coalesce(
            pl.concat_str(site, pl.col("date").cast(pl.String), separator="/"), site
        ),
        "recording": pl.lit(None, pl.String),
    }
    return soundscapes.with_columns(keys[by].alias("author"))


def _copies(soundscapes: pl.DataFrame, others: pl.DataFrame, split: Split | None) -> dict[str, int]:
    """Fold of the recording that a soundscape is a copy of."""
    if split is None:
        return {}
    known = others.select(_ID, "content_hash").join(split.frame, on=_ID)
    first = known.sort(_ID).unique("content_hash", keep="first").select("content_hash", "fold")
    found = soundscapes.drop_nulls("content_hash").join(first, on="content_hash")
    return dict(found.select(_ID, "fold").iter_rows())


def _deal(
    groups: pl.DataFrame, copies: dict[str, int], earlier: dict[str, int], numbers: Sequence[int]
) -> dict[str, int]:
    """Fold of each group: that of its copies, else the one it had, else the emptiest."""
    members = dict(groups.group_by("group").agg(_ID).sort("group").iter_rows())
    load = dict.fromkeys(numbers, 0)
    found: dict[str, int] = {}
    for group, names in members.items():
        for known in (copies, earlier):
            folds = Counter(sorted(known[n] for n in names if known.get(n) in load))
            if folds:
                found[group] = folds.most_common(1)[0][0]
                load[found[group]] += len(names)
                break
    for group, names in sorted(members.items(), key=lambda item: (-len(item[1]), item[0])):
        if group not in found:
            found[group] = min(numbers, key=lambda fold: (load[fold], fold))
            load[found[group]] += len(names)
    return found


def _notes(table: pl.DataFrame, parted: list[str], by: SoundscapeGroup) -> list[str]:
    notes = []
    if parted:
        notes.append(
            f"{len(parted)} labelled soundscapes have no fold, e.g. {parted[0]!r}: they are copies "
            "of recordings in other folds than the rest of their group"
        )
    if len(table) > 1 and table["fold"].n_unique() == 1:
        finer = "; folds.soundscapes = site-date holds out days instead" if by == "site" else ""
        notes.append(
            f"all {len(table)} labelled soundscapes are of one group and lie in one fold: no "
            f"stacker is fitted to some and judged on others{finer}"
        )
    return notes
