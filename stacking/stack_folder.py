"""A saved stack: one directory, no pickles.

```
DIR/
  stack.json               what it is, with the SHA-256 of every other file; written last
  weights.json             all numbers but the trees'; floats as Python writes them, exact
  boosters/shared-<fold>.txt|json      LightGBM's text or XGBoost's JSON
  boosters/class-<number>-<fold>.txt|json
```

Reading it back gives bit-equal predictions.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from birdstack.stacking.class_columns import ColumnPlan
from birdstack.stacking.class_model import ClassModel, FoldModel
from birdstack.stacking.fold_scales import Spread
from birdstack.stacking.logistic import Linear
from birdstack.stacking.shipped import Shipped
from birdstack.stacking.stack_model import Scale, SharedLayer, StackModel
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.trees import Trees, read_trees
from birdstack.store.errors import CorruptError, FormatVersionError, UsageError

FORMAT = 1
_INDEX, _WEIGHTS, _BOOSTERS = "stack.json", "weights.json", "boosters"
_SUFFIX = {"lightgbm": "txt", "xgboost": "json"}
_VERSIONS = ("birdstack", "numpy", "lightgbm", "xgboost-cpu")


def save_stack(
    shipped: Shipped, folder: str | Path, *, made_from: Mapping[str, Any] | None = None
) -> Path:
    """Write what predicts into a folder, whole or not at all.

    Args:
        shipped: what a `Stacker` ends with.
        folder: to be made; a saved stack that lies there is replaced.
        made_from: JSON-able note on where it comes from, such as the snapshot pin.

    Raises:
        UsageError: the folder holds something else.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / _INDEX).is_file():
        message = f"{folder} holds files, but no saved stack"
        raise UsageError(message, remedy="name an empty folder, or one that does not exist")
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    shutil.rmtree(aside, ignore_errors=True)
    (aside / _BOOSTERS).mkdir(parents=True)
    texts: dict[str, str] = {}
    weights = {
        "spread": _spread(shipped.spread),
        "learnt": dict(shipped.learnt),
        "stack": None if shipped.stack is None else _stack(shipped.stack, texts),
    }
    texts[_WEIGHTS] = json.dumps(_plain(weights), allow_nan=False)
    for name, text in texts.items():
        (aside / name).write_text(text, "utf-8", newline="")
    index = {
        "format": FORMAT,
        "what": shipped.what,
        "backbones": shipped.backbones,
        "classes": shipped.classes,
        "extra_names": shipped.extra_names,
        "made_from": dict(made_from or {}),
        "versions": {name: metadata.version(name) for name in _VERSIONS if _installed(name)},
        "files": {name: _digest(text.encode()) for name, text in sorted(texts.items())},
    }
    (aside / _INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    aside.rename(folder)
    return folder


def load_stack(folder: str | Path) -> Shipped:
    """Read what `save_stack` wrote.

    Raises:
        UsageError: there is no saved stack.
        FormatVersionError: a newer birdstack wrote it.
        CorruptError: a file is missing or not as it was written.
    """
    folder = Path(folder)
    path = folder / _INDEX
    if not path.is_file():
        message = f"{folder}: no saved stack ({_INDEX} is missing)"
        raise UsageError(message, remedy="name the folder that birdstack stack has written")
    try:
        index = json.loads(path.read_text("utf-8"))
        version, files = int(index["format"]), dict(index["files"])
    except (ValueError, KeyError, TypeError) as error:
        message = f"{path}: not the index of a stack ({error})"
        raise CorruptError(message, remedy="fit the stack again") from error
    if version > FORMAT:
        message = f"{path}: format {version}, this birdstack reads up to {FORMAT}"
        raise FormatVersionError(message, remedy="update birdstack")
    texts = {name: _read(folder / name, digest) for name, digest in files.items()}
    weights = json.loads(texts[_WEIGHTS])
    spread = Spread(*(_array(weights["spread"][key]) for key in ("centre", "scale", "grid")))
    return Shipped(
        tuple(index["backbones"]),
        tuple(index["classes"]),
        tuple(index["extra_names"]),
        spread,
        index["what"],
        weights["learnt"],
        None if weights["stack"] is None else _stack_back(weights["stack"], texts),
    )


def _stack(stack: StackModel, texts: dict[str, str]) -> dict[str, Any]:
    """Numbers of a stack; the texts of its boosters go into `texts`."""
    return {
        "settings": stack.settings.model_dump(mode="json"),
        "neighbours": stack.plan.neighbours,
        "extras": stack.plan.extras,
        "shared": {
            "boosters": {
                str(fold): _keep(trees, f"shared-{fold}", texts)
                for fold, trees in stack.shared.boosters.items()
            },
            "ranker": stack.shared.ranker,
            "scale": _scale(stack.shared.scale),
        },
        "classes": {
            str(number): {
                str(fold): _fold_model(fitted, f"class-{number}-{fold}", texts)
                for fold, fitted in model.folds.items()
            }
            for number, model in stack.classes.items()
        },
        "scale": _scale(stack.scale),
        "weights": stack.weights,
        "fallen": stack.fallen,
    }


def _stack_back(kept: Mapping[str, Any], texts: Mapping[str, str]) -> StackModel:
    shared = kept["shared"]
    plan = ColumnPlan(
        np.asarray(kept["neighbours"], dtype=np.intp).reshape(len(kept["extras"]), -1),
        tuple(tuple(row) for row in kept["extras"]),
    )
    return StackModel(
        StackSettings.model_validate(kept["settings"]),
        plan,
        SharedLayer(
            {int(fold): _trees(name, texts) for fold, name in shared["boosters"].items()},
            _array(shared["ranker"]),
            _scale_back(shared["scale"]),
        ),
        {
            int(number): ClassModel(
                {int(fold): _fold_model_back(one, texts) for fold, one in folds.items()}
            )
            for number, folds in kept["classes"].items()
        },
        _scale_back(kept["scale"]),
        _array(kept["weights"]),
        np.asarray(kept["fallen"], dtype=bool),
    )


def _fold_model(fitted: FoldModel, name: str, texts: dict[str, str]) -> dict[str, Any]:
    linear = fitted.linear
    return {
        "slope": fitted.slope,
        "n_trees": fitted.n_trees,
        "shift": fitted.shift,
        "trees": None if fitted.trees is None else _keep(fitted.trees, name, texts),
        "linear": None
        if linear is None
        else {
            "centre": linear.centre,
            "scale": linear.scale,
            "weights": linear.weights,
            "intercept": linear.intercept,
        },
    }


def _fold_model_back(kept: Mapping[str, Any], texts: Mapping[str, str]) -> FoldModel:
    linear = kept["linear"]
    return FoldModel(
        float(kept["slope"]),
        int(kept["n_trees"]),
        None if kept["trees"] is None else _trees(kept["trees"], texts),
        None
        if linear is None
        else Linear(
            _array(linear["centre"]),
            _array(linear["scale"]),
            _array(linear["weights"]),
            float(linear["intercept"]),
        ),
        (float(kept["shift"][0]), float(kept["shift"][1])),
    )


def _keep(trees: Trees, name: str, texts: dict[str, str]) -> str:
    path = f"{_BOOSTERS}/{name}.{_SUFFIX[trees.library]}"
    texts[path] = trees.text()
    return path


def _trees(name: str, texts: Mapping[str, str]) -> Trees:
    library = "lightgbm" if name.endswith(".txt") else "xgboost"
    return read_trees(library, texts[name])


def _spread(spread: Spread) -> dict[str, Any]:
    return {"centre": spread.centre, "scale": spread.scale, "grid": spread.grid}


def _scale(scale: Scale) -> dict[str, Any]:
    return {"centre": scale.centre, "width": scale.width}


def _scale_back(kept: Mapping[str, Any]) -> Scale:
    return Scale(_array(kept["centre"]), _array(kept["width"]))


def _plain(value: Any) -> Any:
    """Lists for arrays, and words for the floats that JSON lacks."""
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def _array(kept: Any) -> np.ndarray:
    return np.asarray(kept, dtype=object).astype(np.float64)


def _read(path: Path, digest: str) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror})"
        raise CorruptError(message, remedy="fit the stack again") from error
    if _digest(data) != digest:
        message = f"{path}: its bytes are not those that were written"
        raise CorruptError(message, remedy="fit the stack again, or restore the folder")
    return data.decode("utf-8")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
