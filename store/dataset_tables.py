"""Reads a dataset in BirdCLEF layout (2021 to 2025): its table, labels and class list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from birdstack.store.audio_files import find_file, is_audio_name
from birdstack.store.classes import ClassList, Names, read_class_list, read_names
from birdstack.store.errors import DatasetError
from birdstack.store.fault_rules import RejectLog, table_fault
from birdstack.store.ingest_config import IngestConfig
from birdstack.store.layouts import Layout
from birdstack.store.metadata_rules import (
    NUMBERS,
    believed,
    broken_rules,
    note_broken,
    row_schema,
    to_numbers,
    value_schema,
)
from birdstack.store.metadata_table import (
    LINE,
    MetadataTable,
    missing_column,
    read_table,
)
from birdstack.store.metadata_values import (
    NULL_TEXT,
    NULL_VALUE,
    parse_column,
    parse_date,
    parse_list,
    parse_time,
)

REQUIRED = ("filename", "primary_label")
_ALIASES = {"elevation": ("elevation", "elevation_m", "alt")}
_TEXTS = ("author", "license", "url", "site", "scientific_name", "common_name")
_LIST = pl.List(pl.String)
_WHOLE = r"^[+-]?\d{1,9}(\.0*)?$"


@dataclass(frozen=True)
class Plan:
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


def read_birdclef(layout: Layout, config: IngestConfig, log: RejectLog) -> Plan:
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
    rows = _cells(table).with_columns(folds)
    wanted = _wanted_classes(layout, config, rows, log)
    rows = _usable_rows(rows, layout, wanted, log)
    if rows.is_empty():
        everything = f"{table.frame.height + len(table.ragged)} rows"
        raise log.nothing_left(everything)
    rows = _believed_values(rows, file, table.columns, log)
    classes = wanted or ClassList.from_labels(rows["primary_label"])
    return Plan(
        rows=rows.with_columns(pl.lit("train").alias("split"), pl.lit("focal").alias("kind")),
        labels=_labels(rows, classes, file, log),
        classes=classes,
        names=_names(layout, rows, log),
        n_rows=table.frame.height + len(table.ragged),
    )


def _cells(table: MetadataTable) -> pl.DataFrame:
    """The known columns as stripped text, null where a cell says nothing.

    Columns of numbers, dates and times keep their text as `<column>_text`.
    """
    found = set(table.columns)

    def cell(column: str, null: tuple[str, ...] = NULL_TEXT) -> pl.Expr:
        name = _header(column, found)
        if name is None:
            return pl.lit(None, pl.String).alias(column)
        text = pl.col(name).str.strip_chars()
        return pl.when(~text.is_in(null)).then(text).alias(column)

    return table.frame.select(
        pl.col(LINE).alias("line"),
        *(cell(column) for column in (*REQUIRED, *_TEXTS, "secondary_labels")),
        cell("type", NULL_VALUE),
        *(cell(column, NULL_VALUE).name.suffix("_text") for column in (*NUMBERS, "date", "time")),
    )


def _header(column: str, found: set[str]) -> str | None:
    return next((name for name in _ALIASES.get(column, (column,)) if name in found), None)


def _folds(table: MetadataTable, column: str | None) -> pl.Series:
    """The dataset's own folds; every row needs one, or rows would leak between folds.

    Raises:
        DatasetError: the column is missing or holds something else than whole numbers.
    """
    if column is None:
        return pl.Series("given_fold", [None] * table.frame.height, dtype=pl.Int32)
    if column not in table.columns:
        raise missing_column(table.file, column, table.columns)
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


def _usable_rows(
    rows: pl.DataFrame, layout: Layout, wanted: ClassList | None, log: RejectLog
) -> pl.DataFrame:
    """Rows that keep every rule of the row schema, with `recording_id` and `secondary`."""
    assert layout.table is not None
    ids, found, reasons = _locate(rows, layout)
    secondary, malformed = parse_column(rows["secondary_labels"], parse_list, _LIST)
    known = pl.lit(None, pl.Boolean)
    if wanted is not None:
        known = pl.col("primary_label").is_in(list(wanted.labels))
    rows = rows.with_columns(
        pl.Series("recording_id", ids, dtype=pl.String),
        pl.Series("file_found", found, dtype=pl.Boolean),
        secondary.alias("secondary"),
        malformed.alias("secondary_malformed"),
        known.alias("label_known"),
    )
    broken = broken_rules(row_schema(), rows)
    columns = ("filename", "primary_label", "secondary_labels")
    out = sorted(set().union(*broken.values()))
    note_broken(
        broken,
        log,
        file=layout.table,
        texts=_by_line(rows, columns, out),
        ids=_by_line(rows, ("recording_id",), out)["recording_id"],
        reasons={("missing_file", line): reason for line, reason in reasons.items()},
        headers={},
    )
    _note_files_without_row(layout, set(ids), log)
    return rows.filter(~pl.col("line").is_in(out))


def _locate(
    rows: pl.DataFrame, layout: Layout
) -> tuple[list[str | None], list[bool | None], dict[int, str]]:
    """Recording id of every row, whether its file is there, and hints by line."""
    files = layout.listing.files
    by_lower = {name.lower(): name for name in files}
    ids: list[str | None] = []
    found: list[bool | None] = []
    reasons: dict[int, str] = {}
    for line, name, label in rows.select("line", *REQUIRED).iter_rows():
        path = _recording_path(name, label, layout)
        ids.append(path)
        if path is None or not layout.has_audio or not is_audio_name(path):
            found.append(None)
            continue
        if path not in files and (file := find_file(layout.root, path)) is not None:
            files[path] = file
        found.append(path in files)
        if path not in files and path.lower() in by_lower:
            reasons[line] = f"the audio folder has no such file, but {by_lower[path.lower()]}"
    return ids, found, reasons


def _recording_path(filename: str | None, label: str | None, layout: Layout) -> str | None:
    """Path below the root; None if the filename is missing or unsafe."""
    if filename is None or "\0" in filename or "\\" in filename or filename[:1] in "/~":
        return None
    parts = [part for part in filename.split("/") if part not in {"", "."}]
    if not parts or ".." in parts or filename[1:2] == ":":
        return None
    if parts[0] == layout.audio_folder and len(parts) > 1:
        parts = parts[1:]
    flat = "/".join((layout.audio_folder, *parts))
    if len(parts) > 1 or label is None or "/" in label or label in {".", ".."} or "\0" in label:
        return flat
    # 2021 and ESC-like tables name the file alone; it lies in the folder of its label.
    nested = "/".join((layout.audio_folder, label, parts[0]))
    return flat if flat in layout.listing.files else nested


def _note_files_without_row(layout: Layout, named: set[str | None], log: RejectLog) -> None:
    for name in layout.listing.below(layout.audio_folder):
        if name not in named:
            log.add("file_without_row", file=name)


def _believed_values(
    rows: pl.DataFrame, file: str, found: list[str], log: RejectLog
) -> pl.DataFrame:
    """Parse numbers, dates, times and types; what breaks a rule is noted and set to null."""
    types, bad_type = parse_column(rows["type"], parse_list, _LIST)
    dates, bad_date = parse_column(rows["date_text"], parse_date, pl.Date())
    times, bad_time = parse_column(rows["time_text"], parse_time, pl.Time())
    parsed = rows.with_columns(
        *to_numbers(rows),
        bad_type.alias("type_malformed"),
        bad_date.alias("date_malformed"),
        bad_time.alias("time_malformed"),
    )
    broken = broken_rules(value_schema(), parsed)
    lines = sorted(set().union(*broken.values()))
    texts = _by_line(parsed, tuple(f"{c}_text" for c in (*NUMBERS, "date", "time")), lines)
    note_broken(
        broken,
        log,
        file=file,
        texts={name.removesuffix("_text"): cells for name, cells in texts.items()}
        | _by_line(parsed, ("type",), lines),
        ids=_by_line(parsed, ("recording_id",), lines)["recording_id"],
        reasons={},
        headers={column: _header(column, set(found)) or column for column in _ALIASES},
    )
    return parsed.with_columns(
        *believed(), types.alias("type"), dates.alias("date"), times.alias("time")
    ).rename({"elevation": "elevation_m"})


def _by_line(
    rows: pl.DataFrame, columns: tuple[str, ...], lines: list[int]
) -> dict[str, dict[int, str | None]]:
    some = rows.filter(pl.col("line").is_in(lines))
    keys = some["line"].to_list()
    return {name: dict(zip(keys, some[name].to_list(), strict=True)) for name in columns}


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
