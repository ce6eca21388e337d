"""The same work for each class, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor


def each(work: Callable[[int], None], numbers: Iterable[int], workers: int) -> None:
    """Do some work for each number, several at a time; errors come through."""
    if workers == 1:
        for number in numbers:
            work(number)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(work, numbers):
            pass
