"""One sound ahead: the next recording is opened while the present one is heard.

Decoding runs in processes of its own, so this pays where a processor would be idle otherwise:
acoustic views of 5-s clips on two busy cores took .81 times the time with one worker (median of
29 pairs of runs, quartiles .66 and 1.00), and .96 (.81, 1.02) with two.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Opened = TypeVar("Opened")


def opened_in_order(
    items: Sequence[Item],
    open_: Callable[[Item], Opened],
    is_slow: Callable[[Item], bool],
    stop: threading.Event | None,
) -> Generator[Opened, None, None]:
    """What `open_` makes of each item, in order, the next one being opened meanwhile.

    One helper thread opens at most one item ahead, and ends with the iterator: close it
    (`contextlib.closing`) rather than drop it. Items that are quick to open need no thread.
    What `open_` raises is raised when the item's turn comes.

    Args:
        items: what to open.
        open_: opens one; called from two threads, though never at once.
        is_slow: whether opening an item is worth a thread.
        stop: once set, nothing more is opened or handed out.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="birdstack-ahead") as helper:
        coming: Future[Opened] | None = None
        for number, item in enumerate(items):
            if stop is not None and stop.is_set():
                return
            opened = open_(item) if coming is None else coming.result()
            coming = None
            if number + 1 < len(items) and is_slow(items[number + 1]):
                coming = helper.submit(open_, items[number + 1])
            yield opened
            del opened  # or three sounds would be held: this one, the present and the next


def opened_in_turn(
    items: Sequence[Item], open_: Callable[[Item], Opened], stop: threading.Event | None
) -> Generator[Opened, None, None]:
    """What `open_` makes of each item, in order, each when its turn comes."""
    for item in items:
        if stop is not None and stop.is_set():
            return
        yield open_(item)
