"""Macro AUC and its bootstrap over recordings, against scikit-learn class by class.

The windows are synthetic: each class sings in some of the recordings, in a quarter of their
windows. Every arm takes scores `[window, class]` as they lie, and the run ends if one of them
differs from scikit-learn by more than 1e-12 in any class. The naive bootstrap, which puts the
windows of the drawn recordings together and asks scikit-learn, is timed over a few resamples
and multiplied.

    python benchmarks/auc.py
    python benchmarks/auc.py --recordings 60 --classes 12 --resamples 50      # seconds
    python benchmarks/auc.py --write              # also into docs/reference/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timing
from timing import Timing, markdown_table

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "reference" / "benchmarks.md"
LIBRARIES = ("numpy", "scipy", "scikit-learn")
TOLERANCE = 1e-12
REFERENCE, OURS = "scikit-learn", "birdstack"
KINDS = {"float32": "float32", "float64": "float64", "heavy ties": "float32, many ties"}


def drawn(recordings: int, windows: int, classes: int) -> tuple[Any, Any, Any]:
    """Recording of each window, scores and truth, `[window]` and `[window, class]`."""
    import numpy as np  # noqa: PLC0415 - after one_thread

    rng = np.random.default_rng(0)
    share = np.geomspace(3 / recordings, 0.35, classes)
    sings = rng.random((recordings, 1, classes)) < share
    present = sings & (rng.random((recordings, windows, classes)) < 0.25)
    scores = rng.normal(size=present.shape) + 1.5 * present
    scores += 0.5 * rng.normal(size=(recordings, 1, classes))
    flat = recordings * windows, classes
    owner = np.repeat(np.arange(recordings), windows)
    return owner, scores.reshape(flat), present.reshape(flat).astype(np.int8)


def by_scikit_learn(scores: Any, truth: Any) -> Any:
    """`roc_auc_score` of each class."""
    import numpy as np  # noqa: PLC0415 - after one_thread
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - after one_thread

    found = np.full(truth.shape[1], np.nan)
    for index, labels in enumerate(truth.T):
        if 0 < np.count_nonzero(labels) < len(labels):
            found[index] = roc_auc_score(labels, scores[:, index])
    return found


def by_ranks(scores: Any, truth: Any) -> Any:
    """From the middle ranks of scipy's `rankdata`."""
    import numpy as np  # noqa: PLC0415 - after one_thread
    from scipy.stats import rankdata  # noqa: PLC0415 - after one_thread

    positives = truth.sum(axis=0, dtype=np.int64)
    ranks = np.where(truth == 1, rankdata(scores, axis=0), 0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        wins = ranks - positives * (positives + 1) / 2
        return wins / (positives * (len(truth) - positives))


def ours(scores: Any, truth: Any) -> Any:
    """`macro_auc`."""
    from birdstack.embeddings.auc import macro_auc  # noqa: PLC0415 - after one_thread

    return macro_auc(scores, truth).per_class


ARMS: dict[str, Callable[[Any, Any], Any]] = {
    REFERENCE: by_scikit_learn,
    "scipy rankdata": by_ranks,
    OURS: ours,
}


def agree(found: Any, expected: Any, what: str) -> None:
    """End the run unless both know the same classes and differ by nothing to speak of."""
    import numpy as np  # noqa: PLC0415 - after one_thread

    if not np.allclose(found, expected, rtol=0, atol=TOLERANCE, equal_nan=True):
        raise SystemExit(f"{what} differs from scikit-learn: {found} against {expected}")  # noqa: EM102, TRY003


def metric(scores: Any, truth: Any, rounds: int) -> dict[str, dict[str, list[float]]]:
    """CPU seconds of each arm for each kind of scores."""
    import numpy as np  # noqa: PLC0415 - after one_thread

    kinds = {
        "float32": scores.astype(np.float32),
        "float64": scores,
        "heavy ties": (np.round(4 * scores) / 4).astype(np.float32),
    }
    found = {}
    for kind, values in kinds.items():
        expected = by_scikit_learn(values, truth)
        for name, arm in ARMS.items():
            agree(arm(values, truth), expected, f"{name}, {kind}")
        ways = {name: lambda arm=arm, v=values: arm(v, truth) for name, arm in ARMS.items()}
        found[kind] = {name: t.cpu_s for name, t in timing.interleaved(ways, rounds).items()}
    return found


def bootstrap(
    owner: Any, scores: Any, truth: Any, *, resamples: int, naive: int, rounds: int
) -> dict[str, Any]:
    """CPU seconds of all our resamples, and of each naive one, in turns."""
    import numpy as np  # noqa: PLC0415 - after one_thread

    from birdstack.stacking.bootstrap import RecordingBootstrap  # noqa: PLC0415 - see above

    scores = (np.round(64 * scores) / 64).astype(np.float32)  # some ties
    rows = np.split(np.arange(len(owner)), np.flatnonzero(np.diff(owner)) + 1)
    exact, one_by_one, second = Timing(), Timing(), Timing()

    def all_at_once() -> tuple[Any, Any]:
        book = RecordingBootstrap(owner, truth, resamples=resamples)
        return book, book.draws(scores)

    def resample(times: Any) -> Any:
        chosen = np.concatenate([rows[k] for k in np.repeat(np.arange(len(rows)), times)])
        return by_scikit_learn(scores[chosen], truth[chosen])

    book, draws = all_at_once()
    multiplicities = book.multiplicities
    for number in range(max(rounds, naive)):
        if number < rounds:
            exact.add(all_at_once)
            second.add(lambda: book.draws(scores))
        if number < naive:
            expected = one_by_one.add(lambda k=number: resample(multiplicities[:, k]))
            agree(draws.drawn[:, number], expected, f"resample {number}")
    interval = draws.interval()
    return {
        "resamples": resamples,
        "exact_cpu_s": exact.cpu_s,
        "further_cpu_s": second.cpu_s,
        "naive_cpu_s": one_by_one.cpu_s,
        "interval": [interval.value, interval.low, interval.high],
    }


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Every figure of the report."""
    owner, scores, truth = drawn(asked.recordings, asked.windows, asked.classes)
    figures = {
        "data": {
            "rows": len(owner),
            "classes": asked.classes,
            "recordings": asked.recordings,
            "positives": int(truth.sum()),
        },
        "metric_cpu_s": metric(scores, truth, asked.rounds),
        "bootstrap": bootstrap(
            owner,
            scores,
            truth,
            resamples=asked.resamples,
            naive=asked.naive,
            rounds=asked.rounds,
        ),
    }
    return {**figures, "machine": timing.machine(*LIBRARIES)}


def markdown(figures: dict[str, Any]) -> str:
    """The report."""
    data, seconds = figures["data"], figures["metric_cpu_s"]
    cpu = {
        kind: {name: Timing(each, each).cpu for name, each in arms.items()}
        for kind, arms in seconds.items()
    }
    rows = [
        [name]
        + [
            f"{timing.milliseconds(arms[name])} ({timing.ratio(arms[REFERENCE], arms[name])})"
            for arms in cpu.values()
        ]
        for name in ARMS
    ]
    book = figures["bootstrap"]
    exact_s, further_s, naive_s = (
        Timing(book[key], book[key]).cpu for key in ("exact_cpu_s", "further_cpu_s", "naive_cpu_s")
    )
    count = book["resamples"]
    value, low, high = book["interval"]
    return "\n\n".join(
        [
            (
                f"{data['rows']:,} windows of {data['recordings']:,} recordings, "
                f"{data['classes']} classes, {data['positives']:,} positives. {figures['machine']}"
            ),
            markdown_table(
                ["median CPU ms (times scikit-learn's speed)", *(KINDS[kind] for kind in cpu)], rows
            ),
            markdown_table(
                [f"bootstrap over recordings, {count:,} resamples", "CPU s", "naive / ours"],
                [
                    [
                        f"naive, from {len(book['naive_cpu_s'])} resamples",
                        f"{naive_s * count:,.0f}",
                        "1",
                    ],
                    [
                        "birdstack, the resamples drawn too",
                        f"{exact_s:.2f}",
                        f"{naive_s * count / exact_s:,.0f}",
                    ],
                    [
                        "birdstack, further scores in the same resamples",
                        f"{further_s:.2f}",
                        f"{naive_s * count / further_s:,.0f}",
                    ],
                ],
            ),
            f"Macro AUC {value:.4f}, 95 % interval {low:.4f} to {high:.4f}.",
        ]
    )


def main() -> None:
    """Run, print, and write if asked to."""
    timing.one_thread()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=1100)
    parser.add_argument("--windows", type=int, default=48, help="of each recording")
    parser.add_argument("--classes", type=int, default=182)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--naive", type=int, default=3, help="naive resamples to time")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    asked = parser.parse_args()
    figures = run(asked)
    report = markdown(figures)
    print(report)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1), "utf-8")
    if asked.write:
        timing.write_section(DOCUMENT, "auc", report)


if __name__ == "__main__":
    main()
