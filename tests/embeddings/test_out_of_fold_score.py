"""Scores of logits in the store: pooled and within folds, over windows and recordings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score
from support.aviary import BIRDS, LABELS_CONFIG, Aviary, make_aviary, rows_of

from birdstack.embeddings.linear_head import HeadConfig
from birdstack.embeddings.out_of_fold_score import Score, score_frame, score_view
from birdstack.store.labels import LabelsConfig
from birdstack.store.table_writer import write_tables
from birdstack.store.tables import LABELS


@pytest.fixture
def aviary(tmp_path: Path) -> Aviary:
    """A store with logits of heads that are far from perfect."""
    made = make_aviary(tmp_path)
    made.hear()
    model, _ = made.fit(tmp_path / "models", HeadConfig(l2=300.0, max_iterations=2))
    made.fill(*made.head_logits(model))
    rng = np.random.default_rng(0)
    # Wrong labels afterwards: without them the whistles rank perfectly.
    made.primary = {i: str(rng.permutation(BIRDS)[0]) for i in made.primary}
    made.write()
    return made


def _scores(aviary: Aviary, labels: LabelsConfig = LABELS_CONFIG) -> tuple[Score, Score]:
    window, recording = score_view(aviary.store.snapshot(), "logits/toy", labels)
    assert (window.level, recording.level) == ("window", "recording")
    return window, recording


def _truth(aviary: Aviary, names: pl.Series) -> np.ndarray:
    return np.array([[aviary.primary[i] == bird for bird in BIRDS] for i in names])


def test_scores_are_scikit_learns(aviary: Aviary) -> None:
    """Over windows, and over recordings' mean logits; all folds in one pot."""
    rows = rows_of(aviary.store.snapshot(), "logits/toy")
    window, recording = _scores(aviary)
    expected = roc_auc_score(_truth(aviary, rows["recording_id"]), rows.select(BIRDS).to_numpy())
    assert window.auc.value == pytest.approx(expected, abs=1e-9)
    means = rows.group_by("recording_id", maintain_order=True).agg(pl.col(BIRDS).mean())
    expected = roc_auc_score(_truth(aviary, means["recording_id"]), means.select(BIRDS).to_numpy())
    assert recording.auc.value == pytest.approx(expected, abs=1e-3)
    assert 0.2 < expected < 0.95
    assert (window.rows, window.windows) == (len(rows), len(rows))
    assert (recording.rows, recording.recordings, recording.windows) == (18, 18, len(rows))


def test_within_folds_is_the_mean_of_the_folds(aviary: Aviary) -> None:
    """Each fold model's scale is its own: adding a constant to one changes the pooled value only."""
    rows = rows_of(aviary.store.snapshot(), "logits/toy")
    window, _ = _scores(aviary)
    parts = []
    for fold in range(3):
        mine = rows.filter(pl.col("fold") == fold)
        truth, scores = _truth(aviary, mine["recording_id"]), mine.select(BIRDS).to_numpy()
        both = [i for i in range(3) if 0 < truth[:, i].sum() < len(truth)]
        parts.append(np.mean([roc_auc_score(truth[:, i], scores[:, i]) for i in both]))
    assert window.within_folds == pytest.approx(np.mean(parts), abs=1e-9)
    assert window.within_folds != pytest.approx(window.auc.value, abs=1e-6)


def test_unlabelled_recordings_take_no_part(aviary: Aviary) -> None:
    """Nor does a class where it is not known: a masked secondary label."""
    before, _ = _scores(aviary)
    name = "0/0"
    other = next(bird for bird in BIRDS if bird != aviary.primary[name])
    labels = pl.concat(
        [
            aviary.store.table("labels"),
            pl.DataFrame(
                [{"recording_id": name, "label": other, "role": "secondary"}], schema=LABELS
            ),
        ]
    )
    write_tables(aviary.store, {("labels", "toy"): labels}, operation="ingest")
    masked, _ = _scores(aviary)
    present, _ = _scores(aviary, LabelsConfig(secondary="present"))
    place = BIRDS.index(other)
    rows = rows_of(aviary.store.snapshot(), "logits/toy")
    known = (rows["recording_id"] != name).to_numpy()
    truth, scores = _truth(aviary, rows["recording_id"])[:, place], rows[other].to_numpy()
    expected = roc_auc_score(truth[known], scores[known])
    assert masked.auc.per_class[place] == pytest.approx(expected, abs=1e-9)
    assert len({s.auc.per_class[place] for s in (before, masked, present)}) == 3


def test_a_recording_has_the_strongest_label_of_its_windows(aviary: Aviary) -> None:
    """Present in one window is present; a label with times makes the others absent."""
    labels = aviary.store.table("labels").with_columns(
        start_s=pl.when(pl.col("recording_id") == "0/1").then(0.0),
        end_s=pl.when(pl.col("recording_id") == "0/1").then(0.5),
    )
    whole, whole_recordings = _scores(aviary)
    write_tables(aviary.store, {("labels", "toy"): labels}, operation="ingest")
    timed, timed_recordings = _scores(aviary)
    np.testing.assert_array_equal(timed_recordings.auc.per_class, whole_recordings.auc.per_class)
    assert not np.array_equal(timed.auc.per_class, whole.auc.per_class)


def test_a_class_without_positives_is_skipped_and_said(aviary: Aviary) -> None:
    """It stands in no mean, and its number is told."""
    aviary.primary = {i: "bird0" if b == "bird2" else b for i, b in aviary.primary.items()}
    aviary.write()
    window, _ = _scores(aviary)
    row = window.row("abc")
    assert np.isnan(window.auc.per_class[2])
    assert (row["classes"], row["skipped_classes"]) == (2, 1)
    details = json.loads(row["details"])
    assert details["per_class"].keys() == {"bird0", "bird1"}
    assert row["value"] == pytest.approx(np.mean(list(details["per_class"].values())), abs=1e-6)


def test_rows_of_the_table_are_the_scores(aviary: Aviary) -> None:
    """Schema, key columns and strict JSON, also where nothing could be ranked."""
    aviary.primary = dict.fromkeys(aviary.primary, "bird0")
    aviary.write()
    frame = score_frame(list(_scores(aviary)), "abc")
    write_tables(aviary.store, {("scores", "logits/toy/x"): frame}, operation="score")
    told = aviary.store.table("scores")
    assert told["level"].to_list() == ["window", "recording"]
    assert told["split"].to_list() == ["abc", "abc"]
    assert told["recipe"].unique().to_list() == [aviary.store.snapshot().recipe_of("logits/toy")]
    assert told["classes"].to_list() == [0, 0]
    for text in told["details"]:
        assert json.loads(text, parse_constant=pytest.fail) == {
            "within_folds": None,
            "per_class": {},
        }


def test_a_moved_fold_is_scored_where_it_lies(aviary: Aviary) -> None:
    """A recording that left the split is judged no more."""
    aviary.fold.pop("1/1")
    aviary.write(split="second")
    window, recording = _scores(aviary)
    assert (recording.recordings, recording.rows) == (17, 17)
    assert window.rows < len(rows_of(aviary.store.snapshot(), "logits/toy"))
