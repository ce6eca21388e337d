"""Which soundscape a table of labels means by a name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

import polars as pl

_TAIL = re.compile(
    r"\.(selections?|table|results?|labels?|annotations?|birdnet|\d+)$", re.IGNORECASE
)
"""What programs put between the name of a recording and the ending of its table."""


@dataclass(frozen=True)
class Named:
    """What a name stands for.

    Attributes:
        recording_id: the soundscape; None if there is none, or not one alone.
        fault: rule that the name breaks, empty if it has a soundscape.
    """

    recording_id: str | None
    fault: str = ""


class SoundscapeIndex:
    """Finds soundscapes by id, file name, stem, or the begin of the stem.

    The last is for BirdCLEF 2021, where the rows of `7019_COR_20190904.ogg` are named
    `7019_COR_<second>`.

    Args:
        recordings: `recording_id`, `kind`, `split` of a dataset.
    """

    def __init__(self, recordings: pl.DataFrame) -> None:
        rows = recordings.filter(pl.col("kind") == "soundscape").sort("recording_id")
        self._split = dict(rows.select("recording_id", "split").iter_rows())
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_begin: dict[str, list[str]] = defaultdict(list)
        for recording_id in self._split:
            path = PurePosixPath(recording_id)
            for name in {recording_id, path.name, path.stem}:
                self._by_name[name].append(recording_id)
            parts = path.stem.split("_")
            for count in range(2, len(parts)):
                self._by_begin["_".join(parts[:count])].append(recording_id)

    def find(self, name: str, near: str = "") -> Named:
        """The soundscape of a name.

        Args:
            name: a path below the root, a file name or its stem.
            near: folder below the root; of several soundscapes the one in it is meant.
        """
        found = self._by_name.get(name) or self._by_begin.get(name) or []
        beside = [i for i in found if str(PurePosixPath(i).parent) == (near or ".")]
        # A copy among the test soundscapes does not make a name ambiguous.
        labelled = [i for i in found if self._split[i] != "test"]
        for chosen in (beside, labelled, found):
            if len(chosen) == 1:
                return self._named(chosen[0])
        return Named(None, "soundscape_ambiguous" if found else "soundscape_missing")

    def of_table(self, file: str) -> str | None:
        """Name of the recording that a table lies beside; None if there is no such recording."""
        path = PurePosixPath(file)
        for name in _stems(path.name):
            found = self._by_name.get(name, [])
            if any(PurePosixPath(i).parent == path.parent for i in found):
                return name
        return None

    def _named(self, recording_id: str) -> Named:
        if self._split[recording_id] == "test":
            return Named(None, "soundscape_of_test")
        return Named(recording_id)


def _stems(name: str) -> Iterable[str]:
    """The names that `a.Table.1.selections.txt` can be a table of: itself cut ever shorter."""
    stem = name.rpartition(".")[0] or name
    yield stem
    while _TAIL.search(stem):
        stem = _TAIL.sub("", stem)
        yield stem


def shortest_stem(file: str) -> str:
    """What a table calls its recording, if no recording lies beside it."""
    return list(_stems(PurePosixPath(file).name))[-1]
