"""A study for each class, drawn to the pooled optimum: slow, and usually worse.

A class with n positive windows gets settings at n / (n + k) of the way from the pooled optimum
to its own, on the scale on which they are searched. Which trial is its own best is read off its
out-of-fold sample; so that this choice can be judged, it is also made for each fold without it,
and the class fitted with what comes of that. The settings of classes are taken only if by this
nested estimate they lead the pooled ones by more than one standard error over classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.tuning_study import Dimension, Outcome, Params, SharedStudy
from birdstack.stacking.tuning_trials import Tryout, auc, together
from birdstack.store.labels import PRESENT

if TYPE_CHECKING:
    from birdstack.stacking.tuning import TuningSettings

_ERRORS = 1.0


@dataclass(frozen=True)
class OwnSettings:
    """What the studies of the classes found.

    Attributes:
        by_class: settings of each class that are not the pooled ones; empty if not taken.
        nested: see `Tuned.nested`.
        why: one sentence.
    """

    by_class: Mapping[str, Params]
    nested: Mapping[str, Any]
    why: str


def per_class(
    tryout: Tryout,
    numbers: Sequence[int],
    pooled: StackSettings,
    tuning: TuningSettings,
    *,
    open_study: Callable[[str], SharedStudy],
    until_s: float | None,
    advance: Callable[[int, int, str], None],
) -> OwnSettings:
    """Search settings for each class.

    Args:
        tryout: what trials have in common.
        numbers: classes with enough positives.
        pooled: settings found for all.
        tuning: what is searched, and how strongly classes are drawn together.
        open_study: of the class of a name.
        until_s: when to begin no more trials; every class gets one.
        advance: told of classes.
    """
    space = tuning.space()
    start = {one.name: getattr(pooled, one.name) for one in space}
    names = tryout.table.classes
    advance(0, len(numbers), "")
    by_class: dict[str, Params] = {}
    aucs = []
    for place, number in enumerate(numbers):
        study = open_study(names[number])
        study.search(
            space,
            [start],
            lambda params, _, number=number: _outcome(  # type: ignore[misc]
                tryout, number, pooled.model_copy(update=params)
            ),
            trials=tuning.trials,
            until_s=until_s,
        )
        trials = study.finished()
        positives = int((tryout.table.truth[:, number] == PRESENT).sum())
        weight = positives / (positives + tuning.shrink) if positives else 0.0
        best = max(trials, key=lambda trial: trial.value)
        by_class[names[number]] = between(space, start, best.params, weight)
        without = {
            fold: between(space, start, _best_without(trials, fold).params, weight)
            for fold in best.user_attrs["without"]
        }
        aucs.append(
            [_nested_auc(tryout, number, pooled, dict.fromkeys(without, start)),
             _nested_auc(tryout, number, pooled, without)]
        )  # fmt: skip
        advance(place + 1, len(numbers), f"class {names[number]}")
    return _judged(by_class, np.array(aucs))


def between(space: Sequence[Dimension], one: Params, other: Params, weight: float) -> Params:
    """Settings at a share of the way from one to the other, on the scale of the search."""
    found: Params = {}
    for axis in space:
        a, b = float(one[axis.name]), float(other[axis.name])
        value = a ** (1 - weight) * b**weight if axis.log else (1 - weight) * a + weight * b
        found[axis.name] = round(value) if axis.whole else value
    return found


def _outcome(tryout: Tryout, number: int, settings: StackSettings) -> Outcome:
    """AUC of a class at its best number of trees, and likewise without each fold."""
    fit = tryout.fit(number, settings)
    scores = together(fit)

    def best(rows: np.ndarray) -> float:
        found = [auc(row[rows], fit.present[rows]) for row in scores]
        return max((value for value in found if np.isfinite(value)), default=0.5)

    every = np.ones(len(fit.fold), dtype=bool)
    without = {str(fold): best(fit.fold != fold) for fold in np.unique(fit.fold)}
    return Outcome(best(every), {"without": without})


def _best_without(trials: Sequence[Any], fold: str) -> Any:
    return max(trials, key=lambda trial: trial.user_attrs["without"][fold])


def _nested_auc(
    tryout: Tryout, number: int, pooled: StackSettings, chosen: Mapping[str, Params]
) -> float:
    """AUC of a class whose every fold is scored with what was chosen without it."""
    scores: np.ndarray | None = None
    for params in {tuple(sorted(p.items())): p for p in chosen.values()}.values():
        fit = tryout.fit(number, pooled.model_copy(update=params))
        tried = together(fit)
        scores = np.zeros(len(fit.fold)) if scores is None else scores
        for fold in (int(name) for name, own in chosen.items() if own == params):
            rest, here = fit.fold != fold, fit.fold == fold
            values = np.nan_to_num([auc(row[rest], fit.present[rest]) for row in tried])
            scores[here] = tried[int(np.argmax(values))][here]
    return np.nan if scores is None else auc(scores, fit.present)


def _judged(by_class: dict[str, Params], aucs: np.ndarray) -> OwnSettings:
    known = aucs[np.isfinite(aucs).all(axis=1)]
    lead = known[:, 1] - known[:, 0]
    error = float(lead.std(ddof=1) / np.sqrt(len(lead))) if len(lead) > 1 else np.inf
    gain = float(lead.mean()) if len(lead) else 0.0
    taken = gain > _ERRORS * error
    pooled, own = known.mean(axis=0).tolist() if len(known) else (np.nan, np.nan)
    why = (
        f"settings of each class lead the pooled ones by {gain:+.4f} fold-nested, standard error "
        f"{error:.4f}: {'taken' if taken else 'not enough, the pooled ones are taken'}"
    )
    nested = {"pooled": pooled, "per_class": own, "lead": gain, "error": error, "taken": taken}
    return OwnSettings(by_class if taken else {}, nested, why)
