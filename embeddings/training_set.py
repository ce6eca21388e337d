"""What a training learns from, checked before any sound is heard."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from birdstack.store.errors import StoreError
from birdstack.store.labels import PRESENT, UNKNOWN
from birdstack.store.recordings import Recording

_SHOWN = 5


@dataclass(frozen=True)
class TrainingSet:
    """Labelled recordings in folds.

    Attributes:
        recordings: in any order.
        fold: int `[recording]`; below 0: in no fold, neither trained nor validated on.
        labels: int8 `[recording, class]`, 1 present, 0 absent, -1 not known; of a whole
            recording, whose windows share them.
        classes: names, in the order of columns.
        rating: `[recording]`, 0 or NaN where unrated; None: nothing is rated.
        window_labels: recording_id to int8 `[window, class]`, for recordings whose labels
            have times; replaces the recording's row of `labels`.

    Raises:
        StoreError: lengths or shapes do not fit, a value is none of 1, 0 and -1, or a
            recording stands twice.
    """

    recordings: Sequence[Recording]
    fold: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    rating: np.ndarray | None = None
    window_labels: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count, shape = len(self.recordings), (len(self.recordings), len(self.classes))
        remedy = "build the training set from one snapshot of the store"
        if self.fold.shape != (count,) or self.labels.shape != shape:
            message = (
                f"training set: {count} recordings and {len(self.classes)} classes need fold "
                f"({count},) and labels {shape}, got {self.fold.shape} and {self.labels.shape}"
            )
            raise StoreError(message, remedy=remedy)
        if self.rating is not None and self.rating.shape != (count,):
            message = (
                f"training set: {count} recordings need as many ratings, got {self.rating.shape}"
            )
            raise StoreError(message, remedy=remedy)
        ids = [recording.recording_id for recording in self.recordings]
        if len(set(ids)) != count:
            twice = next(name for name in ids if ids.count(name) > 1)
            message = f"training set: recording {twice!r} stands twice"
            raise StoreError(message, remedy=remedy)
        for name, matrix in [("labels", self.labels), *sorted(self.window_labels.items())]:
            if matrix.ndim != 2 or matrix.shape[1] != len(self.classes):  # noqa: PLR2004 - a matrix
                message = f"training set: {name} must be [window, class of {len(self.classes)}], got {matrix.shape}"
                raise StoreError(message, remedy=remedy)
            if not np.isin(matrix, (PRESENT, 0, UNKNOWN)).all():
                message = f"training set: {name} must hold 1, 0 and -1 alone"
                raise StoreError(message, remedy=remedy)

    def truth(self, index: int, n_windows: int) -> np.ndarray:
        """Labels of a recording's windows, int8 `[window, class]`.

        Where labels have times and the sound is longer or shorter than they are, further
        windows are not known and missing ones are dropped.
        """
        timed = self.window_labels.get(self.recordings[index].recording_id)
        if timed is None:
            return np.repeat(self.labels[index : index + 1], n_windows, axis=0)
        found = np.full((n_windows, len(self.classes)), UNKNOWN, np.int8)
        found[: len(timed)] = timed[:n_windows]
        return found

    def known(self) -> np.ndarray:
        """Whether a recording is in a fold and has a label at all, `[recording]`."""
        known = (self.labels != UNKNOWN).any(axis=1)
        for index, recording in enumerate(self.recordings):
            timed = self.window_labels.get(recording.recording_id)
            if timed is not None:
                known[index] = bool((timed != UNKNOWN).any())
        found: np.ndarray = known & (self.fold >= 0)
        return found

    def split(self, held_out_fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the recordings to train on, and of those to validate on.

        Raises:
            StoreError: one of them is empty.
        """
        known = self.known()
        train = np.flatnonzero(known & (self.fold != held_out_fold))
        held_out = np.flatnonzero(known & (self.fold == held_out_fold))
        folds = sorted({int(fold) for fold in self.fold[known]})
        if not len(train) or not len(held_out):
            what = "train" if not len(train) else "validate"
            message = (
                f"fold {held_out_fold}: no labelled recording is left to {what} on; the "
                f"{len(self.recordings)} recordings have labels in the folds {folds}"
            )
            raise StoreError(message, remedy="make at least two folds of labelled recordings")
        return train, held_out

    def positives(self, indices: np.ndarray) -> np.ndarray:
        """Recordings in which each class is present, `[class]`."""
        present = self.labels == PRESENT
        for index, recording in enumerate(self.recordings):
            timed = self.window_labels.get(recording.recording_id)
            if timed is not None:
                present[index] = (timed == PRESENT).any(axis=0)
        count: np.ndarray = present[indices].sum(axis=0)
        return count

    def warnings(self, held_out_fold: int) -> tuple[str, ...]:
        """What a user should know of this split before the training, one sentence each."""
        train, held_out = self.split(held_out_fold)
        taught, asked = self.positives(train) > 0, self.positives(held_out) > 0
        said = []
        only_here = [self.classes[i] for i in np.flatnonzero(~taught & asked)]
        if only_here:
            said.append(
                f"fold {held_out_fold}: {_shown(only_here)} only in this fold: the model that "
                "is to score them has never heard them"
            )
        nowhere = [self.classes[i] for i in np.flatnonzero(~taught & ~asked)]
        if nowhere:
            said.append(f"fold {held_out_fold}: {_shown(nowhere)} in no fold: never learnt")
        return tuple(said)

    def digest(self) -> str:
        """sha256 of everything that a training takes from here but the paths of files."""
        told = hashlib.sha256()
        told.update(repr(self.classes).encode())
        rating = np.zeros(len(self.fold)) if self.rating is None else self.rating
        for index, recording in enumerate(self.recordings):
            told.update(f"{recording.recording_id}\0{recording.content_hash}\0".encode())
            told.update(f"{int(self.fold[index])} {float(rating[index])!r}".encode())
            timed = self.window_labels.get(recording.recording_id)
            matrix = self.labels[index : index + 1] if timed is None else timed
            told.update(f"{matrix.shape}".encode() + matrix.astype(np.int8).tobytes())
        return told.hexdigest()


def _shown(names: Sequence[str]) -> str:
    """`class a is` or `7 classes (a, b, ...) are`."""
    if len(names) == 1:
        return f"class {names[0]} is"
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} classes ({', '.join(names[:_SHOWN])}{more}) are"
