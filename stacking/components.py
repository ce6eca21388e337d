"""Principal components of a frozen backbone's embedding, cross-fitted by fold.

An embedding has more columns than a class has positives; its first components are few enough
to learn from. Each fold has a basis of its own, of rows of the other folds only (mean, scale
and span). Bases of different folds are unrelated in sign and order, so each is turned within
its span by orthogonal Procrustes (Schoenemann 1966) onto the basis of all rows with a fold:
one column means the same in all of them. That turn is the only thing that a fold's own rows
take part in, and no label does.

The backbone must be one and the same network for all rows. Embeddings of fold models live in
unrelated spaces, which no rotation mends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from birdstack.store.errors import SchemaError, UsageError

_RANK = 1e-10
_ROWS = 8192
COMMON = -1
"""Fold of the basis of all rows."""


class ComponentsConfig(BaseModel):
    """How components are made.

    Attributes:
        count: components kept; those beyond the rank of the rows are 0.
        standardise: whether columns of the embedding are brought to one spread first. Plain
            columns are weighted by how much they vary.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(default=32, ge=1, le=1024)
    standardise: bool = False


@dataclass(frozen=True, eq=False)
class Components:
    """Bases of all folds, in one frame. Entry 0 is that of all rows, entry i of `folds[i]`.

    Attributes:
        folds: `[basis]`: -1, then the folds.
        mean: float32 `[basis, dim]`.
        scale: float32 `[basis, dim]`, above zero; ones for plain columns.
        basis: float32 `[basis, dim, component]`, turned into the common frame.
        explained: float32 `[component]`, share of the variance of all rows.
        agreement: float32 `[basis, component]`, cosine between a basis's direction and the
            common one's: near 1 where the column means the same in both.
    """

    folds: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    basis: np.ndarray
    explained: np.ndarray
    agreement: np.ndarray

    def out_of_fold(self, values: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """Components of rows, each by the basis that has not met its fold.

        Args:
            values: embedding `[window, dim]`.
            fold: `[window]`; -1, a row of no fold, is read as `new` reads it.

        Returns:
            float32 `[window, component]`; NaN for rows that are not finite.

        Raises:
            UsageError: a fold that was not fitted.
            SchemaError: shapes do not fit.
        """
        fold = np.asarray(fold)
        self._check(values, fold)
        out = np.empty((len(values), self.basis.shape[2]), np.float32)
        for number in np.unique(fold):
            place = np.flatnonzero(self.folds == number)
            if not len(place):
                message = f"components: no basis was fitted without fold {number}"
                raise UsageError(message, remedy="fit the components on the folds of this split")
            rows = np.flatnonzero(fold == number)
            for first in range(0, len(rows), _ROWS):
                some = rows[first : first + _ROWS]
                out[some] = self._project(values[some], int(place[0]))
        return out

    def new(self, values: np.ndarray) -> np.ndarray:
        """Components of rows that have no fold, by the basis of all rows.

        No basis has met them, and this one is of the most rows. The mean over the folds'
        bases would shrink exactly the columns that they do not agree on, to a spread that no
        stacker was fitted with.

        Raises:
            SchemaError: shapes do not fit.
        """
        return self.out_of_fold(values, np.full(len(values), COMMON))

    def arrays(self) -> dict[str, np.ndarray]:
        """All that `from_arrays` needs, by name."""
        return {name: getattr(self, name) for name in _ARRAYS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Components:
        """The same components again; gives bit-equal columns.

        Raises:
            SchemaError: an array is missing.
        """
        missing = [name for name in _ARRAYS if name not in arrays]
        if missing:
            message = f"components: array {missing[0]!r} is missing"
            raise SchemaError(message, remedy="save all arrays that `arrays` gives")
        return cls(**{name: np.asarray(arrays[name]) for name in _ARRAYS})

    def _check(self, values: np.ndarray, fold: np.ndarray) -> None:
        wanted = (len(fold), self.mean.shape[1])
        if values.shape != wanted:
            message = f"components: embedding must have shape {wanted}, got {values.shape}"
            raise SchemaError(message, remedy="give the embedding that was fitted on")

    def _project(self, values: np.ndarray, place: int) -> np.ndarray:
        centred = np.asarray(values, np.float32) - self.mean[place]
        lost = ~np.isfinite(centred).all(axis=1)
        centred[lost] = 0
        found = (centred / self.scale[place]) @ self.basis[place]
        found[lost] = np.nan
        return np.asarray(found, np.float32)


_ARRAYS = ("folds", "mean", "scale", "basis", "explained", "agreement")


def fit_components(
    blocks: Iterable[np.ndarray], fold: np.ndarray, config: ComponentsConfig | None = None
) -> Components:
    """Fit the bases in one pass over the rows.

    Args:
        blocks: the embedding in stretches of rows `[row, dim]`, in the order of `fold`.
        fold: fold of each row, `[window]`; rows of no fold (-1) and rows that are not finite
            are not learnt from.
        config: how many components, and of what.

    Raises:
        SchemaError: blocks and folds differ in length, or blocks in width.
        UsageError: fewer than two folds, or a fold without which fewer than two rows are left.
    """
    config = config or ComponentsConfig()
    fold = np.asarray(fold)
    moments = _moments(blocks, fold)
    folds = sorted(moments)
    if len(folds) < 2:  # noqa: PLR2004 - one fold is no split
        message = f"components: rows lie in {len(folds)} folds; cross-fitting needs two or more"
        raise UsageError(message, remedy="split the recordings into folds")
    fits = [_fit(moments[number] for number in folds)]
    fits += [_fit(moments[n] for n in folds if n != held) for held in folds]
    for held, fit in zip(folds, fits[1:], strict=True):
        if fit.rows < 2:  # noqa: PLR2004 - one row has no spread
            message = f"components: without fold {held} only {fit.rows} rows are left"
            raise UsageError(message, remedy="use fewer folds, or more rows")
    scales = [_scale(fit, standardise=config.standardise) for fit in fits]
    bases, shares = [], []
    for fit, scale in zip(fits, scales, strict=True):
        basis, share = _basis(fit, scale, config.count)
        bases.append(basis)
        shares.append(share)
    turned = [bases[0], *(_turned(basis, bases[0]) for basis in bases[1:])]
    return Components(
        folds=np.array([COMMON, *folds]),
        mean=np.stack([fit.mean for fit in fits]).astype(np.float32),
        scale=np.stack(scales).astype(np.float32),
        basis=np.stack(turned).astype(np.float32),
        explained=shares[0].astype(np.float32),
        agreement=np.stack([_cosines(basis, bases[0]) for basis in turned]).astype(np.float32),
    )


@dataclass
class _Moments:
    """Count, mean and scatter about the mean of some rows."""

    rows: int
    mean: np.ndarray
    scatter: np.ndarray

    def add(self, other: _Moments) -> None:
        """Take in other rows (Chan, Golub and LeVeque 1979)."""
        rows = self.rows + other.rows
        if not other.rows:
            return
        apart = other.mean - self.mean
        self.scatter += other.scatter
        if self.rows:
            self.scatter += np.outer(apart, apart * (self.rows * other.rows / rows))
        self.mean = self.mean + apart * (other.rows / rows)
        self.rows = rows


def _moments(blocks: Iterable[np.ndarray], fold: np.ndarray) -> dict[int, _Moments]:
    """Moments of each fold."""
    found: dict[int, _Moments] = {}
    first, dim = 0, None
    for block in blocks:
        if block.ndim != 2 or (dim is not None and block.shape[1] != dim):  # noqa: PLR2004
            message = f"components: rows {first} on have shape {block.shape}, wanted [row, {dim}]"
            raise SchemaError(message, remedy="give blocks of one embedding")
        dim = block.shape[1]
        here = fold[first : first + len(block)]
        first += len(block)
        if len(here) < len(block):
            break
        good = np.isfinite(block).all(axis=1)
        for number in np.unique(here[here >= 0]):
            mine = found.setdefault(int(number), _none(dim))
            mine.add(_of(block[(here == number) & good]))
    if first != len(fold):
        message = f"components: {len(fold)} folds, but the blocks hold {first} rows or more"
        raise SchemaError(message, remedy="give one fold for each row")
    return found


def _none(dim: int) -> _Moments:
    return _Moments(0, np.zeros(dim), np.zeros((dim, dim)))


def _of(rows: np.ndarray) -> _Moments:
    if not len(rows):
        return _none(rows.shape[1])
    # Products of centred single-precision rows lose nothing that components would show.
    values = np.asarray(rows, np.float64 if rows.dtype == np.float64 else np.float32)
    mean = values.mean(axis=0, dtype=np.float64)
    values = values - mean.astype(values.dtype)
    left = values.mean(axis=0, dtype=np.float64)
    scatter = (values.T @ values).astype(np.float64) - len(rows) * np.outer(left, left)
    return _Moments(len(rows), mean.astype(values.dtype) + left, scatter)


def _fit(parts: Iterable[_Moments]) -> _Moments:
    total: _Moments | None = None
    for part in parts:
        if total is None:
            total = _none(len(part.mean))
        total.add(part)
    assert total is not None, "there are two folds or more"
    return total


def _scale(fit: _Moments, *, standardise: bool) -> np.ndarray:
    if not standardise:
        return np.ones(len(fit.mean))
    spread = np.sqrt(np.maximum(np.diag(fit.scatter), 0) / max(fit.rows, 1))
    # A constant column stays one: it is not blown up to the size of the others.
    return np.where(spread > 1e-6 * (1e-30 + spread.max() + np.abs(fit.mean)), spread, 1.0)


def _basis(fit: _Moments, scale: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions `[dim, component]`, largest variance first, and their shares of it."""
    from scipy.linalg import eigh  # noqa: PLC0415 - heavy

    scatter = fit.scatter / np.outer(scale, scale)
    dim = len(scale)
    kept = min(count, dim)
    values, vectors = eigh(scatter, subset_by_index=[dim - kept, dim - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    total = max(float(np.trace(scatter)), 1e-300)
    real = values > _RANK * max(float(values[0]), 0)
    real &= values > 0
    real[max(fit.rows - 1, 0) :] = False
    # Signs are a matter of taste; the largest entry is taken as positive.
    top = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    basis, share = np.zeros((dim, count)), np.zeros(count)
    basis[:, :kept] = np.where(real, vectors * np.where(top < 0, -1, 1), 0)
    share[:kept] = np.where(real, values, 0) / total
    return basis, share


def _turned(basis: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """The basis turned within its span as close as can be to another one."""
    left, _, right = np.linalg.svd(basis.T @ onto)
    return np.asarray(basis @ (left @ right))


def _cosines(basis: np.ndarray, onto: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(basis, axis=0) * np.linalg.norm(onto, axis=0)
    return np.asarray((basis * onto).sum(axis=0) / np.where(length > 0, length, 1))
