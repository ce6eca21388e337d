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
        threads: files that are hashed and probed at once.
        max_table_bytes: a metadata table larger than this, unpacked, is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(default=None, min_length=1, max_length=200)
    layout: Literal["auto"] | LayoutName = "auto"
    fold_column: str | None = Field(default=None, min_length=1)
    class_list: Path | None = None
    threads: int = Field(default=4, ge=1, le=256)
    max_table_bytes: int = Field(default=1 << 30, ge=1 << 10)
