"""How sure a macro AUC is: the exact bootstrap over recordings, and paired differences.

Windows of a recording resemble each other, so a resample draws whole recordings (or groups of
them) with replacement; intervals that draw windows come out far too narrow. Nothing is
concatenated or ranked again: let K[g, h] be twice the pairs that a positive of recording g wins
against a negative of recording h, ties counting one. A resample in which recording g stands
m[g] times has, for a class,

    AUC = m' K m / (2 (m' p) (m' q)),    p, q: positives and negatives of each recording,

which is what ranking the resample would give. All resamples of a class are one matrix product,
in whole numbers that their floating-point type keeps exactly. Only recordings with positives
are rows of K, and these come in blocks, so memory is bounded.

The interval of a class is the percentile one (Efron & Tibshirani 1993, chapter 13). That of
the macro figure cannot be: a rare class is missing from a third of the resamples, so their macro
AUC is one of other classes, and a class heard in one recording shows no variance. It is made of
the mean deviation of the classes that a resample has, widened by the variance that `Singers`
finds unseen. docs/decisions/0011 compares ways to make it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from birdstack.embeddings.auc import class_columns, refuse_nan
from birdstack.stacking.pair_table import pair_table
from birdstack.stacking.unseen_variance import Singers
from birdstack.store.errors import UsageError
from birdstack.store.labels import ABSENT, PRESENT

PERCENTILES = (2.5, 97.5)
_NORMAL = 1.959964
_TABLE = 1 << 22  # cells of K that are held at once
_EXACT_SINGLE = 1 << 24  # float32 keeps whole numbers below exactly


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval.

    Attributes:
        value: on all recordings as they are.
        low: lower end.
        high: upper end.
        standard_error: standard deviation of the figure.
        resamples: how many resamples had the figure at all; the others are left out.
    """

    value: float
    low: float
    high: float
    standard_error: float
    resamples: int

    @classmethod
    def of(cls, value: float, drawn: np.ndarray) -> Interval:
        """Percentiles of the values in resamples, `[resample]`, NaN where there is none."""
        drawn = drawn[np.isfinite(drawn)]
        low, high = np.percentile(drawn, PERCENTILES) if len(drawn) else (np.nan, np.nan)
        spread = np.std(drawn, ddof=1) if len(drawn) > 1 else np.nan
        return cls(float(value), float(low), float(high), float(spread), len(drawn))

    @classmethod
    def around(cls, value: float, apart: np.ndarray, unseen: float, lowest: float) -> Interval:
        """Of deviations in resamples, widened.

        Args:
            value: the figure; it lies within, whatever the resamples say.
            apart: deviations from it, `[resample]`, NaN where there is none.
            unseen: variance that they do not show.
            lowest: the figure's least possible value; the greatest is 1.
        """
        apart = apart[np.isfinite(apart)]
        if len(apart) < 2:  # noqa: PLR2004 - a spread needs two
            return cls.of(value, value + apart)
        seen = float(np.var(apart, ddof=1))
        error = float(np.sqrt(seen + unseen))
        if seen > 0:
            low, high = np.percentile(apart, PERCENTILES) * (error / np.sqrt(seen))
        else:
            low, high = -_NORMAL * error, _NORMAL * error
        low, high = np.clip((value + min(low, 0), value + max(high, 0)), lowest, 1)
        return cls(float(value), float(low), float(high), error, len(apart))


@dataclass(frozen=True, eq=False)
class AucDraws:
    """AUC, or differences of it, on all recordings and in every resample.

    Attributes:
        value: `[class]` on all recordings; NaN for a class without positives or negatives.
        drawn: `[class, resample]`; NaN where the resample has no positives or negatives.
        singers: of single recordings.
        lowest: least possible value: 0, or -1 for differences.
    """

    value: np.ndarray
    drawn: np.ndarray
    singers: Singers
    lowest: float = 0.0

    def __sub__(self, other: AucDraws) -> AucDraws:
        """Differences, resample by resample; both must come from one bootstrap."""
        return AucDraws(
            self.value - other.value, self.drawn - other.drawn, self.singers - other.singers, -1.0
        )

    @property
    def macro(self) -> np.ndarray:
        """Mean over the classes that count in each resample, `[resample]`."""
        return _means(self.drawn)

    def interval(self) -> Interval:
        """Of the macro figure: the mean over the classes that count on all recordings."""
        apart = _means(self.drawn - self.value[:, None])
        unseen = self.singers.unseen(self.value)
        return Interval.around(_means(self.value[:, None])[0], apart, unseen, self.lowest)

    def per_class(self) -> list[Interval]:
        """Of each class; one heard in a single recording cannot show how sure it is."""
        return [Interval.of(*of) for of in zip(self.value, self.drawn, strict=True)]


class RecordingBootstrap:
    """Resamples of recordings, the same for all scores that are asked about.

    It holds four bytes for each recording and resample; twelve, where counts grow too large
    for float32.

    Args:
        recording: `[window]`, recording of each window, by name or number.
        truth: `[window, class]`: 1 present, 0 absent, anything else not known (left out).
        groups: `[window]`, group of each window's recording; then whole groups are drawn.
        resamples: how many.
        seed: of the draw: with the same number of recordings (or groups) it gives the same one.

    Raises:
        UsageError: shapes do not fit, fewer than two recordings (or groups), fewer than two
            resamples, or a recording that lies in two groups.
    """

    def __init__(
        self,
        recording: np.ndarray,
        truth: np.ndarray,
        *,
        groups: np.ndarray | None = None,
        resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        if resamples < 2:  # noqa: PLR2004 - a spread needs two
            message = f"bootstrap: resamples must be at least 2, got {resamples}"
            raise UsageError(message, remedy="ask for 1000")
        if truth.ndim != 2:  # noqa: PLR2004 - windows and classes
            message = f"bootstrap: truth must be [window, class], got {truth.shape}"
            raise UsageError(message, remedy="give one column for each class")
        self._truth = truth
        self._unit, units = _units(np.asarray(recording), groups, len(truth))
        self._weights = _drawn(units, resamples, seed)
        positives, negatives = np.zeros((2, truth.shape[1], units), np.int64)
        for index, _, labels in class_columns(truth, truth):
            positives[index] = np.bincount(self._unit[labels == PRESENT], minlength=units)
            negatives[index] = np.bincount(self._unit[labels == ABSENT], minlength=units)
        # Units with positives, class by class: those of which AUCs are of their own.
        self._of, singing = np.nonzero(positives)
        self._positives = positives[self._of, singing]
        won_over = self._sums(negatives)
        self._pairs = self._sums(positives) * won_over
        self._most_wins = 2 * positives.max(axis=1, initial=0) * won_over.max(axis=1)

    @property
    def multiplicities(self) -> np.ndarray:
        """How often each recording (or group), by its sorted name, is drawn: `[unit, resample]`."""
        return self._weights[:, 1:].astype(np.int64)

    def interval(self, scores: np.ndarray) -> Interval:
        """Macro AUC of scores `[window, class]` with its interval.

        Raises:
            UsageError: as `draws`.
        """
        return self.draws(scores).interval()

    def per_class(self, scores: np.ndarray) -> list[Interval]:
        """AUC of each class with its interval, over the resamples in which it has one.

        Raises:
            UsageError: as `draws`.
        """
        return self.draws(scores).per_class()

    def paired(self, scores: np.ndarray, control: np.ndarray) -> Interval:
        """Macro AUC of scores minus that of a control, in the same resamples.

        Raises:
            UsageError: as `draws`.
        """
        return (self.draws(scores) - self.draws(control)).interval()

    def against(
        self, control: np.ndarray, contenders: Mapping[str, np.ndarray]
    ) -> dict[str, Interval]:
        """As `paired`, for several contenders by name; the control is ranked once.

        Raises:
            UsageError: as `draws`.
        """
        base = self.draws(control)
        return {name: (self.draws(scores) - base).interval() for name, scores in contenders.items()}

    def draws(self, scores: np.ndarray) -> AucDraws:
        """AUC by class and resample, to be subtracted from one another.

        Args:
            scores: `[window, class]`, higher is more likely; only their order counts.

        Raises:
            UsageError: the shape is not that of the truth, or a score that counts is NaN.
        """
        found = np.full(self._pairs.shape, np.nan)
        alone = np.zeros(len(self._positives))
        for index, column, labels in class_columns(scores, self._truth):
            present, absent = labels == PRESENT, labels == ABSENT
            refuse_nan(index, column[present | absent], len(column))
            if present.any() and absent.any():
                wins, each = self._twice_wins(index, column, present, absent)
                pairs, mine = self._pairs[index], self._of == index
                np.divide(wins, 2.0 * pairs, out=found[index], where=pairs > 0)
                alone[mine] = each / (2.0 * self._positives[mine] * np.count_nonzero(absent))
        value = found[:, 0]
        singers = Singers.measured(self._of, self._positives, alone, value)
        return AucDraws(value, found[:, 1:], singers)

    def _twice_wins(
        self, index: int, scores: np.ndarray, present: np.ndarray, absent: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """`m' K m` of one class, `[1 + resample]`, and `K 1` of units with positives."""
        order = np.argsort(scores[absent])
        negatives, holders = scores[absent][order], self._unit[absent][order]
        order = np.argsort(scores[present])
        positives, owners = scores[present][order], self._unit[present][order]
        weights = self._exact(self._most_wins[index])
        singers, row = np.unique(owners, return_inverse=True)
        height = max(1, _TABLE // len(weights))
        total, alone = np.zeros(weights.shape[1]), np.empty(len(singers))
        for first in range(0, len(singers), height):
            mine = (row >= first) & (row < first + height)
            table = pair_table(
                positives[mine],
                row[mine] - first,
                negatives,
                holders,
                units=len(weights),
                dtype=weights.dtype,
            )
            won = (table @ weights).astype(np.float64)
            total += np.einsum("gb,gb->b", won, weights[singers[first : first + height]])
            alone[first : first + height] = won[:, 0]
        return total, alone

    def _sums(self, counts: np.ndarray) -> np.ndarray:
        """Windows counted in every resample, `[class, 1 + resample]`, of `[class, unit]`."""
        weights = self._exact(counts.max(initial=0) * len(self._weights))
        return np.asarray(counts.astype(weights.dtype) @ weights, np.float64)

    def _exact(self, most: float) -> np.ndarray:
        """The weights in a type whose products are exact as long as no sum exceeds `most`."""
        return self._weights if most < _EXACT_SINGLE else self._double

    @cached_property
    def _double(self) -> np.ndarray:
        return self._weights.astype(np.float64)


def _units(
    recording: np.ndarray, groups: np.ndarray | None, windows: int
) -> tuple[np.ndarray, int]:
    """Number of what each window is drawn with, `[window]`, and how many there are."""
    for what, given in (("recording", recording), ("groups", groups)):
        if given is not None and np.shape(given) != (windows,):
            message = f"bootstrap: {what} has shape {np.shape(given)}, truth has {windows} windows"
            raise UsageError(message, remedy="give one entry for each window")
    names, unit = np.unique(recording, return_inverse=True)
    what, count = "recordings", len(names)
    if groups is not None:
        kinds, group = np.unique(groups, return_inverse=True)
        met = np.unique(np.stack([unit, group]), axis=1)
        parted = np.bincount(met[0]) > 1
        if parted.any():
            message = f"bootstrap: recording {names[np.argmax(parted)]} lies in two groups"
            raise UsageError(message, remedy="give all windows of a recording one group")
        what, count, unit = "groups", len(kinds), group
    if count < 2:  # noqa: PLR2004 - a spread needs two
        message = f"bootstrap: an interval needs at least 2 {what} to draw from, got {count}"
        raise UsageError(message, remedy="score more recordings, or do without an interval")
    return unit, count


def _drawn(units: int, resamples: int, seed: int) -> np.ndarray:
    """How often each unit is drawn, float32 `[unit, 1 + resample]`; first, all of them once."""
    rng = np.random.default_rng(seed)
    weights = np.ones((units, 1 + resamples), np.float32)
    for resample in range(1, 1 + resamples):
        weights[:, resample] = np.bincount(rng.integers(0, units, units), minlength=units)
    return weights


def _means(values: np.ndarray) -> np.ndarray:
    """Mean over the finite values of each column of `[class, column]`; NaN without any."""
    finite = np.isfinite(values)
    counted = finite.sum(axis=0)
    sums = np.where(finite, values, 0.0).sum(axis=0)
    means = np.full(len(counted), np.nan)
    np.divide(sums, counted, out=means, where=counted > 0)
    return means
