"""A trained backbone on disk: whole or not there, and what was written or refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.aviary import BIRDS, TOY

from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.linear_head import LinearHead
from birdstack.embeddings.mel_config import MelConfig
from birdstack.embeddings.model_folder import (
    FoldModel,
    checkpoint_name,
    finished,
    load_model,
    save_heads,
    seal,
)
from birdstack.store.errors import CorruptError, FormatVersionError, UsageError

TRAINED_ON = pl.DataFrame(
    {
        "recording_id": ["b, with a comma.ogg", "a.ogg"],
        "content_hash": ["0034", "0012"],
        "group": ["b", None],
        "fold": [1, 0],
    }
)


def _heads(seed: int = 0) -> dict[int, LinearHead]:
    rng = np.random.default_rng(seed)
    return {
        fold: LinearHead(
            rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=3).astype(np.float32)
        )
        for fold in (0, 1)
    }


def _sealed(
    folder: Path, *, seed: int = 0, config: BackboneConfig = TOY, **training: str
) -> FoldModel:
    save_heads(folder, _heads(seed))
    return seal(
        folder,
        config,
        "frozen",
        classes=BIRDS,
        folds=[0, 1],
        training={"head": {"l2": 0.1}, **training},
        trained_on=TRAINED_ON,
    )


@pytest.fixture
def model(tmp_path: Path) -> FoldModel:
    """Heads of two folds."""
    return _sealed(tmp_path / "model")


def test_what_was_written_is_read(model: FoldModel) -> None:
    """Heads to the bit, settings, classes, folds, and what was trained on."""
    found = load_model(model.folder)
    assert found == model
    assert found.fingerprint == model.fingerprint
    for fold, head in _heads().items():
        np.testing.assert_array_equal(found.heads()[fold].weight, head.weight)
        np.testing.assert_array_equal(found.heads()[fold].bias, head.bias)
    found.verify()


def test_a_picture_of_its_own_survives(tmp_path: Path) -> None:
    """The backbone's whole configuration is kept, not only its name."""
    config = BackboneConfig(name="odd", mel=MelConfig(n_mels=64, hop=777, width=128), pooling="gem")
    assert load_model(_sealed(tmp_path / "odd", config=config).folder).config == config


def test_the_record_of_training_keeps_its_types(model: FoldModel) -> None:
    """Ids with commas, hashes that look like numbers, recordings without a group."""
    told = load_model(model.folder).trained_on()
    assert told.equals(TRAINED_ON.sort("recording_id").cast({"fold": pl.Int32}))


def test_the_fingerprint_is_of_the_numbers(model: FoldModel, tmp_path: Path) -> None:
    """The same heads elsewhere have the same; other heads, settings or classes have another."""
    assert _sealed(tmp_path / "elsewhere").fingerprint == model.fingerprint
    others = [
        _sealed(tmp_path / "heads", seed=1),
        _sealed(tmp_path / "settings", secondary="absent"),
        dataclasses.replace(model, classes=BIRDS[::-1]),
        dataclasses.replace(model, mode="full"),
    ]
    fingerprints = [other.fingerprint for other in [model, *others]]
    assert len(set(fingerprints)) == len(fingerprints)


@pytest.mark.parametrize("name", ["heads.safetensors", "training.csv"])
def test_a_file_that_was_changed_is_refused(model: FoldModel, name: str) -> None:
    """One bit is enough."""
    path = model.folder / name
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=f"{name}.*sha256"):
        load_model(model.folder).verify()


def test_tampered_heads_are_not_read(model: FoldModel) -> None:
    """Others' heads under this model's name give no logits."""
    save_heads(model.folder, _heads(seed=1))
    with pytest.raises(CorruptError, match=r"heads\.safetensors: sha256"):
        load_model(model.folder).heads()


def test_a_tampered_record_of_training_is_not_read(model: FoldModel) -> None:
    """The guard judges by it: rows taken out of it would let a leak pass."""
    path = model.folder / "training.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(CorruptError, match=r"training\.csv: sha256"):
        load_model(model.folder).trained_on()


def test_lost_heads_are_named(model: FoldModel) -> None:
    """The file and what the system says of it."""
    (model.folder / "heads.safetensors").unlink()
    with pytest.raises(CorruptError, match=r"heads\.safetensors: cannot be read: No such file"):
        load_model(model.folder).heads()


def test_an_edited_description_is_refused(model: FoldModel) -> None:
    """Classes in another order would give every score to another bird."""
    path = model.folder / "model.json"
    told = json.loads(path.read_text())
    told["classes"] = told["classes"][::-1]
    path.write_text(json.dumps(told))
    with pytest.raises(CorruptError, match=f"fingerprint {model.fingerprint}"):
        load_model(model.folder)


@pytest.mark.parametrize(
    "content", [b"{", b"\xff\xfe", b"[]", b"null", b'{"format": 1}', b'{"format": "one"}', b""]
)
def test_a_broken_description_is_refused(model: FoldModel, content: bytes) -> None:
    """Whatever the bytes, an error of ours with the path."""
    (model.folder / "model.json").write_bytes(content)
    with pytest.raises((CorruptError, FormatVersionError), match=r"model\.json"):
        load_model(model.folder)


def test_a_newer_format_is_refused(model: FoldModel) -> None:
    """It says which it is and which can be read."""
    path = model.folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(FormatVersionError, match="format 2, this birdstack reads 1"):
        load_model(model.folder)


def test_a_folder_without_description_is_unfinished(tmp_path: Path) -> None:
    """Heads alone are no model: model.json is written last."""
    save_heads(tmp_path, _heads())
    assert not finished(tmp_path)
    with pytest.raises(UsageError, match="no finished model"):
        load_model(tmp_path)
    _sealed(tmp_path)
    assert finished(tmp_path)
    assert not list(tmp_path.glob("*.new"))


def test_a_model_of_whole_networks_names_its_checkpoints(tmp_path: Path) -> None:
    """In the order of folds; one that is swapped is found."""
    for fold in (0, 2):
        (tmp_path / checkpoint_name(fold)).write_bytes(b"network %d" % fold)
    model = seal(
        tmp_path, TOY, "full", classes=BIRDS, folds=[0, 2], training={}, trained_on=TRAINED_ON
    )
    assert [path.name for path in model.checkpoints] == ["fold-0.safetensors", "fold-2.safetensors"]
    model.verify()
    (tmp_path / checkpoint_name(2)).write_bytes(b"network 0")
    with pytest.raises(CorruptError, match=r"fold-2\.safetensors"):
        load_model(tmp_path).verify()


def test_a_model_without_its_network_is_not_sealed(tmp_path: Path) -> None:
    """A fold that was not trained makes no finished model."""
    (tmp_path / checkpoint_name(0)).write_bytes(b"network")
    with pytest.raises(FileNotFoundError):
        seal(tmp_path, TOY, "full", classes=BIRDS, folds=[0, 1], training={}, trained_on=TRAINED_ON)
    assert not finished(tmp_path)
