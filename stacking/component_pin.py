"""Which view of embeddings a design takes components of, pinned to its recipe."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from birdstack.store.errors import UsageError
from birdstack.store.snapshot import Snapshot
from birdstack.store.views import ViewSpec

_FAMILY = "embedding"
_FOLD_COLUMNS = {"fold", "model_fold"}
_REMEDY = "name a frozen backbone as design.embedding, or leave design.components at 0"


class ComponentsPin(BaseModel):
    """Principal components of one view of embeddings.

    Attributes:
        view: its name, `embedding/<backbone>`.
        recipe: hash of its recipe.
        column: the one that holds the vectors.
        dim: length of a vector.
        count: components that go along.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    view: str
    recipe: str
    column: str
    dim: int = Field(ge=1)
    count: int = Field(ge=1)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, `embedding/<backbone>:pc00` and on."""
        return tuple(f"{self.view}:pc{number:02d}" for number in range(self.count))


def pin_components(
    snapshot: Snapshot, backbones: Sequence[str], name: str, count: int
) -> ComponentsPin | None:
    """The view that components are made of; None if none are asked for.

    Args:
        snapshot: with the views.
        backbones: of the design, in order: the first with embeddings serves.
        name: of the backbone to use instead, whether its logits are stacked or not.
        count: components; 0 for none.

    Raises:
        UsageError: there are no embeddings, or they are of more than one network: those of
            fold models lie in unrelated spaces, and a column would mean something else in
            every fold.
    """
    if not count:
        return None
    where = f"{snapshot.files.url}, snapshot {snapshot.version}"
    asked = [name] if name else list(backbones)
    found = [each for each in asked if f"{_FAMILY}/{each}" in snapshot.views]
    if not found:
        known = [v.partition("/")[2] for v in snapshot.views if v.startswith(f"{_FAMILY}/")]
        message = f"{where}: no embeddings of {', '.join(asked)}, to make components of; there "
        message += f"are embeddings of {', '.join(known) or 'no network'}"
        raise UsageError(message, remedy=_REMEDY)
    view = f"{_FAMILY}/{found[0]}"
    spec = snapshot.spec(view)
    why = _of_many_networks(spec, snapshot)
    if why:
        message = f"{where}: view {view!r} is not of one network for all recordings: {why}"
        raise UsageError(message, remedy=_REMEDY)
    vectors = [column for column in spec.columns if column.dim is not None]
    if len(vectors) != 1:
        message = f"{where}: view {view!r} has {len(vectors)} columns of vectors, not one"
        raise UsageError(message, remedy=_REMEDY)
    (vector,) = vectors
    assert vector.dim is not None, "a vector has a length"
    if count > vector.dim:
        message = f"design.components is {count}, but {view!r} has vectors of {vector.dim}"
        raise UsageError(message, remedy=f"ask for {vector.dim} components at most")
    return ComponentsPin(
        view=view, recipe=spec.recipe_hash, column=vector.name, dim=vector.dim, count=count
    )


def _of_many_networks(spec: ViewSpec, snapshot: Snapshot) -> str:
    """What shows that fold models made the rows; empty if nothing does."""
    marked = sorted(_FOLD_COLUMNS & {column.name for column in spec.columns})
    if marked:
        return f"its column {marked[0]!r} says which fold model made a row"
    if spec.recipe.get("training") is not None:
        return "its recipe names a model that was trained on the folds"
    one_of = [v for v in snapshot.views if v.startswith(f"{spec.name}.m") and v[-1].isdecimal()]
    return f"{one_of[0]!r} is that of one fold model" if one_of else ""
