"""A view of logits takes no score by a model that was trained on what it scores."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fault_support as toy
import leak_support as leak
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdstack.store.commit import Commit, Covered
from birdstack.store.compact import compact
from birdstack.store.errors import LeakError, SchemaError, UsageError
from birdstack.store.export import export
from birdstack.store.fold_rules import FOLD_COLUMNS, fold_model_view
from birdstack.store.inventory import describe, list_entries
from birdstack.store.layout import entry_path, new_part_path
from birdstack.store.out_of_fold import OutOfFold, assert_out_of_fold
from birdstack.store.parquet_schema import window_table
from birdstack.store.parquet_write import write_window_part
from birdstack.store.store import Store
from birdstack.store.table_writer import write_tables
from birdstack.store.tables import FOLDS, RECORDINGS, SCORES, TRAINED
from birdstack.store.trained import trained_frame
from birdstack.store.unit import Workshop
from birdstack.store.views import Column, ViewSpec

VIEW = "logits/parrot"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Twelve labelled recordings in three folds, four without a label, and no model."""
    return leak.make_store(tmp_path / "store")


@pytest.fixture
def honest(store: Store) -> leak.Memoriser:
    """A network of three fold models, each trained on the other two folds, and on record."""
    heard = leak.held_out(store)
    leak.train(store, heard)
    return leak.Memoriser(heard)


def _fill(store: Store, network, recordings=tuple(leak.LABELLED), **settings_):
    return toy.fill(store, list(recordings), extractors=[network], **settings_)


def _right(frame: pl.DataFrame) -> float:
    """Share of rows whose higher score is that of the recording's class."""
    truth = [leak.label_of(i) for i in frame["recording_id"]]
    scores = frame.select(leak.CLASSES).to_numpy()
    return float(np.mean([s[t] > s[1 - t] for s, t in zip(scores, truth, strict=True)]))


# --- the planted memorising model --------------------------------------------------------


def test_a_memorising_model_trained_on_everything_is_refused(store: Store) -> None:
    """It would be right everywhere; the store takes none of it and names what it refused."""
    everything = [r.recording_id for r in leak.LABELLED]
    heard = dict.fromkeys(range(leak.N_FOLDS), everything)
    leak.train(store, heard)
    network = leak.Memoriser(heard)
    sound = toy.ToySound(3)
    assert network.measure(sound, leak.LABELLED[0])["asbfly"].tolist() == [9.0] * 3

    with pytest.raises(LeakError) as refused:
        _fill(store, network)

    n = toy.toy_windows(leak.LABELLED[0])
    assert refused.value.message == (
        f"view 'logits/parrot', recording 'r00.ogg', windows 0 to {n - 1} ({n} rows), group "
        "'r00.ogg', fold 0, model_fold 0: fold model 0 of 'a1b2c3' was trained on this very "
        "recording"
    )
    assert "trained on nothing of its group" in refused.value.remedy
    assert VIEW not in store.snapshot().views
    assert not list(Path(store.url).glob("views/logits/**/*.parquet"))


def test_an_honest_model_is_taken_and_knows_nothing(store: Store, honest) -> None:
    """The same memoriser, each fold model without its fold: its rows are in, at chance."""
    report = _fill(store, honest)
    assert report.heard == leak.N
    frame = store.view(VIEW).collect()
    assert frame["fold"].equals(frame["model_fold"].rename("fold"))
    assert frame.schema["fold"] == pl.Int16
    assert _right(frame) == 0.0  # all scores are equal
    assert_out_of_fold(store.snapshot(), VIEW)


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (lambda i: (leak.fold_of(i) + 1) % 3, "was trained on this very recording"),
        (lambda _: 7, r"nobody knows what fold model 7 of model 'a1b2c3' .* has 0, 1, 2 of it"),
        (lambda _: -1, "nobody knows what fold model -1"),
        (lambda _: 300, "nobody knows what fold model 300"),
    ],
)
def test_a_lie_about_the_model_fold_is_refused(store: Store, honest, says, told: str) -> None:
    """Another fold's model, one that is not on record, and none at all."""
    with pytest.raises(LeakError, match=told):
        _fill(store, replace(honest, says=says))
    assert VIEW not in store.snapshot().views


def test_one_bad_window_among_good_ones_is_named(store: Store, honest) -> None:
    """Rows are judged by the row: window 2 of a recording of four is by the wrong model."""
    long = next(r for r in leak.LABELLED if toy.toy_windows(r) == 4)
    good = leak.fold_of(long.recording_id)
    rows = [good, good, (good + 1) % 3, good]
    network = replace(honest, says=lambda _: rows)
    with pytest.raises(LeakError, match=r"windows 2 to 2 \(1 rows\)"):
        _fill(store, network, [long])


def test_a_lie_about_the_fold_is_refused(store: Store, honest) -> None:
    """The row's fold is compared with the split, not believed."""
    network = replace(honest, fold=lambda i: (leak.fold_of(i) + 1) % 3)
    with pytest.raises(LeakError, match=r"fold 1, model_fold 0: the recording lies in fold 0"):
        _fill(store, network)


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_every_executor_refuses(store: Store, executor: str) -> None:
    """The guard and its error travel to workers and back."""
    everything = [r.recording_id for r in leak.LABELLED]
    leak.train(store, dict.fromkeys(range(leak.N_FOLDS), everything))
    with pytest.raises(LeakError, match="was trained on this very recording"):
        _fill(store, leak.Memoriser(), executor=executor, workers=2)
    assert VIEW not in store.snapshot().views


# --- copies, groups, splits --------------------------------------------------------------


def test_a_copy_under_another_name_is_found(tmp_path: Path) -> None:
    """Two ids with the same bytes in different folds and groups: the hash tells."""
    copy = leak.recording(2, content=leak.LABELLED[0].content_hash)
    recordings = [*leak.LABELLED[:2], copy, *leak.LABELLED[3:]]
    store = leak.make_store(tmp_path / "store", recordings=recordings)
    heard = leak.held_out(store)
    leak.train(store, heard)
    with pytest.raises(LeakError, match=r"'r02\.ogg'.*copy of this recording \(the same bytes\)"):
        _fill(store, leak.Memoriser(heard), [copy])


def test_a_file_that_is_now_a_copy_is_found(store: Store, honest) -> None:
    """The bytes that were heard count, whatever RECORDINGS says of the file."""
    swapped = leak.recording(2, content=leak.LABELLED[0].content_hash)
    with pytest.raises(LeakError, match="the same bytes"):
        _fill(store, honest, [swapped])


def test_a_group_that_lies_in_two_folds_leaks(tmp_path: Path) -> None:
    """A dataset's own folds may part an author; the model of one half has met the other."""
    folds = leak.folds_frame(group=lambda i: "one author" if i in ("r00.ogg", "r02.ogg") else i)
    store = leak.make_store(tmp_path / "store", folds)
    heard = leak.held_out(store)
    leak.train(store, heard)
    with pytest.raises(LeakError, match="recording of the same group 'one author'") as refused:
        _fill(store, leak.Memoriser(heard))
    assert "leave that group out of the training" in refused.value.remedy

    without = {m: [i for i in ids if i not in ("r00.ogg", "r02.ogg")] for m, ids in heard.items()}
    leak.train(store, without, "second")
    network = leak.Memoriser(without, training={"model": "second"})
    assert _fill(store, network).heard == leak.N


def test_a_group_that_was_renamed_since_is_still_met(store: Store, honest) -> None:
    """A newcomer with a smaller id renames the group; training rows keep the old name."""
    renamed = leak.folds_frame(
        fold=lambda i: 0 if i == "r00.ogg" else leak.fold_of(i),
        group=lambda i: "r00.ogg" if i in ("r00.ogg", "r02.ogg") else i,
    )
    leak.split(store, renamed, "second")
    trained = store.table("trained").filter(pl.col("recording_id") == "r02.ogg")
    assert trained["group"].unique().to_list() == ["r02.ogg"]
    with pytest.raises(LeakError, match=r"recording of the same group 'r00\.ogg'"):
        _fill(store, honest, [leak.LABELLED[0]])


def test_after_a_new_split_stored_rows_are_refused_at_the_join(store: Store, honest) -> None:
    """Honest when written, void now; recordings that did not move stay usable."""
    _fill(store, honest)
    moved = {"r00.ogg", "r01.ogg"}
    second = leak.folds_frame(fold=lambda i: 1 if i in moved else leak.fold_of(i))
    leak.split(store, second, "second")
    snapshot = store.snapshot()
    with pytest.raises(LeakError, match=r"'r00\.ogg'.*fold 0.*lies in fold 1\n.*'r01\.ogg'"):
        assert_out_of_fold(snapshot, VIEW)
    assert_out_of_fold(snapshot, VIEW, [r.recording_id for r in leak.LABELLED[2:]])
    assert_out_of_fold(store.snapshot(at=snapshot.version - 1), VIEW)
    with pytest.raises(LeakError, match=r"'r01\.ogg'"):
        assert_out_of_fold(snapshot, VIEW, ["r01.ogg", "r05.ogg", "not held.ogg"])


def test_the_join_names_the_first_rows_and_counts_the_rest(store: Store, honest) -> None:
    """Twelve faults make a message of six lines."""
    _fill(store, honest)
    leak.split(store, leak.folds_frame(fold=lambda i: (leak.fold_of(i) + 1) % 3), "second")
    with pytest.raises(LeakError) as refused:
        assert_out_of_fold(store.snapshot(), VIEW)
    lines = refused.value.message.splitlines()
    assert len(lines) == 6
    assert lines[-1] == "and 7 more like these"


def test_what_a_model_is_trained_on_later_counts_at_the_join(store: Store, honest) -> None:
    """A record that grows makes stored rows void."""
    _fill(store, honest)
    leak.train(store, {**honest.heard, 0: [r.recording_id for r in leak.LABELLED]})
    with pytest.raises(LeakError, match="model_fold 0: fold model 0 of 'a1b2c3' was trained on"):
        assert_out_of_fold(store.snapshot(), VIEW)


def test_the_join_asks_about_views_of_logits_only(store: Store) -> None:
    """Nothing says which model made a row of another view."""
    toy.fill(store, leak.LABELLED[:2])
    with pytest.raises(UsageError, match="'toy' is not one of logits"):
        assert_out_of_fold(store.snapshot(), "toy")


# --- recordings without a fold -----------------------------------------------------------


def _fold_model(honest: leak.Memoriser, m: int, **changes) -> leak.Memoriser:
    name = fold_model_view(VIEW, m)
    return replace(honest, name=name, says=lambda _: m, fold=leak.no_fold, **changes)


def test_recordings_without_a_fold_have_a_view_for_each_fold_model(store: Store, honest) -> None:
    """Keys stay unique in every view, and the views align."""
    networks = [_fold_model(honest, m) for m in range(leak.N_FOLDS)]
    report = toy.fill(store, leak.UNLABELLED, extractors=networks)
    assert report.heard == len(leak.UNLABELLED)
    names = [f"logits/parrot.m{m}" for m in range(leak.N_FOLDS)]
    assert store.snapshot().views == names
    for m, name in enumerate(names):
        frame = store.view(name).collect()
        assert set(frame["fold"]) == {-1}
        assert set(frame["model_fold"]) == {m}
        assert not frame.select("recording_id", "window").is_duplicated().any()
        assert_out_of_fold(store.snapshot(), name)
    matrix = store.matrix({name: ["asbfly"] for name in names})
    assert matrix.values.shape == (frame.height, leak.N_FOLDS)
    assert "logits" not in [entry.name for entry in list_entries(store.snapshot())]


def test_recordings_in_the_wrong_kind_of_view_are_refused(store: Store, honest) -> None:
    """One with a fold has no place in a fold model's view, nor one without in the plain one."""
    with pytest.raises(LeakError, match=r"'r00\.ogg': it has fold 0.*without a fold") as refused:
        _fill(store, _fold_model(honest, 0))
    assert "view 'logits/parrot'" in refused.value.remedy
    plain = replace(honest, says=lambda _: 0, fold=leak.no_fold)
    with pytest.raises(LeakError, match=r"'r12\.ogg': it has no fold.*that have one") as refused:
        _fill(store, plain, leak.UNLABELLED)
    assert "'logits/parrot.m0'" in refused.value.remedy


def test_a_recording_that_gets_a_label_leaves_the_views_of_fold_models(
    store: Store, honest
) -> None:
    """Its rows there are refused at the join from the day it has a fold."""
    _fill(store, _fold_model(honest, 1), leak.UNLABELLED)
    labelled = pl.DataFrame([("r12.ogg", 2, "r12.ogg")], schema=FOLDS, orient="row")
    leak.split(store, pl.concat([leak.folds_frame(), labelled]), "second")
    with pytest.raises(LeakError, match=r"'r12\.ogg': it has fold 2"):
        assert_out_of_fold(store.snapshot(), "logits/parrot.m1")
    assert_out_of_fold(store.snapshot(), "logits/parrot.m1", ["r13.ogg"])


def test_a_fold_models_view_holds_its_own_scores_alone(store: Store, honest) -> None:
    """Rows of model 2 in the view of model 1 are refused, and so is a model without a record."""
    network = replace(_fold_model(honest, 1), says=lambda _: 2)
    with pytest.raises(LeakError, match="this view is for scores of fold model 1 alone"):
        _fill(store, network, leak.UNLABELLED)
    with pytest.raises(LeakError, match="nobody knows what fold model 5 of model 'a1b2c3'"):
        _fill(store, _fold_model(honest, 5), leak.UNLABELLED)


def test_a_test_recording_that_is_a_copy_costs_itself(store: Store, honest) -> None:
    """No fold held it out: it is skipped unheard by the models that have met its bytes."""
    copy = leak.recording(13, content=leak.LABELLED[0].content_hash)  # of fold 0
    recordings = [leak.UNLABELLED[0], copy, leak.UNLABELLED[2]]
    networks = [_fold_model(honest, m) for m in range(leak.N_FOLDS)]
    report = toy.fill(store, recordings, extractors=networks)
    assert report.heard == 3
    skips = store.snapshot().skips().select("view", "recording_id", "code").rows()
    assert skips == [
        ("logits/parrot.m1", "r13.ogg", "seen_in_training"),
        ("logits/parrot.m2", "r13.ogg", "seen_in_training"),
    ]
    reasons = store.snapshot().skips()["reason"].to_list()
    assert reasons[0].startswith("fold model 1 of 'a1b2c3' was trained on a copy")
    again = toy.fill(store, recordings, extractors=networks)
    assert (again.heard, len(again.still_skipped)) == (0, 2)


def test_what_no_view_may_hear_is_not_opened(store: Store, honest, tmp_path: Path) -> None:
    """A recording that every wanted view passes over costs no decoding."""
    leak.train(store, {**honest.heard, 1: [*honest.heard[1], "r12.ogg"]})
    journal = tmp_path / "journal"
    source = toy.ToySource(journal=str(journal))
    report = _fill(store, _fold_model(honest, 1), leak.UNLABELLED, source=source)
    assert (report.heard, report.skipped_recordings) == (3, {"r12.ogg"})
    assert "r12.ogg" not in journal.read_text()


# --- what cannot be judged is refused before anything is heard -----------------------------


class Unheard(toy.ToySource):
    """Nothing may be opened."""

    def open(self, recording):
        raise AssertionError


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"columns": (Column("asbfly"),)}, "no int16 column fold and model_fold"),
        ({"columns": (FOLD_COLUMNS[0], Column("asbfly"))}, "no int16 column model_fold"),
        (
            {"columns": (FOLD_COLUMNS[0], Column("model_fold", "int32"), Column("asbfly"))},
            "no int16 column model_fold",
        ),
        ({"training": {}}, "does not say what the network was trained on"),
        ({"training": {"model": ""}}, "does not say what the network was trained on"),
        ({"training": "yes"}, "does not say what the network was trained on"),
        ({"training": {"model": "other"}}, "'other' was trained on: .* has no fold model of it"),
        ({"training": None, "name": "logits/parrot.m1"}, "its network has none"),
    ],
)
def test_views_that_cannot_be_judged(store: Store, honest, changes, told: str) -> None:
    """The error comes before any audio work and nothing is registered."""
    network = replace(honest, **changes)
    with pytest.raises(LeakError, match=told):
        _fill(store, network, source=Unheard())
    assert not (Path(store.url) / "views" / "logits").exists()


def test_a_recipe_without_training_is_refused(store: Store, honest) -> None:
    """Silence is not a network that was trained elsewhere."""

    class Silent(leak.Memoriser):
        @property
        def spec(self):
            return ViewSpec(VIEW, self.columns, {"network": "parrot"})

    with pytest.raises(LeakError, match="does not say") as refused:
        _fill(store, Silent(), source=Unheard())
    assert '"training"' in refused.value.remedy


def test_a_network_trained_elsewhere(store: Store) -> None:
    """Any recording, with its own fold and model_fold -1; a fold model it cannot name."""
    network = leak.Memoriser(
        training=None,
        says=leak.no_fold,
        fold=lambda i: leak.fold_of(i) if i < "r12" else -1,
    )
    everything = [*leak.LABELLED, *leak.UNLABELLED]
    assert _fill(store, network, everything).heard == len(everything)
    assert_out_of_fold(store.snapshot(), VIEW)
    with pytest.raises(LeakError, match="trained elsewhere") as refused:
        _fill(store, replace(network, name="logits/other", says=lambda _: 0), everything)
    assert "write model_fold -1" in refused.value.remedy


def test_other_views_are_left_alone(store: Store) -> None:
    """The guard of a run without logits reads nothing and refuses nothing."""
    assert OutOfFold.of(None, [toy.toy_spec()]).places == {}
    assert toy.fill(store, leak.LABELLED).heard == leak.N


# --- every way into the store --------------------------------------------------------------


def _part(store: Store, network: leak.Memoriser, recordings):
    """A finished part, written without the engine."""
    held = [Covered(r.recording_id, r.content_key, 2) for r in recordings]
    window = np.tile(np.arange(2, dtype=np.int32), len(held))
    keys = {
        "recording_id": np.repeat([c.recording_id for c in held], 2),
        "window": window,
        "start_s": window * 5.0,
        "end_s": window * 5.0 + 5.0,
    }
    rows = [network.measure(toy.ToySound(2), r) for r in recordings]
    values = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    spec = network.spec
    store.register(spec)
    path = new_part_path(spec.name, spec.recipe_hash)
    return write_window_part(store.files, spec, path, window_table(spec, keys, values), held)


def test_the_log_itself_takes_no_leak(store: Store, honest) -> None:
    """A part written and committed by hand goes through the same guard."""
    bad = replace(honest, says=lambda i: (leak.fold_of(i) + 1) % 3)
    before = store.log.head().version
    with pytest.raises(LeakError, match=r"'r01\.ogg', windows 0 to 1 .*very recording"):
        store.log.append(Commit("by hand", add=(_part(store, bad, leak.LABELLED[:4]),)))
    assert store.log.head().version == before
    good = _part(store, honest, leak.LABELLED[:4])
    assert store.log.append(Commit("by hand", add=(good,))).version == before + 1


def test_a_workshop_without_a_guard_refuses_logits(store: Store, honest) -> None:
    """Whoever forgets the guard gets an error, not a hole."""
    from birdstack.store.plan import Task

    store.register(honest.spec)
    workshop = Workshop(store.files, store.grid, toy.ToySource(), (honest,))
    with pytest.raises(LeakError, match="the guard does not know it"):
        workshop.run([Task(leak.LABELLED[0], (VIEW,))])


def test_a_split_that_changes_during_a_run_is_noticed(store: Store, honest) -> None:
    """The commit is judged by the newest folds, not by those the run began with."""

    class Meanwhile(toy.ToySource):
        def open(self, recording):
            if recording.recording_id == "r05.ogg":
                folds = leak.folds_frame(fold=lambda i: (leak.fold_of(i) + 1) % 3)
                leak.split(Store.open(store.url), folds, "meanwhile")
            return super().open(recording)

    with pytest.raises(LeakError, match="the recording lies in fold 1"):
        _fill(store, honest, source=Meanwhile())
    assert VIEW not in store.snapshot().views


def test_parts_of_a_dead_run_are_judged_again(store: Store, honest) -> None:
    """Recipe and content are the same, the split is not: the recipe does not name it."""
    _fill(store, honest)
    (Path(store.url) / entry_path(store.log.head().version)).unlink()
    moved = {"r00.ogg", "r01.ogg"}
    again = Store.open(store.url)
    fold = leak.folds_frame(fold=lambda i: 1 if i in moved else leak.fold_of(i))
    leak.split(again, fold, "second")
    with pytest.raises(LeakError, match=r"'r00\.ogg'.*model_fold 1: .*very recording"):
        _fill(again, replace(honest, fold=_now(moved), says=_now(moved)))
    held = again.snapshot().covered(VIEW)
    assert sorted(held) == [r.recording_id for r in leak.LABELLED[4:]]  # two parts of four
    assert_out_of_fold(again.snapshot(), VIEW)


def _now(moved):
    return lambda i: 1 if i in moved else leak.fold_of(i)


def test_a_void_view_can_still_be_compacted(store: Store, honest) -> None:
    """Laying rows out anew brings none in; they stay void for whoever joins them."""
    _fill(store, honest, unit_recordings=2)
    leak.split(store, leak.folds_frame(fold=lambda i: (leak.fold_of(i) + 1) % 3), "second")
    (done,) = compact(store)
    assert (done.parts_before, done.parts_after) == (6, 1)
    with pytest.raises(LeakError, match="lies in fold 1"):
        assert_out_of_fold(store.snapshot(), VIEW)


# --- the record itself ---------------------------------------------------------------------


def test_the_record_holds_ids_bytes_and_groups(store: Store, honest) -> None:
    """One row for each fold model and recording, as the store knew them."""
    frame = store.table("trained")
    assert frame.schema == TRAINED
    assert frame.height == leak.N * (leak.N_FOLDS - 1)
    first = frame.filter(pl.col("model_fold") == 1).row(0, named=True)
    assert first == {
        "model": leak.MODEL,
        "model_fold": 1,
        "recording_id": "r00.ogg",
        "content_hash": "bytes of 0",
        "group": "r00.ogg",
    }
    with pytest.raises(UsageError, match="recording 'nobody' is not in"):
        trained_frame(store.snapshot(), "m", {0: ["nobody"]})


def test_a_second_model_leaves_the_first_on_record(store: Store, honest) -> None:
    """Rows stand beside each other by fingerprint, and fold models may come one by one."""
    for n_models in (1, 2, 3):
        heard = {m: honest.heard[m] for m in range(n_models)}
        leak.train(store, heard, "second")
    counts = store.table("trained")["model"].value_counts().rows()
    assert sorted(counts) == [(leak.MODEL, 24), ("second", 24)]
    assert _fill(store, honest).heard == leak.N


def test_a_record_never_shrinks(store: Store, honest) -> None:
    """Weights do not forget: a shorter list under the same fingerprint is refused."""
    shorter = {m: ids[1:] for m, ids in honest.heard.items()}
    with pytest.raises(LeakError, match="3 rows of model 'a1b2c3' would be forgotten"):
        leak.train(store, shorter)
    with pytest.raises(LeakError, match="24 rows"):
        leak.train(store, {})
    with pytest.raises(SchemaError, match="key 'x': a row names model 'a1b2c3'"):
        write_tables(store, {("trained", "x"): store.table("trained")}, operation="train")
    assert store.table("trained").height == 24


def test_scores_of_two_recipes_stand_side_by_side(store: Store, tmp_path: Path) -> None:
    """A changed recipe keeps the figures of the old; both are listed, described, exported."""
    row = {"view": VIEW, "metric": "macro_auc", "level": "window", "value": 0.9, "classes": 2}
    for recipe, value in (("one", 0.8), ("two", 0.9), ("two", 0.95)):
        frame = pl.DataFrame([{**row, "recipe": recipe, "value": value}], schema=SCORES)
        write_tables(store, {("scores", f"{VIEW}/{recipe}"): frame}, operation="train")
    assert store.table("scores")["value"].to_list() == [0.8, 0.95]
    names = {entry.name: entry.rows for entry in list_entries(store.snapshot())}
    assert names["scores"] == 2
    assert len(describe(store.snapshot(), "scores")["columns"]) == len(SCORES)
    assert export(store.snapshot(), "scores", tmp_path / "scores.csv") == 2


# --- the guard against brute force ---------------------------------------------------------


class Tables:
    """A snapshot that is nothing but its tables."""

    numbers = itertools.count()

    def __init__(self, **frames: pl.DataFrame) -> None:
        self.frames = frames
        self.number = next(self.numbers)
        self.state, self.active = self, {}

    def table(self, name: str, *, key: str | None = None) -> pl.DataFrame:
        return self.frames[name]

    def table_parts(self, name: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(path=f"{name} {self.number}")]


IDS = [f"r{i}" for i in range(6)]
WORDS = st.sampled_from(["a", "b", "c", "d"])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_the_guard_accepts_what_no_training_has_met(data: st.DataObject) -> None:
    """Rows pass if and only if their fold model is on record and has met nothing of theirs."""
    hashes = data.draw(st.fixed_dictionaries(dict.fromkeys(IDS, WORDS)))
    split = data.draw(
        st.dictionaries(st.sampled_from(IDS), st.tuples(st.integers(0, 2), WORDS), min_size=1)
    )
    training = data.draw(
        st.lists(
            st.tuples(st.integers(0, 2), st.sampled_from(IDS), WORDS, st.none() | WORDS), min_size=1
        )
    )
    who = data.draw(st.sampled_from(IDS))
    own = data.draw(st.sampled_from([None, 0, 1, 2]))
    fold, model_fold = data.draw(st.integers(-1, 2)), data.draw(st.integers(-1, 2))
    bytes_heard = data.draw(st.sampled_from([hashes[who], "other"]))
    tables = Tables(
        recordings=pl.DataFrame(
            [{"recording_id": i, "content_hash": h} for i, h in hashes.items()], schema=RECORDINGS
        ),
        folds=pl.DataFrame([(i, f, g) for i, (f, g) in split.items()], FOLDS, orient="row"),
        trained=pl.DataFrame([("m", *row) for row in training], TRAINED, orient="row"),
    )
    network = leak.Memoriser(
        name=VIEW if own is None else fold_model_view(VIEW, own), training={"model": "m"}
    )

    met = any(
        m == model_fold
        and (
            i == who
            or h in (hashes[who], bytes_heard)
            or (who in split and split[who][1] in (g, split.get(i, (0, None))[1]))
        )
        for m, i, h, g in training
    )
    on_record = {m for m, *_ in training}
    expected = (
        (own is None or own in on_record)
        and (who in split) == (own is None)
        and fold == (split[who][0] if who in split else -1)
        and model_fold in on_record
        and (own is None or model_fold == own)
        and not met
    )

    recording = replace(leak.recording(0, bytes_heard), recording_id=who)
    values = {"fold": np.full(2, fold), "model_fold": np.full(2, model_fold)}
    try:
        guard = pickle.loads(pickle.dumps(OutOfFold.of(tables, [network.spec])))  # noqa: S301 - ours
        guard.check(network.spec, recording, values)
    except LeakError:
        accepted = False
    else:
        accepted = True
    assert accepted == expected
