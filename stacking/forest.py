"""A booster's trees laid out so that many rows fall through them at once.

Walking down a tree costs a mispredicted branch at every other node. Here a row visits no nodes:
each tree begins with all its leaves, every node that sends the row to the right strikes out the
leaves to its left, and the leftmost that is left is the row's (QuickScorer: Lucchese et al.
2015, SIGIR; with vectors of rows: Lucchese et al. 2016). All nodes of a tree are looked at, but
without a branch, and for dozens of rows in one instruction.

The numbers are LightGBM's, to the last bit: columns are float32, so a threshold may be rounded
down to float32, and leaf values are added up in float64 in the order of the trees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from birdstack.stacking.forest_kernels import MOST_LEAVES, kernels

_FIELDS = {
    "num_leaves": np.int64,
    "split_feature": np.int64,
    "threshold": np.float64,
    "decision_type": np.int64,
    "left_child": np.int64,
    "right_child": np.int64,
    "leaf_value": np.float64,
}
_CATEGORY, _LEFT_IF_MISSING, _MISSING = 1, 2, 12  # bits of a decision type
_ZERO_IS_MISSING, _NAN_IS_MISSING = 4, 8


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees of one booster.

    Attributes:
        trees: how many.
        columns: how many columns it was fitted on.
        arrays: what `forest_kernels.score` takes.
    """

    trees: int
    columns: int
    arrays: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, text: str) -> Self | None:
        """The trees of a booster in LightGBM's format; None where they are of another make.

        Other than a sum of trees of at most 32 leaves each, with numeric columns in which zero
        is a number.
        """
        head, _, body = text.partition("\nTree=")
        body = body.partition("\nend of trees")[0]
        columns = _columns(head)
        found = _fields(body)
        if columns is None or found is None:
            return None
        leaves, kind, threshold = (
            found["num_leaves"],
            found["decision_type"],
            found["threshold"],
        )
        missing = kind & _MISSING
        plain = not (kind & _CATEGORY).any() and not (missing == _ZERO_IS_MISSING).any()
        if not plain or not len(leaves) or leaves.max() > MOST_LEAVES:
            return None
        # a missing value that is no value of its own counts as zero
        nan_left = np.where(
            missing == _NAN_IS_MISSING, (kind & _LEFT_IF_MISSING) > 0, threshold >= 0
        ).astype(np.int64)
        nodes = (
            found["split_feature"],
            _rounded_down(threshold),
            nan_left,
            found["left_child"],
            found["right_child"],
        )
        arrays = (
            np.empty(len(kind), np.int64),
            np.empty(len(kind), np.float32),
            np.empty(len(kind), np.uint32),
            np.zeros(len(leaves) + 1, np.int64),
            np.zeros(len(leaves), np.int64),
            np.zeros((len(leaves), MOST_LEAVES)),
        )
        kernels().arrange(leaves, nodes, found["leaf_value"], arrays)
        return cls(len(leaves), columns, arrays)

    def takes(self, columns: np.ndarray) -> bool:
        """Whether these rows can be scored here: float32, and as many columns."""
        return columns.dtype == np.float32 and columns.shape[1:] == (self.columns,)

    def raw(self, columns: np.ndarray, trees: int) -> np.ndarray:
        """Sum of the first `trees` trees for rows `[row, column]` of float32."""
        out = np.empty(len(columns))
        rows = np.require(columns, requirements=["C", "W"])
        kernels().score(rows, min(trees, self.trees), self.arrays, out)
        return out


def _columns(head: str) -> int | None:
    """Number of columns; None where trees are not simply added up."""
    facts: dict[str, Any] = dict(
        line.partition("=")[::2] for line in head.splitlines() if "=" in line
    )
    simple = facts.get("num_tree_per_iteration") == "1" and facts.get("num_class") == "1"
    if not simple or "average_output" in head.splitlines() or "max_feature_idx" not in facts:
        return None
    return int(facts["max_feature_idx"]) + 1


def _fields(body: str) -> dict[str, np.ndarray] | None:
    """Fields of all trees, one after the other; None where a tree has more than these say."""
    texts: dict[str, list[str]] = {name: [] for name in _FIELDS}
    for line in body.splitlines():
        name, _, value = line.partition("=")
        if name in texts:
            texts[name].append(value)
        elif (name in ("num_cat", "is_linear") and value != "0") or not line.isascii():
            return None
    found = {
        name: np.array(" ".join(texts[name]).split(), dtype=dtype)
        for name, dtype in _FIELDS.items()
    }
    leaves = found["num_leaves"]
    n_nodes, n_leaves = int((leaves - 1).sum()), int(leaves.sum())
    lengths = {name: len(values) for name, values in found.items()}
    wanted = dict.fromkeys(_FIELDS, n_nodes) | {"num_leaves": len(leaves), "leaf_value": n_leaves}
    return found if lengths == wanted else None


def _rounded_down(threshold: np.ndarray) -> np.ndarray:
    """The greatest float32 that is not above each threshold."""
    with np.errstate(over="ignore"):
        near = threshold.astype(np.float32)
    above = near.astype(np.float64) > threshold
    return np.where(above, np.nextafter(near, np.float32(-np.inf)), near)
