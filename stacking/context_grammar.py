"""The terms of temporal context: what a column may say about a window's neighbours.

A term is written as text, `lag(1)` or `smooth(0.1,0.2,0.4,0.2,0.1)`, and read into a frozen
object whose `str` is its canonical text. Which terms there are, and which belong to the default
set, follows published stackers that measured them:

- lags, leads, value minus local mean, rank, window sums: first place of BirdCLEF 2021
  (namakemono/kaggle-birdclef-2021).
- the smoothing kernel [.1, .2, .4, .2, .1]: third and fourth place of BirdCLEF 2024.
- the maximum over neighbours: fourth place of 2024 and published solutions of 2026.
- aggregates of the recording help on soundscapes and hurt when learnt on focal clips (.01 to
  .03 of F1 in 2021), so that they leave the window itself out and are `soundscape_only`.

What a term means at the edge of a stretch, and next to a value that is missing, stands in its
docstring; `context_reference` is the specification in code.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from birdstack.store.errors import UsageError

FURTHEST = 60
"""Longest lag or lead, in windows."""
WIDEST = 12
"""Largest radius of a local term, in windows."""

_FORM = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*", re.DOTALL)
_RANGE = re.compile(r"\s*(\d+)\s*\.\.\s*(\d+)\s*")
_WHOLE = re.compile(r"\s*[+-]?\d+\s*")


@dataclass(frozen=True)
class Term:
    """One column of context.

    Attributes:
        name: the word in front of the bracket.
        rule: what must stand in the bracket, for messages.
        across_classes: it compares the classes of one window, and needs all of them.
        soundscape_only: it has a value only on rows that are soundscape-like.
    """

    name: ClassVar[str] = ""
    rule: ClassVar[str] = "takes no argument"
    across_classes: ClassVar[bool] = False
    soundscape_only: ClassVar[bool] = False

    @classmethod
    def read(cls, arguments: list[str]) -> Self:
        """The term with these arguments; ValueError where they break the rule."""
        if arguments:
            raise ValueError
        return cls()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class _Shift(Term):
    """A term with a distance in windows."""

    windows: int
    rule: ClassVar[str] = f"takes one whole number of windows, 1 to {FURTHEST}"

    @classmethod
    def read(cls, arguments: list[str]) -> Self:
        """The term at this distance; ValueError where it breaks the rule."""
        return cls(_whole(arguments, FURTHEST))

    def __str__(self) -> str:
        return f"{self.name}({self.windows})"


@dataclass(frozen=True)
class Lag(_Shift):
    """The value some windows before; NaN where the stretch begins later."""

    name: ClassVar[str] = "lag"


@dataclass(frozen=True)
class Lead(_Shift):
    """The value some windows after; NaN where the stretch ends earlier."""

    name: ClassVar[str] = "lead"


@dataclass(frozen=True)
class _Around(Term):
    """A term with a radius in windows."""

    radius: int
    rule: ClassVar[str] = f"takes one whole number, a radius of 1 to {WIDEST} windows"

    @classmethod
    def read(cls, arguments: list[str]) -> Self:
        """The term with this radius; ValueError where it breaks the rule."""
        return cls(_whole(arguments, WIDEST))

    def __str__(self) -> str:
        return f"{self.name}({self.radius})"


@dataclass(frozen=True)
class MinusLocalMean(_Around):
    """The value minus the mean of the known values within the radius, itself among them."""

    name: ClassVar[str] = "minus_local_mean"


@dataclass(frozen=True)
class LocalMax(_Around):
    """The largest known value within the radius; NaN where none is known."""

    name: ClassVar[str] = "local_max"


@dataclass(frozen=True)
class LogSumExp(_Around):
    """log of the sum of exp of the known values within the radius; NaN where none is known.

    A soft maximum. Beyond an edge there is nothing to add: a stretch of one window gives the
    value itself.
    """

    name: ClassVar[str] = "logsumexp"


@dataclass(frozen=True)
class Smooth(Term):
    """Weighted mean of the known values around the window; NaN where none is known.

    The weights that meet a known value are scaled to sum to one, at edges too: as a control,
    smoothing must give every window a score.
    """

    weights: tuple[float, ...]
    name: ClassVar[str] = "smooth"
    rule: ClassVar[str] = (
        f"takes an odd number of weights above zero, 3 to {2 * WIDEST + 1}, "
        "none more than a million times another"
    )

    @property
    def radius(self) -> int:
        """Windows on either side."""
        return len(self.weights) // 2

    @classmethod
    def read(cls, arguments: list[str]) -> Self:
        """The kernel with these weights; ValueError where they break the rule."""
        weights = tuple(float(text) for text in arguments)
        odd = len(weights) % 2 == 1 and 1 <= len(weights) // 2 <= WIDEST
        if not (odd and min(weights) > 0 and max(weights) <= 1e6 * min(weights)):
            raise ValueError
        if not all(map(math.isfinite, weights)):
            raise ValueError
        return cls(weights)

    def __str__(self) -> str:
        return (
            f"{self.name}({','.join(repr(weight).removesuffix('.0') for weight in self.weights)})"
        )


@dataclass(frozen=True)
class Rank(Term):
    """Rank of the class among the known classes of the window: 1 is the highest, ties share."""

    name: ClassVar[str] = "rank"
    across_classes: ClassVar[bool] = True


@dataclass(frozen=True)
class WindowMax(Term):
    """Largest probability of any class in the window; NaN where none is known."""

    name: ClassVar[str] = "window_max"
    across_classes: ClassVar[bool] = True


@dataclass(frozen=True)
class WindowSum(Term):
    """Sum of the probabilities of the known classes in the window; NaN where none is known."""

    name: ClassVar[str] = "window_sum"
    across_classes: ClassVar[bool] = True


@dataclass(frozen=True)
class Position(Term):
    """Middle of the window as a share of its recording, in windows that there are: (i + .5) / n."""

    name: ClassVar[str] = "position"


@dataclass(frozen=True)
class OthersMean(Term):
    """Mean of the known values of the recording's other windows; NaN where there is none."""

    name: ClassVar[str] = "others_mean"
    soundscape_only: ClassVar[bool] = True


@dataclass(frozen=True)
class OthersMax(Term):
    """Largest known value of the recording's other windows; NaN where there is none."""

    name: ClassVar[str] = "others_max"
    soundscape_only: ClassVar[bool] = True


TERMS: dict[str, type[Term]] = {
    kind.name: kind
    for kind in (
        *(Lag, Lead, MinusLocalMean, LocalMax, LogSumExp, Smooth),
        *(Rank, WindowMax, WindowSum, Position, OthersMean, OthersMax),
    )
}
"""Every term by its name."""


def parse_term(text: str) -> Term:
    """Read one term.

    Raises:
        UsageError: no such term, or arguments that break its rule.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        message = f"context term {text.strip()!r}: a term is a name, or name(arguments)"
        raise UsageError(message, remedy=f"write it like {DEFAULT_TERMS[0]}")
    name, inside = form.groups()
    kind = _kind(text.strip(), name)
    arguments = [] if inside is None or not inside.strip() else inside.split(",")
    try:
        return kind.read(arguments)
    except ValueError:
        message = f"context term {text.strip()!r}: {name} {kind.rule}"
        raise UsageError(message, remedy=f"write it like {_EXAMPLES[name]}") from None


def parse_terms(terms: str | Iterable[str | Term]) -> tuple[Term, ...]:
    """Read a set of terms, in the order given.

    Args:
        terms: terms or their texts; one string may hold several, parted by blanks or
            semicolons, and `lag(1..3)` stands for `lag(1) lag(2) lag(3)`.

    Raises:
        UsageError: a text is no term, or a term is named twice, or there is none.
    """
    parts = _split(terms) if isinstance(terms, str) else list(terms)
    found: dict[Term, None] = {}
    for part in parts:
        for term in [part] if isinstance(part, Term) else map(parse_term, _spread(part)):
            if term in found:
                message = f"context term '{term}' is named twice"
                raise UsageError(message, remedy="name each term once")
            found[term] = None
    if not found:
        message = "context: no term is named"
        raise UsageError(message, remedy=f"name at least one, such as {DEFAULT_TERMS[0]}")
    return tuple(found)


def column_name(term: Term, source: str) -> str:
    """Name of the column that a term makes of a backbone's logits: `lag(1):lite0`."""
    return f"{term}:{source}"


def _kind(text: str, name: str) -> type[Term]:
    if name in TERMS:
        return TERMS[name]
    near = difflib.get_close_matches(name.lower(), TERMS, n=1, cutoff=0.5)
    message = f"context term {text!r}: there is no term {name!r}"
    remedy = f"write {near[0]}" if near else f"use one of {', '.join(TERMS)}"
    raise UsageError(message, remedy=remedy)


def _whole(arguments: list[str], most: int) -> int:
    """The only argument, a whole number from 1 on."""
    if len(arguments) != 1 or not _WHOLE.fullmatch(arguments[0]):
        raise ValueError
    if not 1 <= int(arguments[0]) <= most:
        raise ValueError
    return int(arguments[0])


def _split(text: str) -> list[str]:
    """Parts of a list at blanks and semicolons outside of brackets."""
    return re.findall(r"[^\s;(]+\s*\([^)]*\)?[^\s;]*|[^\s;]+", text)


def _spread(text: str) -> list[str]:
    """`lag(1..3)` as three texts; any other text as it is."""
    form = _FORM.fullmatch(text)
    span = _RANGE.fullmatch(form.group(2) or "") if form else None
    if form is None or span is None:
        return [text]
    first, last = int(span.group(1)), int(span.group(2))
    if not first <= last <= FURTHEST:
        message = f"context term {text.strip()!r}: the range {first}..{last} is empty or too long"
        raise UsageError(message, remedy=f"count upward, to {FURTHEST} at most")
    return [f"{form.group(1)}({number})" for number in range(first, last + 1)]


CONTROL_KERNEL = Smooth((0.1, 0.2, 0.4, 0.2, 0.1))
"""The fixed kernel that every stacker is measured against."""

DEFAULT_TERMS: tuple[Term, ...] = (
    *(Lag(1), Lag(2), Lag(3), Lead(1), Lead(2), Lead(3)),
    *(MinusLocalMean(1), LocalMax(1), LogSumExp(1), CONTROL_KERNEL),
    *(Rank(), WindowMax(), WindowSum(), Position()),
    *(OthersMean(), OthersMax()),
)
"""The set that earned its place in the sources."""

FOCAL_TERMS = tuple(term for term in DEFAULT_TERMS if not term.soundscape_only)
"""The default set for tables without soundscapes."""

_EXAMPLES = {name: name for name in TERMS} | {
    "lag": "lag(1)",
    "lead": "lead(1)",
    "minus_local_mean": "minus_local_mean(1)",
    "local_max": "local_max(1)",
    "logsumexp": "logsumexp(1)",
    "smooth": str(CONTROL_KERNEL),
}
