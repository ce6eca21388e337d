"""Reads a dataset in BirdCLEF layout (2021 to 2025): its table, labels and class list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from birdstack.store.classes import ClassList, Names, read_class_list, read_names
from birdstack.store.dataset_layouts import Layout
from birdstack.store.errors import DatasetError
from birdstack.store.fault_rules import RejectLog, table_fault
from birdstack.store.ingest_config import IngestConfig
from birdstack.store.metadata_rows import REQUIRED, believed_values, read_cells, usable_rows
from birdstack.store.metadata_table import LINE, MetadataTable, missing_column, read_table

_WHOLE = r"^[+-]?\d{1,9}(\.0*)?$"


@dataclass(frozen=True)
class Described:
    """What a dataset says before any audio is read.

    Attributes:
        rows: one row per recording: `recording_id` and the columns of `RECORDINGS` that do
            not come from the audio file.
        labels: `recording_id`, `label`, `role`.
        classes: the class list.
        names: scientific and common names by label.
        n_rows: rows of the table, or files where there is no table.
    """

    rows: pl.DataFrame
    labels: pl.DataFrame
    classes: ClassList
    names: Names = field(default_factory=dict)
    n_rows: int = 0


def read_birdclef(layout: Layout, config: IngestConfig, log: RejectLog) -> Described:
    """Read the table and check every row; bad rows go to `log`, good rows go on.

    Raises:
        DatasetError: the table cannot be read, or no row of it can be used.
    """
    assert layout.table is not None
    file = layout.table
    table = read_table(
        layout.root / file, file=file, required=REQUIRED, max_bytes=config.max_table_bytes
    )
    for line, count in table.ragged:
        log.add("ragged_row", file=file, row=line, value=f"{count} fields")
    if table.delimiter != ",":
        log.add("delimiter", file=file, row=1, value=table.delimiter)
    if not layout.has_audio:
        log.add("audio_absent", file=layout.audio_folder)
    folds = _folds(table, config.fold_column)
    rows = read_cells(table).with_columns(folds)
    wanted = _wanted_classes(layout, config, rows, log)
    rows = usable_rows(rows, layout, wanted, log)
    if rows.is_empty():
        everything = f"{table.frame.height + len(table.ragged)} rows"
        raise log.nothing_left(everything)
    rows = believed_values(rows, file, table.columns, log)
    classes = wanted or ClassList.from_labels(rows["primary_label"])
    return Described(
        rows=rows.with_columns(pl.lit("train").alias("split"), pl.lit("focal").alias("kind")),
        labels=_labels(rows, classes, file, log),
        classes=classes,
        names=_names(layout, rows, log),
        n_rows=table.frame.height + len(table.ragged),
    )


def _folds(table: MetadataTable, column: str | None) -> pl.Series:
    """The dataset's own folds; every row needs one, or rows would leak between folds.

    Raises:
        DatasetError: the column is missing or holds something else than whole numbers.
    """
    if column is None:
        return pl.Series("given_fold", [None] * table.frame.height, dtype=pl.Int32)
    if column not in table.columns:
        remedy = "give the name of the column that holds the folds as --fold-column"
        raise missing_column(table.file, column, table.columns, remedy)
    text = table.frame[column].str.strip_chars()
    bad = table.frame.filter(~text.str.contains(_WHOLE))
    if bad.height:
        place = f"{table.file}, line {bad[LINE][0]}, column {column}"
        what = f"a fold must be a whole number, got {bad[column][0]!r} ({bad.height} such rows)"
        raise table_fault(place, "fold_number", what, "write the number of a fold in every row")
    return text.cast(pl.Float64).cast(pl.Int32).alias("given_fold")


def _wanted_classes(
    layout: Layout, config: IngestConfig, rows: pl.DataFrame, log: RejectLog
) -> ClassList | None:
    """The class list that a file gives, None if the labels themselves must serve."""
    labels = set(rows["primary_label"].drop_nulls())
    if config.class_list is not None:
        classes = read_class_list(config.class_list)
        if not labels & set(classes.labels):
            what = f"none of its {len(classes)} classes is a label of {layout.table}"
            remedy = "give the class list of this dataset"
            raise table_fault(config.class_list.name, "class_list", what, remedy)
        return classes
    for name in (*layout.beside("sample_submission.csv"), *layout.beside("taxonomy.csv")):
        try:
            classes = read_class_list(layout.root / name)
        except DatasetError as error:
            log.add("side_table", file=name, reason=error.message)
            continue
        # In 2021 and 2022 the submission had one row for each class: columns birds or target.
        if labels & set(classes.labels):
            return classes
    return None


def _labels(rows: pl.DataFrame, classes: ClassList, file: str, log: RejectLog) -> pl.DataFrame:
    """Primary and secondary labels; a secondary label outside the class list is dropped."""
    primary = rows.select("recording_id", pl.col("primary_label").alias("label")).with_columns(
        pl.lit("primary").alias("role")
    )
    each = (
        rows.select("line", "recording_id", "primary_label", pl.col("secondary").alias("label"))
        .explode("label")
        .drop_nulls("label")
        .filter(pl.col("label") != pl.col("primary_label"))
        .with_columns(pl.col("label").is_in(list(classes.labels)).alias("known"))
    )
    for line, recording_id, label in (
        each.filter(~pl.col("known")).select("line", "recording_id", "label").iter_rows()
    ):
        log.add(
            "unknown_secondary_label", file=file, row=line, value=label, recording_id=recording_id
        )
    secondary = each.filter("known").select(
        "recording_id", "label", pl.lit("secondary").alias("role")
    )
    return pl.concat([primary, secondary])


def _names(layout: Layout, rows: pl.DataFrame, log: RejectLog) -> Names:
    """Names by label: from taxonomy.csv, else the table itself, else an eBird taxonomy."""
    names: dict[str, tuple[str | None, str | None]] = {}

    def add(pattern: str, read: Callable[[Path], dict[str, tuple[str | None, str | None]]]) -> None:
        for file in layout.beside(pattern):
            try:
                found = read(layout.root / file)
            except DatasetError as error:
                log.add("side_table", file=file, reason=error.message)
                continue
            for label, pair in found.items():
                names.setdefault(label, pair)

    add("taxonomy.csv", read_names)
    own = rows.select("primary_label", "scientific_name", "common_name").unique(
        "primary_label", keep="first", maintain_order=True
    )
    for label, scientific, common in own.iter_rows():
        if scientific is not None or common is not None:
            names.setdefault(label, (scientific, common))
    add("eBird_Taxonomy*.csv", read_names)
    return names
