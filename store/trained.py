"""What each fold model has been trained on: the record that the out-of-fold guard judges by.

The table TRAINED is written once a model is trained and before any of its logits. It keeps
ids, bytes and groups: a recording may come back under another name, and a group may be
renamed by a recording that joins it later.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import polars as pl

from birdstack.store.errors import LeakError, SchemaError, UsageError
from birdstack.store.snapshot import Snapshot
from birdstack.store.tables import TRAINED

_KEY_CHARACTERS = 32  # as many as `Recording.content_key` has
_IDENTITY = ("model_fold", "recording_id", "content_hash")


def content_key(content_hash: str) -> str:
    """The part of a content hash, or of a view's content key, that stands for the bytes."""
    return content_hash[:_KEY_CHARACTERS]


def content_keys() -> pl.Expr:
    """`content_key` of the column `content_hash`."""
    return pl.col("content_hash").str.slice(0, _KEY_CHARACTERS)


def trained_frame(
    snapshot: Snapshot, model: str, heard: Mapping[int, Collection[str]]
) -> pl.DataFrame:
    """Rows of TRAINED for one model, with hashes and groups as the snapshot has them.

    Write them with `write_tables(store, {("trained", model): frame}, operation="train")`.

    Args:
        snapshot: the store as it was when the model was trained.
        model: the model's fingerprint.
        heard: model_fold -> ids of the recordings that this fold model was trained on.

    Raises:
        UsageError: a recording is not in the store.
    """
    pairs = pl.DataFrame(
        [(fold, recording_id) for fold, ids in heard.items() for recording_id in sorted(ids)],
        schema={"model_fold": pl.Int32, "recording_id": pl.String},
        orient="row",
    )
    known = snapshot.table("recordings").select("recording_id", "content_hash")
    unknown = pairs.join(known, on="recording_id", how="anti")
    if not unknown.is_empty():
        name = unknown["recording_id"][0]
        message = f"model {model!r}: recording {name!r} is not in {snapshot.files.url}"
        raise UsageError(message, remedy="ingest its dataset first")
    groups = snapshot.table("folds").select("recording_id", "group")
    return (
        pairs.join(known, on="recording_id", how="left")
        .join(groups, on="recording_id", how="left")
        .with_columns(pl.lit(model).alias("model"))
        .select(list(TRAINED))
        .sort("model_fold", "recording_id")
    )


def check_record(model: str, old: pl.DataFrame, new: pl.DataFrame) -> None:
    """Hold that a model's record is about that model alone, and only grows.

    Args:
        model: the key that the rows are written under.
        old: rows of TRAINED that are there.
        new: rows that shall replace them.

    Raises:
        SchemaError: a row names another model than its key.
        LeakError: a recording would be forgotten.
    """
    foreign = new.filter(pl.col("model").ne_missing(pl.lit(model)))
    if not foreign.is_empty():
        message = f"table 'trained', key {model!r}: a row names model {foreign['model'][0]!r}"
        raise SchemaError(message, remedy="write each model's rows under its own fingerprint")
    lost = old.join(new, on=list(_IDENTITY), how="anti", nulls_equal=True)
    if not lost.is_empty():
        fold, name, _ = lost.select(_IDENTITY).row(0)
        message = (
            f"table 'trained': {lost.height} rows of model {model!r} would be forgotten, e.g. "
            f"recording {name!r} of model_fold {fold}"
        )
        remedy = "give a model that was trained anew a fingerprint of its own"
        raise LeakError(message, remedy=remedy)


@dataclass(frozen=True)
class Trained:
    """What the fold models of one model have been trained on; picklable.

    Attributes:
        model: fingerprint.
        model_folds: the fold models that are on record.
        recordings: recording_id -> fold models trained on it.
        contents: first digits of a content hash -> fold models trained on these bytes.
        groups: group -> fold models trained on a recording of it.
    """

    model: str
    model_folds: frozenset[int]
    recordings: Mapping[str, frozenset[int]]
    contents: Mapping[str, frozenset[int]]
    groups: Mapping[str, frozenset[int]]

    @classmethod
    def of(cls, table: pl.DataFrame, folds: pl.DataFrame, model: str) -> Trained:
        """The record of one model; empty if there is none.

        Args:
            table: TRAINED.
            folds: FOLDS in force. A recording counts for its group of then and of now: a
                group is named after its smallest id, so a newcomer can rename it.
            model: fingerprint.
        """
        rows = table.filter(pl.col("model") == model)
        now = rows.select("model_fold", "recording_id").join(folds, on="recording_id")
        groups = pl.concat([frame.select("model_fold", "group") for frame in (rows, now)])
        contents = rows.with_columns(content_keys())
        return cls(
            model,
            frozenset(rows["model_fold"].to_list()),
            _model_folds(rows, "recording_id"),
            _model_folds(contents, "content_hash"),
            _model_folds(groups, "group"),
        )

    def meets(
        self, model_fold: int, recording_id: str, contents: Collection[str], group: str | None
    ) -> str:
        """How a fold model has met a recording in training; empty if it has not.

        Args:
            model_fold: the fold model.
            recording_id: the recording.
            contents: content keys that stand for its bytes.
            group: its group in FOLDS, None if it has none.
        """
        if model_fold in self.recordings.get(recording_id, ()):
            return "was trained on this very recording"
        if any(model_fold in self.contents.get(content, ()) for content in contents):
            return "was trained on a copy of this recording (the same bytes)"
        if group is not None and model_fold in self.groups.get(group, ()):
            return f"was trained on a recording of the same group {group!r}"
        return ""


def _model_folds(rows: pl.DataFrame, column: str) -> dict[str, frozenset[int]]:
    """Value -> fold models; equal sets are one object, of which there are few."""
    kept: dict[frozenset[int], frozenset[int]] = {}
    pairs = rows.drop_nulls(column).group_by(column).agg(pl.col("model_fold").unique())
    found = {}
    for value, folds in pairs.iter_rows():
        each = frozenset(folds)
        found[value] = kept.setdefault(each, each)
    return found
