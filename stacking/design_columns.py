"""The extra columns of a design: those of its views as they are, and components of an embedding.

Components are fitted, unlike all other columns: they are kept with the stack, and whoever makes
the columns of new windows needs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from birdstack.stacking.component_pin import ComponentsPin
from birdstack.stacking.components import Components, ComponentsConfig, fit_components
from birdstack.stacking.design import Design
from birdstack.store.errors import SchemaError, UsageError
from birdstack.store.snapshot import Snapshot

_ROWS = 8192
"""Windows whose embeddings are held at a time."""


@dataclass(frozen=True, eq=False)
class DesignColumns:
    """What makes the extra columns of windows that nobody has met.

    Attributes:
        design: whose columns they are.
        components: fitted with the stack (`Shipped.components`); None if the design has none.

    Raises:
        UsageError: the design has components, and they are not given.
        SchemaError: those given are not of its embedding.
    """

    design: Design
    components: Components | None = None

    def __post_init__(self) -> None:
        _ = fitted_for(self.design, self.components)

    def columns(
        self,
        values: Mapping[str, Mapping[str, np.ndarray]],
        embedding: np.ndarray | None = None,
        *,
        n_windows: int,
    ) -> np.ndarray:
        """Columns in the order of `design.extra_names`, float32 `[window, column]`.

        Args:
            values: view -> column -> `[window]`; a view that is missing is NaN.
            embedding: of `design.components.view`, `[window, dim]`; None is NaN.
            n_windows: how many rows there are.

        Raises:
            SchemaError: the embedding has vectors of another length.
        """
        names = self.design.extra_names
        if not names:
            return np.empty((0, 0), np.float32)
        out = np.full((n_windows, len(names)), np.nan, np.float32)
        wanted = [(pin.view, column) for pin in self.design.extras for column in pin.columns]
        for at, (view, column) in enumerate(wanted):
            if view in values:
                out[:, at] = values[view][column]
        if self.components is not None and embedding is not None:
            out[:, len(wanted) :] = self.components.new(embedding)
        return out


def fitted_for(design: Design, components: Components | None) -> Components | None:
    """The components that a design needs, None if it has none.

    Raises:
        UsageError: they are not given.
        SchemaError: they are of another embedding, or fewer or more.
    """
    pin = design.components
    if pin is None:
        return None
    if components is None:
        message = f"the design has {pin.count} components of {pin.view!r}, which are fitted"
        raise UsageError(message, remedy="give those that are saved with the stack")
    if components.basis.shape[1:] != (pin.dim, pin.count):
        message = f"components of shape {components.basis.shape[1:]}, the design has "
        message += f"{(pin.dim, pin.count)}"
        raise SchemaError(message, remedy="give those that are saved with the stack of the design")
    return components


def fit_design_components(
    snapshot: Snapshot, pin: ComponentsPin, ids: Sequence[str], fold: np.ndarray
) -> Components:
    """Fit components in one pass over the embeddings.

    Args:
        snapshot: with the view.
        pin: which embedding, and how many components.
        ids: recordings to learn from, ascending.
        fold: of each recording.

    Raises:
        UsageError: fewer than two folds.
    """
    windows = _windows(snapshot, pin, ids)
    blocks = (values for _, values in _blocks(snapshot, pin, ids, windows))
    return fit_components(blocks, np.repeat(fold, windows), ComponentsConfig(count=pin.count))


def component_columns(
    snapshot: Snapshot,
    pin: ComponentsPin,
    components: Components,
    ids: Sequence[str],
    fold: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Components of stored windows: of a recording with a fold by the basis without that fold.

    Args:
        snapshot: with the view.
        pin: which embedding.
        components: fitted.
        ids: recordings, ascending.
        fold: of each; -1 for none.

    Returns:
        float32 `[window, component]`, and the number of windows of each recording.
    """
    windows = _windows(snapshot, pin, ids)
    of_window = np.repeat(fold, windows)
    out = np.empty((int(windows.sum()), pin.count), np.float32)
    for first, values in _blocks(snapshot, pin, ids, windows):
        here = slice(first, first + len(values))
        out[here] = components.out_of_fold(values, of_window[here])
    return out, windows


def _windows(snapshot: Snapshot, pin: ComponentsPin, ids: Sequence[str]) -> np.ndarray:
    held = snapshot.covered(pin.view)
    return np.array([held[name].windows for name in ids], dtype=np.int64)


def _blocks(
    snapshot: Snapshot, pin: ComponentsPin, ids: Sequence[str], windows: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """First row and embeddings of some recordings at a time, in order."""
    ends = np.cumsum(windows)
    first = row = 0
    while first < len(ids):
        last = max(int(np.searchsorted(ends, row + _ROWS, "right")), first + 1)
        some = list(ids[first:last])
        matrix = snapshot.matrix({pin.view: [pin.column]}, recordings=some)
        yield row, matrix.values
        first, row = last, int(ends[last - 1])
