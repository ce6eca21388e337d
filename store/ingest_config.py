"""Settings of the ingestion of one dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

LayoutName = Literal["birdclef", "class-folders", "soundscapes"]


class IngestConfig(BaseModel):
    """How the files of a dataset are read; every field has a working default.

    Attributes:
        name: name of the dataset in the store; by default the folder's name.
        layout: `auto` looks at the folder; the others say what it is.
        fold_column: column of the metadata table that holds the dataset's own folds, such as
            `official_fold`; None if there is none.
        class_list: file that gives the classes and their order: a `sample_submission.csv`, a
            table with a `primary_label` column, or text with one label a line. By default
            the dataset's own `sample_submission.csv`, else its `taxonomy.csv`, else the
            sorted labels.
        soundscape_labels: path or pattern, below the dataset's folder or absolute, of tables with
            labels of soundscapes; by default `*soundscape*labels*.csv` in the folder, and Raven
            and Audacity tables beside the soundscapes.
        label_column: column of those tables that holds the labels; by default `birds`,
            `primary_label`, `Species` and the like.
        label_row_s: length in seconds of the rows of a table that names them by `row_id`.
        annotated: where nobody having labelled a class means that it is absent: `whole`, in
            the whole recording; `labels`, only in the stretches that have a row; `auto`, the
            first for Raven and Audacity, the second for CSV tables.
        no_class: labels that stand for no class, such as `noise`.
        threads: files that are hashed and probed at once.
        max_table_bytes: a metadata table larger than this, unpacked, is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(default=None, min_length=1, max_length=200)
    layout: Literal["auto"] | LayoutName = "auto"
    fold_column: str | None = Field(default=None, min_length=1)
    class_list: Path | None = None
    soundscape_labels: str | None = Field(default=None, min_length=1)
    label_column: str | None = Field(default=None, min_length=1)
    label_row_s: float = Field(default=5.0, gt=0, le=3600)
    annotated: Literal["auto", "whole", "labels"] = "auto"
    no_class: tuple[str, ...] = ("nocall",)
    threads: int = Field(default=4, ge=1, le=256)
    max_table_bytes: int = Field(default=1 << 30, ge=1 << 10)
