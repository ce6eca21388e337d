"""Families: views of their own that are read side by side."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdstack.store.errors import SkipRecording, UsageError
from birdstack.store.extractor import KnownWindows, SingleView
from birdstack.store.inventory import describe, list_entries
from birdstack.store.materialise import materialise
from birdstack.store.recordings import Recording
from birdstack.store.run_config import RunConfig
from birdstack.store.store import Store
from birdstack.store.views import Column, ViewSpec


@dataclass
class Opener:
    """Counts what it opens; a recording has as many windows as its id says."""

    opened: int = 0

    def open(self, recording: Recording) -> KnownWindows:
        """Open one recording."""
        self.opened += 1
        return KnownWindows(int(recording.recording_id[-1]) + 1)


def _spec(group: str, version: int) -> ViewSpec:
    columns = (Column(f"{group}_a"), Column(f"{group}_b"))
    return ViewSpec(f"song/{group}", columns, {"group": group, "version": version})


@dataclass
class Song:
    """Fills several views of one family in one pass, and remembers what it was asked for."""

    groups: tuple[str, ...] = ("high", "low")
    version: int = 1
    needs_sound: bool = True
    asked: tuple[str, ...] = ()

    @property
    def specs(self) -> tuple[ViewSpec, ...]:
        """One view for each group."""
        return tuple(_spec(group, self.version) for group in self.groups)

    def content_key(self, recording: Recording) -> str:
        """The file's bytes, and the site for a view that says so."""
        return recording.content_hash

    def extract(
        self, sound: KnownWindows, recording: Recording, wanted: Collection[str]
    ) -> Mapping[str, Mapping[str, np.ndarray]]:
        """Numbers that follow from recording, window and column."""
        self.asked += tuple(wanted)
        base = 100.0 * int(recording.content_hash) + np.arange(sound.n_windows)
        return {
            spec.name: {c: (base + 10 * i).astype("f4") for i, c in enumerate(spec.column_names)}
            for spec in self.specs
            if spec.name in wanted
        }


def recordings(count: int) -> list[Recording]:
    """Some recordings of one to ten windows."""
    return [Recording(f"r{i:04d}", Path("x"), str(i), duration_s=5.0) for i in range(count)]


def fill(store: Store, extractor, wanted: list[Recording], **settings_) -> Opener:
    """Bring the extractor's views up to date; returns the source, for its counts."""
    source = Opener()
    config = RunConfig(executor="serial", unit_recordings=3, **settings_)
    materialise(store, wanted, source, [extractor], config)
    return source


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.create(tmp_path / "store")


def test_members_are_read_side_by_side(store: Store):
    """One view of the family has the keys once and every member's columns."""
    fill(store, Song(), recordings(8))

    frame = store.view("song").collect()

    assert frame.columns == [
        "recording_id", "window", "start_s", "end_s", "high_a", "high_b", "low_a", "low_b",
    ]  # fmt: skip
    for member in ("high", "low"):
        alone = store.view(f"song/{member}").collect()
        assert frame.select(alone.columns).equals(alone)
    assert np.array_equal(store.matrix("song").values, frame.select(pl.nth(4, 5, 6, 7)).to_numpy())


def test_a_member_is_added_without_the_others(store: Store):
    """Only the new group is computed, in one opening of each recording."""
    fill(store, Song(groups=("low",)), recordings(4))
    more = Song()

    source = fill(store, more, recordings(4))

    assert set(more.asked) == {"song/high"}
    assert source.opened == 4
    assert store.view("song").collect().width == 8


def test_only_recordings_that_all_members_hold_are_rows(store: Store):
    """A half-made family never shows half rows; its members show what they have."""
    fill(store, Song(), recordings(3))
    fill(store, Song(groups=("low",)), recordings(6))

    assert store.view("song").collect()["recording_id"].n_unique() == 3
    assert store.view("song/low").collect()["recording_id"].n_unique() == 6
    assert len(store.snapshot().covered("song")) == 3


def test_one_member_can_be_skipped(store: Store):
    """A recording that one group cannot use is missing from that group alone."""

    class Picky(Song):
        def extract(self, sound, recording, wanted):
            if recording.recording_id == "r0001" and "song/high" in wanted:
                code, reason = "too_low", "nothing up there"
                raise SkipRecording(code, reason)
            return super().extract(sound, recording, wanted)

    fill(store, Song(groups=("low",)), recordings(3))
    fill(store, Picky(groups=("high",)), recordings(3))

    assert "r0001" not in store.snapshot().covered("song")
    assert "r0001" in store.snapshot().covered("song/low")


@settings(max_examples=40, deadline=None)
@given(
    columns=st.lists(
        st.sampled_from(["window", "high_a", "low_b", "recording_id"]), min_size=1, unique=True
    ),
    low=st.integers(0, 9),
    limit=st.none() | st.integers(0, 30),
    by_value=st.booleans(),
)
def test_queries_equal_reading_all_and_filtering(tmp_path_factory, columns, low, limit, by_value):
    """Projection, filter and limit are pushed into the members and change no answer."""
    store = _shared(tmp_path_factory)
    wanted = pl.col("high_b" if by_value else "window") > (low * 60 if by_value else low)
    everything = store.view("song").collect()

    lazy = store.view("song").filter(wanted).select(columns)
    eager = everything.filter(wanted).select(columns)
    if limit is not None:
        lazy, eager = lazy.head(limit), eager.head(limit)

    assert lazy.collect().equals(eager)


_stores: dict[str, Store] = {}


def _shared(tmp_path_factory) -> Store:
    if "song" not in _stores:
        made = Store.create(tmp_path_factory.mktemp("song") / "store")
        fill(made, Song(groups=("low",)), recordings(20)[::2])
        fill(made, Song(), recordings(20))
        _stores["song"] = made
    return _stores["song"]


def test_some_recordings_are_read_alone(store: Store):
    """Recordings can be chosen; unknown ones are passed over."""
    fill(store, Song(), recordings(8))

    frame = store.view("song", recordings=["r0002", "r0005", "nobody"]).collect()

    assert frame["recording_id"].unique(maintain_order=True).to_list() == ["r0002", "r0005"]
    assert frame.height == 3 + 6


def test_matrix_columns_come_as_asked(store: Store):
    """Columns of several members in any order, and members beside other views."""
    fill(store, Song(), recordings(5))
    frame = store.view("song").collect()

    matrix = store.matrix({"song": ["low_b", "high_a", "low_a"]})
    both = store.matrix({"song": ["low_a"], "song/high": None})

    assert matrix.columns == ["low_b", "high_a", "low_a"]
    assert np.array_equal(matrix.values, frame.select(matrix.columns).to_numpy())
    assert both.columns == ["song:low_a", "song/high:high_a", "song/high:high_b"]
    with pytest.raises(UsageError, match="no column 'low_c'"):
        store.matrix({"song": ["low_c"]})


def test_members_with_equal_columns_must_be_named(store: Store):
    """Two networks have the same classes: reading both as one would hide one."""

    class Twin(SingleView):
        def __init__(self, name: str) -> None:
            self.spec = ViewSpec(name, (Column("robin"),), {"network": name})

        def measure(self, sound, recording):
            return {"robin": np.zeros(sound.n_windows, dtype="f4")}

    fill(store, Twin("net/one"), recordings(2))
    fill(store, Twin("net/two"), recordings(2))

    with pytest.raises(UsageError, match="both have a column 'robin'"):
        store.view("net")
    assert store.view("net/one").collect().height == 3
    snapshot = store.snapshot()
    assert [entry.name for entry in list_entries(snapshot)] == ["net/one", "net/two"]
    with pytest.raises(UsageError, match="both have a column 'robin'"):
        describe(snapshot, "net")


def test_windows_that_are_known_need_no_sound(store: Store):
    """A view that hears nothing is made without opening what another view has counted."""
    fill(store, Song(), recordings(4))
    mute = Song(groups=("silent",), needs_sound=False)

    assert fill(store, mute, recordings(5)).opened == 1  # the fifth is new to the store
    assert store.view("song/silent").collect().height == 1 + 2 + 3 + 4 + 5


def test_ls_and_describe_show_the_family_and_its_members(store: Store):
    """The family comes first, as what reading it gives."""
    fill(store, Song(), recordings(4))
    snapshot = store.snapshot()

    entries = {entry.name: entry for entry in list_entries(snapshot)}

    assert list(entries) == ["song", "song/high", "song/low"]
    assert entries["song"].kind == "family"
    assert entries["song"].columns == store.view("song").collect().columns
    assert entries["song"].rows == 1 + 2 + 3 + 4
    body = describe(snapshot, "song")
    assert [c["name"] for c in body["columns"]] == ["high_a", "high_b", "low_a", "low_b"]
    with pytest.raises(UsageError, match="family"):
        snapshot.recipe_of("song")
    with pytest.raises(UsageError, match="did you mean 'song'"):
        snapshot.view("sung")


def test_a_view_of_metadata_is_made_again_when_they_change(store: Store):
    """What determines a view's numbers is more than the file for views such as place."""

    class Site(SingleView):
        spec = ViewSpec("site", (Column("latitude"),), {"site": 1})
        needs_sound = False

        def content_key(self, recording):
            return f"{recording.content_hash}|{recording.latitude}"

        def measure(self, sound, recording):
            return {"latitude": np.full(sound.n_windows, recording.latitude, dtype="f4")}

    known = [replace(recording, latitude=1.0) for recording in recordings(3)]
    fill(store, Song(), known)
    fill(store, Site(), known)
    corrected = [known[0], replace(known[1], latitude=50.0), known[2]]

    assert fill(store, Song(), corrected).opened == 0
    assert fill(store, Site(), corrected).opened == 0, "the windows are known"

    frame = store.view("site").collect()
    assert frame.filter(pl.col("recording_id") == "r0001")["latitude"].to_list() == [50.0, 50.0]
    assert frame.height == 1 + 2 + 3
