"""Schemas of the tables that are about recordings and models rather than windows.

Window views hold one row per window; these tables hold one row per recording, label,
class, rejected row or score. They lie in the same log as the views, so that one snapshot pins
features, folds and labels together.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl


def schema(columns: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.Schema:
    """A polars schema (this signature lets type checkers infer the mapping)."""
    return pl.Schema(columns)


RECORDINGS = schema(
    {
        "recording_id": pl.String,  # path below the dataset's root, `/` separators
        "dataset": pl.String,
        "split": pl.String,  # train (labelled), unlabeled, test, simulated
        "kind": pl.String,  # focal (one animal close up) or soundscape
        "path": pl.String,  # below the dataset's root
        "content_hash": pl.String,  # sha256 of the bytes; null where there is no audio
        "bytes": pl.Int64,
        "mtime_ns": pl.Int64,
        "format": pl.String,
        "sample_rate_hz": pl.Int32,
        "channels": pl.Int32,
        "duration_s": pl.Float64,  # as the header declares
        "latitude": pl.Float64,
        "longitude": pl.Float64,
        "elevation_m": pl.Float64,
        "site": pl.String,
        "date": pl.Date,
        "time": pl.Time,
        "author": pl.String,
        "rating": pl.Float64,
        "type": pl.List(pl.String),
        "license": pl.String,
        "url": pl.String,
        "given_fold": pl.Int32,  # the dataset's own fold column, if one was named
        "duplicate_of": pl.String,  # first recording (by id) with the same bytes
        "duplicate_group": pl.String,  # exact, or same duration + author + label; else null
    }
)
"""One row per recording of every ingested dataset. No labels: see LABELS."""

ANNOTATED = "annotated"
"""Role of a row that says where somebody has listened, rather than what sings."""

LABELS = schema(
    {
        "recording_id": pl.String,
        "label": pl.String,  # null where annotated for every class
        "role": pl.String,  # primary, secondary or annotated
        "start_s": pl.Float64,  # null: somewhere in the recording (weak label); annotated: all
        "end_s": pl.Float64,
    }
)
"""One row per recording and label; a recording without a row is unlabelled.

A row of the role `annotated` is no label: all that sings in its stretch has a row, so that
whatever has none is absent there. A recording with such a row is not known elsewhere.
"""

CLASSES = schema(
    {
        "label": pl.String,
        "index": pl.Int32,
        "scientific_name": pl.String,
        "common_name": pl.String,
    }
)
"""The class list in its one order."""

FOLDS = schema(
    {
        "recording_id": pl.String,
        "fold": pl.Int32,
        "group": pl.String,  # recordings of one group never part
    }
)
"""One row per labelled recording; immutable, a new split is a new recipe."""

REJECTS = schema(
    {
        "dataset": pl.String,
        "file": pl.String,  # the table or audio file, below the dataset's root
        "row": pl.Int64,  # line in that file, the header being line 1; null for a whole file
        "column": pl.String,
        "rule": pl.String,  # stable short word, e.g. latitude_range
        "value": pl.String,
        "reason": pl.String,  # one sentence
        "remedy": pl.String,  # one sentence
        "severity": pl.String,  # rejected: the row is out; flagged: the row is in, value nulled
        "recording_id": pl.String,  # where it is known
    }
)
"""One row per broken rule: nothing that was left out or altered is left unsaid."""

DATASETS = schema(
    {
        "dataset": pl.String,
        "root": pl.String,  # absolute path at the time of ingestion
        "layout": pl.String,  # birdclef, class-folders, soundscapes
        "table": pl.String,  # metadata table below root, null if none
        "fold_column": pl.String,  # the dataset's own folds, kept for the next ingestion
        "rows": pl.Int64,
        "recordings": pl.Int64,
        "rejected": pl.Int64,
    }
)
"""One row per ingested dataset."""

SKIPS = schema(
    {
        "view": pl.String,
        "recipe": pl.String,
        "recording_id": pl.String,
        "content_hash": pl.String,
        "code": pl.String,  # stable short word, e.g. decode_error
        "reason": pl.String,  # one sentence
    }
)
"""One row per recording that a view could not be made for; kept in the log, not in parts."""

NOTES = schema(
    {
        "recording_id": pl.String,
        "note": pl.String,  # stable short word, e.g. truncated
        "value": pl.String,  # as JSON
    }
)
"""One row per fact about a recording's sound that did not stop it; kept in the log."""

TRAINED = schema(
    {
        "model": pl.String,  # fingerprint, as `training.model` in the recipe of its logits
        "model_fold": pl.Int32,  # the fold that this fold model was not trained on
        "recording_id": pl.String,
        "content_hash": pl.String,  # sha256 of the bytes it was trained on
        "group": pl.String,  # as FOLDS said at the time; null for a recording without a fold
    }
)
"""One row per fold model and recording that it was trained on; its key is the model.

Rows of a model are added and never taken away: its weights do not forget.
"""

SCORES = schema(
    {
        "view": pl.String,  # whose scores were judged, e.g. logits/lite0
        "recipe": pl.String,  # of that view
        "metric": pl.String,  # stable short word, e.g. macro_auc
        "level": pl.String,  # what a score is of: window, recording, simulated window, ...
        "split": pl.String,  # hash of the folds it was measured with
        "value": pl.Float64,
        "classes": pl.Int32,  # that the value is a mean over
        "skipped_classes": pl.Int32,  # left out: no positive or no negative
        "windows": pl.Int64,  # rows it was measured on
        "recordings": pl.Int64,
        "details": pl.String,  # JSON: the value of each class, and what else belongs to it
    }
)
"""One row per figure of merit of a view; its key is `view/recipe`, so recipes stand side by side."""

TABLES: dict[str, pl.Schema] = {
    "recordings": RECORDINGS,
    "labels": LABELS,
    "classes": CLASSES,
    "folds": FOLDS,
    "rejects": REJECTS,
    "datasets": DATASETS,
    "trained": TRAINED,
    "scores": SCORES,
}
