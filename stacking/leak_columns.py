"""Extra columns that name the label: a site code with one value per class, a flag that is y.

What a single column tells of the label of somebody else's recordings is measured: each window
is given the labels of the window with the nearest value in another group, and F1 is taken
class by class, over classes with positives in 5 recordings of 3 groups or more. On the places
of 31,600 real recordings of 2022 and 2023 the mean F1 is .03 to .13 with all 152 and 264
classes, at most .60 with 15 of them, .87 with 8, and up to 1 with 3, which may well live
apart: latitude then does name the species, and honestly. A planted code has .99 and more.

Of a single class even that is no proof: a bird of one island has F1 1.0, and in 28 of 198
random sets of classes of 2022 one latitude, to the fourth decimal, was that of one class and
of no other. A flag is: a column of two values that changes along with the class, window by
window, or is that of clips with one label each. In soundscapes, one that is the same all
through each recording is told, not refused. All F1 are what is beyond chance, for a class that is
nearly everywhere goes along with anything.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from birdstack.stacking.leak_finding import REFUSED, WARNING, Finding
from birdstack.stacking.stack_table import StackTable
from birdstack.store.labels import ABSENT, PRESENT

_UNITS = 20_000
_MIN_UNITS = 30
_RECORDINGS, _GROUPS = 5, 3
_CERTAIN_F1, _LIKELY_F1, _ODD_F1 = 0.95, 0.9, 0.7
_CERTAIN_CLASSES, _ODD_CLASSES, _FEWEST_CLASSES = 8, 15, 3
_CODED = 0.9
_FLAG, _NEAR_FLAG, _APART = 0.98, 0.9, 0.98
_LAGS = (0, -1, 1, -2, 2, -3, 3)
_BINARY = 2
_REMEDY = "leave the column out; give place as latitude and longitude, or as a range prior"


def label_columns(
    table: StackTable, seed: int = 0, *, computed: Collection[str] = ()
) -> list[Finding]:
    """Extra columns that name the label; one finding for each at most.

    Args:
        table: with extra columns; rows of no fold are not looked at.
        seed: of the windows drawn, and of ties.
        computed: names of columns that were made from sound, place and time alone. Where `night`
            is one class (an owl among larks), that is told and not refused.
    """
    if not table.extra_names:
        return []
    known = np.flatnonzero(table.window_fold >= 0)
    member = np.unique(np.asarray(table.groups), return_inverse=True)[1][table.recording]
    rng = np.random.default_rng(seed)
    rows = _drawn(table, known, rng)
    whole, drawn = _Rows.of(table, known, member), _Rows.of(table, rows, member)
    found = []
    for number, name in enumerate(table.extra_names):
        column = table.extra[:, number]
        both = (
            _flag(table, name, column[known], whole, computed=name in computed),
            _names(table, name, column[rows], drawn, rng),
        )
        told = [finding for finding in both if finding is not None]
        found += sorted(told, key=lambda finding: finding.severity != REFUSED)[:1]
    return found


@dataclass(frozen=True)
class _Rows:
    """Windows that are looked at, and where the classes are in them.

    Attributes:
        truth: `[row, class]`.
        group: number of the group, `[row]`.
        recording: number of the recording, `[row]`.
        row: position of each positive.
        label: its class.
    """

    truth: np.ndarray
    group: np.ndarray
    recording: np.ndarray
    row: np.ndarray
    label: np.ndarray

    @classmethod
    def of(cls, table: StackTable, rows: np.ndarray, member: np.ndarray) -> _Rows:
        """Some rows of a table, with the group of each of its rows."""
        truth = table.truth[rows]
        return cls(truth, member[rows], table.recording[rows], *np.nonzero(truth == PRESENT))

    @cached_property
    def clips(self) -> bool:
        """Whether no label changes inside of a recording."""
        same = self.recording[1:] == self.recording[:-1]
        return not (same[:, None] & (self.truth[1:] != self.truth[:-1])).any()

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.truth.shape[1])

    def holders(self, member: np.ndarray, taken: np.ndarray | None = None) -> np.ndarray:
        """In how many recordings or groups each class is, `[class]`, among some positives."""
        row, label = (
            (self.row, self.label) if taken is None else (self.row[taken], self.label[taken])
        )
        pairs = np.unique(member[row].astype(np.int64) * self.n_classes + label)
        return np.bincount(pairs % self.n_classes, minlength=self.n_classes)


def _drawn(table: StackTable, known: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Windows with a label, at most 20,000, about as many of each recording."""
    rows: np.ndarray = known[(table.truth[known] == PRESENT).any(axis=1)]
    if len(rows) <= _UNITS:
        return rows
    shuffled = rng.permutation(rows)
    order = np.argsort(table.recording[shuffled], kind="stable")
    held = table.recording[shuffled][order]
    turn = np.empty(len(rows), np.int64)
    first = np.flatnonzero(np.append(True, held[1:] != held[:-1]))
    turn[order] = np.arange(len(rows)) - np.repeat(first, np.diff(np.append(first, len(rows))))
    return np.asarray(np.sort(shuffled[np.argsort(turn, kind="stable")[:_UNITS]]))


def _names(
    table: StackTable, name: str, column: np.ndarray, rows: _Rows, rng: np.random.Generator
) -> Finding | None:
    """Whether the nearest value in another group has the same labels, class after class."""
    finite = np.flatnonzero(np.isfinite(column))
    if len(finite) < _MIN_UNITS or np.ptp(column[finite]) == 0:
        return None
    values = column[finite].astype(np.float64)
    found = nearest_of_others(values, rows.group[finite], rng)
    near = np.full(len(column), -1)
    near[finite] = np.where(found >= 0, finite[found], -1)
    here = near >= 0
    if here.sum() < _MIN_UNITS:
        return None
    taken = here[rows.row]
    row, label, count = rows.row[taken], rows.label[taken], rows.n_classes
    asked = np.bincount(near[here], minlength=len(column))
    both = np.bincount(label[rows.truth[near[row], label] == PRESENT], minlength=count)
    own = np.bincount(label, minlength=count)
    other = np.bincount(rows.label, weights=asked[rows.row], minlength=count)
    recordings = rows.holders(rows.recording, taken)
    groups = rows.holders(rows.group, taken)
    judged = (recordings >= _RECORDINGS) & (groups >= _GROUPS)
    if not judged.any():
        return None
    f1 = _beyond_chance(both, own, other, int(here.sum()))
    coded = float((column[here] == column[near[here]]).mean())
    finding = _all_classes(name, float(f1[judged].mean()), int(judged.sum()), coded)
    enough = _well_known(recordings, groups)
    best = int(np.argmax(np.where(enough, f1, 0)))
    if finding is not None or not enough[best] or f1[best] < _APART:
        return finding
    why = (
        f"the nearest value in another group tells class {table.classes[best]!r} with F1 "
        f"{f1[best]:.2f}: a class that lives apart, or a column made from the label"
    )
    return Finding(WARNING, "column_names_class", f"x:{name}", why, _REMEDY)


def _all_classes(name: str, f1: float, count: int, coded: float) -> Finding | None:
    """Whether a column tells more of all classes than real places and real sounds do.

    Args:
        name: of the column.
        f1: mean over classes.
        count: number of classes.
        coded: share of values that occur in another group as they are.
    """
    many = count >= _CERTAIN_CLASSES or (count >= _FEWEST_CLASSES and coded >= _CODED)
    certain = many and f1 >= _CERTAIN_F1
    likely = count >= _FEWEST_CLASSES and f1 >= _LIKELY_F1
    odd = count >= _ODD_CLASSES and f1 >= _ODD_F1
    if not (certain or likely or odd):
        return None
    usual = ".6" if count >= _ODD_CLASSES else ".9" if count >= _CERTAIN_CLASSES else "1"
    why = (
        f"the nearest value in another group has the same label: mean F1 {f1:.2f} over {count} "
        f"classes, where real places reach {usual} at most with so many; {coded:.0%} of the "
        "values are shared between groups"
    )
    severity = REFUSED if certain else WARNING
    return Finding(severity, "column_names_label", f"x:{name}", why, _REMEDY)


def nearest_of_others(
    values: np.ndarray, group: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Position of the nearest value of another group, `[unit]`; -1 if there is no other group.

    Args:
        values: finite, `[unit]`.
        group: of each, `[unit]`.
        rng: equal values are taken in random order.
    """
    count = len(values)
    order = np.lexsort((rng.random(count), values))
    held, sorted_values = group[order], values[order]
    fresh = np.append(True, held[1:] != held[:-1])
    starts = np.flatnonzero(fresh)
    run = np.cumsum(fresh) - 1
    # A run is of one group, so what lies beyond either end is the nearest of another one.
    left, right = starts[run] - 1, np.append(starts[1:], count)[run]
    down = np.where(left >= 0, sorted_values - sorted_values[np.maximum(left, 0)], np.inf)
    after = np.minimum(right, count - 1)
    up = np.where(right < count, sorted_values[after] - sorted_values, np.inf)
    tossed = rng.random(count) < 0.5  # noqa: PLR2004 - a fair coin
    pick = np.where((down < up) | ((down == up) & tossed), left, right)
    lost = np.isinf(down) & np.isinf(up)
    out = np.empty(count, np.int64)
    out[order] = np.where(lost, -1, order[np.clip(pick, 0, count - 1)])
    return out


def _flag(
    table: StackTable, name: str, values: np.ndarray, rows: _Rows, *, computed: bool
) -> Finding | None:
    """Whether one value of the column, here or some windows on, is a class."""
    numbers, place = np.unique(values, return_inverse=True)
    if len(numbers) < _BINARY:
        return None
    binary = len(numbers) == _BINARY
    # What changes along with the song is no fact of place or hour, however short the table.
    sings = binary and _varies(rows, values)
    wide = np.bincount(rows.label, minlength=rows.n_classes) >= _RECORDINGS
    if not sings:
        wide = _well_known(rows.holders(rows.recording), rows.holders(rows.group))
    best = (0.0, 0, 0)
    for lag in _LAGS if sings else _LAGS[:1]:
        f1 = np.where(wide, _agreement(rows, place, len(numbers), lag), 0)
        number = int(np.argmax(f1))
        if f1[number] > best[0]:
            best = (float(f1[number]), number, lag)
    f1_best, number, lag = best
    if f1_best < _NEAR_FLAG or not (binary or f1_best >= _FLAG):
        return None
    where = f", {abs(lag)} windows {'on' if lag > 0 else 'back'}" if lag else ""
    why = f"one value of it is class {table.classes[number]!r}{where}: F1 {f1_best:.3f}"
    # What is the same all through a soundscape may be a fact of its place: one class never stops
    # there. Of clips with one label each, no fact of the place is one class and nothing else.
    certain = (sings or (binary and rows.clips)) and f1_best >= _FLAG and not computed
    if not certain:
        why += ": a class that lives apart, or a column made from the label"
    return Finding(
        REFUSED if certain else WARNING,
        "column_names_class",
        f"x:{name}",
        why,
        "leave the column out: it is made from the label" if certain else _REMEDY,
    )


def _well_known(recordings: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Classes in enough recordings of enough groups to speak of one alone, `[class]`."""
    return np.asarray((recordings >= 2 * _RECORDINGS) & (groups >= _GROUPS + 2))


def _varies(rows: _Rows, values: np.ndarray) -> bool:
    """Whether the column changes inside of two recordings or more."""
    held = rows.recording
    changed = (held[1:] == held[:-1]) & (values[1:] != values[:-1])
    return len(np.unique(held[1:][changed])) >= 2  # noqa: PLR2004 - once may be chance


def _agreement(rows: _Rows, place: np.ndarray, count: int, lag: int) -> np.ndarray:
    """F1 between each class and the value that most of its positives bear, `[class]`.

    Args:
        rows: whose labels.
        place: number of the column's value, `[row]`.
        count: number of values.
        lag: windows from the column's row to the label's.
    """
    n_rows = len(place)
    label_row = np.arange(n_rows) + lag
    inside = (label_row >= 0) & (label_row < n_rows)
    inside[inside] = rows.recording[label_row[inside]] == rows.recording[inside]
    row = rows.row - lag
    taken = (row >= 0) & (row < n_rows)
    taken[taken] = inside[row[taken]]
    row, label = row[taken], rows.label[taken]
    many = np.bincount(label, minlength=rows.n_classes) >= _RECORDINGS
    row, label = row[many[label]], label[many[label]]
    pairs, hits = np.unique(label.astype(np.int64) * count + place[row], return_counts=True)
    order = np.lexsort((hits, pairs // count))
    last = np.append(np.diff(pairs[order] // count) > 0, True) if len(pairs) else np.zeros(0, bool)
    top, most = pairs[order][last], hits[order][last]
    total = np.bincount(place[inside], minlength=count)
    own = np.bincount(label, minlength=rows.n_classes)
    f1 = np.zeros(rows.n_classes)
    n_inside = int(inside.sum())
    for pair, hit in zip(top.tolist(), most.tolist(), strict=True):
        number, value = divmod(pair, count)
        borne = total[value]
        if 2 * hit >= _NEAR_FLAG * own[number]:  # labels that nobody knows are no misses
            with_value = np.flatnonzero(inside & (place == value)) + lag
            labels = rows.truth[with_value, number]
            borne -= int(((labels != PRESENT) & (labels != ABSENT)).sum())
        f1[number] = _beyond_chance(hit, own[number], borne, n_inside)
    return f1


def _beyond_chance(hits: Any, own: Any, other: Any, count: int) -> np.ndarray:
    """F1 of what two markings of rows have in common, less what chance would give them.

    A class that is in nearly all windows goes along with anything that is in nearly all of
    them: so much is no sign of a leak. 1 where they are the same, 0 where they are by chance.

    Args:
        hits: rows with both marks.
        own: rows with the one.
        other: rows with the other.
        count: of all rows.
    """
    chance = np.asarray(own, np.float64) * other / max(count, 1)
    room = (np.asarray(own, np.float64) + other) / 2 - chance
    return np.asarray(np.maximum((hits - chance) / np.where(room > 0, room, np.inf), 0))
