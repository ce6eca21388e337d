"""Context computed outside of birdstack, and across recordings: the last window of another one.

Only rows at the ends of recordings are looked at: there a lag, a lead or a running mean over
the whole file reads a window of the recording before or after, which a table sorted by class
or site makes into a label. Rows where reading across makes no difference prove nothing and are
not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from birdstack.stacking.leak_finding import REFUSED, Finding
from birdstack.stacking.score_views import KERNEL
from birdstack.stacking.stack_table import StackTable

_ROWS = 64
_FEWEST, _SHARE = 6, 0.9
_LAGS = (1, 2, 3, -1, -2, -3)
_REMEDY = "leave the column out: context of scores is made here, and never crosses a recording"


@dataclass(frozen=True)
class _Term:
    """Weights of neighbouring rows, or their maximum."""

    name: str
    offsets: tuple[int, ...]
    weights: tuple[float, ...] | None = None


_TERMS = (
    *(_Term(f"lag {lag}" if lag > 0 else f"lead {-lag}", (-lag,), (1.0,)) for lag in _LAGS),
    _Term("difference to the window before", (0, -1), (1.0, -1.0)),
    _Term("difference to the window after", (0, 1), (1.0, -1.0)),
    _Term("mean of 3", (-1, 0, 1), (1 / 3,) * 3),
    _Term("mean of 5", (-2, -1, 0, 1, 2), (0.2,) * 5),
    _Term("mean of 3, backward", (-2, -1, 0), (1 / 3,) * 3),
    _Term("maximum of 3", (-1, 0, 1)),
    _Term("kernel over 5", (-2, -1, 0, 1, 2), KERNEL),
)


def crossing_columns(table: StackTable, seed: int = 0) -> list[Finding]:
    """Extra columns that read the scores of another recording; refused, for none comes by chance.

    Args:
        table: with extra columns.
        seed: of the rows drawn.
    """
    if not table.extra_names or len(table.recording_ids) < _FEWEST:
        return []
    rng = np.random.default_rng(seed)
    found: dict[int, str] = {}
    for term in _TERMS:
        rows = _edges(table, term, rng)
        if len(rows) < _FEWEST:
            continue
        extra = table.extra[rows].T.astype(np.float64)
        usable = np.isfinite(extra).sum(axis=1) >= _FEWEST
        left = [i for i in np.flatnonzero(usable).tolist() if i not in found]
        for backbone, across, within in _sources(table, term, rows) if left else ():
            for number in left:
                source = _match(extra[number], across, within)
                if source is not None and number not in found:
                    name = f"{table.backbones[backbone]}:{table.classes[source]}"
                    found[number] = f"{term.name} of {name}"
    found |= dict(_elsewhere(table, rng, set(found)))
    return [
        Finding(
            REFUSED,
            "context_crosses_recordings",
            f"x:{table.extra_names[number]}",
            f"at the ends of recordings it holds the {what}, read in another recording",
            _REMEDY,
        )
        for number, what in sorted(found.items())
    ]


def _edges(table: StackTable, term: _Term, rng: np.random.Generator) -> np.ndarray:
    """Rows whose term reaches into another recording, some of them."""
    low, high = min(term.offsets), max(term.offsets)
    rows = np.arange(max(0, -low), table.n_windows - max(0, high))
    held = table.recording
    outside = (held[rows + low] != held[rows]) | (held[rows + high] != held[rows])
    rows = rows[outside]
    return np.sort(rng.permutation(rows)[:_ROWS])


def _sources(
    table: StackTable, term: _Term, rows: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Backbone, and the term `[class, row]` across recordings and within them (NaN: none)."""
    at = rows[:, None] + np.array(term.offsets)
    inside = table.recording[at] == table.recording[rows][:, None]
    for backbone, logits in enumerate(table.logits):
        values = logits[at].astype(np.float64)
        with np.errstate(over="ignore"):
            as_probability = 1 / (1 + np.exp(-values))
        # A table of probabilities was turned into logits; its extra columns were not.
        for scores in (values, as_probability):
            mine = np.where(inside[:, :, None], scores, np.nan)
            yield backbone, _combined(scores, term).T, _combined(mine, term, inside).T


def _combined(scores: np.ndarray, term: _Term, inside: np.ndarray | None = None) -> np.ndarray:
    """The term of `[row, offset, class]`; over what lies inside, weights scaled to sum alike."""
    if term.weights is None:
        lost = np.isnan(scores)
        highest = np.where(lost, -np.inf, scores).max(axis=1)
        return np.where(np.isfinite(highest), highest, np.nan)
    weights = np.asarray(term.weights)
    if inside is None or min(term.weights) < 0 or len(weights) == 1:
        return np.asarray(np.einsum("roc,o->rc", scores, weights))
    share = (inside * weights).sum(axis=1)
    summed = np.einsum("roc,o->rc", np.nan_to_num(scores), weights)
    return np.asarray(summed / np.where(share > 0, share, np.nan)[:, None])


def _match(column: np.ndarray, across: np.ndarray, within: np.ndarray) -> int | None:
    """The class whose term the column holds, where that tells it from a term within."""
    room = 1e-5 * np.abs(across) + 1e-7
    telling = np.isfinite(across) & ~(np.abs(across - within) <= 10 * room)
    equal = telling & (np.abs(across - column) <= room)
    hits = equal.sum(axis=1)
    said = (telling & np.isfinite(column)).sum(axis=1)
    good = np.flatnonzero((hits >= _FEWEST) & (hits >= _SHARE * said))
    for number in good.tolist():
        if len(np.unique(column[equal[number]])) >= _FEWEST:
            return int(number)
    return None


def _elsewhere(
    table: StackTable, rng: np.random.Generator, known: set[int]
) -> Iterator[tuple[int, str]]:
    """Columns that are a lag, filled at the ends from recordings that lay beside in a file.

    Rows of a file may have come in another order than the table has them in.
    """
    held = table.recording
    for lag in _LAGS:
        low = np.arange(max(0, lag), table.n_windows + min(0, lag))
        inner = low[held[low] == held[low - lag]]
        edge = low[held[low] != held[low - lag]]
        if len(inner) < _FEWEST or len(edge) < _FEWEST:
            continue
        rows = np.sort(rng.permutation(inner)[:_ROWS])
        edge = np.sort(rng.permutation(edge)[:_ROWS])
        extra = table.extra[rows].T.astype(np.float64)
        for number in range(len(table.extra_names)):
            there = np.isfinite(table.extra[edge, number])
            if number in known or there.sum() < _FEWEST:
                continue
            source = _lagged(table, extra[number], rows - lag)
            if source is None:
                continue
            backbone, column, scale = source
            scores = _scaled(table.logits[backbone, :, column], probability=scale)
            if _from_others(table, scores, edge[there], table.extra[edge[there], number]):
                known.add(number)
                name = f"{table.backbones[backbone]}:{table.classes[column]}"
                kind = f"lag {lag}" if lag > 0 else f"lead {-lag}"
                yield number, f"{kind} of {name}"


def _lagged(
    table: StackTable, column: np.ndarray, rows: np.ndarray
) -> tuple[int, int, bool] | None:
    """Backbone and class whose scores at some rows are the column, and whether as probability."""
    for backbone, logits in enumerate(table.logits):
        for probability in (False, True):
            scores = _scaled(logits[rows], probability=probability)
            found = _match(column, scores.T, np.full(scores.T.shape, np.nan))
            if found is not None:
                return backbone, found, probability
    return None


def _scaled(scores: np.ndarray, *, probability: bool) -> np.ndarray:
    values = np.asarray(scores, np.float64)
    return 1 / (1 + np.exp(-values)) if probability else values


def _from_others(
    table: StackTable, scores: np.ndarray, edge: np.ndarray, values: np.ndarray
) -> bool:
    """Whether most values at ends of recordings are scores of other recordings, not of their own."""
    order = np.argsort(scores)
    ranked = scores[order]
    hits = []
    for row, value in zip(edge.tolist(), values.astype(np.float64).tolist(), strict=True):
        room = 1e-6 * abs(value) + 1e-9
        low, high = np.searchsorted(ranked, [value - room, value + room])
        owners = table.recording[order[low:high]]
        if len(owners) and not (owners == table.recording[row]).any():
            hits.append(value)
    return len(set(hits)) >= _FEWEST and len(hits) >= _SHARE * len(values)
