"""How often 95 % intervals of a macro AUC hold the truth, for several ways to make them.

Worlds are drawn whose true AUC of each class is known in closed form: recordings of windows, a
long tail of classes, a recording's own loudness for each class, birds near and far. A class
counts if it has a positive, as in BirdCLEF, so the truth that an interval should hold is the mean
of the true AUC over the classes that count. Every way works on the same resamples of recordings.

    python benchmarks/interval_coverage.py
    python benchmarks/interval_coverage.py --replications 20 --resamples 100     # a taste
    python benchmarks/interval_coverage.py --write        # also into docs/reference/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import _one_thread  # noqa: F401 - before numpy
import numpy as np
import timing
from _coverage_worlds import WORLDS, Drawn, World, drawn
from scipy.stats import norm
from timing import markdown_table

from birdstack.stacking.bootstrap import AucDraws, RecordingBootstrap
from birdstack.stacking.pair_table import pair_table

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "reference" / "benchmarks.md"
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Material:
    """What a way may use.

    Attributes:
        found: AUC, or differences of it, on all recordings and in resamples.
        counted: classes that have one, `[class]` of bool.
        influence: of each recording on the macro AUC, `[recording]`.
        error: standard error of the macro AUC in each resample from influences, `[resample]`.
    """

    found: AucDraws
    counted: np.ndarray
    influence: np.ndarray
    error: np.ndarray

    @property
    def value(self) -> np.ndarray:
        """AUC of each class that counts."""
        return self.found.value[self.counted]

    @property
    def draws(self) -> np.ndarray:
        """In resamples, NaN where the class has no positive."""
        return self.found.drawn[self.counted]

    @property
    def singers(self) -> np.ndarray:
        """Recordings with positives of each class that counts."""
        number, _ = self.found.singers.counts()
        return number[self.counted]

    @property
    def point(self) -> float:
        """Macro AUC."""
        return float(np.mean(self.value))

    @property
    def dropped(self) -> np.ndarray:
        """Mean over the classes that each resample has."""
        return self.found.macro


OURS = "birdstack"
KINDS = ("macro AUC", "paired difference")
_EDGES = (100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2)
Pair = tuple[float, float]


def _between(draws: np.ndarray) -> Pair:
    low, high = np.percentile(draws[np.isfinite(draws)], _EDGES)
    return float(low), float(high)


def percentile(m: Material) -> Pair:
    """Percentiles of the mean over the classes that a resample has."""
    return _between(m.dropped)


def _means(values: np.ndarray) -> np.ndarray:
    """Mean over the finite values of each column; NaN without any."""
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(finite, values, 0).sum(axis=0) / finite.sum(axis=0)


def basic(m: Material) -> Pair:
    """The same, mirrored at the figure."""
    low, high = percentile(m)
    return 2 * m.point - high, 2 * m.point - low


def bca(m: Material) -> Pair:
    """Bias-corrected and accelerated (Efron 1987)."""
    draws = m.dropped[np.isfinite(m.dropped)]
    below = np.clip(np.mean(draws < m.point), 1 / len(draws), 1 - 1 / len(draws))
    z0 = norm.ppf(below)
    cube = np.sum(m.influence**3) / (6 * np.sum(m.influence**2) ** 1.5)
    z = z0 + norm.ppf(np.array(_EDGES) / 100)
    low, high = np.percentile(draws, 100 * norm.cdf(z0 + z / (1 - cube * z)))
    return float(low), float(high)


def fixed(m: Material) -> Pair:
    """All classes count in all resamples; one without positives has its own figure there."""
    return _between(np.where(np.isfinite(m.draws), m.draws, m.value[:, None]).mean(axis=0))


def strata(m: Material) -> Pair:
    """A class without positives has the mean of classes as rare that have some."""
    return _between(_by_rarity(m))


def _by_rarity(m: Material) -> np.ndarray:
    total = np.zeros(m.draws.shape[1])
    for members in _strata(m.singers):
        means = _means(m.draws[members])
        gap = ~np.isfinite(means)
        means[gap] = np.mean(m.value[members])
        total += means * len(members)
    return total / len(m.value)


def _strata(singers: np.ndarray) -> list[np.ndarray]:
    """Classes of one number of recordings with positives; a class alone joins the next."""
    found: list[np.ndarray] = []
    order = np.argsort(singers, kind="stable")
    for number in np.unique(singers):
        members = order[singers[order] == number]
        if found and len(found[-1]) == 1:
            found[-1] = np.concatenate([found[-1], members])
        else:
            found.append(members)
    return found


def studentised(m: Material) -> Pair:
    """Percentiles of deviations over standard errors, times the standard error."""
    error = np.sqrt(np.sum(m.influence**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (_means(m.draws - m.value[:, None])) / m.error
    low, high = _between(ratio)
    return m.point - high * error, m.point - low * error


def linear(m: Material) -> Pair:
    """The figure and 1.96 standard errors from influences (Obuchowski 1997)."""
    error = np.sqrt(np.sum(m.influence**2)) * norm.ppf((1 + LEVEL) / 2)
    return m.point - error, m.point + error


def lent_plain(m: Material) -> Pair:
    """As birdstack does, but with one variance for all classes, whatever their AUC."""
    plain = replace(m.found.singers, spread=np.ones(len(m.found.value)))
    found = replace(m.found, singers=plain).interval()
    return found.low, found.high


def ours(m: Material) -> Pair:
    """What `birdstack` gives: deviations, widened by the variance that rare classes cannot show."""
    found = m.found.interval()
    return found.low, found.high


WAYS: dict[str, Callable[[Material], Pair]] = {
    "percentile": percentile,
    "basic": basic,
    "BCa": bca,
    "studentised": studentised,
    "influences, normal": linear,
    "class set held fixed": fixed,
    "strata of rarity": strata,
    "lent, one variance": lent_plain,
    OURS: ours,
}


def influences(
    world: Drawn, scores: np.ndarray, weights: np.ndarray, counted: np.ndarray
) -> np.ndarray:
    """Derivative of the macro AUC by each recording's weight, `[recording, resample]`."""
    units = len(weights)
    total, present = np.zeros(weights.shape), np.zeros(weights.shape[1])
    for number in np.flatnonzero(counted):
        yes = world.truth[:, number] == 1
        order, other = np.argsort(scores[yes, number]), np.argsort(scores[~yes, number])
        singers, row = np.unique(world.recording[yes][order], return_inverse=True)
        table = pair_table(
            scores[yes, number][order],
            row,
            scores[~yes, number][other],
            world.recording[~yes][other],
            units=units,
            dtype=np.dtype(np.float64),
        )
        p = np.bincount(world.recording[yes], minlength=units)[singers]
        q = np.bincount(world.recording[~yes], minlength=units)
        mine, won = weights[singers], table @ weights
        positives, negatives = p @ mine, q @ weights
        there = positives > 0
        scale = 1 / (2 * np.maximum(positives, 1) * negatives)
        auc = (mine * won).sum(axis=0) * scale
        slope = (table.T @ mine) * scale - auc * q[:, None] / negatives
        slope[singers] += won * scale - auc * p[:, None] / np.maximum(positives, 1)
        total += np.where(there, slope, 0)
        present += there
    return total / np.maximum(present, 1)


def materials(
    world: Drawn, resamples: int, seed: int, *, slow: bool
) -> list[tuple[Material, float]]:
    """For the first contender and for its lead over the second, with the true figures."""
    book = RecordingBootstrap(world.recording, world.truth, resamples=resamples, seed=seed)
    first, second = (book.draws(scores) for scores in world.scores)
    counted = np.isfinite(first.value)
    weights = np.ones((len(book.multiplicities), 1))
    if slow:
        weights = np.concatenate([weights, book.multiplicities], axis=1)
    slope, other = (influences(world, scores, weights, counted) for scores in world.scores)
    found = []
    for draws, slopes, truth in (
        (first, slope, world.auc[0]),
        (first - second, slope - other, world.auc[0] - world.auc[1]),
    ):
        error = np.sqrt((weights * slopes**2).sum(axis=0))[1:]
        found.append((Material(draws, counted, slopes[:, 0], error), float(truth[counted].mean())))
    return found


def examined(
    world: World, replications: int, resamples: int, *, slow: bool
) -> dict[str, dict[str, dict[str, float]]]:
    """Coverage, tails, width and how often the figure itself lies outside, for each way."""
    ways = {k: v for k, v in WAYS.items() if slow or k != "studentised"}
    kept: dict[str, dict[str, list[tuple[float, ...]]]] = {
        kind: {name: [] for name in ways} for kind in KINDS
    }
    for replication in range(replications):
        given = materials(drawn(world, replication), resamples, replication, slow=slow)
        for by_way, (material, truth) in zip(kept.values(), given, strict=True):
            for name, way in ways.items():
                by_way[name].append((*way(material), truth, material.point))
    return {
        kind: {name: _summed(np.array(rows)) for name, rows in by_way.items()}
        for kind, by_way in kept.items()
    }


def _summed(rows: np.ndarray) -> dict[str, float]:
    low, high, truth, point = rows.T
    return {
        "coverage": float(np.mean((low <= truth) & (truth <= high))),
        "truth_below": float(np.mean(truth < low)),
        "truth_above": float(np.mean(truth > high)),
        "median_width": float(np.median(high - low)),
        "spread": float(np.std(point - truth, ddof=1)),
    }


def report(figures: dict[str, Any], given: argparse.Namespace) -> str:
    """Tables of coverage and of widths."""
    titles = [WORLDS[name].title for name in figures]
    size = (
        f"{given.replications:,} draws of each world ({given.large} of the largest), "
        f"{given.resamples} resamples each; a share of 95 % has a standard error of "
        f"{_points(given.replications)} points ({_points(given.large)})."
    )
    parts = [size]
    for kind in KINDS:
        rows = [
            [way, *(_percent(found["by_kind"][kind].get(way)) for found in figures.values())]
            for way in WAYS
        ]
        parts.append(markdown_table([f"{kind}: % of intervals with the truth", *titles], rows))
    for kind in KINDS:
        rows = [
            [way, *(f"{f['by_kind'][kind][way]['median_width']:.3f}" for f in figures.values())]
            for way in ("percentile", OURS)
        ]
        needed = (3.92 * f["by_kind"][kind][OURS]["spread"] for f in figures.values())
        rows.append(["3.92 standard deviations of the error", *(f"{w:.3f}" for w in needed)])
        parts.append(markdown_table([f"{kind}: median width", *titles], rows))
    return "\n\n".join(parts)


def _percent(found: dict[str, float] | None) -> str:
    return f"{100 * found['coverage']:.1f}" if found else "-"


def _points(replications: int) -> str:
    return f"{100 * np.sqrt(LEVEL * (1 - LEVEL) / replications):.1f}"


def main() -> None:
    """Examine the worlds; print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=400)
    parser.add_argument("--large", type=int, default=200, help="replications of the largest world")
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), choices=list(WORLDS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help="also into benchmarks.md")
    given = parser.parse_args()
    figures = {}
    for name in given.worlds:
        world = WORLDS[name]
        start, slow = time.process_time(), world.recordings <= 200
        count = given.replications if slow else given.large
        figures[name] = {
            "world": asdict(world),
            "by_kind": examined(world, count, given.resamples, slow=slow),
        }
        print(f"{world.title}: {time.process_time() - start:.0f} CPU s", flush=True)
    text = report(figures, given)
    print(text)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    if given.write:
        timing.write_section(DOCUMENT, "interval-coverage", text)


if __name__ == "__main__":
    main()
