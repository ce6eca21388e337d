"""A view's name, columns and recipe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdstack.store.errors import SchemaError
from birdstack.store.views import Column, ViewSpec, canonical_json, recipe_hash

plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner)),
    max_leaves=8,
).filter(lambda value: "inf" not in repr(value))


@given(st.dictionaries(st.text(), plain, max_size=5), st.randoms())
def test_the_hash_does_not_depend_on_the_order_of_keys(recipe: dict, rng) -> None:
    """One recipe, one hash, however it was put together."""
    items = list(recipe.items())
    rng.shuffle(items)
    assert recipe_hash(dict(items)) == recipe_hash(recipe)
    assert len(recipe_hash(recipe)) == 12


@given(st.integers(), st.integers())
def test_other_numbers_have_another_hash(left: int, right: int) -> None:
    """A changed parameter is another recipe."""
    same = recipe_hash({"hop": left}) == recipe_hash({"hop": right})
    assert same == (left == right)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes", object()])
def test_a_recipe_is_plain_json(value: object) -> None:
    """What JSON cannot say is refused, since it would have no stable hash."""
    with pytest.raises(SchemaError, match="a recipe must be plain JSON"):
        canonical_json({"a": value})


@pytest.mark.parametrize("name", ["acoustic", "logits/lite0", "logits/Lite-0.v2", "a"])
def test_names_that_fit(name: str) -> None:
    """Lower-case families, members in any case."""
    assert ViewSpec(name, (), {}).name == name


@pytest.mark.parametrize(
    "name", ["", "Acoustic", "a/b/c", "../up", "a b", "a/", "/a", "a/../b", "ü", "a\n", "a/.b"]
)
def test_names_that_could_leave_their_folder(name: str) -> None:
    """A name is a path below the store: nothing that climbs, nothing hidden."""
    with pytest.raises(SchemaError, match="view name"):
        ViewSpec(name, (), {})


@pytest.mark.parametrize("name", ["recordings", "labels", "folds", "skips"])
def test_names_of_tables_are_taken(name: str) -> None:
    """A view called like a table would hide the table."""
    with pytest.raises(SchemaError, match="is that of a table"):
        ViewSpec(name, (), {})


@pytest.mark.parametrize("names", [("a", "a"), ("window",), ("recording_id", "b")])
def test_column_names_are_unique(names: tuple[str, ...]) -> None:
    """No column twice, none with the name of a key."""
    with pytest.raises(SchemaError, match="column names must be unique"):
        ViewSpec("v", tuple(Column(name) for name in names), {})
