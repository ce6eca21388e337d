"""The loops of temporal context, as numpy operations over runs of whole recordings.

Nothing here looks at one window at a time, or at one stretch: neighbours are the same column,
shifted, and what must not be seen beyond an edge is taken out by a vector that was made once
for all classes. Adding NaN where a neighbour lies beyond the edge makes a lag; weights that are
zero there, and scaled to sum to one, make a mean. Runs are short enough that a column, its
neighbours and these vectors stay in the processor's cache while all terms are computed, so
that a class costs little more than writing its output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from birdstack.stacking import context_grammar as grammar
from birdstack.stacking.context_grammar import Term

RUN_ROWS = 8192
"""Rows of a run: whole recordings, up to about so many rows."""
_SAFE = 80.0  # exp of so much, and sums of it, are ordinary float32 numbers
_NAN = np.float32(np.nan)


@dataclass(frozen=True)
class Run:
    """Some whole recordings, and what their edges do to each term; the same for all classes.

    Attributes:
        first: row at which it begins.
        last: row after its end.
        beyond: offset -> float32 `[row]`: NaN where that neighbour lies beyond the stretch,
            else 0.
        shares: weights -> float32 `[offset, row]`: the weight of each neighbour, 0 beyond the
            stretch, scaled to sum to 1.
        met: radius -> float32 `[row]`: windows of the stretch within the radius.
        starts: rows of the run at which its recordings begin.
        lengths: windows of each of them.
    """

    first: int
    last: int
    beyond: Mapping[int, np.ndarray]
    shares: Mapping[tuple[float, ...], np.ndarray]
    met: Mapping[int, np.ndarray]
    starts: np.ndarray
    lengths: np.ndarray

    @cached_property
    def position(self) -> np.ndarray:
        """Middle of each window as a share of its recording, `[row]`."""
        number = np.arange(self.last - self.first) - np.repeat(self.starts, self.lengths)
        position: np.ndarray = (number + 0.5) / np.repeat(self.lengths, self.lengths)
        return position.astype(np.float32)


def equal_weights(radius: int) -> tuple[float, ...]:
    """The weights of a plain mean."""
    return (1.0,) * (2 * radius + 1)


def runs_of(segments: np.ndarray, recordings: np.ndarray, terms: Sequence[Term]) -> list[Run]:
    """Cut a table into runs and note what the terms need to know of their edges.

    Args:
        segments: rows at which stretches begin, and the total.
        recordings: rows at which recordings begin, and the total; all of them in `segments`.
        terms: the terms to be computed.
    """
    lengths = np.diff(segments)
    before = np.arange(segments[-1]) - np.repeat(segments[:-1], lengths)
    after = np.repeat(lengths, lengths) - 1 - before
    runs, begin = [], 0
    while begin < len(recordings) - 1:
        room = np.searchsorted(recordings, recordings[begin] + RUN_ROWS, "right") - 1
        end = max(begin + 1, int(room))
        first, last = int(recordings[begin]), int(recordings[end])
        bounds = recordings[begin : end + 1]
        runs.append(_run(before[first:last], after[first:last], first, bounds, terms))
        begin = end
    return runs


def _run(
    before: np.ndarray, after: np.ndarray, first: int, bounds: np.ndarray, terms: Sequence[Term]
) -> Run:
    """One run; `before` and `after` are the windows on either side within the stretch."""

    def is_met(offset: int) -> np.ndarray:
        return before >= -offset if offset < 0 else after >= offset

    beyond: dict[int, np.ndarray] = {}
    shares: dict[tuple[float, ...], np.ndarray] = {}
    met: dict[int, np.ndarray] = {}
    for term in terms:
        for offset in _offsets(term):
            beyond[offset] = np.where(is_met(offset), np.float32(0), _NAN)
        if isinstance(term, grammar.Smooth):
            weights = term.weights
        elif isinstance(term, grammar.MinusLocalMean | grammar.LogSumExp):
            weights = equal_weights(term.radius)
        else:
            continue
        half = len(weights) // 2
        weighted = np.stack([is_met(step - half) * w for step, w in enumerate(weights)])
        shares[weights] = (weighted / weighted.sum(axis=0)).astype(np.float32)
        met[half] = sum(is_met(offset) for offset in range(-half, half + 1)).astype(np.float32)
    return Run(
        first, first + len(before), beyond, shares, met, bounds[:-1] - first, np.diff(bounds)
    )


def _offsets(term: Term) -> list[int]:
    """Neighbours that a term must see with NaN beyond the edges."""
    if isinstance(term, grammar.Lag):
        return [-term.windows]
    if isinstance(term, grammar.Lead):
        return [term.windows]
    if isinstance(term, grammar.LocalMax):
        return [offset for offset in range(-term.radius, term.radius + 1) if offset]
    return []


def fill_run(
    run: Run,
    column: np.ndarray,
    terms: Sequence[Term],
    out: np.ndarray,
    *,
    soundscape: np.ndarray | None,
) -> None:
    """Write the context of one class within one run.

    Args:
        run: where.
        column: the class's logits of the run, contiguous float32 `[row]`, finite or NaN.
        terms: what; terms across classes are passed over.
        out: `[row, term]`, written.
        soundscape: 0 where the row is soundscape-like, else NaN, `[row]`; None: it never is.
    """
    missing = np.isnan(column)
    known = None if not missing.any() else (~missing).astype(np.float32)
    filled = column if known is None else np.where(missing, np.float32(0), column)
    near: dict[int, np.ndarray] = {}
    for index, term in enumerate(terms):
        if isinstance(term, grammar.Lag | grammar.Lead):
            (offset,) = _offsets(term)
            near[offset] = _shifted(column, offset, run.beyond[offset], out[:, index])
    for index, term in enumerate(terms):
        into = out[:, index]
        if isinstance(term, grammar.LocalMax):
            _local_max(run, column, term.radius, near, into)
        elif isinstance(term, grammar.Smooth):
            _mean(run.shares[term.weights], filled, known, into)
        elif isinstance(term, grammar.MinusLocalMean):
            _mean(run.shares[equal_weights(term.radius)], filled, known, into)
            np.subtract(column, into, out=into)
        elif isinstance(term, grammar.LogSumExp):
            _logsumexp(run, column, known, term.radius, into)
        elif isinstance(term, grammar.Position):
            np.copyto(into, run.position)
        elif term.soundscape_only:
            if soundscape is None:
                into.fill(_NAN)
            else:
                _others(run, column, known, isinstance(term, grammar.OthersMax), into)
                into += soundscape


def _shifted(column: np.ndarray, offset: int, beyond: np.ndarray, into: np.ndarray) -> np.ndarray:
    """Each row's neighbour at an offset, NaN beyond its stretch."""
    away = min(abs(offset), len(column))
    if offset < 0:
        np.add(column[: len(column) - away], beyond[away:], out=into[away:])
        into[:away] = _NAN
    else:
        np.add(column[away:], beyond[: len(column) - away], out=into[: len(column) - away])
        into[len(column) - away :] = _NAN
    return into


def _weighted(shares: np.ndarray, column: np.ndarray, into: np.ndarray) -> None:
    """Sum of the neighbours, each times its weight for the row."""
    half, rows = len(shares) // 2, len(column)
    np.multiply(column, shares[half], out=into)
    scratch = np.empty_like(column)
    for away in range(1, min(half, rows - 1) + 1):
        rest = rows - away
        into[away:] += np.multiply(column[:rest], shares[half - away, away:], out=scratch[:rest])
        into[:rest] += np.multiply(column[away:], shares[half + away, :rest], out=scratch[:rest])


def _mean(
    shares: np.ndarray, filled: np.ndarray, known: np.ndarray | None, into: np.ndarray
) -> None:
    """Weighted mean of the known neighbours; NaN where there is none."""
    _weighted(shares, filled, into)
    if known is not None:
        weight = np.empty_like(filled)
        _weighted(shares, known, weight)
        with np.errstate(invalid="ignore", divide="ignore"):
            np.divide(into, weight, out=into)


def _local_max(
    run: Run, column: np.ndarray, radius: int, near: dict[int, np.ndarray], into: np.ndarray
) -> None:
    """Largest known neighbour; neighbours that are columns already are not made again."""
    np.copyto(into, column)
    for offset in (step for away in range(1, radius + 1) for step in (-away, away)):
        if offset not in near:
            near[offset] = _shifted(column, offset, run.beyond[offset], np.empty_like(column))
        np.fmax(into, near[offset], out=into)


def _logsumexp(
    run: Run, column: np.ndarray, known: np.ndarray | None, radius: int, into: np.ndarray
) -> None:
    """Soft maximum of the known neighbours; NaN where there is none."""
    shares = run.shares[equal_weights(radius)]
    largest = np.fmax.reduce(np.abs(column))
    if largest > _SAFE:
        _steep_logsumexp(shares, column, into)
        return
    powers = np.exp(column)
    if known is not None:
        powers[known == 0] = 0
    _weighted(shares, powers, into)
    into *= run.met[radius]
    with np.errstate(divide="ignore"):
        np.log(into, out=into)
    if known is not None:
        into[np.isneginf(into)] = _NAN


def _steep_logsumexp(shares: np.ndarray, column: np.ndarray, into: np.ndarray) -> None:
    """The same for values whose exp is no float32 number: relative to the local maximum."""
    half, rows = len(shares) // 2, len(column)
    values = np.full((len(shares), rows), -np.inf)
    for step in range(-min(half, rows - 1), min(half, rows - 1) + 1):
        there = slice(max(0, step), rows + min(0, step))
        here = slice(max(0, -step), rows + min(0, -step))
        values[half + step, here] = column[there]
    values[np.isnan(values) | (shares == 0)] = -np.inf
    top = values.max(axis=0)
    with np.errstate(invalid="ignore"):
        into[:] = top + np.log(np.exp(values - top).sum(axis=0))


def _others(
    run: Run, column: np.ndarray, known: np.ndarray | None, largest: bool, into: np.ndarray
) -> None:
    """Mean, or maximum, of the known values of the recording's other windows."""

    def spread(per_recording: np.ndarray) -> np.ndarray:
        return np.repeat(per_recording, run.lengths)

    present = np.ones(len(column)) if known is None else known.astype(np.float64)
    if not largest:
        values = np.where(present > 0, column, 0).astype(np.float64)
        total = spread(np.add.reduceat(values, run.starts)) - values
        count = spread(np.add.reduceat(present, run.starts)) - present
        with np.errstate(invalid="ignore", divide="ignore"):
            into[:] = total / count
        return
    values = np.where(present > 0, column, np.float32(-np.inf))
    first = spread(np.maximum.reduceat(values, run.starts))
    is_first = (values == first) & (present > 0)
    alone = spread(np.add.reduceat(is_first.astype(np.int64), run.starts)) == 1
    rest = np.where(is_first, np.float32(-np.inf), values)
    second = spread(np.maximum.reduceat(rest, run.starts))
    into[:] = np.where(is_first & alone, second, first)
    into[np.isneginf(into)] = _NAN
