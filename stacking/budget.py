"""Which engine and how many fold models fit a time limit: timed on the files themselves.

The most exact choice that fits is taken: all fold models in float32, all in bfloat16 (only if
the bundle's own check passed it), then fewer and fewer fold models of the quickest engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdstack.embeddings.engine import EngineKind, native_bf16
from birdstack.stacking.bundle import Bundle
from birdstack.stacking.predictor import HeardRecording, Predictor, soundscape_recording
from birdstack.store.errors import SkipRecording, UsageError

MARGIN = 1.15
"""Projections are this much longer than what was measured: machines have moods."""
_ROUNDS = 2


@dataclass(frozen=True)
class Offer:
    """One way to predict, and what it would take.

    Attributes:
        engine: of the networks.
        fold_models: how many are averaged.
        file_s: wall seconds of a file at the number of workers asked for.
        total_s: of all files, with the margin.
    """

    engine: EngineKind
    fold_models: int
    file_s: float
    total_s: float


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        offer: the choice.
        offers: everything that was weighed, the most exact first.
        fits: whether the choice fits the limit.
        spent_s: that the timing took.
        sample: files that were timed.
    """

    offer: Offer
    offers: tuple[Offer, ...]
    fits: bool
    spent_s: float
    sample: int


def engines(bundle: Bundle) -> tuple[EngineKind, ...]:
    """Engines that a bundle may be run on here, the most exact first."""
    own = bundle.facts.engine
    checked = (bundle.facts.check or {}).get("engines", {})
    rough = checked.get("openvino-bf16", {})
    if own == "openvino" and rough.get("passed") and native_bf16():
        return (own, "openvino-bf16")
    return (own,)


def choose(
    bundle: Bundle,
    root: Path,
    names: Sequence[str],
    *,
    limit_s: float,
    n_files: int,
    workers: int,
    told: Callable[[str], None] = lambda _words: None,
) -> Choice:
    """Time a few files each way, and choose.

    Args:
        bundle: what predicts.
        root: folder of the files.
        names: of the files.
        limit_s: for all files; the timing itself counts.
        n_files: how many files there will be.
        workers: threads.
        told: what is timed.

    Raises:
        UsageError: none of the files that were tried can be used.
    """
    started_s = time.monotonic()
    count = max(2 * workers, 3)
    spread = np.unique(np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int))
    sample = [root / names[at] for at in spread]
    total = max(len(bundle.fold_models), 1)
    measured: list[tuple[EngineKind, dict[int, float]]] = []
    for engine in engines(bundle):
        by_count = {}
        for folds in sorted({1, total}):
            told(f"{engine}, {folds} of {total} fold models")
            by_count[folds] = _file_s(bundle, engine, folds, sample, workers)
        by_count[1] = min(by_count.values())  # fewer never cost more, whatever the clock says
        measured.append((engine, by_count))
    spent_s = time.monotonic() - started_s
    offers = [
        _offer(engine, by_count, folds, n_files)
        for engine, by_count in measured
        for folds in range(total, 0, -1)
    ]
    quickest = min((o for o in offers if o.fold_models == total), key=lambda o: o.file_s).engine
    ranked = [o for o in offers if o.fold_models == total]
    ranked += [o for o in offers if o.fold_models < total and o.engine == quickest]
    left_s = limit_s - spent_s
    fitting = [offer for offer in ranked if offer.total_s <= left_s]
    offer = fitting[0] if fitting else min(ranked, key=lambda each: each.total_s)
    return Choice(offer, tuple(ranked), bool(fitting), spent_s, len(sample))


def _offer(engine: EngineKind, by_count: dict[int, float], folds: int, n_files: int) -> Offer:
    """Between one fold model and all of them the cost is a straight line."""
    counts = sorted(by_count)
    file_s = float(np.interp(folds, counts, [by_count[n] for n in counts]))
    return Offer(engine, folds, file_s, MARGIN * file_s * n_files)


def _file_s(
    bundle: Bundle, engine: EngineKind, folds: int, sample: Sequence[Path], workers: int
) -> float:
    """Wall seconds of a file: the quickest of a few rounds, after one that is not timed."""
    chosen = bundle.fold_models[:folds] or None
    with Predictor(bundle, engine=engine, fold_models=chosen, workers=workers) as predictor:
        predictor.ready()

        def hear(path: Path) -> HeardRecording | None:
            try:
                recording = soundscape_recording(path, path.parent)
                return predictor.hear(predictor.open(recording), recording)
            except SkipRecording:
                return None

        def run() -> int:
            with ThreadPoolExecutor(workers, thread_name_prefix="budget") as pool:
                heard = [found for found in pool.map(hear, sample) if found is not None]
                batches = [heard[at::workers] for at in range(min(workers, len(heard)))]
                list(pool.map(predictor.score, batches))
            return len(heard)

        if run() == 0:
            message = f"{sample[0].parent}: none of the {len(sample)} files tried can be used"
            raise UsageError(message, remedy="look at the files, or leave --budget-minutes away")
        times_s = []
        for _ in range(_ROUNDS):
            started_s = time.perf_counter()
            count = run()
            times_s.append((time.perf_counter() - started_s) / count)
    return min(times_s)
