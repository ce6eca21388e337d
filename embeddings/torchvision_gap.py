"""The one door to timm, past a torchvision that does not fit the installed torch.

timm imports torchvision, and torchvision's Python files describe operators (`nms`, `qnms`)
that its compiled library defines. The torchvision of the package index is built for CUDA:
next to a CPU build of torch its library cannot load, and the import ends with `operator
torchvision::nms does not exist`. No network here uses those operators, so their names are
declared, without code behind them, and only where the library cannot load.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

from birdstack.embeddings.extras import need

_BOXES = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

_door = threading.Lock()
_declared: list[Any] = []  # a library's operators live as long as the object


def import_timm() -> ModuleType:
    """Import timm; thread-safe, and once a process in effect.

    Raises:
        ConfigError: the extra `networks` is not installed.
    """
    with _door:
        need("torch", "networks", "a neural network")
        _close_gap()
        return need("timm", "networks", "a neural network")


def _close_gap() -> None:
    """Declare torchvision's operators if nothing else can."""
    import torch  # noqa: PLC0415 - seconds, and only networks need it

    if hasattr(torch.ops.torchvision, _BOXES[0]) or not _has_torchvision() or _loads():
        return
    door: Any = torch.library  # untyped
    library = door.Library("torchvision", "DEF")
    for operator in _BOXES:
        library.define(operator + _SCHEMA)
    _declared.append(library)


def _has_torchvision() -> bool:
    return importlib.util.find_spec("torchvision") is not None


def _loads() -> bool:
    """Whether torchvision's compiled library fits this torch; loads it if so."""
    import torch  # noqa: PLC0415 - as above

    spec = importlib.util.find_spec("torchvision")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            library = Path(folder, "_C" + suffix)
            if library.is_file():
                ops: Any = torch.ops  # untyped
                try:
                    ops.load_library(library)
                except OSError:
                    return False
                return True
    return False
