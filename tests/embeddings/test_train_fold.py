"""A fold is trained, killed, taken up again, refused: a network of .15 M weights on whistles."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from support.tones import BACKBONE, GRID, MEL, QUICK, ToneSource, tone_set

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors import safe_open  # noqa: E402 - with torch
from safetensors.torch import load_file  # noqa: E402 - with torch

from birdstack.embeddings.auc import macro_auc  # noqa: E402 - with torch
from birdstack.embeddings.fold_files import FoldFiles  # noqa: E402 - with torch
from birdstack.embeddings.metrics_log import read_metrics  # noqa: E402 - with torch
from birdstack.embeddings.network import build_network, make_input  # noqa: E402 - with torch
from birdstack.embeddings.train_fold import train_fold  # noqa: E402 - with torch
from birdstack.store.errors import BirdstackError, ConfigError, StoreError  # noqa: E402 - with torch

SHORT = QUICK.model_copy(update={"epochs": 2})
TESTS = Path(__file__).resolve().parent.parent


def _train(folder: Path, train=SHORT, *, data=None, source=None, config=BACKBONE, **further):
    return train_fold(
        config,
        train,
        data or tone_set(),
        held_out_fold=further.pop("fold", 0),
        folder=folder,
        source=source or ToneSource(),
        grid=GRID,
        **further,
    )


def _same(one: Path, other: Path) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def _without_clock(path: Path) -> list[dict]:
    rows = read_metrics(path)
    return [{k: v for k, v in row.items() if k not in ("seconds", "windows_per_s")} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder with a short training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    _train(folder)
    return folder


def test_it_learns_and_what_it_writes_is_the_network(tmp_path: Path) -> None:
    """Loss falls, held-out AUC passes .8, and the written weights give that AUC elsewhere."""
    told = []
    result = _train(tmp_path, QUICK, on_progress=told.append)
    rows = read_metrics(tmp_path / "fold-0.metrics.jsonl")
    assert result.status == "trained"
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert result.macro_auc > 0.8
    assert result.macro_auc == rows[-1]["val_macro_auc"] == told[-1].macro_auc
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
    assert sum("val_macro_auc" in row for row in rows) == QUICK.epochs
    assert (told[-1].step, told[-1].epoch) == (told[-1].steps, QUICK.epochs)
    with safe_open(result.weights, framework="pt") as file:
        assert json.loads(file.metadata()["classes"]) == ["bird0", "bird1", "bird2"]
    assert not (tmp_path / "fold-0.checkpoint").exists()

    data, source = tone_set(), ToneSource()
    config = BACKBONE.model_copy(update={"weights": str(result.weights)})
    network = build_network(config, 3, window_s=1.0, classes=data.classes)
    prepare = make_input(config, 1.0).prepare
    scores, truth = [], []
    for index in data.split(0)[1]:
        sound = source.open(data.recordings[index])
        pictures = torch.from_numpy(np.stack([prepare(window) for window in sound.windows()]))
        with torch.inference_mode():
            scores.append(network(pictures)[1].numpy())
        truth.append(data.truth(index, sound.n_windows))
    found = macro_auc(np.concatenate(scores), np.concatenate(truth))
    assert found.value == pytest.approx(result.macro_auc, abs=1e-9)
    assert result.per_class == pytest.approx(dict(zip(data.classes, found.per_class, strict=True)))


@pytest.mark.parametrize("loss", ["bce", "focal"])
def test_other_losses_learn_too(tmp_path: Path, loss: str) -> None:
    """With binary losses, at the head's prior, on every kind of augmentation."""
    chances = {name: 0.2 for name in type(QUICK).model_fields if name.endswith("_p")}
    train = QUICK.model_copy(update={"loss": loss, "epochs": 8, "validate_every": 8, **chances})
    assert _train(tmp_path, train).macro_auc > 0.75


def test_the_held_out_fold_is_not_trained_on(tmp_path: Path, whole: Path) -> None:
    """Labels of the held-out fold change nothing in the weights."""
    data = tone_set()
    held_out = data.fold == 0
    labels = np.where(held_out[:, None], np.roll(data.labels, 1, axis=1), data.labels)
    _train(tmp_path, data=dataclasses.replace(data, labels=labels))
    assert _same(tmp_path / "fold-0.safetensors", whole / "fold-0.safetensors")


def test_the_seed_determines_the_network(tmp_path: Path, whole: Path) -> None:
    """The same seed gives the same bits, whatever the checkpoints; another seed others."""
    _train(tmp_path / "a", SHORT.model_copy(update={"checkpoint_every_s": 0.0, "log_every": 5}))
    assert _same(tmp_path / "a" / "fold-0.safetensors", whole / "fold-0.safetensors")
    _train(tmp_path / "b", SHORT.model_copy(update={"seed": 1}))
    assert not _same(tmp_path / "b" / "fold-0.safetensors", whole / "fold-0.safetensors")


KILLED = """
import os, signal, sys
from pathlib import Path
from support.tones import BACKBONE, GRID, QUICK, ToneSource, tone_set
from birdstack.embeddings.train_fold import train_fold

def die(progress):
    if progress.step >= int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

train = QUICK.model_copy(update={"epochs": 2, "checkpoint_every_s": float(sys.argv[3])})
train_fold(BACKBONE, train, tone_set(), held_out_fold=0, folder=Path(sys.argv[1]),
           source=ToneSource(), grid=GRID, on_progress=die)
"""


def test_killed_and_resumed_gives_the_same_bits(tmp_path: Path, whole: Path) -> None:
    """SIGKILL between a row of the log and its checkpoint, twice; the end is the same network.

    The log too: no step stands twice, none is missing.
    """
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    for step in ("4", "8"):  # within the first epoch, and within the second
        run = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), step, "0"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert run.returncode == -signal.SIGKILL, run.stderr
        assert not (tmp_path / "fold-0.safetensors").exists()
        # The row of that step was written, its checkpoint was not.
        assert _without_clock(tmp_path / "fold-0.metrics.jsonl")[-1]["step"] == int(step)
    result = _train(tmp_path)
    assert result.status == "trained"
    assert result.resumed_from_step == 7
    assert _same(tmp_path / "fold-0.safetensors", whole / "fold-0.safetensors")
    log = "fold-0.metrics.jsonl"
    assert _without_clock(tmp_path / log) == _without_clock(whole / log)


@pytest.mark.parametrize("step", [2, 6, 9])
def test_stopped_and_resumed_gives_the_same_bits(tmp_path: Path, whole: Path, step: int) -> None:
    """A stop anywhere, also at the end of an epoch, leaves a checkpoint that goes on."""
    stop = threading.Event()

    def at(progress) -> None:
        if progress.step >= step:
            stop.set()

    train = SHORT.model_copy(update={"log_every": 1})
    result = _train(tmp_path, train, on_progress=at, stop=stop)
    assert (result.status, result.steps) == ("interrupted", step)
    assert not result.weights.exists()
    again = _train(tmp_path, train)
    assert (again.status, again.resumed_from_step, again.steps) == ("trained", step, 12)
    assert again.seconds > result.seconds
    assert _same(again.weights, whole / "fold-0.safetensors")
    steps = [row["step"] for row in read_metrics(tmp_path / "fold-0.metrics.jsonl")]
    assert steps == list(range(1, 13))


def test_a_stop_before_the_validation_is_made_up_for(tmp_path: Path, whole: Path) -> None:
    """A validation that was stopped midway is made when the training goes on."""

    class Stopping(ToneSource):
        def open(self, recording):
            if int(recording.recording_id[-1]) % 2 == 0:  # held out: heard by validations alone
                stop.set()
            return super().open(recording)

    stop = threading.Event()
    result = _train(tmp_path, source=Stopping(), stop=stop)
    assert (result.status, result.steps, result.epoch) == ("interrupted", 6, 0)
    assert _train(tmp_path).epoch == 2
    assert _same(tmp_path / "fold-0.safetensors", whole / "fold-0.safetensors")


def test_a_finished_fold_is_not_trained_again(whole: Path) -> None:
    """Its result is read from the file; no sound is opened."""
    source = ToneSource()
    again = _train(whole, source=source)
    assert again.status == "finished"
    assert source.opened == []
    assert again.macro_auc == read_metrics(whole / "fold-0.metrics.jsonl")[-1]["val_macro_auc"]
    assert (again.steps, again.epoch) == (12, 2)
    # What does not determine the network may change.
    assert _train(whole, SHORT.model_copy(update={"threads": 1})).status == "finished"


def test_a_fold_of_other_settings_is_refused(tmp_path: Path, whole: Path) -> None:
    """Neither a finished fold nor a checkpoint is mixed with other settings or data."""
    with pytest.raises(ConfigError, match=r"other settings or data: train.lr was 0.003, is 0.5"):
        _train(whole, SHORT.model_copy(update={"lr": 0.5}))
    data = tone_set()
    with pytest.raises(ConfigError, match="data was"):
        _train(whole, data=dataclasses.replace(data, classes=("x", "y", "z")))
    (tmp_path / "fold-1.safetensors").write_bytes(b"torn")
    with pytest.raises(ConfigError, match="not a safetensors file"):
        _train(tmp_path, fold=1)
    stop = threading.Event()
    stop.set()
    assert _train(tmp_path, stop=stop).status == "interrupted"
    with pytest.raises(ConfigError, match=r"backbone.pooling was 'avg', is 'gem'"):
        _train(tmp_path, config=BACKBONE.model_copy(update={"pooling": "gem"}))


def test_a_loss_that_is_no_number_is_named_and_the_checkpoint_kept(tmp_path: Path) -> None:
    """Fold, epoch, step, loss, rate and recordings are said; the state before stays on disk."""
    train = SHORT.model_copy(update={"checkpoint_every_s": 0.0, "cutmix_p": 0.0})
    with pytest.raises(BirdstackError) as caught:
        _train(tmp_path, train, source=ToneSource(poison=frozenset({"2/5"})))
    said = str(caught.value)
    (step,) = re.findall(r"fold 0, epoch 1, step (\d+) ", said)
    assert "loss nan" in said
    assert "learning rate 0.00" in said
    assert "not finite were windows with 2/5" in said
    assert "train.lr" in caught.value.remedy
    assert not (tmp_path / "fold-0.safetensors").exists()
    (held,) = (tmp_path / "fold-0.checkpoint").glob("*.safetensors")
    assert int(step) > 0
    assert int(held.stem.removeprefix("step-")) == int(step)
    assert all(value.isfinite().all() for value in load_file(held).values())


def test_a_recording_that_cannot_be_decoded_is_left_out_and_reported(tmp_path: Path) -> None:
    """In training and in validation; the run ends well and says which and why."""
    source = ToneSource(broken=frozenset({"0/1", "2/2"}))
    result = _train(tmp_path, source=source)
    assert result.status == "trained"
    reason = ("decode_error", "made so")
    assert result.skipped == (("0/1", *reason), ("2/2", *reason))
    assert source.opened.count("0/1") == 1
    assert _train(tmp_path).skipped == result.skipped


def test_nothing_that_can_be_decoded_is_an_error(tmp_path: Path) -> None:
    """Not an endless search for a sound."""
    names = frozenset(recording.recording_id for recording in tone_set().recordings)
    with pytest.raises(StoreError, match=r"could not be heard.*decode_error: made so"):
        _train(tmp_path, source=ToneSource(broken=names))


def test_what_cannot_work_is_refused_before_any_sound(tmp_path: Path) -> None:
    """No fold left, a kind that is not trained, a picture that does not fit."""
    source, data = ToneSource(), tone_set()
    with pytest.raises(StoreError, match="left to train on"):
        _train(tmp_path, data=dataclasses.replace(data, fold=np.zeros(18, int)), source=source)
    with pytest.raises(ConfigError, match="kind fake is not trained"):
        _train(tmp_path, config=BACKBONE.model_copy(update={"kind": "fake"}), source=source)
    long = MEL.model_copy(update={"n_fft": 16384})
    with pytest.raises(ConfigError, match="n_fft"):
        _train(tmp_path, config=BACKBONE.model_copy(update={"mel": long}), source=source)
    assert source.opened == []
    assert list(tmp_path.iterdir()) == []


def test_best_keeps_the_best_epoch_and_patience_ends_the_training(tmp_path: Path) -> None:
    """The kept weights have the best AUC of the log, and training ends `patience` epochs later."""
    update = {"select": "best", "patience": 2, "epochs": 30, "lr": 3e-3}
    train = QUICK.model_copy(update=update)
    data = tone_set(2, 6)
    result = _train(tmp_path, train, data=data)
    aucs = [
        row["val_macro_auc"]
        for row in read_metrics(tmp_path / "fold-0.metrics.jsonl")
        if "val_macro_auc" in row
    ]
    assert result.macro_auc == max(aucs)
    assert result.epoch == 1 + aucs.index(max(aucs))
    assert len(aucs) == result.epoch + 2 < 30
    assert np.mean(list(result.per_class.values())) == pytest.approx(result.macro_auc)


def test_frozen_epochs_train_the_head_alone(tmp_path: Path) -> None:
    """Weights and running means of the trunk stay as they were built; the head moves."""
    train = SHORT.model_copy(update={"epochs": 1, "freeze_epochs": 1, "ema_decay": 0.0})
    trained = load_file(_train(tmp_path, train).weights)
    built = build_network(BACKBONE, 3, window_s=1.0).state_dict()
    moved = {name for name, value in trained.items() if not torch.equal(value, built[name])}
    assert moved == {"head.weight", "head.bias"}


def test_labels_by_window_are_learnt_and_validated(tmp_path: Path) -> None:
    """Recordings with labels by window are heard on the grid, beside others that are not."""
    data = tone_set()
    timed = {
        "0/1": np.array([[1, 0, 0], [1, 0, -1]], np.int8),
        "1/0": np.array([[0, 1, 0]], np.int8),
    }
    result = _train(tmp_path, data=dataclasses.replace(data, window_labels=timed))
    assert result.status == "trained"
    assert math.isfinite(result.macro_auc)


def test_a_raw_waveform_network_is_trained(tmp_path: Path) -> None:
    """The kind `wave` goes the same way, without pictures."""
    config = BACKBONE.model_copy(update={"kind": "wave"})
    train = SHORT.model_copy(update={"epochs": 1, "epoch_windows": 16})
    result = _train(tmp_path, train, config=config)
    assert FoldFiles(tmp_path, 0).finished(
        json.loads(safe_open(result.weights, framework="pt").metadata()["training"])["recipe"], ()
    )
    assert math.isfinite(result.macro_auc)


def test_attention_over_frames_is_trained(tmp_path: Path) -> None:
    """The pooling `sed` has dropout, whose draws do not depend on what ran before."""
    config = BACKBONE.model_copy(update={"pooling": "sed"})
    train = SHORT.model_copy(update={"epochs": 1, "epoch_windows": 16})
    _train(tmp_path / "a", train, config=config)
    torch.rand(3)
    _train(tmp_path / "b", train, config=config)
    name = "fold-0.safetensors"
    assert _same(tmp_path / "a" / name, tmp_path / "b" / name)


def test_the_way_of_a_gpu_walked_on_a_processor(tmp_path: Path, whole: Path, monkeypatch) -> None:
    """Sounds go to the device and become pictures there; it learns as well as the other way.

    The device is named so that it is not taken for a processor; memory is not pinned.
    """
    monkeypatch.setattr(type(SHORT), "chosen_device", lambda _: "cpu:0")
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    result = _train(tmp_path, SHORT.model_copy(update={"precision": "fp32"}))
    rows, others = (read_metrics(folder / "fold-0.metrics.jsonl") for folder in (tmp_path, whole))
    assert result.status == "trained"
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in others], rel=0.02)


def test_bf16_learns(tmp_path: Path) -> None:
    """Under autocast the loss stays finite and close to that of fp32."""
    result = _train(tmp_path, SHORT.model_copy(update={"precision": "bf16"}))
    assert math.isfinite(result.macro_auc)
