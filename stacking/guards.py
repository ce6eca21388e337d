"""What keeps a stack from doing harm: fallbacks by class, the collapse alarm, the ship rule."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.bootstrap import Interval
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.stack_table import StackTable
from birdstack.store.labels import PRESENT

_COLLAPSE = 0.02


@dataclass(frozen=True)
class Fallback:
    """A class that gets the shared score in place of its own.

    Attributes:
        name: of the class.
        rule: `few_positives`, `few_recordings` or `below_control`.
        why: one sentence with the figures.
    """

    name: str
    rule: Literal["few_positives", "few_recordings", "below_control"]
    why: str


def too_few(table: StackTable, rows: np.ndarray, settings: StackSettings) -> dict[int, Fallback]:
    """Classes with too little to learn from, by position."""
    found = {}
    for number, name in enumerate(table.classes):
        at = rows & (table.truth[:, number] == PRESENT)
        windows, recordings = int(at.sum()), len(np.unique(table.recording[at]))
        if windows < settings.min_positives:
            why = f"{windows} positive windows, {settings.min_positives} needed"
            found[number] = Fallback(name, "few_positives", why)
        elif recordings < settings.min_recordings:
            why = f"positives in {recordings} recordings, {settings.min_recordings} needed"
            found[number] = Fallback(name, "few_recordings", why)
    return found


def below_control(
    stack: np.ndarray, control: np.ndarray, truth: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Whether each class ranks worse by the stack than by the control on some rows, `[class]`."""
    ours = macro_auc(stack[rows], truth[rows]).per_class
    theirs = macro_auc(control[rows], truth[rows]).per_class
    return np.asarray(ours < theirs)


def collapsed(
    names: tuple[str, ...],
    stack: np.ndarray,
    mean: np.ndarray,
    truth: np.ndarray,
    numbers: Collection[int],
) -> list[dict[str, Any]]:
    """Classes whose own layers rank clearly worse than the plain mean of the backbones.

    Args:
        names: of classes.
        stack: blend of own layers, `[window, class]`.
        mean: plain mean of the backbones.
        truth: labels.
        numbers: classes that have layers of their own.
    """
    ours = macro_auc(stack, truth).per_class
    theirs = macro_auc(mean, truth).per_class
    at = [int(i) for i in np.flatnonzero(ours < theirs - _COLLAPSE) if i in numbers]
    return [
        {"class": names[i], "stack_auc": float(ours[i]), "mean_auc": float(theirs[i])} for i in at
    ]


@dataclass(frozen=True)
class Verdict:
    """What is shipped.

    Attributes:
        shipped: `stack` or `control`.
        why: one sentence.
        over_mean_kernel: macro AUC of the stack less that of mean + kernel.
        over_control: less that of the control chosen inside folds.
    """

    shipped: Literal["stack", "control"]
    why: str
    over_mean_kernel: Interval
    over_control: Interval

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def verdict(
    over_mean_kernel: Interval, over_control: Interval, control_title: str, wish: str
) -> Verdict:
    """The ship rule: a stack is used only if it is better than chance would have it.

    Args:
        over_mean_kernel: paired difference to mean + kernel, by recording.
        over_control: paired difference to the control chosen inside folds.
        control_title: its title.
        wish: `auto`, or `stack` or `control` to overrule.
    """
    figures = (
        f"over mean + kernel {_said(over_mean_kernel)}, over {control_title} {_said(over_control)}"
    )
    if wish == "stack":
        return Verdict("stack", f"asked for; {figures}", over_mean_kernel, over_control)
    if wish == "control":
        return Verdict("control", f"asked for; {figures}", over_mean_kernel, over_control)
    ahead = over_mean_kernel.low > 0 and over_control.low > 0
    if ahead:
        why = f"the stack is ahead for certain: {figures}"
        return Verdict("stack", why, over_mean_kernel, over_control)
    why = f"{control_title} is shipped, for the stack is not ahead for certain: {figures}"
    return Verdict("control", why, over_mean_kernel, over_control)


def _said(gain: Interval) -> str:
    return f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"


def fallbacks_as_dict(found: Mapping[int, Fallback]) -> dict[str, dict[str, str]]:
    """JSON-able, by name of class."""
    return {f.name: {"rule": f.rule, "why": f.why} for f in found.values()}
