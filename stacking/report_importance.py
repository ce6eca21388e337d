"""What the stack looks at: gain of its trees, and SHAP values on windows they have not met.

Gain is the loss that splits on a column took off while training, as the library counts it; it
likes columns with many values. SHAP values (Lundberg et al. 2020, exact for trees) say how far a
column moves the score of a window; here their mean size, by each fold's booster on the windows
of that fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from birdstack.stacking.class_columns import ClassColumns, class_column_names, shared_column_names
from birdstack.stacking.controls import Material
from birdstack.stacking.report_columns import extra_columns
from birdstack.stacking.report_run import Domain, Run, some_recordings
from birdstack.stacking.shipped import Shipped
from birdstack.stacking.stack_folder import load_stack
from birdstack.stacking.stack_model import StackModel
from birdstack.stacking.stack_table import StackTable
from birdstack.stacking.trees import Booster, Trees, members_of
from birdstack.store.errors import BirdstackError
from birdstack.store.labels import UNKNOWN

_MOST_CLASSES = 12
_MOST_WINDOWS = 1500
_TOP = 20
_KINDS = {"score:": "own scores", "class:": "other classes", "x:": "columns beside the scores"}


def importance(run: Run, *, seed: int) -> dict[str, Any]:
    """Gain and SHAP by column; `why` alone where no stack was saved."""
    try:
        shipped = load_stack(run.folder / "stack")
    except BirdstackError as error:
        return {"why": f"the saved stack cannot be read: {error.message}"}
    if shipped.stack is None:
        return {"why": f"{run.shipped_title} is shipped, which has no trees to look into"}
    found: dict[str, Any] = {"gain": _gain(shipped, shipped.stack)}
    try:
        found["shap"] = _shap(run, shipped, shipped.stack, seed)
    except (BirdstackError, ValueError, KeyError, IndexError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        found["shap"] = {"why": f"the columns could not be made again: {text}"}
    return found


def kind_of(column: str) -> str:
    """The family a column belongs to."""
    for prefix, kind in _KINDS.items():
        if column.startswith(prefix):
            return kind
    return "context of own scores"


def _gain(shipped: Shipped, stack: StackModel) -> dict[str, Any]:
    shared = dict.fromkeys(shared_column_names(shipped.backbones), 0.0)
    for trees in stack.shared.boosters.values():
        _add(shared, list(shared), _gains(trees, None))
    own: dict[str, float] = {}
    for number, model in stack.classes.items():
        names = class_column_names(
            shipped.backbones, shipped.classes, shipped.extra_names, stack.plan, number
        )
        mine = dict.fromkeys(names, 0.0)
        for fitted in model.folds.values():
            if fitted.trees is not None:
                _add(mine, names, _gains(fitted.trees, fitted.n_trees))
        total = sum(mine.values())
        if total > 0:  # each class counts alike
            _add(own, names, np.array(list(mine.values())) / total)
    return {
        "shared": _shares(shared),
        "classes": _shares(own),
        "kinds": _by_kind(own),
        "classes_with_layers": len(stack.classes),
    }


def _gains(trees: Trees, rounds: int | None) -> np.ndarray:
    """Gain of each column, mean over a bag; zeros where a column is never split on."""
    return np.asarray(np.mean([_gains_of(one, rounds) for one in members_of(trees)], axis=0))


def _gains_of(trees: Booster, rounds: int | None) -> np.ndarray:
    if trees.library == "lightgbm":
        import lightgbm as lgb  # noqa: PLC0415 - heavy

        booster = lgb.Booster(model_str=trees.text())
        return np.asarray(booster.feature_importance("gain", iteration=rounds), dtype=np.float64)
    import xgboost as xgb  # noqa: PLC0415 - heavy

    model = xgb.Booster({"nthread": 1})
    model.load_model(bytearray(trees.text().encode()))
    gains = np.zeros(model.num_features())
    for name, value in model.get_score(importance_type="total_gain").items():
        gains[int(name.removeprefix("f"))] = float(np.sum(value))
    return gains


def _shap(run: Run, shipped: Shipped, stack: StackModel, seed: int) -> dict[str, Any]:
    domain = next((d for d in run.domains.values() if (d.fold >= 0).any()), None)
    if domain is None:
        return {"why": "no windows with a fold are in this run"}
    table, why = _table(run, domain, shipped, seed)
    if table is None:
        return {"why": why}
    material = Material(table, shipped.spread)
    columns = ClassColumns(material, stack.plan)
    numbers = _largest(domain, stack.classes, _MOST_CLASSES)
    sums: dict[str, float] = {}
    for number in numbers:
        names = columns.names(number)
        mine = np.zeros(len(names))
        for held, fitted in stack.classes[number].folds.items():
            rows = np.flatnonzero(table.window_fold == held)
            if fitted.trees is None or not len(rows):
                continue
            values = _contributions(fitted.trees, columns.of_class(number, rows), fitted.n_trees)
            mine += np.abs(values[:, :-1]).sum(axis=0)
        if mine.sum() > 0:
            _add(sums, names, mine / mine.sum())
    if not sums:
        return {"why": "no class has trees of its own that split on anything"}
    return {
        "columns": _shares(sums),
        "kinds": _by_kind(sums),
        "domain": domain.title,
        "classes": [shipped.classes[number] for number in numbers],
        "windows": table.n_windows,
        "without": why,
    }


def _table(run: Run, domain: Domain, shipped: Shipped, seed: int) -> tuple[StackTable | None, str]:
    """Scores and columns of whole recordings of a domain, as the stack saw them."""
    rows = some_recordings(domain.recording, _MOST_WINDOWS, seed) & (domain.fold >= 0)
    ids, first, windows = np.unique(domain.recording[rows], return_index=True, return_counts=True)
    if not (np.diff(first) > 0).all():
        return None, "windows of a recording do not lie together"
    logits = np.stack([domain.scores(f"backbone-{name}")[rows] for name in shipped.backbones])
    extra, why = np.empty((0, 0), dtype=np.float32), ""
    if shipped.extra_names:
        found = extra_columns(run, domain, rows)
        extra = np.full((int(rows.sum()), len(shipped.extra_names)), np.nan, dtype=np.float32)
        for at, name in enumerate(shipped.extra_names):
            if name in found.names:
                extra[:, at] = found.values[:, found.names.index(name)]
        why = found.why
    return (
        StackTable(
            recording_ids=[str(name) for name in ids],
            windows=windows,
            groups=[str(name) for name in ids],
            fold=domain.fold[rows][first],
            backbones=shipped.backbones,
            classes=shipped.classes,
            logits=logits,
            truth=np.full(logits.shape[1:], UNKNOWN, dtype=np.int8),
            extra=extra,
            extra_names=shipped.extra_names,
            window_index=domain.rows["window"].to_numpy()[rows].astype(np.int32),
        ),
        why,
    )


def _contributions(trees: Trees, values: np.ndarray, rounds: int) -> np.ndarray:
    """SHAP values `[row, column + 1]`, mean over a bag; the last is what rows have in common."""
    found = [_contributions_of(one, values, rounds) for one in members_of(trees)]
    return np.asarray(np.mean(found, axis=0))


def _contributions_of(trees: Booster, values: np.ndarray, rounds: int) -> np.ndarray:
    if trees.library == "lightgbm":
        import lightgbm as lgb  # noqa: PLC0415 - heavy

        booster = lgb.Booster(model_str=trees.text())
        found = booster.predict(values, pred_contrib=True, num_iteration=rounds, num_threads=1)
        return np.asarray(found)
    import xgboost as xgb  # noqa: PLC0415 - heavy

    model = xgb.Booster({"nthread": 1})
    model.load_model(bytearray(trees.text().encode()))
    data = xgb.DMatrix(values)
    last = min(rounds, model.num_boosted_rounds())
    return np.asarray(model.predict(data, pred_contribs=True, iteration_range=(0, last)))


def _largest(domain: Domain, able: Mapping[int, Any], most: int) -> list[int]:
    count = np.zeros(len(domain.classes)) if domain.truth is None else (domain.truth == 1).sum(0)
    return sorted(sorted(able, key=lambda number: -int(count[number]))[:most])


def _add(sums: dict[str, float], names: Iterable[str], values: np.ndarray) -> None:
    for name, value in zip(names, values.tolist(), strict=True):
        sums[name] = sums.get(name, 0.0) + value


def _shares(sums: Mapping[str, float]) -> list[dict[str, Any]]:
    """The largest, as shares of the whole."""
    total = sum(sums.values()) or 1.0
    ordered = sorted(sums.items(), key=lambda item: -item[1])[:_TOP]
    return [
        {"column": name, "kind": kind_of(name), "share": value / total}
        for name, value in ordered
        if value > 0
    ]


def _by_kind(sums: Mapping[str, float]) -> list[dict[str, Any]]:
    total = sum(sums.values()) or 1.0
    kinds: dict[str, float] = {}
    for name, value in sums.items():
        kinds[kind_of(name)] = kinds.get(kind_of(name), 0.0) + value / total
    ordered = sorted(kinds.items(), key=lambda item: -item[1])
    return [{"kind": kind, "share": share} for kind, share in ordered]
