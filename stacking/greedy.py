"""Greedy ensemble weights, the same for all classes (Caruana et al. 2004)."""

from __future__ import annotations

import numpy as np

from birdstack.store.labels import ABSENT, PRESENT

_ROUNDS = 20
_MIN_GAIN = 1e-4
_MOST = 500


def greedy_weights(
    library: np.ndarray, truth: np.ndarray, rows: np.ndarray, *, rounds: int = _ROUNDS
) -> np.ndarray:
    """Weights `[score]` that sum to one: scores are added one at a time, repeats allowed.

    A round that raises macro AUC by less than 0.0001 ends it. Of a class at most 500 positives
    and 500 negatives count, drawn at random.

    Args:
        library: `[score, window, class]`, all of one scale.
        truth: `[window, class]`: 1, 0 or -1.
        rows: rows to learn from, `[window]` of bool.
        rounds: most that are added.
    """
    classes = _samples(library, truth, rows)
    counts = np.zeros(len(library))
    if not classes:
        return np.full(len(library), 1 / len(library))
    totals = [np.zeros(scores.shape[1]) for scores, _ in classes]
    best = -np.inf
    for _ in range(rounds):
        values = np.mean(
            [
                _aucs(total + scores, positives)
                for total, (scores, positives) in zip(totals, classes, strict=True)
            ],
            axis=0,
        )
        winner = int(np.argmax(values))
        if values[winner] < best + _MIN_GAIN:
            break
        best = values[winner]
        counts[winner] += 1
        totals = [
            total + scores[winner] for total, (scores, _) in zip(totals, classes, strict=True)
        ]
    return np.asarray(counts / counts.sum())


def _samples(
    library: np.ndarray, truth: np.ndarray, rows: np.ndarray
) -> list[tuple[np.ndarray, int]]:
    """For each class scores `[score, row]`, positives first, and how many they are."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(truth.shape[1]):
        positive = np.flatnonzero(rows & (truth[:, number] == PRESENT))
        negative = np.flatnonzero(rows & (truth[:, number] == ABSENT))
        if not len(positive) or not len(negative):
            continue
        positive, negative = rng.permutation(positive)[:_MOST], rng.permutation(negative)[:_MOST]
        at = np.concatenate([positive, negative])
        found.append((library[:, at, number].astype(np.float64), len(positive)))
    return found


def _aucs(scores: np.ndarray, positives: int) -> np.ndarray:
    """AUC of each row of `[score, row]` whose first columns are the positives."""
    values = []
    for row in scores:
        won, lost = row[:positives], np.sort(row[positives:])
        twice = np.searchsorted(lost, won, "left") + np.searchsorted(lost, won, "right")
        values.append(twice.sum() / (2.0 * len(won) * len(lost)))
    return np.asarray(values)
