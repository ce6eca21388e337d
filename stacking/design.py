"""How the columns of a stack are made: which views, which of their columns, which classes.

A design is pinned to recipes: the same columns can be made for windows that nobody has met yet,
by the store or as the sound comes in, and a store whose views or classes differ is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from birdstack.stacking.component_pin import ComponentsPin, pin_components
from birdstack.store.errors import UsageError
from birdstack.store.keys import WindowGrid
from birdstack.store.snapshot import Snapshot


class DesignConfig(BaseModel):
    """What a stack learns from.

    Attributes:
        backbones: names of backbones; empty for all that the store has logits of.
        views: views whose columns go along, `acoustic` (or single groups such as
            `acoustic/indices`) and `place`; each class is given those that move with its score.
        components: principal components of an embedding that go along, fitted inside folds;
            0 for none.
        embedding: backbone whose embedding that is, one frozen network for all recordings;
            empty for the first of the design that has a view of embeddings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbones: tuple[str, ...] = ()
    views: tuple[str, ...] = ("acoustic",)
    components: int = Field(default=0, ge=0, le=1024)
    embedding: str = ""


class BackbonePin(BaseModel):
    """A backbone whose logits are stacked.

    Attributes:
        name: of the backbone.
        recipe: hash of the recipe of its view of logits.
        fold_models: the fold models that score what has no fold; empty for a network that was
            trained elsewhere and has but one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    recipe: str
    fold_models: tuple[int, ...] = ()

    def view(self, model_fold: int | None = None) -> str:
        """View of its logits; of one fold model, for recordings without a fold."""
        own = model_fold is not None and self.fold_models
        return f"logits/{self.name}.m{model_fold}" if own else f"logits/{self.name}"


class ColumnPin(BaseModel):
    """Columns of one view.

    Attributes:
        view: its name; never a family.
        recipe: hash of its recipe.
        columns: names, in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    view: str
    recipe: str
    columns: tuple[str, ...]


class Design(BaseModel):
    """Everything that decides which columns a stack sees.

    Attributes:
        grid: how recordings are cut.
        classes: in order.
        backbones: whose logits are stacked, in order.
        extras: views whose columns go along, in order.
        components: of an embedding, behind the columns of the views; None for none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    grid: WindowGrid
    classes: tuple[str, ...] = Field(min_length=1)
    backbones: tuple[BackbonePin, ...] = Field(min_length=1)
    extras: tuple[ColumnPin, ...] = ()
    components: ComponentsPin | None = None

    @property
    def backbone_names(self) -> tuple[str, ...]:
        """Names of the backbones."""
        return tuple(pin.name for pin in self.backbones)

    @property
    def extra_names(self) -> tuple[str, ...]:
        """Names of the extra columns, `<view>:<column>`; components last."""
        names = tuple(f"{pin.view}:{column}" for pin in self.extras for column in pin.columns)
        return names if self.components is None else (*names, *self.components.names)

    @property
    def fold_models(self) -> tuple[int, ...]:
        """Fold models that score what has no fold; empty if no backbone has any.

        Raises:
            UsageError: two backbones were trained on different folds.
        """
        found = {pin.fold_models for pin in self.backbones if pin.fold_models}
        if len(found) > 1:
            told = ", ".join(f"{p.name}: {p.fold_models}" for p in self.backbones if p.fold_models)
            message = f"backbones have different fold models ({told})"
            raise UsageError(message, remedy="train the backbones on the folds that are in force")
        return found.pop() if found else ()

    def provenance(self, version: int) -> list[dict[str, Any]]:
        """Where each kind of column comes from, JSON-able.

        Args:
            version: number of the snapshot.
        """
        scores = [
            {"columns": f"{pin.name}:<class>", "view": pin.view(), "recipe": pin.recipe}
            for pin in self.backbones
        ]
        extras = [
            {"columns": f"x:{pin.view}:{column}", "view": pin.view, "recipe": pin.recipe}
            for pin in self.extras
            for column in pin.columns
        ]
        pin = self.components
        made = (
            []
            if pin is None
            else [
                {"columns": f"x:{name}", "view": pin.view, "recipe": pin.recipe}
                for name in pin.names
            ]
        )
        return [{**row, "snapshot": version} for row in (*scores, *extras, *made)]

    def check(self, snapshot: Snapshot) -> None:
        """Refuse a store whose views or classes are not those of the design.

        Raises:
            UsageError: naming what differs.
        """
        where = f"{snapshot.files.url}, snapshot {snapshot.version}"
        if snapshot.grid != self.grid:
            message = f"{where}: windows of {snapshot.grid.window_s:g} s every "
            message += f"{snapshot.grid.hop_s:g} s, the stack has {self.grid.window_s:g} s every "
            message += f"{self.grid.hop_s:g} s"
            raise UsageError(message, remedy="use the stack with the store it was fitted on")
        classes = class_labels(snapshot)
        if classes != self.classes:
            lost = [name for name in self.classes if name not in classes]
            new = [name for name in classes if name not in self.classes]
            told = f"lacks {lost[:5]}, has {new[:5]} more" if lost or new else "has another order"
            message = f"{where}: the classes are not those of the stack: the store {told}"
            raise UsageError(message, remedy="fit the stack again, or name the store it is of")
        for view, recipe in self._recipes():
            if view not in snapshot.views:
                message = f"{where}: no view {view!r}, which the stack needs"
                raise UsageError(message, remedy="run birdstack features with the same networks")
            found = snapshot.recipe_of(view)
            if found != recipe:
                message = f"{where}: view {view!r} has recipe {found}, the stack needs {recipe}"
                remedy = "fit the stack again, or open the snapshot that it names"
                raise UsageError(message, remedy=remedy)

    def _recipes(self) -> list[tuple[str, str]]:
        return [
            *((pin.view(), pin.recipe) for pin in self.backbones),
            *((pin.view, pin.recipe) for pin in self.extras),
            *((pin.view, pin.recipe) for pin in (self.components,) if pin is not None),
        ]


def class_labels(snapshot: Snapshot) -> tuple[str, ...]:
    """The store's classes, in order."""
    return tuple(snapshot.table("classes").sort("index")["label"].to_list())


def plan_design(snapshot: Snapshot, config: DesignConfig) -> Design:
    """The design that a configuration asks for, in one snapshot.

    Raises:
        UsageError: no class, no logits, or no such backbone, view or column.
    """
    where = f"{snapshot.files.url}, snapshot {snapshot.version}"
    classes = class_labels(snapshot)
    if not classes:
        message = f"{where}: the store has no classes"
        raise UsageError(message, remedy="ingest labelled recordings first")
    models = _backbones(snapshot)
    unknown = [name for name in config.backbones if name not in models]
    if not models or unknown:
        missing = f"no logits of {unknown[0]!r}" if unknown else "no logits of any network"
        message = f"{where}: {missing}; there are logits of {', '.join(models) or 'none'}"
        raise UsageError(message, remedy="run birdstack features with the networks to stack")
    chosen = config.backbones or tuple(models)
    pins = tuple(
        BackbonePin(name=n, recipe=snapshot.recipe_of(f"logits/{n}"), fold_models=models[n])
        for n in chosen
    )
    extras = tuple(pin for view in config.views for pin in _columns(snapshot, view))
    design = Design(
        grid=snapshot.grid,
        classes=classes,
        backbones=pins,
        extras=extras,
        components=pin_components(snapshot, chosen, config.embedding, config.components),
    )
    _ = design.fold_models
    return design


def _backbones(snapshot: Snapshot) -> Mapping[str, tuple[int, ...]]:
    """Backbone -> its fold models, for those with logits of recordings that have a fold."""
    found: dict[str, list[int]] = {}
    for view in snapshot.views:
        family, _, name = view.partition("/")
        if family == "logits" and not _fold_model(name, snapshot):
            found.setdefault(name, [])
    for view in snapshot.views:
        family, _, name = view.partition("/")
        parts = _fold_model(name, snapshot) if family == "logits" else None
        if parts is not None and parts[0] in found:
            found[parts[0]].append(parts[1])
    return {name: tuple(sorted(models)) for name, models in found.items()}


def _fold_model(name: str, snapshot: Snapshot) -> tuple[str, int] | None:
    """Backbone and number, where a name is that of one fold model's view."""
    backbone, dot, number = name.rpartition(".m")
    if dot and number.isdecimal() and f"logits/{backbone}" in snapshot.views:
        return backbone, int(number)
    return None


def _columns(snapshot: Snapshot, view: str) -> list[ColumnPin]:
    pins = []
    for member in snapshot.members(view):
        spec = snapshot.spec(member)
        names = tuple(c.name for c in spec.columns if c.dtype != "str" and c.dim is None)
        pins.append(ColumnPin(view=member, recipe=spec.recipe_hash, columns=names))
    return pins
