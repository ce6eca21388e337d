"""Where a training stands, on disk: tensors as safetensors, the rest as JSON, no code.

A checkpoint is two files; the JSON is written last and names the digest of the tensors. A
kill at any moment leaves the checkpoint before it whole.

Imports torch: imported by training alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from birdstack.embeddings.extras import need

_FORMAT = 1


@dataclass(frozen=True)
class Saved:
    """A checkpoint.

    Attributes:
        tensors: by name, on the processor.
        state: JSON-able.
    """

    tensors: Mapping[str, torch.Tensor]
    state: Mapping[str, Any]


class CheckpointFolder:
    """Keeps the newest checkpoint of one training.

    Args:
        folder: for these files alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]
    ) -> None:
        """Write a checkpoint, then drop those before it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        held = to_bytes(tensors, {})
        write_whole(self._path(step, "safetensors"), held)
        digest = hashlib.sha256(held).hexdigest()
        told = {"format": _FORMAT, "step": step, "tensors": digest, "state": state}
        write_whole(self._path(step, "json"), json.dumps(told, indent=1).encode())
        for path in self.folder.iterdir():
            if path.stem != self._path(step, "json").stem:
                path.unlink(missing_ok=True)

    def load(self) -> Saved | None:
        """The newest whole checkpoint; None if there is none."""
        for told in sorted(self.folder.glob("step-*.json"), reverse=True):
            try:
                said = json.loads(told.read_text("utf-8"))
                held = told.with_suffix(".safetensors").read_bytes()
            except (OSError, ValueError):
                continue
            whole = hashlib.sha256(held).hexdigest() == said.get("tensors")
            if whole and said.get("format") == _FORMAT:
                return Saved(from_bytes(held), said["state"])
        return None

    def remove(self) -> None:
        """Drop the folder and what is in it."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                path.unlink(missing_ok=True)
            self.folder.rmdir()

    def _path(self, step: int, suffix: str) -> Path:
        return self.folder / f"step-{step:010d}.{suffix}"


def to_bytes(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """Tensors and words as a safetensors file."""
    need("safetensors", "networks", "training")
    from safetensors.torch import save  # noqa: PLC0415 - checked above

    # Rows in order, whatever layout the training used.
    plain = {
        name: value.detach().cpu().contiguous().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    held: bytes = save(plain, metadata=dict(metadata) or None)
    return held


def from_bytes(held: bytes) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file."""
    from safetensors.torch import load  # noqa: PLC0415 - it was there to write the file

    tensors: dict[str, torch.Tensor] = load(held)
    return tensors


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is either there whole or as it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
