"""Scores that know too much, or nothing: in-fold logits and recordings mixed up.

Whose model scored a row, a store knows and a bare table does not say. What is left are signs,
and they are told as warnings, with their figures:

* a class whose positives all lie in one fold was met by no model that may score that fold. A
  network that was trained on these labels ranks it by chance; one that ranks it near perfectly
  has met it, or was trained elsewhere on more.
* near perfect scores in nearly every class, where every other backbone is far from it.
* a backbone, or one fold of it, that ranks by chance where others do not: its rows were joined
  to other recordings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.leak_finding import WARNING, Finding
from birdstack.stacking.stack_table import StackTable
from birdstack.store.labels import ABSENT, PRESENT

_UNSEEN_AUC, _UNSEEN_CLASSES = 0.98, 5
_PERFECT, _NEARLY_ALL, _FAR = 0.999, 0.95, 5.0
_FEWEST_CLASSES = 5
_CHANCE, _CLEAR, _BACKWARDS = 2.0, 0.6, 0.4


def score_signs(table: StackTable) -> list[Finding]:
    """Signs of in-fold scores, and of scores joined to the wrong recordings."""
    rows = _Rows.of(table)
    per_class = np.stack([_aucs(layer, rows.truth) for layer in rows.logits])
    found = _unseen(table, rows)
    told = {finding.column for finding in found}
    found += [f for f in _perfect(table, per_class) if f.column not in told]
    inside = np.stack(
        [
            [
                _aucs(layer[rows.fold == which], rows.truth[rows.fold == which])
                for which in rows.folds
            ]
            for layer in rows.logits
        ]
    )
    at_chance = _chance(table, rows, inside)
    told = {finding.column for finding in at_chance}
    return [*found, *at_chance, *_folds_at_chance(table, rows, inside, told)]


@dataclass(frozen=True)
class _Rows:
    """Rows with a fold."""

    logits: list[np.ndarray]
    truth: np.ndarray
    fold: np.ndarray
    recording: np.ndarray

    @property
    def folds(self) -> np.ndarray:
        """Numbers of the folds."""
        return np.unique(self.fold)

    @classmethod
    def of(cls, table: StackTable) -> _Rows:
        known = table.window_fold >= 0
        return cls(
            [np.asarray(layer)[known] for layer in table.logits],
            table.truth[known],
            table.window_fold[known],
            table.recording[known],
        )


def _aucs(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """AUC of each class; NaN where the backbone does not speak of it, or there are no pairs."""
    speaks = np.isfinite(scores).all(axis=0)
    filled = np.where(speaks, scores, np.float32(0))
    return np.where(speaks, macro_auc(filled, truth).per_class, np.nan)


def _recordings_with(truth: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Recordings with a positive, and with a known negative alone: `[2, class]`."""
    first = np.flatnonzero(np.append(True, held[1:] != held[:-1]))
    there = np.logical_or.reduceat(truth == PRESENT, first, axis=0)
    away = np.logical_or.reduceat(truth == ABSENT, first, axis=0) & ~there
    return np.stack([there.sum(axis=0), away.sum(axis=0)])


def _error(per_class: np.ndarray, units: np.ndarray) -> float:
    """Standard error of the mean AUC, were it all chance: recordings are the draws."""
    at = np.isfinite(per_class)
    count = max(int(at.sum()), 1)
    there, away = np.maximum(units[:, at], 1)
    null = np.sqrt(((there + away + 1) / (12 * there * away)).sum()) / count
    seen = per_class[at].std(ddof=1) / np.sqrt(count) if count > 1 else np.inf
    return float(max(null, seen))


def _unseen(table: StackTable, rows: _Rows) -> list[Finding]:
    """Classes that no fold model may have met, ranked as if it had."""
    truth, fold = rows.truth, rows.fold
    present = truth == PRESENT
    folds = np.unique(fold)
    where = np.stack([present[fold == number].any(axis=0) for number in folds])
    lonely = np.flatnonzero(where.sum(axis=0) == 1)
    home = where.argmax(axis=0)
    found = []
    for backbone, scores in enumerate(rows.logits):
        values = []
        for number, which in enumerate(folds):
            at = lonely[home[lonely] == number]
            here = np.ix_(fold == which, at)
            if len(at):
                values.append(_aucs(scores[here], truth[here]))
        auc = np.concatenate(values) if values else np.empty(0)
        auc = auc[np.isfinite(auc)]
        if len(auc) >= _UNSEEN_CLASSES and auc.mean() >= _UNSEEN_AUC:
            why = (
                f"{len(auc)} classes lie in one fold each, so that no model of the other folds "
                f"has met them, yet their mean AUC there is {auc.mean():.3f}: the scores are not "
                "out-of-fold, or the network was trained elsewhere"
            )
            found.append(
                Finding(
                    WARNING,
                    "knows_unseen_classes",
                    table.backbones[backbone],
                    why,
                    "make sure that each row was scored by a model that was trained without its "
                    "fold",
                )
            )
    return found


def _perfect(table: StackTable, per_class: np.ndarray) -> list[Finding]:
    """Backbones without a fault in nearly all classes, far from all others."""
    found = []
    means = np.array([_mean(row) for row in per_class])
    for backbone, row in enumerate(per_class):
        auc = row[np.isfinite(row)]
        if len(auc) < _FEWEST_CLASSES:
            continue
        share = float((auc >= _PERFECT).mean())
        others = np.delete(means, backbone)
        others = others[np.isfinite(others)]
        short = 1 - others.max() if len(others) else np.inf
        far = short > _FAR * (1 - means[backbone])
        if share >= _NEARLY_ALL and far:
            beside = f", where the next backbone has {others.max():.3f}" if len(others) else ""
            why = (
                f"AUC is {_PERFECT} or more in {share:.0%} of {len(auc)} classes, mean "
                f"{means[backbone]:.4f}{beside}: scores of training rows look like this"
            )
            found.append(
                Finding(
                    WARNING,
                    "too_good",
                    table.backbones[backbone],
                    why,
                    "make sure that each row was scored by a model that was trained without its "
                    "fold",
                )
            )
    return found


def _chance(table: StackTable, rows: _Rows, inside: np.ndarray) -> list[Finding]:
    """Backbones that rank no better than chance, or backwards.

    Folds are ranked one by one: a prior that was counted without the fold it scores is lower
    where a class abounds, and pooled over folds it ranks backwards without being wrong.

    Args:
        table: for names.
        rows: those with a fold.
        inside: AUC within folds, `[backbone, fold, class]`.
    """
    found = []
    units = _recordings_with(rows.truth, rows.recording)
    per_class = _over_folds(inside, rows)
    means = np.array([_mean(row) for row in per_class])
    for backbone, row in enumerate(per_class):
        if np.isfinite(row).sum() < _FEWEST_CLASSES:
            continue
        error, mean = _error(row, units), means[backbone]
        others = [f"{n} {m:.3f}" for n, m in zip(table.backbones, means, strict=True) if m > _CLEAR]
        beside = f", where others do ({', '.join(others)})" if others else ""
        figures = f"macro AUC within folds {mean:.3f}, standard error {error:.3f}"
        if mean < min(_BACKWARDS, 0.5 - _CHANCE * error):
            why = f"ranks backwards: {figures}"
            remedy = "give scores that rise with the chance of the class"
            found.append(
                Finding(WARNING, "ranks_backwards", table.backbones[backbone], why, remedy)
            )
        elif abs(mean - 0.5) <= _CHANCE * error and mean < _CLEAR:
            why = (
                f"ranks no better than chance: {figures}{beside}: its rows may be those of other "
                "recordings"
            )
            found.append(Finding(WARNING, "ranks_by_chance", table.backbones[backbone], why, _JOIN))
    return found


def _over_folds(inside: np.ndarray, rows: _Rows) -> np.ndarray:
    """AUC of each class, its folds weighted by their positives, `[backbone, class]`."""
    present = rows.truth == PRESENT
    counts = np.stack([present[rows.fold == which].sum(axis=0) for which in rows.folds])
    weights = np.where(np.isfinite(inside), counts, 0.0)
    total = weights.sum(axis=1)
    summed = (weights * np.nan_to_num(inside)).sum(axis=1)
    return np.asarray(np.where(total > 0, summed / np.maximum(total, 1), np.nan))


_JOIN = "join scores to recordings by recording_id and window, not by the order of rows"


def _folds_at_chance(
    table: StackTable, rows: _Rows, inside: np.ndarray, told: set[str]
) -> list[Finding]:
    """Single folds of a backbone that rank by chance, beside folds that do not."""
    units = []
    for which in rows.folds:
        here = rows.fold == which
        units.append(_recordings_with(rows.truth[here], rows.recording[here]))
    found = []
    for name, parts in zip(table.backbones, inside, strict=True):
        if name in told:
            continue
        ok = np.isfinite(parts).sum(axis=1) >= _FEWEST_CLASSES
        means = np.array([_mean(row) for row in parts])
        for number in np.flatnonzero(ok).tolist():
            rest = np.delete(means, number)[np.delete(ok, number)]
            error, mean = _error(parts[number], units[number]), means[number]
            if not len(rest) or mean > 0.5 + _CHANCE * error:
                continue
            if np.median(rest) >= max(_CLEAR, mean + 2 * _CHANCE * error):
                why = (
                    f"ranks fold {rows.folds[number]} no better than chance: macro AUC {mean:.3f}, "
                    f"standard error {error:.3f}, the other folds {np.median(rest):.3f}: rows of "
                    "this fold may be those of other recordings"
                )
                found.append(Finding(WARNING, "fold_ranks_by_chance", name, why, _JOIN))
    return found


def _mean(values: np.ndarray) -> float:
    at = values[np.isfinite(values)]
    return float(at.mean()) if len(at) else float("nan")
