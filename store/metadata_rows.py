"""The rows of a metadata table: which can be used, and which of their values believed.

Every row keeps the line at which it stands in the table, in the column `line`.
"""

from __future__ import annotations

import polars as pl

from birdstack.store.audio_files import find_file, is_audio_name
from birdstack.store.classes import ClassList
from birdstack.store.dataset_layouts import Layout
from birdstack.store.fault_rules import RejectLog
from birdstack.store.metadata_rules import (
    NUMBERS,
    believed,
    broken_rules,
    note_broken,
    row_schema,
    to_numbers,
    value_schema,
)
from birdstack.store.metadata_table import LINE, MetadataTable
from birdstack.store.metadata_values import (
    NULL_TEXT,
    NULL_VALUE,
    parse_column,
    parse_date,
    parse_list,
    parse_time,
)

REQUIRED = ("filename", "primary_label")
"""Columns without which a table is refused."""

_ALIASES = {"elevation": ("elevation", "elevation_m", "alt")}
_TEXTS = ("author", "license", "url", "site", "scientific_name", "common_name")
_LIST = pl.List(pl.String)


def read_cells(table: MetadataTable) -> pl.DataFrame:
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


def usable_rows(
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


def believed_values(
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
