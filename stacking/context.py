"""Temporal context: columns of a class from the windows around each window.

    >>> import numpy as np
    >>> logits = np.array([[1.0], [2.0], [4.0], [8.0]], dtype=np.float32)
    >>> context(logits, np.array([0, 3, 4]), "lag(1) local_max(1)").tolist()
    [[nan, 2.0], [1.0, 4.0], [2.0, 4.0], [nan, 8.0]]

Context is computed on contiguous stretches of windows and never reaches across a recording or
a missing window. It is made class by class when it is needed, and not stored: for a table of
many classes it would be many times the size of the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Self

import numpy as np

from birdstack.stacking import context_grammar as grammar
from birdstack.stacking.context_classes import (
    doubled_ranks,
    finite,
    window_probabilities,
)
from birdstack.stacking.context_grammar import DEFAULT_TERMS, Term, column_name, parse_terms
from birdstack.stacking.context_kernels import fill_run, runs_of
from birdstack.stacking.stack_table import StackTable
from birdstack.store.errors import UsageError

_TILE = 16
"""Classes that are read at once: those that share a line of the processor's cache."""
_STRIP = 1024
"""Rows that are read at once, so that such lines are still there for the next class."""


class ClassContext:
    """Context of the classes of one backbone, one class at a time.

    Everything that classes share is made once: what the edges do, and the terms that compare
    classes. Methods may be called from several threads at once.

    Args:
        logits: `[window, class]` of one backbone; NaN where not known, and an infinite logit
            counts as not known.
        segments: rows at which contiguous stretches begin, and the total, `[segment + 1]`, as
            `StackTable.segments`.
        terms: terms or their texts; see `context_grammar`.
        recordings: rows at which recordings begin, and the total, `[recording + 1]`; None
            where every stretch is a recording.
        soundscape: whether each window is of a soundscape-like recording, `[window]`. On other
            rows, and on all rows if None, terms that are `soundscape_only` are NaN.
        classes: the classes that will be asked for; all if None.

    Raises:
        UsageError: no such term, or shapes or bounds that do not fit.
    """

    def __init__(
        self,
        logits: np.ndarray,
        segments: np.ndarray,
        terms: str | Iterable[str | Term] = DEFAULT_TERMS,
        *,
        recordings: np.ndarray | None = None,
        soundscape: np.ndarray | None = None,
        classes: Sequence[int] | None = None,
    ) -> None:
        self.terms = parse_terms(terms)
        self.logits = _table(logits)
        self.classes = _classes(classes, self.logits.shape[1])
        bounds = _bounds(segments, len(self.logits), "segments")
        outer = bounds if recordings is None else _recordings(recordings, bounds)
        self._place = {class_index: place for place, class_index in enumerate(self.classes)}
        self._runs = runs_of(bounds, outer, self.terms)
        self._quiet = _quiet(soundscape, len(self.logits))
        self._by_window: dict[Term, np.ndarray] = {}
        if {grammar.WindowMax(), grammar.WindowSum()} & set(self.terms):
            largest, total = window_probabilities(self.logits)
            self._by_window = {grammar.WindowMax(): largest, grammar.WindowSum(): total}
        if grammar.Rank() in self.terms:
            self._ranks = doubled_ranks(self.logits, self.classes)
            self._all_ranked = bool(self._ranks.all())

    @classmethod
    def of(
        cls,
        table: StackTable,
        backbone: str,
        terms: str | Iterable[str | Term] = DEFAULT_TERMS,
        classes: Sequence[int] | None = None,
    ) -> Self:
        """Context of one backbone of a table.

        Raises:
            UsageError: as above; or the table has no such backbone.
        """
        if backbone not in table.backbones:
            message = f"context: there is no backbone {backbone!r} in the table"
            raise UsageError(message, remedy=f"name one of {', '.join(table.backbones)}")
        marks = table.soundscape
        return cls(
            table.logits[table.backbones.index(backbone)],
            table.segments,
            terms,
            recordings=np.append(0, np.cumsum(table.windows)),
            soundscape=None if marks is None else np.asarray(marks)[table.recording],
            classes=classes,
        )

    def column_names(self, source: str) -> tuple[str, ...]:
        """Names of the columns for a backbone of this name: `lag(1):lite0`, ..."""
        return tuple(column_name(term, source) for term in self.terms)

    def one(self, class_index: int, out: np.ndarray | None = None) -> np.ndarray:
        """Context of one class.

        Args:
            class_index: which class.
            out: float32 `[window, term]` to write into; quickest where its columns are
                contiguous.

        Returns:
            float32 `[window, term]`, its columns contiguous unless `out` is otherwise.

        Raises:
            UsageError: the class is none of those announced.
        """
        if class_index not in self._place:
            message = f"context: class {class_index} is none of the {len(self.classes)} prepared"
            raise UsageError(message, remedy="name it in classes, or name no classes")
        return self._fill(finite(self.logits[:, class_index]), class_index, out)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Context of each class in turn, `[window, term]` each, nothing kept."""
        for first in range(0, len(self.classes), _TILE):
            some = self.classes[first : first + _TILE]
            tile = np.empty((len(some), len(self.logits)), dtype=np.float32)
            for row in range(0, len(self.logits), _STRIP):
                rows = slice(row, row + _STRIP)
                tile[:, rows] = self.logits[rows, some].T
            for class_index, column in zip(some, finite(tile), strict=True):
                yield self._fill(column, class_index, None)

    def _fill(self, column: np.ndarray, class_index: int, out: np.ndarray | None) -> np.ndarray:
        shape = (len(column), len(self.terms))
        if out is None:
            out = np.empty(shape[::-1], dtype=np.float32).T
        elif out.shape != shape or out.dtype != np.float32:
            message = f"context: out is {out.dtype} {out.shape}, and must be float32 {shape}"
            raise UsageError(message, remedy="give a float32 array of that shape")
        for run in self._runs:
            rows = slice(run.first, run.last)
            quiet = None if self._quiet is None else self._quiet[rows]
            fill_run(run, column[rows], self.terms, out[rows], quiet)
        for index, term in enumerate(self.terms):
            if isinstance(term, grammar.Rank):
                self._fill_rank(class_index, out[:, index])
            elif term.across_classes:
                np.copyto(out[:, index], self._by_window[term])
        return out

    def _fill_rank(self, class_index: int, into: np.ndarray) -> None:
        doubled = self._ranks[self._place[class_index]]
        np.multiply(doubled, np.float32(0.5), out=into, casting="same_kind")
        if not self._all_ranked:
            into[doubled == 0] = np.nan


def context(
    logits: np.ndarray,
    segments: np.ndarray,
    terms: str | Iterable[str | Term] = DEFAULT_TERMS,
    *,
    class_index: int | None = None,
    recordings: np.ndarray | None = None,
    soundscape: np.ndarray | None = None,
) -> np.ndarray:
    """Context of one class; for several, `ClassContext` does the shared work once.

    Args:
        logits: `[window, class]`, or `[window]` where no term compares classes.
        segments: as for `ClassContext`, like `recordings` and `soundscape`.
        terms: terms or their texts.
        class_index: which class; may be left out where there is one.
        recordings: see above.
        soundscape: see above.

    Returns:
        float32 `[window, term]`.

    Raises:
        UsageError: as `ClassContext`; or a class must be named, or all classes are needed.
    """
    read = parse_terms(terms)
    values = np.asarray(logits)
    comparing = next((term for term in read if term.across_classes), None)
    if values.ndim == 1 and comparing is not None:
        message = f"context term '{comparing}' compares the classes of a window, and got one class"
        raise UsageError(message, remedy="give logits [window, class] and class_index")
    table = values[:, None] if values.ndim == 1 else values
    if class_index is None:
        if table.ndim == 2 and table.shape[1] != 1:  # noqa: PLR2004 - windows and classes
            message = f"context: one of {table.shape[1]} classes must be named"
            raise UsageError(message, remedy="give class_index, or use ClassContext")
        class_index = 0
    shared = ClassContext(
        table,
        segments,
        read,
        recordings=recordings,
        soundscape=soundscape,
        classes=[class_index],
    )
    return shared.one(class_index)


def _table(logits: np.ndarray) -> np.ndarray:
    table = np.asarray(logits)
    if table.ndim != 2 or not np.issubdtype(table.dtype, np.floating):  # noqa: PLR2004 - windows and classes
        message = f"context: logits are {table.dtype} {table.shape}, not floats [window, class]"
        raise UsageError(message, remedy="give one float for each window and class")
    return table


def _classes(classes: Sequence[int] | None, count: int) -> list[int]:
    if classes is None:
        return list(range(count))
    wrong = [number for number in classes if not 0 <= number < count]
    if wrong:
        message = f"context: class {wrong[0]} of {count} classes"
        raise UsageError(message, remedy=f"give classes from 0 to {count - 1}")
    return [int(number) for number in classes]


def _bounds(rows: np.ndarray, total: int, name: str) -> np.ndarray:
    """Bounds of stretches or recordings, checked."""
    bounds = np.asarray(rows)
    fits = (
        bounds.ndim == 1
        and np.issubdtype(bounds.dtype, np.integer)
        and len(bounds) > 0
        and bounds[0] == 0
        and bounds[-1] == total
        and bool((np.diff(bounds) > 0).all())
    )
    if not fits:
        message = f"context: {name} must rise from 0 to {total}, the number of windows"
        raise UsageError(message, remedy="give the row of each beginning, and the total")
    return bounds.astype(np.int64)


def _recordings(rows: np.ndarray, segments: np.ndarray) -> np.ndarray:
    bounds = _bounds(rows, int(segments[-1]), "recordings")
    inside = np.setdiff1d(bounds, segments)
    if len(inside):
        message = f"context: a stretch reaches across the recording that begins at row {inside[0]}"
        raise UsageError(message, remedy="end a stretch where its recording ends")
    return bounds


def _quiet(soundscape: np.ndarray | None, total: int) -> np.ndarray | None:
    """0 on soundscape-like rows, NaN on others; None where there is no such row."""
    if soundscape is None:
        return None
    marks = np.asarray(soundscape)
    if marks.shape != (total,):
        message = f"context: soundscape is {marks.shape}, and must be ({total},), one for a window"
        raise UsageError(message, remedy="repeat each recording's mark for its windows")
    marked = marks.astype(bool)
    return np.where(marked, np.float32(0), np.float32(np.nan)) if marked.any() else None
