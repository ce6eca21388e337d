"""The report: its figures are those of the bootstrap, missing pieces are said, input is escaped."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.command import birdstack
from support.run_folder import HOSTILE, Wanted, make_run
from support.small_stacks import Small

from birdstack.embeddings.auc import macro_auc
from birdstack.stacking.bootstrap import RecordingBootstrap
from birdstack.stacking.report import ReportConfig, make_report
from birdstack.stacking.report_calibration import platt_line
from birdstack.stacking.report_curves import curves
from birdstack.stacking.report_drift import ks_distance
from birdstack.stacking.report_page import render_page
from birdstack.stacking.report_run import read_run
from birdstack.store.errors import CorruptError, FormatVersionError, UsageError

QUICK = ReportConfig(resamples=100, clips=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 classes over labelled soundscapes and test recordings, with sound."""
    return make_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def report(run: Path) -> dict[str, Any]:
    """Its figures."""
    return make_report(read_run(run), QUICK)


@pytest.fixture
def altered(run: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of the run without some files (a glob)."""

    def without(pattern: str) -> Path:
        copy = tmp_path / "altered"
        shutil.copytree(run, copy)
        for path in copy.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return copy

    return without


def _arrays(run: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recording, truth and scores, read by other means than the report's."""
    home = run / "windows" / "soundscapes"
    truth, scores = (
        pl.read_parquet(home / "truth.parquet"),
        pl.read_parquet(home / f"{name}.parquet"),
    )
    labels = truth.drop("recording_id", "window").fill_null(-1).to_numpy()
    return (
        truth["recording_id"].to_numpy(),
        labels,
        scores.drop("recording_id", "window").to_numpy(),
    )


def _row(report: dict[str, Any], name: str) -> dict[str, Any]:
    (domain,) = report["headline"]["domains"]
    return next(row for row in domain["rows"] if row["name"] == name)


def test_headline_is_the_macro_auc_of_the_files(run: Path, report: dict[str, Any]) -> None:
    """Macro AUC, interval and paired difference are those of the written scores."""
    recording, truth, ours = _arrays(run, "shipped")
    _, _, control = _arrays(run, "mean_kernel")
    bootstrap = RecordingBootstrap(recording, truth, resamples=100, seed=0)

    shown = _row(report, "shipped")["macro_auc"]
    assert shown["value"] == pytest.approx(macro_auc(ours, truth).value, abs=1e-12)
    assert (shown["low"], shown["high"]) == pytest.approx(
        (bootstrap.interval(ours).low, bootstrap.interval(ours).high)
    )
    lead = _row(report, "mean_kernel")["shipped_less_this"]
    assert lead["value"] == pytest.approx(bootstrap.paired(ours, control).value)
    assert lead["low"] == pytest.approx(bootstrap.paired(ours, control).low)


def test_headline_equals_what_stack_has_printed(run: Path, report: dict[str, Any]) -> None:
    """The figures of the report are those that the stack run has written down."""
    printed = json.loads((run / "scores.json").read_text())
    nested = printed["shipped"]["nested"]["value"]
    assert _row(report, "shipped")["macro_auc"]["value"] == pytest.approx(nested, abs=1e-9)


def test_headline_equals_evaluate(run: Path, report: dict[str, Any]) -> None:
    """`birdstack evaluate` on the run's own files gives the same figures and intervals."""
    home = run / "windows" / "soundscapes"
    files = (home / "shipped.parquet", home / "truth.parquet")
    ran = birdstack("evaluate", *files, "--resamples", 100, "--json")
    assert ran.code == 0
    assert ran.named("finished")[0]["macro_auc"] == _row(report, "shipped")["macro_auc"]


def test_every_class_has_its_own_figures(run: Path, report: dict[str, Any]) -> None:
    """AUC, positives and recordings of each class are those of its column."""
    recording, truth, ours = _arrays(run, "shipped")
    per_class = macro_auc(ours, truth).per_class
    rows = report["classes"]["soundscapes"]
    assert [row["class"] for row in rows] == list(
        json.loads((run / "run.json").read_text())["classes"]
    )
    for number, row in enumerate(rows):
        here = truth[:, number] == 1
        assert row["positives"] == here.sum()
        assert row["recordings"] == len(set(recording[here]))
        if np.isnan(per_class[number]):
            assert row["auc"] is None
        else:
            assert row["auc"]["value"] == pytest.approx(per_class[number], abs=1e-12)


def test_classes_of_the_buckets_add_up(report: dict[str, Any]) -> None:
    """Every class that counts lies in one bucket of positives and in one group of activity."""
    counted = report["headline"]["domains"][0]["classes_counted"]
    gain = report["gain"]["soundscapes"]
    assert sum(row["classes"] for row in gain["by_positives"]) == counted
    assert sum(row["classes"] for row in gain["by_activity"]["rows"]) == counted


def test_fallbacks_are_told_with_their_reason(run: Path, report: dict[str, Any]) -> None:
    """A class that fell back says why, in the headline and in its row."""
    printed = json.loads((run / "scores.json").read_text())["fallbacks"]
    assert printed
    assert report["headline"]["fallbacks"]["classes"] == printed
    for row in report["classes"]["soundscapes"]:
        assert row["fallback"] == printed.get(row["class"])


def test_curves_are_those_of_scikit_learn() -> None:
    """Area under the thinned ROC and average precision agree with scikit-learn, with ties."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(3)
    truth = (rng.random(900) < 0.1).astype(np.int8)
    scores = np.round(truth + rng.normal(0, 1, 900), 1)
    found = curves(scores, truth)
    assert found is not None
    roc = np.array(found["roc"])
    assert np.trapezoid(roc[:, 1], roc[:, 0]) == pytest.approx(
        roc_auc_score(truth, scores), abs=5e-3
    )
    assert roc[0].tolist() == [0, 0]
    assert roc[-1].tolist() == [1, 1]
    assert len(roc) <= 50
    assert found["average_precision"] == pytest.approx(average_precision_score(truth, scores))


def test_unknown_labels_are_left_out_of_curves() -> None:
    """A window whose label nobody knows moves no curve."""
    scores, truth = np.array([3.0, 2.0, 1.0, 9.0]), np.array([1, 0, 0, -1])
    assert curves(scores, truth) == curves(scores[:3], truth[:3])


def test_ks_is_that_of_scipy() -> None:
    """The distance is the two-sample statistic; NaN is left out; no values, no distance."""
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0, 1, 80).round(1), rng.normal(0.4, 1, 60).round(1)
    expected = ks_2samp(ours, theirs).statistic
    assert ks_distance(ours, np.append(theirs, np.nan)) == pytest.approx(expected)
    assert ks_distance(ours, np.full(3, np.nan)) is None


def test_calibration_finds_the_logistic_it_was_drawn_from() -> None:
    """Labels drawn from a logistic of the score give its slope and level back."""
    rng = np.random.default_rng(1)
    scores = rng.normal(2, 3, 60_000)
    present = rng.random(60_000) < 1 / (1 + np.exp(-(0.8 * scores - 3)))
    line = platt_line(scores, present)
    assert line == pytest.approx((0.8, -3), abs=0.05)
    assert platt_line(scores[:50], np.zeros(50, dtype=bool)) is None


def test_drift_is_seen_where_it_is(run: Path, altered: Callable[[str], Path]) -> None:
    """Scores that are shifted between domains give a larger KS than those that are not."""
    copy = altered("none")
    path = copy / "windows" / "test" / "shipped.parquet"
    frame = pl.read_parquet(path)
    name = frame.columns[-1]
    frame.with_columns(pl.col(name) + 50).write_parquet(path)
    before = make_report(read_run(run), QUICK)["distributions"]["by_class"][-1]["ks"]
    after = make_report(read_run(copy), QUICK)["distributions"]["by_class"][-1]["ks"]
    assert before < 0.6
    assert after == 1.0


def test_importance_sums_to_one_and_names_its_columns(report: dict[str, Any]) -> None:
    """Shares by family are all of the gain; columns beside the scores are read for SHAP."""
    gain, shap = report["importance"]["gain"], report["importance"]["shap"]
    assert sum(row["share"] for row in gain["kinds"]) == pytest.approx(1)
    assert "why" not in shap
    assert sum(row["share"] for row in shap["kinds"]) == pytest.approx(1)
    assert {"score:strong", "local_max(1)"} & {row["column"] for row in shap["columns"]}


def test_every_trial_of_a_study_is_told(altered: Callable[[str], Path]) -> None:
    """Values, the best so far, and importances that are shares; the study is only read."""
    import optuna

    copy = altered("none")
    log = copy / "study.log"
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(log)))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name="birdstack-stack", storage=storage, direction="maximize")
    study.optimize(lambda trial: 0.8 + 0.1 * trial.suggest_float("l2", 0, 1), n_trials=14)
    written = log.read_bytes()
    found = make_report(read_run(copy), QUICK)["tuning"]
    assert [trial["value"] for trial in found["trials"]] == [t.value for t in study.trials]
    best = [trial["best"] for trial in found["trials"]]
    assert best == np.maximum.accumulate([t.value for t in study.trials]).tolist()
    assert sum(row["share"] for row in found["importance"]) == pytest.approx(1)
    assert log.read_bytes() == written


def test_a_study_in_a_database_is_told_by_what_the_run_kept(
    altered: Callable[[str], Path],
) -> None:
    """No journal lies beside the run; its history stands in scores.json."""
    copy = altered("study.log")
    path = copy / "scores.json"
    scores = json.loads(path.read_text("utf-8"))
    trial = {"trial": 3, "value": 0.8, "best": 0.9, "params": {"l2": 2.0}, "seconds": 1.0}
    scores["tuning"] = {"why": "enough", "history": [trial], "importance": {"l2": 1.0}}
    path.write_text(json.dumps(scores), "utf-8")
    found = make_report(read_run(copy), QUICK)["tuning"]
    assert found["trials"] == [{"number": 3, "value": 0.8, "best": 0.9, "params": {"l2": 2.0}}]
    assert found["verdict"] == "enough"
    assert found["importance"] == [{"setting": "l2", "share": 1.0}]


def test_worst_errors_are_the_worst(run: Path, report: dict[str, Any]) -> None:
    """The first missed window is the positive one that the largest share outranks."""
    _, truth, ours = _arrays(run, "shipped")
    worst = max(
        (ours[truth[:, k] == 0, k] > ours[row, k]).mean()
        for k in range(truth.shape[1])
        for row in np.flatnonzero(truth[:, k] == 1)
    )
    missed = report["errors"]["windows"][0]
    assert missed["kind"] == "missed"
    assert missed["cost"] == pytest.approx(worst, abs=0.01)
    assert missed["class"] in missed["labels"]
    assert missed["media"]["audio"].startswith("data:audio/")
    assert missed["media"]["picture"].startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("pattern", "section", "reason"),
    [
        ("windows/*/truth.parquet", "errors", "no domain"),
        ("windows/*/truth.parquet", "calibration", "no domain"),
        ("stack", "importance", "cannot be read"),
        ("study.log", "tuning", "not tuned"),
    ],
)
def test_what_is_missing_is_said(
    altered: Callable[[str], Path], pattern: str, section: str, reason: str
) -> None:
    """Without a piece the report is still made, and the section says why it is not there."""
    found = make_report(read_run(altered(pattern)), QUICK)
    assert reason in found[section]["why"]
    assert "Not shown" in render_page(found)


def test_a_bare_run_still_gives_a_page(tmp_path: Path) -> None:
    """No place, no time, no sound, no truth of the test recordings, no stack: one line each."""
    wanted = Wanted(places=False, sounds=0, ship="control", how=Small(files=24, classes=6, folds=3))
    found = make_report(read_run(make_run(tmp_path / "run", wanted)), QUICK)
    for section in ("map", "hours", "importance", "tuning"):
        assert found[section]["why"]
    assert found["gain"]["soundscapes"]["by_activity"]["why"]
    assert found["errors"]["windows"][0]["media"]["why"] == "where its sound lies is not known"
    page = render_page(found)
    assert page.count("Not shown") >= 5


@pytest.mark.parametrize("labels", ["absent", "not known", "one recording"])
def test_a_truth_that_judges_nothing_is_said(altered: Callable[[str], Path], labels: str) -> None:
    """No positive, no label, or a single recording: a page without AUC that says so."""
    copy = altered("none")
    for path in (copy / "windows" / "soundscapes").glob("*.parquet"):
        frame = pl.read_parquet(path)
        if labels == "one recording":
            frame = frame.filter(pl.col("recording_id") == frame["recording_id"][0])
        elif path.stem == "truth":
            value = 0 if labels == "absent" else None
            names = frame.columns[2:]
            frame = frame.with_columns(pl.lit(value, dtype=pl.Int8).alias(name) for name in names)
        frame.write_parquet(path)
    found = make_report(read_run(copy), QUICK)
    rows = [row for domain in found["headline"]["domains"] for row in domain["rows"]]
    assert all(row["macro_auc"] is None for row in rows)
    assert "Not shown" in render_page(found)
    ran = birdstack("report", copy, "--clips", 0, "--fail-under", 0.5)
    assert ran.code == 2
    assert "no domain of the run has a macro AUC" in ran.err


def test_two_runs_are_compared_window_by_window(run: Path, altered: Callable[[str], Path]) -> None:
    """A run against one with other scores: the difference of their macro AUCs, with interval."""
    copy = altered("none")
    path = copy / "windows" / "soundscapes"
    shutil.copyfile(path / "mean_kernel.parquet", path / "shipped.parquet")
    found = make_report(read_run(run), QUICK, other=read_run(copy))
    (domain,) = found["against"]["domains"]
    lead = _row(found, "mean_kernel")["shipped_less_this"]
    assert domain["difference"] == lead
    assert domain["labels_that_differ"] == 0
    assert domain["windows_left_out"] == 0
    assert domain["better"] + domain["worse"] <= domain["classes"]


def test_a_run_against_itself_differs_by_nothing(run: Path) -> None:
    """The same scores in the same resamples: zero, for certain."""
    found = make_report(read_run(run), QUICK, other=read_run(run))
    (domain,) = found["against"]["domains"]
    assert domain["difference"]["value"] == 0
    assert domain["difference"]["low"] == domain["difference"]["high"] == 0


def test_runs_with_nothing_in_common_are_refused(run: Path, altered: Callable[[str], Path]) -> None:
    """Two runs without a common labelled window cannot be compared."""
    copy = altered("none")
    for path in (copy / "windows" / "soundscapes").glob("*.parquet"):
        moved = pl.read_parquet(path).with_columns(
            pl.format("else/{}", "recording_id").alias("recording_id")
        )
        moved.write_parquet(path)
    with pytest.raises(UsageError, match="no labelled window and class in common"):
        make_report(read_run(run), QUICK, other=read_run(copy))


def test_damaged_runs_are_refused_by_name(altered: Callable[[str], Path]) -> None:
    """Rows in another order, a lost column, a newer format: the file is named."""
    copy = altered("none")
    path = copy / "windows" / "soundscapes" / "shipped.parquet"
    whole = pl.read_parquet(path)
    whole.reverse().write_parquet(path)
    with pytest.raises(CorruptError, match=r"shipped\.parquet: its rows are not those"):
        make_report(read_run(copy), QUICK)
    whole.drop(whole.columns[-1]).write_parquet(path)
    with pytest.raises(CorruptError, match="is missing"):
        make_report(read_run(copy), QUICK)
    facts = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**facts, "format": 99}))
    with pytest.raises(FormatVersionError, match="format 99"):
        read_run(copy)
    (copy / "run.json").write_text("{")
    with pytest.raises(CorruptError, match="cannot be read"):
        read_run(copy)
    (copy / "run.json").unlink()
    with pytest.raises(UsageError, match="missing"):
        read_run(copy)


def test_hostile_names_stay_text(report: dict[str, Any]) -> None:
    """A class named like a script element ends neither an element nor a script, anywhere."""
    assert report["classes"]["soundscapes"][0]["class"] == HOSTILE
    page = render_page({**report, "run": {**report["run"], "folder": HOSTILE}})
    assert "<script>alert" not in page
    assert page.count("<script") == 2
    assert page.count("</script>") == 2


def test_the_page_asks_no_network_for_anything(report: dict[str, Any]) -> None:
    """Nothing in the page points outside it, and its policy would let nothing in."""
    page = render_page(report)
    addresses = re.findall(r'(?:src|href|action)="([^"#][^"]*)"', page)
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    assert "url(http" not in page
    assert "default-src 'none'" in page


def test_command_writes_page_json_and_csv_with_the_same_figures(run: Path, tmp_path: Path) -> None:
    """The macro AUC stands in all three files, and the command ends with 0."""
    page = tmp_path / "report.html"
    words = ("report", run, "--out", page, "--resamples", 100, "--clips", 1, "--json")
    ran = birdstack(*words)
    assert ran.code == 0
    (finished,) = ran.named("finished")
    figures = json.loads(page.with_suffix(".json").read_text("utf-8"))
    assert finished["headline"] == figures["headline"]["domains"]
    value = _row(figures, "shipped")["macro_auc"]["value"]
    rows = list(csv.DictReader(io.StringIO(page.with_suffix(".csv").read_text("utf-8"))))
    (row,) = [
        r
        for r in rows
        if (r["section"], r["item"], r["figure"]) == ("headline", "shipped", "macro_auc")
    ]
    assert float(row["value"]) == value
    assert f"{value:.3f}" in page.read_text("utf-8")
    assert "data:audio" in page.read_text("utf-8")
    assert "base64" not in page.with_suffix(".json").read_text("utf-8")


def test_fail_under_sets_the_exit_code(run: Path, tmp_path: Path) -> None:
    """1 below the limit, with the report written all the same; 0 above; 2 for nonsense."""
    page = tmp_path / "report.html"
    quick = ("report", run, "--out", page, "--resamples", 50, "--clips", 0, "--no-audio")
    assert birdstack(*quick, "--fail-under", 0.999).code == 1
    assert page.is_file()
    assert birdstack(*quick, "--fail-under", 0.2).code == 0
    ran = birdstack(*quick, "--fail-under", 90)
    assert ran.code == 2
    assert "between 0 and 1" in ran.err


def test_wrong_places_are_refused_before_any_work(run: Path, tmp_path: Path) -> None:
    """A page that is no HTML, a folder that is not there, a run that is none."""
    assert birdstack("report", run, "--out", tmp_path / "report.pdf").code == 2
    assert birdstack("report", run, "--out", tmp_path / "none" / "report.html").code == 2
    ran = birdstack("report", tmp_path)
    assert ran.code == 2
    assert "run.json is missing" in ran.err


def test_a_report_with_all_classes_stays_small(tmp_path: Path) -> None:
    """182 classes without sound stay under 5 MB."""
    how = Small(files=40, classes=182, folds=3, prior=False)
    wanted = Wanted(how=how, sounds=0, ship="control", fresh_files=4)
    run = read_run(make_run(tmp_path / "run", wanted))
    page = render_page(make_report(run, ReportConfig(resamples=50, audio=False)))
    assert len(page.encode()) < 5_000_000
    assert page.count('class="spark"') > 100
