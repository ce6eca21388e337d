"""Boosters of two libraries behind one small face: raw scores out, native text in and out.

One thread each: on rows this few, a second thread costs more than it gives, and classes are
fitted side by side instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from birdstack.stacking.forest import Forest
from birdstack.store.errors import CorruptError

_WORTHWHILE = 256
"""Rows after which a booster's trees are laid out anew: less are scored before that is done."""


class Booster(Protocol):
    """A fitted booster of one of the libraries."""

    library: str

    def raw(self, columns: np.ndarray, trees: int) -> np.ndarray:
        """Sum of the first `trees` trees for rows `[row, column]`, without any offset."""
        ...

    def text(self) -> str:
        """The booster in its library's own format."""
        ...


class LightTrees:
    """A booster of LightGBM.

    Args:
        text: as LightGBM writes it.
    """

    library = "lightgbm"

    def __init__(self, text: str) -> None:
        import lightgbm as lgb  # noqa: PLC0415 - heavy

        try:
            self._booster = lgb.Booster(model_str=text)
        except lgb.basic.LightGBMError as error:
            message = f"a LightGBM booster cannot be read: {error}"
            raise CorruptError(message, remedy="fit the stack again") from error
        self._text = text
        self._forest: Forest | None = None
        self._until_forest = _WORTHWHILE

    def raw(self, columns: np.ndarray, trees: int) -> np.ndarray:
        """Sum of the first trees: by LightGBM, or bit-equal and faster where rows are many."""
        if self._until_forest > 0:
            self._until_forest -= len(columns)
            if self._until_forest <= 0:
                self._forest = Forest.of(self._text)
        if self._forest is not None and self._forest.takes(columns):
            return self._forest.raw(columns, trees)
        found = self._booster.predict(columns, raw_score=True, num_iteration=trees, num_threads=1)
        return np.asarray(found)

    def text(self) -> str:
        """LightGBM's text."""
        return self._text


class XgbTrees:
    """A booster of XGBoost.

    Args:
        text: JSON as XGBoost writes it.
    """

    library = "xgboost"

    def __init__(self, text: str) -> None:
        import xgboost as xgb  # noqa: PLC0415 - heavy

        self._booster = xgb.Booster({"nthread": 1})
        try:
            self._booster.load_model(bytearray(text.encode()))
        except xgb.core.XGBoostError as error:
            message = f"an XGBoost booster cannot be read: {str(error).splitlines()[0]}"
            raise CorruptError(message, remedy="fit the stack again") from error
        self._text = text

    def raw(self, columns: np.ndarray, trees: int) -> np.ndarray:
        """Sum of the first trees."""
        have = self._booster.num_boosted_rounds()
        found = self._booster.inplace_predict(
            np.ascontiguousarray(columns, dtype=np.float32),
            iteration_range=(0, min(trees, have)),
            predict_type="margin",
            base_margin=np.zeros(len(columns), dtype=np.float32),
        )
        return np.asarray(found, dtype=np.float64)

    def text(self) -> str:
        """XGBoost's JSON."""
        return self._text


class BaggedTrees:
    """Several boosters of one library that differ in their seed: the mean of what they say.

    Args:
        members: the boosters.
    """

    def __init__(self, members: Sequence[Booster]) -> None:
        self.members = tuple(members)
        self.library = self.members[0].library

    def raw(self, columns: np.ndarray, trees: int) -> np.ndarray:
        """Mean of the members' sums of first trees."""
        return np.asarray(np.mean([one.raw(columns, trees) for one in self.members], axis=0))


Trees = Booster | BaggedTrees
"""What stands in a model: one booster, or a bag of them."""


def members_of(trees: Trees) -> tuple[Booster, ...]:
    """The boosters that stand behind one: itself, or those of a bag."""
    return trees.members if isinstance(trees, BaggedTrees) else (trees,)


_LIBRARIES: dict[str, Any] = {"lightgbm": LightTrees, "xgboost": XgbTrees}


def read_trees(library: str, text: str) -> Booster:
    """A booster from its text.

    Raises:
        CorruptError: no such library, or the text is damaged.
    """
    if library not in _LIBRARIES:
        message = f"booster library {library!r} is none of {', '.join(_LIBRARIES)}"
        raise CorruptError(message, remedy="load the stack with the birdstack that wrote it")
    booster: Booster = _LIBRARIES[library](text)
    return booster
