"""The class list: which labels there are, and in which one order.

The order comes from `sample_submission.csv` where there is one (its columns are what a
competition scores), else from `taxonomy.csv`, else from the sorted labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from birdstack.store.errors import DatasetError
from birdstack.store.fault_rules import table_fault
from birdstack.store.metadata_table import listed, read_table
from birdstack.store.tables import CLASSES

Names = Mapping[str, tuple[str | None, str | None]]
"""Scientific and common name by label."""

_LABEL_COLUMN = "primary_label"
_ROW_ID = "row_id"


@dataclass(frozen=True)
class ClassList:
    """Labels in their order; `labels[i]` is class `i`.

    Attributes:
        labels: every label once.
        source: where the order comes from, such as `sample_submission.csv` or `labels`.
    """

    labels: tuple[str, ...]
    source: str = "labels"

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            doubled = sorted({label for label in self.labels if self.labels.count(label) > 1})
            message = f"class list {self.source}: labels named twice: {listed(doubled)}"
            raise DatasetError(message, remedy="name every class once")

    @classmethod
    def from_labels(cls, labels: Iterable[str]) -> ClassList:
        """The sorted distinct labels."""
        return cls(tuple(sorted(set(labels))))

    @classmethod
    def from_frame(cls, classes: pl.DataFrame, source: str = "store") -> ClassList:
        """The list that a frame with the schema `CLASSES` holds."""
        return cls(tuple(classes.sort("index")["label"].to_list()), source)

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each label."""
        return {label: i for i, label in enumerate(self.labels)}

    def __len__(self) -> int:
        return len(self.labels)

    def __contains__(self, label: object) -> bool:
        return label in self.index

    def frame(self, names: Names) -> pl.DataFrame:
        """Rows of the table of classes, in order."""
        known = [names.get(label, (None, None)) for label in self.labels]
        return pl.DataFrame(
            {
                "label": list(self.labels),
                "index": range(len(self.labels)),
                "scientific_name": [name[0] for name in known],
                "common_name": [name[1] for name in known],
            },
            schema=CLASSES,
        )


def read_class_list(path: Path, *, max_bytes: int = 1 << 26) -> ClassList:
    """Read a class list: a submission's header, a `primary_label` column, or a label a line.

    Raises:
        DatasetError: the file cannot be read, is empty or names a class twice.
    """
    table = read_table(path, file=path.name, required=(), max_bytes=max_bytes, rows_needed=False)
    columns = table.columns
    if columns[0] == _ROW_ID:
        labels = columns[1:]
    elif _LABEL_COLUMN in columns:
        labels = [text.strip() for text in table.frame[_LABEL_COLUMN].to_list()]
    elif len(columns) == 1:
        labels = [columns[0], *(text.strip() for text in table.frame[columns[0]].to_list())]
    else:
        what = f"no class list: the columns are {listed(columns)}"
        remedy = "give a sample submission, a table with a primary_label column, or a label a line"
        raise table_fault(path.name, "class_list", what, remedy)
    labels = [label for label in labels if label]
    if not labels:
        raise table_fault(path.name, "class_list", "it names no class", "list the classes in it")
    return ClassList(tuple(labels), path.name)


def read_names(path: Path, *, max_bytes: int = 1 << 26) -> dict[str, tuple[str | None, str | None]]:
    """Scientific and common names by label from `taxonomy.csv` or an eBird taxonomy.

    Raises:
        DatasetError: the table cannot be read or has no column of labels.
    """
    table = read_table(path, file=path.name, required=(), max_bytes=max_bytes)
    found = {name.lower(): name for name in table.columns}

    def column(*names: str) -> list[str | None]:
        name = next((found[key] for key in names if key in found), None)
        if name is None:
            return [None] * table.frame.height
        return [text.strip() or None for text in table.frame[name].to_list()]

    labels = column(_LABEL_COLUMN, "species_code", "ebird_code", "label")
    if not any(labels):
        what = f"no column of labels (primary_label or SPECIES_CODE); found {listed(table.columns)}"
        raise table_fault(path.name, "missing_column", what, "add the column of labels")
    scientific = column("scientific_name", "sci_name")
    common = column("common_name", "primary_com_name")
    rows = zip(labels, scientific, common, strict=True)
    return {label: (first, second) for label, first, second in rows if label}
