"""Leaks planted on purpose: each is refused or detected, and honest tables pass."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from support.command import birdstack
from support.rich_stack import QUICK, rich
from support.small_stacks import Small, as_frame, small_stack

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.deal_folds import deal_folds
from birdstack.stacking.judged_rows import Recordings, check_study, refuse_judged_training
from birdstack.stacking.leak_checks import check_segments, check_table, find_leaks
from birdstack.stacking.leak_columns import nearest_of_others
from birdstack.stacking.leak_finding import Finding
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.stack_table import StackTable
from birdstack.stacking.stacker import Stacker
from birdstack.stacking.tuning import TuningSettings, tune
from birdstack.store.errors import ConflictError, LeakError, SchemaError


def usual(seed: int = 0, **how: object) -> StackTable:
    """Sixty files of a minute, seventy classes, a strong network beside a weaker one."""
    given = {"seed": seed, "second": 0.8, "prior": False, **how}
    return small_stack(Small(**given), fresh_files=2)[0]  # type: ignore[arg-type]


def with_columns(table: StackTable, **columns: np.ndarray) -> StackTable:
    """The table with extra columns."""
    values = np.stack([np.asarray(v, np.float32) for v in columns.values()], axis=1)
    return replace(table, extra=values, extra_names=tuple(columns))


def focal(recordings: int = 300, classes: int = 12, seed: int = 0) -> StackTable:
    """Clips of one bird each, three windows long, by forty authors."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, recordings)
    truth = np.zeros((recordings * 3, classes), dtype=np.int8)
    truth[np.arange(recordings * 3), np.repeat(label, 3)] = 1
    group = rng.integers(0, 40, recordings)
    return StackTable(
        recording_ids=[f"r{number:05d}" for number in range(recordings)],
        windows=np.full(recordings, 3),
        groups=[f"author{number}" for number in group],
        fold=group % 5,
        backbones=("net",),
        classes=tuple(f"bird{number}" for number in range(classes)),
        logits=(1.5 * truth + rng.normal(size=truth.shape)).astype(np.float32)[None],
        truth=truth,
    )


def rules(found: list[Finding], column: str) -> set[str]:
    """Rules that a column or backbone has set off."""
    return {finding.rule for finding in found if finding.column == column}


# Honest tables.


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("how", [{}, {"unknown": 0.3}, {"fold_models": 1.0}, {"strength": 2.5}])
def test_honest_tables_set_nothing_off(seed: int, how: dict[str, float]) -> None:
    """Neither does a table with sound-like columns, constants and gaps beside."""
    table = usual(seed, **how)
    rng = np.random.default_rng(seed)
    rows = table.n_windows
    gaps = rng.normal(size=rows)
    gaps[::3] = np.nan
    table = with_columns(
        table,
        loudness=rng.normal(size=rows) + table.truth.clip(0).sum(axis=1),
        hour=np.repeat(rng.integers(0, 24, 60), 12),
        constant=np.full(rows, 3.0),
        gaps=gaps,
        own_score=table.logits[0, :, 3],
    )
    assert check_table(table) == []


def test_a_proper_lag_passes() -> None:
    """Within recordings, with nothing, a zero or the window itself at the edge."""
    table = usual()
    score = table.logits[0, :, 5]
    before = np.roll(score, 1)
    edge = table.index == 0
    columns = {
        "empty": np.where(edge, np.nan, before),
        "zero": np.where(edge, 0, before),
        "own": np.where(edge, score, before),
        "maximum": np.where(edge, score, np.maximum(score, before)),
    }
    assert check_table(with_columns(table, **columns)) == []


@pytest.mark.parametrize(("year", "most_f1"), [(2022, 0.2), (2023, 0.1)])
def test_real_places_and_hours_are_not_taken_for_labels(
    real_data: Path, year: int, most_f1: float
) -> None:
    """The whole tables set nothing off; random sets of their classes are never refused."""
    path = real_data / "metadata" / f"birdclef{year}_train_metadata.csv.gz"
    rows = pl.read_csv(path, infer_schema=False)
    labels = rows["primary_label"].to_numpy()
    hour = "time" if "time" in rows.columns else None
    columns = {
        "latitude": rows["latitude"].cast(pl.Float64, strict=False),
        "longitude": rows["longitude"].cast(pl.Float64, strict=False),
        "degrees": rows["latitude"].cast(pl.Float64, strict=False).round(0),
        "rating": rows["rating"].cast(pl.Float64, strict=False),
    }
    if hour is not None:
        columns["hour"] = rows[hour].str.extract(r"^(\d+):").cast(pl.Float64)
    else:
        columns["duration_s"] = rows["duration_s"].cast(pl.Float64)
    extra = np.stack([values.to_numpy().astype(np.float32) for values in columns.values()], 1)
    authors = rows["author"].fill_null("unknown").to_numpy()

    def table(kept: np.ndarray) -> StackTable:
        names, label = np.unique(labels[kept], return_inverse=True)
        truth = (label[:, None] == np.arange(len(names))).astype(np.int8)
        noise = np.random.default_rng(0).normal(size=truth.shape)
        return StackTable(
            recording_ids=[f"r{number:06d}" for number in range(len(kept))],
            windows=np.ones(len(kept), dtype=int),
            groups=authors[kept].tolist(),
            fold=deal_folds(authors[kept].tolist(), truth == 1, 5),
            backbones=("net",),
            classes=tuple(names.tolist()),
            logits=(2 * truth + noise).astype(np.float32)[None],
            truth=truth,
            extra=extra[kept],
            extra_names=tuple(columns),
        )

    whole = table(np.arange(len(rows)))
    assert check_table(whole) == []
    finite = np.isfinite(extra).all(axis=1)
    near = nearest_of_others(
        extra[finite, 0].astype(float),
        np.unique(authors[finite], return_inverse=True)[1],
        np.random.default_rng(0),
    )
    assert (labels[finite] == labels[finite][near]).mean() < most_f1
    rng = np.random.default_rng(1)
    for count in (2, 3, 5, 8, 12, 20, 20, 12, 8, 5, 3, 2):
        chosen = rng.choice(whole.classes, count, replace=False)
        kept = np.flatnonzero(np.isin(labels, chosen))
        if len(kept) > 40:
            check_table(table(kept))


# An in-fold column of logits.


def test_a_model_fold_that_is_not_the_rows_fold_is_refused() -> None:
    """Said by an argument, or by extra columns of a bare table; networks from elsewhere pass."""
    table = usual()
    fold = table.window_fold
    assert check_table(table, model_folds={"strong": fold, "second": np.full(len(fold), -1)}) == []
    wrong = np.where(fold == 2, 3, fold)
    with pytest.raises(LeakError, match=r"strong: recording .* fold 2, but model_fold 3"):
        check_table(table, model_folds={"strong": wrong})
    with pytest.raises(LeakError, match=r"second: .*model_fold 3"):
        check_table(with_columns(table, **{"model_fold:second": wrong}))
    with pytest.raises(LeakError, match=r"strong: .*\n.*second: "):
        check_table(with_columns(table, model_fold=wrong))
    with pytest.raises(SchemaError, match="model_fold of 'strong'"):
        check_table(table, model_folds={"strong": fold[1:]})


@pytest.fixture(scope="module")
def heads() -> tuple[StackTable, np.ndarray, np.ndarray]:
    """Real heads on noisy embeddings of a long tail: a table, honest and in-fold logits."""
    rng = np.random.default_rng(4)
    counts = [40, 30, 24, 16, 12, *[8] * 5, *[3] * 10]
    label = np.repeat(np.arange(len(counts)), counts)
    # Every rare class is of one author, and so lies in one fold.
    group = np.where(label >= 10, 100 + label, rng.integers(0, 50, len(label)))
    fold = group % 5
    centres = 0.9 * rng.normal(size=(len(counts), 120))
    values = centres[label] + 2 * rng.normal(size=(len(label), 120))
    honest = np.zeros((len(label), len(counts)))
    for held in range(5):
        rest = fold != held
        head = LogisticRegression(C=0.1, max_iter=500).fit(values[rest], label[rest])
        honest[:, :][np.ix_(~rest, head.classes_)] = head.decision_function(values[~rest])
    known = LogisticRegression(C=0.1, max_iter=500).fit(values, label).decision_function(values)
    truth = (label[:, None] == np.arange(len(counts))).astype(np.int8)
    table = StackTable(
        recording_ids=[f"r{number:04d}" for number in range(len(label))],
        windows=np.ones(len(label), dtype=int),
        groups=[str(number) for number in group],
        fold=fold,
        backbones=("head",),
        classes=tuple(f"bird{number:02d}" for number in range(len(counts))),
        logits=honest.astype(np.float32)[None],
        truth=truth,
    )
    return table, honest, known


def test_in_fold_logits_show_in_classes_that_nobody_else_met(
    heads: tuple[StackTable, np.ndarray, np.ndarray],
) -> None:
    """Trained on its own rows, a head ranks them perfectly; out-of-fold it cannot."""
    table, honest, known = heads
    assert macro_auc(known, table.truth).value > macro_auc(honest, table.truth).value + 0.1
    assert check_table(table) == []
    planted = replace(table, logits=known.astype(np.float32)[None])
    (finding,) = check_table(planted)
    assert finding.rule == "knows_unseen_classes"
    assert finding.severity == "warning"
    assert "10 classes lie in one fold each" in finding.why
    beside = replace(
        table,
        backbones=("head", "memory"),
        logits=np.stack([honest, known]).astype(np.float32),
    )
    assert [f.column for f in check_table(beside)] == ["memory"]


def test_perfect_scores_in_every_class_are_told() -> None:
    """Beside an honest backbone, and alone."""
    table = focal()
    memory = 8 * table.truth + np.random.default_rng(0).normal(size=table.truth.shape)
    both = replace(
        table,
        backbones=("net", "memory"),
        logits=np.stack([table.logits[0], memory]).astype(np.float32),
    )
    (finding,) = check_table(both)
    assert (finding.rule, finding.column) == ("too_good", "memory")
    assert "the next backbone has 0.8" in finding.why
    alone = replace(table, logits=memory[None].astype(np.float32))
    assert rules(check_table(alone), "net") == {"too_good"}


# Shuffled recording ids.


@pytest.mark.parametrize("seed", range(4))
def test_scores_of_other_recordings_are_told(seed: int) -> None:
    """Shuffled, or one recording out of step: by chance, where the other backbone is not."""
    table = usual(seed)
    rng = np.random.default_rng(seed)
    for places in (rng.permutation(60), np.roll(np.arange(60), 1)):
        rows = (places[:, None] * 12 + np.arange(12)).ravel()
        logits = table.logits.copy()
        logits[0] = logits[0][rows]
        found = find_leaks(replace(table, logits=logits))
        assert rules(found, "strong") == {"ranks_by_chance"}
        assert rules(found, "second") == set()
        (finding,) = found
        assert "where others do (second 0." in finding.why


def test_one_shuffled_fold_is_told() -> None:
    """The fold is named."""
    table = usual(3, strength=2.5)
    at = np.flatnonzero(np.asarray(table.fold) == 2)
    mixed = np.random.default_rng(0).permutation(at)
    logits = table.logits.copy()
    into, out = ((places[:, None] * 12 + np.arange(12)).ravel() for places in (at, mixed))
    logits[0, into] = logits[0, out]
    (finding,) = find_leaks(replace(table, logits=logits))
    assert (finding.rule, finding.column) == ("fold_ranks_by_chance", "strong")
    assert "ranks fold 2 no better" in finding.why


def test_scores_upside_down_are_told() -> None:
    """A distance in place of a score, say."""
    table = usual()
    logits = table.logits * np.array([1, -1], np.float32)[:, None, None]
    assert rules(find_leaks(replace(table, logits=logits)), "second") == {"ranks_backwards"}


# A lag across recordings.


@pytest.mark.parametrize("as_probability", [False, True])
@pytest.mark.parametrize("lag", [1, 2, -1, -3])
def test_a_lag_across_recordings_is_refused(lag: int, as_probability: bool) -> None:
    """A shift of the whole column, in logits or in the probabilities that a file held."""
    table = usual()
    score = table.logits[1, :, 7]
    values = 1 / (1 + np.exp(-score)) if as_probability else score
    leaked = np.roll(values, lag)
    name = f"lag {lag}" if lag > 0 else f"lead {-lag}"
    with pytest.raises(LeakError, match=f"x:shifted: .*{name} of second:bird007"):
        check_table(with_columns(table, shifted=leaked))


def test_a_running_mean_across_recordings_is_refused() -> None:
    """Means, maxima and the fixed kernel over the whole file; the same within recordings pass."""
    table = usual()
    score = table.logits[0, :, 2].astype(np.float64)
    frame = pl.DataFrame({"score": score, "recording": table.recording})
    rolling = pl.col("score").rolling_mean(3, center=True, min_samples=1)
    highest = pl.col("score").rolling_max(3, center=True, min_samples=1)
    whole = frame.select(mean=rolling, highest=highest)
    apart = frame.select(mean=rolling.over("recording"), highest=highest.over("recording"))
    for name in ("mean", "highest"):
        with pytest.raises(LeakError, match=f"x:{name}: .*strong:bird002"):
            check_table(with_columns(table, **{name: whole[name].to_numpy()}))
        assert check_table(with_columns(table, **{name: apart[name].to_numpy()})) == []


def test_a_lag_over_a_file_in_another_order_is_refused() -> None:
    """Shifted in the order of a file that was not sorted by recording."""
    table = usual()
    order = np.random.default_rng(2).permutation(60)
    rows = (order[:, None] * 12 + np.arange(12)).ravel()
    shifted = np.full(table.n_windows, np.nan)
    shifted[rows[1:]] = table.logits[0, rows[:-1], 4]
    with pytest.raises(LeakError, match=r"x:before: .*lag 1 of strong:bird004"):
        check_table(with_columns(table, before=shifted))


@pytest.mark.parametrize("bad", ["order", "window", "empty"])
def test_rows_out_of_order_are_refused(bad: str) -> None:
    """Context would cross recordings, or run backwards."""
    table = usual()
    if bad == "order":
        table = replace(table, recording_ids=list(table.recording_ids)[::-1])
    elif bad == "window":
        index = table.index.copy()
        index[14] = index[13]
        table = replace(table, window_index=index)
    else:
        windows = np.asarray(table.windows).copy()
        windows[[3, 4]] = [0, 24]
        table = replace(table, windows=windows)
    with pytest.raises(SchemaError, match="recording 'learn-"):
        check_segments(table)


# A column that names the label.


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_site_code_with_one_value_for_each_class_is_refused(noise: float) -> None:
    """As a code, or as a latitude that only looks like one; the figure is told."""
    table = focal()
    label = table.truth[::3].argmax(axis=1)
    code = 10.0 + 2.5 * label + noise * np.random.default_rng(0).normal(size=len(label))
    with pytest.raises(LeakError, match=r"x:latitude: .*mean F1 (1\.00|0\.9\d) over 12 classes"):
        check_table(with_columns(table, latitude=np.repeat(code, 3)))
    shuffled = np.random.default_rng(1).permutation(code)
    assert check_table(with_columns(table, latitude=np.repeat(shuffled, 3))) == []


def test_a_code_is_refused_with_few_classes_and_told_if_blurred() -> None:
    """Three classes may live apart, so a continuous column is a warning."""
    table = focal(classes=3)
    label = np.repeat(table.truth[::3].argmax(axis=1), 3)
    with pytest.raises(LeakError, match=r"x:site: .* over 3 classes.*100% of the"):
        check_table(with_columns(table, site=label))
    blur = np.repeat(0.05 * np.random.default_rng(0).normal(size=300), 3)
    (finding,) = check_table(with_columns(table, latitude=label + blur))
    assert (finding.severity, finding.rule) == ("warning", "column_names_label")


def test_a_code_that_is_often_wrong_is_told() -> None:
    """Better than real places with so many classes, yet not certain."""
    table = focal(classes=20, recordings=600)
    rng = np.random.default_rng(0)
    label = table.truth[::3].argmax(axis=1)
    code = np.where(rng.random(600) < 0.12, rng.integers(0, 20, 600), label)
    (finding,) = check_table(with_columns(table, site=np.repeat(code, 3)))
    assert (finding.severity, finding.rule) == ("warning", "column_names_label")


def test_a_flag_that_is_one_class_is_refused() -> None:
    """In clips and in soundscapes; also the window before, and a pattern of gaps."""
    table = focal()
    flag = table.truth[:, 4].astype(float)
    with pytest.raises(LeakError, match=r"x:seen: one value of it is class 'bird4': F1 1\.000"):
        check_table(with_columns(table, seen=flag))
    with pytest.raises(LeakError, match="x:gap: one value of it is class 'bird4'"):
        check_table(with_columns(table, gap=np.where(flag > 0, 1.0, np.nan)))
    scapes = usual()
    common = int(scapes.positives().argmax())
    sings = scapes.truth[:, common].astype(float)
    with pytest.raises(LeakError, match=f"class 'bird{common:03d}'"):
        check_table(with_columns(scapes, sings=sings))
    later = np.where(scapes.index == 0, 0.0, np.roll(sings, 1))
    with pytest.raises(LeakError, match=f"class 'bird{common:03d}', 1 windows back"):
        check_table(with_columns(scapes, later=later))
    rng = np.random.default_rng(0)
    odd = np.where(rng.random(len(flag)) < 0.01, 1 - flag, flag)
    (finding,) = check_table(with_columns(table, odd=odd))
    assert (finding.severity, finding.rule) == ("warning", "column_names_class")
    half = np.where(rng.random(len(flag)) < 0.4, 1 - flag, flag)
    assert check_table(with_columns(table, half=half)) == []


def test_what_never_stops_at_a_site_is_no_leak() -> None:
    """Insects in every window of one site, and nowhere else: its flag is told; others are let be."""
    table = usual()
    site = np.repeat(np.arange(len(table.recording_ids)) % 3 == 0, table.windows)
    truth = table.truth.copy()
    truth[:, 0], truth[:, 1] = site, 1
    truth[::40, 1] = 0
    table = table.with_truth(truth)
    (finding,) = check_table(with_columns(table, site=site.astype(float)))
    assert (finding.severity, finding.rule) == ("warning", "column_names_class")
    nearly = np.ones(len(site))
    nearly[::37] = 0
    assert check_table(with_columns(table, nearly=nearly)) == []


def test_an_owl_among_larks_is_told_where_the_column_was_computed() -> None:
    """Night is one class here, and no leak; a column of a bare table has to be left out."""
    table = focal()
    night = table.truth[:, 4].astype(float)
    (finding,) = check_table(with_columns(table, night=night), computed=["night"])
    assert (finding.severity, finding.rule) == ("warning", "column_names_class")
    rare = table.taken(np.flatnonzero((table.truth[::3, 4] == 0) | (np.arange(300) < 60)))
    assert 0 < rare.truth[::3, 4].sum() < 10
    assert check_table(with_columns(rare, night=rare.truth[:, 4].astype(float))) == []


def test_a_bird_of_one_island_is_told_and_not_refused() -> None:
    """One class at one coordinate of its own is what islands are like."""
    table = focal()
    rng = np.random.default_rng(0)
    place = np.where(table.truth[::3, 4] == 1, 19.5, rng.uniform(-40, 60, 300).round(4))
    (finding,) = check_table(with_columns(table, latitude=np.repeat(place, 3)))
    assert (finding.severity, finding.rule) == ("warning", "column_names_class")
    assert "lives apart" in finding.why


def test_the_nearest_value_is_of_another_group() -> None:
    """Against a search through all pairs."""
    rng = np.random.default_rng(0)
    values, group = rng.integers(0, 30, 200) / 7, rng.integers(0, 6, 200)
    near = nearest_of_others(values, group, rng)
    apart = np.abs(values[:, None] - values[None])
    apart[group[:, None] == group[None]] = np.inf
    np.testing.assert_array_equal(apart[np.arange(200), near], apart.min(axis=1))
    assert (nearest_of_others(values, np.zeros(200, dtype=int), rng) == -1).all()


# A study tuned on the rows that are to be judged.


def test_an_estimate_on_rows_of_the_study_is_refused(tmp_path: Path) -> None:
    """By name, by bytes under another name, and by group; a study goes on with its rows only."""
    table = rich(80)
    storage = TuningSettings(trials=1, share=0.5, storage=str(tmp_path / "study.log"))
    settings = StackSettings(**QUICK)  # type: ignore[arg-type]
    tune(table, settings, storage)
    study = Recordings.learnt_from(table)
    with pytest.raises(LeakError, match="2 of 3 recordings to be judged were in the tuning study"):
        check_study(study, Recordings.of(["r0003", "r0004", "new"]))
    fresh = rich(20, seed=1)
    with pytest.raises(ConflictError, match="made on other rows"):
        tune(fresh, settings, storage)
    check_study(study, Recordings.of(["new"], ["abc"], ["group"]))
    assert Recordings.of(**study.as_dict()) == study


def test_an_estimate_on_training_rows_is_refused() -> None:
    """Copies and clips of the same group have been met too; unknown hashes match nothing."""
    refuse_judged_training(["a", "b"], ["1", None], ["c", "d"], ["2", None])
    with pytest.raises(LeakError, match=r"1 of 2 recordings to be judged.*training.*'b'"):
        refuse_judged_training(["a", "b"], ["1", "2"], ["b", "c"], ["3", "4"])
    with pytest.raises(LeakError, match=r"1 of 2 content hashes.*'2'"):
        refuse_judged_training(["a", "b"], ["1", "2"], ["c", "d"], ["2", "4"])
    with pytest.raises(LeakError, match=r"1 of 1 groups.*'x'"):
        refuse_judged_training(
            ["a"], ["1"], ["c"], ["2"], trained_groups=["x"], judged_groups=["x"]
        )


# Where users meet them.


def test_a_stacker_refuses_what_is_certain_and_tells_the_rest() -> None:
    """Nothing is fitted on a leak; what is doubtful stands in the report."""
    table = rich(80)
    flag = table.truth[:, 1].astype(np.float32)
    leaked = replace(
        table,
        extra=np.column_stack([table.extra, flag]),
        extra_names=(*table.extra_names, "seen"),
    )
    stacker = Stacker(**QUICK)  # type: ignore[arg-type]
    with pytest.raises(LeakError, match="x:seen: one value of it is class 'b'"):
        stacker.fit(leaked)
    assert not hasattr(stacker, "shipped_")
    mixed = usual()
    rows = (np.roll(np.arange(60), 1)[:, None] * 12 + np.arange(12)).ravel()
    logits = mixed.logits.copy()
    logits[1] = logits[1][rows]
    told = Stacker(ship="control", **QUICK).fit(replace(mixed, logits=logits))  # type: ignore[arg-type]
    (finding,) = told.report_["findings"]
    assert (finding["rule"], finding["column"]) == ("ranks_by_chance", "second")
    honest = Stacker(ship="control", **QUICK).fit(mixed)  # type: ignore[arg-type]
    assert honest.report_["findings"] == []


def test_the_command_refuses_and_warns(tmp_path: Path) -> None:
    """Exit code 1 with column and remedy, and no folder; a warning ends well and is written."""
    table = usual()
    path, out = tmp_path / "scores.parquet", tmp_path / "out"
    shifted = np.roll(table.logits[0, :, 7], 1)
    as_frame(with_columns(table, before=shifted)).write_parquet(path)
    refused = birdstack("stack", "--table", path, "--out", out)
    assert refused.code == 1
    assert "x:before" in refused.err
    assert "remedy: leave the column out" in refused.err
    assert not (out / "scores.json").exists()
    turned = replace(table, logits=table.logits * np.array([1, -1], np.float32)[:, None, None])
    as_frame(turned).write_parquet(path)
    ran = birdstack("stack", "--table", path, "--out", out, "--ship", "control", "--resamples", 60)
    assert ran.code == 0, ran.err
    assert "second: ranks backwards" in " ".join((ran.out + ran.err).split())
    (finding,) = json.loads((out / "scores.json").read_text())["findings"]
    assert finding["rule"] == "ranks_backwards"
