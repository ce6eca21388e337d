"""The state is the fold of commits; a checkpoint of it is the same state."""

from __future__ import annotations

import fault_support as toy
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from birdstack.store.commit import Commit, Covered, Part, Skip
from birdstack.store.state import State
from birdstack.store.statistics import statistics_from_json

names = st.sampled_from(["a", "b", "odd ☃\n", "logits/lite0"])
ids = st.sampled_from([f"rec{i}.ogg" for i in range(6)])
covered = st.builds(Covered, ids, names, st.integers(0, 100))
counter = st.integers(0, 9).map(lambda i: f"views/part-{i}.parquet")
parts = st.builds(
    Part, counter, names, names, st.integers(0, 99), st.integers(0, 99), names, names, names,
    names, st.lists(covered, max_size=4).map(tuple),
)  # fmt: skip
skips = st.builds(Skip, names, names, ids, names, names, names)
statistics = st.dictionaries(
    names,
    st.dictionaries(
        names,
        st.fixed_dictionaries(
            {
                "n": st.just(5),
                "nan": st.just(0),
                "inf": st.just(0),
                "low": st.floats(-9, 9),
                "high": st.floats(-9, 9),
                "mean": st.floats(-9, 9),
                "m2": st.one_of(st.none(), st.floats(0, 9)),
                "outside": st.just(0),
            }
        ),
        max_size=2,
    ),
    max_size=2,
)
commits = st.builds(
    Commit,
    operation=names,
    add=st.lists(parts, max_size=3).map(tuple),
    remove=st.lists(counter, max_size=2).map(tuple),
    skip=st.lists(skips, max_size=3).map(tuple),
    activate=st.dictionaries(names, names, max_size=2),
    statistics=statistics,
    expire=st.integers(0, 5),
)
logs = st.lists(commits, max_size=6).map(
    lambda made: [c.signed(version) for version, c in enumerate(made)]
)


@given(logs)
def test_a_checkpoint_is_the_state(log: list[Commit]) -> None:
    """to_checkpoint and from_checkpoint are inverse, and order of parts is kept."""
    state = State().applied(log)
    back = State.from_checkpoint(state.to_checkpoint())
    assert repr(back) == repr(state)  # repr: NaN equals NaN
    assert list(back.parts) == list(state.parts)


@given(logs, st.integers(0, 6))
def test_a_state_can_be_continued(log: list[Commit], cut: int) -> None:
    """Half the log, a checkpoint, the other half: the same as all at once; inputs untouched."""
    half = State().applied(log[:cut])
    before = repr(half)
    whole = State.from_checkpoint(half.to_checkpoint()).applied(log[cut:])
    assert repr(whole) == repr(State().applied(log))
    assert repr(half) == before


def test_a_part_ends_the_skip_of_its_recordings() -> None:
    """Once a recording is held, the reason why it was not is history; others keep theirs."""

    def skip(i: str, view: str) -> Skip:
        return Skip(view, "r", i, "h", "code", "reason")

    part = Part("p", "v", "r", 1, 1, "", "", "", recordings=(Covered("one", "h", 1),))
    log = [
        Commit("x", 0, skip=(skip("one", "v"), skip("two", "v"), skip("one", "w"))),
        Commit("x", 1, add=(part,)),
    ]
    assert set(State().applied(log).skips) == {("v", "r", "two"), ("w", "r", "one")}


def test_parts_are_ordered_by_their_first_recording() -> None:
    """Whatever the order of commits; parts without rows do no harm."""

    def part(path: str, *recordings: str) -> Part:
        covered = tuple(Covered(i, "h", 1) for i in recordings)
        return Part(path, "v", "r", len(covered), 1, "", "", "", recordings=covered)

    state = State().applied(
        [Commit("x", 0, add=(part("p1", "c", "d"), part("p2"), part("p3", "a", "z")))]
    )
    assert [p.path for p in state.view_parts("v", "r")] == ["p2", "p3", "p1"]


def test_checkpoint_of_an_empty_store_and_of_statistics() -> None:
    """Nothing is a state too; statistics come back as numbers."""
    empty = State.from_checkpoint(State().to_checkpoint())
    assert empty == State()
    body = {"toy/1": {"x": dict.fromkeys(("n", "nan", "inf", "outside"), 1)
                      | dict.fromkeys(("low", "high", "mean", "m2"), 2.0)}}  # fmt: skip
    state = State(statistics=statistics_from_json(body))
    assert State.from_checkpoint(state.to_checkpoint()).statistics == state.statistics


def test_a_state_of_many_recordings(tmp_path) -> None:
    """25,000 recordings in a checkpoint: read back whole."""
    recordings = tuple(Covered(f"r{i:05d}", "h" * 64, i % 7) for i in range(25_000))
    state = State(parts={"p": Part("p", "v", "r", 1, 1, "", "", "", recordings=recordings)})
    state.to_checkpoint().write_parquet(tmp_path / "c.parquet")
    back = State.from_checkpoint(pl.read_parquet(tmp_path / "c.parquet"))
    assert back == state
    assert len(back.covered("v", "r")) == 25_000
    assert toy.toy_recordings(1)[0].recording_id not in back.covered("v", "r")
