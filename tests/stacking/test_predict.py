"""`birdstack predict`: what it writes, what it survives, what it refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile as sf
from support.command import Ran, birdstack
from support.small_bundles import SmallRun, done, small_run

from birdstack.stacking import run_predict as module
from birdstack.stacking.budget import Choice, Offer, choose
from birdstack.stacking.bundle import load_bundle
from birdstack.stacking.predict_parts import PredictParts
from birdstack.stacking.predictor import Predictor
from birdstack.stacking.submission import logistic
from birdstack.store.errors import UsageError

RATE_HZ = 32_000
CLASSES = ["bird0", "bird1", "bird2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A stack of whistles; read only."""
    return small_run(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def bundle(made: SmallRun) -> Path:
    """Its bundle; read only."""
    out = made.run.parent / "bundle"
    done(birdstack("export", made.run, "--out", out))
    return out


@pytest.fixture
def folder(made: SmallRun, tmp_path: Path) -> Path:
    """Soundscapes of one's own: four of 19 s, two of them in a folder below."""
    root = tmp_path / "soundscapes"
    (root / "below").mkdir(parents=True)
    for number, path in enumerate([*sorted(made.soundscapes.glob("*.ogg"))] * 2):
        into = root / "below" if number > 1 else root
        shutil.copyfile(path, into / f"SITE{number}_20240501_053000.ogg")
    return root


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings leak in from where the tests run."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("BIRDSTACK_") and "TEST" not in n]:
        monkeypatch.delenv(name)


def predict(folder: Path, bundle: Path, out: Path, *words: object) -> Ran:
    """One worker: tests share the machine."""
    return birdstack("predict", folder, "--bundle", bundle, "--out", out, "--workers", 1, *words)


def _skips(out: Path) -> dict[str, dict[str, str]]:
    with (out / "skipped.csv").open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def _noise(path: Path, seconds: float, rate_hz: int = RATE_HZ, level: float = 0.1) -> None:
    noise = level * np.random.default_rng(3).normal(size=round(seconds * rate_hz))
    sf.write(path, noise.astype(np.float32), rate_hz)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Recordings that are decoded from now on."""
    names: list[str] = []
    real = Predictor.open

    def open_(self: Predictor, recording: Any) -> Any:
        names.append(recording.recording_id)
        return real(self, recording)

    monkeypatch.setattr(Predictor, "open", open_)
    return names


# --- what comes out -----------------------------------------------------------------------------


def test_a_submission_has_a_row_for_each_window(folder: Path, bundle: Path, tmp_path: Path) -> None:
    """Stem and end second, classes in the order of the bundle, values within (0, 1)."""
    done(predict(folder, bundle, tmp_path / "out"))
    rows = pl.read_csv(tmp_path / "out" / "submission.csv")
    assert rows.columns == ["row_id", *CLASSES]
    assert rows["row_id"].to_list()[:5] == [
        *(f"SITE0_20240501_053000_{end}" for end in (5, 10, 15, 20)),
        "SITE1_20240501_053000_5",
    ]
    assert rows.height == 16
    values = rows.select(CLASSES).to_numpy()
    assert ((values > 0) & (values < 1)).all()
    assert not _skips(tmp_path / "out")


def test_parquet_holds_the_same_values_with_keys(
    folder: Path, bundle: Path, tmp_path: Path
) -> None:
    """recording_id, window, start and end, then the classes."""
    done(predict(folder, bundle, tmp_path / "out"))
    rows = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert rows.columns == ["recording_id", "window", "start_s", "end_s", *CLASSES]
    assert rows["recording_id"].unique(maintain_order=True).to_list() == [
        "SITE0_20240501_053000.ogg",
        "SITE1_20240501_053000.ogg",
        "below/SITE2_20240501_053000.ogg",
        "below/SITE3_20240501_053000.ogg",
    ]
    first = rows.head(4)
    assert first["window"].to_list() == [0, 1, 2, 3]
    assert first["end_s"].to_list() == [5.0, 10.0, 15.0, 20.0]
    submitted = pl.read_csv(tmp_path / "out" / "submission.csv")
    assert sorted(rows[CLASSES[0]].to_list()) == sorted(submitted[CLASSES[0]].to_list())


def test_values_are_the_logistic_of_the_scores(folder: Path, bundle: Path, tmp_path: Path) -> None:
    """To the last digit, so that ranks read back are ranks that were computed."""
    done(predict(folder, bundle, tmp_path / "out"))
    with Predictor(load_bundle(bundle)) as predictor:
        scores, _ = predictor.recording(folder / "SITE0_20240501_053000.ogg")
    rows = pl.read_csv(tmp_path / "out" / "submission.csv")
    found = rows.filter(pl.col("row_id").str.starts_with("SITE0_")).select(CLASSES).to_numpy()
    np.testing.assert_array_equal(found, logistic(scores))


def test_one_file_may_be_named(folder: Path, bundle: Path, tmp_path: Path) -> None:
    """In place of a folder."""
    done(predict(folder / "SITE1_20240501_053000.ogg", bundle, tmp_path / "out"))
    assert pl.read_csv(tmp_path / "out" / "submission.csv").height == 4


def test_files_of_one_name_are_told_apart(folder: Path, bundle: Path, tmp_path: Path) -> None:
    """Recorders name files by time: rows of such files are called by their path."""
    shutil.copyfile(
        folder / "SITE0_20240501_053000.ogg", folder / "below" / "SITE0_20240501_053000.ogg"
    )
    done(predict(folder, bundle, tmp_path / "out"))
    names = pl.read_csv(tmp_path / "out" / "submission.csv")["row_id"]
    assert names.n_unique() == len(names) == 20
    assert "below_SITE0_20240501_053000_5" in names.to_list()
    assert "SITE2_20240501_053000_5" in names.to_list()


# --- again, and after an interruption ------------------------------------------------------------


def test_a_second_run_hears_only_what_is_new(
    folder: Path, bundle: Path, tmp_path: Path, opened: list[str]
) -> None:
    """A new file is heard, a changed one again, the others are not."""
    out = tmp_path / "out"
    done(predict(folder, bundle, out))
    opened.clear()
    before = (out / "submission.csv").read_bytes()
    done(predict(folder, bundle, out))
    assert not opened
    assert (out / "submission.csv").read_bytes() == before
    _noise(folder / "new.wav", 10)
    _noise(folder / "SITE1_20240501_053000.ogg", 12)
    done(predict(folder, bundle, out))
    assert sorted(opened) == ["SITE1_20240501_053000.ogg", "new.wav"]
    assert pl.read_csv(out / "submission.csv").height == 16 - 4 + 2 + 2


def test_damaged_parts_are_done_again(
    folder: Path, bundle: Path, tmp_path: Path, opened: list[str]
) -> None:
    """A file of scores with another byte, one that is gone, and a torn line of the journal."""
    out = tmp_path / "out"
    done(predict(folder, bundle, out))
    before = (out / "submission.csv").read_bytes()
    parts = sorted((out / "work" / "scores").glob("*.npy"))
    parts[0].write_bytes(parts[0].read_bytes()[:-1] + b"x")
    parts[1].unlink()
    journal = out / "work" / "done.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    opened.clear()
    done(predict(folder, bundle, out))
    assert 2 <= len(opened) <= 3, "the torn line may be that of a damaged part"
    assert (out / "submission.csv").read_bytes() == before
    opened.clear()
    done(predict(folder, bundle, out))
    assert not opened


def test_ctrl_c_keeps_what_is_finished(
    folder: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    """Exit code 130, no submission; the next run does the rest and ends as if nothing was."""
    done(predict(folder, bundle, tmp_path / "whole"))
    real, calls = Predictor.hear, []

    def hear(self: Predictor, *arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, *arguments, **more)

    monkeypatch.setattr(Predictor, "hear", hear)
    out = tmp_path / "out"
    ran = predict(folder, bundle, out, "--json")
    assert (ran.code, ran.events[-1]["event"]) == (130, "finished")
    assert not (out / "submission.csv").exists()
    monkeypatch.setattr(Predictor, "hear", real)
    opened.clear()
    done(predict(folder, bundle, out))
    assert 0 < len(opened) < 4
    whole = (tmp_path / "whole" / "submission.csv").read_bytes()
    assert (out / "submission.csv").read_bytes() == whole


@pytest.mark.slow
def test_a_killed_run_goes_on(folder: Path, bundle: Path, tmp_path: Path) -> None:
    """SIGKILL amid the work: what was finished is kept, and the end is the same."""
    for number in range(24):
        _noise(folder / f"noise{number:02d}.wav", 20)
    done(predict(folder, bundle, tmp_path / "whole"))
    out = tmp_path / "out"
    journal = out / "work" / "done.jsonl"
    words = ["predict", folder, "--bundle", bundle, "--out", out, "--workers", "1"]
    script = f"from birdstack.stacking.cli import app; app({[str(w) for w in words]!r})"
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline_s = time.monotonic() + 100
    while time.monotonic() < deadline_s and process.poll() is None:
        if journal.is_file() and journal.read_bytes().count(b"\n") >= 2:
            break
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (out / "submission.csv").exists(), "it was quicker than the kill"
    kept = journal.read_bytes().count(b"\n")
    assert kept >= 2
    ran = done(predict(folder, bundle, out, "--json"))
    assert ran.events[-1]["already"] >= kept
    assert ran.events[-1]["heard"] == 28 - ran.events[-1]["already"]
    whole = (tmp_path / "whole" / "submission.csv").read_bytes()
    assert (out / "submission.csv").read_bytes() == whole


def test_results_of_two_bundles_are_not_mixed(folder: Path, bundle: Path, tmp_path: Path) -> None:
    """Nor of other fold models: the folder says whose they are."""
    out = tmp_path / "out"
    done(predict(folder, bundle, out))
    ran = predict(folder, bundle, out, "--fold-models", 2)
    assert ran.code == 2
    assert "fold_models was [0, 1, 2], is [0, 1]" in ran.err


# --- files that cannot be used -------------------------------------------------------------------


def test_bad_files_are_listed_and_the_rest_is_done(
    folder: Path, bundle: Path, tmp_path: Path
) -> None:
    """Too short, cut off in its header, text in an audio name, a folder with such a name."""
    _noise(folder / "short.wav", 1.0)
    (folder / "text.ogg").write_text("not audio")
    (folder / "empty.flac").touch()
    (folder / "folder.wav").mkdir()
    (folder / "notes.txt").write_text("ignored")
    ran = predict(folder, bundle, tmp_path / "out", "--json")
    assert ran.code == 3, ran.err
    skips = _skips(tmp_path / "out")
    assert set(skips) == {"empty.flac", "folder.wav", "short.wav", "text.ogg"}
    assert skips["short.wav"]["code"] == "too_short"
    assert all(row["reason"] for row in skips.values())
    assert {event["recording_id"] for event in ran.named("skipped")} == set(skips)
    assert pl.read_csv(tmp_path / "out" / "submission.csv").height == 16


def test_what_a_header_promises_gets_rows(
    folder: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submission lacks no row: a file that fails amid its sound stands at each class's mean."""
    _noise(folder / "fails.wav", 12)
    real = Predictor.hear

    def hear(self: Predictor, sound: Any, recording: Any, **more: Any) -> Any:
        if recording.recording_id == "fails.wav":
            message = "it broke"
            raise ValueError(message)
        return real(self, sound, recording, **more)

    monkeypatch.setattr(Predictor, "hear", hear)
    ran = predict(folder, bundle, tmp_path / "out")
    assert ran.code == 3
    assert "2 rows of the submission were not heard" in ran.err
    row = _skips(tmp_path / "out")["fails.wav"]
    assert (row["code"], row["rows"]) == ("extractor_error", "2")
    assert "ValueError: it broke" in row["reason"]
    rows = pl.read_csv(tmp_path / "out" / "submission.csv")
    prior = rows.filter(pl.col("row_id").str.starts_with("fails_")).select(CLASSES).to_numpy()
    heard = rows.filter(~pl.col("row_id").str.starts_with("fails_")).select(CLASSES).to_numpy()
    mean = np.log(heard / (1 - heard)).mean(axis=0)
    np.testing.assert_allclose(prior, np.tile(logistic(mean), (2, 1)), atol=1e-6)
    parquet = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert "fails.wav" not in parquet["recording_id"].to_list()


def test_nothing_usable_is_a_failure(tmp_path: Path, bundle: Path) -> None:
    """Exit code 1; the files are there all the same, the submission with a header alone."""
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "text.ogg").write_text("not audio")
    ran = predict(folder, bundle, tmp_path / "out")
    assert ran.code == 1
    assert pl.read_csv(tmp_path / "out" / "submission.csv").columns == ["row_id", *CLASSES]
    assert pl.read_parquet(tmp_path / "out" / "predictions.parquet").height == 0


def test_other_rates_channels_and_silence_are_heard(tmp_path: Path, bundle: Path) -> None:
    """Resampled, mixed, and silence scored like any sound."""
    folder = tmp_path / "odd"
    folder.mkdir()
    _noise(folder / "slow.wav", 10, rate_hz=16_000)
    _noise(folder / "silent.wav", 10, level=0.0)
    both = np.random.default_rng(0).normal(size=(10 * 44_100, 2)) * 0.1
    sf.write(folder / "stereo.flac", both, 44_100)
    ran = predict(folder, bundle, tmp_path / "out")
    assert ran.code == 0, ran.out + ran.err
    rows = pl.read_csv(tmp_path / "out" / "submission.csv")
    assert rows.height == 6
    assert np.isfinite(rows.select(CLASSES).to_numpy()).all()


def test_a_recording_that_ends_early_is_heard_and_noted(
    folder: Path, bundle: Path, tmp_path: Path
) -> None:
    """Sound that breaks off counts as far as it goes, as it does in a store."""
    _noise(folder / "cut.wav", 20)
    data = (folder / "cut.wav").read_bytes()
    (folder / "cut.wav").write_bytes(data[: len(data) // 2])
    ran = predict(folder, bundle, tmp_path / "out")
    assert ran.code == 0, ran.out + ran.err
    lines = (tmp_path / "out" / "work" / "done.jsonl").read_text().splitlines()
    (cut,) = [each for each in map(json.loads, lines) if each["recording_id"] == "cut.wav"]
    assert cut["windows"] == 2
    assert cut["notes"].get("truncated")


@pytest.mark.parametrize(
    ("name", "said"), [("absent", "no such folder"), ("hollow", "no audio file")]
)
def test_wrong_folders_are_wrong_usage(tmp_path: Path, bundle: Path, name: str, said: str) -> None:
    """One that is not there, one without audio."""
    (tmp_path / "hollow").mkdir()
    (tmp_path / "hollow" / "notes.txt").write_text("nothing")
    ran = predict(tmp_path / name, bundle, tmp_path / "out")
    assert ran.code == 2
    assert said in ran.err


def test_something_must_say_what_predicts(folder: Path, bundle: Path, made: SmallRun) -> None:
    """A bundle or a run, not both, not none."""
    for words in ([], ["--bundle", bundle, "--stack", made.run]):
        ran = birdstack("predict", folder, "--out", "out", *words)
        assert ran.code == 2
        assert "--bundle" in ran.err


def test_a_damaged_bundle_predicts_nothing(folder: Path, bundle: Path, tmp_path: Path) -> None:
    """Exit code 1, with the file."""
    broken = Path(shutil.copytree(bundle, tmp_path / "broken"))
    (broken / "stack" / "weights.json").write_text("{}")
    ran = predict(folder, broken, tmp_path / "out")
    assert ran.code == 1
    assert "weights.json" in ran.err
    assert not (tmp_path / "out").exists()


def test_a_run_is_exported_on_the_way(made: SmallRun, folder: Path, tmp_path: Path) -> None:
    """Once: the second prediction finds the bundle beside the run."""
    run = Path(shutil.copytree(made.run, tmp_path / "run"))
    words = ["--stack", run, "--workers", 1]
    first = done(birdstack("predict", folder, "--out", tmp_path / "a", *words))
    assert "exporting" in first.out
    again = done(birdstack("predict", folder, "--out", tmp_path / "b", *words))
    assert "exporting" not in again.out
    assert (tmp_path / "a" / "submission.csv").read_bytes() == (
        tmp_path / "b" / "submission.csv"
    ).read_bytes()


# --- plans and budgets ---------------------------------------------------------------------------


def test_a_dry_run_writes_nothing(folder: Path, bundle: Path, tmp_path: Path) -> None:
    """It says what would be done."""
    ran = predict(folder, bundle, tmp_path / "out", "--dry-run")
    assert ran.code == 0
    assert "4 files" in ran.out
    assert not (tmp_path / "out").exists()


def test_a_budget_that_is_ample_keeps_everything(
    folder: Path, bundle: Path, tmp_path: Path
) -> None:
    """All fold models, and a projection that fits."""
    ran = predict(folder, bundle, tmp_path / "out", "--budget-minutes", 60, "--json")
    assert ran.code == 0
    (chosen,) = ran.named("chosen")
    assert (chosen["fold_models"], chosen["fits"]) == (3, True)
    assert chosen["total_s"] < 3600


def test_a_budget_that_nothing_fits_takes_the_quickest(
    folder: Path, bundle: Path, tmp_path: Path
) -> None:
    """And says so, rather than leave a competition without a submission."""
    words = ["--budget-minutes", 0.2, "--files", 10_000_000, "--dry-run"]
    ran = predict(folder, bundle, tmp_path / "out", *words)
    assert ran.code == 0
    assert "nothing fits the budget" in ran.err


def test_a_budget_gives_up_fold_models_before_it_gives_up(
    folder: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest number of fold models that fits is chosen, all else equal."""
    monkeypatch.setattr(
        "birdstack.stacking.budget._file_s", lambda _b, _e, folds, _s, _w: 1.0 + folds
    )
    names = [path.name for path in folder.glob("*.ogg")]
    found = choose(load_bundle(bundle), folder, names, limit_s=400, n_files=100, workers=1)
    assert found.fits
    assert found.offer == Offer("openvino", 2, 3.0, pytest.approx(345.0))  # type: ignore[arg-type]
    assert [offer.fold_models for offer in found.offers] == [3, 2, 1]


def test_an_interrupted_run_keeps_its_choice(
    folder: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not timed again: scores of two choices would be mixed."""
    offer = Offer("openvino", 2, 1.0, 4.0)
    monkeypatch.setattr(module, "choose", lambda *_, **__: Choice(offer, (offer,), True, 0.0, 1))
    out = tmp_path / "out"
    done(predict(folder, bundle, out, "--budget-minutes", 1))
    monkeypatch.setattr(module, "choose", lambda *_, **__: pytest.fail("timed again"))
    ran = done(predict(folder, bundle, out, "--budget-minutes", 1))
    assert "going on" in ran.out
    assert "2 fold models" in ran.out


@pytest.mark.parametrize("files", ["0", "some", "-3"])
def test_files_is_a_number_or_all(folder: Path, bundle: Path, tmp_path: Path, files: str) -> None:
    """Anything else is wrong usage."""
    ran = predict(folder, bundle, tmp_path / "out", f"--files={files}")
    assert ran.code == 2


def test_bfloat16_on_a_processor_without_it_is_said(
    folder: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle may be carried to any machine."""
    monkeypatch.setattr(module, "native_bf16", lambda: False)
    ran = done(predict(folder, bundle, tmp_path / "out", "--engine", "openvino-bf16", "--dry-run"))
    assert "does not multiply bfloat16" in ran.err


# --- the parts -----------------------------------------------------------------------------------


def test_parts_of_another_plan_are_refused(tmp_path: Path) -> None:
    """Naming what differs."""
    PredictParts(tmp_path, {"bundle": "a", "engine": "torch"}).close()
    with pytest.raises(UsageError, match="engine was 'torch', is 'openvino'"):
        PredictParts(tmp_path, {"bundle": "a", "engine": "openvino"})


def test_parts_keep_scores_bit_for_bit(tmp_path: Path) -> None:
    """Through a process's end."""
    scores = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    parts = PredictParts(tmp_path, {})
    parts.add("a/b.ogg", "hash", scores, {"truncated": True})
    parts.close()
    again = PredictParts(tmp_path, {})
    found = again.finished("a/b.ogg", "hash")
    assert found is not None
    assert (found.windows, found.notes) == (5, {"truncated": True})
    assert again.finished("a/b.ogg", "other") is None
    np.testing.assert_array_equal(again.scores("a/b.ogg"), scores)
    again.close()


def test_the_logistic_keeps_the_order() -> None:
    """Of neighbouring float32 scores, far beyond what a stack gives."""
    scores = np.float32([-60, -20, -3, 0.01, 3, 12, 20])
    pairs = np.stack([scores, np.nextafter(scores, np.float32(np.inf))])
    low, high = logistic(pairs)
    assert (low < high).all()
    assert ((low > 0) & (high < 1)).all()
    assert (logistic(np.float32([-1e6, 1e6])) > 0).all()
    assert (logistic(np.float32([-1e6, 1e6])) < 1).all()


def test_events_are_written_beside_and_anew(folder: Path, bundle: Path, tmp_path: Path) -> None:
    """The same events as `birdstack events` finds in the predictions; a wrong format is said."""
    out = tmp_path / "out"
    done(predict(folder, bundle, out, "--events", "raven", "--threshold", 0.4))
    done(birdstack("events", out / "predictions.parquet", "--out", tmp_path / "same",
                   "--threshold", 0.4, "--format", "raven"))  # fmt: skip
    found = pl.read_csv(out / "events" / "events.csv")
    assert found.equals(pl.read_csv(tmp_path / "same" / "events.csv"))
    assert len(found) > 0
    assert not (out / "events" / "audacity").exists()
    done(predict(folder, bundle, out, "--events", "audacity", "--threshold", 0.99))
    assert len(pl.read_csv(out / "events" / "events.csv")) < len(found)
    wrong = predict(folder, bundle, out, "--events", "ravn")
    assert wrong.code == 2
    assert "'ravn'" in wrong.err
