"""The variance of a macro AUC that resampling cannot show, lent by classes that can.

A bootstrap of n things shows (n - 1) / n of the variance of their mean (Efron & Tibshirani
1993, section 5.3). Nobody minds at n = 100; but a class with positives in one recording shows
nothing at all of how far another recording might have ranked, and one with two shows half. In a
long tail most classes are of that kind, and intervals of the macro AUC come out far too narrow.

How far recordings of one class lie apart is therefore learnt from all classes with two or more:
let a[g] be the AUC of the positives of recording g against all negatives of the class, and A that
of the class. Squared deviations (a[g] - A)^2 are pooled in units of the class's A (1 - A), with
n - 1 degrees of freedom each, as variances of few observations are pooled elsewhere (the
generalised variance function of survey sampling: Wolter 2007, chapter 7). What a class lacks is
the pooled variance over its effective number of recordings, over n. docs/decisions/0011 has the
coverage that follows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

_LEAST_SHOWN = 0.2  # of A (1 - A) by few recordings: a bound on what is made up for


@dataclass(frozen=True, eq=False)
class Singers:
    """AUC of single recordings, or differences of it.

    Attributes:
        of: class of each entry, ascending, `[entry]`.
        positives: of the entry's recording in that class, `[entry]`.
        auc: of these positives against all negatives of the class, `[entry]`.
        spread: unit in which a class's recordings lie apart, `[class]`.
    """

    of: np.ndarray
    positives: np.ndarray
    auc: np.ndarray
    spread: np.ndarray

    @classmethod
    def measured(
        cls, of: np.ndarray, positives: np.ndarray, auc: np.ndarray, value: np.ndarray
    ) -> Singers:
        """With A (1 - A) as spread, freed from the bias of few recordings.

        Args:
            of: class of each entry.
            positives: of the entry's recording.
            auc: of the entry.
            value: A of each class, NaN where there is none.
        """
        raw = np.nan_to_num(value * (1 - value))
        bare = cls(of, positives, auc, raw)
        _, share = bare.counts()
        shown = np.maximum(1 - bare.lent(value) * share, _LEAST_SHOWN)
        return cls(of, positives, auc, raw / shown)

    def __sub__(self, other: Singers) -> Singers:
        """Of differences, entry by entry."""
        return replace(self, auc=self.auc - other.auc, spread=self.spread + other.spread)

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Recordings, and one over their effective number, of each class; 0 without any."""
        classes = len(self.spread)
        total = np.bincount(self.of, self.positives, classes)
        squares = np.bincount(self.of, self.positives.astype(np.float64) ** 2, classes)
        return np.bincount(self.of, minlength=classes), squares / np.maximum(total, 1) ** 2

    def lent(self, value: np.ndarray) -> float:
        """Pooled variance between recordings, in units of spread; 0 where nothing shows any."""
        number, _ = self.counts()
        several = (number > 1) & np.isfinite(value)
        freedom = float(np.sum(((number - 1) * self.spread)[several]))
        apart = (self.auc - value[self.of])[several[self.of]]
        return float(np.sum(apart**2)) / freedom if freedom > 0 else 0.0

    def unseen(self, value: np.ndarray) -> float:
        """Variance of the macro figure that resamples of recordings do not show.

        Args:
            value: figure of each class, NaN for those that do not count.
        """
        number, share = self.counts()
        counted = np.isfinite(value) & (number > 0)
        if not counted.any():
            return 0.0
        lacking = (self.spread * share)[counted] / number[counted]
        return self.lent(value) * float(np.sum(lacking)) / int(counted.sum()) ** 2
