"""Grouped folds for a table that has none: classes spread, groups whole, always the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def deal_folds(groups: Sequence[str], present: np.ndarray, n_folds: int) -> np.ndarray:
    """Fold of each recording.

    Iterative stratification (Sechidis et al. 2011), by groups: the rarest class not dealt yet
    goes first, each of its groups to the fold that wants that class most. It depends on names
    and labels alone, neither on the order of rows nor on chance.

    Args:
        groups: group of each recording, `[recording]`.
        present: whether each class occurs in it, `[recording, class]`.
        n_folds: folds wanted; with fewer groups there are as many folds as groups.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    n_folds = min(n_folds, len(names))
    has = np.zeros((len(names), present.shape[1]), dtype=bool)
    np.logical_or.at(has, member, present)
    size = np.bincount(member, minlength=len(names))
    fold_of = np.full(len(names), -1)
    filled = np.zeros((n_folds, has.shape[1]))
    load = np.zeros(n_folds)

    def place(group: int, wish: np.ndarray) -> None:
        # A tie goes to the fold with the fewest recordings, then to the first.
        best = np.lexsort((np.arange(n_folds), load, wish))[0]
        fold_of[group] = best
        filled[best] += has[group]
        load[best] += size[group]

    while (left := fold_of < 0).any():
        counts = has[left].sum(axis=0)
        if not counts.any():
            for group in np.flatnonzero(left)[np.argsort(-size[left], kind="stable")]:
                place(int(group), load)
            break
        rarest = int(np.argmin(np.where(counts > 0, counts, np.iinfo(np.int64).max)))
        for group in np.flatnonzero(left & has[:, rarest]):
            place(int(group), filled[:, rarest])
    empty = np.setdiff1d(np.arange(n_folds), fold_of)
    for fold in empty:
        richest = np.bincount(fold_of, minlength=n_folds).argmax()
        fold_of[np.flatnonzero(fold_of == richest)[-1]] = fold
    return np.asarray(fold_of[member])
