"""Tables of labels with a row for each window, named by `row_id`.

- BirdCLEF 2021 `train_soundscape_labels.csv`: `row_id,site,audio_id,seconds,birds`; birds
  separated by blanks, `nocall` for none.
- `row_id` and one column of 1 and 0 for each class, like a submission; an empty cell is not
  known.

A `row_id` is the name of the recording, an underscore and the second at which the row ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from birdstack.store.fault_rules import RejectLog
from birdstack.store.interval_tables import LABEL_COLUMNS
from birdstack.store.label_marks import Mark, MarkedTable, column_named, parse_time_s, split_labels
from birdstack.store.metadata_table import LINE, MetadataTable, read_table

ROW_ID = "row_id"
_BESIDE = frozenset({ROW_ID, "site", "audio_id", "seconds", "end", "start", "filename"})
_VALUES = {"1": True, "1.0": True, "0": False, "0.0": False, "": None}


def is_window_table(columns: Sequence[str]) -> bool:
    """Whether a header has a `row_id`."""
    return ROW_ID in columns


def read_windows(
    path: Path,
    *,
    file: str,
    header: Sequence[str],
    label_column: str | None,
    row_s: float,
    max_bytes: int,
    log: RejectLog,
) -> MarkedTable:
    """Read a table with a `row_id`.

    Args:
        path: the file, plain or packed with gzip.
        file: its name in messages.
        header: its columns.
        label_column: that holds the labels; None to look for one.
        row_s: length of a row in seconds.
        max_bytes: largest size, unpacked.
        log: takes a row for every row that cannot be used.

    Raises:
        DatasetError: it cannot be read, or has neither labels nor classes.
    """
    label = label_column or column_named(header, LABEL_COLUMNS)
    required = (ROW_ID,) if label is None else (ROW_ID, label)
    table = read_table(path, file=file, required=required, max_bytes=max_bytes)
    for line, count in table.ragged:
        log.add("ragged_row", file=file, row=line, value=f"{count} fields")
    classes = [name for name in table.columns if name.lower() not in _BESIDE]
    marks, sites = [], {}
    site = column_named(table.columns, ("site",))
    for row in table.frame.iter_rows(named=True):
        place = _place(row[ROW_ID], row_s)
        if place is None:
            log.add("row_id_format", file=file, row=row[LINE], value=row[ROW_ID])
            continue
        if site is not None and row[site].strip():
            sites[place[0]] = row[site].strip()
        if label is not None:
            said = split_labels(row[label], " ;,")
            marks.append(Mark(row[LINE], *place, said, label))
        else:
            mark = _answered(row, place, classes, table, log)
            marks += [mark] if mark else []
    names = tuple(dict.fromkeys(mark.name for mark in marks))
    return MarkedTable(file, tuple(marks), whole=False, names=names, sites=sites, slack_s=row_s)


def _place(row_id: str, row_s: float) -> tuple[str, float, float] | None:
    name, _, end = row_id.strip().rpartition("_")
    end_s = parse_time_s(end)
    if not name or not end_s:
        return None
    return name, max(0.0, end_s - row_s), end_s


def _answered(
    row: Mapping[str, Any],
    place: tuple[str, float, float],
    classes: Sequence[str],
    table: MetadataTable,
    log: RejectLog,
) -> Mark | None:
    """What a row of 1 and 0 says; None if a cell is something else."""
    values = {name: _VALUES.get(row[name].strip(), row[name]) for name in classes}
    bad = next((name for name, value in values.items() if isinstance(value, str)), None)
    if bad is not None:
        log.add("label_value", file=table.file, row=row[LINE], column=bad, value=row[bad])
        return None
    present = tuple(name for name, value in values.items() if value)
    known = tuple(name for name, value in values.items() if value is not None)
    return Mark(row[LINE], *place, present, ROW_ID, asked=known)
