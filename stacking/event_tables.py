"""Events as files that other programs open: Raven, Audacity, BirdNET's readers.

```
OUT/
  events.csv                                   every event, a row each
  raven/<recording>.selections.txt             a selection table for each recording
  events.selections.txt, events.list.txt       one for all, and the files it runs over
  audacity/<recording>.txt                     a label track for each recording
  birdnet/<recording>.BirdNET.results.csv      as BirdNET-Analyzer 2 writes them
```

A recording without events has its files too, without rows: it was looked at. Names of files are
those of the recordings, made harmless. All is written aside first; what a reader finds is whole.

Formats: Raven Pro User's Manual (selection tables: tab-separated, times in seconds, one view a
row), with the columns of BirdNET-Analyzer first; Audacity manual, "Importing and exporting
labels"; BirdNET-Analyzer 2, `analyze/utils.py`.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from birdstack.stacking.event_names import ShownNames, file_stems, one_line
from birdstack.stacking.events import EVENTS
from birdstack.store.classes import Names
from birdstack.store.errors import SchemaError, UsageError

FORMATS = ("raven", "audacity", "birdnet")
TABLE, ALL, LIST = "events.csv", "events.selections.txt", "events.list.txt"

RAVEN_COLUMNS = (
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Common Name",
    "Species Code",
    "Confidence",
    "Begin Path",
    "File Offset (s)",
    "Begin File",
    "Scientific Name",
    "Mean Confidence",
)
BIRDNET_COLUMNS = (
    "Start (s)",
    "End (s)",
    "Scientific name",
    "Common name",
    "Confidence",
    "File",
)

_VIEW = "Spectrogram 1"


@dataclass(frozen=True)
class EventFiles:
    """What has been written.

    Attributes:
        out: the folder.
        files: number of files in it that were written.
        events: number of events.
        recordings: number of recordings with at least one.
    """

    out: Path
    files: int
    events: int
    recordings: int


@dataclass(frozen=True)
class EventStyle:
    """How events are shown.

    Attributes:
        names: scientific and common name by class; those that are not there are shown as the
            class is called.
        audio: where the file of a recording lies, for programs that open it with the table;
            those that are not there are shown as the recording is called.
        band_hz: frequencies that a selection spans: windows know nothing of frequency.
    """

    names: Names = field(default_factory=dict)
    audio: Mapping[str, str] = field(default_factory=dict)
    band_hz: tuple[float, float] = (0.0, 16_000.0)


def write_events(
    events: pl.DataFrame,
    lengths_s: Mapping[str, float],
    out: str | Path,
    formats: Sequence[str] = FORMATS,
    *,
    style: EventStyle | None = None,
    replace: bool = False,
) -> EventFiles:
    """Write events of some recordings for the programs named.

    Args:
        events: a table `EVENTS`.
        lengths_s: every recording that was looked at, in order, and how long it is. In the
            table for all, times run over the recordings one after the other: where a length
            is not known, the end of the last window will do, and `File Offset (s)` is right
            all the same.
        out: folder to write into; made if it is not there.
        formats: of `raven`, `audacity`, `birdnet`.
        style: names, paths, frequencies.
        replace: take away what an earlier call has written there, whole folders at that.

    Returns:
        What was written.

    Raises:
        UsageError: no such format, events lie there already, or the folder cannot be written.
        SchemaError: `events` is no such table, or has a recording without a length.
    """
    out, style = Path(out), style or EventStyle()
    _check(events, lengths_s, formats)
    parts = {name: _TREES[name] for name in FORMATS if name in formats}
    tops = [TABLE, *parts, *((ALL, LIST) if "raven" in parts else ())]
    aside = out / f".events-{os.getpid()}.new"
    try:
        out.mkdir(parents=True, exist_ok=True)
        lying = [name for name in tops if (out / name).exists()]
        if lying and not replace:
            message = f"{out}: {', '.join(lying)} of an earlier run lie there"
            remedy = "name another folder, or add --overwrite, which takes them away"
            raise UsageError(message, remedy=remedy)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            files = _write(aside, events, lengths_s, parts, style)
            _put_in_place(aside, out, tops)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        message = f"{out}: events cannot be written ({error.strerror or error})"
        raise UsageError(message, remedy="name a folder that can be written to") from error
    with_events = events["recording_id"].n_unique()
    return EventFiles(out, files, events.height, with_events)


def _check(events: pl.DataFrame, lengths_s: Mapping[str, float], formats: Sequence[str]) -> None:
    for name in formats:
        if name not in FORMATS:
            message = f"event format {name!r} is none of {', '.join(FORMATS)}"
            raise UsageError(message, remedy="name formats with commas between them")
    if events.schema != EVENTS:
        message = f"events: columns must be {dict(EVENTS)}, got {dict(events.schema)}"
        raise SchemaError(message, remedy="give what find_events returns")
    for name in events["recording_id"].unique(maintain_order=True):
        if name not in lengths_s:
            message = f"events: recording {name!r} has no length"
            raise SchemaError(message, remedy="give the length of every recording")


def _write(
    folder: Path,
    events: pl.DataFrame,
    lengths_s: Mapping[str, float],
    parts: Mapping[str, Any],
    style: EventStyle,
) -> int:
    """Write everything below a folder; how many files."""
    events.write_csv(folder / TABLE, float_precision=6)
    names = ShownNames.of(events["class"].unique().sort().to_list(), style.names)
    stems = file_stems(lengths_s)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in lengths_s}
    for row in events.iter_rows(named=True):
        rows[row["recording_id"]].append(row)
    page = _Page(style, names)
    for name, (suffix, write) in parts.items():
        (folder / name).mkdir()
        for recording, found in rows.items():
            path = folder / name / f"{stems[recording]}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            _put(path, write(page, recording, found))
    count = 1 + len(parts) * len(rows)
    if "raven" not in parts:
        return count
    _put(folder / ALL, page.raven_for_all(rows, lengths_s))
    _put(folder / LIST, "".join(f"{page.path(recording)}\n" for recording in rows))
    return count + 2


def _put(path: Path, text: str) -> None:
    path.write_text(text, "utf-8", newline="")


def _put_in_place(aside: Path, out: Path, tops: Iterable[str]) -> None:
    """Move what is written to where it belongs; what lay there goes."""
    for name in tops:
        place = out / name
        if place.is_dir():
            old = aside / f"old-{name}"
            place.rename(old)
        (aside / name).replace(place)


@dataclass(frozen=True)
class _Page:
    """Writes the events of a recording as text.

    Attributes:
        style: paths and frequencies.
        names: of classes.
    """

    style: EventStyle
    names: ShownNames

    def path(self, recording: str) -> str:
        """Where the recording's file lies."""
        return one_line(self.style.audio.get(recording, recording))

    def raven(self, recording: str, events: Sequence[Mapping[str, Any]]) -> str:
        """A selection table of one recording."""
        lines = (self._selection(at, recording, row, 0.0) for at, row in enumerate(events, 1))
        return "".join([_tabbed(RAVEN_COLUMNS), *lines])

    def raven_for_all(
        self,
        rows: Mapping[str, Sequence[Mapping[str, Any]]],
        lengths_s: Mapping[str, float],
    ) -> str:
        """A selection table over all recordings, one after the other."""
        lines, before_s, count = [_tabbed(RAVEN_COLUMNS)], 0.0, 0
        for recording, events in rows.items():
            for row in events:
                count += 1
                lines.append(self._selection(count, recording, row, before_s))
            before_s += lengths_s[recording]
        return "".join(lines)

    def _selection(
        self, number: int, recording: str, row: Mapping[str, Any], before_s: float
    ) -> str:
        low, high = self.style.band_hz
        path = self.path(recording)
        return _tabbed(
            (
                str(number),
                _VIEW,
                "1",
                _seconds(before_s + row["start_s"]),
                _seconds(before_s + row["end_s"]),
                f"{low:g}",
                f"{high:g}",
                one_line(self.names.common(row["class"])),
                one_line(row["class"]),
                f"{row['max_score']:.4f}",
                path,
                _seconds(row["start_s"]),
                path.replace("\\", "/").rpartition("/")[2],
                one_line(self.names.scientific(row["class"])),
                f"{row['mean_score']:.4f}",
            )
        )

    def audacity(self, recording: str, events: Sequence[Mapping[str, Any]]) -> str:  # noqa: ARG002 - as the others
        """A label track: the text is the class alone, so that a corrected track is a label."""
        return "".join(
            f"{row['start_s']:.6f}\t{row['end_s']:.6f}\t{one_line(self.names.shown(row['class']))}\n"
            for row in events
        )

    def birdnet(self, recording: str, events: Sequence[Mapping[str, Any]]) -> str:
        """A table of results; fields are quoted where they need it."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(BIRDNET_COLUMNS)
        for row in events:
            names = self.names.scientific(row["class"]), self.names.common(row["class"])
            times = _seconds(row["start_s"]), _seconds(row["end_s"])
            score = f"{row['max_score']:.4f}"
            table.writerow([*times, *map(one_line, names), score, self.path(recording)])
        return text.getvalue()


_TREES = {
    "raven": (".selections.txt", _Page.raven),
    "audacity": (".txt", _Page.audacity),
    "birdnet": (".BirdNET.results.csv", _Page.birdnet),
}


def _tabbed(fields: Sequence[str]) -> str:
    return "\t".join(fields) + "\n"


def _seconds(value: float) -> str:
    return str(round(value, 6))
