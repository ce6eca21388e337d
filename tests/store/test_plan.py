"""What is left to do follows from the state alone."""

from __future__ import annotations

import fault_support as toy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdstack.store.commit import Covered, Part, Skip
from birdstack.store.errors import UsageError
from birdstack.store.plan import TRANSIENT_CODES, Plan, Task, make_plan
from birdstack.store.state import State

SPEC, OTHER = toy.toy_spec(), toy.toy_spec("other")


def _holding(*pairs: tuple[str, str], spec=SPEC) -> State:
    covered = tuple(Covered(recording_id, content, 1) for recording_id, content in pairs)
    part = Part(f"p-{spec.name}", spec.name, spec.recipe_hash, 1, 1, "", "", "", recordings=covered)
    return State(parts={part.path: part})


@given(
    st.lists(st.sampled_from(["absent", "held", "stale", "skipped", "transient"]), max_size=30),
    st.booleans(),
)
def test_each_recording_is_where_it_belongs(kinds: list[str], retry: bool) -> None:
    """Held, stale, skipped for good, skipped for now, never seen."""
    recordings = toy.toy_recordings(len(kinds))
    held = [
        (r.recording_id, r.content_hash if kind == "held" else "old")
        for r, kind in zip(recordings, kinds, strict=True)
        if kind in {"held", "stale"}
    ]
    state = _holding(*held)
    for r, kind in zip(recordings, kinds, strict=True):
        if kind in {"skipped", "transient"}:
            code = "no_audio" if kind == "skipped" else min(TRANSIENT_CODES)
            skip = Skip("toy", SPEC.recipe_hash, r.recording_id, r.content_hash, code, "why")
            state.skips[("toy", SPEC.recipe_hash, r.recording_id)] = skip
    plan = make_plan(state, [SPEC], recordings, retry_skipped=retry)
    todo = {"absent", "stale", "transient"} | ({"skipped"} if retry else set())
    assert {task.recording.recording_id for task in plan.tasks} == {
        r.recording_id for r, kind in zip(recordings, kinds, strict=True) if kind in todo
    }
    assert plan.done == kinds.count("held")
    assert len(plan.skipped) == (0 if retry else kinds.count("skipped"))


def test_only_the_lacking_view_is_asked(tmp_path) -> None:
    """A recording held by one of two views is heard for the other alone."""
    recordings = toy.toy_recordings(2)
    state = _holding((recordings[0].recording_id, recordings[0].content_hash))
    plan = make_plan(state, [SPEC, OTHER], recordings)
    assert [(t.recording.recording_id, t.views) for t in plan.tasks] == [
        (recordings[0].recording_id, ("other",)),
        (recordings[1].recording_id, ("toy", "other")),
    ]
    assert plan.done == 0


def test_another_recipe_lacks_everything() -> None:
    """Coverage is by recipe."""
    recordings = toy.toy_recordings(3)
    state = _holding(*((r.recording_id, r.content_hash) for r in recordings))
    assert len(make_plan(state, [toy.toy_spec(version=2)], recordings).tasks) == 3


def test_a_recording_twice_is_refused() -> None:
    """Its rows would double."""
    with pytest.raises(UsageError, match="2 recordings are wanted more than once"):
        make_plan(State(), [SPEC], toy.toy_recordings(4) + toy.toy_recordings(2))


@given(st.lists(st.floats(0.1, 900), max_size=60), st.integers(1, 20), st.floats(1, 1000))
def test_units_hold_every_task_once_and_keep_their_limits(
    durations: list[float], most: int, audio_s: float
) -> None:
    """In order; a unit of one may be longer than the limit, since a recording is not cut."""
    from dataclasses import replace

    recordings = [
        replace(r, duration_s=d)
        for r, d in zip(toy.toy_recordings(len(durations)), durations, strict=True)
    ]
    tasks = tuple(Task(r, ("toy",)) for r in recordings)
    units = list(Plan(tasks, 0, ()).units(max_recordings=most, max_audio_s=audio_s))
    assert [task for unit in units for task in unit] == list(tasks)
    for unit in units:
        assert 1 <= len(unit) <= most
        assert len(unit) == 1 or sum(t.recording.duration_s for t in unit) <= audio_s


def test_25000_recordings(tmp_path) -> None:
    """A plan and an idle run over a full store: the right counts, no commit, nothing opened."""
    from birdstack.store.commit import Commit
    from birdstack.store.store import Store

    recordings = toy.toy_recordings(25_000)
    store = Store.create(tmp_path)
    store.register(SPEC)
    ordered = sorted(recordings, key=lambda r: r.recording_id)
    for first in range(0, 25_000, 500):
        covered = tuple(
            Covered(r.recording_id, r.content_hash, toy.toy_windows(r))
            for r in ordered[first : first + 500]
        )
        part = Part(
            f"views/toy/{SPEC.recipe_hash}/part-{first}.parquet", "toy", SPEC.recipe_hash,
            sum(c.windows for c in covered), 1, "", "", "", recordings=covered,
        )  # fmt: skip
        store.log.append(Commit("features", add=(part,), activate={"toy": SPEC.recipe_hash}))
    again = Store.open(tmp_path)
    plan = make_plan(again.log.head(), [SPEC], recordings)
    assert (plan.done, plan.tasks, plan.skipped) == (25_000, (), ())
    stale = make_plan(
        again.log.head(), [SPEC], [*recordings[1:], *toy.toy_recordings(1, content="new")]
    )
    assert ([t.recording.content_hash for t in stale.tasks], stale.done) == (["new-0"], 24_999)
    report = toy.fill(again, recordings)
    assert (report.already, report.heard, report.version) == (25_000, 0, 49)
