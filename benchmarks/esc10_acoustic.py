"""How much the acoustic view hears: ESC-10 by a random forest on the official folds.

ESC-10 (Piczak 2015) holds 400 clips of 5 s in 10 classes, in 5 folds that keep all takes
of one source clip together. The paper's own random forest, on MFCC and zero crossings,
reaches 72.7 %; people reach 95.7 %. The forest here is scikit-learn's with its defaults but
for the number of trees: nothing is tuned, so the figure speaks of the columns alone.

    python benchmarks/esc10_acoustic.py --data ../shared/data

With `--dataset xc10` the same for 100 recordings of 10 bird species, in folds that keep all
recordings of one author together. That is little: a recording is one per cent.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from birdstack.features.acoustic import GROUPS, AcousticConfig, AcousticExtractor
from birdstack.features.audio import AudioConfig, AudioSource
from birdstack.features.fast_acoustic import FastAcousticExtractor
from birdstack.features.probe import AudioProbe
from birdstack.features.registry import group_columns
from birdstack.store.catalog import load_recordings
from birdstack.store.folds import FoldsConfig
from birdstack.store.ingest import ingest
from birdstack.store.ingest_config import IngestConfig
from birdstack.store.materialise import materialise
from birdstack.store.run_config import RunConfig
from birdstack.store.store import Store

PAPER_ACCURACY = 0.727
FOLD_COLUMNS = {"esc10": "official_fold", "xc10": None}
REPO = Path(__file__).resolve().parent.parent
DEFAULT_DATA = Path(os.environ.get("BIRDSTACK_TEST_DATA", REPO.parent / "shared" / "data"))


@dataclass(frozen=True)
class Table:
    """One row a clip: columns `[clip, column]`, labels and folds `[clip]`."""

    values: np.ndarray
    names: list[str]
    labels: np.ndarray
    folds: np.ndarray
    windows: int
    cpu_s: float


def compute(folder: Path, fold_column: str | None, implementation: str) -> Table:
    """Recording means of the acoustic views, through a store as a user would have it."""
    with (
        tempfile.TemporaryDirectory(prefix="birdstack-esc10-") as scratch,
        AudioSource(AudioConfig(isolate=False)) as source,
        AudioProbe(source.config) as probe,
    ):
        store = Store.create(Path(scratch) / "store")
        ingest(store, folder, IngestConfig(fold_column=fold_column), FoldsConfig(), probe=probe)
        recordings = load_recordings(store.snapshot())
        kind = AcousticExtractor if implementation == "reference" else FastAcousticExtractor
        extractor = kind(AcousticConfig(), source.recipe, source.grid)
        # Imports and the mel filters are not the extractor's speed.
        views = [spec.name for spec in extractor.specs]
        extractor.extract(source.open(recordings[0]), recordings[0], views)
        start_s = time.process_time()
        report = materialise(store, recordings, source, [extractor], RunConfig(executor="serial"))
        cpu_s = time.process_time() - start_s
        matrix = store.matrix("acoustic")
        truth = store.table("labels").join(store.table("folds"), on="recording_id")
    means = np.add.reduceat(matrix.values, matrix.offsets[:-1], axis=0) / matrix.windows[:, None]
    order = pl.DataFrame({"recording_id": matrix.recording_ids})
    rows = order.join(truth, on="recording_id", how="left", maintain_order="left")
    return Table(
        values=means,
        names=matrix.columns,
        labels=rows["label"].to_numpy(),
        folds=rows["fold"].to_numpy(),
        windows=report.windows,
        cpu_s=cpu_s,
    )


def out_of_fold(table: Table, *, seed: int, trees: int) -> np.ndarray:
    """Probabilities `[clip, class]`, each clip by a forest that saw no clip of its fold."""
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - after the timing

    classes = np.unique(table.labels)
    probabilities = np.zeros((len(table.labels), len(classes)))
    for fold in np.unique(table.folds):
        held_out = table.folds == fold
        forest = RandomForestClassifier(n_estimators=trees, random_state=seed, n_jobs=1)
        forest.fit(table.values[~held_out], table.labels[~held_out])
        probabilities[held_out] = forest.predict_proba(table.values[held_out])
    return probabilities


def judge(table: Table, *, seeds: Sequence[int], trees: int) -> None:
    """Print accuracy per fold and overall, and macro AUC, as medians over seeds."""
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - see out_of_fold

    classes = np.unique(table.labels)
    folds = np.unique(table.folds)
    overall, aucs = [], []
    per_fold: dict[int, list[float]] = {int(fold): [] for fold in folds}
    for seed in seeds:
        probabilities = out_of_fold(table, seed=seed, trees=trees)
        right = classes[probabilities.argmax(axis=1)] == table.labels
        overall.append(float(right.mean()))
        aucs.append(float(roc_auc_score(table.labels, probabilities, multi_class="ovr")))
        for fold in folds:
            per_fold[int(fold)].append(float(right[table.folds == fold].mean()))
    print(
        f"{len(table.labels)} clips, {len(table.names)} columns, {trees} trees, {len(seeds)} seeds"
    )
    for fold, accuracies in per_fold.items():
        print(f"  fold {fold}: accuracy {statistics.median(accuracies):.3f}")
    spread = f"{min(overall):.3f} to {max(overall):.3f}"
    print(f"accuracy   {statistics.median(overall):.3f} (seeds {spread})")
    print(f"macro AUC  {statistics.median(aucs):.4f}")


def ablate(table: Table, *, seeds: Sequence[int], trees: int) -> None:
    """Print what is left without each group of columns, and with it alone."""
    classes = np.unique(table.labels)
    for group in GROUPS:
        members = {column.name for column in group_columns(group, AcousticConfig(), 32000)}
        inside = np.array([name in members for name in table.names])
        for title, chosen in (("without", ~inside), ("only", inside)):
            part = Table(table.values[:, chosen], table.names, table.labels, table.folds, 0, 0.0)
            accuracies = [
                float(
                    np.mean(
                        classes[out_of_fold(part, seed=seed, trees=trees).argmax(axis=1)]
                        == table.labels
                    )
                )
                for seed in seeds
            ]
            print(
                f"  {title:8}{group:10}{chosen.sum():4} columns {statistics.median(accuracies):.3f}"
            )


def main() -> None:
    """Compute, judge, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="holds esc10/ and xc10/")
    parser.add_argument("--dataset", choices=sorted(FOLD_COLUMNS), default="esc10")
    parser.add_argument("--implementation", choices=["fused", "reference"], default="fused")
    parser.add_argument("--trees", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, 0 to n-1")
    parser.add_argument("--ablation", action="store_true", help="also leave out each group")
    arguments = parser.parse_args()
    folder = arguments.data / arguments.dataset
    if not (folder / "train_metadata.csv").is_file():
        parser.error(f"no {arguments.dataset} at {folder}: name its parent folder with --data")
    table = compute(folder, FOLD_COLUMNS[arguments.dataset], arguments.implementation)
    judge(table, seeds=range(arguments.seeds), trees=arguments.trees)
    print(f"decode, extract, store: {table.windows / table.cpu_s:.1f} windows per CPU second")
    if arguments.dataset == "esc10":
        print(f"the paper's random forest (Piczak 2015): accuracy {PAPER_ACCURACY:.3f}")
    if arguments.ablation:
        ablate(table, seeds=range(arguments.seeds), trees=arguments.trees)


if __name__ == "__main__":
    main()
