"""Examples in docstrings run; modules are found by import name, so each loads once."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import birdstack.embeddings
import birdstack.features
import birdstack.stacking
import birdstack.store

ROOMS = (birdstack.store, birdstack.features, birdstack.embeddings, birdstack.stacking)
MODULES = [
    name
    for room in ROOMS
    for name in (
        room.__name__,
        *(
            f"{room.__name__}.{module.name}"
            for module in pkgutil.iter_modules(room.__path__)
            if module.name != "__main__"
        ),
    )
]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str, tmp_path, monkeypatch) -> None:
    """Every example of the module's docstrings gives what it says."""
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert results.failed == 0, f"{results.failed} of {results.attempted} examples of {name} failed"


def test_each_room_is_walked() -> None:
    """The walk finds modules in the rooms, not just the rooms."""
    assert {name.split(".")[1] for name in MODULES} == {
        "store",
        "features",
        "embeddings",
        "stacking",
    }
    assert "birdstack.store.keys" in MODULES
