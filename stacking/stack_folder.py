"""A saved stack: one directory, no pickles.

```
DIR/
  stack.json               what it is, with the SHA-256 of every other file; written last
  weights.json             all numbers but the trees'; floats as Python writes them, exact
  boosters/shared-<fold>.txt|json      LightGBM's text or XGBoost's JSON
  boosters/class-<number>-<fold>.txt|json
  prior.zip                counts of a range prior, where one is shipped (`parcel`)
  components.zip           components of an embedding, where columns are made of them
```

Reading it back gives bit-equal predictions.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from birdstack.stacking import model_json
from birdstack.stacking.class_columns import ColumnPlan
from birdstack.stacking.components import Components
from birdstack.stacking.fold_scales import Spread
from birdstack.stacking.model_json import BOOSTERS, array, plain
from birdstack.stacking.parcel import Parcel, packed, unpacked
from birdstack.stacking.place_prior import PlacePrior
from birdstack.stacking.range_prior import RangePrior, RangePriorConfig
from birdstack.stacking.shipped import Shipped
from birdstack.stacking.stack_model import StackModel
from birdstack.stacking.stack_settings import StackSettings
from birdstack.store.errors import CorruptError, FormatVersionError, UsageError

FORMAT = 1
_INDEX, _WEIGHTS = "stack.json", "weights.json"
_PRIOR, _COMPONENTS = "prior.zip", "components.zip"
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
    (aside / BOOSTERS).mkdir(parents=True)
    texts: dict[str, str] = {}
    weights = {
        "spread": _spread(shipped.spread),
        "learnt": dict(shipped.learnt),
        "stack": None if shipped.stack is None else _stack(shipped.stack, texts),
    }
    texts[_WEIGHTS] = json.dumps(plain(weights), allow_nan=False)
    files = {name: text.encode() for name, text in texts.items()} | _parcels(shipped)
    for name, data in files.items():
        (aside / name).write_bytes(data)
    index = {
        "format": FORMAT,
        "what": shipped.what,
        "backbones": shipped.backbones,
        "classes": shipped.classes,
        "extra_names": shipped.extra_names,
        "made_from": dict(made_from or {}),
        "versions": {name: metadata.version(name) for name in _VERSIONS if _installed(name)},
        "files": {name: _digest(data) for name, data in sorted(files.items())},
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
    found = {name: _read(folder / name, digest) for name, digest in files.items()}
    parcels = {
        name: unpacked(found.pop(name), str(folder / name))
        for name in (_PRIOR, _COMPONENTS)
        if name in found
    }
    texts = {name: data.decode("utf-8") for name, data in found.items()}
    weights = json.loads(texts[_WEIGHTS])
    spread = Spread(*(array(weights["spread"][key]) for key in ("centre", "scale", "grid")))
    return Shipped(
        tuple(index["backbones"]),
        tuple(index["classes"]),
        tuple(index["extra_names"]),
        spread,
        index["what"],
        weights["learnt"],
        None if weights["stack"] is None else _stack_back(weights["stack"], texts),
        _prior_back(parcels[_PRIOR]) if _PRIOR in parcels else None,
        Components.from_arrays(parcels[_COMPONENTS].arrays) if _COMPONENTS in parcels else None,
    )


def _parcels(shipped: Shipped) -> dict[str, bytes]:
    """What is made of arrays alone, by the name of its file."""
    found: dict[str, bytes] = {}
    if shipped.prior is not None:
        prior = shipped.prior.prior
        index = {"weight": shipped.prior.weight, "config": prior.config.model_dump(mode="json")}
        arrays = {**prior.arrays(), "scale": shipped.prior.scale}
        found[_PRIOR] = packed(Parcel(index, {}, arrays))
    if shipped.components is not None:
        found[_COMPONENTS] = packed(Parcel({}, {}, shipped.components.arrays()))
    return found


def _prior_back(parcel: Parcel) -> PlacePrior:
    config = RangePriorConfig.model_validate(parcel.index["config"])
    counts = RangePrior.from_arrays(parcel.arrays, config)
    return PlacePrior(counts, float(parcel.index["weight"]), parcel.arrays["scale"])


def _stack(stack: StackModel, texts: dict[str, str]) -> dict[str, Any]:
    """Numbers of a stack; the texts of its boosters go into `texts`."""
    kept = {
        "settings": stack.settings.model_dump(mode="json"),
        "neighbours": stack.plan.neighbours,
        "extras": stack.plan.extras,
        "shared": model_json.shared_layer(stack.shared, texts),
        "classes": {
            str(number): model_json.class_model(model, number, texts)
            for number, model in stack.classes.items()
        },
        "scale": model_json.scale(stack.scale),
        "weights": stack.weights,
        "fallen": stack.fallen,
    }
    tuned = {str(number): dict(m.tuned) for number, m in stack.classes.items() if m.tuned}
    return {**kept, "tuned": tuned} if tuned else kept


def _stack_back(kept: Mapping[str, Any], texts: Mapping[str, str]) -> StackModel:
    plan = ColumnPlan(
        np.asarray(kept["neighbours"], dtype=np.intp).reshape(len(kept["extras"]), -1),
        tuple(tuple(row) for row in kept["extras"]),
    )
    tuned = kept.get("tuned", {})
    return StackModel(
        StackSettings.model_validate(kept["settings"]),
        plan,
        model_json.shared_layer_back(kept["shared"], texts),
        {
            int(number): model_json.class_model_back(folds, texts, tuned.get(number))
            for number, folds in kept["classes"].items()
        },
        model_json.scale_back(kept["scale"]),
        array(kept["weights"]),
        np.asarray(kept["fallen"], dtype=bool),
    )


def _spread(spread: Spread) -> dict[str, Any]:
    return {"centre": spread.centre, "scale": spread.scale, "grid": spread.grid}


def _read(path: Path, digest: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror})"
        raise CorruptError(message, remedy="fit the stack again") from error
    if _digest(data) != digest:
        message = f"{path}: its bytes are not those that were written"
        raise CorruptError(message, remedy="fit the stack again, or restore the folder")
    return data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
