"""The batcher: threads' requests in one run, each its own answer or its own error."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from birdstack.embeddings.batcher import Batcher
from birdstack.embeddings.engine import EngineError


class Doubling:
    """Notes the sizes it ran; refuses negative windows."""

    name = "doubling"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def run(self, inputs):
        """Twice the input."""
        self.sizes.append(len(inputs))
        if (inputs < 0).any():
            message = "a negative window"
            raise EngineError(message)
        return (2 * inputs, -inputs)


def test_requests_of_threads_run_together() -> None:
    """Eight threads, one run, each its own rows; no windows at all are a request too."""
    engine, start = Doubling(), threading.Barrier(8)

    def ask(index):
        start.wait(10)
        return batcher.run(np.full((index, 3), index, np.float32))

    with Batcher(engine, max_batch=28, max_wait_s=5) as batcher, ThreadPoolExecutor(8) as pool:
        began = time.monotonic()
        found = list(pool.map(ask, range(8)))
    assert time.monotonic() - began < 4, "a full batch is not waited beyond"
    assert sum(engine.sizes) == 28
    assert len(engine.sizes) <= 2, "a request of no windows may come after the batch is full"
    for index, (double, minus) in enumerate(found):
        np.testing.assert_array_equal(double, np.full((index, 3), 2 * index))
        np.testing.assert_array_equal(minus, np.full((index, 3), -index))


def test_a_lone_request_does_not_wait_long() -> None:
    """After `max_wait_s` it runs alone."""
    engine = Doubling()
    with Batcher(engine, max_batch=100, max_wait_s=0.01) as batcher:
        began = time.monotonic()
        batcher.run(np.ones((2, 3), np.float32))
        assert time.monotonic() - began < 2
    assert engine.sizes == [2]


def test_an_error_goes_to_the_one_who_caused_it() -> None:
    """Its neighbours in the batch get their answers."""
    engine, start = Doubling(), threading.Barrier(4)

    def ask(index):
        start.wait(10)
        try:
            return batcher.run(np.full((1, 3), -1.0 if index == 2 else 1.0))
        except EngineError as error:
            return error

    with Batcher(engine, max_batch=4, max_wait_s=5) as batcher, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert [isinstance(answer, EngineError) for answer in found] == [False, False, True, False]
    assert engine.sizes[0] == 4


def test_large_requests_are_not_cut_and_batches_do_not_grow_beyond_the_limit() -> None:
    """Two requests that do not fit into one batch run one after the other."""
    engine = Doubling()
    with Batcher(engine, max_batch=4, max_wait_s=0.2) as batcher, ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda n: batcher.run(np.ones((n, 2))), (3, 3, 9)))
    assert sorted(engine.sizes) == [3, 3, 9]


def test_a_closed_batcher_refuses() -> None:
    """And closing twice is no error."""
    batcher = Batcher(Doubling())
    batcher.close()
    batcher.close()
    with pytest.raises(EngineError, match="closed"):
        batcher.run(np.ones((1, 2)))
