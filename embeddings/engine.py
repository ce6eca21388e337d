"""What runs a network: one interface over torch, ONNX Runtime and OpenVINO.

`torch` in eager mode is the reference; every other kind is held against it by `parity`.
Nothing here imports a heavy library before an engine is made.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

import numpy as np

from birdstack.embeddings.extras import has
from birdstack.store.errors import BirdstackError, ConfigError

if TYPE_CHECKING:
    from torch import nn

EngineKind = Literal[
    "torch", "torch-jit", "onnxruntime", "openvino", "openvino-bf16", "openvino-int8"
]
KINDS: tuple[EngineKind, ...] = get_args(EngineKind)
BATCH = 8
"""Windows in one run: 4 to 8 were fastest on the processors measured, more is slower."""

_CPUINFO = Path("/proc/cpuinfo")
_NATIVE_BF16 = {"avx512_bf16", "amx_bf16"}


class EngineError(BirdstackError):
    """An engine cannot be made from a network, or gives answers that cannot be used."""


@runtime_checkable
class Engine(Protocol):
    """A network that is ready to run. Thread-safe; cannot be pickled."""

    @property
    def name(self) -> str:
        """Its kind, for messages and reports."""
        ...

    def run(self, inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run prepared windows, float32 `[window, *input_shape]`; any number, also none.

        Returns:
            float32 `[window, dim]`, and `[window, class]` if the network has classes. The
            answer for one window does not depend on the others beside it, beyond the rounding
            of sums in another order.

        Raises:
            EngineError: the windows have another shape than the engine was made for, or a window
                or an answer is NaN or infinite; names the rows.
        """
        ...


def make_engine(
    network: nn.Module,
    input_shape: tuple[int, ...],
    kind: EngineKind,
    *,
    cache: Path | None = None,
    batch: int = BATCH,
    threads: int | None = None,
    calibration: np.ndarray | None = None,
) -> Engine:
    """Make an engine of one kind.

    The engine has not been compared with the network: `parity.checked_engine` makes one and
    compares it.

    Args:
        network: has `dim` and `n_classes` and gives `(embedding,)` or `(embedding, logits)`; it
            is left as it is, and later changes to it do not reach the engine.
        input_shape: of one window.
        kind: which library, at which precision.
        cache: folder for converted networks; None: convert every time.
        batch: most windows in one run of the network.
        threads: how many threads will call `run` at once at most (more are served, one after
            another); None: as many as there are processors to use. Each call uses one thread.
        calibration: float32 `[window, *input_shape]`, for `openvino-int8` alone.

    Raises:
        ConfigError: the package is not installed, or calibration is missing.
        EngineError: the network cannot be converted.
    """
    if kind not in KINDS:
        message = f"there is no inference engine {kind!r}"
        raise ConfigError(message, remedy=f"choose one of {', '.join(KINDS)}")
    if batch < 1:
        message = f"engine {kind}: batch is {batch}, it must be 1 or more"
        raise ConfigError(message, remedy=f"leave batch at {BATCH}")
    shape = tuple(input_shape)
    if kind in ("torch", "torch-jit"):
        from birdstack.embeddings.engine_torch import JitEngine, TorchEngine  # noqa: PLC0415

        return (TorchEngine if kind == "torch" else JitEngine)(network, shape, batch)
    if kind == "onnxruntime":
        from birdstack.embeddings.engine_onnx import OnnxEngine  # noqa: PLC0415 - as needed

        return OnnxEngine(network, shape, batch, cache)
    from birdstack.embeddings.engine_openvino import OpenVinoEngine  # noqa: PLC0415 - as needed

    return OpenVinoEngine(
        network,
        shape,
        kind,
        cache=cache,
        batch=batch,
        threads=threads or processors(),
        calibration=calibration,
    )


def choose_kind(
    precision: Literal["exact", "fast"] = "exact", *, cpuinfo: Path = _CPUINFO
) -> EngineKind:
    """The quickest kind that is installed and runs natively on this processor.

    Args:
        precision: `exact`: float32 sums, OpenVINO before ONNX Runtime before torch; `fast`:
            OpenVINO in bfloat16 where the processor multiplies it natively (elsewhere it is
            simulated, slower than float32), or else as `exact`.
        cpuinfo: where Linux lists the processor's features; other systems have no such file,
            and no processor of theirs has these features.
    """
    if has("openvino"):
        return "openvino-bf16" if precision == "fast" and native_bf16(cpuinfo) else "openvino"
    # to ONNX it takes two packages more
    if all(has(package) for package in ("onnxruntime", "onnx", "onnxscript")):
        return "onnxruntime"
    return "torch"


def native_bf16(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the processor multiplies bfloat16 itself."""
    try:
        text = cpuinfo.read_text("utf-8", errors="replace")
    except OSError:
        return False
    flags = (line.partition(":")[2] for line in text.splitlines() if line.startswith("flags"))
    return bool(_NATIVE_BF16 & set(next(flags, "").split()))


def processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
