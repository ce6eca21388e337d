"""What predicts in the end: the stack, or the control that it could not beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from birdstack.stacking.components import Components
from birdstack.stacking.controls import BY_NAME, Material
from birdstack.stacking.fold_scales import Spread
from birdstack.stacking.place_prior import PlacePrior
from birdstack.stacking.stack_model import StackModel
from birdstack.stacking.stack_table import StackTable
from birdstack.store.errors import UsageError


@dataclass(frozen=True, eq=False)
class Shipped:
    """A stack or a control with all that it learnt.

    Attributes:
        backbones: names, in order.
        classes: names, in order.
        extra_names: names of extra columns, in order.
        spread: centre, scale and quantiles of the training scores.
        what: `stack`, or the name of the control.
        learnt: by the control.
        stack: the stack, where that is shipped.
        prior: of a recording's place, added last; None for none.
        components: of an embedding, by which some of the extra columns are made; None for none.
    """

    backbones: tuple[str, ...]
    classes: tuple[str, ...]
    extra_names: tuple[str, ...]
    spread: Spread
    what: str
    learnt: Mapping[str, Any]
    stack: StackModel | None
    prior: PlacePrior | None = None
    components: Components | None = None

    def predict(
        self,
        table: StackTable,
        advance: Callable[[], None] = lambda: None,
        *,
        held: int | None = None,
    ) -> np.ndarray:
        """Scores `[window, class]`, float32; higher is more likely.

        Rows are read as those of new recordings, scored by one fold model of the networks:
        scores of several are to be averaged afterwards.

        Args:
            table: the rows.
            advance: told after each class.
            held: number of the networks' fold model that scored the rows; the stack's own fold
                models of that number score them. All of the stack's, if not given.

        Raises:
            UsageError: backbones, classes or extra columns are not those of the training.
        """
        self._check(table)
        material = Material(table, self.spread)
        if self.stack is not None:
            scores = self.stack.score(material, advance, held=held)
        else:
            scores = np.asarray(BY_NAME[self.what].score(material, self.learnt), dtype=np.float32)
        return self.placed(scores, table)

    def placed(self, scores: np.ndarray, table: StackTable) -> np.ndarray:
        """Scores of new recordings with the prior of their places, if one is shipped.

        Args:
            scores: of the stack or control alone, `[window, class]`.
            table: whose `places` count; rows of an unknown one stay bit-equal.
        """
        return scores if self.prior is None else self.prior.added(scores, table)

    def _check(self, table: StackTable) -> None:
        pairs = {
            "backbones": (table.backbones, self.backbones),
            "classes": (table.classes, self.classes),
        }
        if self.stack is not None:
            pairs["extra columns"] = (table.extra_names, self.extra_names)
        for what, (found, wanted) in pairs.items():
            if tuple(found) != tuple(wanted):
                missing = [name for name in wanted if name not in found]
                more = [name for name in found if name not in wanted]
                message = (
                    f"table: {what} are not those of the stack; missing {missing[:5]}, "
                    f"not known {more[:5]}" + ("" if missing or more else ", or in another order")
                )
                raise UsageError(message, remedy=f"give the {what} that the stack was fitted on")
        wanted = np.isfinite(self.spread.centre)
        found = np.isfinite(table.logits).all(axis=1)
        if not (found | ~wanted).all():
            backbone, number = np.argwhere(wanted & ~found)[0]
            message = f"table: no finite score {self.backbones[backbone]}:{self.classes[number]}"
            raise UsageError(message, remedy="give a score for every window")
