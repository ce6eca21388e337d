"""What a stacking run refuses or flags before anything is fitted.

A store judges each row of logits by the model that made it (`assert_out_of_fold`). Here stands
the second line, which a bare table meets too: what a table says of its own rows is held to,
what its columns show is measured.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise

import numpy as np

from birdstack.stacking.leak_columns import label_columns
from birdstack.stacking.leak_context import crossing_columns
from birdstack.stacking.leak_finding import REFUSED, Finding
from birdstack.stacking.leak_scores import score_signs
from birdstack.stacking.stack_table import StackTable
from birdstack.store.errors import LeakError, SchemaError

MODEL_FOLD = "model_fold"
"""Extra column that says without which fold the model of a row was trained; with
`:<backbone>` behind it, for one backbone."""
_NAMED = 5


def check_table(
    table: StackTable,
    *,
    model_folds: Mapping[str, np.ndarray] | None = None,
    computed: Collection[str] = (),
    seed: int = 0,
) -> list[Finding]:
    """Look for leaks; refuse the certain ones.

    Args:
        table: out-of-fold scores, labels, folds.
        model_folds: backbone -> the fold that the model of each row was trained without,
            `[window]`; -1 for a network trained elsewhere. Extra columns named `model_fold` or
            `model_fold:<backbone>` are read likewise.
        computed: names of extra columns that were made from sound, place and time alone; a
            class that lives apart is no reason to refuse them.
        seed: of what is drawn.

    Returns:
        What may be wrong, to be told.

    Raises:
        LeakError: what is certainly wrong, by name, with the figures.
        SchemaError: rows are not sorted, or `model_folds` does not fit.
    """
    found = find_leaks(table, model_folds=model_folds, computed=computed, seed=seed)
    refused = [finding for finding in found if finding.severity == REFUSED]
    if refused:
        lines = [str(finding) for finding in refused]
        if len(lines) > _NAMED:
            lines[_NAMED:] = [f"and {len(lines) - _NAMED} more like these"]
        raise LeakError("\n".join(lines), remedy=refused[0].remedy)
    return found


def find_leaks(
    table: StackTable,
    *,
    model_folds: Mapping[str, np.ndarray] | None = None,
    computed: Collection[str] = (),
    seed: int = 0,
) -> list[Finding]:
    """Likewise, but only told.

    Raises:
        SchemaError: rows are not sorted, or `model_folds` does not fit.
    """
    check_segments(table)
    said = _said(table) if model_folds is None else dict(model_folds)
    return [
        *_in_fold(table, said),
        *crossing_columns(table, seed),
        *label_columns(table, seed, computed=computed),
        *score_signs(table),
    ]


def check_segments(table: StackTable) -> None:
    """Hold that recordings are apart, and that windows of each go up: context depends on it.

    Raises:
        SchemaError: naming the recording.
    """
    names = list(table.recording_ids)
    for before, name in pairwise(names):
        if not before < name:
            message = f"stack table: recording {name!r} follows {before!r}"
            raise SchemaError(message, remedy="sort recordings by name, each of them once")
    counts = np.asarray(table.windows)
    if len(counts) and counts.min() < 1:
        message = f"stack table: recording {names[int(counts.argmin())]!r} has no window"
        raise SchemaError(message, remedy="leave out recordings without windows")
    held, index = table.recording, np.asarray(table.index)
    stuck = (held[1:] == held[:-1]) & (index[1:] <= index[:-1])
    if stuck.any():
        row = int(np.argmax(stuck)) + 1
        message = f"stack table: recording {names[held[row]]!r}: window {index[row]} follows "
        message += f"{index[row - 1]}"
        raise SchemaError(message, remedy="sort the windows of each recording, each of them once")


def _said(table: StackTable) -> dict[str, np.ndarray]:
    """What extra columns say of the models."""
    said = {}
    for number, name in enumerate(table.extra_names):
        kind, _, backbone = name.partition(":")
        if kind == MODEL_FOLD and (not backbone or backbone in table.backbones):
            for each in [backbone] if backbone else table.backbones:
                said[each] = table.extra[:, number]
    return said


def _in_fold(table: StackTable, said: Mapping[str, np.ndarray]) -> list[Finding]:
    """Rows that were scored by a model of another fold, which was trained on theirs."""
    found = []
    fold = table.window_fold
    for backbone, values in said.items():
        if np.shape(values) != fold.shape:
            message = f"model_fold of {backbone!r}: shape {np.shape(values)}, wanted {fold.shape}"
            raise SchemaError(message, remedy="give one model_fold for each window")
        wrong = (fold >= 0) & ~((values == fold) | (values == -1))
        if wrong.any():
            row = int(np.argmax(wrong))
            why = (
                f"recording {table.recording_ids[table.recording[row]]!r}, window "
                f"{table.index[row]}: fold {fold[row]}, but model_fold {values[row]:g}, so its "
                f"model was trained on it ({int(wrong.sum())} such rows)"
            )
            remedy = "score each recording with the model that was trained without its fold"
            found.append(Finding(REFUSED, "in_fold_scores", backbone, why, remedy))
    return found
