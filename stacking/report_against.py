"""Two runs on the same windows: differences in macro and per-class AUC, resampled together."""

from __future__ import annotations

from typing import Any

import numpy as np

from birdstack.stacking.bootstrap import RecordingBootstrap
from birdstack.stacking.report_run import KEYS, SHIPPED, Domain, Run
from birdstack.stacking.report_scores import draws_of, interval, number_or_none
from birdstack.store.errors import UsageError


def against(ours: Run, theirs: Run, *, resamples: int, seed: int) -> dict[str, Any]:
    """What this run ships less what the other one ships, by domain.

    Only windows and classes that both have are compared, by this run's truth.

    Raises:
        UsageError: the runs have no judged windows in common.
    """
    found = []
    for domain in ours.judged:
        other = theirs.domains.get(domain.name)
        if other is not None and SHIPPED in domain.score_names and SHIPPED in other.score_names:
            compared = _compared(domain, other, resamples, seed)
            if compared is not None:
                found.append(compared)
    if not found:
        message = f"--against {theirs.folder}: it has no labelled window and class in common"
        message += f" with {ours.folder}"
        raise UsageError(message, remedy="name a run over the same recordings")
    return {
        "other": str(theirs.folder),
        "other_title": theirs.shipped_title,
        "ours_title": ours.shipped_title,
        "snapshots": [ours.facts.get("snapshot"), theirs.facts.get("snapshot")],
        "domains": found,
    }


def _compared(ours: Domain, theirs: Domain, resamples: int, seed: int) -> dict[str, Any] | None:
    classes = [name for name in ours.classes if name in theirs.classes]
    left = ours.rows.select(KEYS).with_row_index("ours")
    right = theirs.rows.select(KEYS).with_row_index("theirs")
    right = right.cast({key: left.schema[key] for key in KEYS})
    both = left.join(right, on=KEYS, maintain_order="left")
    truth = ours.truth
    if truth is None or not classes or both.is_empty():
        return None
    here, there = both["ours"].to_numpy(), both["theirs"].to_numpy()
    at = np.array([ours.classes.index(name) for name in classes])
    labels = truth[np.ix_(here, at)]
    known = (labels >= 0).any(axis=1)
    columns = np.array([theirs.classes.index(name) for name in classes])
    differ = 0
    if theirs.truth is not None:
        others = theirs.truth[np.ix_(there, columns)]
        differ = int(((labels != others) & (labels >= 0) & (others >= 0)).sum())
    recording = ours.recording[here][known]
    if len(np.unique(recording)) < 2:  # noqa: PLR2004 - nothing to draw from
        return None
    bootstrap = RecordingBootstrap(recording, labels[known], resamples=resamples, seed=seed)
    mine = draws_of(bootstrap, ours.scores(SHIPPED)[np.ix_(here[known], at)])
    other = draws_of(bootstrap, theirs.scores(SHIPPED)[np.ix_(there[known], columns)])
    gain = mine - other
    return {
        "domain": ours.name,
        "title": ours.title,
        "windows": int(known.sum()),
        "windows_left_out": len(ours.rows) - int(known.sum()),
        "classes": len(classes),
        "labels_that_differ": differ,
        "ours": interval(mine.interval()),
        "theirs": interval(other.interval()),
        "difference": interval(gain.interval()),
        "better": int((gain.value > 0).sum()),
        "worse": int((gain.value < 0).sum()),
        "by_class": [
            {
                "class": name,
                "ours": number_or_none(mine.value[number]),
                "theirs": number_or_none(other.value[number]),
                "difference": interval(difference),
            }
            for number, (name, difference) in enumerate(zip(classes, gain.per_class(), strict=True))
        ],
    }
