"""Folds of labelled soundscapes: sites whole, focal recordings undisturbed."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdstack.store.folds import FoldsConfig, check_no_leak, given_folds, make_folds
from birdstack.store.soundscape_folds import with_soundscapes
from birdstack.store.tables import LABELS, RECORDINGS

DAY = dt.date(2024, 5, 1)


def focal(n: int = 8, **columns: object) -> pl.DataFrame:
    """Clips of as many authors."""
    rows = [
        {"recording_id": f"f{i}", "dataset": "d", "split": "train", "kind": "focal"}
        | {"author": f"author {i}", "content_hash": f"hash f{i}"}
        | columns
        for i in range(n)
    ]
    return pl.DataFrame(rows, schema=RECORDINGS)


def scapes(*rows: tuple[str, str | None, int] | tuple[str, str | None, int, str]) -> pl.DataFrame:
    """Soundscapes from id, site, day and what stands for their bytes."""
    made = [
        {"recording_id": name, "dataset": "d", "split": "train", "kind": "soundscape"}
        | {"site": site, "date": DAY + dt.timedelta(days=day)}
        | {"content_hash": content[0] if content else f"hash {name}"}
        for name, site, day, *content in rows
    ]
    return pl.DataFrame(made, schema=RECORDINGS)


def labels(*frames: pl.DataFrame) -> pl.DataFrame:
    """A bird in every clip; soundscapes were listened to and nothing was heard."""
    rows = [
        (name, "owl", "primary", None, None)
        if kind == "focal"
        else (name, None, "annotated", None, None)
        for frame in frames
        for name, kind in frame.select("recording_id", "kind").rows()
    ]
    return pl.DataFrame(rows, schema=LABELS, orient="row")


SITES = scapes(*[(f"s{i}", f"site{i % 4}", i // 4) for i in range(12)])
CONFIG = FoldsConfig(n_folds=3)


def folds_of(split) -> dict[str, int]:
    """Fold of each recording."""
    return dict(split.frame.select("recording_id", "fold").iter_rows())


def test_focal_recordings_stay_where_they_were():
    """Soundscapes go into the folds that are there, and move nobody."""
    told = labels(focal(), SITES)
    before = make_folds(focal(), told, CONFIG)
    split = with_soundscapes(before, SITES, focal(), told, CONFIG)
    assert folds_of(before).items() <= folds_of(split).items()
    assert len(split.frame) == 20
    assert set(split.frame["fold"]) == {0, 1, 2}
    assert split.recipe["inputs"] == before.recipe["inputs"]
    assert split.report["recordings"] == 20
    check_no_leak(split)


@pytest.mark.parametrize(("by", "groups"), [("site", 4), ("site-date", 12), ("recording", 12)])
def test_what_is_held_out_together(by: str, groups: int):
    """All of a site, a day at a site, or each recording by itself."""
    told = labels(focal(), SITES)
    config = FoldsConfig(n_folds=3, soundscapes=by)
    split = with_soundscapes(make_folds(focal(), told, config), SITES, focal(), told, config)
    own = split.frame.filter(pl.col("recording_id").str.starts_with("s"))
    assert own["group"].n_unique() == groups
    sizes = own.group_by("fold").len()["len"]
    assert sizes.min() >= (3 if by == "site" else 4)
    assert split.recipe["soundscapes"]["group"] == by


def test_sites_of_two_datasets_are_two_and_no_site_is_none():
    """The same word in two datasets names two places; without a site, a recording is alone."""
    there = SITES.with_columns(
        pl.lit("e").alias("dataset"),
        pl.concat_str(pl.lit("x"), "recording_id").alias("recording_id"),
    )
    nowhere = scapes(("n1", None, 0), ("n2", None, 0))
    all_of_them = pl.concat([SITES, there, nowhere])
    split = with_soundscapes(None, all_of_them, focal(0), labels(all_of_them), CONFIG)
    assert split.frame["group"].n_unique() == 4 + 4 + 2


def test_soundscapes_alone_make_folds():
    """A store without focal recordings has folds all the same, and its settings are kept."""
    split = with_soundscapes(None, SITES, focal(0), labels(SITES), CONFIG)
    assert set(split.frame["fold"]) == {0, 1, 2}
    assert (split.recipe["n_folds"], split.recipe["seed"]) == (3, 0)
    assert split.report["moved"] == []


def test_one_site_is_one_fold_and_says_so():
    """Nothing can be fitted to one part and judged on another; the note tells a way out."""
    one = scapes(("s1", "a", 0), ("s2", "a", 1))
    split = with_soundscapes(None, one, focal(0), labels(one), CONFIG)
    assert split.frame["fold"].n_unique() == 1
    assert any("folds.soundscapes = site-date" in note for note in split.report["notes"])
    finer = FoldsConfig(n_folds=3, soundscapes="site-date")
    assert with_soundscapes(None, one, focal(0), labels(one), finer).frame["fold"].n_unique() == 2


def test_soundscapes_keep_their_folds():
    """New sites are dealt around the old assignment."""
    told = labels(focal(), SITES)
    base = make_folds(focal(), told, CONFIG)
    first = with_soundscapes(base, SITES, focal(), told, CONFIG)
    more = pl.concat([scapes(*[(f"a{i}", f"new{i}", 0) for i in range(7)]), SITES])
    told = labels(focal(), more)
    again = with_soundscapes(base, more, focal(), told, CONFIG, previous=first.frame)
    assert folds_of(first).items() <= folds_of(again).items()
    assert len(again.frame) == 27
    assert again.report["moved"] == []


def test_a_copy_of_a_focal_recording_is_in_its_fold():
    """A fold model would have met the bytes otherwise; the copy takes its site along."""
    told = labels(focal())
    base = make_folds(focal(), told, CONFIG)
    fold = folds_of(base)["f5"]
    copy = scapes(("s1", "a", 0, "hash f5"), ("s2", "a", 1), ("s3", "b", 1))
    split = with_soundscapes(base, copy, focal(), labels(focal(), copy), CONFIG)
    assert folds_of(split)["s1"] == folds_of(split)["s2"] == fold


def test_copies_of_recordings_in_two_folds_cannot_both_stay():
    """The site goes with one of them; the other has no fold, and a note names it."""
    base = make_folds(focal(), labels(focal()), CONFIG)
    known = folds_of(base)
    other = next(name for name in known if known[name] != known["f0"])
    copies = scapes(("s1", "a", 0, "hash f0"), ("s2", "a", 0, f"hash {other}"), ("s3", "a", 0))
    split = with_soundscapes(base, copies, focal(), labels(focal(), copies), CONFIG)
    left = set(folds_of(split)) & {"s1", "s2", "s3"}
    assert len(left) == 2
    assert "s3" in left
    assert any("1 labelled soundscapes have no fold" in note for note in split.report["notes"])


def test_a_fold_without_sound_gets_no_soundscape():
    """There is nothing there that a fold model could be trained on."""
    clips = focal(6).with_columns(
        (pl.int_range(6) // 2).cast(pl.Int32).alias("given_fold"),
        pl.when(pl.int_range(6) < 4).then("content_hash").alias("content_hash"),
    )
    told = labels(clips, SITES)
    split = with_soundscapes(given_folds(clips, told), SITES, clips, told, CONFIG)
    own = split.frame.filter(pl.col("recording_id").str.starts_with("s"))
    assert set(own["fold"]) == {0, 1}


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from([None, "a", "b", "c"]), st.integers(0, 3), st.integers(0, 9)),
        min_size=1,
        max_size=15,
    ),
    st.sampled_from(["site", "site-date", "recording"]),
    st.randoms(use_true_random=False),
)
def test_groups_never_part_whatever_the_order(rows, by, random):
    """No group in two folds, copies together, and the order of rows is nothing."""
    frame = scapes(*[(f"s{i:02d}", site, day, f"h{h}") for i, (site, day, h) in enumerate(rows)])
    first = frame.filter(pl.col("content_hash").is_duplicated()).select(
        "recording_id", pl.col("recording_id").min().over("content_hash").alias("of")
    )
    frame = frame.join(first, on="recording_id", how="left", maintain_order="left")
    frame = frame.with_columns(pl.col("of").alias("duplicate_group")).select(list(RECORDINGS))
    config = FoldsConfig(n_folds=3, soundscapes=by)
    split = with_soundscapes(None, frame, focal(0), labels(frame), config)
    check_no_leak(split)
    joined = split.frame.join(frame, on="recording_id")
    assert len(joined) == len(frame)
    assert joined.group_by("content_hash").agg(pl.col("fold").n_unique())["fold"].max() == 1
    if by == "site":
        sited = joined.drop_nulls("site")
        assert all(n == 1 for n in sited.group_by("site").agg(pl.col("fold").n_unique())["fold"])
    shuffled = frame.sample(fraction=1, shuffle=True, seed=random.randint(0, 99))
    again = with_soundscapes(None, shuffled, focal(0), labels(frame), config)
    assert again.frame.equals(split.frame)
