"""The rules of one view of logits: which recordings and rows it may hold, and why not.

`birdstack.store.out_of_fold` says when they are asked, and has them as one table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from birdstack.store.errors import LeakError
from birdstack.store.trained import Trained, content_key
from birdstack.store.views import Column, ViewSpec

FOLD_COLUMNS = (
    Column("fold", "int16", low=-1, description="fold of the recording, -1: it has none"),
    Column(
        "model_fold",
        "int16",
        low=-1,
        description="fold model that scored the row, -1: a network trained elsewhere",
    ),
)
"""The first two columns of every view of logits."""
NO_FOLD = -1

_FOLD_MODEL = re.compile(r".+\.m(0|[1-9]\d*)")
_RETRAIN = "run `birdstack train` again: the folds have changed since the model was trained"
_RECORD = "write the table `trained` before the logits, as `birdstack train` does"
_HONEST = (
    "score each recording with a fold model that was trained on nothing of its group; where "
    "a dataset's own folds part a group, leave that group out of the training"
)


def is_logits(view: str) -> bool:
    """Whether a view is one of logits, which the guard watches."""
    return view.startswith("logits/")


def fold_model_view(view: str, model_fold: int) -> str:
    """Name of the view that holds one fold model's scores of recordings without a fold."""
    return f"{view}.m{model_fold}"


class Place(NamedTuple):
    """Where a recording stands.

    Attributes:
        fold: in FOLDS, None if it is not there.
        group: in FOLDS.
        content: content key of its bytes in RECORDINGS.
    """

    fold: int | None = None
    group: str | None = None
    content: str | None = None


class Fault(NamedTuple):
    """Why something is refused, and what to do about it."""

    why: str
    remedy: str


@dataclass(frozen=True)
class WatchedView:
    """What is known of a view of logits. Picklable.

    Attributes:
        name: of the view.
        own: the one fold model whose scores it holds (`logits/<backbone>.m<own>`), else None.
        trained: the record of its model; None for a network that was trained elsewhere.
    """

    name: str
    own: int | None
    trained: Trained | None

    @classmethod
    def of(cls, spec: ViewSpec, trained: Trained | None) -> WatchedView:
        """A view, if enough is known to judge its rows.

        Raises:
            LeakError: it is for a fold model of a network trained elsewhere, or nobody knows
                what its model was trained on.
        """
        found = _FOLD_MODEL.fullmatch(spec.name)
        own = int(found[1]) if found else None
        if trained is None and own is not None:
            message = f"view {spec.name!r} is for one fold model, but its network has none"
            remedy = f"write its scores into view {_plain(spec.name)!r}, with model_fold -1"
            raise LeakError(message, remedy=remedy)
        if trained is not None:
            known = trained.model_folds
            if not known or (own is not None and own not in known):
                message = f"view {spec.name!r}: {_unknown(trained, own)}"
                raise LeakError(message, remedy=_RECORD)
        return cls(spec.name, own, trained)

    def astray(self, place: Place) -> Fault | None:
        """Why a recording that stands there has no row in this view, whatever its scores."""
        if self.own is not None and place.fold is not None:
            why = f"it has fold {place.fold}, and this view is for recordings without a fold"
            remedy = f"write its scores into view {_plain(self.name)!r}, by its own fold's model"
            return Fault(why, remedy)
        if self.own is None and self.trained is not None and place.fold is None:
            name = fold_model_view(self.name, min(self.trained.model_folds))
            why = "it has no fold, and this view is for recordings that have one"
            return Fault(why, f"write one row for each fold model, into views such as {name!r}")
        return None

    def wrong(
        self, place: Place, recording_id: str, content: str, *, fold: int, model_fold: int
    ) -> Fault | None:
        """Why rows of a recording with this `fold` and `model_fold` are refused.

        Args:
            place: where the recording stands.
            recording_id: the recording.
            content: content key of what was heard.
            fold: as the rows say.
            model_fold: as the rows say.
        """
        if fold != (NO_FOLD if place.fold is None else place.fold):
            stands = "has no fold" if place.fold is None else f"lies in fold {place.fold}"
            return Fault(f"the recording {stands}", _RETRAIN)
        if self.trained is None:
            if model_fold == NO_FOLD:
                return None
            why = "the recipe says that the network was trained elsewhere (`training` is null)"
            return Fault(why, "write model_fold -1, or name the model in the recipe's `training`")
        if self.own is not None and model_fold != self.own:
            why = f"this view is for scores of fold model {self.own} alone"
            return Fault(why, "write each fold model's scores into its own view")
        if model_fold not in self.trained.model_folds:
            return Fault(_unknown(self.trained, model_fold), _RECORD)
        met = self.met(place, recording_id, content, model_fold)
        return Fault(met, _HONEST) if met else None

    def met(self, place: Place, recording_id: str, content: str, model_fold: int) -> str:
        """How a fold model has met a recording in training; empty if it has not."""
        if self.trained is None:
            return ""
        contents = {content_key(content), place.content or ""} - {""}
        how = self.trained.meets(model_fold, recording_id, contents, place.group)
        return f"fold model {model_fold} of {self.trained.model!r} {how}" if how else ""


def model_of(spec: ViewSpec) -> str | None:
    """Fingerprint of the model behind a view of logits; None if it was trained elsewhere.

    Raises:
        LeakError: the view has no column `fold` or `model_fold`, or its recipe does not say
            what the network was trained on.
    """
    dtypes = {column.name: column.dtype for column in spec.columns}
    refuse_missing(spec.name, [c.name for c in FOLD_COLUMNS if dtypes.get(c.name) != c.dtype])
    training = spec.recipe.get("training", {})
    if training is None:
        return None
    model = training.get("model") if isinstance(training, Mapping) else None
    if not isinstance(model, str) or not model:
        message = f"view {spec.name!r}: the recipe does not say what the network was trained on"
        remedy = (
            'put "training": {"model": fingerprint} into the recipe, or null for a network '
            "that was trained elsewhere"
        )
        raise LeakError(message, remedy=remedy)
    return model


def refuse_missing(view: str, missing: list[str]) -> None:
    """Refuse a view of logits without its fold columns.

    Raises:
        LeakError: `missing` names any.
    """
    if missing:
        message = f"view {view!r} holds logits and has no int16 column {' and '.join(missing)}"
        remedy = "put FOLD_COLUMNS of birdstack.store.fold_rules before the columns of classes"
        raise LeakError(message, remedy=remedy)


def _plain(view: str) -> str:
    return view.rpartition(".m")[0]


def _unknown(trained: Trained, model_fold: int | None) -> str:
    which = "" if model_fold is None else f"fold model {model_fold} of "
    known = ", ".join(map(str, sorted(trained.model_folds))) or "no fold model"
    return (
        f"nobody knows what {which}model {trained.model!r} was trained on: table 'trained' has "
        f"{known} of it"
    )
