"""Classes find each other by name, and pieces cover a window."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdstack.embeddings.class_mapping import map_classes
from birdstack.embeddings.pieces import cut, mean_of_pieces, piece_starts
from birdstack.store.errors import ConfigError

OWN = [
    ("Turdus merula", "Eurasian Blackbird"),
    ("Accipiter cooperii", "Cooper's Hawk"),
    ("Apus apus", "Swift"),
    ("Apus pacificus", "Swift"),
]


def test_names_are_tried_in_order() -> None:
    """Label, then scientific, then common name; case, underscores and spaces do not count."""
    found = map_classes(
        OWN,
        {
            "turdus_merula": (None, None),
            "comswi": ("APUS  apus", "Eurasian Blackbird"),  # the scientific name comes first
            "coohaw": ("Astur cooperii", "Cooper's hawk"),
            "dodo": ("Raphus cucullatus", "Dodo"),
            "empty": (None, ""),
        },
    )
    assert found.columns == (0, 2, 1, -1, -1)
    assert found.missing == ("dodo", "empty")
    assert found.by_common_name == ("coohaw",)


def test_a_shared_name_finds_none() -> None:
    """Two swifts: which of them is meant cannot be known."""
    assert map_classes(OWN, {"swift": (None, "Swift")}).columns == (-1,)


def test_pick_orders_and_marks() -> None:
    """Columns come in the store's order; unknown ones are NaN."""
    logits = np.arange(8, dtype=np.float32).reshape(2, 4)
    wanted = {"a": ("Apus apus", None), "dodo": (None, None), "b": ("Turdus merula", None)}
    picked = map_classes(OWN, wanted).pick(logits)
    np.testing.assert_array_equal(picked, [[2, np.nan, 0], [6, np.nan, 4]])
    assert picked.dtype == np.float32


def test_none_in_common_is_refused() -> None:
    """A network that knows no class at all is refused; one that knows one is not."""
    some = map_classes(OWN, {"Apus apus": (None, None), "dodo": (None, None)})
    assert some.require_some("net") is some
    with pytest.raises(ConfigError, match="net: it knows none of the 1 classes, such as dodo"):
        map_classes(OWN, {"dodo": (None, None)}).require_some("net")


def test_a_note_only_where_there_is_something_to_say() -> None:
    """All classes known by label: nothing."""
    assert map_classes(OWN, {"Apus apus": (None, None)}).note("net") == ""


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_pieces_cover_the_window(one: int, other: int) -> None:
    """From the first to the last sample, without a gap, in as few pieces as that takes."""
    piece, window = sorted((one, other))
    starts = piece_starts(window, piece)
    assert starts[0] == 0
    assert starts[-1] + piece == window
    assert all(0 < b - a <= piece for a, b in pairwise(starts))
    assert len(starts) == -(-window // piece)


def test_a_piece_longer_than_the_window() -> None:
    """It is a mistake of the caller."""
    with pytest.raises(ValueError, match="piece_samples=4"):
        piece_starts(3, 4)


def test_cut_and_mean() -> None:
    """Pieces lie window by window, and their mean is taken window by window."""
    windows = np.arange(10, dtype=np.float32).reshape(2, 5)
    pieces = cut(windows, (0, 2), 3)
    np.testing.assert_array_equal(pieces, [[0, 1, 2], [2, 3, 4], [5, 6, 7], [7, 8, 9]])
    np.testing.assert_array_equal(mean_of_pieces(pieces, 2), [[1, 2, 3], [6, 7, 8]])
    assert mean_of_pieces(pieces[:0], 2).shape == (0, 3)
