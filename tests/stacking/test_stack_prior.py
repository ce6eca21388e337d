"""`birdstack stack --prior range`: chosen inside folds, silent where no place is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.birds import make_birds
from support.command import Ran, birdstack

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.choose_prior import choose_prior, recording_truth
from birdstack.stacking.design import Design
from birdstack.stacking.design_table import fresh_recordings, fresh_table, training_table
from birdstack.stacking.fresh_scores import fresh_scores
from birdstack.stacking.range_prior import RangePriorConfig
from birdstack.stacking.run_stack import shipped_scores
from birdstack.stacking.stack_folder import load_stack, save_stack
from birdstack.stacking.stack_table import StackTable
from birdstack.stacking.stacker import Stacker
from birdstack.store.errors import CorruptError
from birdstack.store.snapshot import Snapshot
from birdstack.store.store import Store

SPECIES, CLIPS, FOLDS = 3, 6, 3
TOY = json.dumps([{"name": "toy", "kind": "fake"}])
HEARD = ["--set", f"networks.define={TOY}", "--set", 'acoustic.groups=["wave"]']
HEARD += ["--executor", "serial", "--backbones", "toy"]
QUICK = ["--resamples", 60, "--set", "stack.min_positives=2", "--set", "stack.min_recordings=2"]
COUNTING = RangePriorConfig()


def ranging(seed: int = 0, *, fresh: bool = False, lost: int = 4) -> StackTable:
    """Eight birds with ranges, heard badly; every so-many-th recording is nowhere."""
    rng = np.random.default_rng([7, seed])
    count, windows, classes, folds = 240, 3, 8, 4
    label = rng.integers(0, classes, count)
    homes = np.stack([10.0 * np.arange(classes) - 35, 20.0 * np.arange(classes) - 70], axis=1)
    places = homes[label] + rng.normal(0, 5, (count, 2))
    places[::lost] = np.nan
    truth = np.zeros((count * windows, classes), dtype=np.int8)
    truth[np.arange(len(truth)), np.repeat(label, windows)] = 1
    logits = 1.0 * truth + rng.normal(size=truth.shape)
    names = [f"r{number:03d}" for number in range(count)]
    return StackTable(
        recording_ids=names,
        windows=np.full(count, windows),
        groups=names,
        fold=np.full(count, -1) if fresh else rng.permutation(np.arange(count) % folds),
        backbones=("net",),
        classes=tuple("abcdefgh"),
        logits=logits[None].astype(np.float32),
        truth=truth,
        domain=["focal"] * count,
        places=places,
    )


def nowhere(table: StackTable) -> np.ndarray:
    """Rows whose place is not known."""
    assert table.places is not None
    return np.asarray(~np.isfinite(table.places).all(axis=1)[table.recording])


def stackers(table: StackTable, ship: str) -> tuple[Stacker, Stacker]:
    """Without a prior, and with one."""
    how = {"ship": ship, "resamples": 60, "trees": (25,), "shared_trees": 20}
    return tuple(  # type: ignore[return-value]
        Stacker(**how, prior=prior).fit(table)  # type: ignore[arg-type]
        for prior in ("off", "range")
    )


@pytest.mark.parametrize("ship", ["control", "stack"])
def test_places_help_where_they_tell_and_nowhere_else(ship: str, tmp_path: Path) -> None:
    """Rows of unknown places are bit-equal out-of-fold, fresh, and after saving."""
    table, fresh = ranging(), ranging(1, fresh=True)
    plain, placed = stackers(table, ship)
    report = placed.report_["prior"]
    assert report["weight"] > 0
    assert set(report["by_fold"]) == {"0", "1", "2", "3"}
    assert report["recordings"] == 180
    assert report["difference"]["low"] > 0
    away = nowhere(table)
    for mine, theirs in ((placed.nested_, plain.nested_), (placed.oof_, plain.oof_)):
        assert mine[away].tobytes() == theirs[away].tobytes()
        assert macro_auc(mine, table.truth).value > macro_auc(theirs, table.truth).value + 0.02
    assert placed.without_prior_ is not None
    assert placed.without_prior_.tobytes() == plain.nested_.tobytes()
    assert plain.without_prior_ is None
    assert plain.report_["prior"] is None
    base, found = plain.predict(fresh), placed.predict(fresh)
    assert found.dtype == np.float32
    gone = nowhere(fresh)
    assert base[gone].tobytes() == found[gone].tobytes()
    assert base.tobytes() == placed.predict(replace(fresh, places=None)).tobytes()
    assert macro_auc(found, fresh.truth).value > macro_auc(base, fresh.truth).value + 0.02
    again = load_stack(save_stack(placed.shipped_, tmp_path / "stack"))
    assert again.predict(fresh).tobytes() == found.tobytes()


def test_the_term_is_the_formula() -> None:
    """Score + weight x spread of the class x log ratio at the recording's place."""
    table, fresh = ranging(), ranging(1, fresh=True)
    plain, placed = stackers(table, "control")
    prior = placed.shipped_.prior
    assert prior is not None
    assert fresh.places is not None
    spread = plain.oof_.std(axis=0, dtype=np.float64)
    np.testing.assert_allclose(prior.scale, spread)
    term = prior.weight * spread * prior.prior.new(fresh.places)[fresh.recording]
    np.testing.assert_allclose(placed.predict(fresh), plain.predict(fresh) + term, atol=1e-5)


def test_fresh_rows_are_told_without_and_with() -> None:
    """The scores of a run name both; the prior is added once, behind the mean."""
    table, fresh = ranging(), ranging(1, fresh=True)
    plain, placed = stackers(table, "control")
    found = fresh_scores(placed, table, [(None, fresh)], every=False)
    base = fresh_scores(plain, table, [(None, fresh)], every=False)
    assert "without_prior" not in base
    assert found["without_prior"].tobytes() == base["shipped"].tobytes()
    assert found["shipped"].tobytes() == placed.predict(fresh).tobytes()
    assert "without_prior" in shipped_scores(placed)


def test_places_that_tell_nothing_leave_every_score() -> None:
    """Weight 0: nothing is shipped, and scores are bit-equal to none being asked for."""
    table, fresh = ranging(), ranging(1, fresh=True)
    assert table.places is not None
    mixed = replace(table, places=np.random.default_rng(3).permutation(table.places))
    plain, placed = stackers(mixed, "control")
    assert placed.report_["prior"]["weight"] == 0
    assert set(placed.report_["prior"]["by_fold"].values()) == {0.0}
    assert "left out" in placed.report_["prior"]["why"]
    assert placed.shipped_.prior is None
    assert placed.nested_.tobytes() == plain.nested_.tobytes()
    assert placed.oof_.tobytes() == plain.oof_.tobytes()
    assert placed.predict(fresh).tobytes() == plain.predict(fresh).tobytes()
    assert placed.report_["shipped"] == plain.report_["shipped"]


@pytest.mark.parametrize("places", [None, np.full((240, 2), np.nan)])
def test_no_place_at_all(places: np.ndarray | None) -> None:
    """Nothing to judge by is said, and nothing changes."""
    plain, placed = stackers(replace(ranging(), places=places), "control")
    assert placed.report_["prior"]["why"].endswith("no recording with a fold has a known place")
    assert placed.report_["prior"]["recordings"] == 0
    assert placed.nested_.tobytes() == plain.nested_.tobytes()


def test_places_in_one_fold_alone_say_nothing() -> None:
    """Nobody else was there."""
    table = ranging(lost=7)
    assert table.places is not None
    lonely = np.where((table.fold == 2)[:, None], table.places, np.nan)
    _, placed = stackers(replace(table, places=lonely), "control")
    assert placed.report_["prior"]["weight"] == 0


def test_what_a_fold_gets_depends_on_no_label_of_it() -> None:
    """Counts and weight of a fold are of the others, whatever is changed in it."""
    table = ranging(2, lost=50)
    most = np.where(np.arange(240) % 4 > 0, 1, table.fold)  # so much that it would sway the rest
    table = table.placed(most, table.groups)
    scores = np.random.default_rng(0).normal(size=table.truth.shape).astype(np.float32)
    held = table.window_fold == 1
    labels = np.array(table.truth)
    labels[held] = 1 - labels[held]
    ours, theirs = (
        choose_prior(each, scores, scores, COUNTING, resamples=50)
        for each in (table, table.with_truth(labels))
    )
    assert ours.report["by_fold"]["1"] == theirs.report["by_fold"]["1"] > 0
    assert ours.nested[held].tobytes() == theirs.nested[held].tobytes()
    assert ours.nested[~held].tobytes() != theirs.nested[~held].tobytes()


def test_simulated_rows_are_not_what_it_is_judged_on() -> None:
    """They are nowhere: recordings with a place decide, whatever other choices are made on."""
    table = ranging()
    domain = ["simulated" if at % 4 == 0 else "focal" for at in range(240)]
    table = replace(table, domain=domain)
    _, placed = stackers(table, "control")
    assert table.judged.sum() == 180
    assert placed.report_["prior"]["windows"] == 540
    assert placed.report_["prior"]["weight"] > 0
    judged = table.judged
    assert placed.without_prior_ is not None
    assert placed.nested_[judged].tobytes() == placed.without_prior_[judged].tobytes()


def test_labels_of_recordings() -> None:
    """In some window; in none; not known in one and in no other."""
    table = replace(ranging(), truth=np.zeros((720, 8), dtype=np.int8))
    table.truth[:3, 0] = [0, 1, -1]
    table.truth[:3, 1] = [0, -1, 0]
    assert recording_truth(table)[0, :3].tolist() == [1, -1, 0]


def test_a_damaged_prior_is_named(tmp_path: Path) -> None:
    """As every file of a stack."""
    _, placed = stackers(ranging(), "control")
    folder = save_stack(placed.shipped_, tmp_path / "stack")
    data = bytearray((folder / "prior.zip").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "prior.zip").write_bytes(data)
    with pytest.raises(CorruptError, match=r"prior\.zip: its bytes"):
        load_stack(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose sounds say nothing of the class and whose places say all."""
    folder = tmp_path_factory.mktemp("ranging")
    birds = make_birds(folder / "birds", species=SPECIES, clips=CLIPS, soundscapes=2)
    audio = birds / "train_audio"
    sounds = {path: path.read_bytes() for path in audio.rglob("*.ogg")}
    for s in range(SPECIES):
        for c in range(CLIPS):
            other = (s + c) % SPECIES
            said = sounds[audio / f"bird{other}" / f"XC{other}{c:03d}.ogg"]
            (audio / f"bird{s}" / f"XC{s}{c:03d}.ogg").write_bytes(said)
    rows = pl.read_csv(birds / "train_metadata.csv", infer_schema=False)
    home = rows["primary_label"].str.strip_prefix("bird").cast(pl.Int64)
    rows = rows.with_columns(
        latitude=(20.0 * home).cast(pl.String),
        longitude=pl.lit("7.5"),
        secondary_labels=pl.lit("[]"),
    )
    rows.write_csv(birds / "train_metadata.csv")
    store = folder / "store"
    for words in (
        ("ingest", birds, "--store", store, "--folds", FOLDS),
        ("simulate", "--store", store, "--per-fold", 1, "--duration", 40),
        ("features", "--store", store, *HEARD),
    ):
        ran = birdstack(*words)
        assert ran.code == 0, ran.err
    return folder


@pytest.fixture(scope="module")
def ran(made: Path) -> Ran:
    """The verb, once."""
    words = ["--prior", "range", "--ship", "control", "--set", "prior.width_km=100", *QUICK]
    return birdstack("stack", "--store", made / "store", "--out", made / "run", *words)


@pytest.fixture(scope="module")
def snapshot(made: Path) -> Snapshot:
    """What was stacked."""
    return Store.open(made / "store").snapshot()


def _design(run: Path) -> Design:
    return Design.model_validate_json((run / "stack" / "design.json").read_text())


def test_the_table_knows_the_places(made: Path, ran: Ran, snapshot: Snapshot) -> None:
    """Of clips as their table says; a soundscape, simulated or real, is nowhere."""
    assert ran.code == 0, ran.err
    design = _design(made / "run")
    table, _ = training_table(snapshot, design)
    assert table.places is not None
    focal = np.array([domain == "focal" for domain in table.domain or ()])
    assert (table.places[focal, 1] == 7.5).all()
    assert set(table.places[focal, 0]) == {0.0, 20.0, 40.0}
    assert np.isnan(table.places[~focal]).all()
    part = table.taken(np.flatnonzero(focal)[:2])
    np.testing.assert_array_equal(part.places, table.places[focal][:2])


def test_through_the_command(made: Path, ran: Ran, snapshot: Snapshot) -> None:
    """Told with weight, folds and gain; saved; what was written is what it predicts."""
    assert ran.code == 0, ran.err
    report = json.loads((made / "run" / "scores.json").read_text())
    told = report["prior"]
    assert told["weight"] > 0
    assert told["config"]["width_km"] == 100
    assert told["recordings"] == SPECIES * CLIPS
    assert told["with"]["value"] > told["without"]["value"] + 0.1
    for word in ("shipped without prior", "shipped with prior", told["why"][:20]):
        assert word in ran.out
    rows = {row["name"]: row for row in report["domains"]["focal"]["rows"]}
    assert rows["without_prior"]["title"] == "shipped without prior"
    gain = rows["shipped"]["macro_auc"]["value"] - rows["without_prior"]["macro_auc"]["value"]
    assert gain == pytest.approx(told["difference"]["value"])
    nowhere_rows = {row["name"]: row for row in report["domains"]["simulated"]["rows"]}
    assert nowhere_rows["shipped"]["macro_auc"] == nowhere_rows["without_prior"]["macro_auc"]
    shipped = load_stack(made / "run" / "stack")
    assert shipped.prior is not None
    assert shipped.prior.weight == told["weight"]
    design = _design(made / "run")
    ids = fresh_recordings(snapshot, design).ids
    table = fresh_table(snapshot, design, ids, design.fold_models[0])
    here = replace(table, places=np.tile([20.0, 7.5], (len(ids), 1)))
    base, found = shipped.predict(table), shipped.predict(here)
    assert base.tobytes() == replace(shipped, prior=None).predict(here).tobytes()
    lift = (found - base) / shipped.prior.scale
    assert (lift[:, 1] > 0.1).all()
    assert (lift[:, [0, 2]] < -0.1).all()


def test_it_changes_nothing_but_what_is_shipped(made: Path, ran: Ran, tmp_path: Path) -> None:
    """Controls, layers and scores of soundscapes are those of a run without it."""
    assert ran.code == 0
    words = ["--ship", "control", *QUICK]
    assert birdstack("stack", "--store", made / "store", "--out", tmp_path / "p", *words).code == 0
    for name in ("focal/chosen", "focal/mean_kernel", "simulated/shipped", "test/shipped"):
        mine, theirs = (
            (run / "windows" / f"{name}.parquet").read_bytes()
            for run in (made / "run", tmp_path / "p")
        )
        assert mine == theirs
    files = json.loads((tmp_path / "p" / "stack" / "stack.json").read_text())["files"]
    assert "prior.zip" not in files
    with_it = json.loads((made / "run" / "stack" / "stack.json").read_text())["files"]
    assert set(with_it) == {*files, "prior.zip"}


def test_a_stack_that_knows_places_scores_rows_of_none(made: Path, snapshot: Snapshot) -> None:
    """Columns of the view `place` are NaN where nothing is known; scores are numbers."""
    out = made / "placed"
    words = ["--views", "acoustic,place", "--ship", "stack", *QUICK]
    ran = birdstack("stack", "--store", made / "store", "--out", out, *words)
    assert ran.code == 0, ran.err
    design, shipped = _design(out), load_stack(out / "stack")
    assert shipped.stack is not None
    place = np.array([name.startswith("place:") for name in design.extra_names])
    seen = {at for row in shipped.stack.plan.extras for at in row}
    assert seen & set(np.flatnonzero(place).tolist()), "a class looks at a place"
    table, _ = training_table(snapshot, design)
    extra = np.array(table.extra)
    assert np.isfinite(extra[:, place]).any()
    extra[:, place] = np.nan
    assert np.isfinite(shipped.predict(replace(table, extra=extra, places=None))).all()
    ids = fresh_recordings(snapshot, design).ids
    fresh = fresh_table(snapshot, design, ids, design.fold_models[0])
    at = [design.extra_names.index(f"place:{name}") for name in ("latitude", "longitude")]
    assert np.isnan(fresh.extra[:, at]).all()
    assert np.isfinite(shipped.predict(fresh)).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--prior", "map"], "map"), (["--set", "prior.width_km=0"], "prior.width_km")],
)
def test_wrong_usage(made: Path, tmp_path: Path, words: list[str], said: str) -> None:
    """Exit code 2, before anything is read."""
    found = birdstack("stack", "--store", made / "store", "--out", tmp_path / "o", *words)
    assert found.code == 2
    assert said in found.err
