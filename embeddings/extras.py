"""Optional dependencies: imported where they are needed, missed with the extra's name."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from birdstack.store.errors import ConfigError


def need(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a module that an extra of birdstack brings.

    Args:
        module: as in an import statement.
        extra: the extra that holds it.
        purpose: what it is needed for, as the subject of a sentence.

    Raises:
        ConfigError: it is not installed; names the extra.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise  # it is installed, and something it needs is not
        message = f"{purpose} needs the package {package!r}, which is not installed"
        raise ConfigError(message, remedy=f"pip install 'birdstack[{extra}]'") from error


def has(module: str) -> bool:
    """Whether a module could be imported; nothing is loaded."""
    return importlib.util.find_spec(module) is not None
