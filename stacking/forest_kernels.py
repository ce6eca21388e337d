"""Kernels of `forest`: written as plain Python, and compiled when they are first needed."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from birdstack.features.compiled import compiled

MOST_LEAVES = 32
"""Of a tree: a bit for each."""
BLOCK = 64
"""Rows that are scored side by side: one vector of each column, and of what leaves are left."""

_ALL = np.uint32(0xFFFFFFFF)
_ONE = np.uint32(1)
_DE_BRUIJN = np.uint32(0x077CB531)
_TOP_FIVE = np.uint32(27)
_NOTHING = np.float32(1e-35)  # LightGBM reads rows without what is this small


class Kernels(NamedTuple):
    """Compiled functions; both release the global interpreter lock."""

    arrange: Callable[..., None]
    score: Callable[..., None]


def arrange(  # noqa: C901 - a kernel is one function: what it calls would have to be compiled too
    leaves: np.ndarray,
    nodes: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    leaf_values: np.ndarray,
    out: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Number the leaves of every tree from left to right, and note what each node rules out.

    Args:
        leaves: of each tree.
        nodes: column, threshold, whether NaN goes left, left and right child of each node, the
            trees one after the other; a child below zero is the leaf of that number's complement.
        leaf_values: of each leaf, the trees one after the other.
        out: column, threshold, mask `[node]`; first node `[tree + 1]`; first node at which NaN
            goes left `[tree]`; leaf values `[tree, 32]`, where `score` looks for them.
    """
    column, threshold, nan_left, left, right = nodes
    to_column, to_threshold, to_mask, start, middle, table = out
    place, low = np.empty(MOST_LEAVES, np.int64), np.empty(MOST_LEAVES, np.int64)
    cut, stack = np.empty(MOST_LEAVES, np.int64), np.empty(2 * MOST_LEAVES, np.int64)
    first_node, first_leaf = 0, 0
    for tree in range(len(leaves)):
        n_nodes = leaves[tree] - 1
        count = 0
        place[0] = 0
        depth = 0
        if n_nodes > 0:
            stack[0] = 0
            depth = 1
        while depth > 0:  # a node is met before its left child, and (raised) again before its right
            depth -= 1
            item = stack[depth]
            if item < 0:
                place[~item] = count
                count += 1
            elif item < MOST_LEAVES:
                low[item] = count
                stack[depth] = item + MOST_LEAVES
                stack[depth + 1] = left[first_node + item]
                depth += 2
            else:
                cut[item - MOST_LEAVES] = count
                stack[depth] = right[first_node + item - MOST_LEAVES]
                depth += 1
        at = first_node
        for side in range(2):
            if side == 1:
                middle[tree] = at
            for node in range(n_nodes):
                if nan_left[first_node + node] == side:
                    to_column[at] = column[first_node + node]
                    to_threshold[at] = threshold[first_node + node]
                    mask = np.int64(0xFFFFFFFF)
                    for leaf in range(low[node], cut[node]):
                        mask -= np.int64(1) << leaf
                    to_mask[at] = mask
                    at += 1
        start[tree + 1] = at
        for leaf in range(leaves[tree]):
            bit = np.uint32(_ONE << np.uint32(place[leaf]))
            table[tree, np.uint32(bit * _DE_BRUIJN) >> _TOP_FIVE] = leaf_values[first_leaf + leaf]
        first_node += n_nodes
        first_leaf += leaves[tree]


def score(  # noqa: C901, PLR0912 - see arrange
    rows: np.ndarray,
    trees: int,
    forest: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    out: np.ndarray,
) -> None:
    """Sum of the first trees for float32 `[row, column]`, in the order of the trees."""
    column, threshold, mask, start, middle, table = forest
    columns = np.empty((rows.shape[1], BLOCK), np.float32)
    left = np.empty(BLOCK, np.uint32)
    total = np.empty(BLOCK, np.float64)
    for first in range(0, rows.shape[0], BLOCK):
        here = min(BLOCK, rows.shape[0] - first)
        for each in range(rows.shape[1]):
            for row in range(here):
                value = rows[first + row, each]
                columns[each, row] = np.float32(0) if np.abs(value) <= _NOTHING else value
            for row in range(here, BLOCK):
                columns[each, row] = 0
        for row in range(BLOCK):
            total[row] = 0
        for tree in range(trees):
            for row in range(BLOCK):
                left[row] = _ALL
            for node in range(start[tree], middle[tree]):
                limit, kept, values = threshold[node], mask[node], columns[column[node]]
                for row in range(BLOCK):
                    left[row] &= _ALL if values[row] <= limit else kept
            for node in range(middle[tree], start[tree + 1]):
                limit, kept, values = threshold[node], mask[node], columns[column[node]]
                for row in range(BLOCK):
                    left[row] &= kept if values[row] > limit else _ALL
            leaf_values = table[tree]
            for row in range(BLOCK):
                lowest = np.uint32(left[row] & (~left[row] + _ONE))
                total[row] += leaf_values[np.uint32(lowest * _DE_BRUIJN) >> _TOP_FIVE]
        for row in range(here):
            out[first + row] = total[row]


_ARRAYS = "Tuple((i8[::1], f4[::1], u4[::1], i8[::1], i8[::1], f8[:, ::1]))"
_NODES = "Tuple((i8[::1], f4[::1], i8[::1], i8[::1], i8[::1]))"
_compiling = threading.Lock()


@functools.cache
def kernels() -> Kernels:
    """The compiled functions; the first call on a machine takes some seconds."""
    with _compiling:
        return Kernels(
            compiled(arrange, f"void(i8[::1], {_NODES}, f8[::1], {_ARRAYS})"),
            compiled(score, f"void(f4[:, ::1], i8, {_ARRAYS}, f8[::1])"),
        )
