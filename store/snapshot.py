"""A snapshot: one pin over all views, and the ways to read it.

Rows come in one order everywhere, by (recording_id, window), so that views can be laid side
by side. What is read has been compared with the digests in the log first.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import polars as pl

from birdstack.store.commit import Covered, Part
from birdstack.store.errors import UsageError
from birdstack.store.family import Member, column_owners, scan_family
from birdstack.store.files import Files
from birdstack.store.keys import WindowGrid
from birdstack.store.matrix import Block, Matrix, fill_matrix
from birdstack.store.parquet_read import PartReader, table_frame
from birdstack.store.recipes import read_recipe
from birdstack.store.scan import scan_view
from birdstack.store.state import State
from birdstack.store.tables import NOTES, SKIPS, TABLES
from birdstack.store.views import ViewSpec


class Snapshot:
    """The contents of a store after one commit; cheap to make, never changes.

    Attributes:
        files: the layer it reads from.
        grid: the store's window grid.
        state: live parts, coverage and skips.
    """

    def __init__(self, files: Files, grid: WindowGrid, state: State) -> None:
        self.files = files
        self.grid = grid
        self.state = state

    @property
    def version(self) -> int:
        """Number in the log; -1 for an empty store."""
        return self.state.version

    @property
    def views(self) -> list[str]:
        """Names of the window views."""
        return sorted({name for name, _ in self.state.window_views()})

    def members(self, name: str) -> list[str]:
        """Views that a name stands for: itself, or the members of a family such as `acoustic`.

        Raises:
            UsageError: no such view or family.
        """
        views = self.views
        found = [name] if name in views else [v for v in views if v.startswith(f"{name}/")]
        if not found:
            families = {view.split("/", 1)[0] for view in views}
            known = sorted(families | set(views))
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"views here: {_listed(known)}"
            message = f"{self.files.url}, snapshot {self.version}: no view {name!r}; {hint}"
            raise UsageError(message, remedy="see `birdstack store ls`")
        return found

    def _member(self, view: str, recipe: str | None = None) -> Member:
        spec = self.spec(view, recipe)
        return spec, self.state.view_parts(view, spec.recipe_hash)

    def recipe_of(self, view: str, recipe: str | None = None) -> str:
        """The active recipe of a view, or the one that `recipe` begins.

        Raises:
            UsageError: no such view or recipe.
        """
        members = self.members(view)
        if members != [view]:
            message = f"{view!r} is a family of views: {_listed(members)}"
            raise UsageError(message, remedy="name one of them")
        known = [r for name, r in self.state.window_views() if name == view]
        if recipe is None:
            return self.state.active.get(view, known[-1])
        found = [r for r in known if r.startswith(recipe)]
        if len(found) != 1:
            message = f"view {view!r}: {len(found)} recipes begin with {recipe!r}: {_listed(known)}"
            raise UsageError(message, remedy="give more of the recipe's hash, see `store describe`")
        return found[0]

    def spec(self, view: str, recipe: str | None = None) -> ViewSpec:
        """Columns and recipe of a view."""
        return read_recipe(self.files, view, self.recipe_of(view, recipe))

    def covered(self, view: str, recipe: str | None = None) -> dict[str, Covered]:
        """recording_id -> content hash and number of windows, for what the view holds.

        Of a family, what all of its members hold.
        """
        names = self.members(view)
        if names == [view]:
            return self.state.covered(view, self.recipe_of(view, recipe))
        held = [self.state.covered(name, self.recipe_of(name)) for name in names]
        return {i: c for i, c in held[0].items() if all(c == other.get(i) for other in held)}

    def view(
        self, name: str, *, recipe: str | None = None, recordings: Sequence[str] | None = None
    ) -> pl.LazyFrame:
        """Keys and columns of one view, one row for each window.

        Only the columns that the query uses and the recordings that its filter on keys can
        match are read.

        Args:
            name: the view, or a family such as `acoustic`: its members side by side, for the
                recordings that all of them hold.
            recipe: first digits of a recipe other than the active one.
            recordings: read these recordings only (those the view lacks are passed over).
        """
        names = self.members(name)
        if names == [name] or recipe is not None:
            spec, parts = self._member(name, recipe)
            return scan_view(self.files, self.grid, spec, parts, recordings)
        members = [self._member(member) for member in names]
        return scan_family(self.files, self.grid, name, members, recordings)

    def matrix(
        self,
        views: str | Mapping[str, Sequence[str] | None],
        *,
        recordings: Sequence[str] | None = None,
    ) -> Matrix:
        """Numeric columns of one or more views as one contiguous float32 array.

        Args:
            views: a view's name for all its columns, or view -> its columns (None for all).
                With several views, rows are the recordings that all of them hold.
            recordings: these recordings only.

        Raises:
            UsageError: an unknown view or column, or a column that is not a number.
        """
        wanted = {views: None} if isinstance(views, str) else dict(views)
        blocks = []
        for name, columns in wanted.items():
            prefix = f"{name}:" if len(wanted) > 1 else ""
            members = [self._member(member) for member in self.members(name)]
            owners = column_owners(name, members)
            unknown = [column for column in columns or [] if column not in owners]
            if unknown:
                message = f"view {name!r}: no column {unknown[0]!r}"
                raise UsageError(message, remedy=f"see `birdstack store describe {name}`")
            for number, (spec, parts) in enumerate(members):
                mine = None if columns is None else [c for c in columns if owners[c] == number]
                if mine is None or mine:
                    blocks.append(Block(spec, parts, mine, prefix))
        matrix = fill_matrix(self.files, self.grid, blocks, recordings)
        return matrix.ordered(
            [
                f"{name}:{c}" if len(wanted) > 1 else c
                for name, cs in wanted.items()
                for c in cs or []
            ]
        )

    def table(self, name: str, *, key: str | None = None) -> pl.DataFrame:
        """One of `tables.TABLES`: `recordings`, `labels`, `classes`, `folds`, `trained`, ...

        Args:
            name: of the table.
            key: only rows under this key (a dataset, a model, ...); None for all.

        Raises:
            UsageError: no such table.
        """
        if name not in TABLES:
            message = f"no table {name!r}; tables: {_listed(list(TABLES))}"
            raise UsageError(message, remedy="see `birdstack store ls`")
        parts = self.state.table_parts(name)
        if name in self.state.active:  # one of several splits is in force
            parts = [part for part in parts if part.key == self.state.active[name]]
        if key is not None:
            parts = [part for part in parts if part.key == key]
        return self.read_table(parts, name)

    def read_table(self, parts: Sequence[Part], name: str) -> pl.DataFrame:
        """Rows of some parts of a table."""
        frames = []
        for part in parts:
            with PartReader(self.files, part) as reader:
                frames.append(table_frame(reader).cast(TABLES[name]))
        return pl.concat(frames) if frames else TABLES[name].to_frame()

    def skips(self) -> pl.DataFrame:
        """Recordings that a view could not be made for, with reasons."""
        rows = [asdict(skip) for skip in self.state.skips.values()]
        return pl.DataFrame(rows, schema=SKIPS).sort("view", "recording_id")

    def notes(self) -> pl.DataFrame:
        """Facts about recordings that were heard all the same: truncated, clipped, ..."""
        rows = [
            (recording_id, note, json.dumps(value))
            for recording_id, notes in self.state.notes.items()
            for note, value in notes.items()
        ]
        return pl.DataFrame(rows, schema=NOTES, orient="row").sort("recording_id", "note")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
