"""What is live at one number of the log: parts, coverage, skips, current recipes.

A state is the fold of all commits up to a number. Checkpoints keep it short to compute:
a Parquet file with the state at every 50th commit, only ever a cache of the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from birdstack.store.commit import Commit, Covered, Part, Skip
from birdstack.store.layout import TABLE_RECIPE
from birdstack.store.statistics import (
    Statistics,
    merge_views,
    statistics_from_json,
    statistics_to_json,
)
from birdstack.store.tables import TABLES, schema

_CHECKPOINT = schema(
    {
        "body": pl.String,
        "recording_ids": pl.List(pl.String),
        "content_hashes": pl.List(pl.String),
        "windows": pl.List(pl.Int32),
    }
)


@dataclass(slots=True)
class State:
    """Live contents of a store at `version`; treat as read-only outside this module."""

    version: int = -1
    parts: dict[str, Part] = field(default_factory=dict)
    skips: dict[tuple[str, str, str], Skip] = field(default_factory=dict)
    active: dict[str, str] = field(default_factory=dict)
    statistics: dict[str, Statistics] = field(default_factory=dict)
    oldest: int = 0
    notes: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def view_parts(self, view: str, recipe: str) -> list[Part]:
        """Live parts of one view, in the order of their first recording."""
        found = [p for p in self.parts.values() if p.view == view and p.recipe == recipe]
        return sorted(
            found, key=lambda p: (p.recordings[0].recording_id if p.recordings else "", p.path)
        )

    def table_parts(self, table: str) -> list[Part]:
        """Live parts of one table, by dataset; for `folds`, of all splits."""
        found = [p for p in self.parts.values() if p.view == table and p.recipe == TABLE_RECIPE]
        return sorted(found, key=lambda p: p.key)

    def covered(self, view: str, recipe: str) -> dict[str, Covered]:
        """recording_id -> what the view holds of it."""
        return {
            covered.recording_id: covered
            for part in self.parts.values()
            if part.view == view and part.recipe == recipe
            for covered in part.recordings
        }

    def held(self, view: str, recipe: str) -> dict[str, str]:
        """recording_id -> content key, for what the view holds."""
        return {
            recording_id: key
            for part in self.parts.values()
            if part.view == view and part.recipe == recipe
            for recording_id, key, _ in part.recordings
        }

    def window_views(self) -> list[tuple[str, str]]:
        """(view, recipe) of every window view with live parts or an active recipe."""
        live = {(p.view, p.recipe) for p in self.parts.values() if p.recipe != TABLE_RECIPE}
        active = {(view, recipe) for view, recipe in self.active.items() if view not in TABLES}
        return sorted(live | active)

    def applied(self, commits: Iterable[Commit]) -> State:
        """A new state with further commits on top; this one stays as it is."""
        after = State(
            self.version,
            dict(self.parts),
            dict(self.skips),
            dict(self.active),
            dict(self.statistics),
            self.oldest,
            dict(self.notes),
        )
        for commit in commits:
            after._apply(commit)
        return after

    def _apply(self, commit: Commit) -> None:
        for path in commit.remove:
            self.parts.pop(path, None)
        for skip in commit.skip:
            self.skips[(skip.view, skip.recipe, skip.recording_id)] = skip
        for part in commit.add:
            self.parts[part.path] = part
            if self.skips:
                for covered in part.recordings:
                    self.skips.pop((part.view, part.recipe, covered.recording_id), None)
        for recording_id, notes in commit.notes.items():
            if notes:
                self.notes[recording_id] = notes
            else:  # heard anew, and nothing is odd any more
                self.notes.pop(recording_id, None)
        self.active.update(commit.activate)
        self.oldest = max(self.oldest, commit.expire)
        merge_views(self.statistics, statistics_from_json(commit.statistics))
        self.version = commit.version

    def to_checkpoint(self) -> pl.DataFrame:
        """As a frame: one row for each part, and one for everything else."""
        rest = {
            "version": self.version,
            "oldest": self.oldest,
            "notes": self.notes,
            "skips": [asdict(skip) for skip in self.skips.values()],
            "active": self.active,
            "statistics": statistics_to_json(self.statistics),
        }
        rows: list[dict[str, Any]] = [
            {"body": json.dumps(rest), "recording_ids": [], "content_hashes": [], "windows": []}
        ]
        for part in self.parts.values():
            body = {k: v for k, v in part.to_json().items() if k != "recordings"}
            rows.append(
                {
                    "body": json.dumps(body),
                    "recording_ids": [c.recording_id for c in part.recordings],
                    "content_hashes": [c.content_hash for c in part.recordings],
                    "windows": [c.windows for c in part.recordings],
                }
            )
        return pl.DataFrame(rows, schema=_CHECKPOINT, orient="row")

    @classmethod
    def from_checkpoint(cls, frame: pl.DataFrame) -> State:
        """Back from `to_checkpoint`."""
        rows = frame.iter_rows()
        rest: Mapping[str, Any] = json.loads(next(rows)[0])
        parts = {}
        for body, ids, hashes, windows in rows:
            recordings = tuple(map(Covered, ids, hashes, windows))
            part = Part(**json.loads(body), recordings=recordings)
            parts[part.path] = part
        skips = [Skip(**skip) for skip in rest["skips"]]
        return cls(
            rest["version"],
            parts,
            {(s.view, s.recipe, s.recording_id): s for s in skips},
            dict(rest["active"]),
            statistics_from_json(rest["statistics"]),
            rest["oldest"],
            rest["notes"],
        )
