"""What a window is, and where its numbers live.

The room at the bottom of the house: recordings, windows, labels, folds, views and
the commit log that keeps them. It knows nothing of audio, networks or boosters.

Example:
    >>> import tempfile
    >>> from birdstack.store import Store
    >>> Store.create(tempfile.mkdtemp()).snapshot().views
    []
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from birdstack.store.keys import WindowGrid, WindowKey
    from birdstack.store.matrix import Matrix
    from birdstack.store.recordings import Recording
    from birdstack.store.snapshot import Snapshot
    from birdstack.store.store import Store
    from birdstack.store.views import Column, ViewSpec

__all__ = [
    "Column",
    "Matrix",
    "Recording",
    "Snapshot",
    "Store",
    "ViewSpec",
    "WindowGrid",
    "WindowKey",
]

_HOMES = {
    "Column": "views",
    "Matrix": "matrix",
    "Recording": "recordings",
    "Snapshot": "snapshot",
    "Store": "store",
    "ViewSpec": "views",
    "WindowGrid": "keys",
    "WindowKey": "keys",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: the command's help needs none of them."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
