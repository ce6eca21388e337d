"""Reading a checkpoint that somebody else may have written: tensors and classes, no code.

Imports torch inside its functions.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birdstack.embeddings.extras import need
from birdstack.store.errors import ConfigError

if TYPE_CHECKING:
    import torch

CLASSES = "classes"
"""Key of the class list: JSON in the metadata of safetensors, a list in a `torch.save` file."""

_NESTED = ("state_dict", "model_state_dict", "model")
_SHOWN = 3


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        path: the file.
        tensors: by name.
        classes: names of the logits, in order; None if the file does not say.
    """

    path: Path
    tensors: Mapping[str, torch.Tensor]
    classes: tuple[str, ...] | None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing that it holds is run.

    Args:
        path: a `.safetensors` file, or one written by `torch.save` that holds tensors by name
            (or a dictionary with `state_dict`, `model_state_dict` or `model`, and `classes`).

    Raises:
        ConfigError: the file is missing, holds code, or is no checkpoint.
    """
    _require_file(path)
    need("torch", "networks", "a checkpoint")
    return _safetensors(path) if path.suffix == ".safetensors" else _saved(path)


def checkpoint_classes(path: Path) -> tuple[str, ...] | None:
    """Classes of a checkpoint; of safetensors only the header is read.

    Raises:
        ConfigError: as `read_checkpoint`.
    """
    if path.suffix != ".safetensors":
        return read_checkpoint(path).classes
    _require_file(path)
    with _opened(path) as file:
        return _class_list(path, (file.metadata() or {}).get(CLASSES))


def require_classes(path: Path, held: Sequence[str] | None, wanted: Sequence[str]) -> None:
    """Refuse a checkpoint whose classes are others, or in another order.

    Args:
        path: of the checkpoint, for the message.
        held: what the checkpoint says; None: nothing, which is let pass.
        wanted: the store's classes.

    Raises:
        ConfigError: they differ.
    """
    if held is None or tuple(held) == tuple(wanted):
        return
    remedy = "Use a checkpoint trained on these classes in this order, or train the head anew."
    if len(held) != len(wanted):
        message = f"{path}: the checkpoint has {len(held)} classes, the store has {len(wanted)}"
        raise ConfigError(message, remedy=remedy)
    place = next(i for i, pair in enumerate(zip(held, wanted, strict=True)) if pair[0] != pair[1])
    same = "in another order" if set(held) == set(wanted) else "with other names"
    message = (
        f"{path}: the checkpoint has the classes {same}: class {place} is {held[place]!r}, "
        f"the store's is {wanted[place]!r}"
    )
    raise ConfigError(message, remedy=remedy)


def file_digest(path: Path) -> str:
    """sha256 of a file.

    Raises:
        ConfigError: it is missing.
    """
    _require_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_file(path: Path) -> None:
    if not path.is_file():
        message = f"{path}: there is no checkpoint file of that name"
        raise ConfigError(
            message, remedy="Set weights to packaged, hub, random or the path of a checkpoint."
        )


def _opened(path: Path) -> Any:
    """A safetensors file, opened for torch."""
    safetensors = need("safetensors", "networks", "a .safetensors checkpoint")
    try:
        return safetensors.safe_open(path, framework="pt")
    except safetensors.SafetensorError as error:
        raise _no_checkpoint(path, f"it is not a safetensors file ({error})") from error


def _safetensors(path: Path) -> Checkpoint:
    with _opened(path) as file:
        classes = _class_list(path, (file.metadata() or {}).get(CLASSES))
        return Checkpoint(path, {name: file.get_tensor(name) for name in file.keys()}, classes)  # noqa: SIM118 - not a dictionary


def _saved(path: Path) -> Checkpoint:
    import torch  # noqa: PLC0415 - seconds, and only networks need it

    try:
        with warnings.catch_warnings():
            # A guess at what may be unsupported; what is, raises.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        message = (
            f"{path}: a checkpoint must hold tensors and plain values, this file asks for other "
            "objects, whose code could do anything; nothing of it was run"
        )
        raise ConfigError(
            message, remedy="Save the tensors alone: safetensors.torch.save_file(state_dict, path)."
        ) from error
    except Exception as error:  # broken bytes end a reader in any way
        raise _no_checkpoint(path, _first_line(error)) from error
    if not isinstance(held, dict):
        raise _no_checkpoint(path, f"it holds one {type(held).__name__}, not tensors by name")
    nested = next((held[key] for key in _NESTED if isinstance(held.get(key), dict)), held)
    tensors = {str(name): value for name, value in nested.items() if torch.is_tensor(value)}
    if not tensors:
        raise _no_checkpoint(path, "it holds no tensors")
    return Checkpoint(path, tensors, _class_list(path, held.get(CLASSES)))


def _class_list(path: Path, told: Any) -> tuple[str, ...] | None:
    if told is None:
        return None
    try:
        names = json.loads(told) if isinstance(told, str) else told
    except json.JSONDecodeError as error:
        raise _no_checkpoint(path, f"its {CLASSES!r} are not JSON ({error})") from error
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise _no_checkpoint(path, f"its {CLASSES!r} must be a list of names")
    return tuple(names)


def _no_checkpoint(path: Path, why: str) -> ConfigError:
    message = f"{path}: not a checkpoint that can be read: {why}"
    return ConfigError(
        message, remedy="Give a .safetensors file, or one that torch.save wrote of a state_dict."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def shown(names: Sequence[str]) -> str:
    """The first few names and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
