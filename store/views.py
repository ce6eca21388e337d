"""A view is a function from windows to columns: its name, columns and recipe.

The recipe is everything that determines the numbers (extractor, code version, parameters,
window grid, checkpoint hash), and nothing that does not (batch size, device, versions of
libraries). Its hash names the folder the parts lie in, so changed numbers never mix.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from birdstack.store.errors import SchemaError
from birdstack.store.keys import KEY_COLUMNS
from birdstack.store.tables import TABLES

Dtype = Literal["float32", "float64", "int8", "int16", "int32", "int64", "bool", "str"]

_VIEW_NAME = re.compile(r"[a-z][a-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a view.

    Attributes:
        name: unique in the view.
        dtype: type of a value, or of a vector's elements.
        dim: length of the vector in each row; None for a scalar column.
        unit: unit of the values, empty for a pure number.
        low: smallest value the definition allows; None if unbounded.
        high: largest value the definition allows; None if unbounded.
        nullable: whether a value may be null (NaN is always allowed in floats).
        mantissa_bits: float32 values are rounded to so many mantissa bits before they are
            written (relative error at most 2^-(bits+1)) and stored byte-stream-split;
            None keeps them exact. State it in the recipe too: it changes the numbers.
        description: one line: what it is, and its source.
    """

    name: str
    dtype: Dtype = "float32"
    dim: int | None = None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    nullable: bool = False
    mantissa_bits: int | None = None
    description: str = ""


@dataclass(frozen=True)
class ViewSpec:
    """Name, value columns and recipe of a window view.

    Attributes:
        name: lower-case, `acoustic` or `family/member` such as `logits/lite0`.
        columns: the value columns; the four key columns come before them by themselves.
        recipe: JSON-able mapping that determines the numbers.
    """

    name: str
    columns: tuple[Column, ...]
    recipe: Mapping[str, Any] = field(hash=False)

    def __post_init__(self) -> None:
        if not _VIEW_NAME.fullmatch(self.name):
            message = f"view name {self.name!r} must match {_VIEW_NAME.pattern}"
            raise SchemaError(message, remedy="use lower-case letters, digits, _ . - and one /")
        if self.name in {*TABLES, "skips"}:
            message = f"view name {self.name!r} is that of a table"
            raise SchemaError(message, remedy="choose another name")
        names = [column.name for column in self.columns]
        doubled = sorted({name for name in names if names.count(name) > 1})
        taken = sorted(set(names) & set(KEY_COLUMNS))
        if doubled or taken:
            message = (
                f"view {self.name!r}: column names must be unique, got {doubled + taken} twice"
            )
            raise SchemaError(message, remedy="rename the columns")

    @cached_property
    def recipe_hash(self) -> str:
        """First 12 hexadecimal digits of the sha256 of the canonical recipe."""
        return recipe_hash(self.recipe)

    @property
    def column_names(self) -> list[str]:
        """Names of the value columns, in order."""
        return [column.name for column in self.columns]


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, no NaN.

    Raises:
        SchemaError: the value holds something JSON cannot, or a NaN.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        message = f"a recipe must be plain JSON: {error}"
        raise SchemaError(message, remedy="use only numbers, strings, lists and dicts") from error


def recipe_hash(recipe: Mapping[str, Any]) -> str:
    """First 12 hexadecimal digits of the sha256 of the canonical JSON of `recipe`."""
    return hashlib.sha256(canonical_json(dict(recipe)).encode()).hexdigest()[:12]
