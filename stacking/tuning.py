"""Hyper-parameters of the class layers, searched with Optuna: one study for all classes.

On few positives a study of one class picks what fits them by chance (measured: 182 private
studies end below no tuning at all). So one trial fits the layers of a random third of the
classes on every fold and takes the mean AUC of their out-of-fold samples; negatives there are
drawn at random, so that the sample's AUC is an unbiased estimate of that of all windows. Numbers
of trees are read off the same fit. The usual settings are the first trial, and stay unless the
best is ahead of them by more than one standard error over classes.

The study lies in a journal file, or wherever an RDB URL says; it is resumed, and several
processes may work on one (`tuning_study`). A study for each class besides is an explicit option
(`tuning_per_class`).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from birdstack.stacking.guards import too_few
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.stack_table import StackTable
from birdstack.stacking.table_digest import digest_of, table_digest
from birdstack.stacking.tuning_study import Dimension, Outcome, Params, SharedStudy, open_storage
from birdstack.stacking.tuning_trials import Tryout
from birdstack.store.errors import UsageError

_STUDY = "birdstack-stack"
_ERRORS = 1.0


class Range(BaseModel):
    """Bounds of a hyper-parameter.

    Attributes:
        low: smallest value.
        high: largest value.
        log: whether it is drawn on a logarithmic scale.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float
    log: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high or (self.log and self.low <= 0):
            message = f"low {self.low} must be below high {self.high}, and above 0 where log"
            raise ValueError(message)
        return self


class TuningSettings(BaseModel):
    """What is searched, and for how long.

    Attributes:
        trials: trials in all, those of earlier runs and other processes among them.
        seconds: stop after so long; None for no limit.
        share: share of the classes that a trial fits, drawn once for the study.
        storage: file of the journal, or URL of a database (`sqlite:///`, `postgresql://`).
        scope: `pooled`, one study for all classes; or `per_class`: then a study for each class,
            drawn to the pooled optimum. It costs many times as much, and is usually worse.
        shrink: positive windows at which a class's own optimum counts as much as the pooled one.
        leaves: of a tree.
        learning_rate: of the boosters.
        min_hessian: floor of a leaf's hessians.
        l2: ridge on leaf values.
        feature_fraction: share of columns a tree sees.
        logistic_c: inverse strength of the logistic's ridge.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: int = Field(default=30, ge=1, le=10_000)
    seconds: float | None = Field(default=None, gt=0)
    share: float = Field(default=1 / 3, gt=0, le=1)
    storage: str = ""
    scope: Literal["pooled", "per_class"] = "pooled"
    shrink: float = Field(default=1000, ge=0)
    leaves: Range = Range(low=4, high=32)
    learning_rate: Range = Range(low=0.03, high=0.3)
    min_hessian: Range = Range(low=0.01, high=10)
    l2: Range = Range(low=1, high=100)
    feature_fraction: Range = Range(low=0.2, high=1, log=False)
    logistic_c: Range = Range(low=0.002, high=1)

    def space(self) -> list[Dimension]:
        """What is searched."""
        return [
            Dimension(name, bounds.low, bounds.high, bounds.log, whole=name == "leaves")
            for name, bounds in ((name, getattr(self, name)) for name in SEARCHED)
        ]


SEARCHED = ("leaves", "learning_rate", "min_hessian", "l2", "feature_fraction", "logistic_c")
"""Settings of the class layers that are searched."""


@dataclass(frozen=True)
class Tuned:
    """What a study found.

    Attributes:
        settings: to fit with.
        changed: whether they are other than the usual ones.
        why: one sentence.
        usual: mean AUC of the usual settings over the classes tried.
        best: mean AUC of the best trial.
        trials: finished trials.
        importance: share of each hyper-parameter in the differences; empty with few trials.
        classes: names of the classes tried.
        history: each finished trial in order: `trial`, `value`, `best` so far, `params`,
            `seconds`.
        by_class: settings of single classes, for `fit_stack`; empty unless a study for each
            class was asked for and paid.
        nested: mean AUC `pooled` and `per_class`, each fold by settings chosen without it, the
            `lead` of the second, its standard `error`, and whether it is `taken`; None if no
            study for each class was asked for.
    """

    settings: StackSettings
    changed: bool
    why: str
    usual: float
    best: float
    trials: int
    importance: Mapping[str, float]
    classes: tuple[str, ...]
    history: list[dict[str, Any]] = field(default_factory=list)
    by_class: Mapping[str, Params] = field(default_factory=dict)
    nested: Mapping[str, Any] | None = None


def tune(
    table: StackTable,
    settings: StackSettings,
    tuning: TuningSettings,
    advance: Callable[[int, int, str], None] = lambda *_: None,
) -> Tuned:
    """Search settings of the class layers.

    Processes that share a study all see the same trials in the end, unless `seconds` cut them
    short.

    Args:
        table: out-of-fold scores, labels, folds. Rows without a fold are never looked at.
        settings: the usual ones.
        tuning: what is searched.
        advance: told of trials.

    Raises:
        UsageError: no class has enough positives, or the database cannot be opened.
        ConflictError: the study was begun on other rows, classes, folds or settings.
    """
    import optuna  # noqa: PLC0415 - heavy

    known = np.asarray(table.fold) >= 0
    table = table if known.all() else table.taken(np.flatnonzero(known))
    able = _able(table, settings)
    drawn = np.random.default_rng([settings.seed, 3]).permutation(able)
    numbers = sorted(drawn[: max(1, round(tuning.share * len(able)))].tolist())
    until_s = None if tuning.seconds is None else time.monotonic() + tuning.seconds
    tryout = Tryout(table, settings)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = open_storage(tuning.storage)
        data = _digest(table, settings)
        pooled = SharedStudy(storage, _STUDY, f"{data} {numbers}", settings.seed)

        def evaluate(params: Params, beat: Callable[[], None]) -> Outcome:
            per_class, value = tryout.mean(numbers, settings.model_copy(update=params), beat)
            return Outcome(value, {"per_class": per_class})

        pooled.search(
            tuning.space(),
            [usual_params(settings)],
            evaluate,
            trials=tuning.trials,
            until_s=until_s,
            told=lambda done, value: advance(done, tuning.trials, _said(value)),
        )
        found = _verdict(pooled, table, settings, numbers)
        if tuning.scope == "pooled" or not found.trials:
            return found
        from birdstack.stacking.tuning_per_class import per_class  # noqa: PLC0415 - asked for

        own = per_class(
            tryout, able, found.settings, tuning,
            open_study=lambda name: SharedStudy(storage, f"{_STUDY}/{name}", data, settings.seed),
            until_s=until_s, advance=advance,
        )  # fmt: skip
        return replace(
            found, why=f"{found.why}; {own.why}", by_class=own.by_class, nested=own.nested
        )


def usual_params(settings: StackSettings) -> Params:
    """What is searched, as the settings have it."""
    return {name: getattr(settings, name) for name in SEARCHED}


def _able(table: StackTable, settings: StackSettings) -> list[int]:
    few = too_few(table, table.window_fold >= 0, settings)
    able = [number for number in range(len(table.classes)) if number not in few]
    if not able:
        message = (
            f"tuning: no class has {settings.min_positives} positive windows in "
            f"{settings.min_recordings} recordings"
        )
        raise UsageError(message, remedy="leave tuning out: every class gets the shared score")
    return able


def _said(value: float | None) -> str:
    return "" if value is None else f"macro AUC {value:.4f}"


def _digest(table: StackTable, settings: StackSettings) -> str:
    fixed = settings.model_dump(mode="json", exclude={"workers", "ship", "resamples", "blend"})
    return digest_of({"table": table_digest(table), **fixed})


def _verdict(
    study: SharedStudy, table: StackTable, settings: StackSettings, numbers: list[int]
) -> Tuned:
    names = tuple(table.classes[number] for number in numbers)
    done = study.finished()
    if not done:
        return Tuned(settings, False, "no trial was finished", np.nan, np.nan, 0, {}, names)
    best = max(done, key=lambda trial: trial.value)
    usual = next((t for t in done if t.params == usual_params(settings)), None)
    base = best.value if usual is None else usual.value
    changed, why = usual is None, "the usual settings were not tried"
    if usual is not None:
        lead = _paired(best.user_attrs["per_class"], usual.user_attrs["per_class"])
        error = float(lead.std(ddof=1) / np.sqrt(len(lead))) if len(lead) > 1 else np.inf
        gain = float(lead.mean()) if len(lead) else 0.0
        changed = gain > _ERRORS * error
        why = (
            f"the best of {len(done)} trials leads the usual settings by {gain:+.4f}, "
            f"standard error {error:.4f}: {'taken' if changed else 'not enough, left as they are'}"
        )
    return Tuned(
        settings=settings.model_copy(update=best.params) if changed else settings,
        changed=changed,
        why=why,
        usual=base,
        best=best.value,
        trials=len(done),
        importance=study.importance(at_least=2 * len(SEARCHED)),
        classes=names,
        history=_history(done),
    )


def _history(done: list[Any]) -> list[dict[str, Any]]:
    values = [float(trial.value) for trial in done]
    return [
        {
            "trial": trial.number,
            "value": value,
            "best": max(values[: place + 1]),
            "params": dict(trial.params),
            "seconds": trial.duration.total_seconds(),
        }
        for place, (trial, value) in enumerate(zip(done, values, strict=True))
    ]


def _paired(ours: list[float | None], theirs: list[float | None]) -> np.ndarray:
    pairs = [a - b for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    return np.asarray(pairs)
