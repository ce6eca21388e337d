"""Checkpoints survive what befalls files; the log of metrics says nothing twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from birdstack.embeddings.ema import Ema  # noqa: E402 - torch
from birdstack.embeddings.metrics_log import MetricsLog, read_metrics  # noqa: E402 - torch
from birdstack.embeddings.schedule import lr_factor  # noqa: E402 - torch
from birdstack.embeddings.train_checkpoint import CheckpointFolder  # noqa: E402 - torch


def _tensors(value: float):
    laid_out = torch.full((2, 3, 4, 5), value).contiguous(memory_format=torch.channels_last)
    return {"a": laid_out, "b": torch.tensor(7), "shared": laid_out[0]}


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    """Tensors of any layout and the state are what was saved; the one before is gone."""
    folder = CheckpointFolder(tmp_path / "c")
    assert folder.load() is None
    folder.save(3, _tensors(1.0), {"note": [1, None]})
    folder.save(12, _tensors(2.0), {"note": "later"})
    saved = folder.load()
    assert saved.state == {"note": "later"}
    assert all(torch.equal(saved.tensors[name], value) for name, value in _tensors(2.0).items())
    assert len(list((tmp_path / "c").iterdir())) == 2
    folder.remove()
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("damage", ["torn tensors", "torn json", "no json", "part left"])
def test_a_kill_while_saving_leaves_the_checkpoint_before(tmp_path: Path, damage: str) -> None:
    """Whatever is half written is passed over, and the next save tidies it away."""
    folder = CheckpointFolder(tmp_path)
    folder.save(3, _tensors(1.0), {"note": "whole"})
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    folder.save(4, _tensors(2.0), {"note": "half"})
    held, told = tmp_path / "step-0000000004.safetensors", tmp_path / "step-0000000004.json"
    if damage == "torn tensors":
        held.write_bytes(held.read_bytes()[:-1] + b"x")
    elif damage == "torn json":
        told.write_bytes(told.read_bytes()[:40])
    else:
        told.rename(tmp_path / (".step-0000000004.json.part" if damage == "part left" else "gone"))
    for name, content in kept.items():
        (tmp_path / name).write_bytes(content)
    assert folder.load().state == {"note": "whole"}
    folder.save(5, _tensors(3.0), {"note": "next"})
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    assert folder.load().state == {"note": "next"}


def test_rows_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    """A log that goes on from a checkpoint holds each step once; so does TensorBoard's."""
    path, board = tmp_path / "m.jsonl", tmp_path / "board"
    log = MetricsLog(path, board)
    log.write({"step": 2, "loss": 1.0, "val_macro_auc": None})
    kept = log.settle()
    log.write({"step": 4, "loss": 0.9})
    log.write({"step": 6, "loss": 0.8})
    log.close()
    log = MetricsLog(path, board, keep_bytes=kept)
    log.write({"step": 4, "loss": 0.9})
    log.close()
    assert read_metrics(path) == [{"step": 2, "loss": 1.0}, {"step": 4, "loss": 0.9}]
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(board)).Reload()
    assert [event.step for event in shown.Scalars("loss")] == [2, 4]
    assert len(list(board.iterdir())) == 1


def test_a_torn_last_line_is_not_read(tmp_path: Path) -> None:
    """A reader of a log under way sees whole rows."""
    (tmp_path / "m").write_text(json.dumps({"step": 1}) + '\n{"step": 2, "lo')
    assert read_metrics(tmp_path / "m") == [{"step": 1}]


def test_the_learning_rate_rises_and_falls() -> None:
    """Linear to 1 after the warm-up, then half a cosine to the final share."""
    rates = [lr_factor(s, steps=101, warmup_steps=10, final=0.1) for s in range(101)]
    assert rates[:10] == pytest.approx([(s + 1) / 11 for s in range(10)])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)
    assert sorted(rates[10:], reverse=True) == rates[10:]
    assert lr_factor(0, steps=1, warmup_steps=0, final=0.1) == 1


def test_the_average_follows_slowly_and_at_first_quickly() -> None:
    """Each step keeps min(decay, (1 + step) / (10 + step)); whole numbers are copied."""
    network = torch.nn.BatchNorm1d(1)
    average = Ema(network, 0.5)
    expected = 1.0
    for step in range(12):
        with torch.no_grad():
            network.weight.fill_(step)
        network.num_batches_tracked += 1
        average.update(step)
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * step
        assert average.network.weight.item() == pytest.approx(expected)
    assert average.network.num_batches_tracked == 12
    assert not average.network.training
    assert not average.network.weight.requires_grad
