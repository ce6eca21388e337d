"""Recipes on disk: what determined the numbers of a view, beside its parts."""

from __future__ import annotations

import functools
from dataclasses import asdict

from birdstack.store.errors import CorruptError, SchemaError
from birdstack.store.files import Files
from birdstack.store.layout import recipe_path
from birdstack.store.sealed import seal, unseal
from birdstack.store.views import Column, ViewSpec


def write_recipe(files: Files, spec: ViewSpec) -> None:
    """Write `recipe.json` of a view; nothing happens if the same one is there.

    A damaged one is replaced: its name is the hash of what it must say.

    Raises:
        SchemaError: the same recipe was written with other columns.
    """
    content = {
        "view": spec.name,
        "recipe": dict(spec.recipe),
        "columns": [asdict(column) for column in spec.columns],
    }
    path = recipe_path(spec.name, spec.recipe_hash)
    try:
        known = read_recipe(files, spec.name, spec.recipe_hash)
    except CorruptError:  # missing, too
        files.put(path, seal(content))
        return
    if known.columns != spec.columns:
        _raise_other_columns(spec, known)


def read_recipe(files: Files, view: str, recipe: str) -> ViewSpec:
    """Read a view's specification back.

    Raises:
        CorruptError: the file is missing or damaged.
    """
    path = recipe_path(view, recipe)
    place = f"{files.url}/{path}"
    try:
        spec = _parsed(files.read(path))
    except FileNotFoundError:
        message = f"recipe {place} is missing"
    except (ValueError, KeyError, TypeError) as error:
        message = f"recipe {place} is damaged: {error}"
    else:
        if (spec.name, spec.recipe_hash) == (view, recipe):
            return spec
        message = f"recipe {place} is that of view {spec.name!r}, {spec.recipe_hash}"
    remedy = "run `birdstack features` with the settings that made the view: it is written again"
    raise CorruptError(message, remedy=remedy)


@functools.lru_cache(maxsize=64)
def _parsed(data: bytes) -> ViewSpec:
    """The specification that a file's bytes are; every read of a view asks for it again."""
    body = unseal(data)
    columns = tuple(Column(**column) for column in body["columns"])
    return ViewSpec(body["view"], columns, body["recipe"])


def _raise_other_columns(spec: ViewSpec, known: ViewSpec) -> None:
    old, new = {c.name: c for c in known.columns}, {c.name: c for c in spec.columns}
    lines = [f"  - {old[name]}" for name in old if new.get(name) != old[name]]
    lines += [f"  + {new[name]}" for name in new if old.get(name) != new[name]]
    if not lines:
        lines = ["  the order of the columns"]
    message = (
        f"view {spec.name!r}, recipe {spec.recipe_hash}: the columns differ from those already "
        "in the store:\n" + "\n".join(lines)
    )
    raise SchemaError(message, remedy="raise the version in the extractor's recipe")
