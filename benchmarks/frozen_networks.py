"""What ImageNet's weights are worth to a bird: a frozen network beside untrained ones.

`birdstack features` hears a dataset with the default backbone and with the same network under
random weights, several seeds of them, and fits the same linear heads on all; what is printed
is the out-of-fold macro AUC that it scored. One untrained network is luck: the mean over
seeds is the figure to compare with.

    python benchmarks/frozen_networks.py --dataset xc10 --seeds 5
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from birdstack.embeddings.backbones import PRESETS

FOLD_COLUMNS = {"esc10": ("--fold-column", "official_fold"), "xc10": ()}
REPO = Path(__file__).resolve().parent.parent
DEFAULT_DATA = Path(os.environ.get("BIRDSTACK_TEST_DATA", REPO.parent / "shared" / "data"))


def scores(folder: Path, backbone: str, seeds: int, more: list[str]) -> dict[str, float]:
    """Out-of-fold macro AUC over windows of the backbone and of its untrained likenesses."""
    model = PRESETS[backbone].model_dump(mode="json")
    untrained = [
        {**model, "name": f"untrained-{seed}", "weights": "random", "seed": seed}
        for seed in range(seeds)
    ]
    names = [backbone, *(each["name"] for each in untrained)]
    with tempfile.TemporaryDirectory(prefix="birdstack-frozen-") as scratch:
        command = [
            *(sys.executable, "-m", "birdstack.stacking.cli", "features", str(folder)),
            *("--store", str(Path(scratch) / "store"), "--backbones", ",".join(names), "--json"),
            *("--set", f"networks.define={json.dumps(untrained)}", *more),
        ]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    events = [json.loads(line) for line in run.stdout.splitlines()]
    return {
        event["view"].removeprefix("logits/"): event["value"]
        for event in events
        if event["event"] == "scored" and event["level"] == "window"
    }


def main() -> None:
    """Hear, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="holds esc10/ and xc10/")
    parser.add_argument("--dataset", choices=sorted(FOLD_COLUMNS), default="xc10")
    parser.add_argument("--backbone", choices=sorted(PRESETS), default="lite0")
    parser.add_argument("--seeds", type=int, default=5, help="untrained networks, seeds 0 to n-1")
    arguments = parser.parse_args()
    folder = arguments.data / arguments.dataset
    if not (folder / "train_metadata.csv").is_file():
        parser.error(f"no {arguments.dataset} at {folder}: name its parent folder with --data")
    more = list(FOLD_COLUMNS[arguments.dataset])
    found = scores(folder, arguments.backbone, arguments.seeds, more)
    trained = found.pop(arguments.backbone)
    print(f"{arguments.dataset}, out-of-fold macro AUC over windows, frozen trunk + linear head")
    print(f"  {arguments.backbone:12} {trained:.4f}")
    if found:
        mean = statistics.mean(found.values())
        spread = f"{min(found.values()):.4f} to {max(found.values()):.4f}"
        print(f"  untrained    {mean:.4f} (mean of {len(found)} seeds, {spread})")
        print(f"  difference   {trained - mean:+.4f}")


if __name__ == "__main__":
    main()
