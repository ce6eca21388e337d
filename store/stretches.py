"""Sets of half-open intervals in seconds."""

from __future__ import annotations

from collections.abc import Iterable

Stretch = tuple[float, float]
"""Start and end, exclusive."""

_TOUCH_S = 1e-6  # stretches this close to each other touch: times are written with few digits


def merged(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Their union, as few stretches as possible, in order."""
    found: list[Stretch] = []
    for start, end in sorted(stretches):
        if found and start <= found[-1][1] + _TOUCH_S:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def without(stretches: Iterable[Stretch], holes: Iterable[Stretch]) -> list[Stretch]:
    """What is left of the union of some stretches when holes are cut out of it."""
    left = merged(stretches)
    for low, high in merged(holes):
        pieces: list[Stretch] = []
        for start, end in left:
            parts = ((start, min(end, low)), (max(start, high), end))
            pieces += [part for part in parts if part[1] > part[0]]
        left = merged(pieces)
    return left
