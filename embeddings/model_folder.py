"""A trained backbone on disk: heads or networks of every fold, and what they were trained on.

```
MODELS/<backbone>/<key>/
  model.json               what it is; written last, so a folder without it is unfinished
  training.csv             recording_id, content_hash, group, fold: who heard what
  heads.safetensors        mode frozen: weight.<fold> [class, dim], bias.<fold> [class]
  fold-<k>.safetensors     mode full: the network trained without fold k
```

The key names the training that was asked for, the fingerprint what came of it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.extras import need
from birdstack.embeddings.linear_head import LinearHead
from birdstack.store.errors import CorruptError, FormatVersionError, UsageError
from birdstack.store.views import canonical_json

FORMAT = 1
_MODEL, _TRAINING, _HEADS = "model.json", "training.csv", "heads.safetensors"
_FINGERPRINT = 16
_TRAINED_ON = {
    "recording_id": pl.String,
    "content_hash": pl.String,
    "group": pl.String,
    "fold": pl.Int32,
}


@dataclass(frozen=True)
class FoldModel:
    """A backbone that was trained once for each fold, without that fold.

    Attributes:
        folder: where it lies.
        config: the backbone it began from.
        mode: `frozen` (one trunk, a head for each fold) or `full` (a network for each fold).
        classes: names of the logits, in order.
        folds: numbers of the folds, ascending.
        files: file name -> sha256.
        training: JSON-able: settings and digest of the data.
    """

    folder: Path
    config: BackboneConfig
    mode: Literal["frozen", "full"]
    classes: tuple[str, ...]
    folds: tuple[int, ...]
    files: Mapping[str, str]
    training: Mapping[str, Any] = field(hash=False)

    @property
    def fingerprint(self) -> str:
        """What TRAINED and the recipes of logits call this model: a hash of its numbers."""
        told = {"mode": self.mode, "classes": self.classes, "files": dict(self.files)}
        told["training"] = dict(self.training)
        return hashlib.sha256(canonical_json(told).encode()).hexdigest()[:_FINGERPRINT]

    @property
    def checkpoints(self) -> list[Path]:
        """Networks of a model in mode `full`, in the order of `folds`."""
        return [self.folder / checkpoint_name(fold) for fold in self.folds]

    def heads(self) -> dict[int, LinearHead]:
        """Heads of a model in mode `frozen`, by fold.

        Raises:
            CorruptError: the file is not the one that was written.
        """
        self.verify(_HEADS)
        found = _safetensors().load_file(self.folder / _HEADS)
        return {
            fold: LinearHead(found[f"weight.{fold}"], found[f"bias.{fold}"]) for fold in self.folds
        }

    def trained_on(self) -> pl.DataFrame:
        """`recording_id`, `content_hash`, `group`, `fold` of everything it was trained on.

        Raises:
            CorruptError: the file is not the one that was written: leaks are judged by it.
        """
        self.verify(_TRAINING)
        return pl.read_csv(self.folder / _TRAINING, schema=_TRAINED_ON)

    def verify(self, *names: str) -> None:
        """Compare files with their hashes.

        Raises:
            CorruptError: a file is missing or has changed.
        """
        for name in names or self.files:
            path = self.folder / name
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                message = f"{path}: cannot be read: {error.strerror}"
                raise CorruptError(message, remedy="train again: birdstack train") from error
            if digest != self.files.get(name):
                message = f"{path}: sha256 {digest[:12]}..., {_MODEL} says {self.files.get(name)}"
                raise CorruptError(message, remedy="delete its folder and run birdstack train")


def checkpoint_name(fold: int) -> str:
    """File of the network that was trained without a fold."""
    return f"fold-{fold}.safetensors"


def save_heads(folder: Path, heads: Mapping[int, LinearHead]) -> None:
    """Write the heads of a frozen backbone."""
    tensors = {}
    for fold, head in heads.items():
        tensors[f"weight.{fold}"] = np.ascontiguousarray(head.weight)
        tensors[f"bias.{fold}"] = np.ascontiguousarray(head.bias)
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / _HEADS, _safetensors().save(tensors))


def seal(
    folder: Path,
    config: BackboneConfig,
    mode: Literal["frozen", "full"],
    *,
    classes: Sequence[str],
    folds: Sequence[int],
    training: Mapping[str, Any],
    trained_on: pl.DataFrame,
) -> FoldModel:
    """Finish a folder whose heads or networks are written.

    Args:
        folder: of the model.
        config: the backbone it began from.
        mode: what was trained.
        classes: names of the logits.
        folds: numbers of the folds.
        training: JSON-able: settings and digest of the data.
        trained_on: `recording_id`, `content_hash`, `group`, `fold` of what was trained on.
    """
    wanted = [_HEADS] if mode == "frozen" else [checkpoint_name(fold) for fold in folds]
    table = trained_on.select(list(_TRAINED_ON)).sort("recording_id")
    _replace(folder / _TRAINING, table.write_csv().encode())
    files = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in [*wanted, _TRAINING]}
    model = FoldModel(folder, config, mode, tuple(classes), tuple(folds), files, dict(training))
    told = {
        "format": FORMAT,
        "fingerprint": model.fingerprint,
        "mode": mode,
        "backbone": config.model_dump(mode="json"),
        "classes": list(classes),
        "folds": list(folds),
        "files": files,
        "training": dict(training),
    }
    _replace(folder / _MODEL, json.dumps(told, indent=1).encode())
    return model


def load_model(folder: Path) -> FoldModel:
    """A model that was finished.

    Raises:
        UsageError: the folder holds none.
        FormatVersionError: a newer birdstack wrote it.
        CorruptError: `model.json` is not what was written.
    """
    path = folder / _MODEL
    try:
        told = json.loads(path.read_bytes())
    except OSError as error:
        message = f"{folder}: no finished model ({_MODEL} {error.strerror})"
        raise UsageError(message, remedy="run birdstack train") from error
    except ValueError as error:
        raise _not_a_model(path, f"not JSON: {error}") from error
    if not isinstance(told, dict) or not isinstance(told.get("format"), int):
        raise _not_a_model(path, "it does not say in which format it is")
    if told["format"] != FORMAT:
        message = f"{path}: format {told['format']}, this birdstack reads {FORMAT}"
        raise FormatVersionError(message, remedy="install the birdstack that wrote it")
    try:
        model = FoldModel(
            folder=folder,
            config=BackboneConfig.model_validate(told["backbone"]),
            mode=told["mode"],
            classes=tuple(told["classes"]),
            folds=tuple(told["folds"]),
            files=told["files"],
            training=told["training"],
        )
        fingerprint = told["fingerprint"]
    except (KeyError, TypeError, ValueError) as error:
        raise _not_a_model(path, f"a part is missing or wrong: {error!r}") from error
    if model.fingerprint != fingerprint:
        raise _not_a_model(path, f"its content does not have the fingerprint {fingerprint}")
    return model


def _not_a_model(path: Path, why: str) -> CorruptError:
    return CorruptError(f"{path}: {why}", remedy="delete the folder and run birdstack train")


def finished(folder: Path) -> bool:
    """Whether a folder holds a finished model."""
    return (folder / _MODEL).is_file()


def _safetensors() -> Any:
    return need("safetensors.numpy", "networks", "reading a trained model")


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
