"""Machine code for kernels of other rooms, out of the cache that the fused kernels use.

What is heavy on a processor is written in plain Python beside what it belongs to, and compiled
here: numba stays in this room, and so do the rules of `kernel_cache`.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from birdstack.features.kernel_cache import CachedKernel, file_lock, kernel_folder


def compiled(function: Callable[..., None], types: str) -> Callable[..., None]:
    """A kernel from the cache, or compiled and put there.

    Args:
        function: calls no other kernel.
        types: numba's signature, such as `void(f4[:, ::1], i8)`; calls with others raise
            TypeError.
    """
    kernel = _OtherKernel(function, types)
    folder = kernel_folder()
    if folder is not None and not kernel.load(folder):
        with file_lock(folder / "lock") as locked:
            if not kernel.load(folder):  # another process may have been first
                kernel.compile()
                if locked:
                    kernel.save(folder)
    return kernel.compiled()


class _OtherKernel(CachedKernel):
    """A kernel that is not in the tables of this room; its file is named after its source."""

    def __init__(self, function: Callable[..., None], types: str) -> None:
        import numba  # noqa: PLC0415 - heavy

        source = Path(inspect.getfile(function)).read_bytes()
        digest = hashlib.sha256(source).hexdigest()[:16]
        self.file = f"{function.__name__}-{digest}.kernel"
        jit: Any = numba.njit(nogil=True, error_model="numpy")
        self.dispatcher = jit(function)
        self.signature = types
        self.ready = False
