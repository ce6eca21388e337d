"""How units are run: in this thread, in threads (the default), or in processes.

Threads share one process, because everything heavy releases the interpreter's lock and
compiled kernels are then built once. Few units are in flight at a time, so memory stays
bounded however long the plan is.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool

from birdstack.store.errors import SkipRecording
from birdstack.store.plan import Task
from birdstack.store.run_config import ExecutorName
from birdstack.store.unit import Receipt, Tally, Workshop, skip_all

_POLL_S = 0.2  # how soon a stop is noticed while nothing finishes

Unit = tuple[Task, ...]


def run_units(
    workshop: Workshop,
    units: Iterable[Unit],
    *,
    executor: ExecutorName,
    workers: int,
    stop: threading.Event,
    tally: Tally,
) -> Iterator[Receipt | None]:
    """Receipts of units, in the order they finish; ends early once `stop` is set.

    None comes in between whenever some time has passed, so that progress can be shown.

    Args:
        workshop: does the units.
        units: what to do, consumed as workers fall free.
        executor: `threads`, `serial` or `processes`.
        workers: how many at a time; 0 for one for each processor.
        stop: set it to finish what is in flight and end.
        tally: counts what is done: recording by recording in threads and serially, by units
            in processes.
    """
    count = workers or available_processors()
    if executor == "serial":
        for unit in units:
            if stop.is_set():
                return
            yield workshop.run(unit, stop, tally)
    elif executor == "threads":
        with ThreadPoolExecutor(count, thread_name_prefix="birdstack") as pool:
            yield from _run_in_threads(pool, workshop, units, count=count, stop=stop, tally=tally)
    else:
        for receipt in _run_in_processes(workshop, units, count, stop):
            if receipt is not None:
                skipped = len({skip.recording_id for skip in receipt.skips})
                tried = receipt.heard + skipped
                tally.add(tried=tried, windows=receipt.windows, skipped=skipped)
            yield receipt


def available_processors() -> int:
    """Processors this process may use (a container's share, not the machine's)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run_in_threads(
    pool: Executor,
    workshop: Workshop,
    units: Iterable[Unit],
    *,
    count: int,
    stop: threading.Event,
    tally: Tally,
) -> Iterator[Receipt | None]:
    waiting = iter(units)
    flying: set[Future[Receipt]] = set()
    try:
        while True:
            while not stop.is_set() and len(flying) < count + 1:
                unit = next(waiting, None)
                if unit is None:
                    break
                flying.add(pool.submit(workshop.run, unit, stop, tally))
            if not flying:
                return
            finished, flying = wait(flying, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            if not finished:
                yield None
            for future in finished:
                yield future.result()
    finally:
        # After an error or an abandoned run nobody wants the rest.
        for future in flying:
            future.cancel()


_workshop: Workshop | None = None  # of this worker process


def _enter(workshop: Workshop) -> None:
    global _workshop  # noqa: PLW0603 - the one object that a worker process is for
    _workshop = workshop
    # Ctrl-C reaches every process of the terminal; only the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_here(unit: Unit) -> Receipt:
    if _workshop is None:
        message = "worker process was not initialised"
        raise RuntimeError(message)
    return _workshop.run(unit)


def _run_in_processes(
    workshop: Workshop, units: Iterable[Unit], count: int, stop: threading.Event
) -> Iterator[Receipt | None]:
    """As threads do; a unit whose process dies is done again, recording by recording."""
    waiting = iter(units)
    flying: dict[Future[Receipt], Unit] = {}
    pool = _new_pool(workshop, count)
    try:
        while True:
            while not stop.is_set() and len(flying) < count + 1:
                unit = next(waiting, None)
                if unit is None:
                    break
                flying[pool.submit(_run_here, unit)] = unit
            if not flying:
                return
            finished, _ = wait(flying, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            if not finished:
                yield None
            broken = []
            for future in finished:
                unit = flying.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    broken.append(unit)
            if broken:
                suspects = [*broken, *flying.values()]
                flying.clear()
                pool.shutdown(cancel_futures=True)
                for unit in suspects:
                    yield from _run_one_by_one(workshop, unit)
                pool = _new_pool(workshop, count)
    finally:
        pool.shutdown(cancel_futures=True)


def _run_one_by_one(workshop: Workshop, unit: Sequence[Task]) -> Iterator[Receipt]:
    """Each recording in a process of its own; one that kills it is skipped."""
    for task in unit:
        with _new_pool(workshop, 1) as pool:
            try:
                yield pool.submit(_run_here, (task,)).result()
            except BrokenProcessPool:
                reason = "the worker process died while it worked on this recording alone"
                yield skip_all(workshop, task, SkipRecording("worker_crashed", reason))


def _new_pool(workshop: Workshop, count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        count,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_enter,
        initargs=(workshop,),
    )
