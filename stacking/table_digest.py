"""A digest of everything that decides what is learnt from a table."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from birdstack.stacking.stack_table import StackTable

_NAMES_ALONE = ("recording_ids", "groups", "places")
"""What a table holds besides, and no fit looks at."""

_ROOTS = ("class_layers", "stack_model")
"""Modules of this room that decide the numbers of the layers, with all that they import."""

_IMPORT = re.compile(r"^ *from birdstack\.(stacking|embeddings)\.(\w+) import", re.MULTILINE)

_LIBRARIES = ("numpy", "scipy", "lightgbm", "xgboost-cpu", "xgboost")


def table_digest(table: StackTable) -> str:
    """SHA-256, in hexadecimal, of a table's scores, labels, folds, stretches and columns.

    Names of recordings do not enter, nor do groups and places: where the folds are the same, no
    fit of a layer looks at them (a range prior is counted behind all layers).
    """
    hashed = hashlib.sha256()
    for each in fields(table):
        if each.name not in _NAMES_ALONE:
            hashed.update(each.name.encode())
            _add(hashed, getattr(table, each.name))
    _add(hashed, table.index)
    return hashed.hexdigest()


@cache
def code_digest() -> str:
    """SHA-256 of the code that fits layers, and of the versions of the libraries below it."""
    hashed = hashlib.sha256()
    for _, code in sorted(code_of_layers().items()):
        hashed.update(code)
    for library in _LIBRARIES:
        hashed.update(f"{library} {_version(library)}\n".encode())
    return hashed.hexdigest()


def code_of_layers() -> dict[str, bytes]:
    """Source of each module that decides the numbers of the layers, by `room/module`."""
    rooms = Path(__file__).parent.parent
    code: dict[str, bytes] = {}
    ahead = [f"stacking/{module}" for module in _ROOTS]
    while ahead:
        name = ahead.pop()
        if name not in code:
            code[name] = (rooms / f"{name}.py").read_bytes()
            ahead += [f"{room}/{module}" for room, module in _IMPORT.findall(code[name].decode())]
    return code


def digest_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of numbers and words under names."""
    return hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()


def _add(hashed: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        hashed.update(f"{value.dtype.str}{value.shape}".encode())
        hashed.update(np.ascontiguousarray(value).data)
    elif isinstance(value, str | int | float | bool | None):
        hashed.update(f"{value!r};".encode())
    elif isinstance(value, Mapping):
        _add(hashed, sorted(value.items()))
    elif isinstance(value, Sequence):
        hashed.update(f"[{len(value)}".encode())
        for item in value:
            _add(hashed, item)
    else:
        message = f"a table's digest cannot take in a {type(value).__name__}"
        raise TypeError(message)


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "-"
