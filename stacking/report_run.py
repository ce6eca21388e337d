"""A run of `birdstack stack` as it lies on disk: domains, their windows, truth and scores.

Nothing is computed here. What is missing is said with the name of the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from birdstack.store.errors import CorruptError, FormatVersionError, UsageError
from birdstack.store.labels import UNKNOWN

FORMAT = 1
SHIPPED, STACK, CONTROL, CHOSEN = "shipped", "stack", "mean_kernel", "chosen"
KEYS = ("recording_id", "window")
_BACKBONE = "backbone-"
_MOST_TEST_LIKE = ("test", "soundscapes", "table", "simulated", "focal")
_TITLES = {
    SHIPPED: "what is shipped",
    STACK: "stack",
    CONTROL: "mean + kernel",
    CHOSEN: "control chosen inside folds",
}


@dataclass(frozen=True, eq=False)
class Domain:
    """Windows of one kind, with what was said of them.

    Attributes:
        name: short, such as `soundscapes`.
        title: for people.
        level: how honest its scores are, in words.
        classes: names, in order.
        folder: of its files.
        rows: one row a window: `recording_id`, `window`, `fold`, and what is known of it.
    """

    name: str
    title: str
    level: str
    classes: tuple[str, ...]
    folder: Path
    rows: pl.DataFrame

    @cached_property
    def truth(self) -> np.ndarray | None:
        """Labels `[window, class]`: 1, 0, or -1 where not known; None if nobody knows any."""
        path = self.folder / "truth.parquet"
        if not path.is_file():
            return None
        frame = self._aligned(path)
        return frame.fill_null(UNKNOWN).to_numpy().astype(np.int8)

    @cached_property
    def score_names(self) -> list[str]:
        """Names of the scores that lie there: what is shipped first, backbones last."""
        found = {path.stem for path in self.folder.glob("*.parquet")} - {"rows", "truth"}
        first = [name for name in _TITLES if name in found]
        return first + sorted(found - set(first))

    def scores(self, name: str) -> np.ndarray:
        """Scores `[window, class]`, float32; NaN where a backbone lacks a class.

        Raises:
            CorruptError: the file is not there, or its rows are not those of the domain.
        """
        path = self.folder / f"{name}.parquet"
        if not path.is_file():
            message = f"{path}: no such file, but the run lists the domain {self.name!r}"
            raise CorruptError(message, remedy="run birdstack stack again")
        frame = self._aligned(path).cast(pl.Float32).fill_null(float("nan"))
        return np.ascontiguousarray(frame.to_numpy())

    @cached_property
    def recording(self) -> np.ndarray:
        """Recording of each window, `[window]`."""
        return self.rows["recording_id"].to_numpy()

    @cached_property
    def fold(self) -> np.ndarray:
        """Fold of each window, `[window]`; -1 for none."""
        if "fold" not in self.rows.columns:
            return np.full(len(self.rows), -1)
        return self.rows["fold"].fill_null(-1).to_numpy()

    def _aligned(self, path: Path) -> pl.DataFrame:
        """Columns of the classes, after holding that the rows are the domain's."""
        frame = _parquet(path)
        lost = [name for name in (*KEYS, *self.classes) if name not in frame.columns]
        if lost:
            message = f"{path}: column {lost[0]!r} is missing ({len(lost)} such columns)"
            raise CorruptError(message, remedy="run birdstack stack again")
        if not _same_rows(frame, self.rows):
            message = f"{path}: its rows are not those of {self.folder / 'rows.parquet'}"
            raise CorruptError(message, remedy="run birdstack stack again")
        return frame.select(self.classes)


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder.

    Attributes:
        folder: where it lies.
        facts: `run.json`.
        printed: `scores.json`; empty where it is missing.
        domains: by name, the most test-like first.
    """

    folder: Path
    facts: Mapping[str, Any]
    printed: Mapping[str, Any]
    domains: Mapping[str, Domain]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in order."""
        return tuple(self.facts["classes"])

    @property
    def window_s(self) -> float:
        """Length of a window."""
        return float(self.facts.get("window_s") or 5.0)

    @property
    def shipped_title(self) -> str:
        """What is shipped, in words."""
        told = self.printed.get("shipped")
        if isinstance(told, Mapping) and told.get("title"):
            return str(told["title"])
        return score_title(str(self.facts.get("shipped") or SHIPPED))

    @property
    def judged(self) -> list[Domain]:
        """Domains with a truth, the most test-like first."""
        return [domain for domain in self.domains.values() if domain.truth is not None]


def some_recordings(recording: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Rows of whole recordings drawn at random, at most so many windows: `[window]` of bool."""
    names, unit, count = np.unique(recording, return_inverse=True, return_counts=True)
    order = np.random.default_rng([seed, 5]).permutation(len(names))
    kept = np.zeros(len(names), dtype=bool)
    kept[order[np.cumsum(count[order]) <= max(most, count[order[0]])]] = True
    return np.asarray(kept[unit])


def score_title(name: str) -> str:
    """Name of scores, for people."""
    if name.startswith(_BACKBONE):
        return f"backbone {name.removeprefix(_BACKBONE)}"
    return _TITLES.get(name, name.replace("_", " "))


def is_backbone(name: str) -> bool:
    """Whether scores are those of a single network."""
    return name.startswith(_BACKBONE)


def read_run(folder: str | Path) -> Run:
    """Read the index of a run; scores are read when asked for.

    Raises:
        UsageError: there is no run.
        FormatVersionError: a newer birdstack wrote it.
        CorruptError: a file is damaged.
    """
    folder = Path(folder)
    path = folder / "run.json"
    if not path.is_file():
        message = f"{folder}: no stack run ({path.name} is missing)"
        raise UsageError(message, remedy="name the folder that birdstack stack has written")
    facts = _json(path)
    if not {"format", "classes", "domains"} <= set(facts):
        message = f"{path}: not the index of a run"
        raise CorruptError(message, remedy="run birdstack stack again")
    if int(facts["format"]) > FORMAT:
        message = f"{path}: format {facts['format']}, this birdstack reads up to {FORMAT}"
        raise FormatVersionError(message, remedy="update birdstack")
    printed_path = folder / "scores.json"
    printed = _json(printed_path) if printed_path.is_file() else {}
    classes = tuple(str(name) for name in facts["classes"])
    order = sorted(
        facts["domains"],
        key=lambda name: (
            _MOST_TEST_LIKE.index(name) if name in _MOST_TEST_LIKE else len(_MOST_TEST_LIKE),
            name,
        ),
    )
    domains = {name: _domain(folder, name, facts["domains"][name], classes) for name in order}
    return Run(folder, facts, printed, domains)


def _domain(
    folder: Path, name: str, told: Mapping[str, Any] | None, classes: tuple[str, ...]
) -> Domain:
    told = told or {}
    home = folder / "windows" / name
    rows = _parquet(home / "rows.parquet")
    lost = [key for key in KEYS if key not in rows.columns]
    if lost:
        message = f"{home / 'rows.parquet'}: column {lost[0]!r} is missing"
        raise CorruptError(message, remedy="run birdstack stack again")
    title, level = str(told.get("title") or name), str(told.get("level") or "")
    return Domain(name, title, level, classes, home, rows)


def _same_rows(frame: pl.DataFrame, rows: pl.DataFrame) -> bool:
    return len(frame) == len(rows) and all(
        frame[key].cast(rows[key].dtype).equals(rows[key]) for key in KEYS
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        message = f"{path}: cannot be read ({error})"
        raise CorruptError(message, remedy="run birdstack stack again") from error
    if not isinstance(found, dict):
        message = f"{path}: not a JSON object"
        raise CorruptError(message, remedy="run birdstack stack again")
    return found


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        message = f"{path}: cannot be read ({str(error).splitlines()[0]})"
        raise CorruptError(message, remedy="run birdstack stack again") from error
