"""A long-tailed set of out-of-fold scores, drawn, with fresh rows whose truth is known.

Some twenty thousand focal recordings of 182 classes, five recordings of the rarest and five
hundred of the commonest. A class is heard the better the more recordings it has; kin are taken
for each other; rain, insects and wind trouble the classes of their band; fold models differ,
most for rare classes; of the training labels one positive in twenty is missing. Columns of
noise, band and place say what the scores cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from birdstack.stacking.stack_table import StackTable


@dataclass(frozen=True)
class Size:
    """How much is drawn.

    Attributes:
        classes: number of classes.
        rarest: recordings of the rarest class.
        commonest: of the commonest.
        windows: training windows kept.
        fresh: fresh recordings of each class.
        backbones: number of networks.
        extra: extra columns.
        folds: number of folds.
        seed: another seed gives another world.
    """

    classes: int = 182
    rarest: int = 5
    commonest: int = 500
    windows: int = 100_000
    fresh: int = 30
    backbones: int = 3
    extra: int = 60
    folds: int = 5
    seed: int = 2024


class World:
    """Birds, networks and noises that training and fresh rows have in common."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.rng = rng = np.random.default_rng(size.seed)
        n, b, k = size.classes, size.backbones, size.folds
        tail = size.rarest * (size.commonest / size.rarest) ** np.linspace(0, 1, n)
        self.recordings = np.round(tail).astype(int)[rng.permutation(n)]
        kin = rng.normal(size=(n, 12))
        kin /= np.linalg.norm(kin, axis=1, keepdims=True)
        alike = np.maximum(kin @ kin.T - 0.45, 0) * 2.2
        np.fill_diagonal(alike, 0)
        self.taken_for = alike.astype(np.float32)
        self.heard = 1.5 + 0.6 * np.log(self.recordings) + rng.normal(0, 0.6, n)
        self.band = rng.uniform(0, 1, n)
        near = np.exp(-((self.band[:, None] - np.array([0.1, 0.5, 0.9])) ** 2) / 0.08)
        self.trouble = (rng.normal(0, 1.2, (n, 3)) * near).astype(np.float32)
        self.place, self.reach = rng.uniform(-3, 3, (n, 2)), rng.uniform(0.6, 2.2, n)
        rare = 1 / np.sqrt(self.recordings)
        self.gain = rng.uniform(0.8, 1.2, (b, n))
        self.fold_bias = rng.normal(0, 1, (k, b, n)) * (0.15 + 1.2 * rare)
        self.fold_gain = np.exp(rng.normal(0, 1, (k, b, n)) * (0.05 + 0.5 * rare))
        self.level = rng.normal(-3.5, 0.7, n)
        self.mixes = (rng.normal(size=(size.extra, 16)) / 4).astype(np.float32)

    def table(self, primary: np.ndarray, limit: int | None, *, fresh: bool) -> StackTable:
        """Focal recordings of the classes given, one of each entry."""
        rng, size = self.rng, self.size
        lengths = np.clip(rng.geometric(1 / 5.1, len(primary)), 1, 24)
        if limit is not None:
            kept = int(np.searchsorted(np.cumsum(lengths), limit)) + 1
            primary, lengths = primary[:kept], lengths[:kept]
        count, recording = len(primary), np.repeat(np.arange(len(primary)), lengths)
        where = self.place[primary] + rng.normal(0, 0.6, (count, 2)) * self.reach[primary, None]
        truth = self._sings(primary, where, recording, lengths)
        noise = np.abs(rng.normal(0, 1, (count, 3))) * (rng.random((count, 3)) < 0.5)
        noise = np.maximum(noise[recording] + rng.normal(0, 0.3, (len(recording), 3)), 0)
        loud = (rng.normal(0, 0.7, count)[recording] + rng.normal(0, 0.7, len(recording)))[:, None]
        clear = (1 / (1 + np.exp(-(loud + 1)))).astype(np.float32)
        fold = rng.integers(0, size.folds, count)
        labels = truth.astype(np.int8)
        if not fresh:
            labels[truth & (rng.random(truth.shape) < 0.05)] = 0
        names = [f"{'fresh' if fresh else 'focal'}-{number:06d}" for number in range(count)]
        extra = self._extra(truth, noise, loud, clear, where[recording])
        return StackTable(
            recording_ids=names,
            windows=lengths,
            groups=names,
            fold=np.full(count, -1) if fresh else fold,
            backbones=tuple(f"net{number}" for number in range(size.backbones)),
            classes=tuple(f"bird{number:03d}" for number in range(size.classes)),
            logits=self._logits(truth, noise, clear, recording, None if fresh else fold),
            truth=labels,
            extra=extra,
            extra_names=tuple(f"column{number:02d}" for number in range(extra.shape[1])),
        )

    def _sings(
        self, primary: np.ndarray, where: np.ndarray, recording: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """The recording's own bird in four windows of five; another now and then, in bouts."""
        rng = self.rng
        truth = np.zeros((len(recording), self.size.classes), dtype=bool)
        rows = np.arange(len(recording))
        truth[rows, primary[recording]] = rng.random(len(rows)) < 0.8
        starts = np.cumsum(lengths) - lengths
        for number in np.flatnonzero(rng.random(len(lengths)) < 0.3):
            away = ((self.place - where[number]) ** 2).sum(axis=1)
            likely = np.exp(-away / (2 * self.reach**2)) * np.sqrt(self.recordings)
            other = rng.choice(len(likely), p=likely / likely.sum())
            on = rng.random() < 0.4
            for row in range(starts[number], starts[number] + lengths[number]):
                truth[row, other] |= on
                on = rng.random() < (0.75 if on else 0.12)
        return truth

    def _logits(
        self,
        truth: np.ndarray,
        noise: np.ndarray,
        clear: np.ndarray,
        recording: np.ndarray,
        fold: np.ndarray | None,
    ) -> np.ndarray:
        rng, shape = self.rng, truth.shape
        loud = truth * clear
        core = loud * self.heard.astype(np.float32) + 2 * loud @ self.taken_for.T
        core -= (0.8 * noise @ self.trouble.T).astype(np.float32)
        scene = rng.standard_normal((recording[-1] + 1, shape[1]), dtype=np.float32)
        core += 0.45 * scene[recording]
        core += 0.8 * rng.standard_normal(shape, dtype=np.float32)
        logits = np.empty((self.size.backbones, *shape), dtype=np.float32)
        for number in range(self.size.backbones):
            own = rng.standard_normal(shape, dtype=np.float32)
            if fold is None:  # the mean of all fold models
                gain, bias = self.fold_gain[:, number].mean(0), self.fold_bias[:, number].mean(0)
                layer = self.gain[number] * core * gain + bias + 0.5 * own
            else:
                of = fold[recording]
                layer = self.gain[number] * core * self.fold_gain[of, number]
                layer += self.fold_bias[of, number] + 0.7 * own
            logits[number] = layer + self.level
        return logits

    def _extra(
        self,
        truth: np.ndarray,
        noise: np.ndarray,
        loud: np.ndarray,
        clear: np.ndarray,
        where: np.ndarray,
    ) -> np.ndarray:
        rng = self.rng
        bands = [np.exp(-((self.band - centre) ** 2) / 0.02) for centre in np.linspace(0, 1, 10)]
        energy = (truth @ np.stack(bands, axis=1)) * clear
        hidden = np.concatenate([loud, noise, energy, rng.normal(size=(len(truth), 2))], axis=1)
        extra = hidden @ self.mixes.T + rng.normal(0, 0.35, (len(truth), self.size.extra))
        extra[:, 0] = loud[:, 0] + rng.normal(0, 0.3, len(truth))
        extra[:, 1:4] = noise + rng.normal(0, 0.2, noise.shape)
        return np.concatenate([extra, where], axis=1).astype(np.float32)


def long_tail(size: Size | None = None) -> tuple[StackTable, StackTable]:
    """Rows to learn from, and fresh recordings, of each class alike many."""
    size = size or Size()
    world = World(size)
    every = np.arange(size.classes)
    primary = world.rng.permutation(np.repeat(every, world.recordings))
    learn = world.table(primary, size.windows, fresh=False)
    fresh = world.table(np.repeat(every, size.fresh), None, fresh=True)
    return learn, fresh
