"""Fitted models as JSON and texts of boosters, and back, bit for bit.

Floats are written as Python writes them, which is exact. Texts of boosters are kept apart, each
under a name, so that they lie in files of their own in their library's format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from birdstack.stacking.class_model import ClassModel, FoldModel
from birdstack.stacking.logistic import Linear
from birdstack.stacking.stack_model import Scale, SharedLayer
from birdstack.stacking.trees import BaggedTrees, Booster, Trees, members_of, read_trees

BOOSTERS = "boosters"
_SUFFIX = {"lightgbm": "txt", "xgboost": "json"}


def shared_layer(layer: SharedLayer, texts: dict[str, str]) -> dict[str, Any]:
    """Numbers of a shared layer; the texts of its boosters go into `texts`."""
    return {
        "boosters": {
            str(fold): _keep(trees, f"shared-{fold}", texts)
            for fold, trees in layer.boosters.items()
        },
        "ranker": layer.ranker,
        "scale": scale(layer.scale),
    }


def shared_layer_back(kept: Mapping[str, Any], texts: Mapping[str, str]) -> SharedLayer:
    """The shared layer."""
    return SharedLayer(
        {int(fold): _trees(name, texts) for fold, name in kept["boosters"].items()},
        array(kept["ranker"]),
        scale_back(kept["scale"]),
    )


def class_model(model: ClassModel, number: int, texts: dict[str, str]) -> dict[str, Any]:
    """Numbers of the layers of one class, by fold."""
    return {
        str(fold): _fold_model(fitted, f"class-{number}-{fold}", texts)
        for fold, fitted in model.folds.items()
    }


def class_model_back(
    kept: Mapping[str, Any], texts: Mapping[str, str], tuned: Mapping[str, float] | None = None
) -> ClassModel:
    """The layers of one class."""
    folds = {int(fold): _fold_model_back(one, texts) for fold, one in kept.items()}
    return ClassModel(folds, dict(tuned or {}))


def scale(of: Scale) -> dict[str, Any]:
    """Centre and width."""
    return {"centre": of.centre, "width": of.width}


def scale_back(kept: Mapping[str, Any]) -> Scale:
    """Centre and width."""
    return Scale(array(kept["centre"]), array(kept["width"]))


def plain(value: Any) -> Any:
    """Lists for arrays, and words for the floats that JSON lacks."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def array(kept: Any) -> np.ndarray:
    """Floats from lists of numbers and such words."""
    return np.asarray(kept, dtype=object).astype(np.float64)


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
            array(linear["centre"]),
            array(linear["scale"]),
            array(linear["weights"]),
            float(linear["intercept"]),
        ),
        (float(kept["shift"][0]), float(kept["shift"][1])),
    )


def _keep(trees: Trees, name: str, texts: dict[str, str]) -> str | list[str]:
    """Name of a booster's file; names of all, where it is a bag of them."""
    members = members_of(trees)
    names = [name] if len(members) == 1 else [f"{name}-{i}" for i in range(len(members))]
    paths = [f"{BOOSTERS}/{one}.{_SUFFIX[trees.library]}" for one in names]
    texts |= {path: member.text() for path, member in zip(paths, members, strict=True)}
    return paths[0] if len(paths) == 1 else paths


def _trees(names: str | Sequence[str], texts: Mapping[str, str]) -> Trees:
    if not isinstance(names, str):
        return BaggedTrees([_booster(name, texts) for name in names])
    return _booster(names, texts)


def _booster(name: str, texts: Mapping[str, str]) -> Booster:
    library = "lightgbm" if name.endswith(".txt") else "xgboost"
    return read_trees(library, texts[name])
