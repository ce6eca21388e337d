"""Work that is done ahead of when it is needed, by threads, and handed over in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Done = TypeVar("Done")


def ahead(tasks: Iterable[Callable[[], Done]], pool: Executor, depth: int) -> Iterator[Done]:
    """Results of tasks in their order, with up to `depth` of them under way.

    Tasks are taken from the iterable only as far as that. When the consumer stops early,
    what has not begun is cancelled.

    Args:
        tasks: to be run.
        pool: runs them.
        depth: tasks that are begun before they are asked for.
    """
    waiting: deque[Future[Done]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(task))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
