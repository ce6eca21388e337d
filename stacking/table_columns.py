"""Column names of a bare table of scores, and what each column is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import polars as pl

from birdstack.store.errors import DatasetError

KEYS = ("recording_id", "window")
PLAIN = (*KEYS, "group", "fold")


@dataclass(frozen=True)
class Place:
    """A file, for messages."""

    path: Path

    def refuse(self, what: str, remedy: str) -> NoReturn:
        """Raise a DatasetError that names the file."""
        message = f"{self.path}: {what}"
        raise DatasetError(message, remedy=remedy)


@dataclass(frozen=True)
class TableColumns:
    """What the columns of a table are.

    Attributes:
        classes: those with labels, in the order of the file.
        backbones: those with scores.
        extra: names of extra columns.
    """

    classes: tuple[str, ...]
    backbones: tuple[str, ...]
    extra: tuple[str, ...]

    @classmethod
    def of(cls, frame: pl.DataFrame, place: Place, *, need_labels: bool) -> TableColumns:
        """Sort column names into what they are.

        Raises:
            DatasetError: a column is missing, or unknown.
        """
        missing = [name for name in KEYS if name not in frame.columns]
        if missing:
            place.refuse(
                f"column {missing[0]!r} is missing; the columns are {_few(frame.columns)}",
                "name the recording of each row in recording_id and number its windows in window",
            )
        unknown = [name for name in frame.columns if name not in PLAIN and ":" not in name]
        unknown += [name for name in frame.columns if name[:1] == ":" or name[-1:] == ":"]
        if unknown:
            place.refuse(
                f"unknown columns {_few(unknown)}: a column is one of {', '.join(PLAIN)}, "
                "y:<class>, <backbone>:<class> or x:<name>",
                "rename them, extra columns to x:<name>, or leave them out",
            )
        split = [name.split(":", 1) for name in frame.columns if ":" in name]
        classes = tuple(rest for kind, rest in split if kind == "y")
        scored = [(kind, rest) for kind, rest in split if kind not in {"y", "x"}]
        if not classes and not need_labels:
            classes = tuple(dict.fromkeys(rest for _, rest in scored))
        if not classes:
            place.refuse("no column y:<class>", "give a column y:<class> for each class")
        backbones = tuple(dict.fromkeys(kind for kind, _ in scored))
        if not backbones:
            place.refuse("no column <backbone>:<class>", "give the scores of at least one backbone")
        stray = [f"{kind}:{rest}" for kind, rest in scored if rest not in set(classes)]
        if stray:
            place.refuse(
                f"columns {_few(stray)} have no column y:{stray[0].split(':', 1)[1]}",
                "give the labels of these classes (null where not known), or leave the scores out",
            )
        clash = [name for name in classes if name in KEYS]
        if clash:
            place.refuse(
                f"column 'y:{clash[0]}': a class may not bear the name of a key column",
                "rename the class",
            )
        silent = [name for name in classes if name not in {rest for _, rest in scored}]
        if silent:
            place.refuse(
                f"class {silent[0]!r} ({len(silent)} in all) has labels, but no backbone has a "
                "score of it",
                f"give a column <backbone>:{silent[0]}, or leave y:{silent[0]} out",
            )
        return cls(classes, backbones, tuple(rest for kind, rest in split if kind == "x"))


def _few(names: Sequence[str], shown: int = 6) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(repr(name) for name in names[:shown]) + more
