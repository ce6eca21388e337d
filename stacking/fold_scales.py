"""Scores of different fold models on one scale, without a look at a label.

Every fold is scored by a model of its own. Where these models differ in offset or gain, or
where a model's scores depend on what its own fold happened to hold (a prior counted without
the fold is lower exactly where the class occurs), pooled scores rank folds, not windows. How
much of a difference between folds is the models' is estimated from recordings, the
independent draws: the variance between folds against that between the recordings of a fold,
class by class (one-way analysis of variance), shrunk as James and Stein (1961) shrink. A
network that is the same in all folds is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from birdstack.stacking.stack_table import StackTable

_FLOOR = 1e-9


@dataclass(frozen=True)
class Spread:
    """Location and scale of every backbone and class, for rows of no fold.

    Attributes:
        centre: `[backbone, class]`; NaN where a backbone says nothing.
        scale: `[backbone, class]`, above zero.
        grid: `[backbone, class, point]`, ascending quantiles of the aligned scores.
    """

    centre: np.ndarray
    scale: np.ndarray
    grid: np.ndarray


def aligned(table: StackTable) -> np.ndarray:
    """Scores with the fold models' offsets and gains taken out, `[backbone, window, class]`.

    Rows without a fold are left as they are.
    """
    fold = np.asarray(table.fold)
    folds = np.unique(fold[fold >= 0])
    scores = np.array(table.logits, dtype=np.float32)
    if len(folds) < 2:  # noqa: PLR2004 - nothing to align with
        return scores
    rows = table.window_fold
    for backbone in range(len(table.backbones)):
        layer = scores[backbone]
        offset, gain = _differences(layer, table, folds)
        centre = _recording_means(layer, table).mean(axis=0)
        for number, which in enumerate(folds):
            here = rows == which
            layer[here] = (layer[here] - offset[number] - centre) / gain[number] + centre
    return scores


def spread(scores: np.ndarray, rows: np.ndarray, points: int = 101) -> Spread:
    """Where the scores of some rows lie.

    Args:
        scores: `[backbone, window, class]`.
        rows: the rows to look at, `[window]` of bool.
        points: number of quantiles kept.
    """
    seen = scores[:, rows].astype(np.float64)
    centre, width = seen.mean(axis=1), seen.std(axis=1)
    # A constant column says nothing: it is centred and not blown up.
    scale = np.where(width > _FLOOR, width, 1.0)
    grid = np.quantile(seen, np.linspace(0, 1, points), axis=1).transpose(1, 2, 0)
    return Spread(centre, scale, grid)


def standardised(scores: np.ndarray, where: Spread) -> np.ndarray:
    """Scores less the centre, over the scale, `[backbone, window, class]`; NaN stays."""
    shifted = (scores - where.centre[:, None]) / where.scale[:, None]
    return np.asarray(shifted, dtype=np.float32)


def ranked(scores: np.ndarray, where: Spread) -> np.ndarray:
    """Share of rows below each score, by the quantiles kept, `[backbone, window, class]`.

    Beyond the outermost quantiles the rank goes on rising, slowly, so that a score above all
    that was seen still outranks them.
    """
    out = np.full(scores.shape, np.nan, dtype=np.float32)
    share = np.linspace(0, 1, where.grid.shape[2])
    for backbone, column in zip(*np.nonzero(np.isfinite(where.centre)), strict=True):
        values = scores[backbone, :, column].astype(np.float64)
        grid, first = np.unique(where.grid[backbone, column], return_index=True)
        last = np.searchsorted(where.grid[backbone, column], grid, "right") - 1
        level = (share[first] + share[last]) / 2
        beyond = (values - np.clip(values, grid[0], grid[-1])) / where.scale[backbone, column]
        out[backbone, :, column] = np.interp(values, grid, level) + 0.01 * np.tanh(beyond)
    return out


def _recording_means(layer: np.ndarray, table: StackTable) -> np.ndarray:
    starts = np.cumsum(table.windows) - table.windows
    sums = np.add.reduceat(layer.astype(np.float64), starts, axis=0)
    return np.asarray(sums / np.asarray(table.windows)[:, None])


def _differences(
    layer: np.ndarray, table: StackTable, folds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Offset `[fold, class]` and gain `[fold]` of each fold model."""
    means = _recording_means(layer, table)
    fold = np.asarray(table.fold)
    known = fold >= 0
    sizes = np.array([(fold == which).sum() for which in folds])
    by_fold = np.stack([means[fold == which].mean(axis=0) for which in folds])
    within = sum(
        ((means[fold == which] - by_fold[number]) ** 2).sum(axis=0)
        for number, which in enumerate(folds)
    )
    total = means[known].mean(axis=0)
    between = (sizes[:, None] * (by_fold - total) ** 2).sum(axis=0) / (len(folds) - 1)
    noise = within / max(int(known.sum()) - len(folds), 1)
    ratio = between / np.maximum(noise, _FLOOR)
    kept = np.where(noise > _FLOOR, np.maximum(0, 1 - 1 / np.maximum(ratio, _FLOOR)), 1.0)
    offset = np.nan_to_num(kept * (by_fold - total))
    return offset, _gains(layer, table, folds)


def _gains(layer: np.ndarray, table: StackTable, folds: np.ndarray) -> np.ndarray:
    """How wide each fold's scores are against the others', the same for all classes."""
    rows = table.window_fold
    widths = np.stack([layer[rows == which].std(axis=0) for which in folds])
    common = np.exp(np.log(np.maximum(widths, _FLOOR)).mean(axis=0))
    usable = (widths > _FLOOR).all(axis=0)
    if not usable.any():
        return np.ones(len(folds))
    logs = np.log(widths[:, usable] / common[usable])
    gain = logs.mean(axis=1)
    return np.asarray(np.exp(gain))
