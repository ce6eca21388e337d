"""What a stacker learns from, free of where it came from: scores, truth, folds, groups.

Rows are windows, sorted by recording and window. Whatever is not known is said to be so: a
label is 1, 0 or -1 (not known), a score that a backbone does not give is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from birdstack.store.errors import SchemaError
from birdstack.store.labels import PRESENT

FOCAL, SIMULATED, SOUNDSCAPES, TEST = "focal", "simulated", "soundscapes", "test"
"""Domains: clips of one bird; soundscapes mixed from them; labelled real ones; rows to score."""


@dataclass(frozen=True, eq=False)
class StackTable:
    """Out-of-fold scores of one or more backbones for a set of windows.

    Attributes:
        recording_ids: `[recording]`, ascending.
        windows: number of windows of each recording, `[recording]`.
        groups: group of each recording, `[recording]`: those of one group are never parted.
        fold: fold of each recording, `[recording]`, -1 for none.
        backbones: names of backbones.
        classes: names of classes.
        logits: float32 `[backbone, window, class]`, by the fold model that has not met the
            recording; NaN where a backbone says nothing.
        truth: int8 `[window, class]`: 1 present, 0 absent, -1 not known.
        extra: float32 `[window, column]`: acoustic columns, place, time, ...
        extra_names: names of these columns.
        window_index: int32 `[window]`, number of each window in its recording, ascending; gaps
            are allowed (context never reaches across one).
        domain: what each recording is, `[recording]`: `FOCAL`, `SIMULATED`, ...; None where
            nobody knows.
        computed: names of extra columns that were computed from sound or place alone: none of
            them can be a label in disguise.
        places: latitude and longitude in degrees, float64 `[recording, 2]`, NaN where not
            known; None where no place is known.

    Raises:
        SchemaError: shapes do not fit.
    """

    recording_ids: Sequence[str]
    windows: np.ndarray
    groups: Sequence[str]
    fold: np.ndarray
    backbones: tuple[str, ...]
    classes: tuple[str, ...]
    logits: np.ndarray
    truth: np.ndarray
    extra: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    extra_names: tuple[str, ...] = ()
    window_index: np.ndarray | None = None
    domain: Sequence[str] | None = None
    computed: tuple[str, ...] = ()
    places: np.ndarray | None = None

    def __post_init__(self) -> None:
        count, total = len(self.recording_ids), int(np.sum(self.windows))
        wanted = {
            "windows": (np.shape(self.windows), (count,)),
            "groups": ((len(self.groups),), (count,)),
            "fold": (np.shape(self.fold), (count,)),
            "logits": (np.shape(self.logits), (len(self.backbones), total, len(self.classes))),
            "truth": (np.shape(self.truth), (total, len(self.classes))),
        }
        if self.extra_names:
            wanted["extra"] = (np.shape(self.extra), (total, len(self.extra_names)))
        if self.places is not None:
            wanted["places"] = (np.shape(self.places), (count, 2))
        for name, (found, needed) in wanted.items():
            if found != needed:
                message = f"stack table: {name} must have shape {needed}, got {found}"
                raise SchemaError(message, remedy="build the table from one snapshot or file")

    @property
    def n_windows(self) -> int:
        """Number of rows."""
        return int(self.truth.shape[0])

    @cached_property
    def recording(self) -> np.ndarray:
        """Position of each window's recording, `[window]`."""
        return np.asarray(np.repeat(np.arange(len(self.windows)), self.windows))

    @cached_property
    def index(self) -> np.ndarray:
        """Number of each window in its recording, `[window]`."""
        if self.window_index is not None:
            return self.window_index
        starts = np.cumsum(self.windows) - self.windows
        number = np.arange(self.n_windows) - np.repeat(starts, self.windows)
        return np.asarray(number, dtype=np.int32)

    @cached_property
    def window_fold(self) -> np.ndarray:
        """Fold of each window, `[window]`."""
        return np.asarray(np.take(self.fold, self.recording))

    @cached_property
    def soundscape(self) -> np.ndarray | None:
        """Whether each recording is soundscape-like, `[recording]`; None where nobody knows."""
        if self.domain is None:
            return None
        return np.array([domain != FOCAL for domain in self.domain], dtype=bool)

    @cached_property
    def judged(self) -> np.ndarray:
        """Rows that choices are made on, `[window]` of bool: those with a fold.

        Where some of them are of soundscapes, only these: they are what is to be predicted.
        """
        known = self.window_fold >= 0
        if self.soundscape is not None:
            like_test = known & self.soundscape[self.recording]
            if (self.truth[like_test] == PRESENT).any():
                return np.asarray(like_test)
        return np.asarray(known)

    @cached_property
    def segments(self) -> np.ndarray:
        """Rows at which contiguous stretches begin, and the total: `[segment + 1]`.

        A stretch ends with its recording, or where a window is missing.
        """
        fresh = np.ones(self.n_windows, dtype=bool)
        same = self.recording[1:] == self.recording[:-1]
        fresh[1:] = ~(same & (self.index[1:] == self.index[:-1] + 1))
        return np.append(np.flatnonzero(fresh), self.n_windows)

    def positives(self) -> np.ndarray:
        """Windows in which each class is present, `[class]`."""
        return np.asarray((self.truth == PRESENT).sum(axis=0))

    def taken(self, recordings: np.ndarray) -> StackTable:
        """The table of some recordings, by position, in ascending order."""
        kept = np.zeros(len(self.windows), dtype=bool)
        kept[recordings] = True
        rows = kept[self.recording]
        return replace(
            self,
            recording_ids=[
                name for name, keep in zip(self.recording_ids, kept, strict=True) if keep
            ],
            windows=np.asarray(self.windows)[kept],
            groups=[name for name, keep in zip(self.groups, kept, strict=True) if keep],
            fold=np.asarray(self.fold)[kept],
            logits=self.logits[:, rows],
            truth=self.truth[rows],
            extra=self.extra[rows] if self.extra_names else self.extra,
            window_index=self.index[rows],
            domain=None
            if self.domain is None
            else [name for name, keep in zip(self.domain, kept, strict=True) if keep],
            places=None if self.places is None else self.places[kept],
        )

    def with_truth(self, truth: np.ndarray) -> StackTable:
        """The same with other labels, int8 `[window, class]`."""
        return replace(self, truth=truth)

    def placed(self, fold: np.ndarray, groups: Sequence[str]) -> StackTable:
        """The same with other folds and groups, `[recording]` each."""
        return replace(self, fold=fold, groups=groups)

    def scored(self, logits: np.ndarray) -> StackTable:
        """The same with other scores, `[backbone, window, class]`."""
        return replace(self, logits=logits)
