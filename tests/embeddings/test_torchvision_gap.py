"""The door to timm holds in fresh processes, from many threads, with warnings as errors."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from support.weight_sum import weight_sum

THREADS = """
import threading
try:
    import torchvision  # somebody has tried before
except RuntimeError:
    pass
from birdstack.embeddings.torchvision_gap import import_timm
seen, start = [], threading.Barrier(8)
def walk():
    start.wait()
    seen.append(import_timm())
threads = [threading.Thread(target=walk) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(seen) == 8 and len(set(map(id, seen))) == 1, seen
assert seen[0].create_model("test_resnet", in_chans=1) is not None
import torchvision  # whole, whoever asks next
"""


def _run(code: str) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_eight_threads_walk_through_one_door():
    """Nobody meets a half-imported module or declares an operator twice, after a failed try too."""
    _run(THREADS)


@pytest.mark.slow
def test_spawned_workers_build_the_same_networks():
    """Each worker closes the gap for itself, and equal seeds give equal numbers."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        sums = list(pool.map(weight_sum, [0, 1, 0, 1]))
    assert sums == [weight_sum(0), weight_sum(1)] * 2
    assert sums[0] != sums[1]


def test_importing_a_module_of_networks_loads_no_torch():
    """Until a function is called; modules that subclass torch's say so in their docstring."""
    _run(
        "import sys\n"
        "import birdstack.embeddings.network, birdstack.embeddings.hub\n"
        "assert not {'torch', 'timm', 'numba', 'scipy.signal'} & set(sys.modules)\n"
    )
