"""The loops of temporal context, as numpy operations over runs of whole recordings.

Nothing here looks at one window at a time, or at one stretch: neighbours are the same column,
shifted, and what must not be seen beyond an edge is taken out by a vector that was made once
for all classes. Adding NaN where a neighbour lies beyond the edge makes a lag; weights that are
zero there, and scaled to sum to one, make a mean. A run is short enough that a column and its
neighbours stay in the processor's cache from term to term, and long enough that calling numpy
costs nothing beside its work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from birdstack.stacking import context_grammar as grammar
from birdstack.stacking.context_grammar import Term

RUN_ROWS = 65_536
"""Rows of a run: whole recordings, up to about so many rows."""
_SAFE = 80.0  # exp of so much, and sums of it, are ordinary float32 numbers
_NAN = np.float32(np.nan)
_FEW = 16  # writing to one row in so many costs less than adding to all


@dataclass(frozen=True)
class Run:
    """Some whole recordings, and what their edges do to each term; the same for all classes.

    Attributes:
        first: row at which it begins.
        last: row after its end.
        beyond: offset -> what to do about neighbours beyond the stretch: the rows that have
            such a one, if they are few; else float32 `[row]`, NaN there and 0 elsewhere.
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
            lost = np.flatnonzero(~is_met(offset))
            few = len(lost) * _FEW < len(before)
            beyond[offset] = lost if few else np.where(is_met(offset), np.float32(0), _NAN)
        if isinstance(term, grammar.Smooth):
            weights = term.weights
        elif isinstance(term, grammar.MinusLocalMean | grammar.LogSumExp):
            weights = equal_weights(term.radius)
        else:
            continue
        half = len(weights) // 2
        weighted = np.stack([is_met(step - half) * w for step, w in enumerate(weights)])
        shares[weights] = (weighted / weighted.sum(axis=0)).astype(np.float32)
        met[half] = np.count_nonzero(weighted, axis=0).astype(np.float32)
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


@dataclass(frozen=True)
class _Sight:
    """What the terms of one class look at within one run.

    Attributes:
        run: where.
        column: logits, float32 `[row]`, finite or NaN.
        known: 1 where there is a logit, else 0, float32 `[row]`; None where all are known.
        filled: the logits, with 0 for NaN.
        quiet: 0 where the row is soundscape-like, else NaN, `[row]`; None: it never is.
        near: offset -> neighbours that have been looked up, `[row]`.
        spare: two rows to write to on the way; asking for memory anew costs as much as using it.
    """

    run: Run
    column: np.ndarray
    known: np.ndarray | None
    filled: np.ndarray
    quiet: np.ndarray | None
    near: dict[int, np.ndarray]
    spare: np.ndarray


def fill_run(
    run: Run, column: np.ndarray, terms: Sequence[Term], out: np.ndarray, quiet: np.ndarray | None
) -> None:
    """Write the context of one class within one run.

    Args:
        run: where.
        column: the class's logits of the run, contiguous float32 `[row]`, finite or NaN.
        terms: what; terms across classes are passed over.
        out: `[row, term]`, written.
        quiet: 0 where the row is soundscape-like, else NaN, `[row]`; None: it never is.
    """
    missing, spare = np.isnan(column), np.empty((2, len(column)), dtype=np.float32)
    if missing.any():
        known, filled = (~missing).astype(np.float32), np.where(missing, np.float32(0), column)
        sight = _Sight(run, column, known, filled, quiet, {}, spare)
    else:
        sight = _Sight(run, column, None, column, quiet, {}, spare)
    for index, term in sorted(enumerate(terms), key=_looks_far):
        if type(term) in _FILL:
            _FILL[type(term)](sight, term, out[:, index])


def _looks_far(numbered: tuple[int, Term]) -> bool:
    """Lags and leads come first: a local maximum reads them where they are columns."""
    return not isinstance(numbered[1], grammar.Lag | grammar.Lead)


def _shift(sight: _Sight, term: Term, into: np.ndarray) -> None:
    (offset,) = _offsets(term)
    sight.near[offset] = _shifted(sight, offset, into)


def _shifted(sight: _Sight, offset: int, into: np.ndarray) -> np.ndarray:
    """Each row's neighbour at an offset, NaN beyond its stretch."""
    column, beyond = sight.column, sight.run.beyond[offset]
    away = min(abs(offset), len(column))
    rest = len(column) - away
    gets, gives = slice(away, None), slice(None, rest)
    if offset > 0:
        gets, gives = gives, gets
    if beyond.dtype == np.float32:
        np.add(column[gives], beyond[gets], out=into[gets])
        into[rest if offset > 0 else 0 :][:away] = _NAN
    else:
        np.copyto(into[gets], column[gives])
        into[beyond] = _NAN
    return into


def _local_max(sight: _Sight, term: Term, into: np.ndarray) -> None:
    np.copyto(into, sight.column)
    for offset in _offsets(term):
        if offset not in sight.near:
            sight.near[offset] = _shifted(sight, offset, np.empty_like(sight.column))
        np.fmax(into, sight.near[offset], out=into)


def _weighted(shares: np.ndarray, column: np.ndarray, into: np.ndarray, spare: np.ndarray) -> None:
    """Sum of the neighbours, each times its weight for the row."""
    half, rows = len(shares) // 2, len(column)
    np.multiply(column, shares[half], out=into)
    for away in range(1, min(half, rows - 1) + 1):
        rest = rows - away
        into[away:] += np.multiply(column[:rest], shares[half - away, away:], out=spare[:rest])
        into[:rest] += np.multiply(column[away:], shares[half + away, :rest], out=spare[:rest])


def _mean(sight: _Sight, weights: tuple[float, ...], into: np.ndarray) -> None:
    """Weighted mean of the known neighbours; NaN where there is none."""
    shares = sight.run.shares[weights]
    _weighted(shares, sight.filled, into, sight.spare[0])
    if sight.known is not None:
        # Rows that miss nothing are left alone, to the last bit: whether another recording
        # lacks a value must change nothing here.
        weight, lost = np.empty_like(sight.known), np.empty_like(sight.known)
        _weighted(shares, sight.known, weight, sight.spare[0])
        _weighted(shares, 1 - sight.known, lost, sight.spare[0])
        with np.errstate(invalid="ignore", divide="ignore"):
            np.divide(into, weight, out=into, where=lost > 0)


def _smooth(sight: _Sight, term: Term, into: np.ndarray) -> None:
    assert isinstance(term, grammar.Smooth)
    _mean(sight, term.weights, into)


def _minus_local_mean(sight: _Sight, term: Term, into: np.ndarray) -> None:
    assert isinstance(term, grammar.MinusLocalMean)
    _mean(sight, equal_weights(term.radius), into)
    np.subtract(sight.column, into, out=into)


def _logsumexp(sight: _Sight, term: Term, into: np.ndarray) -> None:
    assert isinstance(term, grammar.LogSumExp)
    shares = sight.run.shares[equal_weights(term.radius)]
    column, (spare, powers) = sight.column, sight.spare
    with np.errstate(over="ignore"):
        np.exp(column, out=powers)
    if sight.known is not None:
        powers[sight.known == 0] = 0
    steep: np.ndarray | None = None
    if np.fmax.reduce(np.abs(column, out=spare)) > _SAFE:
        steep = spare > _SAFE
        powers[steep] = 0
    _weighted(shares, powers, into, spare)
    into *= sight.run.met[term.radius]
    with np.errstate(divide="ignore"):
        np.log(into, out=into)
    if sight.known is not None:
        into[np.isneginf(into)] = _NAN
    if steep is not None:
        touched = np.empty_like(column)
        _weighted(shares, steep.astype(np.float32), touched, spare)
        rows = np.flatnonzero(touched)
        into[rows] = _steep_logsumexp(shares, column, rows)


def _steep_logsumexp(shares: np.ndarray, column: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The same for rows next to values whose exp is no float32 number, `[row]`.

    Relative to the local maximum; at least one value is known.
    """
    steps = np.arange(len(shares))[:, None] - len(shares) // 2
    values = column[np.clip(rows + steps, 0, len(column) - 1)].astype(np.float64)
    values[(shares[:, rows] == 0) | np.isnan(values)] = -np.inf
    top = values.max(axis=0)
    soft: np.ndarray = top + np.log(np.exp(values - top).sum(axis=0))
    return soft


def _position(sight: _Sight, _: Term, into: np.ndarray) -> None:
    np.copyto(into, sight.run.position)


def _others_mean(sight: _Sight, _: Term, into: np.ndarray) -> None:
    if sight.quiet is None:
        into.fill(_NAN)
        return
    run, values = sight.run, sight.filled.astype(np.float64)
    present = np.ones(len(values)) if sight.known is None else sight.known.astype(np.float64)
    total = np.repeat(np.add.reduceat(values, run.starts), run.lengths) - values
    count = np.repeat(np.add.reduceat(present, run.starts), run.lengths) - present
    with np.errstate(invalid="ignore", divide="ignore"):
        into[:] = total / count
    into += sight.quiet


def _others_max(sight: _Sight, _: Term, into: np.ndarray) -> None:
    if sight.quiet is None:
        into.fill(_NAN)
        return
    starts, lengths = sight.run.starts, sight.run.lengths
    values = np.fmax(sight.column, np.float32(-np.inf))
    first = np.repeat(np.maximum.reduceat(values, starts), lengths)
    is_first = values == first
    alone = np.repeat(np.add.reduceat(is_first.astype(np.int32), starts), lengths) == 1
    rest = np.where(is_first, np.float32(-np.inf), values)
    second = np.repeat(np.maximum.reduceat(rest, starts), lengths)
    into[:] = np.where(is_first & alone, second, first)
    into[np.isneginf(into)] = _NAN
    into += sight.quiet


_FILL: dict[type[Term], Callable[[_Sight, Term, np.ndarray], None]] = {
    grammar.Lag: _shift,
    grammar.Lead: _shift,
    grammar.LocalMax: _local_max,
    grammar.Smooth: _smooth,
    grammar.MinusLocalMean: _minus_local_mean,
    grammar.LogSumExp: _logsumexp,
    grammar.Position: _position,
    grammar.OthersMean: _others_mean,
    grammar.OthersMax: _others_max,
}
