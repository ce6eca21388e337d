"""Labelled soundscapes: what tables of labels say of the recordings of a dataset.

A soundscape that a table speaks of has strong labels. Rows of the role `annotated` say where
somebody has listened: there, what is not labelled is absent; elsewhere nothing is known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import polars as pl

from birdstack.store.dataset_layouts import Layout
from birdstack.store.fault_rules import RejectLog
from birdstack.store.ingest_config import IngestConfig
from birdstack.store.label_files import find_label_files, read_label_file
from birdstack.store.label_marks import Mark, MarkedTable
from birdstack.store.label_names import LabelNames, name_key
from birdstack.store.soundscape_index import SoundscapeIndex
from birdstack.store.stretches import Stretch, without
from birdstack.store.tables import ANNOTATED, LABELS

_EVERY = None  # stands for every class
_ENDLESS = float("inf")


@dataclass
class _Heard:
    """What is known of one soundscape."""

    labels: set[tuple[str, float, float]] = field(default_factory=set)
    asked: dict[str | None, list[Stretch]] = field(default_factory=lambda: defaultdict(list))
    holes: list[Stretch] = field(default_factory=list)
    site: str | None = None

    def rows(self, name: str, duration_s: float | None) -> list[tuple[object, ...]]:
        """Rows of LABELS."""
        found: list[tuple[object, ...]] = [
            (name, label, "primary", start, end) for label, start, end in self.labels
        ]
        for label, stretches in self.asked.items():
            known = without(stretches, self.holes)
            end_s = _ENDLESS if duration_s is None else duration_s
            if len(known) == 1 and known[0][0] <= 0 and known[0][1] >= end_s:
                found.append((name, label, ANNOTATED, None, None))
                continue
            for start, end in known:
                stop = end if end < _ENDLESS else end_s
                if start < stop < _ENDLESS:
                    found.append((name, label, ANNOTATED, start, stop))
        return found


def label_soundscapes(
    layout: Layout,
    recordings: pl.DataFrame,
    names: LabelNames,
    config: IngestConfig,
    log: RejectLog,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read the tables of labels of a dataset's soundscapes.

    A soundscape with a row of labels becomes one of split `train`; its site is that of the
    table, where the table has one. Test soundscapes stay what they are: their labels are not
    read. What a rejected row covers counts as not annotated.

    Args:
        layout: of the dataset.
        recordings: frame with the schema `RECORDINGS`.
        names: the classes.
        config: where the tables are and how they are read.
        log: takes a row for everything that cannot be used.

    Returns:
        `recordings`, and rows of `LABELS`.

    Raises:
        UsageError: the settings name a table that is not there.
        DatasetError: they name one that cannot be read.
    """
    files = find_label_files(layout, recordings, config, log)
    if not files:
        return recordings, LABELS.to_frame()
    index = SoundscapeIndex(recordings)
    duration = dict(recordings.select("recording_id", "duration_s").iter_rows())
    reader = _Reader(index, duration, names, config, log)
    for file in files:
        table = read_label_file(file, index, config, log)
        if table is not None:
            reader.take(table)
    rows = [row for name, heard in reader.heard.items() for row in heard.rows(name, duration[name])]
    labels = pl.DataFrame(rows, schema=LABELS, orient="row").sort(pl.all())
    return _labelled(recordings, reader.heard, labels), labels


class _Reader:
    """Turns marks into what is known of each soundscape."""

    def __init__(
        self,
        index: SoundscapeIndex,
        duration: dict[str, float | None],
        names: LabelNames,
        config: IngestConfig,
        log: RejectLog,
    ) -> None:
        self.heard: dict[str, _Heard] = {}
        self._index, self._duration, self._names = index, duration, names
        self._log = log
        self._nothing = {name_key(name) for name in config.no_class}

    def take(self, table: MarkedTable) -> None:
        """Add what one table says."""
        found = self._recordings(table)
        columns = self._columns(table)
        for called, recording_id in found.items():
            heard = self.heard.setdefault(recording_id, _Heard())
            heard.site = table.sites.get(called, heard.site)
            if table.whole and called not in table.spoiled:
                heard.asked[_EVERY].append((0.0, _ENDLESS))
        for mark in table.marks:
            if mark.name in found:
                self._mark(table, mark, found[mark.name], columns)

    def _recordings(self, table: MarkedTable) -> dict[str, str]:
        """Recording of each name; a name without one is told once, with its number of rows."""
        near = table.file.rpartition("/")[0]
        first: dict[str, int] = {}
        count: dict[str, int] = defaultdict(int)
        for mark in table.marks:
            first.setdefault(mark.name, mark.line)
            count[mark.name] += 1
        found = {}
        for name in table.names:
            named = self._index.find(name, near)
            if named.recording_id is not None:
                found[name] = named.recording_id
                continue
            rows = f"{count[name]} rows" if count[name] > 1 else ""
            self._log.add(
                named.fault,
                file=table.file,
                row=first.get(name),
                value=f"{name} ({rows})" if rows else name,
            )
        return found

    def _columns(self, table: MarkedTable) -> dict[str, str]:
        """Class of each column of a table with a column for each class; tells the strangers."""
        asked = dict.fromkeys(name for mark in table.marks for name in mark.asked or ())
        tell = _Told(self._log, table.file, 1)
        found = {name: self._class(name, tell.of(name, "")) for name in asked}
        return {name: label for name, label in found.items() if label is not None}

    def _mark(
        self, table: MarkedTable, mark: Mark, recording_id: str, columns: dict[str, str]
    ) -> None:
        heard = self.heard[recording_id]
        end_s = self._duration[recording_id]
        tell = _Told(self._log, table.file, mark.line, recording_id)
        stretch = (mark.start_s, mark.end_s)
        if end_s is not None and (stretch[0] >= end_s or stretch[1] > end_s + table.slack_s):
            reason = f"the row reaches to {mark.end_s:g} s, the recording ends at {end_s:g} s"
            tell.of(mark.column, f"{stretch[0]:g} to {stretch[1]:g}")("label_beyond_end", reason)
            heard.holes.append(stretch)
            return
        if mark.asked is not None:
            asked = {columns[name] for name in mark.asked if name in columns}
            every = asked >= (self._names.labels or set(columns.values()))
            for label in (_EVERY,) if every else sorted(asked):
                heard.asked[label].append(stretch)
            heard.labels |= {(columns[n], *stretch) for n in mark.labels if n in columns}
            return
        heard.asked[_EVERY].append(stretch)
        for text in mark.labels:
            if name_key(text) in self._nothing:
                continue
            label = self._class(text, tell.of(mark.column, text))
            if label is None:
                heard.holes.append(stretch)
            else:
                heard.labels.add((label, *stretch))

    def _class(self, text: str, tell: Callable[[str, str | None], None]) -> str | None:
        found = self._names.find(text)
        if len(found) == 1:
            return found[0]
        if found:
            tell("soundscape_label_ambiguous", f"the name is that of {', '.join(found)}")
        else:
            tell("soundscape_label", None)
        return None


@dataclass(frozen=True)
class _Told:
    """Where a fault is."""

    log: RejectLog
    file: str
    line: int
    recording_id: str | None = None

    def of(self, column: str, value: str) -> Callable[[str, str | None], None]:
        """What takes a rule and a reason."""

        def tell(rule: str, reason: str | None) -> None:
            self.log.add(
                rule,
                file=self.file,
                row=self.line,
                column=column,
                value=value or column,
                reason=reason,
                recording_id=self.recording_id,
            )

        return tell


def _labelled(
    recordings: pl.DataFrame, heard: dict[str, _Heard], labels: pl.DataFrame
) -> pl.DataFrame:
    """Recordings with split and site of those that have labels."""
    ids = labels["recording_id"].unique().sort().to_list()
    sites = {"recording_id": ids, "own": [heard[name].site for name in ids]}
    told = pl.DataFrame(sites, schema={"recording_id": pl.String, "own": pl.String})
    joined = recordings.join(told, on="recording_id", how="left", maintain_order="left")
    return joined.with_columns(
        pl.when(pl.col("recording_id").is_in(ids))
        .then(pl.lit("train"))
        .otherwise(pl.col("split"))
        .alias("split"),
        pl.coalesce("own", "site").alias("site"),
    ).select(recordings.columns)
