"""Kernels are compiled once, and a cache that is shared, broken or forbidden hurts nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from birdstack.features import kernel_cache

SCRIPT = """
import sys, time
import numpy as np
from birdstack.features.fused_pass import SpectralPass
from birdstack.features.fused_plan import FrontEnd
from birdstack.features import kernel_cache

compiled = []
original = kernel_cache.CachedKernel.compile
kernel_cache.CachedKernel.compile = lambda self: compiled.append(self.file) or original(self)
samples = np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)
picture = SpectralPass(FrontEnd()).log_mel(samples)
print(len(compiled), float(picture.astype(np.float64).sum()).hex())
"""


def start(cache: Path, **environment: str) -> subprocess.Popen[str]:
    """A process that makes a picture, and says how many kernels it compiled and its sum."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env={**os.environ, kernel_cache.VARIABLE: str(cache), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Number of kernels compiled, and the picture's sum."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    count, total = out.split()
    return int(count), total


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> tuple[Path, str]:
    """A cache that 8 processes filled at once, and the sum that all of them gave."""
    cache = tmp_path_factory.mktemp("cache")
    processes = [start(cache) for _ in range(8)]
    found = [finish(process) for process in processes]
    compiled = sorted(count for count, _ in found)
    assert compiled[:-1] == [0] * 7, "one process compiles, the others wait and load"
    assert compiled[-1] > 10
    (total,) = {total for _, total in found}
    return cache, total


@pytest.mark.slow
def test_eight_processes_fill_an_empty_cache_at_once(filled):
    """One compiles, none crashes, all give the same numbers, and no scrap is left behind."""
    cache, _ = filled
    (folder,) = cache.iterdir()
    assert {path.suffix for path in folder.iterdir()} == {".kernel", ""}
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_a_later_process_loads(filled):
    """Nothing is compiled twice."""
    cache, total = filled
    assert finish(start(cache)) == (0, total)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flipped byte", "cut short", "empty", "another kernel's"])
def test_a_damaged_file_is_made_anew(filled, damage):
    """Machine code is run only if its digest holds; the cache heals."""
    cache, total = filled
    (folder,) = cache.iterdir()
    path = folder / "mel_lanes-float64.kernel"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "flipped byte": whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:],
            "cut short": whole[: len(whole) // 2],
            "empty": b"",
            "another kernel's": (folder / "row_moments-float64.kernel").read_bytes(),
        }[damage]
    )
    assert finish(start(cache)) == (1, total)
    assert finish(start(cache)) == (0, total)


@pytest.mark.slow
def test_without_a_folder_kernels_are_compiled_in_memory(filled, tmp_path):
    """A file where the folder should be: slower, and as right."""
    _, total = filled
    blocked = tmp_path / "file"
    blocked.touch()
    count, found = finish(start(blocked))
    assert (count > 10, found) == (True, total)


def test_a_folder_that_others_may_write_is_not_used(tmp_path, monkeypatch):
    """Loading runs code: only this user's folder will do."""
    monkeypatch.setenv(kernel_cache.VARIABLE, str(tmp_path))
    folder = kernel_cache.kernel_folder()
    assert folder is not None
    folder.chmod(0o777)
    assert kernel_cache.kernel_folder() is None


def test_the_folder_follows_the_environment(tmp_path, monkeypatch):
    """The variable first, then XDG_CACHE_HOME, then the home directory."""
    monkeypatch.setenv(kernel_cache.VARIABLE, str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert kernel_cache.cache_root() == tmp_path / "own"
    monkeypatch.delenv(kernel_cache.VARIABLE)
    assert kernel_cache.cache_root() == tmp_path / "xdg" / "birdstack"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert kernel_cache.cache_root() == tmp_path / "home" / ".cache" / "birdstack"


def test_a_lock_that_hangs_is_not_waited_for(tmp_path, monkeypatch):
    """A process that holds the lock for ever costs time, not the run."""
    monkeypatch.setattr(kernel_cache, "_PATIENCE_S", 0.2)
    path = tmp_path / "lock"
    with kernel_cache.file_lock(path) as first, kernel_cache.file_lock(path) as second:
        assert (first, second) == (True, False)
    with kernel_cache.file_lock(tmp_path / "lock") as third:
        assert third


def test_importing_the_extractor_compiles_and_imports_nothing_heavy():
    """Planning a run needs neither numba nor scipy nor librosa."""
    script = (
        "import sys\n"
        "from birdstack.features.fast_acoustic import FastAcousticExtractor\n"
        "from birdstack.features.acoustic_config import AcousticConfig\n"
        "from birdstack.store.keys import WindowGrid\n"
        "e = FastAcousticExtractor(AcousticConfig(), {'sample_rate_hz': 32000}, WindowGrid())\n"
        "e.specs\n"
        "heavy = {'librosa', 'numba', 'llvmlite', 'scipy', 'soundfile', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_kernel_refuses_other_types():
    """Nothing is compiled behind one's back for an array of another type."""
    kernels = kernel_cache.load_kernels("float64")
    with pytest.raises(TypeError, match="No matching definition"):
        kernels["row_moments"](np.zeros((2, 8), np.float32), 8, np.zeros(2), np.zeros(2))
