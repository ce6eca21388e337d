"""Out-of-fold is a type: a view of logits holds no score by a model that knew the answer.

Views named `logits/...` say for every row which fold its recording lies in (`fold`, -1 for
none) and which fold model scored it (`model_fold`, -1 for a network that was trained
elsewhere). The guard compares both with FOLDS and TRAINED three times: when an extractor
hands over rows, when the log takes a part in, and when a stacker joins stored rows.

The recipe's `training` says whose model it is: `{"model": fingerprint, ...}`, or null for a
network that was trained elsewhere, on recordings that are not ours.

| `training` | view | recording | rows are taken if |
|---|---|---|---|
| a model | `logits/<backbone>` | has a fold | `fold` is that of FOLDS, `model_fold` has not met it |
| a model | `logits/<backbone>` | has none | never: its rows go into the views of the fold models |
| a model | `logits/<backbone>.m<k>` | has a fold | never: its rows go into `logits/<backbone>` |
| a model | `logits/<backbone>.m<k>` | has none | `fold` is -1, `model_fold` is k and has not met it |
| null | `logits/<backbone>` | any | `fold` is that of FOLDS or -1, and `model_fold` is -1 |
| null | `logits/<backbone>.m<k>` | any | never: there are no fold models |
| absent | any | any | never |

A fold model has met a recording if TRAINED has the recording, its bytes, or one of its group
(of then or of now). One that TRAINED does not name has met everything. A view without the two
columns is refused whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import polars as pl

from birdstack.store.commit import Part
from birdstack.store.errors import LeakError, SkipRecording, UsageError
from birdstack.store.files import Files
from birdstack.store.fold_rules import (
    FOLD_COLUMNS,
    Fault,
    Place,
    WatchedView,
    is_logits,
    model_of,
    refuse_missing,
)
from birdstack.store.fold_tables import places, training_record
from birdstack.store.keys import WindowGrid
from birdstack.store.parquet_read import PartReader, window_frame
from birdstack.store.recipes import read_recipe
from birdstack.store.recordings import Recording
from birdstack.store.snapshot import Snapshot
from birdstack.store.state import State
from birdstack.store.views import ViewSpec

SEEN_CODE = "seen_in_training"
"""Code of the skip of a recording without a fold that its view's fold model has met."""

_ROWS = ("recording_id", "window", "fold", "model_fold")
_NAMED = 5  # faults that a message spells out


class _Run(NamedTuple):
    """Rows of one recording that say the same."""

    recording_id: str
    fold: int
    model_fold: int
    first: int
    last: int
    n_rows: int


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """The guard of some views, by the folds and training records of one snapshot. Picklable.

    One that was made for no view refuses every view of logits.

    Attributes:
        places: recording_id -> where it stands.
        watched: (view, recipe) -> the rules of that view.
    """

    places: Mapping[str, Place] = field(default_factory=dict)
    watched: Mapping[tuple[str, str], WatchedView] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: Snapshot, specs: Iterable[ViewSpec]) -> OutOfFold:
        """The guard of those of `specs` that are views of logits.

        Raises:
            LeakError: the rows of a view cannot be judged: it lacks `fold` or `model_fold`,
                its recipe does not say what the network was trained on, or no record does.
        """
        logits = [spec for spec in specs if is_logits(spec.name)]
        if not logits:
            return cls()
        watched = {}
        for spec in logits:
            model = model_of(spec)
            record = None if model is None else training_record(snapshot, model)
            watched[spec.name, spec.recipe_hash] = WatchedView.of(spec, record)
        return cls(places(snapshot), watched)

    def check(self, spec: ViewSpec, recording: Recording, values: Mapping[str, np.ndarray]) -> None:
        """Refuse rows of one recording that are not out-of-fold; other views pass.

        Args:
            spec: the view.
            recording: whose rows they are.
            values: columns of the view, `[window]` each.

        Raises:
            LeakError: naming view, recording, windows, fold, model_fold, group and remedy.
        """
        if not is_logits(spec.name):
            return
        refuse_missing(spec.name, [c.name for c in FOLD_COLUMNS if c.name not in values])
        name = recording.recording_id
        fold, model_fold = np.asarray(values["fold"]), np.asarray(values["model_fold"])
        runs = []
        for pair in dict.fromkeys(zip(fold.tolist(), model_fold.tolist(), strict=True)):
            rows = np.flatnonzero((fold == pair[0]) & (model_fold == pair[1]))
            runs.append(_Run(name, *pair, int(rows[0]), int(rows[-1]), len(rows)))
        self._refuse(spec, {name: recording.content_key}, runs)

    def check_rows(self, spec: ViewSpec, held: Mapping[str, str], rows: pl.DataFrame) -> None:
        """Refuse rows of a view of logits that are not out-of-fold.

        Args:
            spec: the view.
            held: recording_id -> content key of what was heard, also where that has no window.
            rows: `recording_id`, `window`, `fold`, `model_fold` of recordings in `held`.

        Raises:
            LeakError: naming the first of them, and how many there are.
        """
        window = pl.col("window")
        alike = rows.group_by("recording_id", "fold", "model_fold", maintain_order=True).agg(
            window.min().alias("first"), window.max().alias("last"), pl.len()
        )
        self._refuse(spec, held, map(_Run._make, alike.iter_rows()))

    def _refuse(self, spec: ViewSpec, held: Mapping[str, str], runs: Iterable[_Run]) -> None:
        faults = list(self._faults(self._watched(spec), held, runs))
        if faults:
            lines = [f"view {spec.name!r}, {where}: {fault.why}" for where, fault in faults]
            if len(lines) > _NAMED:
                lines[_NAMED:] = [f"and {len(lines) - _NAMED} more like these"]
            raise LeakError("\n".join(lines), remedy=faults[0][1].remedy)

    def passes_over(self, spec: ViewSpec, recording: Recording) -> SkipRecording | None:
        """Why a view of one fold model goes without a recording that the model has met.

        Nothing could have held it out, since it has no fold: a copy of a training recording
        among the test recordings, say. That costs the recording and not the run. All other
        rows that are not out-of-fold are a defect, and stop it.
        """
        if not is_logits(spec.name):
            return None
        watched = self._watched(spec)
        name = recording.recording_id
        place = self.places.get(name, Place())
        if watched.own is None or place.fold is not None:
            return None
        met = watched.met(place, name, recording.content_key, watched.own)
        return SkipRecording(SEEN_CODE, met) if met else None

    def _watched(self, spec: ViewSpec) -> WatchedView:
        try:
            return self.watched[spec.name, spec.recipe_hash]
        except KeyError:
            message = f"view {spec.name!r}, recipe {spec.recipe_hash}: the guard does not know it"
            remedy = "make the guard with OutOfFold.of(snapshot, specs) for all views of the run"
            raise LeakError(message, remedy=remedy) from None

    def _faults(
        self, watched: WatchedView, held: Mapping[str, str], runs: Iterable[_Run]
    ) -> Iterator[tuple[str, Fault]]:
        """Every recording, and every run of like rows, that is refused."""
        astray = set()
        for name in held:
            fault = watched.astray(self.places.get(name, Place()))
            if fault is not None:
                astray.add(name)
                yield f"recording {name!r}", fault
        for name, fold, model_fold, first, last, n_rows in runs:
            if name in astray:
                continue
            place = self.places.get(name, Place())
            fault = watched.wrong(place, name, held[name], fold=fold, model_fold=model_fold)
            if fault is not None:
                group = "no group" if place.group is None else f"group {place.group!r}"
                where = (
                    f"recording {name!r}, windows {first} to {last} ({n_rows} rows), {group}, "
                    f"fold {fold}, model_fold {model_fold}"
                )
                yield where, fault


def assert_out_of_fold(
    snapshot: Snapshot,
    view: str,
    recordings: Sequence[str] | None = None,
    *,
    recipe: str | None = None,
) -> None:
    """Hold that stored rows of a view of logits are out-of-fold by the snapshot's own tables.

    What was honest when it was written need not be so now: a new split moves recordings, a
    corrected author joins two groups. Whoever trains on logits calls this first.

    Args:
        snapshot: the store at one moment.
        view: a view of logits.
        recordings: these only; None for all that the view holds.
        recipe: first digits of a recipe other than the active one.

    Raises:
        LeakError: naming the rows that are not, or the view if it cannot be judged.
        UsageError: no such view, or not one of logits.
    """
    spec = snapshot.spec(view, recipe)
    if not is_logits(view):
        message = f"view {view!r} is not one of logits: nothing says which model scored a row"
        raise UsageError(message, remedy="ask about views whose name begins with logits/")
    guard = OutOfFold.of(snapshot, [spec])
    chosen = None if recordings is None else frozenset(recordings)
    covered = snapshot.covered(view, spec.recipe_hash)
    held = {i: c.content_hash for i, c in covered.items() if chosen is None or i in chosen}
    rows = snapshot.view(view, recipe=spec.recipe_hash, recordings=recordings)
    guard.check_rows(spec, held, rows.select(_ROWS).collect())


def refuse_leaks(files: Files, grid: WindowGrid, state: State, parts: Sequence[Part]) -> None:
    """Hold that parts which are about to become live bring in only out-of-fold rows.

    The log asks this of every commit, whoever makes it. Rows that are live already may be
    laid out anew whatever FOLDS says by now; `assert_out_of_fold` judges them when they are
    used.

    Args:
        files: where the parts lie.
        grid: the store's window grid.
        state: what is live.
        parts: about to be added.

    Raises:
        LeakError: naming the rows.
    """
    live: dict[tuple[str, str], dict[str, str]] = {}
    fresh: list[tuple[Part, dict[str, str]]] = []
    for part in parts:
        if is_logits(part.view):
            view = (part.view, part.recipe)
            if view not in live:
                live[view] = state.held(*view)
            known = live[view]
            new = {i: key for i, key, _ in part.recordings if known.get(i) != key}
            fresh += [(part, new)] if new else []
    if not fresh:
        return
    specs = {(p.view, p.recipe): read_recipe(files, p.view, p.recipe) for p, _ in fresh}
    guard = OutOfFold.of(Snapshot(files, grid, state), specs.values())
    for part, new in fresh:
        with PartReader(files, part) as reader:
            rows = window_frame(reader, _ROWS).filter(pl.col("recording_id").is_in(list(new)))
        guard.check_rows(specs[part.view, part.recipe], new, rows)
