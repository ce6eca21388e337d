"""Requests of several threads, run as one batch: for a GPU, which small batches leave idle."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from types import TracebackType
from typing import Self

import numpy as np

from birdstack.embeddings.engine import Engine, EngineError

Outputs = tuple[np.ndarray, ...]


class Batcher:
    """An engine that merges what threads ask at once. Thread-safe.

    One thread of its own runs the engine: it takes the first request, waits for others until
    `max_batch` windows are there or `max_wait_s` has passed, runs them together and hands each
    caller its rows. A request is never cut: one larger than `max_batch` runs by itself.

    Args:
        engine: what to run.
        max_batch: windows that are not waited beyond.
        max_wait_s: longest wait for company; 0: take what is there.
    """

    def __init__(self, engine: Engine, max_batch: int = 64, max_wait_s: float = 0.005) -> None:
        self._engine = engine
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._asked: deque[tuple[np.ndarray, Future[Outputs]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._worker = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._worker.start()

    @property
    def name(self) -> str:
        """The engine's."""
        return self._engine.name

    def run(self, inputs: np.ndarray) -> Outputs:
        """Run windows, as `Engine.run`; waits for the answer.

        Raises:
            EngineError: as the engine, or the batcher was closed.
        """
        answer: Future[Outputs] = Future()
        with self._changed:
            if self._closed:
                message = f"engine {self.name}: its batcher was closed"
                raise EngineError(message, remedy="keep it open until every thread has ended")
            self._asked.append((inputs, answer))
            self._changed.notify()
        return answer.result()

    def close(self) -> None:
        """Answer what was asked, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._worker.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _work(self) -> None:
        while requests := self._gathered():
            self._answer(requests)

    def _gathered(self) -> list[tuple[np.ndarray, Future[Outputs]]]:
        """The next requests to run together; none when closed and done."""
        with self._changed:
            while not self._asked and not self._closed:
                self._changed.wait()
            until = time.monotonic() + self._max_wait_s
            while (
                not self._closed
                and sum(len(inputs) for inputs, _ in self._asked) < self._max_batch
                and (left_s := until - time.monotonic()) > 0
            ):
                self._changed.wait(left_s)
            taken: list[tuple[np.ndarray, Future[Outputs]]] = []
            n_rows = 0
            while self._asked and (
                not taken
                or (
                    n_rows + len(self._asked[0][0]) <= self._max_batch
                    and self._asked[0][0].shape[1:] == taken[0][0].shape[1:]
                )
            ):
                taken.append(self._asked.popleft())
                n_rows += len(taken[-1][0])
            return taken

    def _answer(self, requests: list[tuple[np.ndarray, Future[Outputs]]]) -> None:
        try:
            outputs = self._engine.run(np.concatenate([inputs for inputs, _ in requests]))
        except BaseException as error:  # noqa: BLE001 - it belongs to those who asked
            if len(requests) == 1:
                requests[0][1].set_exception(error)
                return
            # one window may have spoilt it for all: each by itself
            for request in requests:
                self._answer([request])
            return
        at = 0
        for inputs, answer in requests:
            rows = slice(at, at + len(inputs))
            answer.set_result(tuple(output[rows] for output in outputs))
            at = rows.stop
