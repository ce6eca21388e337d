"""Which class a written label means: its own label, its scientific name or its common name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

from birdstack.store.classes import ClassList, Names


def name_key(text: str) -> str:
    """A name as compared: without case, `_` as a blank, single blanks."""
    return " ".join(text.replace("_", " ").split()).casefold()


@dataclass(frozen=True)
class LabelNames:
    """The labels and names of classes.

    Attributes:
        labels: every class.
        meant: name -> classes that are called so.
        open: whether a label that is not known is a class of its own: where nobody has given
            a class list.
    """

    labels: frozenset[str]
    meant: Mapping[str, frozenset[str]] = field(default_factory=dict)
    open: bool = False

    @classmethod
    def of(cls, classes: ClassList, names: Names, store: pl.DataFrame | None) -> LabelNames:
        """The classes of a dataset and of the store it goes into.

        Args:
            classes: of the dataset.
            names: scientific and common names by label.
            store: rows of `tables.CLASSES`; None if there are none.
        """
        known: dict[str, tuple[str | None, str | None]] = {}
        if store is not None:
            known = {row[0]: row[1:] for row in store.drop("index").iter_rows()}
        known |= {
            label: names.get(label, known.get(label, (None, None))) for label in classes.labels
        }
        found: dict[str, set[str]] = {}
        for label, pair in known.items():
            for name in pair:
                if name:
                    found.setdefault(name_key(name), set()).add(label)
        # A label means itself, whatever a name of another class is.
        found |= _alone(known)
        meant = {name: frozenset(labels) for name, labels in found.items()}
        return cls(frozenset(known), meant, open=not known)

    def find(self, text: str) -> tuple[str, ...]:
        """The classes that a written label can mean: one, none, or several."""
        if text in self.labels or self.open:
            return (text,)
        return tuple(sorted(self.meant.get(name_key(text), ())))


def _alone(labels: Iterable[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for label in labels:
        found.setdefault(name_key(label), set()).add(label)
    return found
