"""Finds tables of labels of soundscapes, tells their formats, and reads them into marks."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl

from birdstack.store.audacity_labels import looks_like_audacity, read_audacity
from birdstack.store.dataset_layouts import Layout
from birdstack.store.errors import DatasetError, UsageError
from birdstack.store.fault_rules import RejectLog, table_fault
from birdstack.store.ingest_config import IngestConfig
from birdstack.store.interval_tables import is_interval_table, is_raven, read_intervals
from birdstack.store.label_marks import MarkedTable, first_lines
from birdstack.store.soundscape_index import SoundscapeIndex, shortest_stem
from birdstack.store.window_tables import is_window_table, read_windows

_TABLES = ("*soundscape*labels*.csv", "*soundscape*labels*.csv.gz")
_TEST = "test_"  # begin of the name of what belongs to the test, and is not read
_BESIDE = ".txt"
_REMEDY = "save a Raven table, an Audacity label track, or a CSV file with row_id or start and end"


@dataclass(frozen=True)
class LabelFile:
    """A file that may hold labels.

    Attributes:
        file: its path below the dataset's root, or where it lies else.
        path: where it lies.
        asked: whether a setting names it: then it must be readable.
    """

    file: str
    path: Path
    asked: bool


def find_label_files(
    layout: Layout, recordings: pl.DataFrame, config: IngestConfig, log: RejectLog
) -> list[LabelFile]:
    """The files that the settings name; else tables by their names, and text beside audio.

    Raises:
        UsageError: the settings name a file that is not there.
    """
    if config.soundscape_labels is not None:
        return _asked(layout, config.soundscape_labels)
    if layout.bare or recordings.filter(pl.col("kind") == "soundscape").is_empty():
        return []
    found = []
    for pattern in _TABLES:
        for file in layout.beside(pattern):
            if file.startswith(_TEST):
                log.add("labels_not_read", file=file)
            else:
                found.append(LabelFile(file, layout.root / file, asked=False))
    heard = recordings.filter((pl.col("kind") == "soundscape") & (pl.col("split") != "test"))
    folders = sorted({PurePosixPath(name).parent for name in heard["recording_id"]})
    for folder in folders:
        found += [
            LabelFile(str(folder / path.name), path, asked=False)
            for path in sorted((layout.root / folder).iterdir())
            if path.suffix.lower() == _BESIDE and not path.name.startswith(".") and path.is_file()
        ]
    return found


def read_label_file(
    table: LabelFile, index: SoundscapeIndex, config: IngestConfig, log: RejectLog
) -> MarkedTable | None:
    """The marks of one file; None, and a row in the log where it matters, if it has none.

    Raises:
        DatasetError: a file that the settings name cannot be read.
    """
    try:
        return _read(table, index, config, log)
    except DatasetError as error:
        if table.asked:
            raise
        log.add("label_table", file=table.file, reason=error.message, remedy=error.remedy)
        return None


def _asked(layout: Layout, pattern: str) -> list[LabelFile]:
    root = layout.root
    found = glob.glob(pattern, root_dir=root, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
    paths = [root / name for name in found]
    files = sorted(path for path in paths if path.is_file())
    if not files:
        message = f"ingest.soundscape_labels: no file {pattern!r} below {str(layout.root)!r}"
        raise UsageError(message, remedy="give a path or pattern below the folder of the dataset")
    return [
        LabelFile(
            path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path),
            path,
            asked=True,
        )
        for path in files
    ]


def _read(
    table: LabelFile, index: SoundscapeIndex, config: IngestConfig, log: RejectLog
) -> MarkedTable | None:
    lines = first_lines(table.path)
    file, size = table.file, config.max_table_bytes
    beside = index.of_table(file)
    name = beside or shortest_stem(file)
    whole = config.annotated != "labels"
    if looks_like_audacity(lines):
        return read_audacity(table.path, file=file, name=name, whole=whole, max_bytes=size, log=log)
    header = _header(lines)
    if is_window_table(header):
        return read_windows(
            table.path,
            file=file,
            header=header,
            label_column=config.label_column,
            row_s=config.label_row_s,
            max_bytes=size,
            log=log,
        )
    if is_interval_table(header):
        raven = is_raven(header)
        if raven and not table.asked and _detections(header):
            log.add("detections_not_read", file=file)
            return None
        return read_intervals(
            table.path,
            file=file,
            name=name,
            header=header,
            label_column=config.label_column,
            whole=whole if raven else config.annotated == "whole",
            max_bytes=size,
            log=log,
        )
    if not table.asked and beside is None and table.path.suffix.lower() == _BESIDE:
        return None  # a readme
    what = f"no format of labels is known that begins with {(lines or [''])[0][:80]!r}"
    raise table_fault(file, "label_format", what, _REMEDY)


def _header(lines: list[str]) -> list[str]:
    """The columns of the first line, by the delimiter that gives most."""
    first = lines[0] if lines else ""
    split = [first.split(mark) for mark in ("\t", ",", ";", "|")]
    return [name.strip().strip('"') for name in max(split, key=len)]


def _detections(header: list[str]) -> bool:
    """Whether a table has been written by a network: what it found is no truth."""
    return any(name.lower() in {"confidence", "score"} for name in header)
