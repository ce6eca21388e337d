"""The rules that rows of a metadata table must keep, as dataframely schemas.

Two schemas: `row_schema` says which rows can be used at all (a row that fails is rejected),
`value_schema` which values can be believed (a value that fails is set to null). Every rule is
a polars expression over prepared columns, named `rule:column`; every broken rule of every row
becomes a row of the table of rejects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache, partial
from types import new_class
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from birdstack.store.audio_files import AUDIO_SUFFIXES
from birdstack.store.fault_rules import RejectLog

if TYPE_CHECKING:
    import dataframely as dy

_FILENAME, _LABEL = pl.col("filename"), pl.col("primary_label")
_OUTSIDE = r"^(/|\\|~/|[A-Za-z]:)|(^|[/\\])\.\.([/\\]|$)|\x00"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_COMMA = r"^[+-]?\d+,\d+$"
_SUFFIX = rf"(?i)[^/]\.({'|'.join(sorted(s[1:] for s in AUDIO_SUFFIXES))})$"

NUMBERS = {
    "latitude": (-90.0, 90.0),
    "longitude": (-180.0, 180.0),
    "elevation": (-500.0, 9000.0),
    "rating": (0.0, 5.0),
}
"""Columns of numbers and the closed ranges of their values."""

_ROW_COLUMNS = {
    "line": "Int64",
    "filename": "String",
    "primary_label": "String",
    "recording_id": "String",
    "secondary_malformed": "Bool",
    "label_known": "Bool",
    "file_found": "Bool",
}

# A rule that gives null (a filename that is missing has no suffix) counts as kept.
_ROW_RULES = {
    "missing_filename:filename": _FILENAME.is_not_null(),
    "missing_label:primary_label": _LABEL.is_not_null(),
    "label_characters:primary_label": ~_LABEL.str.contains(r"[/\\\x00]|^\.\.?$"),
    "outside_root:filename": ~_FILENAME.str.contains(_OUTSIDE),
    "backslash_path:filename": _FILENAME.str.contains(_OUTSIDE)
    | ~_FILENAME.str.contains("\\", literal=True),
    "not_audio_name:filename": _FILENAME.str.contains(_SUFFIX),
    "duplicate_filename:filename": pl.col("recording_id").is_null()
    | pl.col("recording_id").is_first_distinct(),
    "malformed_secondary_labels:secondary_labels": ~pl.col("secondary_malformed"),
    "unknown_label:primary_label": pl.col("label_known"),
    "missing_file:filename": pl.col("file_found"),
}


def _number_rules(column: str) -> dict[str, pl.Expr]:
    text, value = pl.col(f"{column}_text"), pl.col(column)
    low, high = NUMBERS[column]
    comma = text.str.contains(_COMMA)
    return {
        f"not_a_number:{column}": text.str.contains(_NUMBER) | comma,
        f"decimal_comma:{column}": ~comma,
        f"{column}_range:{column}": value.is_between(low, high),
    }


_NO_LATITUDE, _NO_LONGITUDE = pl.col("latitude_text").is_null(), pl.col("longitude_text").is_null()
_VALUE_RULES = {
    **{name: rule for column in NUMBERS for name, rule in _number_rules(column).items()},
    "lone_coordinate:latitude": _NO_LATITUDE | ~_NO_LONGITUDE,
    "lone_coordinate:longitude": _NO_LONGITUDE | ~_NO_LATITUDE,
    "date_format:date": ~pl.col("date_malformed"),
    "time_format:time": ~pl.col("time_malformed"),
    "malformed_type:type": ~pl.col("type_malformed"),
}
_VALUE_COLUMNS = {
    "line": "Int64",
    **dict.fromkeys(NUMBERS, "Float64"),
    **{f"{column}_text": "String" for column in NUMBERS},
    **{f"{column}_malformed": "Bool" for column in ("date", "time", "type")},
}


@cache
def row_schema() -> type[dy.Schema]:
    """What a row must keep to be used at all."""
    return _schema("RowSchema", _ROW_COLUMNS, _ROW_RULES)


@cache
def value_schema() -> type[dy.Schema]:
    """What the values of a usable row must keep to be believed."""
    return _schema("ValueSchema", _VALUE_COLUMNS, _VALUE_RULES)


def broken_rules(schema: type[dy.Schema], rows: pl.DataFrame) -> dict[str, set[int]]:
    """Lines at which each rule of a schema is broken, by `rule:column`."""
    _, failure = schema.filter(rows)
    details = failure.details()
    return {
        name: set(details.filter(pl.col(name) == "invalid")["line"].to_list())
        for name in (*_ROW_RULES, *_VALUE_RULES)
        if name in details.columns
    }


def note_broken(
    broken: Mapping[str, Iterable[int]],
    log: RejectLog,
    *,
    file: str,
    texts: Mapping[str, Mapping[int, str | None]],
    ids: Mapping[int, str | None],
    reasons: Mapping[tuple[str, int], str],
    headers: Mapping[str, str],
) -> None:
    """Write every broken rule of every row into the log.

    Args:
        broken: lines by `rule:column`.
        log: takes the rows.
        file: name of the table.
        texts: the cells as they stand in the table, by column and line.
        ids: recording ids by line, where they are known.
        reasons: reasons that say more than the catalogue, by rule and line.
        headers: name in the table of each column that is called otherwise there.
    """
    for name, lines in broken.items():
        rule, _, column = name.partition(":")
        for line in lines:
            log.add(
                rule,
                file=file,
                row=line,
                column=headers.get(column, column),
                value=texts[column].get(line),
                recording_id=ids.get(line),
                reason=reasons.get((rule, line)),
            )


def to_numbers(texts: pl.DataFrame) -> list[pl.Expr]:
    """Expressions that read each column of numbers from its text; null where it is none."""
    return [
        pl.when(pl.col(f"{column}_text").str.contains(_NUMBER))
        .then(pl.col(f"{column}_text").cast(pl.Float64, strict=False))
        .alias(column)
        for column in NUMBERS
        if f"{column}_text" in texts.columns
    ]


def believed() -> list[pl.Expr]:
    """Expressions that set every number out of range to null, and half a place to no place."""
    kept = {
        column: pl.when(pl.col(column).is_between(low, high)).then(pl.col(column))
        for column, (low, high) in NUMBERS.items()
    }
    placed = kept["latitude"].is_not_null() & kept["longitude"].is_not_null()
    return [
        pl.when(placed).then(pl.col(column)).alias(column)
        if column in {"latitude", "longitude"}
        else kept[column].alias(column)
        for column in NUMBERS
    ]


def _schema(name: str, columns: Mapping[str, str], rules: Mapping[str, pl.Expr]) -> type[dy.Schema]:
    # dataframely takes most of a second to import, and only ingestion needs it.
    import dataframely as dy  # noqa: PLC0415 - lazy on purpose

    floats = {"allow_inf": True, "allow_nan": True}  # 1e999 is a matter of range, not of type
    body: dict[str, Any] = {
        column: getattr(dy, kind)(nullable=True, **(floats if kind == "Float64" else {}))
        for column, kind in columns.items()
    }
    for rule, expression in rules.items():
        body[rule] = dy.rule()(partial(_constant, expression))
    return cast(
        "type[dy.Schema]", new_class(name, (dy.Schema,), exec_body=lambda n: n.update(body))
    )


def _constant(expression: pl.Expr, _schema_class: Any) -> pl.Expr:
    """A rule as dataframely calls it: a function of the schema, here the same for each."""
    return expression
