"""Which of a network's own classes is which class of the store.

A network trained elsewhere names its classes in its own way (scientific names, eBird
codes, or both) and knows other species than a store holds. Its logits are picked by
name; a class that it does not know gets NaN, which says "not heard" where a number
would claim "not there".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from birdstack.store.classes import Names
from birdstack.store.errors import ConfigError


@dataclass(frozen=True)
class ClassMap:
    """For each class of the store, the network's column.

    Attributes:
        classes: labels of the store, in order.
        columns: column of the network's logits for each label; -1: it has none.
        by_common_name: labels that only their common name found, as happens where a species
            has moved to another genus; worth a look.
    """

    classes: tuple[str, ...]
    columns: tuple[int, ...]
    by_common_name: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Labels without a counterpart: their logits are NaN."""
        pairs = zip(self.classes, self.columns, strict=True)
        return tuple(label for label, column in pairs if column < 0)

    def pick(self, logits: np.ndarray) -> np.ndarray:
        """Logits `[window, own class]` to float32 `[window, class]`, NaN where there are none."""
        columns = np.asarray(self.columns, dtype=np.intp)
        picked = np.full((len(logits), len(columns)), np.nan, dtype=np.float32)
        known = columns >= 0
        picked[:, known] = logits[:, columns[known]]
        return picked

    def require_some(self, network: str) -> ClassMap:
        """Itself, unless the network knows none of the classes.

        Raises:
            ConfigError: as it says.
        """
        if len(self.missing) < len(self.classes):
            return self
        shown = ", ".join(self.classes[:3])
        message = f"{network}: it knows none of the {len(self.classes)} classes, such as {shown}"
        remedy = "use mode frozen: its embeddings serve species that it does not name"
        raise ConfigError(message, remedy=remedy)

    def note(self, network: str) -> str:
        """One sentence on what is missing or was found by its common name; empty if nothing."""
        parts = []
        if self.missing:
            n_known = len(self.classes) - len(self.missing)
            parts.append(
                f"{network} knows {n_known} of {len(self.classes)} classes; "
                f"NaN logits for {', '.join(self.missing)}"
            )
        if self.by_common_name:
            parts.append(f"matched by common name only: {', '.join(self.by_common_name)}")
        return "; ".join(parts)


def map_classes(own: Sequence[Sequence[str]], wanted: Names) -> ClassMap:
    """Find each wanted class among the network's own.

    A label is sought by itself, then by its scientific and then by its common name. Case,
    underscores and runs of spaces do not count, so `turdus_merula` finds `Turdus merula`. A
    name that several of the network's classes share finds none of them.

    Args:
        own: for each of the network's classes, every name it goes by.
        wanted: scientific and common name of the store's labels, in their order.
    """
    found: dict[str, int] = {}
    for column, names in enumerate(own):
        for key in {_key(name) for name in names} - {""}:
            found[key] = column if found.get(key, column) == column else -1
    columns, by_common_name = [], []
    for label, (scientific, common) in wanted.items():
        column = found.get(_key(label), -1)
        if column < 0:
            column = found.get(_key(scientific or ""), -1)
        if column < 0:
            column = found.get(_key(common or ""), -1)
            if column >= 0:
                by_common_name.append(label)
        columns.append(column)
    return ClassMap(tuple(wanted), tuple(columns), tuple(by_common_name))


def _key(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()
