"""Reads a CSV file of metadata as text, safely: encoding, delimiter, header, ragged rows.

Nothing is guessed about types here, and every row keeps its true line number (a quoted cell
may span lines). polars reads UTF-16 into odd column names and renames doubled columns without
a word, so bytes are looked at before anything parses them.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from birdstack.store.errors import DatasetError
from birdstack.store.fault_rules import shown, table_fault

LINE = "_line"
"""Column of the frame that holds the line at which the row begins, the header being line 1."""

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_BOM = b"\xef\xbb\xbf"
_WIDE = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_MAGIC = {
    b"PK\x03\x04": "a zip archive or Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"PAR1": "a Parquet file",
    b"OggS": "an Ogg file",
    b"RIFF": "a WAV file",
    b"fLaC": "a FLAC file",
    b"ID3": "an MP3 file",
    b"\x89PNG": "a picture",
    b"%PDF": "a PDF document",
    b"SQLite format 3": "a database",
}
_AS_CSV = "export the table as CSV in UTF-8"
_SAMPLE = 4096
_CONTROL = frozenset(range(32)) - set(b"\t\n\v\f\r\x1b\x00")
_MOST_CONTROL = 0.05  # share of control characters from which bytes are no text
_MOST_ZERO = 0.2  # share of zero bytes from which text is taken for UTF-16


@dataclass(frozen=True)
class MetadataTable:
    """A table as text.

    Attributes:
        file: its name, for messages.
        frame: the column `LINE` and the table's columns as text, without empty columns' names.
        delimiter: what separates the columns.
        ragged: line and number of fields of every row that was left out because it has
            another number of fields than the header.
    """

    file: str
    frame: pl.DataFrame
    delimiter: str
    ragged: tuple[tuple[int, int], ...] = ()

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return [name for name in self.frame.columns if name != LINE]


def read_table(
    path: Path, *, file: str, required: Sequence[str], max_bytes: int, rows_needed: bool = True
) -> MetadataTable:
    """Read a table of which at least the columns `required` must be there.

    Args:
        path: a CSV file, or one packed with gzip.
        file: the name to use in messages.
        required: columns without which the table is refused.
        max_bytes: largest size, unpacked.
        rows_needed: refuse a table that has only a header.

    Raises:
        DatasetError: the table cannot be read at all; names file, line, rule and remedy.
    """
    text = _decode(_read_bytes(path, file, max_bytes), file)
    delimiter = _delimiter(text, required)
    header, lines, rows, ragged = _parse(text, delimiter, file)
    _check_header(header, required, delimiter, file)
    if rows_needed and not rows and not ragged:
        remedy = "give a table with one row for each recording"
        raise table_fault(file, "no_rows", "the table has a header but no rows", remedy)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    data = {
        name: pl.Series(name, column, dtype=pl.String)
        for name, column in zip(header, columns, strict=True)
        if name
    }
    frame = pl.DataFrame({LINE: pl.Series(LINE, lines, dtype=pl.Int64), **data})
    return MetadataTable(file=file, frame=frame, delimiter=delimiter, ragged=tuple(ragged))


def nearest(name: str, names: Sequence[str]) -> str:
    """A hint such as `; the nearest is 'filename'`, or nothing."""
    by_key = {candidate.lower().replace(" ", "_"): candidate for candidate in reversed(names)}
    close = difflib.get_close_matches(name.lower(), list(by_key), n=1, cutoff=0.5)
    return f"; the nearest is {by_key[close[0]]!r}" if close else ""


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names for a message, the first `most` of them."""
    told = ", ".join(shown(name) or "''" for name in names[:most])
    return told + (f" and {len(names) - most} more" if len(names) > most else "")


def missing_column(file: str, column: str, found: Sequence[str], remedy: str = "") -> DatasetError:
    """The error for a column that is not there."""
    what = f"column {column!r} is missing; found {listed(found)}{nearest(column, found)}"
    remedy = remedy or f"add or rename a column to {column!r}"
    return table_fault(file, "missing_column", what, remedy)


def _read_bytes(path: Path, file: str, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as handle:
            packed = handle.read(2) == b"\x1f\x8b"
            handle.seek(0)
            source = gzip.GzipFile(fileobj=handle) if packed else handle
            data: bytes = source.read(max_bytes + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = f"the gzip file is damaged: {error}"
        raise table_fault(file, "damaged_gzip", what, "pack the table again") from error
    except OSError as error:
        what = f"the table cannot be read: {error.strerror or error}"
        raise table_fault(
            file, "unreadable_table", what, "check that it is a readable file"
        ) from error
    if len(data) > max_bytes:
        what = f"the table is longer than {max_bytes} bytes"
        raise table_fault(file, "table_too_large", what, "split it or raise max_table_bytes")
    return data


def _decode(data: bytes, file: str) -> str:
    for mark, name in _WIDE.items():
        if data.startswith(mark):
            raise table_fault(
                file, "encoding", f"the table is {name}, not UTF-8", "save it as UTF-8"
            )
    for mark, name in _MAGIC.items():
        if data.startswith(mark):
            raise table_fault(file, "not_csv", f"this is {name}, not CSV", _AS_CSV)
    data = data.removeprefix(_BOM)
    sample = data[:_SAMPLE]
    if sample.count(0) > _MOST_ZERO * len(sample):
        what = f"every other byte is zero: the table is UTF-16 or binary (got {sample[:8]!r})"
        raise table_fault(file, "encoding", what, "save it as UTF-8")
    if sum(byte in _CONTROL for byte in sample) > _MOST_CONTROL * len(sample):
        what = f"the file is binary, not CSV (it begins with {sample[:8]!r})"
        raise table_fault(file, "not_csv", what, _AS_CSV)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = (
            f"byte {data[error.start : error.start + 1]!r} is not UTF-8; "
            f"the table looks like latin-1 (Windows-1252)"
        )
        place = f"{file}, line {line}"
        raise table_fault(place, "encoding", what, "save it as UTF-8") from error
    if not text.strip():
        raise table_fault(file, "empty_table", "the table is empty", "give a table with a header")
    return text


def _delimiter(text: str, required: Sequence[str]) -> str:
    """The delimiter under which most required columns are found, commas if none is better."""
    first = next(line for line in text.splitlines() if line.strip())
    found = {mark: _names_in(first, mark) for mark in _DELIMITERS}
    return max(_DELIMITERS, key=lambda mark: (len(found[mark] & set(required)), mark == ","))


def _names_in(header: str, delimiter: str) -> set[str]:
    return {name.strip().strip('"') for name in header.split(delimiter)}


def _parse(
    text: str, delimiter: str, file: str
) -> tuple[list[str], list[int], list[list[str]], list[tuple[int, int]]]:
    """Header, and line numbers and fields of the rows; lists ragged rows apart."""
    header: list[str] = []
    lines: list[int] = []
    rows: list[list[str]] = []
    ragged: list[tuple[int, int]] = []
    start = 1
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    # A long cell is a fault of its row, found later; the module's own limit would end it all.
    limit = csv.field_size_limit(len(text) + 1)
    try:
        for fields in reader:
            begin, start = start, reader.line_num + 1
            if not fields or (len(fields) == 1 and not fields[0].strip()):
                continue  # a blank line
            if not header:
                header = [name.strip() for name in fields]
            elif len(fields) == len(header):
                lines.append(begin)
                rows.append(fields)
            else:
                ragged.append((begin, len(fields)))
    except csv.Error as error:
        what = f"the row that begins here is no CSV ({error}): a quote is probably not closed"
        remedy = 'close the quote, and double a quote inside a quoted cell ("")'
        place = f"{file}, line {start}"
        raise table_fault(place, "unclosed_quote", what, remedy) from error
    finally:
        csv.field_size_limit(limit)
    return header, lines, rows, ragged


def _check_header(header: list[str], required: Sequence[str], delimiter: str, file: str) -> None:
    doubled = sorted({name for name in header if name and header.count(name) > 1})
    if doubled or LINE in header:
        what = f"the header names {listed(doubled or [LINE])} twice"
        place = f"{file}, line 1"
        raise table_fault(place, "duplicate_header", what, "rename or remove one of them")
    for column in required:
        if column not in header:
            raise missing_column(file, column, header)
    if not header:
        what = f"the table has no header (columns separated by {_DELIMITERS[delimiter]})"
        raise table_fault(file, "empty_table", what, "give a table with a header")
