"""The table that a stack learns from or scores, laid out from one snapshot by a design.

Rows are windows, one block of scores for each backbone, extra columns beside them: columns of a
single class are made later, one class at a time, so that windows x columns x classes never lie
in memory at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from birdstack.stacking.components import Components
from birdstack.stacking.design import Design
from birdstack.stacking.design_columns import (
    component_columns,
    fit_design_components,
    fitted_for,
)
from birdstack.stacking.stack_table import FOCAL, SIMULATED, SOUNDSCAPES, TEST, StackTable
from birdstack.store import simulated
from birdstack.store.errors import SchemaError, UsageError
from birdstack.store.labels import UNKNOWN, LabelsConfig, label_matrix
from birdstack.store.out_of_fold import assert_out_of_fold
from birdstack.store.snapshot import Snapshot

NO_FOLD = -1


@dataclass(frozen=True)
class Scored:
    """Recordings that all views of a design hold.

    Attributes:
        ids: ascending.
        lacking: recordings with a view missing -> name of that view.
    """

    ids: list[str]
    lacking: Mapping[str, str]


def fit_columns(snapshot: Snapshot, design: Design) -> Components | None:
    """What has to be fitted before the columns of a design can be made; None if nothing has.

    Learnt from are the recordings of `training_table`, fold by fold from the other folds.

    Raises:
        UsageError: the store is not that of the design, or no recording has all views.
    """
    if design.components is None:
        return None
    folds, scored = _with_fold(snapshot, design)
    fold_of = dict(folds.select("recording_id", "fold").iter_rows())
    fold = np.array([fold_of[name] for name in scored.ids])
    return fit_design_components(snapshot, design.components, scored.ids, fold)


def training_table(
    snapshot: Snapshot,
    design: Design,
    labels: LabelsConfig | None = None,
    components: Components | None = None,
) -> tuple[StackTable, Scored]:
    """Every labelled recording with a fold: out-of-fold scores, labels, groups.

    Args:
        snapshot: the pinned one.
        design: which columns.
        labels: what a secondary label is worth.
        components: as `fit_columns` gives them, where the design has any.

    Raises:
        UsageError: the store is not that of the design, no recording has all views, or the
            design's components are not given.
        LeakError: a score is not out-of-fold by the snapshot's own tables.
    """
    folds, scored = _with_fold(snapshot, design)
    for pin in design.backbones:
        assert_out_of_fold(snapshot, pin.view(), scored.ids)
    table = _table(snapshot, design, scored.ids, None, folds=folds, components=components)
    truth = label_matrix(
        window_keys(table, design), snapshot.table("labels"), list(design.classes), labels
    )
    return table.with_truth(truth), scored


def fresh_recordings(snapshot: Snapshot, design: Design, split: str | None = None) -> Scored:
    """Recordings without a fold that all views of the design hold."""
    rows = snapshot.table("recordings")
    rows = rows if split is None else rows.filter(pl.col("split") == split)
    rows = rows.join(snapshot.table("folds"), on="recording_id", how="anti")
    ids = rows.filter(pl.col("content_hash").is_not_null())["recording_id"].sort().to_list()
    return _held_by_all(snapshot, design, ids, design.fold_models)


def fresh_table(
    snapshot: Snapshot,
    design: Design,
    ids: Sequence[str],
    model_fold: int | None,
    components: Components | None = None,
) -> StackTable:
    """Recordings without a fold, scored by one fold model; all labels unknown.

    Args:
        snapshot: with the views.
        design: which columns.
        ids: recordings, as `fresh_recordings` has them.
        model_fold: which fold model; None where no backbone has any.
        components: as they were saved with the stack, where the design has any.

    Raises:
        UsageError: the store is not that of the design, or its components are not given.
    """
    design.check(snapshot)
    folds = snapshot.table("folds")
    return _table(snapshot, design, ids, model_fold, folds=folds, components=components)


def window_keys(table: StackTable, design: Design) -> pl.DataFrame:
    """`recording_id`, `window`, `start_s`, `end_s` of every row."""
    start_s = table.index * design.grid.hop_s
    names = pl.Series("recording_id", list(table.recording_ids), dtype=pl.String)
    return pl.DataFrame(
        {
            "recording_id": names.gather(table.recording),
            "window": table.index,
            "start_s": start_s,
            "end_s": start_s + design.grid.window_s,
        }
    )


def assemble(
    design: Design,
    ids: Sequence[str],
    windows: np.ndarray,
    *,
    logits: np.ndarray,
    extra: np.ndarray,
    domain: Sequence[str],
    places: np.ndarray | None = None,
) -> StackTable:
    """A table of windows that nobody has met: no fold, no label.

    Args:
        design: whose columns they are.
        ids: recordings, ascending.
        windows: number of windows of each.
        logits: `[backbone, window, class]`, by one fold model.
        extra: `[window, column]`, in the order of `design.extra_names`.
        domain: of each recording.
        places: latitude and longitude of each, `[recording, 2]`, NaN where not known; None
            where none is. Only a range prior looks at them.
    """
    total = int(np.sum(windows))
    return StackTable(
        recording_ids=list(ids),
        windows=np.asarray(windows, dtype=np.int64),
        groups=list(ids),
        fold=np.full(len(ids), NO_FOLD),
        backbones=design.backbone_names,
        classes=design.classes,
        logits=logits,
        truth=np.full((total, len(design.classes)), UNKNOWN, dtype=np.int8),
        extra=extra,
        extra_names=design.extra_names,
        domain=tuple(domain),
        computed=design.extra_names,
        places=places,
    )


def _with_fold(snapshot: Snapshot, design: Design) -> tuple[pl.DataFrame, Scored]:
    """The folds in force, and the recordings with one that all views hold."""
    design.check(snapshot)
    folds = snapshot.table("folds").sort("recording_id")
    scored = _held_by_all(snapshot, design, folds["recording_id"].to_list())
    if not scored.ids:
        message = f"{snapshot.files.url}: no recording with a fold has all views of the design"
        raise UsageError(message, remedy="run birdstack features")
    return folds, scored


def _table(
    snapshot: Snapshot,
    design: Design,
    ids: Sequence[str],
    model_fold: int | None,
    *,
    folds: pl.DataFrame,
    components: Components | None,
) -> StackTable:
    components = fitted_for(design, components)
    place = {name: (fold, group) for name, fold, group in folds.iter_rows()}
    fold = np.array([place.get(name, (NO_FOLD, None))[0] for name in ids], dtype=np.int64)
    counts: np.ndarray | None = None
    layers = []
    for pin in design.backbones:
        matrix = snapshot.matrix({pin.view(model_fold): list(design.classes)}, recordings=ids)
        layers.append(matrix.values)
        counts = matrix.windows
    assert counts is not None, "a design has a backbone"
    columns = [
        snapshot.matrix({pin.view: list(pin.columns)}, recordings=ids).values
        for pin in design.extras
    ]
    if components is not None and design.components is not None:
        made, windows = component_columns(snapshot, design.components, components, ids, fold)
        _refuse_other_windows(design.components.view, ids, windows, counts)
        columns.append(made)
    extra = np.concatenate(columns, axis=1) if columns else np.empty((0, 0), np.float32)
    table = assemble(
        design,
        ids,
        counts,
        logits=np.stack(layers),
        extra=extra,
        domain=_domains(snapshot, ids, place),
        places=_places(snapshot, ids),
    )
    return table.placed(fold, [place.get(name, (None, name))[1] for name in ids])


def _refuse_other_windows(
    view: str, ids: Sequence[str], found: np.ndarray, wanted: np.ndarray
) -> None:
    if not np.array_equal(found, wanted):
        at = int(np.argmax(found != wanted))
        message = f"view {view!r} has {found[at]} windows of {ids[at]!r}, the logits {wanted[at]}"
        raise SchemaError(message, remedy="run birdstack features again")


def _places(snapshot: Snapshot, ids: Sequence[str]) -> np.ndarray:
    """Latitude and longitude, float64 `[recording, 2]`; NaN where not known."""
    rows = snapshot.table("recordings").select("recording_id", "latitude", "longitude")
    known = {name: pair for name, *pair in rows.iter_rows()}
    pairs = [[np.nan if v is None else v for v in known[name]] for name in ids]
    return np.array(pairs, dtype=np.float64).reshape(len(ids), 2)


def _held_by_all(
    snapshot: Snapshot, design: Design, ids: Sequence[str], fold_models: Sequence[int] = ()
) -> Scored:
    views = {pin.view(k) for pin in design.backbones for k in fold_models or (None,)}
    views |= {pin.view for pin in design.extras}
    views |= set() if design.components is None else {design.components.view}
    lacking: dict[str, str] = {}
    for view in sorted(views):
        held = snapshot.covered(view)
        lacking |= {i: view for i in ids if i not in lacking and not _windows(held.get(i))}
    return Scored(sorted(i for i in ids if i not in lacking), lacking)


def _windows(covered: object) -> int:
    return int(getattr(covered, "windows", 0))


def _domains(
    snapshot: Snapshot, ids: Sequence[str], place: Mapping[str, tuple[int, str]]
) -> list[str]:
    rows = snapshot.table("recordings").select("recording_id", "split", "kind")
    known = {name: (split, kind) for name, split, kind in rows.iter_rows()}

    def domain(name: str) -> str:
        split, kind = known[name]
        if split == simulated.SIMULATED:
            return SIMULATED
        if name not in place:
            return TEST
        return SOUNDSCAPES if kind == "soundscape" else FOCAL

    return [domain(name) for name in ids]
