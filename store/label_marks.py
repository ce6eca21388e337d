"""What a table of labels says before anybody knows which recordings and classes there are.

Every format is read into marks: from here to there, these labels. Broken rows go to the table
of rejects, good rows go on.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from birdstack.store.fault_rules import RejectLog

_SNIFFED = 1 << 16  # bytes of a file that are looked at to tell its format
_CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,3}):(\d{1,2}(?:\.\d+)?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Mark:
    """One row of a table of labels.

    Attributes:
        line: in the file, the first being 1.
        name: what the table calls the recording: a path, a file name or its stem.
        start_s: begin of the stretch in the recording.
        end_s: its end, exclusive.
        labels: as written; none: annotated, and nothing heard.
        column: that the labels stand in.
        asked: columns of classes that the row answers for; None: every class.
    """

    line: int
    name: str
    start_s: float
    end_s: float
    labels: tuple[str, ...]
    column: str
    asked: tuple[str, ...] | None = None


@dataclass(frozen=True)
class MarkedTable:
    """One table of labels.

    Attributes:
        file: its name in messages.
        marks: its good rows.
        whole: whether the recordings it names were annotated from end to end, so that nothing
            sings where it has no row; else only the stretches of its rows were.
        names: recordings it is about, also where it has no row of them.
        sites: name of a recording -> its site, where the table has a column of sites.
        spoiled: recordings with a row whose times cannot be read: what it says may hold
            anywhere, so that only the stretches of the other rows count as annotated.
        slack_s: how far a row may reach beyond the recording's end: rows of a fixed length
            run over it.
    """

    file: str
    marks: tuple[Mark, ...]
    whole: bool
    names: tuple[str, ...] = ()
    sites: Mapping[str, str] = field(default_factory=dict)
    spoiled: frozenset[str] = frozenset()
    slack_s: float = 0.5


def first_lines(path: Path) -> list[str]:
    """The first lines of a text file, plain or packed with gzip; empty if it has none.

    Only to tell formats apart: bytes that are not UTF-8 are replaced.
    """
    try:
        with path.open("rb") as handle:
            packed = handle.read(2) == b"\x1f\x8b"
            handle.seek(0)
            head = (gzip.GzipFile(fileobj=handle) if packed else handle).read(_SNIFFED)
    except (OSError, EOFError, zlib.error):
        return []
    lines = head.decode("utf-8-sig", errors="replace").splitlines()
    return [line for line in lines if line.strip()]


def parse_time_s(text: str) -> float | None:
    """Seconds from `12.5`, `0:12.5` or `00:00:12`; None if it is no time or below 0."""
    text = text.strip()
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        hours, minutes, seconds = clock.groups()
        return int(hours or 0) * 3600.0 + int(minutes) * 60.0 + float(seconds)
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def interval(
    texts: tuple[str, str], columns: tuple[str, str], log: RejectLog, *, file: str, line: int
) -> tuple[float, float] | None:
    """Start and end of a row; None, and a row in the log, if they make no interval."""
    start_s, end_s = map(parse_time_s, texts)
    bad = next((i for i, value in enumerate((start_s, end_s)) if value is None), None)
    if bad is not None:
        log.add("label_times", file=file, row=line, column=columns[bad], value=texts[bad])
        return None
    assert start_s is not None
    assert end_s is not None
    if end_s <= start_s:
        value = f"{texts[0].strip()} to {texts[1].strip()}"
        log.add("label_times", file=file, row=line, column=columns[1], value=value)
        return None
    return start_s, end_s


def split_labels(text: str, separators: str) -> tuple[str, ...]:
    """The labels of a cell, each once, in their order."""
    pattern = f"[{re.escape(separators)}]" if separators else r"\n"
    parts = (" ".join(part.split()) for part in re.split(pattern, text))
    return tuple(dict.fromkeys(part for part in parts if part))


def column_named(columns: Sequence[str], names: Iterable[str]) -> str | None:
    """The first column that is called by one of some lower-case names, the names' order first."""
    by_key = {column.strip().lower(): column for column in reversed(columns)}
    return next((by_key[name] for name in names if name in by_key), None)
