"""The files of a fold's training, and what they say when it has ended."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from birdstack.embeddings.extras import need
from birdstack.store.errors import ConfigError


@dataclass(frozen=True)
class FoldResult:
    """How the training of a fold ended.

    Attributes:
        fold: held out.
        status: `trained`; `finished`: it was trained before, nothing was done; `interrupted`:
            a checkpoint says where to go on.
        weights: the network, as safetensors; there unless `interrupted`.
        macro_auc: of the kept weights on the held-out fold, by window on the grid; NaN if not
            measured.
        per_class: AUC of each class by name, where it has one.
        epoch: whose weights are kept; under `interrupted`, epochs done.
        steps: taken, over all sessions.
        seconds: spent, over all sessions.
        resumed_from_step: where this session began; 0: at the beginning.
        skipped: recording_id, code and reason of what could not be heard.
        warnings: sentences about the split.
    """

    fold: int
    status: Literal["trained", "finished", "interrupted"]
    weights: Path
    macro_auc: float
    per_class: Mapping[str, float]
    epoch: int
    steps: int
    seconds: float
    resumed_from_step: int = 0
    skipped: tuple[tuple[str, str, str], ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoldFiles:
    """The files of one fold.

    Attributes:
        folder: of the backbone's models.
        fold: held out.
    """

    folder: Path
    fold: int

    @property
    def weights(self) -> Path:
        """The trained network."""
        return self.folder / f"fold-{self.fold}.safetensors"

    @property
    def metrics(self) -> Path:
        """Lines of JSON."""
        return self.folder / f"fold-{self.fold}.metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Folder of the checkpoint."""
        return self.folder / f"fold-{self.fold}.checkpoint"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's log."""
        return self.folder / "tensorboard" / f"fold-{self.fold}"

    def finished(self, recipe: Mapping[str, Any], warnings: tuple[str, ...]) -> FoldResult | None:
        """The result of a training that has ended; None if there is none.

        Raises:
            ConfigError: it was trained by another recipe, or is damaged.
        """
        if not self.weights.is_file():
            return None
        safetensors = need("safetensors", "networks", "training")
        try:
            with safetensors.safe_open(self.weights, framework="pt") as file:
                said = json.loads((file.metadata() or {}).get("training", "{}"))
        except safetensors.SafetensorError as error:
            message = f"{self.weights}: not a safetensors file ({error})"
            raise ConfigError(message, remedy="delete it to train the fold anew") from error
        require_same(self.weights, said.get("recipe", {}), recipe)
        result = said["result"]
        return FoldResult(
            fold=self.fold,
            status="finished",
            weights=self.weights,
            macro_auc=math.nan if result["macro_auc"] is None else result["macro_auc"],
            per_class=result["per_class"],
            epoch=result["epoch"],
            steps=result["steps"],
            seconds=result["seconds"],
            skipped=tuple((i, c, r) for i, c, r in result["skipped"]),
            warnings=warnings,
        )


def require_same(path: Path, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to go on with what was made by another recipe.

    Raises:
        ConfigError: names the settings that differ.
    """
    before, now = _flat(held), _flat(json.loads(json.dumps(wanted)))
    changed = [key for key in sorted(before | now) if before.get(key) != now.get(key)]
    if not changed:
        return
    told = ", ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in changed[:3])
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""  # noqa: PLR2004 - as shown
    message = f"{path}: was trained with other settings or data: {told}{more}"
    raise ConfigError(message, remedy="use another folder, or delete it to train anew")


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"train": {"lr": 1}}` as `{"train.lr": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
