"""The tables that the out-of-fold guard judges by, in the form that it asks them in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from birdstack.store.fold_rules import Place
from birdstack.store.snapshot import Snapshot
from birdstack.store.trained import Trained, content_keys

Made = TypeVar("Made")


def places(snapshot: Snapshot) -> dict[str, Place]:
    """Where every recording of the store stands."""

    def make() -> dict[str, Place]:
        content = content_keys().alias("content")
        known = snapshot.table("recordings").select("recording_id", content)
        both = snapshot.table("folds").join(known, on="recording_id", how="full", coalesce=True)
        columns = both.select("recording_id", "fold", "group", "content")
        return {name: Place(*place) for name, *place in columns.iter_rows()}

    return _kept(make, *_paths(snapshot, "folds"), *_paths(snapshot, "recordings"))


def training_record(snapshot: Snapshot, model: str) -> Trained:
    """What the fold models of one model were trained on."""

    def make() -> Trained:
        return Trained.of(snapshot.table("trained", key=model), snapshot.table("folds"), model)

    return _kept(make, model, *_paths(snapshot, "folds"), *_paths(snapshot, "trained"))


def _paths(snapshot: Snapshot, table: str) -> list[str]:
    """Parts of a table, which never change, and which of them is in force."""
    parts = snapshot.state.table_parts(table)
    return [snapshot.state.active.get(table, ""), *(part.path for part in parts)]


_KEPT = 16
_made: dict[tuple[str, ...], Any] = {}
_made_lock = threading.Lock()


def _kept(make: Callable[[], Made], *key: str) -> Made:
    """What `make` makes, kept: every commit of logits asks for the same tables again."""
    with _made_lock:
        made: Made = _made.pop(key) if key in _made else make()
        _made[key] = made  # the newest last
        if len(_made) > _KEPT:
            del _made[next(iter(_made))]
        return made
