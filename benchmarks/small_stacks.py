"""Does what is shipped lose to the best simple control on small, long-tailed tables?

    python benchmarks/small_stacks.py [--seeds 20] [--settings strong-and-prior,...]

Each seed draws a table (some sixty files of a minute, seventy classes of which half occur in one
or two files or in none) and three hundred fresh files of the same world. The best simple
control is the one that comes out best in hindsight, on the very rows it is compared on: best
single backbone, mean, mean of z-scores, mean of ranks, geometric mean or minimum, with the
fixed kernel or without, as given or with the fold models brought to one scale. No honest choice
can know it beforehand.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

import _one_thread  # noqa: F401 - before numpy
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.small_stacks import Small, small_stack

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.controls import CONTROLS, Material
from birdstack.stacking.stacker import Stacker

SETTINGS = {
    "strong-and-prior": {},
    "fold-models": {"fold_models": 0.3},
    "two-and-prior": {"fold_models": 0.3, "second": 0.8},
    "weak-and-prior": {"strength": 0.8},
    "two-alike": {"second": 1.2, "prior": False},
}
SIMPLE = [c for c in CONTROLS if c.name not in {"greedy", "ranker"}]


def one(seed: int, **how: float) -> dict[str, object]:
    """One table: what is shipped, and how far it lies from the best simple control."""
    table, fresh = small_stack(Small(seed=seed, **how))  # type: ignore[arg-type]
    before = time.process_time()
    stacker = Stacker(resamples=200).fit(table)
    seconds = time.process_time() - before
    rows = {row["name"]: row["macro_auc"]["value"] for row in stacker.report_["rows"]}
    material = Material(table)
    new = Material(fresh, material.spread)
    every = np.ones(table.n_windows, dtype=bool)
    on_fresh = {
        c.name: macro_auc(c.score(new, c.learn(material, every)), fresh.truth).value for c in SIMPLE
    }
    shipped = stacker.report_["shipped"]
    best_oof, best_fresh = (
        max(SIMPLE, key=lambda c, of=of: of[c.name]).name for of in (rows, on_fresh)
    )
    ours = macro_auc(stacker.predict(fresh), fresh.truth).value
    return {
        "seed": seed,
        "shipped": shipped["what"],
        "oof": shipped["nested"]["value"],
        "oof_best": rows[best_oof],
        "oof_best_name": best_oof,
        "fresh": ours,
        "fresh_best": on_fresh[best_fresh],
        "fresh_best_name": best_fresh,
        "fresh_of_oof_best": on_fresh[best_oof],
        "cpu_s": seconds,
    }


def summary(found: list[dict[str, object]]) -> dict[str, object]:
    """Mean and worst difference to the best simple control."""

    def gap(ours: str, best: str) -> np.ndarray:
        return np.array([float(row[ours]) - float(row[best]) for row in found])  # type: ignore[arg-type]

    oof, fresh = gap("oof", "oof_best"), gap("fresh", "fresh_best")
    picked = gap("fresh", "fresh_of_oof_best")
    return {
        "seeds": len(found),
        "shipped": dict(Counter(str(row["shipped"]) for row in found)),
        "oof_mean": float(oof.mean()),
        "oof_worst": float(oof.min()),
        "fresh_mean": float(fresh.mean()),
        "fresh_worst": float(fresh.min()),
        "fresh_over_oof_winner_mean": float(picked.mean()),
        "fresh_over_oof_winner_worst": float(picked.min()),
        "cpu_s": float(np.mean([float(row["cpu_s"]) for row in found])),  # type: ignore[arg-type]
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--settings", default=",".join(SETTINGS))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    kept = {}
    for name in asked.settings.split(","):
        found = [one(seed, **SETTINGS[name]) for seed in range(1000, 1000 + asked.seeds)]
        kept[name] = {"summary": summary(found), "seeds": found}
        said = kept[name]["summary"]
        print(
            f"{name:18} shipped {said['shipped']}; less the best simple control: "  # type: ignore[index]
            f"OOF {said['oof_mean']:+.4f} (worst {said['oof_worst']:+.4f}), "  # type: ignore[index]
            f"fresh {said['fresh_mean']:+.4f} (worst {said['fresh_worst']:+.4f}), "  # type: ignore[index]
            f"fresh, OOF's winner {said['fresh_over_oof_winner_mean']:+.4f} "  # type: ignore[index]
            f"({said['fresh_over_oof_winner_worst']:+.4f}); {said['cpu_s']:.1f} CPU s a table",  # type: ignore[index]
            flush=True,
        )
    if asked.json:
        asked.json.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
