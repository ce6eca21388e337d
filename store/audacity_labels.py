"""Audacity label tracks: `start<TAB>end<TAB>label`, without a header.

Format: Audacity manual, "Importing and exporting labels". A line that begins with a backslash
carries the frequencies of the label before it and is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from birdstack.store.fault_rules import RejectLog, table_fault
from birdstack.store.label_marks import Mark, MarkedTable, interval, split_labels

_LINE = re.compile(r"\s*[+-]?[\d.,]+\t\s*[+-]?[\d.,]+\s*(\t.*)?", re.ASCII)
_COLUMNS = ("start", "end")
_FIELDS = 2  # that every line must have


def looks_like_audacity(lines: Sequence[str]) -> bool:
    """Whether a file with these first lines is a label track."""
    first = next((line for line in lines if not line.startswith("\\")), "")
    return _LINE.fullmatch(first) is not None


def read_audacity(
    path: Path, *, file: str, name: str, whole: bool, max_bytes: int, log: RejectLog
) -> MarkedTable:
    """Read a label track.

    Args:
        path: the file.
        file: its name in messages.
        name: of the recording that it is about.
        whole: whether the recording was annotated from end to end.
        max_bytes: largest size.
        log: takes a row for every line that cannot be used.

    Raises:
        DatasetError: the file cannot be read, is too large or is not UTF-8.
    """
    marks, broken = [], False
    for number, text in enumerate(_text(path, file, max_bytes).splitlines(), start=1):
        if not text.strip() or text.startswith("\\"):
            continue
        fields = text.split("\t", maxsplit=2)
        if len(fields) < _FIELDS:
            log.add("ragged_row", file=file, row=number, value=f"{len(fields)} fields")
            broken = True
            continue
        times = interval((fields[0], fields[1]), _COLUMNS, log, file=file, line=number)
        if times is None:
            broken = True
            continue
        labels = split_labels("".join(fields[2:]), "")
        marks.append(Mark(number, name, *times, labels, "label"))
    spoiled = frozenset({name} if broken else ())
    return MarkedTable(file, tuple(marks), whole=whole, names=(name,), spoiled=spoiled)


def _text(path: Path, file: str, max_bytes: int) -> str:
    try:
        with path.open("rb") as handle:
            data = handle.read(max_bytes + 1)
    except OSError as error:
        what = f"the table cannot be read: {error.strerror or error}"
        raise table_fault(
            file, "unreadable_table", what, "check that it is a readable file"
        ) from error
    if len(data) > max_bytes:
        what = f"the table is longer than {max_bytes} bytes"
        raise table_fault(file, "table_too_large", what, "split it or raise max_table_bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = f"{file}, line {data.count(bytes([10]), 0, error.start) + 1}"
        what = f"byte {data[error.start : error.start + 1]!r} is not UTF-8"
        raise table_fault(place, "encoding", what, "save it as UTF-8") from error
