"""`birdstack evaluate`: scikit-learn's figures, and every bad file refused in its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from support.command import birdstack

from birdstack.stacking.bootstrap import RecordingBootstrap
from birdstack.stacking.evaluate import average_precision, evaluate
from birdstack.stacking.row_ids import read_labels, read_row_table

CLASSES = ("wren", "owl", "jay", "rook")


def drawn(seed: int, recordings: int = 12, windows: int = 5) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Predictions with ties, and truth with a class that is never there."""
    rng = np.random.default_rng(seed)
    rows = [f"site_{r:02}_{5 * (w + 1)}" for r in range(recordings) for w in range(windows)]
    labels = (rng.random((len(rows), 4)) < (0.4, 0.2, 0.1, 0.0)).astype(int)
    labels[0] = (1, 1, 1, 0)
    scores = np.round(rng.random(labels.shape) + 0.3 * labels, 2)
    named = dict(zip(CLASSES, scores.T, strict=True))
    truth = dict(zip(CLASSES, labels.T, strict=True))
    return pl.DataFrame({"row_id": rows, **named}), pl.DataFrame({"row_id": rows, **truth})


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The same as predictions.csv and truth.csv in the working folder."""
    monkeypatch.chdir(tmp_path)
    predictions, truth = drawn(0)
    predictions.write_csv("predictions.csv")
    truth.write_csv("truth.csv")
    return predictions, truth


def competition(predictions: pl.DataFrame, truth: pl.DataFrame) -> float:
    """As BirdCLEF's own metric: scored columns have positives; macro by scikit-learn."""
    scored = [name for name in truth.columns[1:] if truth[name].sum() > 0]
    return float(
        roc_auc_score(
            truth.select(scored).to_numpy(), predictions.select(scored).to_numpy(), average="macro"
        )
    )


@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([1, 2, 5, 10**6]))
@settings(max_examples=100, deadline=None)
def test_figures_are_those_of_scikit_learn(seed: int, levels: int) -> None:
    """AUC and average precision of each class to 1e-12, with ties and labels not known."""
    rng = np.random.default_rng(seed)
    rows, classes = int(rng.integers(4, 60)), int(rng.integers(1, 5))
    labels = rng.choice([-1, 0, 1], (rows, classes), p=[0.1, 0.6, 0.3]).astype(np.int8)
    scores = rng.integers(0, levels, labels.shape) / 7
    recording = rng.integers(0, 4, rows)
    names = [str(number) for number in range(classes)]
    found = evaluate(scores, labels, recording, names, resamples=2)
    aucs, precisions = [], []
    for number, each in enumerate(found.by_class):
        known = labels[:, number] >= 0
        truth, score = labels[known, number], scores[known, number]
        assert (each.positives, each.negatives) == ((truth == 1).sum(), (truth == 0).sum())
        assert each.recordings == len(set(recording[labels[:, number] == 1]))
        if each.positives and each.negatives:
            aucs.append(roc_auc_score(truth, score))
            precisions.append(average_precision_score(truth, score))
            assert each.auc.value == pytest.approx(aucs[-1], abs=1e-12)
            assert each.average_precision == pytest.approx(precisions[-1], abs=1e-12)
            assert each.skipped == ""
        else:
            assert np.isnan([each.auc.value, each.average_precision]).all()
            assert each.skipped == ("no negatives" if each.positives else "no positives")
    if aucs:
        assert found.macro_auc.value == pytest.approx(np.mean(aucs), abs=1e-12)
        assert found.macro_average_precision == pytest.approx(np.mean(precisions), abs=1e-12)
    else:
        assert np.isnan(found.macro_auc.value)


def test_average_precision_of_positives_alone_is_one() -> None:
    """As scikit-learn has it; without positives there is none."""
    scores, labels = np.arange(6.0).reshape(3, 2), np.array([[1, 0]] * 3)
    found = average_precision(scores, labels)
    assert found[0] == 1
    assert np.isnan(found[1])


def test_a_submission_is_scored_as_the_competition_does(files) -> None:
    """The macro AUC on the console, in JSON and in the file; the class never there is named."""
    expected = competition(*files)
    ran = birdstack("evaluate", "predictions.csv", "truth.csv", "--out", "figures.json")
    assert ran.code == 0, ran.err
    assert f"macro AUC {expected:.4f} [" in ran.out
    assert "3 classes counted; 1 class skipped (no positives): 'rook'" in ran.out
    assert "60 rows of 12 recordings" in ran.out
    kept = json.loads(Path("figures.json").read_text("utf-8"))
    assert kept["macro_auc"]["value"] == pytest.approx(expected, abs=1e-12)
    assert kept["classes_skipped"] == {"no positives": ["rook"]}
    assert [each["name"] for each in kept["by_class"]] == list(CLASSES)
    [finished] = birdstack("evaluate", "predictions.csv", "truth.csv", "--json").named("finished")
    assert finished.pop("exit_code") == 0
    finished.pop("event")
    assert finished == kept


def test_intervals_are_those_of_the_bootstrap_over_recordings(files) -> None:
    """By recording, or row by row if asked; another seed gives others; none if not wished."""
    predictions, truth = files
    scores, labels = (frame.drop("row_id").to_numpy() for frame in (predictions, truth))
    recording = predictions["row_id"].str.replace(r"_\d+$", "").to_numpy()

    def macro(*options: object) -> dict:
        ran = birdstack("evaluate", "predictions.csv", "truth.csv", "--json", *options)
        return ran.named("finished")[0]["macro_auc"]

    expected = RecordingBootstrap(recording, labels, resamples=70, seed=3).interval(scores)
    found = macro("--resamples", 70, "--seed", 3)
    assert (found["low"], found["high"]) == (expected.low, expected.high)
    rows = predictions["row_id"].to_numpy()
    alone = RecordingBootstrap(rows, labels, resamples=70, seed=3).interval(scores)
    assert macro("--resamples", 70, "--seed", 3, "--group-by", "none")["low"] == alone.low
    assert macro("--resamples", 70, "--seed", 4)["low"] != expected.low
    assert macro("--resamples", 0)["low"] is None


def test_row_and_class_order_and_the_kind_of_file_change_nothing(files, tmp_path: Path) -> None:
    """Shuffled Parquet and packed CSV give the same figures to the last bit."""
    predictions, truth = files
    moved = predictions.sample(fraction=1, shuffle=True, seed=1).select("row_id", *CLASSES[::-1])
    moved.write_parquet("moved.parquet")
    Path("packed.csv.gz").write_bytes(gzip.compress(truth.write_csv().encode()))
    first = birdstack("evaluate", "predictions.csv", "truth.csv", "--json").events[-1]
    second = birdstack("evaluate", "moved.parquet", "packed.csv.gz", "--json").events[-1]
    for figures in (first, second):
        del figures["predictions"], figures["truth"]
    assert first == second


def test_what_the_truth_lacks_is_ignored_and_said(files) -> None:
    """Further rows and columns change no figure."""
    predictions, _ = files
    expected = competition(*files)
    more = predictions.with_columns(nocall=pl.lit(0.5), jackdaw=pl.lit(0.1))
    other = more.with_columns(pl.col("row_id").str.replace("site", "elsewhere"))
    pl.concat([other, more]).write_csv("more.csv")
    ran = birdstack("evaluate", "more.csv", "truth.csv")
    assert ran.code == 0
    assert f"macro AUC {expected:.4f}" in ran.out
    assert "more.csv: 60 rows that the truth lacks ignored" in ran.err
    assert "2 columns that the truth lacks ignored: 'nocall', 'jackdaw'" in ran.err


def test_two_predictions_are_compared_in_the_same_resamples(files) -> None:
    """The difference, its interval and what it means; class by class in the table."""
    predictions, truth = files
    better = predictions.with_columns((pl.col(name) + truth[name]).alias(name) for name in CLASSES)
    better.write_parquet("better.parquet")
    ran = birdstack(
        *("evaluate", "better.parquet", "truth.csv", "--against", "predictions.csv"),
        *("--out", "classes.csv"),
    )
    assert ran.code == 0, ran.err
    lead = competition(better, truth) - competition(*files)
    assert f"difference {lead:+.4f} [" in ran.out
    assert ": better, for certain" in ran.out
    table = pl.read_csv("classes.csv")
    assert table["class"].to_list() == list(CLASSES)
    assert table["difference"].drop_nulls().mean() == pytest.approx(lead, abs=1e-12)
    assert table["skipped"].to_list() == [None, None, None, "no positives"]
    words = ("evaluate", "predictions.csv", "truth.csv", "--against")
    assert ": worse, for certain" in birdstack(*words, "better.parquet").out
    same = birdstack(*words, "predictions.csv")
    assert "difference +0.0000 [+0.0000, +0.0000]: not certain" in same.out
    bare = birdstack(*words, "better.parquet", "--resamples", 0)
    assert f"difference {-lead:+.4f}\n" in bare.out


def test_a_bar_that_is_missed_ends_with_1(files) -> None:
    """The figure itself is compared, not its interval; a bar that is just met passes."""
    macro = birdstack("evaluate", "predictions.csv", "truth.csv", "--json").events[-1]["macro_auc"]
    words = ("evaluate", "predictions.csv", "truth.csv", "--fail-under")
    assert birdstack(*words, macro["value"]).code == 0
    missed = birdstack(*words, 0.999)
    assert missed.code == 1
    assert "is below --fail-under 0.999" in missed.err
    assert birdstack(*words, 1.5).code == 2


def test_soft_labels_are_present_above_a_limit_that_is_said(files) -> None:
    """Above 0 if nothing else is asked for."""
    predictions, truth = files
    soft = truth.with_columns(pl.when(truth["wren"] == 1).then(0.4).otherwise(0.0).alias("wren"))
    soft.write_csv("soft.csv")
    ran = birdstack("evaluate", "predictions.csv", "soft.csv")
    assert f"macro AUC {competition(predictions, truth):.4f}" in ran.out
    assert "labels lie between 0 and 1: a class counts as present above 0" in ran.err
    strict = birdstack("evaluate", "predictions.csv", "soft.csv", "--present-above", 0.5)
    assert "2 classes skipped (no positives): 'wren', 'rook'" in strict.out


def test_unknown_labels_are_left_out(files) -> None:
    """Where the truth is empty, no score counts."""
    predictions, truth = files
    hidden = truth.with_columns(
        pl.when(pl.int_range(pl.len()) % 3 == 1).then(None).otherwise(pl.col("wren")).alias("wren")
    )
    hidden.write_csv("hidden.csv")
    [first, *_] = birdstack("evaluate", "predictions.csv", "hidden.csv", "--json").events[-1][
        "by_class"
    ]
    known = hidden["wren"].is_not_null()
    expected = roc_auc_score(hidden["wren"].filter(known), predictions["wren"].filter(known))
    assert first["auc"]["value"] == pytest.approx(expected, abs=1e-12)


def test_classes_in_common_are_scored_if_asked_for(files) -> None:
    """A class that predictions lack is refused otherwise, with the nearest name."""
    predictions, truth = files
    predictions.rename({"owl": "owls"}).write_csv("other.csv")
    refused = birdstack("evaluate", "other.csv", "truth.csv")
    assert refused.code == 2
    assert "other.csv: no column for 'owl'; the nearest is 'owls'" in refused.err
    ran = birdstack("evaluate", "other.csv", "truth.csv", "--common-classes")
    assert ran.code == 0
    assert "1 class left out for want of scores: 'owl'" in ran.err
    assert f"macro AUC {competition(predictions, truth.drop('owl')):.4f}" in ran.out


def test_files_of_a_run_are_scored_against_each_other_and_against_a_submission_truth(
    files, tmp_path: Path
) -> None:
    """Recordings, windows and their ends give the same rows, and so the same figures."""
    predictions, truth = files
    place = pl.col("row_id").str.extract_groups(r"^(?<recording_id>.+)_(?<end>\d+)$")
    keys = predictions.select(place.struct.unnest()).select(
        pl.format("test/{}.ogg", "recording_id").alias("recording_id"),
        window=pl.col("end").cast(pl.Int32) // 5 - 1,
        end_s=pl.col("end").cast(pl.Float64),
    )
    keys.write_parquet("rows.parquet")
    names = keys.drop("end_s")
    pl.concat([names, predictions.drop("row_id")], how="horizontal").write_parquet("p.parquet")
    pl.concat([names, truth.drop("row_id").cast(pl.Int8)], how="horizontal").write_parquet(
        "truth.parquet"
    )
    expected = birdstack("evaluate", "predictions.csv", "truth.csv", "--json").events[-1]
    for pair in (("p.parquet", "truth.parquet"), ("p.parquet", "truth.csv")):
        found = birdstack("evaluate", *pair, "--json").events[-1]
        assert found["macro_auc"] == expected["macro_auc"]
        assert found["recordings"] == 12


def damaged(frame: pl.DataFrame, how: str) -> str | bytes:
    """A submission with one fault."""
    text = frame.write_csv()
    lines = text.splitlines()
    cells = lines[5].split(",")
    faults = {
        "missing rows": "\n".join(lines[:50]) + "\n",
        "missing column": frame.drop("jay").write_csv(),
        "misspelt column": frame.rename({"jay": "jayy"}).write_csv(),
        "no row_id": frame.rename({"row_id": "id"}).write_csv(),
        "NaN": "\n".join([*lines[:5], ",".join([*cells[:2], "nan", *cells[3:]]), *lines[6:]]),
        "infinite": "\n".join([*lines[:5], ",".join([*cells[:2], "inf", *cells[3:]]), *lines[6:]]),
        "gap": "\n".join([*lines[:5], ",".join([*cells[:2], "", *cells[3:]]), *lines[6:]]),
        "string": "\n".join([*lines[:5], ",".join([*cells[:2], "high", *cells[3:]]), *lines[6:]]),
        "duplicate row": text + lines[5] + "\n",
        "cut off": text[:-7],
        "empty": "",
        "header only": lines[0] + "\n",
        "other rows": text.replace("site", "place"),
        "no table": b"RIFF" + bytes(100),
    }
    return faults[how]


SAID = {
    "missing rows": "11 of the 60 rows of truth.csv are missing: 'site_09_25', 'site_10_5', "
    "'site_10_10' and 8 more",
    "missing column": "no column for 'jay'",
    "misspelt column": "no column for 'jay'; the nearest is 'jayy'",
    "no row_id": "column 'row_id' is missing",
    "NaN": "line 6 (row_id 'site_00_25'), column 'owl': a score must be a finite number, got "
    "nothing or NaN",
    "infinite": "line 6 (row_id 'site_00_25'), column 'owl': a score must be a finite number, "
    "got inf",
    "gap": "line 6 (row_id 'site_00_25'), column 'owl': a score must be a finite number",
    "string": "line 6 (row_id 'site_00_25'), column 'owl': a score must be a finite number, got "
    "'high'",
    "duplicate row": "line 6 (row_id 'site_00_25') and line 62 (row_id 'site_00_25') are the "
    "same window",
    "cut off": "line 61: 4 fields, and the header has 5",
    "empty": "the file is empty",
    "header only": "the table has no rows",
    "other rows": "60 of the 60 rows of truth.csv are missing: 'site_00_5', 'site_00_10', "
    "'site_00_15' and 57 more; the first row here is 'place_00_5'",
    "no table": "this is a WAV file, not CSV",
}


@pytest.mark.parametrize("how", [*SAID])
def test_a_submission_with_a_fault_is_refused(files, how: str) -> None:
    """Exit code 2; file, row, column, rule and value, and what to do; nothing is written."""
    content = damaged(files[0], how)
    Path("bad.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    ran = birdstack("evaluate", "bad.csv", "truth.csv", "--out", "figures.json")
    assert ran.code == 2
    assert SAID[how] in ran.err
    assert "error: bad.csv: " in ran.err
    assert "\n  remedy: " in ran.err
    assert not Path("figures.json").exists()
    [failed] = birdstack("evaluate", "bad.csv", "truth.csv", "--json").named("failed")
    assert failed["error"].startswith("bad.csv: ")
    assert failed["remedy"]
    against = birdstack("evaluate", "predictions.csv", "truth.csv", "--against", "bad.csv")
    assert against.code == 2
    assert "error: bad.csv: " in against.err


def test_a_truth_without_positives_is_refused(files) -> None:
    """There is nothing to be found; also where a limit is set too high."""
    truth = files[1]
    truth.with_columns(pl.lit(0).alias(name) for name in CLASSES).write_csv("none.csv")
    ran = birdstack("evaluate", "predictions.csv", "none.csv")
    assert ran.code == 2
    assert "none.csv: no label of its 4 classes is 1: without positives there is no AUC" in ran.err
    truth.with_columns(pl.col(name) * 0.5 for name in CLASSES).write_csv("soft.csv")
    high = birdstack("evaluate", "predictions.csv", "soft.csv", "--present-above", 0.7)
    assert "no label of its 4 classes is above 0.7" in high.err


def test_a_truth_of_positives_alone_has_no_auc(files) -> None:
    """The class is skipped with its own reason."""
    files[1].with_columns(owl=pl.lit(1)).write_csv("always.csv")
    ran = birdstack("evaluate", "predictions.csv", "always.csv")
    assert ran.code == 0
    assert "1 class skipped (no negatives): 'owl'" in ran.out


def test_labels_out_of_range_are_refused(files) -> None:
    """A truth that is a submission, with scores beyond 1."""
    ran = birdstack("evaluate", "truth.csv", "predictions.csv")
    assert ran.code == 2
    assert "a label must be 1, 0, a share between, or empty, got 1." in ran.err


def test_one_recording_has_no_interval(files) -> None:
    """The figure is there all the same; few recordings are said to be few."""
    files[1].head(5).write_csv("one.csv")
    ran = birdstack("evaluate", "predictions.csv", "one.csv")
    assert ran.code == 0
    assert "[" not in ran.out.split("macro AUC")[1].splitlines()[0]
    assert "1 recording: too few for an interval" in ran.err


def test_where_figures_go_is_checked_first(files) -> None:
    """A name of another kind, a folder, a folder that is not there."""
    words = ("evaluate", "predictions.csv", "truth.csv", "--out")
    assert "must end in .json or .csv" in birdstack(*words, "figures.xlsx").err
    assert "there is no folder deep" in birdstack(*words, "deep/figures.json").err
    Path("folder.csv").mkdir()
    assert "is a folder" in birdstack(*words, "folder.csv").err
    assert birdstack(*words, "figures.xlsx").code == 2


def test_files_that_are_not_there_are_wrong_usage(files) -> None:
    """Each of the three."""
    for words in (("no.csv", "truth.csv"), ("predictions.csv", "no.csv")):
        ran = birdstack("evaluate", *words)
        assert (ran.code, "no.csv: no such file" in ran.err) == (2, True)


def test_the_demo_data_are_scored(tmp_path: Path) -> None:
    """Its sample submission knows nothing: every AUC is a half; its truth is read as it stands."""
    folder = tmp_path / "demo"
    assert birdstack("demo", folder, "--size", "small", "--species", 2).code == 0
    sample, truth = folder / "sample_submission.csv", folder / "test_soundscapes_truth.csv"
    figures = birdstack("evaluate", sample, truth, "--json").events[-1]
    assert figures["macro_auc"]["value"] == 0.5
    assert read_labels(truth).row_id == read_row_table(sample).row_id
    assert figures["truth"] == str(truth)
