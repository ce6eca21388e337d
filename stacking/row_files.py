"""A file with a row for each window, opened: CSV (also packed with gzip) or Parquet.

A plain CSV file (commas, UTF-8, no quotes, as many fields in every line) goes to polars as text;
whatever else calls itself CSV goes the careful way of metadata tables, which knows delimiters,
quotes and encodings and says what is wrong with a file. No number is guessed at here: a cell that
is no number is found in its place.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np
import polars as pl

from birdstack.store.errors import DatasetError, UsageError
from birdstack.store.fault_rules import shown
from birdstack.store.metadata_table import LINE, read_table

ROW_ID, RECORDING, WINDOW = "row_id", "recording_id", "window"
_MAX_BYTES = 4 << 30
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_TRUE_FALSE = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True, eq=False)
class RowFile:
    """A table as it lies in a file.

    Attributes:
        path: the file.
        frame: its columns, all of them text if `text`.
        lines: line of each row in a CSV file, None in Parquet.
    """

    path: Path
    frame: pl.DataFrame
    lines: np.ndarray | None = None

    @classmethod
    def open(cls, path: Path) -> RowFile:
        """Read a file; what it is is seen by its first bytes, not by its name.

        Raises:
            UsageError: there is no such file.
            DatasetError: it is no table, or one without rows; names file, line, rule and remedy.
        """
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "no such file"
            message = f"{path}: {what}"
            raise UsageError(message, remedy="give a CSV or Parquet file")
        with path.open("rb") as handle:
            first = handle.read(4)
        if not first:
            refuse(path, "the file is empty", "give a table with a header and a row a window")
        table = _parquet(path) if first == _PARQUET else _csv(path, packed=first[:2] == _GZIP)
        if table.frame.is_empty():
            refuse(path, "the table has no rows", "give one row for each window")
        return table

    @property
    def text(self) -> bool:
        """Whether cells are text, to be read as numbers."""
        return self.lines is not None

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(name for name in self.frame.columns if name != LINE)

    def place(self, row: int) -> str:
        """A row for messages: its line in a CSV file, else its number from 0, and its name."""
        where = f"row {row}" if self.lines is None else f"line {self.lines[row]}"
        if ROW_ID in self.columns:
            return f"{where} ({ROW_ID} {shown(str(self.frame[ROW_ID][row]))!r})"
        if RECORDING in self.columns and WINDOW in self.columns:
            named = f"{self.frame[RECORDING][row]}, window {self.frame[WINDOW][row]}"
            return f"{where} ({named})"
        return where

    def keys(self, name: str) -> pl.Series:
        """A column of names, without gaps.

        Raises:
            DatasetError: a cell is empty.
        """
        column = self.frame[name].cast(pl.String)
        empty = (column.is_null() | (column == "")).arg_true()
        if len(empty):
            at = int(empty[0])
            where = f"row {at}" if self.lines is None else f"line {self.lines[at]}"
            more = f" ({len(empty)} such rows)" if len(empty) > 1 else ""
            refuse(self.path, f"{where}, column {name!r}: empty{more}", f"fill {name} in every row")
        return column

    def numbers(self, name: str, rule: str, remedy: str) -> np.ndarray:
        """A column as numbers, `[row]`; NaN where a cell is empty or says so.

        Raises:
            DatasetError: a cell is no number; names row, column, rule, value and remedy.
        """
        column = self.frame[name]
        kind = column.dtype
        if not self.text:
            if not (kind.is_numeric() or kind in {pl.Boolean, pl.Null}):
                known = column.is_not_null().arg_true()
                at = int(known[0]) if len(known) else 0
                self.refuse_cell(at, name, rule, f"{column[at]!r} of type {kind}", remedy)
            single = kind in {pl.Float32, pl.Int8, pl.UInt8, pl.Boolean}
            values = column.cast(pl.Float32 if single else pl.Float64)
            return values.fill_null(float("nan")).to_numpy()
        numbers = column.cast(pl.Float64, strict=False)
        odd = (numbers.is_null() & column.is_not_null()).arg_true()
        if len(odd):  # blanks around numbers, True and False, or no numbers
            texts = column.gather(odd).str.strip_chars().str.to_lowercase()
            again = texts.cast(pl.Float64, strict=False).to_list()
            for at, text, number in zip(odd, texts, again, strict=True):
                if text and number is None and text not in _TRUE_FALSE:
                    self.refuse_cell(int(at), name, rule, repr(shown(column[at])), remedy)
            found = [
                _TRUE_FALSE.get(text) if number is None else number
                for text, number in zip(texts, again, strict=True)
            ]
            numbers = numbers.scatter(odd, pl.Series(found, dtype=pl.Float64))
        return numbers.fill_null(float("nan")).to_numpy()

    def refuse_cell(self, row: int, column: str, rule: str, value: str, remedy: str) -> NoReturn:
        """Raise a DatasetError that names file, row, column, rule and value."""
        refuse(self.path, f"{self.place(row)}, column {column!r}: {rule}, got {value}", remedy)


def refuse(path: Path, what: str, remedy: str) -> NoReturn:
    """Raise a DatasetError that names the file."""
    message = f"{path}: {what}"
    raise DatasetError(message, remedy=remedy)


def few(names: Sequence[object], most: int = 3) -> str:
    """The first of some names, and how many more there are."""
    told = ", ".join(repr(shown(str(name))) for name in names[:most])
    return told + (f" and {len(names) - most} more" if len(names) > most else "")


def _parquet(path: Path) -> RowFile:
    try:
        return RowFile(path, pl.read_parquet(path))
    except (pl.exceptions.PolarsError, OSError) as error:
        words = str(error).splitlines()[0]
        message = f"{path}: the Parquet file cannot be read ({words})"
        raise DatasetError(message, remedy="write it again") from error


def _csv(path: Path, *, packed: bool) -> RowFile:
    data = _bytes(path, packed=packed)
    header = data[: data.find(b"\n") + 1].strip().decode("utf-8", errors="replace").split(",")
    if _plain(data, header):
        try:
            frame = pl.read_csv(io.BytesIO(data), infer_schema=False)
        except pl.exceptions.PolarsError:  # told below
            pass
        else:
            if frame.columns == header:
                return RowFile(path, frame, np.arange(2, 2 + len(frame)))
    named = {ROW_ID, RECORDING} & set(header)
    required = (RECORDING, WINDOW) if named == {RECORDING} else (ROW_ID,)
    table = read_table(
        path, file=str(path), required=required, max_bytes=_MAX_BYTES, rows_needed=False
    )
    if table.ragged:
        line, fields = table.ragged[0]
        refuse(
            path,
            f"line {line}: {fields} fields, and the header has {len(table.columns)} "
            f"({len(table.ragged)} such lines)",
            "write the table again: it may have been cut off",
        )
    frame = table.frame.drop(LINE).with_columns(pl.all().replace("", None))
    return RowFile(path, frame, table.frame[LINE].to_numpy())


def _bytes(path: Path, *, packed: bool) -> bytes:
    if not packed:
        return path.read_bytes()
    try:
        with gzip.open(path) as handle:
            return handle.read(_MAX_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        message = f"{path}: the gzip file is damaged ({error})"
        raise DatasetError(message, remedy="pack the table again") from error


def _plain(data: bytes, header: list[str]) -> bool:
    """Whether a file has UTF-8, commas, no quotes, and as many fields in every line."""
    if not {ROW_ID, RECORDING} & set(header) or b'"' in data:
        return False
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
    commas = len(header) - 1
    handle = io.BytesIO(data)
    return all(line.count(b",") == commas and len(line) > 1 for line in handle)
