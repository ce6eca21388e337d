"""Greedy ensemble weights, the same for all classes (Caruana et al. 2004)."""

from __future__ import annotations

import numpy as np

from birdstack.embeddings.auc import macro_auc
from birdstack.store.labels import ABSENT, PRESENT

_ROUNDS = 20
_MIN_GAIN = 1e-4
_NEGATIVES = 500


def greedy_weights(
    library: np.ndarray, truth: np.ndarray, rows: np.ndarray, *, rounds: int = _ROUNDS
) -> np.ndarray:
    """Weights `[score]` that sum to one: scores are added one at a time, repeats allowed.

    A round that raises macro AUC by less than 0.0001 ends it. On large tables negatives are
    thinned out, at random, to a few hundred for each class.

    Args:
        library: `[score, window, class]`, all of one scale.
        truth: `[window, class]`: 1, 0 or -1.
        rows: rows to learn from, `[window]` of bool.
    """
    kept = _thinned(truth, rows)
    at = np.flatnonzero((kept >= 0).any(axis=1))
    scores, labels = library[:, at], kept[at]
    counts = np.zeros(len(library))
    total = np.zeros(labels.shape, dtype=np.float32)
    best = -np.inf
    for _ in range(rounds):
        values = [macro_auc(total + layer, labels).value for layer in scores]
        if not np.isfinite(values).any() or max(values) < best + _MIN_GAIN:
            break
        winner = int(np.nanargmax(values))
        best = values[winner]
        counts[winner] += 1
        total += scores[winner]
    if not counts.any():
        return np.full(len(library), 1 / len(library))
    return np.asarray(counts / counts.sum())


def _thinned(truth: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The labels of some rows, with at most so many positives and negatives of a class."""
    kept = np.where(rows[:, None], truth, np.int8(-1))
    rng = np.random.default_rng(0)
    for number in range(truth.shape[1]):
        for value in (PRESENT, ABSENT):
            found = np.flatnonzero(kept[:, number] == value)
            if len(found) > _NEGATIVES:
                drop = rng.permutation(found)[_NEGATIVES:]
                kept[drop, number] = -1
    return np.asarray(kept)
