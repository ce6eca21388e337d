"""Folds: whole groups, each labelled recording once, the same whatever the order."""

from __future__ import annotations

import json
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from birdstack.store import tables
from birdstack.store.errors import StoreError
from birdstack.store.folds import (
    FoldsConfig,
    Split,
    _fill_empty,
    check_no_leak,
    given_folds,
    make_folds,
)
from birdstack.store.groups import normalise_author

ROW = st.tuples(
    st.sampled_from(["Ann", "Bo", "Cy", "Di", "Ed", "Flo", None, "unknown"]),
    st.sampled_from([None, None, None, "g1", "g2"]),
    st.sampled_from(["robin", "wren", "owl", None]),
)
ROWS = st.lists(ROW, min_size=1, max_size=40)
CONFIGS = st.builds(FoldsConfig, n_folds=st.integers(2, 7), seed=st.integers(0, 3))


def frames(rows):
    """Recordings and labels from (author, duplicate_group, primary label or None)."""
    names = [f"r{number:03d}" for number in range(len(rows))]
    recordings = pl.DataFrame(
        {
            "recording_id": names,
            "author": [row[0] for row in rows],
            "duplicate_group": [row[1] for row in rows],
            "duplicate_of": None,
        },
        schema={"recording_id": pl.String, "author": pl.String, "duplicate_group": pl.String}
        | {"duplicate_of": pl.String},
    )
    labelled = [(name, row[2]) for name, row in zip(names, rows, strict=True) if row[2]]
    labels = pl.DataFrame(labelled, schema=["recording_id", "label"], orient="row").cast(pl.String)
    return recordings, labels.with_columns(role=pl.lit("primary"))


def simple(n_authors, per_author=3, n_classes=2):
    """A table of equal authors; labels go round."""
    rows = [
        (f"author {number // per_author:03d}", None, f"class {number % n_classes}")
        for number in range(n_authors * per_author)
    ]
    return frames(rows)


def folds_of(split):
    """Mapping of recording to fold."""
    return dict(split.frame.select("recording_id", "fold").rows())


@settings(deadline=None)
@given(rows=ROWS, config=CONFIGS)
def test_each_labelled_recording_once_and_groups_whole(rows, config):
    """The frame covers the labelled recordings exactly, and no group parts."""
    recordings, labels = frames(rows)
    split = make_folds(recordings, labels, config)
    assert split.frame.schema == tables.FOLDS
    assert split.frame["recording_id"].to_list() == sorted(labels["recording_id"])
    check_no_leak(split)
    assert split.report["leaks"] == []
    n_folds = min(config.n_folds, split.frame["group"].n_unique())
    assert sorted(split.frame["fold"].unique()) == list(range(n_folds))
    json.dumps([split.recipe, split.report], allow_nan=False)


@settings(deadline=None)
@given(rows=ROWS, config=CONFIGS, shuffle=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows, config, shuffle):
    """Shuffled input gives the same frame, recipe and report."""
    recordings, labels = frames(rows)
    first = make_folds(recordings, labels, config)
    second = make_folds(
        recordings[shuffle.sample(range(len(recordings)), len(recordings))],
        labels[shuffle.sample(range(len(labels)), len(labels))],
        config,
    )
    assert first.frame.equals(second.frame)
    assert (first.recipe, first.report) == (second.recipe, second.report)


@settings(deadline=None)
@given(rows=ROWS, more=ROWS, config=CONFIGS)
def test_previous_folds_are_kept(rows, more, config):
    """After new recordings came, a recording moves only if its group joined another fold's."""
    before = make_folds(*frames(rows), config)
    after = make_folds(*frames(rows + more), config, previous=before.frame)
    check_no_leak(after)
    old, new = folds_of(before), folds_of(after)
    moved = {row["recording_id"]: row["to_fold"] for row in after.report["moved"]}
    assert {name: new[name] for name in old if new[name] != old[name]} == moved
    assert set(old) <= set(new)
    for name in moved:
        group = after.frame.filter(pl.col("recording_id") == name)["group"][0]
        members = after.frame.filter(pl.col("group") == group)["recording_id"]
        assert len({old[member] for member in members if member in old}) > 1


def test_the_same_input_with_previous_changes_nothing():
    """A second run over an unchanged dataset is the first run."""
    recordings, labels = simple(20)
    first = make_folds(recordings, labels)
    second = make_folds(recordings, labels, previous=first.frame)
    assert second.frame.equals(first.frame)
    assert second.report["moved"] == []
    assert second.recipe != first.recipe  # it was determined by more


def test_a_group_that_merges_folds_goes_where_most_of_it_is():
    """Two recordings of fold 1 outvote one of fold 0, which is reported as moved."""
    recordings, labels = frames([("Ann", None, "owl")] * 3 + [("Bo", None, "owl")])
    previous = pl.DataFrame({"recording_id": ["r000", "r001", "r002"], "fold": [0, 1, 1]})
    split = make_folds(recordings, labels, FoldsConfig(n_folds=2), previous=previous)
    assert folds_of(split) == {"r000": 1, "r001": 1, "r002": 1, "r003": 0}
    assert split.report["moved"] == [{"recording_id": "r000", "from_fold": 0, "to_fold": 1}]


def test_new_groups_fill_the_smallest_fold():
    """The largest share of what is new meets the fold that holds least."""
    rows = [("Ann", None, "owl")] * 9 + [("Bo", None, "owl")] * 2
    rows += [("Cy", None, "owl")] * 8 + [("Di", None, "owl")]
    recordings, labels = frames(rows)
    previous = pl.DataFrame(
        {"recording_id": [f"r{number:03d}" for number in range(11)], "fold": [0] * 9 + [1] * 2}
    )
    split = make_folds(recordings, labels, FoldsConfig(n_folds=2), previous=previous)
    assert [row["recordings"] for row in split.report["folds"]] == [10, 10]


def test_a_previous_fold_beyond_the_number_of_folds_is_refused():
    """Fewer folds than before cannot keep the earlier assignment."""
    recordings, labels = simple(4)
    previous = pl.DataFrame({"recording_id": ["r000"], "fold": [5]})
    with pytest.raises(StoreError, match=r"0\.\.2, 'r000' has 5"):
        make_folds(recordings, labels, FoldsConfig(n_folds=3), previous=previous)


def test_strata_are_spread_and_sizes_balance():
    """With many equal groups every fold gets a like share of each class."""
    recordings, labels = simple(60, per_author=1, n_classes=3)
    split = make_folds(recordings, labels)
    shares = split.frame.join(labels, on="recording_id").group_by("fold", "label").len()
    assert shares["len"].min() == 3
    assert shares["len"].max() == 4
    assert split.report["rare_classes"] == []


def test_the_seed_changes_the_folds_and_the_recipe():
    """Another seed is another split."""
    recordings, labels = simple(40)
    first = make_folds(recordings, labels, FoldsConfig(seed=0))
    second = make_folds(recordings, labels, FoldsConfig(seed=1))
    assert not first.frame.equals(second.frame)
    assert first.recipe != second.recipe


@pytest.mark.parametrize("change", ["author", "label"])
def test_the_recipe_knows_what_determines_the_folds(change):
    """A changed author or primary label is another recipe; an unrelated column is not."""
    recordings, labels = simple(10)
    recipe = make_folds(recordings, labels).recipe
    unrelated = recordings.with_columns(rating=pl.lit(5.0))
    assert make_folds(unrelated, labels).recipe == recipe
    if change == "author":
        recordings = recordings.with_columns(
            author=pl.when(pl.col("recording_id") == "r000").then(None).otherwise("author")
        )
    else:
        labels = labels.with_columns(label=pl.lit("owl"))
    assert make_folds(recordings, labels).recipe != recipe


def test_a_rare_class_is_reported_with_the_folds_that_lack_it():
    """The class name, its recordings, its groups and the folds without a positive."""
    rows = [(f"a{number}", None, "owl") for number in range(12)]
    rows += [("z", None, "rail"), ("z", None, "rail")]
    split = make_folds(*frames(rows), FoldsConfig(n_folds=3))
    (rare,) = split.report["rare_classes"]
    held = folds_of(split)["r012"]
    assert rare == {
        "label": "rail",
        "recordings": 2,
        "groups": 1,
        "folds_without": sorted({0, 1, 2} - {held}),
    }


def test_fewer_groups_than_folds_make_fewer_folds():
    """Four authors cannot fill six folds; the report says so."""
    split = make_folds(*simple(4))
    assert sorted(split.frame["fold"].unique()) == [0, 1, 2, 3]
    assert "4 groups make 4 folds, fewer than n_folds=6" in split.report["notes"]


def test_classes_rarer_than_the_folds_still_split():
    """Where no class has as many recordings as there are folds, sizes are balanced."""
    rows = [(f"a{number}", None, f"class {number}") for number in range(12)]
    split = make_folds(*frames(rows), FoldsConfig(n_folds=4))
    assert [row["recordings"] for row in split.report["folds"]] == [3, 3, 3, 3]
    assert any("balanced in size only" in note for note in split.report["notes"])


def test_one_group_is_one_fold_without_an_honest_estimate():
    """Nothing can be held out of one author's recordings, and the report says so."""
    split = make_folds(*simple(1))
    assert set(split.frame["fold"]) == {0}
    assert any("no honest out-of-fold estimate possible" in note for note in split.report["notes"])
    assert split.report["largest_group"] == {"group": "r000", "recordings": 3, "share": 1.0}


def test_no_labelled_recording_is_an_empty_split():
    """Unlabelled recordings have no fold."""
    recordings, labels = simple(3)
    split = make_folds(recordings, labels.clear())
    assert split.frame.is_empty()
    assert split.frame.schema == tables.FOLDS
    assert split.report["notes"] == ["no labelled recordings: the split is empty"]
    assert split.report["largest_group"] is None


def test_given_folds_are_taken_as_they_are_and_leaks_are_listed():
    """The numbers stay; an author in two folds is named with its folds."""
    recordings, labels = frames([("Ann", None, "owl")] * 2 + [("Bo", None, "owl")])
    split = given_folds(recordings.with_columns(given_fold=pl.Series([3, 5, 3])), labels)
    assert folds_of(split) == {"r000": 3, "r001": 5, "r002": 3}
    assert split.report["leaks"] == [{"group": "r000", "folds": [3, 5], "n": 2}]
    with pytest.raises(StoreError, match=r"'r000' with 2 recordings lies in folds \[3, 5\]"):
        check_no_leak(split)


def test_given_folds_must_be_complete():
    """A labelled recording without a fold is named; an unlabelled one needs none."""
    recordings, labels = frames([("Ann", None, "owl"), ("Bo", None, "owl"), ("Cy", None, None)])
    column = pl.Series([1, None, None], dtype=pl.Int32)
    with pytest.raises(StoreError, match="empty for 1 labelled recordings, first 'r001'"):
        given_folds(recordings.with_columns(given_fold=column), labels)


def test_a_fold_that_got_nothing_takes_the_smallest_group_of_the_richest():
    """Rounding in the greedy deal must not cost a fold; group 1 is the smaller one."""
    group = np.array([0, 0, 1, 2])
    filled = _fill_empty(np.array([0, 0, 0, 1], np.int32), group, 3)
    assert filled.tolist() == [0, 0, 2, 1]


def test_check_no_leak_accepts_whole_groups():
    """A split of whole groups passes."""
    check_no_leak(Split(make_folds(*simple(6)).frame, {}, {}))


def test_secondary_labels_alone_make_a_recording_labelled():
    """A recording with a secondary label only still needs a fold."""
    recordings, labels = simple(6)
    labels = labels.with_columns(role=pl.lit("secondary"))
    assert len(make_folds(recordings, labels).frame) == len(recordings)


@pytest.mark.parametrize("bad", [{"n_folds": 1}, {"n_folds": 101}, {"seed": -1}, {"folds": 3}])
def test_config_bounds(bad):
    """One fold is no split; unknown fields are refused."""
    with pytest.raises(ValidationError):
        FoldsConfig(**bad)


@pytest.mark.parametrize(
    ("year", "shape"), [(2022, (14_894, 152)), (2023, (16_941, 264))], ids=["2022", "2023"]
)
def test_real_metadata_splits_fast_and_evenly(real_data, year, shape):
    """On published BirdCLEF tables no fold is 15 % off and no group parts."""
    path = real_data / "metadata" / f"birdclef{year}_train_metadata.csv.gz"
    source = pl.read_csv(path, infer_schema=False)
    name = pl.col("filename").alias("recording_id")
    nothing = pl.lit(None, pl.String)
    recordings = source.select(name, "author", duplicate_group=nothing, duplicate_of=nothing)
    labels = source.select(name, label="primary_label", role=pl.lit("primary"))
    assert (len(source), source["primary_label"].n_unique()) == shape
    started = time.perf_counter()
    split = make_folds(recordings, labels)
    assert time.perf_counter() - started < 20
    check_no_leak(split)
    sizes = [row["recordings"] for row in split.report["folds"]]
    assert len(sizes) == 6
    assert max(abs(size * 6 / len(source) - 1) for size in sizes) < 0.15
    known = {author: normalise_author(author) for author in source["author"].unique()}
    authors = source.select(name, pl.col("author").replace(known)).drop_nulls()
    authors = authors.join(split.frame, on="recording_id")
    assert authors["author"].n_unique() > 1000
    assert authors.group_by("author").agg(pl.col("fold").n_unique())["fold"].max() == 1
