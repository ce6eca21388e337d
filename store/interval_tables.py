"""Tables of labels with a start and an end: Raven selection tables, and BirdCLEF+ 2026.

- Raven: tab-separated, `Begin Time (s)`, `End Time (s)`, one selection a row, the label in a
  column of the annotator's choice. Times count from the begin of a file sequence; with the
  columns `Begin File` (or `Begin Path`) and `File Offset (s)` they count from the file's.
- BirdCLEF+ 2026 `train_soundscapes_labels.csv`: `filename,start,end,primary_label`, times as
  `00:00:05`, labels separated by `;`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdstack.store.errors import DatasetError
from birdstack.store.fault_rules import RejectLog, table_fault
from birdstack.store.label_marks import (
    Mark,
    MarkedTable,
    column_named,
    interval,
    parse_time_s,
    split_labels,
)
from birdstack.store.metadata_table import LINE, MetadataTable, missing_column, read_table

LABEL_COLUMNS = (
    "primary_label",
    "birds",
    "species code",
    "species_code",
    "ebird code",
    "species",
    "label",
    "labels",
    "scientific name",
    "scientific_name",
    "common name",
    "common_name",
    "annotation",
)
"""Where labels stand if nobody says, in lower case; the first that is there is taken."""

_FILES = ("filename", "file", "file_name", "recording", "begin file", "begin path")
_STARTS = ("begin time (s)", "start", "start_s", "start_time", "start (s)")
_ENDS = ("end time (s)", "end", "end_s", "end_time", "end (s)")
_OFFSETS = ("file offset (s)",)
_SITES = ("site",)
_SPLIT_AT = {"birds": " ;,", "primary_label": ";", "labels": ";"}
"""What separates labels in a column; names of species have blanks and commas of their own."""


@dataclass(frozen=True)
class IntervalColumns:
    """The columns of such a table, by their names in it; None for one that is not there."""

    start: str
    end: str
    label: str
    file: str | None
    offset: str | None
    site: str | None

    @classmethod
    def of(cls, columns: Sequence[str], file: str, label_column: str | None) -> IntervalColumns:
        """Find the columns.

        Raises:
            DatasetError: there is no start, end or label.
        """
        start, end = column_named(columns, _STARTS), column_named(columns, _ENDS)
        label = column_named(columns, LABEL_COLUMNS if label_column is None else ())
        if label_column is not None and label_column in columns:
            label = label_column
        if start is None or end is None:
            raise missing_column(file, "start" if start is None else "end", columns)
        if label is None:
            wanted = label_column or "Species"
            remedy = "name the column of labels in ingest.label_column"
            raise missing_column(file, wanted, columns, remedy)
        others = (column_named(columns, names) for names in (_FILES, _OFFSETS, _SITES))
        return cls(start, end, label, *others)


def is_interval_table(columns: Sequence[str]) -> bool:
    """Whether a header has a start and an end."""
    return column_named(columns, _STARTS) is not None and column_named(columns, _ENDS) is not None


def is_raven(columns: Sequence[str]) -> bool:
    """Whether a header is that of a Raven selection table."""
    return {"Begin Time (s)", "End Time (s)"} <= {column.strip() for column in columns}


def read_intervals(
    path: Path,
    *,
    file: str,
    name: str,
    header: Sequence[str],
    label_column: str | None,
    whole: bool,
    max_bytes: int,
    log: RejectLog,
) -> MarkedTable:
    """Read a table with a start and an end in every row.

    Args:
        path: the file, plain or packed with gzip.
        file: its name in messages.
        name: of the recording that it is about, where it has no column of files.
        header: its columns.
        label_column: that holds the labels; None to look for one.
        whole: whether the recordings it names were annotated from end to end.
        max_bytes: largest size, unpacked.
        log: takes a row for every row that cannot be used.

    Raises:
        DatasetError: it cannot be read, or a column is missing.
    """
    found = IntervalColumns.of(header, file, label_column)
    alone = found.file is None  # of one recording, in which there may be nothing to label
    needed = (found.start, found.end, found.label)
    table = read_table(path, file=file, required=needed, max_bytes=max_bytes, rows_needed=not alone)
    for line, count in table.ragged:
        log.add("ragged_row", file=file, row=line, value=f"{count} fields")
    if found.file is not None and found.offset is None and is_raven(header):
        _refuse_sequence(table, found.file)
    separators = _SPLIT_AT.get(found.label.lower(), "")
    marks, sites, spoiled = [], {}, set()
    names: dict[str, None] = {name: None} if alone else {}
    if alone and table.ragged:
        spoiled.add(name)
    for row in table.frame.iter_rows(named=True):
        line = row[LINE]
        called = base_name(row[found.file]) if found.file else name
        if not called:
            log.add("missing_filename", file=file, row=line, column=found.file)
            continue
        names[called] = None
        if found.site is not None and row[found.site].strip():
            sites[called] = row[found.site].strip()
        times = _times(row, found, log, file)
        if times is None:
            spoiled.add(called)
            continue
        labels = split_labels(row[found.label], separators)
        marks.append(Mark(line, called, *times, labels, found.label))
    return MarkedTable(
        file, tuple(marks), whole=whole, names=tuple(names), sites=sites, spoiled=frozenset(spoiled)
    )


def _times(
    row: Mapping[str, Any], found: IntervalColumns, log: RejectLog, file: str
) -> tuple[float, float] | None:
    """Start and end in the row's own file; None, and a row in the log, if they are none."""
    line = row[LINE]
    columns = (found.start, found.end)
    times = interval((row[found.start], row[found.end]), columns, log, file=file, line=line)
    if times is None or found.offset is None:
        return times
    offset_s = parse_time_s(row[found.offset])
    if offset_s is None:
        log.add("label_times", file=file, row=line, column=found.offset, value=row[found.offset])
        return None
    return offset_s, offset_s + times[1] - times[0]


def base_name(path: str) -> str:
    """The last part of a path of any system."""
    return re.split(r"[/\\]", path.strip())[-1]


def _refuse_sequence(table: MetadataTable, column: str) -> None:
    """Times over several files mean nothing without their offsets.

    Raises:
        DatasetError: the rows name several files.
    """
    names = {base_name(value) for value in table.frame[column]}
    if len(names) > 1:
        error: DatasetError = table_fault(
            f"{table.file}, column {column}",
            "file_offset",
            f"times over a sequence of {len(names)} files, without a column 'File Offset (s)'",
            "add that column in Raven, or save one table for each recording",
        )
        raise error
