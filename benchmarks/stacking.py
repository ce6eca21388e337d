"""What a stack costs and what it is worth on 100,000 windows of 182 classes.

    python benchmarks/stacking.py [--windows 100000] [--classes 182] [--trials 30] [--sample 4]

Cost is CPU seconds of this process. The naive way is measured in the same run: `fit` of
scikit-learn's face of LightGBM on all columns (the mean score of every class, all extra
columns, the class's own context), for one fold of some classes spread over the tail, times
classes x 5 folds x 30 trials.

Worth is macro AUC on fresh recordings that nobody has met, all classes and those with at most
100 positive windows: the stack, its layers, mean + kernel, and default LightGBM fitted class by
class on the class's own columns.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import _one_thread  # noqa: F401 - before numpy
import numpy as np
from _stack_data import Size, long_tail

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.class_columns import ClassColumns
from birdstack.stacking.controls import BY_NAME, Material
from birdstack.stacking.shared_ranker import rank_by, ranker_columns
from birdstack.stacking.stack_table import StackTable
from birdstack.stacking.stacker import Stacker
from birdstack.stacking.tuning import TuningSettings, tune

FOLDS, TRIALS, RARE = 5, 30, 100


@contextmanager
def cpu(kept: dict[str, float], name: str) -> Iterator[None]:
    """CPU seconds of a stage."""
    before, wall = time.process_time(), time.perf_counter()
    yield
    kept[name] = time.process_time() - before
    print(f"  {name}: {kept[name]:.1f} CPU s, {time.perf_counter() - wall:.1f} s", flush=True)


def spread_over_tail(table: StackTable, count: int) -> list[int]:
    """Classes from the rarest to the commonest, evenly."""
    order = np.argsort(table.positives(), kind="stable")
    return [int(order[at]) for at in np.linspace(0, len(order) - 1, count).round().astype(int)]


def naive(columns: ClassColumns, numbers: list[int]) -> float:
    """Mean CPU seconds of one default fit on all columns of four folds."""
    from lightgbm import LGBMClassifier  # noqa: PLC0415 - heavy

    rows = np.flatnonzero(columns.table.window_fold != 0)
    everything = np.concatenate([columns.mean, columns.extra], axis=1)[rows]
    seconds = []
    for number in numbers:
        own = columns.shared(number, rows)
        label = columns.table.truth[rows, number] == 1
        before = time.process_time()
        LGBMClassifier(n_jobs=1, verbose=-1).fit(np.concatenate([everything, own], axis=1), label)
        seconds.append(time.process_time() - before)
    return float(np.mean(seconds))


def default_scores(columns: ClassColumns, fresh: ClassColumns, numbers: list[int]) -> np.ndarray:
    """Default LightGBM of each class on its own columns, scores of fresh rows `[window, class]`."""
    from lightgbm import LGBMClassifier  # noqa: PLC0415 - heavy

    rows, new = np.arange(len(columns.mean)), np.arange(len(fresh.mean))
    out = np.empty((len(new), len(numbers)))
    for place, number in enumerate(numbers):
        model = LGBMClassifier(n_jobs=1, verbose=-1)
        model.fit(columns.of_class(number, rows), columns.table.truth[:, number] == 1)
        out[:, place] = model.predict_proba(fresh.of_class(number, new))[:, 1]
    return out


def worth(
    stacker: Stacker, table: StackTable, fresh: StackTable, some: list[int]
) -> dict[str, dict[str, float]]:
    """Macro AUC on fresh rows of the stack, its layers and the controls."""
    model = stacker.shipped_.stack
    assert model is not None
    material = Material(table)
    views = Material(fresh, material.spread)
    columns = ClassColumns(views, model.plan)
    ranked = rank_by(ranker_columns(views), model.shared.ranker)
    layers = np.empty((3, *ranked.shape), dtype=np.float32)
    for number in range(ranked.shape[1]):
        layers[:, :, number] = model.layers(columns, number, ranked[:, number])
    blend = np.tensordot(model.weights, layers, axes=1)
    known = np.ones(table.n_windows, dtype=bool)
    scores: dict[str, np.ndarray] = {
        "stack": np.where(model.fallen, layers[2], blend),
        "residual booster": layers[0],
        "L2 logistic": layers[1],
        "shared": layers[2],
        "ranker": ranked,
    }
    for name in ("best_single", "mean", "mean_kernel"):
        control = BY_NAME[name]
        scores[control.title] = control.score(views, control.learn(material, known))
    rare = table.positives() <= RARE
    found = {}
    for name, values in scores.items():
        per_class = macro_auc(values, fresh.truth).per_class
        found[name] = {
            "all": float(np.nanmean(per_class)),
            "rare": float(np.nanmean(per_class[rare])) if rare.any() else float("nan"),
            "sample": float(np.nanmean(per_class[some])),
            "sample_rare": _mean(per_class[[n for n in some if rare[n]]]),
        }
    learnt = ClassColumns(material, model.plan)
    plain = macro_auc(default_scores(learnt, columns, some), fresh.truth[:, some]).per_class
    found["default LightGBM, per class"] = {
        "sample": float(np.nanmean(plain)),
        "sample_rare": _mean(plain[[place for place, n in enumerate(some) if rare[n]]]),
    }
    return found


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if len(values) else float("nan")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=182)
    parser.add_argument("--fresh", type=int, default=30)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--sample", type=int, default=4, help="classes of the naive estimate")
    parser.add_argument("--default", type=int, default=30, help="classes of default LightGBM")
    parser.add_argument("--booster", default="lightgbm")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    seconds: dict[str, float] = {}
    with cpu(seconds, "draw the data"):
        size = Size(classes=asked.classes, windows=asked.windows, fresh=asked.fresh)
        table, fresh = long_tail(size)
    print(f"{table.n_windows} windows, positives {np.sort(table.positives())[[0, -1]]}")
    stacker = Stacker(booster=asked.booster, ship="stack")
    tuned: dict[str, Any] = {}
    if asked.trials:
        with cpu(seconds, "tune"):
            found = tune(table, stacker.settings, TuningSettings(trials=asked.trials))
        print(f"  {found.why}; importance {dict(found.importance)}")
        tuned = {"why": found.why, "usual": found.usual, "best": found.best}
        stacker.set_params(**found.settings.model_dump())
    with cpu(seconds, "fit, guards, report"):
        stacker.fit(table)
    for row in stacker.report_["rows"]:
        auc, gain = row["macro_auc"], row["over_mean_kernel"]
        print(
            f"  {row['title']:32} {row['level']:20} {auc['value']:.4f} "
            f"[{auc['low']:.4f}, {auc['high']:.4f}] over mean + kernel {gain['value']:+.4f} "
            f"[{gain['low']:+.4f}, {gain['high']:+.4f}]"
        )
    model = stacker.shipped_.stack
    assert model is not None
    with cpu(seconds, "naive sample"):
        one = naive(
            ClassColumns(Material(table), model.plan), spread_over_tail(table, asked.sample)
        )
    whole = one * asked.classes * FOLDS * TRIALS
    ours = sum(seconds.get(name, 0.0) for name in ("tune", "fit, guards, report"))
    print(
        f"naive: {one:.2f} CPU s a fit, {whole / 3600:.1f} CPU h in all; ours {ours:.0f} CPU s: "
        f"{whole / ours:.0f} times less"
    )
    with cpu(seconds, "worth on fresh rows"):
        auc = worth(stacker, table, fresh, spread_over_tail(table, asked.default))
    for name, values in auc.items():
        print("  " + f"{name:30}" + "  ".join(f"{k} {v:.4f}" for k, v in values.items()))
    if asked.json:
        kept = {
            "size": vars(replace_paths(asked)),
            "seconds": seconds,
            "naive_fit_s": one,
            "ratio": whole / ours,
            "tuned": tuned,
            "fresh_auc": auc,
            "report": stacker.report_["rows"],
        }
        asked.json.write_text(json.dumps(kept, indent=2, default=str) + "\n")


def replace_paths(asked: argparse.Namespace) -> argparse.Namespace:
    """The same without paths of this machine."""
    return argparse.Namespace(**{k: v for k, v in vars(asked).items() if k != "json"})


if __name__ == "__main__":
    main()
