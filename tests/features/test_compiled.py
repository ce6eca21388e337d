"""Kernels of other rooms come out of the same cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from birdstack.features import compiled as compiled_module
from birdstack.features.compiled import compiled

TYPES = "void(f8[::1], i8, f8[::1])"


def doubled(values: np.ndarray, count: int, out: np.ndarray) -> None:
    """Twice the first values."""
    for at in range(count):
        out[at] = 2 * values[at]


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of one's own."""
    monkeypatch.setenv("BIRDSTACK_CACHE", str(tmp_path))
    return tmp_path


def _run(kernel) -> list[float]:
    out = np.zeros(3)
    kernel(np.array([1.0, 2.0, 3.0]), 2, out)
    return out.tolist()


def _refuse(self: object) -> None:
    pytest.fail("it was compiled again")


def test_a_kernel_is_compiled_once_for_all_processes(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time it is loaded."""
    assert _run(compiled(doubled, TYPES)) == [2.0, 4.0, 0.0]
    (file,) = cache.rglob("doubled-*.kernel")
    with monkeypatch.context() as patch:
        patch.setattr(compiled_module._OtherKernel, "compile", _refuse)
        assert _run(compiled(doubled, TYPES)) == [2.0, 4.0, 0.0]

    file.write_bytes(file.read_bytes()[:-9])
    assert _run(compiled(doubled, TYPES)) == [2.0, 4.0, 0.0]


def test_other_types_are_refused(cache: Path) -> None:
    """Nothing is compiled behind one's back."""
    kernel = compiled(doubled, TYPES)
    assert cache.is_dir()
    with pytest.raises(TypeError):
        kernel(np.zeros(3, dtype=np.float32), 2, np.zeros(3))


def test_without_a_cache_it_is_compiled_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no folder can be had."""
    monkeypatch.setattr(compiled_module, "kernel_folder", lambda: None)
    assert _run(compiled(doubled, TYPES)) == [2.0, 4.0, 0.0]
