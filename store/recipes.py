"""Recipes on disk: what determined the numbers of a view, beside its parts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from birdstack.store.errors import CorruptError, SchemaError
from birdstack.store.files import Files
from birdstack.store.layout import recipe_path
from birdstack.store.views import Column, ViewSpec, canonical_json


def write_recipe(files: Files, spec: ViewSpec) -> None:
    """Write `recipe.json` of a view; nothing happens if the same one is there.

    Raises:
        SchemaError: the same recipe was written with other columns.
    """
    content = {
        "view": spec.name,
        "recipe": dict(spec.recipe),
        "columns": [asdict(column) for column in spec.columns],
    }
    digest = hashlib.sha256(canonical_json(content).encode()).hexdigest()
    body = json.dumps({**content, "sha256": digest}, indent=1).encode() + b"\n"
    try:
        files.put_new(recipe_path(spec.name, spec.recipe_hash), body)
    except FileExistsError:
        known = read_recipe(files, spec.name, spec.recipe_hash)
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
        body = json.loads(files.read(path))
        digest = body.pop("sha256")
        whole = digest == hashlib.sha256(canonical_json(body).encode()).hexdigest()
        if whole:
            columns = tuple(Column(**column) for column in body["columns"])
            return ViewSpec(body["view"], columns, body["recipe"])
    except FileNotFoundError:
        message = f"recipe {place} is missing"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"recipe {place} is damaged: {error}"
    else:
        message = f"recipe {place} is damaged: its sha256 does not match"
    remedy = "run `birdstack features` with the settings that made the view: it is written again"
    raise CorruptError(message, remedy=remedy)


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
