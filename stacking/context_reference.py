"""Temporal context, slow and obvious: the specification that the quick form must equal.

One loop over windows, one function for each term, Python numbers throughout.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from birdstack.stacking import context_grammar as grammar
from birdstack.stacking.context_grammar import Term

_NAN = float("nan")


class _Window:
    """One window of one class, and whom it can see.

    Attributes:
        value: its logit.
        stretch: logits of its contiguous stretch, in order; NaN where not known.
        at: its position in the stretch.
        others: known logits of the recording's other windows.
        peers: logits of all classes in this window.
        position: its number in the recording, from 0, and how many windows there are.
    """

    def __init__(
        self,
        stretch: Sequence[float],
        at: int,
        others: Sequence[float],
        peers: Sequence[float],
        position: tuple[int, int],
    ) -> None:
        self.value = stretch[at]
        self.stretch, self.at = stretch, at
        self.others = _known(others)
        self.peers = _known(peers)
        self.position = position

    def neighbour(self, offset: int) -> float:
        """Logit so many windows later, or earlier if negative; NaN beyond the stretch."""
        there = self.at + offset
        return self.stretch[there] if 0 <= there < len(self.stretch) else _NAN

    def around(self, radius: int) -> list[float]:
        """Known logits within the radius."""
        return _known([self.neighbour(offset) for offset in range(-radius, radius + 1)])


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _shift(window: _Window, term: Term) -> float:
    assert isinstance(term, grammar.Lag | grammar.Lead)
    return window.neighbour(-term.windows if isinstance(term, grammar.Lag) else term.windows)


def _minus_local_mean(window: _Window, term: Term) -> float:
    assert isinstance(term, grammar.MinusLocalMean)
    near = window.around(term.radius)
    return window.value - math.fsum(near) / len(near) if near else _NAN


def _local_max(window: _Window, term: Term) -> float:
    assert isinstance(term, grammar.LocalMax)
    return max(window.around(term.radius), default=_NAN)


def _logsumexp(window: _Window, term: Term) -> float:
    assert isinstance(term, grammar.LogSumExp)
    near = window.around(term.radius)
    if not near:
        return _NAN
    top = max(near)
    return top + math.log(math.fsum(math.exp(value - top) for value in near))


def _smooth(window: _Window, term: Term) -> float:
    assert isinstance(term, grammar.Smooth)
    met = [
        (weight, window.neighbour(step - term.radius))
        for step, weight in enumerate(term.weights)
        if not math.isnan(window.neighbour(step - term.radius))
    ]
    if not met:
        return _NAN
    return math.fsum(w * value for w, value in met) / math.fsum(w for w, _ in met)


def _rank(window: _Window, _: Term) -> float:
    if math.isnan(window.value):
        return _NAN
    above = sum(peer > window.value for peer in window.peers)
    equal = sum(peer == window.value for peer in window.peers)
    return 1 + above + (equal - 1) / 2


def _probabilities(window: _Window) -> list[float]:
    return [0.5 * (1.0 + math.tanh(0.5 * peer)) for peer in window.peers]


def _window_max(window: _Window, _: Term) -> float:
    return max(_probabilities(window), default=_NAN)


def _window_sum(window: _Window, _: Term) -> float:
    return math.fsum(_probabilities(window)) if window.peers else _NAN


def _position(window: _Window, _: Term) -> float:
    number, count = window.position
    return (number + 0.5) / count


def _others_mean(window: _Window, _: Term) -> float:
    return math.fsum(window.others) / len(window.others) if window.others else _NAN


def _others_max(window: _Window, _: Term) -> float:
    return max(window.others, default=_NAN)


_MEANING: dict[type[Term], Callable[[_Window, Term], float]] = {
    grammar.Lag: _shift,
    grammar.Lead: _shift,
    grammar.MinusLocalMean: _minus_local_mean,
    grammar.LocalMax: _local_max,
    grammar.LogSumExp: _logsumexp,
    grammar.Smooth: _smooth,
    grammar.Rank: _rank,
    grammar.WindowMax: _window_max,
    grammar.WindowSum: _window_sum,
    grammar.Position: _position,
    grammar.OthersMean: _others_mean,
    grammar.OthersMax: _others_max,
}


def reference_context(
    logits: np.ndarray,
    segments: np.ndarray,
    terms: Sequence[Term],
    *,
    class_index: int = 0,
    recordings: np.ndarray | None = None,
    soundscape: np.ndarray | None = None,
) -> np.ndarray:
    """Context of one class, float64 `[window, term]`; arguments as `context.context` takes them.

    Args:
        logits: `[window, class]`; an infinite one counts as not known.
        segments: rows at which stretches begin, and the total.
        terms: the columns.
        class_index: which class.
        recordings: rows at which recordings begin, and the total; the stretches if None.
        soundscape: whether each window is soundscape-like; no window is, if None.
    """
    rows = [[x if math.isfinite(x) else _NAN for x in map(float, row)] for row in logits]
    column = [row[class_index] for row in rows]
    bounds = [int(row) for row in (segments if recordings is None else recordings)]
    found = np.full((len(column), len(terms)), _NAN)
    for first, last in itertools.pairwise(bounds):
        for row in range(first, last):
            begin = max(int(start) for start in segments if start <= row)
            end = min(int(stop) for stop in segments if stop > row)
            window = _Window(
                column[begin:end],
                row - begin,
                column[first:row] + column[row + 1 : last],
                rows[row],
                (row - first, last - first),
            )
            heard = soundscape is not None and bool(soundscape[row])
            for index, term in enumerate(terms):
                if heard or not term.soundscape_only:
                    found[row, index] = _MEANING[type(term)](window, term)
    return found
