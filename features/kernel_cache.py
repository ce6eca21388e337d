"""Machine code of the fused kernels: compiled once for a machine, shared by its processes.

Compiling takes seconds; loading takes milliseconds. numba's own cache is not used, because
several processes that fill it at once can leave files that crash later calls. Here:

- One file holds one kernel for one precision: a line with a sha256 of the rest, then what
  numba serialises. A file that fails its digest, or cannot be read, is compiled anew.
- Files appear by renaming a finished one, and one process compiles at a time, under a lock
  that ends with the process.
- The folder is named after everything the machine code depends on (this package's kernels,
  numba, llvmlite, Python, the processor and its features), and belongs to this user alone:
  loading runs code.
- Where the folder cannot be had, kernels are compiled in memory.

The folder lies under `BIRDSTACK_CACHE`, or else `XDG_CACHE_HOME/birdstack`, or else
`~/.cache/birdstack`.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import pickle
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any, Literal

from birdstack.features import (
    fused_composites,
    fused_kernels,
    fused_powers,
    fused_row_kernels,
    picture_kernels,
)
from birdstack.features.fused_composites import COMPOSITES
from birdstack.features.fused_kernels import LANE_KERNELS, PART
from birdstack.features.fused_powers import POWER_KERNELS
from birdstack.features.fused_row_kernels import ROW_KERNELS
from birdstack.features.picture_kernels import PICTURE_KERNELS

Precision = Literal["float64", "float32"]
Kernels = Mapping[str, Callable[..., Any]]

VARIABLE = "BIRDSTACK_CACHE"
_KERNELS = LANE_KERNELS | ROW_KERNELS | POWER_KERNELS | PICTURE_KERNELS | COMPOSITES
_SOURCES = (
    fused_kernels.__file__,
    fused_row_kernels.__file__,
    fused_powers.__file__,
    fused_composites.__file__,
    picture_kernels.__file__,
)
_LETTER: dict[Precision, str] = {"float64": "f8", "float32": "f4"}
_PATIENCE_S = 180.0  # then another process hangs: compile in memory
_POLL_S = 0.05

_loaded: dict[Precision, Kernels] = {}
_loading = threading.Lock()


def load_kernels(precision: Precision = "float64") -> Kernels:
    """Compiled kernels by name; the first call of a process loads or compiles them.

    Thread-safe. All release the global interpreter lock.
    """
    if precision not in _loaded:
        with _loading:
            if precision not in _loaded:
                _loaded[precision] = _prepare(precision)
    return _loaded[precision]


def cache_root() -> Path | None:
    """Folder of all caches of this package; None where there is no home either."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "birdstack"
    except RuntimeError:  # no home directory can be determined
        return None


def kernel_folder() -> Path | None:
    """Folder of this machine's kernels; None where it cannot be had or is not private."""
    root = cache_root()
    if root is None:
        return None
    folder = root / f"kernels-{_fingerprint()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = folder.stat()
    except OSError:
        return None
    others_write = info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    mine = info.st_uid == os.getuid() and not others_write
    return folder if mine and os.access(folder, os.W_OK | os.X_OK) else None


def _fingerprint() -> str:
    """What machine code depends on, in 16 hexadecimal digits."""
    import llvmlite  # noqa: PLC0415 - heavy; only here
    import numba  # noqa: PLC0415 - see above
    from numba.core.registry import cpu_target  # noqa: PLC0415 - see above

    parts = [
        *(Path(source).read_bytes().hex() for source in (*_SOURCES, __file__)),
        numba.__version__,
        llvmlite.__version__,
        sys.version,
        *map(str, cpu_target.target_context.codegen().magic_tuple()),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _prepare(precision: Precision) -> Kernels:
    """Load every kernel from the cache, or compile what is missing."""
    called = (name for name, (_, types, _) in _KERNELS.items() if types != PART)
    kernels = {name: CachedKernel(name, precision) for name in called}
    folder = kernel_folder()
    if folder is None:
        return {name: kernel.compiled() for name, kernel in kernels.items()}
    missing = [kernel for kernel in kernels.values() if not kernel.load(folder)]
    if missing:
        with file_lock(folder / "lock") as locked:
            for kernel in missing:
                if not kernel.load(folder):  # another process may have been first
                    kernel.compile()
                    if locked:
                        kernel.save(folder)
    return {name: kernel.compiled() for name, kernel in kernels.items()}


def _dispatcher(name: str) -> Any:
    """A kernel for numba to compile, with those that it calls, each under its own rules."""
    import numba  # noqa: PLC0415 - see _fingerprint

    function, _, reorder = _KERNELS[name]
    # numba looks called functions up by their names, and wants to find its own kind there.
    parts = {each: _part(each) for each in function.__code__.co_names if each in _KERNELS}
    linked = FunctionType(function.__code__, {**function.__globals__, **parts}, name)
    return numba.njit(nogil=True, fastmath=set(reorder), error_model="numpy")(linked)


_part = functools.cache(_dispatcher)
"""Such a kernel to be called by others, which compile it for the types that they give."""


class CachedKernel:
    """One kernel in one precision, on its way to machine code."""

    def __init__(self, name: str, precision: Precision) -> None:
        types = _KERNELS[name][1]
        self.file = f"{name}-{precision}.kernel"
        self.dispatcher = _dispatcher(name)
        self.signature = types.replace("F", _LETTER[precision])
        self.ready = False

    def compiled(self) -> Callable[..., Any]:
        """The kernel; calls with other types than declared raise TypeError."""
        if not self.ready:
            self.compile()
        self.dispatcher.disable_compile()
        kernel: Callable[..., Any] = self.dispatcher
        return kernel

    def compile(self) -> None:
        """Compile for the declared types."""
        self.dispatcher.compile(self.signature)
        self.ready = True

    def load(self, folder: Path) -> bool:
        """Take the machine code from the cache; False if there is none that can be used."""
        try:
            digest, _, payload = (folder / self.file).read_bytes().partition(b"\n")
            if self._digest(payload) != digest:
                return False
            self._rebuild(payload)
        except Exception:  # noqa: BLE001 - whatever is wrong with the file, it can be made anew
            return False
        self.ready = True
        return True

    def save(self, folder: Path) -> None:
        """Put the machine code into the cache; a full disk only costs the next process time."""
        payload = self._serialised()
        with contextlib.suppress(OSError):
            handle, scratch = tempfile.mkstemp(dir=folder, suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(self._digest(payload) + b"\n" + payload)
                Path(scratch).replace(folder / self.file)
            finally:
                Path(scratch).unlink(missing_ok=True)

    def _digest(self, payload: bytes) -> bytes:
        """Names the kernel too, so that one file cannot stand in for another."""
        said = f"{self.file} {self.signature}\n".encode()
        return hashlib.sha256(said + payload).hexdigest().encode()

    def _serialised(self) -> bytes:
        from numba.core.serialize import dumps  # noqa: PLC0415 - see _fingerprint

        (result,) = self.dispatcher.overloads.values()
        payload: bytes = dumps(result._reduce())  # type: ignore[no-untyped-call]  # noqa: SLF001 - as numba.core.caching does
        return payload

    def _rebuild(self, payload: bytes) -> None:
        from numba.core.compiler import CompileResult  # noqa: PLC0415 - see _fingerprint

        target = self.dispatcher.targetctx
        target.refresh()
        reduced = pickle.loads(payload)  # noqa: S301 - a private folder, and the digest holds
        result = CompileResult._rebuild(target, *reduced)  # type: ignore[no-untyped-call]  # noqa: SLF001 - see _serialised
        target.insert_user_function(result.entry_point, result.fndesc, [result.library])
        self.dispatcher.add_overload(result)


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[bool]:
    """Hold the file's lock; False where it cannot be had (in time, or on this file system)."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield False
        return
    try:
        yield _acquired(handle)
    finally:
        os.close(handle)  # ends the lock


def _acquired(handle: int) -> bool:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_POLL_S)
        except OSError:
            return False
        else:
            return True
    return False
