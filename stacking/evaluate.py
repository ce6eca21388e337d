"""The figures of `birdstack evaluate`: macro ROC-AUC as BirdCLEF counts it, with intervals.

A class counts if it has positives; one whose known labels are all positive has no AUC and is
skipped too, where the competition would end with an error. Macro average precision is the mean
over the same classes, of what scikit-learn calls `average_precision_score` (no interpolation;
Manning, Raghavan & Schuetze 2008, section 8.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from birdstack.embeddings.auc import class_columns, macro_auc
from birdstack.stacking.bootstrap import Interval, RecordingBootstrap
from birdstack.store.labels import ABSENT, PRESENT

NO_POSITIVES, NO_NEGATIVES = "no positives", "no negatives"


@dataclass(frozen=True)
class ClassFigures:
    """Of one class.

    Attributes:
        name: of the class.
        positives: rows in which it is present.
        negatives: rows in which it is absent.
        recordings: recordings with positives.
        auc: ROC-AUC; NaN if the class is skipped.
        average_precision: NaN if the class is skipped.
        skipped: why, or nothing.
        difference: AUC minus that of the other predictions, if there are any.
    """

    name: str
    positives: int
    negatives: int
    recordings: int
    auc: Interval
    average_precision: float
    skipped: str = ""
    difference: Interval | None = None


@dataclass(frozen=True)
class Evaluation:
    """Predictions against truth.

    Attributes:
        rows: scored.
        recordings: they are of.
        macro_auc: mean over the classes that count.
        macro_average_precision: mean over the same.
        by_class: in the order of the truth.
        other: macro AUC of the other predictions, if there are any.
        difference: macro AUC minus theirs, in the same resamples.
    """

    rows: int
    recordings: int
    macro_auc: Interval
    macro_average_precision: float
    by_class: tuple[ClassFigures, ...]
    other: Interval | None = None
    difference: Interval | None = None

    @property
    def counted(self) -> list[ClassFigures]:
        """Classes that count, worst first."""
        return sorted(
            (each for each in self.by_class if not each.skipped), key=lambda each: each.auc.value
        )

    @property
    def skipped(self) -> dict[str, list[str]]:
        """Classes that do not, by reason."""
        found: dict[str, list[str]] = {}
        for each in self.by_class:
            if each.skipped:
                found.setdefault(each.skipped, []).append(each.name)
        return found

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, but for NaN."""
        counted = len(self.counted)
        return {**asdict(self), "classes_counted": counted, "classes_skipped": self.skipped}


def evaluate(
    scores: np.ndarray,
    labels: np.ndarray,
    recording: np.ndarray,
    classes: Sequence[str],
    *,
    other: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Score predictions.

    Args:
        scores: `[row, class]`, higher is more likely; only their order within a class counts.
        labels: `[row, class]`: 1 present, 0 absent, anything else not known (left out).
        recording: `[row]`, what is drawn as a whole for intervals.
        classes: names of the columns.
        other: scores to compare with, `[row, class]`.
        resamples: for intervals; none are made of fewer than 2, or of fewer than 2 recordings.
        seed: of the draw.

    Raises:
        UsageError: shapes differ, or a score that counts is NaN.
    """
    recordings = len(np.unique(recording))
    if resamples >= 2 and recordings >= 2:  # noqa: PLR2004 - a spread needs two
        book = RecordingBootstrap(recording, labels, resamples=resamples, seed=seed)
        draws = book.draws(scores)
        macro, by_class = draws.interval(), draws.per_class()
    else:
        book, draws = None, None
        macro, by_class = _bare(macro_auc(scores, labels).per_class)
    second, lead = None, None
    lead_by_class: Sequence[Interval | None] = [None] * len(classes)
    if other is not None and book is not None and draws is not None:
        others = book.draws(other)
        leads = draws - others
        second, lead, lead_by_class = others.interval(), leads.interval(), leads.per_class()
    elif other is not None:
        found = macro_auc(other, labels).per_class
        second = _bare(found)[0]
        lead, lead_by_class = _bare(macro_auc(scores, labels).per_class - found)
    precision = average_precision(scores, labels)
    figures = []
    for number, name in enumerate(classes):
        present = labels[:, number] == PRESENT
        positives = int(np.count_nonzero(present))
        negatives = int(np.count_nonzero(labels[:, number] == ABSENT))
        why = "" if positives and negatives else NO_NEGATIVES if positives else NO_POSITIVES
        figures.append(
            ClassFigures(
                name,
                positives,
                negatives,
                len(np.unique(recording[present])),
                by_class[number],
                float("nan") if why else float(precision[number]),
                why,
                lead_by_class[number],
            )
        )
    kept = [each.average_precision for each in figures if not each.skipped]
    mean = float(np.mean(kept)) if kept else float("nan")
    return Evaluation(len(labels), recordings, macro, mean, tuple(figures), second, lead)


def average_precision(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average precision of each class, `[class]`; NaN without positives.

    The mean over positives of the precision among all rows that score as high, ties together:
    what `sklearn.metrics.average_precision_score` gives.

    Args:
        scores: `[row, class]`.
        labels: `[row, class]`: 1 present, 0 absent, anything else not known (left out).

    Raises:
        UsageError: shapes differ.
    """
    found = np.full(labels.shape[1], np.nan)
    for number, column, truth in class_columns(scores, labels):
        known = (truth == PRESENT) | (truth == ABSENT)
        every, positives = np.sort(column[known]), np.sort(column[truth == PRESENT])
        if len(positives):
            as_high = len(every) - np.searchsorted(every, positives, "left")
            hits = len(positives) - np.searchsorted(positives, positives, "left")
            found[number] = np.mean(hits / as_high)
    return found


def _bare(values: np.ndarray) -> tuple[Interval, list[Interval]]:
    """Macro and class figures without intervals."""
    nothing = np.empty(0)
    known = values[np.isfinite(values)]
    macro = float(known.mean()) if len(known) else float("nan")
    return Interval.of(macro, nothing), [Interval.of(value, nothing) for value in values]
