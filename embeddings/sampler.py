"""Which windows a training hears, and when: a pure function of the seed and the step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from birdstack.embeddings.train_config import TrainConfig
from birdstack.embeddings.training_set import TrainingSet
from birdstack.store.labels import PRESENT, UNKNOWN

ANYWHERE = -1
"""Number of the window of a unit that may start anywhere in its recording."""

_ORDER, _REDRAW, _AUGMENT, _LAYERS = range(4)


@dataclass(frozen=True)
class Units:
    """What can be drawn: a recording, or one window of a recording labelled by window.

    A crop that starts anywhere overlaps several windows and would have the labels of none,
    so recordings that are labelled by window are heard on the grid.

    Attributes:
        recording: position in the training set, `[unit]`.
        window: `[unit]`; ANYWHERE or the window on the grid.
        labels: int8 `[unit, class]`.
        weight: how often each is drawn, relative to others; sums to 1, `[unit]`.
    """

    recording: np.ndarray
    window: np.ndarray
    labels: np.ndarray
    weight: np.ndarray


def make_units(data: TrainingSet, indices: np.ndarray, config: TrainConfig) -> Units:
    """Units of some recordings, weighted by how rare their classes are and how good they are.

    The weight of a class with n of N units is (n / N)^-class_balance; a unit has that of its
    rarest present class, and units without one are a class of their own.

    Args:
        data: the training set.
        indices: positions of recordings in it.
        config: `class_balance` and `rating_weights`.
    """
    recording, window, labels = [], [], []
    for index in indices:
        timed = data.window_labels.get(data.recordings[index].recording_id)
        matrix = data.labels[index : index + 1] if timed is None else timed
        for row in np.flatnonzero((matrix != UNKNOWN).any(axis=1)):
            recording.append(int(index))
            window.append(ANYWHERE if timed is None else int(row))
            labels.append(matrix[row])
    truth, places = np.stack(labels), np.array(recording)
    weight = _rarity(truth == PRESENT) ** config.class_balance
    if config.rating_weights and data.rating is not None:
        weight = weight * _rating(data.rating[places])
    return Units(places, np.array(window), truth, weight / weight.sum())


def _rarity(present: np.ndarray) -> np.ndarray:
    """N / n of the rarest present class of each unit, `[unit]`."""
    columns = np.column_stack([present, ~present.any(axis=1)])
    count = np.maximum(columns.sum(axis=0), 1)
    rarity: np.ndarray = np.where(columns, len(present) / count, 0).max(axis=1)
    return rarity


def _rating(rating: np.ndarray) -> np.ndarray:
    """Ratings as weights; the unrated have the mean of the rated, or 1 if none is."""
    rated = np.isfinite(rating) & (rating > 0)
    mean = rating[rated].mean() if rated.any() else 1.0
    weight: np.ndarray = np.where(rated, rating, mean)
    return weight


class Sampler:
    """The order of a training. It keeps no state: any step can be asked for at any time.

    An epoch draws units by systematic resampling, so that a unit is drawn within one time
    of how often its weight says, in an order of its own. Every batch is full: an epoch is a
    whole number of batches.

    Args:
        weight: of the units, sums to 1, `[unit]`.
        config: seed, batch size and length of an epoch.
        fold: held out; folds draw in different orders.

    Attributes:
        steps_per_epoch: batches of an epoch.
        steps: batches of the training.
    """

    def __init__(self, weight: np.ndarray, config: TrainConfig, fold: int) -> None:
        self._weight = weight
        self._seed = (config.seed, fold)
        self._batch = config.batch_size
        wanted = config.epoch_windows or len(weight)
        self.steps_per_epoch = -(-wanted // config.batch_size)
        self.steps = self.steps_per_epoch * config.epochs
        self._drawn: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def units(self, step: int) -> np.ndarray:
        """Units of a batch, `[batch]`."""
        epoch, place = divmod(step, self.steps_per_epoch)
        drawn = self._epoch(epoch)
        return drawn[place * self._batch : (place + 1) * self._batch]

    def redraws(self, step: int) -> np.random.Generator:
        """Source of crops' starts and of units drawn in the place of unheard ones."""
        return np.random.default_rng((*self._seed, _REDRAW, step))

    def replacement(self, rng: np.random.Generator) -> int:
        """One unit by weight."""
        return int(rng.choice(len(self._weight), p=self._weight))

    def augment_seed(self, step: int) -> int:
        """Seed of a batch's augmentations."""
        return self._number(_AUGMENT, step)

    def layer_seed(self, step: int) -> int:
        """Seed of what layers draw in a step, such as dropout."""
        return self._number(_LAYERS, step)

    def _number(self, purpose: int, step: int) -> int:
        words = np.random.SeedSequence((*self._seed, purpose, step)).generate_state(1, np.uint64)
        return int(words[0] >> np.uint64(1))

    def _epoch(self, epoch: int) -> np.ndarray:
        held, drawn = self._drawn  # one assignment: threads see an old pair or the new one
        if held == epoch:
            return drawn
        rng = np.random.default_rng((*self._seed, _ORDER, epoch))
        count = self.steps_per_epoch * self._batch
        edges = np.cumsum(self._weight)
        places = (np.arange(count) + rng.random()) / count * edges[-1]
        drawn = np.minimum(np.searchsorted(edges, places, "right"), len(edges) - 1)
        drawn = rng.permutation(drawn)
        self._drawn = (epoch, drawn)
        return drawn
