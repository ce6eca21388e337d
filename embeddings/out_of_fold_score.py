"""How well out-of-fold logits rank: macro AUC over windows and over recordings."""

from __future__ import annotations

import json
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from birdstack.embeddings.auc import MacroAuc, macro_auc
from birdstack.store.classes import ClassList
from birdstack.store.labelled_soundscapes import SOUNDSCAPE, labelled_soundscapes
from birdstack.store.labels import ABSENT, PRESENT, UNKNOWN, LabelsConfig, label_matrix
from birdstack.store.simulated import SIMULATED, real_recordings
from birdstack.store.snapshot import Snapshot
from birdstack.store.tables import SCORES


@dataclass(frozen=True)
class Score:
    """A macro AUC of one view of logits.

    Attributes:
        view: whose.
        recipe: of that view.
        level: `window`, or `recording`: mean logits over a recording's windows; behind
            `simulated` or `soundscape` where they are of simulated or labelled real ones.
        auc: pooled over all folds, as a leaderboard would.
        within_folds: mean over folds of the macro AUC in each: what the fold models' scales
            cannot disturb.
        classes: the class list.
        rows: windows or recordings judged.
        recordings: recordings judged.
        windows: windows judged.
    """

    view: str
    recipe: str
    level: str
    auc: MacroAuc
    within_folds: float
    classes: tuple[str, ...]
    rows: int
    recordings: int
    windows: int

    def row(self, split: str) -> dict[str, Any]:
        """As a row of SCORES."""
        per_class = {
            name: round(float(value), 6)
            for name, value in zip(self.classes, self.auc.per_class, strict=True)
            if np.isfinite(value)
        }
        within = None if np.isnan(self.within_folds) else round(self.within_folds, 6)
        return {
            "view": self.view,
            "recipe": self.recipe,
            "metric": "macro_auc",
            "level": self.level,
            "split": split,
            "value": self.auc.value,
            "classes": self.auc.counted,
            "skipped_classes": len(self.classes) - self.auc.counted,
            "windows": self.windows,
            "recordings": self.recordings,
            "details": json.dumps({"within_folds": within, "per_class": per_class}),
        }


def score_view(snapshot: Snapshot, view: str, labels: LabelsConfig) -> list[Score]:
    """Scores of a view of logits against the labels, over windows and over recordings.

    A recording's label is the strongest of its windows'. Recordings without a label or
    without a fold take no part; neither does a class where it is not known. Simulated and
    labelled real soundscapes have scores of their own.
    """
    folds = snapshot.table("folds").select("recording_id", "fold")
    held = set(snapshot.covered(view)) & set(folds["recording_id"])
    real = held & set(real_recordings(snapshot, folds)["recording_id"])
    strong = held & set(labelled_soundscapes(snapshot, folds)["recording_id"])
    domains = {"": real - strong, f"{SOUNDSCAPE} ": strong, f"{SIMULATED} ": held - real}
    # The first is always there, so that a view without any label says so.
    return [
        score
        for sort, chosen in domains.items()
        if chosen or not sort
        for score in _scores(snapshot, view, labels, folds, chosen, sort=sort)
    ]


def _scores(
    snapshot: Snapshot,
    view: str,
    labels: LabelsConfig,
    folds: pl.DataFrame,
    chosen: AbstractSet[str],
    *,
    sort: str,
) -> list[Score]:
    held = sorted(chosen)
    classes = list(ClassList.from_frame(snapshot.table("classes")).labels)
    matrix = snapshot.matrix({view: classes}, recordings=held).ordered(classes)
    keys = matrix.keys
    truth = label_matrix(keys, snapshot.table("labels"), classes, labels)
    # A network that does not know a class says NaN: there is nothing to judge.
    truth[np.isnan(matrix.values)] = UNKNOWN
    fold = keys.join(folds, on="recording_id", how="left", maintain_order="left")["fold"].to_numpy()
    recipe = snapshot.recipe_of(view)
    starts = matrix.offsets[:-1]
    scores = []
    for level in ("window", "recording"):
        if level == "recording" and len(starts):
            values = np.add.reduceat(matrix.values, starts, axis=0) / matrix.windows[:, np.newaxis]
            judged, owner = _strongest(truth, starts), fold[starts]
        else:
            values, judged, owner = matrix.values, truth, fold
        within = [macro_auc(values[owner == k], judged[owner == k]).value for k in np.unique(owner)]
        counted = [value for value in within if np.isfinite(value)]
        scores.append(
            Score(
                view=view,
                recipe=recipe,
                level=sort + level,
                auc=macro_auc(values, judged),
                within_folds=float(np.mean(counted)) if counted else float("nan"),
                classes=tuple(classes),
                rows=len(values),
                recordings=len(held),
                windows=len(truth),
            )
        )
    return scores


def _strongest(truth: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Labels `[recording, class]`: present in any window, else not known in any, else absent."""
    present = np.logical_or.reduceat(truth == PRESENT, starts, axis=0)
    unknown = np.logical_or.reduceat(truth == UNKNOWN, starts, axis=0)
    return np.where(present, PRESENT, np.where(unknown, UNKNOWN, ABSENT)).astype(np.int8)


def score_frame(scores: list[Score], split: str) -> pl.DataFrame:
    """Scores as rows of SCORES."""
    return pl.DataFrame([score.row(split) for score in scores], schema=SCORES)
