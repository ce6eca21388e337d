"""One study for all classes: hyper-parameters of the class layers, searched with Optuna.

A class of its own never gets a study: on few positives the search picks what fits them by
chance (measured: 182 private studies end below no tuning at all). One trial fits the layers of a
random third of the classes on every fold and takes the mean AUC of their out-of-fold samples;
negatives there are drawn at random, so that the sample's AUC is an unbiased estimate of that of
all windows. Numbers of trees are read off the same fit. The usual settings are the first trial,
and stay unless the best is ahead of them by more than one standard error over classes.

The study lies in a journal file, or wherever an RDB URL says; it is resumed, and several
processes may work on one.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.class_columns import ClassColumns
from birdstack.stacking.class_model import ClassFit, fit_class
from birdstack.stacking.controls import BY_NAME, Material, out_of_fold
from birdstack.stacking.each import each
from birdstack.stacking.fit_stack import shared_scores
from birdstack.stacking.guards import too_few
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.stack_table import StackTable
from birdstack.store.errors import ConflictError, UsageError

_STUDY = "birdstack-stack"
_ERRORS = 1.0
_MOST_NEGATIVES = 2500


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
    leaves: Range = Range(low=4, high=32)
    learning_rate: Range = Range(low=0.03, high=0.3)
    min_hessian: Range = Range(low=0.01, high=10)
    l2: Range = Range(low=1, high=100)
    feature_fraction: Range = Range(low=0.2, high=1, log=False)
    logistic_c: Range = Range(low=0.002, high=1)


_SEARCHED = ("leaves", "learning_rate", "min_hessian", "l2", "feature_fraction", "logistic_c")


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
    """

    settings: StackSettings
    changed: bool
    why: str
    usual: float
    best: float
    trials: int
    importance: Mapping[str, float]
    classes: tuple[str, ...]


def tune(
    table: StackTable,
    settings: StackSettings,
    tuning: TuningSettings,
    advance: Callable[[int, int, str], None] = lambda *_: None,
) -> Tuned:
    """Search settings of the class layers.

    Args:
        table: out-of-fold scores, labels, folds. Rows without a fold are never looked at.
        settings: the usual ones.
        tuning: what is searched.
        advance: told of trials.

    Raises:
        UsageError: no class has enough positives.
        ConflictError: the study was begun on other rows, classes, folds or settings.
    """
    import optuna  # noqa: PLC0415 - heavy

    trial_of = _Trial(table, settings, tuning.share)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = _study(optuna, tuning, settings.seed)
        _same_data(study, _digest(table, settings, trial_of.numbers))
        study.enqueue_trial(_usual(settings), skip_if_exists=True)

        def objective(trial: Any) -> float:
            drawn = settings.model_copy(update=_draw(trial, tuning))
            per_class, value = trial_of.values(drawn)
            trial.set_user_attr("per_class", per_class)
            done = len(_finished(optuna, study)) + 1
            advance(min(done, tuning.trials), tuning.trials, f"macro AUC {value:.4f}")
            return value

        if len(_finished(optuna, study)) < tuning.trials:
            enough = optuna.study.MaxTrialsCallback(
                tuning.trials, states=(optuna.trial.TrialState.COMPLETE,)
            )
            study.optimize(objective, timeout=tuning.seconds, callbacks=[enough])
        return _verdict(optuna, study, table, settings, trial_of.numbers)


class _Trial:
    """Everything that trials have in common, made once."""

    def __init__(self, table: StackTable, settings: StackSettings, share: float) -> None:
        self.known = table.window_fold >= 0
        few = too_few(table, self.known, settings)
        able = [number for number in range(len(table.classes)) if number not in few]
        if not able:
            message = (
                f"tuning: no class has {settings.min_positives} positive windows in "
                f"{settings.min_recordings} recordings"
            )
            raise UsageError(message, remedy="leave tuning out: every class gets the shared score")
        rng = np.random.default_rng([settings.seed, 3])
        wanted = max(1, round(share * len(able)))
        self.numbers = sorted(int(number) for number in rng.permutation(able)[:wanted])
        material = Material(table)
        self.columns = ClassColumns(
            material,
            neighbours=settings.neighbours,
            max_extra=settings.max_extra,
            seed=settings.seed,
        )
        ranked = out_of_fold(BY_NAME["ranker"], material)
        self.shared = shared_scores(self.columns, material, ranked, settings)[1]

    def values(self, settings: StackSettings) -> tuple[list[float | None], float]:
        """AUC of each class tried at the best number of trees, and their mean."""
        settings = settings.model_copy(
            update={"negatives": min(settings.negatives, _MOST_NEGATIVES)}
        )
        fits: dict[int, ClassFit] = {}

        def fit(number: int) -> None:
            fits[number] = fit_class(
                self.columns, number, self.shared[:, number], self.known, settings
            )

        each(fit, self.numbers, settings.workers)
        table = np.array([_aucs(fits[number]) for number in self.numbers])
        means = [_mean(column) for column in table.T]
        best = int(np.argmax(means))
        return [None if np.isnan(v) else float(v) for v in table[:, best]], means[best]


def _aucs(fit: ClassFit) -> list[float]:
    """AUC of booster and logistic together on the sample, for each number of trees."""
    flat = _standard(fit.linear)
    label = fit.present[:, None].astype(np.int8)
    return [macro_auc((_standard(row) + flat)[:, None], label).value for row in fit.trial]


def _standard(scores: np.ndarray) -> np.ndarray:
    width = scores.std()
    return np.asarray((scores - scores.mean()) / (width if width > 0 else 1))


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.5


def _study(optuna: Any, tuning: TuningSettings, seed: int) -> Any:
    storage: Any = None
    if "://" in tuning.storage:
        storage = tuning.storage
    elif tuning.storage:
        path = Path(tuning.storage)
        path.parent.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(path))
        )
    study = optuna.create_study(
        study_name=_STUDY, storage=storage, load_if_exists=True, direction="maximize"
    )
    # A second process that joins draws other values than the first one did.
    study.sampler = optuna.samplers.TPESampler(
        seed=seed + len(study.get_trials(deepcopy=False)), multivariate=True, constant_liar=True
    )
    return study


def _same_data(study: Any, digest: str) -> None:
    """Hold that all trials of a study were made on the same rows."""
    begun = study.user_attrs.get("data")
    if begun is None:
        study.set_user_attr("data", digest)
    elif begun != digest:
        message = (
            "tuning: the study in this storage was made on other rows, labels, folds or settings"
        )
        raise ConflictError(message, remedy="name another storage, or remove the old study")


def _digest(table: StackTable, settings: StackSettings, numbers: list[int]) -> str:
    known = table.window_fold >= 0
    hashed = hashlib.sha256()
    for values in (table.logits[:, known], table.truth[known], table.window_fold[known]):
        hashed.update(np.ascontiguousarray(values).tobytes())
    if table.extra_names:
        hashed.update(np.ascontiguousarray(table.extra[known]).tobytes())
    fixed = settings.model_dump(mode="json", exclude={"workers", "ship", "resamples", "blend"})
    hashed.update(repr((table.backbones, table.classes, numbers, sorted(fixed.items()))).encode())
    return hashed.hexdigest()


def _usual(settings: StackSettings) -> dict[str, float | int]:
    return {name: getattr(settings, name) for name in _SEARCHED}


def _draw(trial: Any, tuning: TuningSettings) -> dict[str, float | int]:
    drawn: dict[str, float | int] = {}
    for name in _SEARCHED:
        bounds: Range = getattr(tuning, name)
        if name == "leaves":
            drawn[name] = trial.suggest_int(name, int(bounds.low), int(bounds.high), log=bounds.log)
        else:
            drawn[name] = trial.suggest_float(name, bounds.low, bounds.high, log=bounds.log)
    return drawn


def _finished(optuna: Any, study: Any) -> list[Any]:
    complete = optuna.trial.TrialState.COMPLETE
    return list(study.get_trials(deepcopy=False, states=(complete,)))


def _verdict(
    optuna: Any, study: Any, table: StackTable, settings: StackSettings, numbers: list[int]
) -> Tuned:
    names = tuple(table.classes[number] for number in numbers)
    done = _finished(optuna, study)
    if not done:
        return Tuned(settings, False, "no trial was finished", np.nan, np.nan, 0, {}, names)
    best = max(done, key=lambda trial: trial.value)
    usual = next((t for t in done if t.params == _usual(settings)), None)
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
    chosen = settings.model_copy(update=best.params) if changed else settings
    importance = _importance(optuna, study, len(done))
    return Tuned(chosen, changed, why, base, best.value, len(done), importance, names)


def _paired(ours: list[float | None], theirs: list[float | None]) -> np.ndarray:
    pairs = [a - b for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    return np.asarray(pairs)


def _importance(optuna: Any, study: Any, finished: int) -> dict[str, float]:
    if finished < 2 * len(_SEARCHED):
        return {}
    found = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
    )
    return {str(name): float(share) for name, share in found.items()}
