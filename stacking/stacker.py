"""One estimator over it all: controls, stack, guards, ship rule. Needs no store."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Self

import numpy as np
from pydantic import ValidationError

from birdstack.stacking.bootstrap import AucDraws
from birdstack.stacking.choose_prior import choose_prior
from birdstack.stacking.class_layers import ByClass
from birdstack.stacking.class_shelf import ClassShelf
from birdstack.stacking.controls import CONTROLS, Material
from birdstack.stacking.estimates import (
    MUST_BEAT,
    DomainDraws,
    affordable,
    class_rows,
    estimate_rows,
    title_of,
)
from birdstack.stacking.fit_stack import FittedStack, fit_stack
from birdstack.stacking.guards import Verdict, collapsed, fallbacks_as_dict, verdict
from birdstack.stacking.leak_checks import check_table
from birdstack.stacking.range_prior import RangePriorConfig
from birdstack.stacking.select_control import Choice, all_scores, choose_control
from birdstack.stacking.shipped import Shipped
from birdstack.stacking.stack_model import StackModel
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.stack_table import StackTable
from birdstack.store.errors import ConfigError, LeakError, UsageError
from birdstack.store.labels import PRESENT


class Stacker:
    """Combine backbones into one score for each class, and use the result only if it helps.

    It follows scikit-learn's conventions: parameters are kept as given, `fit` returns the
    estimator, what is learnt ends in an underscore, `clone` works.

    Args:
        booster: see `StackSettings` for this and all others.

    Choices are made on rows of soundscapes where the table has any with a fold (see
    `StackTable.judged`), else on all rows with a fold.

    Attributes:
        shipped_: what predicts: the stack or a control.
        stack_: the stack, shipped or not; None if none was fitted.
        scores_: out-of-fold scores of every control, layer and of the stack, by name.
        oof_: grouped out-of-fold scores of what is shipped, `[window, class]`; choices made
            on all folds.
        nested_: likewise, with the choices for a fold made on the other folds: the honest ones.
        without_prior_: `nested_` without the range prior; None if none was asked for.
        report_: every control and the stack with intervals, JSON-able.
        choice_: the control chosen.
        verdict_: the ship rule's; None if no stack was fitted.
    """

    shipped_: Shipped
    stack_: StackModel | None
    scores_: dict[str, np.ndarray]
    oof_: np.ndarray
    nested_: np.ndarray
    without_prior_: np.ndarray | None
    report_: dict[str, Any]
    choice_: Choice
    verdict_: Verdict | None

    def __init__(
        self,
        *,
        booster: str = "lightgbm",
        blend: str = "equal",
        ship: str = "auto",
        prior: str = "off",
        leaves: int = 14,
        learning_rate: float = 0.1,
        trees: tuple[int, ...] = (25, 50, 100),
        min_hessian: float = 0.1,
        l2: float = 2.0,
        feature_fraction: float = 0.5,
        max_bin: int = 63,
        bags: int = 1,
        negatives: int = 5000,
        neighbours: int = 8,
        max_extra: int = 20,
        shared_leaves: int = 31,
        shared_trees: int = 100,
        logistic_c: float = 0.02,
        min_positives: int = 8,
        min_recordings: int = 3,
        resamples: int = 1000,
        seed: int = 0,
        workers: int = 1,
    ) -> None:
        self.booster = booster
        self.blend = blend
        self.ship = ship
        self.prior = prior
        self.leaves = leaves
        self.learning_rate = learning_rate
        self.trees = trees
        self.min_hessian = min_hessian
        self.l2 = l2
        self.feature_fraction = feature_fraction
        self.max_bin = max_bin
        self.bags = bags
        self.negatives = negatives
        self.neighbours = neighbours
        self.max_extra = max_extra
        self.shared_leaves = shared_leaves
        self.shared_trees = shared_trees
        self.logistic_c = logistic_c
        self.min_positives = min_positives
        self.min_recordings = min_recordings
        self.resamples = resamples
        self.seed = seed
        self.workers = workers

    def __repr__(self) -> str:
        usual = {name: p.default for name, p in inspect.signature(type(self)).parameters.items()}
        changed = [f"{k}={v!r}" for k, v in self.get_params().items() if v != usual[k]]
        return f"{type(self).__name__}({', '.join(changed)})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 - scikit-learn's
        """Parameters as given."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Change parameters.

        Raises:
            UsageError: there is no such parameter.
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                message = f"Stacker has no parameter {name!r}; it has {', '.join(known)}"
                raise UsageError(message, remedy="name one of these")
            setattr(self, name, value)
        return self

    @property
    def settings(self) -> StackSettings:
        """The parameters, checked.

        Raises:
            ConfigError: one does not fit.
        """
        try:
            return StackSettings.model_validate(self.get_params())
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            message = f"Stacker: {name}={first['input']!r}: {first['msg']}"
            raise ConfigError(message, remedy="give a value within bounds") from error

    def fit(
        self,
        table: StackTable,
        y: None = None,  # noqa: ARG002 - scikit-learn's signature; labels are in the table
        *,
        advance: Callable[[int, int, str], None] = lambda *_: None,
        shelf: ClassShelf | None = None,
        by_class: ByClass | None = None,
        require_all: bool = False,
        prior: RangePriorConfig | None = None,
    ) -> Self:
        """Fit controls and stack on out-of-fold scores, and choose between them.

        Args:
            table: out-of-fold scores, labels, folds.
            y: not used.
            advance: told how many steps are done, how many there are, and a few words.
            shelf: where finished layers are taken from and put; None to fit everything.
            by_class: settings of single classes, as `Tuned.by_class` has them.
            require_all: refuse rather than fit a class that is not on the shelf.
            prior: how a range prior is counted, where the parameter `prior` asks for one.

        Raises:
            ConfigError: a parameter does not fit.
            UsageError: the table cannot be learnt from, or a layer is required and not there.
            LeakError: the table gives away its labels.
        """
        settings = self.settings
        check_learnable(table)
        findings = check_table(table, computed=table.computed, seed=settings.seed)
        material = Material(table)
        scores = all_scores(material, CONTROLS)
        self.choice_ = choose_control(material, scores)
        stack = None
        if settings.ship != "control":
            stack = fit_stack(
                material,
                self.choice_.out_of_fold,
                scores["ranker"],
                settings,
                advance,
                shelf=shelf,
                by_class=by_class,
                require_all=require_all,
            )
        self._decide(material, scores, stack, settings, prior or RangePriorConfig())
        self.report_["findings"] = [finding.as_dict() for finding in findings]
        return self

    def predict(self, table: StackTable) -> np.ndarray:
        """Scores `[window, class]` of rows that nobody has met; higher is more likely.

        Raises:
            UsageError: not fitted yet, or backbones, classes or extra columns differ.
        """
        if not hasattr(self, "shipped_"):
            message = "this Stacker has not been fitted"
            raise UsageError(message, remedy="call fit first")
        return self.shipped_.predict(table)

    def _decide(
        self,
        material: Material,
        scores: Mapping[str, np.ndarray],
        stack: FittedStack | None,
        settings: StackSettings,
        counting: RangePriorConfig,
    ) -> None:
        table = material.table
        judged = table.judged
        many = affordable(table, judged, settings.resamples)
        domain = DomainDraws(table, judged, resamples=many, seed=settings.seed)
        self.scores_ = {**scores, "chosen": self.choice_.out_of_fold}
        same, honest = scores[self.choice_.control.name], "chosen"
        self.verdict_ = None
        if stack is not None:
            self.scores_ |= {
                "residual": stack.layers[0],
                "logistic": stack.layers[1],
                "shared": stack.shared,
                "stack": stack.nested,
            }
            self.verdict_ = self._verdict(table, stack.nested, settings)
            if self.verdict_.shipped == "stack":
                same, honest = stack.same_data, "stack"
        draws = {name: domain.of(values) for name, values in self.scores_.items()}
        self.oof_, self.nested_, self.without_prior_ = same, self.scores_[honest], None
        placed, ours = None, draws[honest]
        if settings.prior == "range":
            placed = choose_prior(
                table,
                same,
                self.nested_,
                counting,
                resamples=settings.resamples,
                seed=settings.seed,
            )
            self.without_prior_ = self.nested_
            self.oof_, self.nested_ = placed.same, placed.nested
            ours = domain.of(self.nested_)
        what = "stack" if honest == "stack" else self.choice_.control.name
        self.stack_ = None if stack is None else stack.model
        self.shipped_ = Shipped(
            table.backbones,
            table.classes,
            table.extra_names,
            material.spread,
            what,
            dict(self.choice_.learnt) if honest == "chosen" else {},
            self.stack_ if honest == "stack" else None,
            None if placed is None else placed.shipped,
        )
        self.report_ = {
            "rows": estimate_rows(draws),
            "shipped": self._shipped(ours, domain.of(self.oof_), what),
            "prior": None if placed is None else placed.report,
            "verdict": None if self.verdict_ is None else self.verdict_.as_dict(),
            "control": {
                "chosen": self.choice_.control.name,
                "why": self.choice_.why,
                "by_fold": {str(k): v for k, v in self.choice_.by_fold.items()},
            },
            **_told_of_stack(table, stack, scores["mean"]),
            "by_class": class_rows(table, judged, ours, draws[MUST_BEAT]),
            "settings": settings.model_dump(mode="json"),
            "data": {
                "windows": table.n_windows,
                "judged_windows": int(judged.sum()),
                "recordings": len(table.recording_ids),
                "classes": len(table.classes),
                "classes_with_positives": int((table.positives() > 0).sum()),
                "folds": len(np.unique(table.fold[table.fold >= 0])),
                "backbones": list(table.backbones),
            },
        }

    def _verdict(self, table: StackTable, nested: np.ndarray, settings: StackSettings) -> Verdict:
        """The ship rule; what it decides by is drawn as often as was asked for."""
        domain = DomainDraws(table, table.judged, resamples=settings.resamples, seed=settings.seed)
        ours = domain.of(nested)
        return verdict(
            (ours - domain.of(self.scores_[MUST_BEAT])).interval(),
            (ours - domain.of(self.scores_["chosen"])).interval(),
            "the control chosen inside folds",
            settings.ship,
        )

    def _shipped(self, honest: AucDraws, same: AucDraws, name: str) -> dict[str, Any]:
        why = "no stack was fitted" if self.verdict_ is None else self.verdict_.why
        if name != "stack":
            why = f"{why}; {self.choice_.why}"
        value, nested = same.interval(), honest.interval()
        return {
            "what": name,
            "title": title_of(name),
            "why": why,
            "nested": asdict(nested),
            "out_of_fold": asdict(value),
            "optimism": value.value - nested.value,
        }


def _told_of_stack(
    table: StackTable, stack: FittedStack | None, mean: np.ndarray
) -> dict[str, Any]:
    """Fallbacks, alarms and weights of a stack, JSON-able."""
    if stack is None:
        return {"fallbacks": {}, "alarms": [], "blend": None}
    rows = table.judged
    return {
        "fallbacks": fallbacks_as_dict(stack.fallbacks),
        "alarms": collapsed(
            table.classes, stack.own[rows], mean[rows], table.truth[rows], stack.model.classes
        ),
        "blend": stack.model.weights.tolist(),
    }


def check_learnable(table: StackTable) -> None:
    """Hold that a table can be learnt from.

    Raises:
        LeakError: a group lies in two folds.
        UsageError: fewer than two folds, no positive or no negative in any class, a class of
            which no backbone speaks, or a score that is there for some windows only.
    """
    folds = np.unique(np.asarray(table.fold)[np.asarray(table.fold) >= 0])
    if len(folds) < 2:  # noqa: PLR2004 - one fold is no split
        message = f"stack table: {len(folds)} folds; out-of-fold scores need two or more"
        raise UsageError(message, remedy="split the recordings into folds")
    homes: dict[str, int] = {}
    for group, number in zip(table.groups, np.asarray(table.fold).tolist(), strict=True):
        if homes.setdefault(group, number) != number:
            message = f"stack table: group {group!r} lies in folds {homes[group]} and {number}"
            raise LeakError(message, remedy="keep every group in one fold")
    known = table.window_fold >= 0
    present = (table.truth[known] == PRESENT).any(axis=0)
    absent = (table.truth[known] == 0).any(axis=0)
    if not (present & absent).any():
        message = "stack table: no class has both a positive and a negative window"
        raise UsageError(message, remedy="give labels")
    finite = np.isfinite(table.logits)
    speaks = finite.any(axis=1)
    if not speaks.any(axis=0).all():
        name = table.classes[int(np.argmin(speaks.any(axis=0)))]
        message = f"stack table: no backbone has a score of class {name!r}"
        raise UsageError(message, remedy="leave the class out, or give a score of it")
    broken = np.argwhere(speaks & ~finite.all(axis=1))
    if len(broken):
        backbone, number = broken[0]
        message = (
            f"stack table: {table.backbones[backbone]}:{table.classes[number]} is not finite in "
            f"window {int(np.argmin(finite[backbone, :, number]))}"
        )
        raise UsageError(message, remedy="give every window a score, or none for the class")
