"""Worlds of recordings whose true AUC of each class is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

_LOUDNESS, _WINDOW, _DISTANCE = 0.7, 0.7, 0.8  # standard deviations that make up a score


@dataclass(frozen=True)
class World:
    """Where recordings come from.

    Attributes:
        title: for people.
        recordings: how many.
        classes: how many.
        common: share of recordings in which the commonest class sings.
        rare: expected recordings of the rarest class.
        strong: separation of the commonest class, in units of scores.
        weak: of the rarest.
        spread: standard deviation of the separation around that line.
        uneven: how much more than others the recordings of some classes differ.
        windows: of each recording.
    """

    title: str
    recordings: int
    classes: int
    common: float = 0.3
    rare: float = 0.7
    strong: float = 2.0
    weak: float = 2.0
    spread: float = 0.4
    uneven: float = 0.0
    windows: int = 12


WORLDS = {
    "weak": World("rare classes worse", 100, 60, weak=0.7),
    "even": World("rare classes as good", 100, 60, strong=1.5, weak=1.5),
    "strong": World("rare classes better", 100, 60, strong=1.2, weak=2.4),
    "uneven": World("near or far by class", 100, 60, strong=1.5, weak=1.5, uneven=1.4),
    "few": World("20 recordings, 30 classes", 20, 30, weak=0.7),
    "none": World("no tail", 100, 60, rare=10, weak=1.0),
    "large": World("1,100 recordings, 182 classes", 1100, 182, weak=0.7),
}


@dataclass(frozen=True, eq=False)
class Drawn:
    """Recordings, truth and the scores of two contenders, with their true AUC by class."""

    recording: np.ndarray
    truth: np.ndarray
    scores: tuple[np.ndarray, np.ndarray]
    auc: tuple[np.ndarray, np.ndarray]


def drawn(world: World, seed: int) -> Drawn:
    """One draw; classes themselves are the same for all seeds."""
    fixed = np.random.default_rng(7)
    share = np.geomspace(world.common, world.rare / world.recordings, world.classes)
    shift = np.linspace(world.strong, world.weak, world.classes)
    shift = np.clip(shift + world.spread * fixed.normal(size=world.classes), 0.1, None)
    far = np.clip(_DISTANCE + world.uneven * (fixed.random(world.classes) - 0.5), 0.1, None)
    rng = np.random.default_rng((seed, 11))
    shape = (world.recordings, world.windows, world.classes)
    by_recording = (world.recordings, 1, world.classes)
    sings = rng.random(by_recording) < share
    present = sings & (rng.random(shape) < 0.4)
    loudness = _LOUDNESS * rng.normal(size=by_recording)
    distance = far * rng.normal(size=by_recording)
    noise = _WINDOW * rng.normal(size=shape)
    scores, auc = [], []
    for gain in (1.0, 0.9):
        own = 0.5 * noise + np.sqrt(0.75) * _WINDOW * rng.normal(size=shape)
        values = present * (gain * shift + distance) + loudness + own
        scores.append(values.reshape(-1, world.classes))
        pairs = 2 * (_LOUDNESS**2 + _WINDOW**2) + far**2
        auc.append(norm.cdf(gain * shift / np.sqrt(pairs)))
    return Drawn(
        np.repeat(np.arange(world.recordings), world.windows),
        present.reshape(-1, world.classes).astype(np.int8),
        (scores[0], scores[1]),
        (auc[0], auc[1]),
    )
