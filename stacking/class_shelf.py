"""A shelf of finished work: the shared layer and the layers of each class, as soon as fitted.

A fit that was stopped goes on where it was, and several machines may fill one shelf: it lies in
a folder, or at an `s3://` address.

```
SHELF/<table>/shared-<key>.zip
SHELF/<table>/class-<number>-<key>.zip
SHELF/<table>/shard-<i>-of-<n>.json     that somebody fits, or has fitted, this shard
```

`<table>` is a digest of the table and of the code, `<key>` one of the settings that decide the
numbers: whatever is different lies elsewhere, and nothing is ever taken for something else.
Files are put in place whole. Two processes that fit the same class write the same bytes, so it
does not matter who comes last. A damaged file is told, and its class fitted again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from birdstack.stacking import model_json
from birdstack.stacking.class_model import ClassFit
from birdstack.stacking.model_json import plain
from birdstack.stacking.parcel import Parcel, packed, unpacked
from birdstack.stacking.stack_model import SharedLayer
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.stack_table import StackTable
from birdstack.stacking.table_digest import code_digest, digest_of, table_digest
from birdstack.store.errors import CorruptError
from birdstack.store.files import open_files

_FORMAT = 1
_KEY = 12
_NO_PART = {
    "workers",
    "ship",
    "resamples",
    "blend",
    "min_positives",
    "min_recordings",
    "prior",
}
"""Settings that change nothing in a layer."""

_SHARED = ("shared_leaves", "shared_trees", "neighbours", "max_extra", "seed")
"""Settings of the shared layer."""

Kept = TypeVar("Kept")

_SHARD = re.compile(r"shard-(\d+)-of-(\d+)\.json")


@dataclass(frozen=True)
class SharedFit:
    """The shared layer as fitted.

    Attributes:
        layer: boosters, ranker and their scale.
        common: its out-of-fold scores, float32 `[window, class]`.
        boosted: those of the boosters alone.
    """

    layer: SharedLayer
    common: np.ndarray
    boosted: np.ndarray


class ClassShelf:
    """Finished layers of one table.

    Args:
        place: a folder, made if need be, or an `s3://` address; one for any number of tables.
        table: that the layers are fitted on.
        tell: told of damaged files.
    """

    def __init__(
        self,
        place: str | Path,
        table: StackTable,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._files = open_files(str(place))
        self._tell = tell
        self._classes = table.classes
        made_of = {"table": table_digest(table), "code": code_digest(), "format": _FORMAT}
        self._folder = digest_of(made_of)[: 2 * _KEY]
        self._there: set[str] = set()
        self.refresh()

    @property
    def url(self) -> str:
        """Where it lies."""
        return self._files.url

    def refresh(self) -> None:
        """Look again at what others have put here."""
        self._there = set(self._files.list(self._folder))

    def shared(self, settings: StackSettings) -> SharedFit | None:
        """The shared layer; None if it is not here, or damaged."""
        return self._taken(_shared_name(settings), _shared_from)

    def keep_shared(self, fit: SharedFit, settings: StackSettings) -> None:
        """Put the shared layer here."""
        texts: dict[str, str] = {}
        index = {"layer": plain(model_json.shared_layer(fit.layer, texts))}
        arrays = {"common": fit.common, "boosted": fit.boosted}
        self._put(_shared_name(settings), Parcel(index, texts, arrays))

    def has_shared(self, settings: StackSettings) -> bool:
        """Whether the shared layer is here, for all that is known without reading it."""
        return _shared_name(settings) in self._there

    def fit(self, number: int, settings: StackSettings) -> ClassFit | None:
        """The layers of one class; None if they are not here, or damaged."""
        return self._taken(_class_name(number, settings), _fit_from)

    def keep(self, number: int, fit: ClassFit, settings: StackSettings) -> None:
        """Put the layers of one class here."""
        texts: dict[str, str] = {}
        folds = model_json.class_model(fit.model, number, texts)
        index = {"class": self._classes[number], "folds": plain(folds)}
        arrays = {name: getattr(fit, name) for name in ("trial", "linear", "present", "fold")}
        self._put(_class_name(number, settings), Parcel(index, texts, arrays))

    def has(self, number: int, settings: StackSettings) -> bool:
        """Whether a class is here, for all that is known without reading it."""
        return _class_name(number, settings) in self._there

    def note_shard(self, number: int, of: int) -> None:
        """Say that a shard is being fitted."""
        note = json.dumps({"shard": number, "of": of}).encode()
        self._files.put(f"{self._folder}/shard-{number}-of-{of}.json", note)

    def shards(self) -> Collection[int]:
        """Numbers of shards that the work was cut into, as noted."""
        found = [_SHARD.fullmatch(name) for name in self._files.list(self._folder)]
        return sorted({int(match.group(2)) for match in found if match})

    def others(self) -> int:
        """How many other tables, or versions of the code, have layers here."""
        found = {info.path.partition("/")[0] for info in self._files.walk("")}
        return len(found - {self._folder})

    def _taken(self, name: str, read: Callable[[Parcel], Kept]) -> Kept | None:
        path = f"{self._folder}/{name}"
        try:
            return read(unpacked(self._files.read(path), f"{self.url}/{path}"))
        except FileNotFoundError:
            return None
        except CorruptError as error:
            self._tell(f"{error.message}; it counts as not there")
        except (KeyError, TypeError, ValueError) as error:
            self._tell(f"{self.url}/{path}: cannot be read ({error}); it counts as not there")
        self._there.discard(name)
        return None

    def _put(self, name: str, parcel: Parcel) -> None:
        self._files.put(f"{self._folder}/{name}", packed(parcel))
        self._there.add(name)


def _shared_from(parcel: Parcel) -> SharedFit:
    layer = model_json.shared_layer_back(parcel.index["layer"], parcel.texts)
    return SharedFit(layer, parcel.arrays["common"], parcel.arrays["boosted"])


def _fit_from(parcel: Parcel) -> ClassFit:
    model = model_json.class_model_back(parcel.index["folds"], parcel.texts)
    return ClassFit(model, *(parcel.arrays[n] for n in ("trial", "linear", "present", "fold")))


def _shared_name(settings: StackSettings) -> str:
    return f"shared-{_key(settings.model_dump(mode='json', include=set(_SHARED)))}.zip"


def _class_name(number: int, settings: StackSettings) -> str:
    return f"class-{number:05d}-{_key(settings.model_dump(mode='json', exclude=_NO_PART))}.zip"


def _key(settings: dict[str, Any]) -> str:
    return digest_of(settings)[:_KEY]
