"""Networks of every mode in a bundle: heard from its files, they say what the originals say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.backbones import fold_networks
from birdstack.embeddings.mel_config import MelConfig
from birdstack.embeddings.model_folder import checkpoint_name, seal
from birdstack.embeddings.network import build_network
from birdstack.embeddings.network_views import hear_recording, hearing_recipe
from birdstack.embeddings.shelf import InputShelf
from birdstack.features.audio import AudioConfig, Sound
from birdstack.stacking.bundle import NETWORKS, Bundle, BundledNetwork, BundleFacts
from birdstack.stacking.bundle_networks import bundled_voice
from birdstack.stacking.design import BackbonePin, Design
from birdstack.stacking.export_networks import Source, export_backbone
from birdstack.store.errors import CorruptError, UsageError
from birdstack.store.keys import WindowGrid

CLASSES = ("bird0", "bird1")
GRID = WindowGrid(window_s=1.0, hop_s=1.0)
RATE_HZ = 32_000
AUDIO = {"version": 1, "sample_rate_hz": RATE_HZ}
MEL = MelConfig(n_fft=512, hop=500, n_mels=32, fmin_hz=500.0)


class _Snapshot:
    """What an export asks of a snapshot: its grid and the classes' names."""

    grid = GRID

    def table(self, name: str) -> pl.DataFrame:
        assert name == "classes"
        names = {"scientific_name": ["Ave una", None], "common_name": ["One", "Two"]}
        return pl.DataFrame({"index": [0, 1], "label": list(CLASSES), **names})


def _sound() -> Sound:
    samples = 0.1 * np.random.default_rng(1).normal(size=5 * RATE_HZ).astype(np.float32)
    return Sound(samples, RATE_HZ, GRID)


def _bundle(folder: Path, network: BundledNetwork, engine: str = "openvino") -> Bundle:
    facts = BundleFacts(
        engine=engine,  # type: ignore[arg-type]
        networks=(network,),
        audio=AudioConfig(),
        names=dict.fromkeys(CLASSES, ("", "")),
    )
    pin = BackbonePin(name=network.config.name, recipe="0", fold_models=network.folds)
    return Bundle(folder, facts, Design(grid=GRID, classes=CLASSES, backbones=(pin,)))


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Source, list[Path]]:
    """Three small networks, each of another seed, as `birdstack train` leaves them."""
    pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    folder = tmp_path / "model"
    folder.mkdir()
    config = BackboneConfig(
        name="whole", model="test_efficientnet", weights="random", mode="full", mel=MEL
    )
    paths = []
    for fold in range(3):
        seeded = config.model_copy(update={"seed": fold})
        network = build_network(seeded, len(CLASSES), window_s=1.0)
        paths.append(folder / checkpoint_name(fold))
        save_file(network.state_dict(), paths[-1])
    ids = [f"r{number}" for number in range(3)]
    table = pl.DataFrame(
        {"recording_id": ids, "content_hash": ids, "group": ids, "fold": [0, 1, 2]},
        schema_overrides={"fold": pl.Int32},
    )
    model = seal(
        folder, config, "full", classes=CLASSES, folds=[0, 1, 2], training={}, trained_on=table
    )
    (first, *_) = fold_networks(config, paths[:1], CLASSES, 1.0)
    recipe: dict[str, Any] = hearing_recipe(first, AUDIO, GRID, (0.0,))
    recipe["network"] = {k: v for k, v in recipe["network"].items() if k != "weights"}
    return Source(config, model, recipe), paths


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_networks_of_every_fold_are_exported(
    trained: tuple[Source, list[Path]], tmp_path: Path, engine: Any
) -> None:
    """Each says what its checkpoint says, and they differ."""
    pytest.importorskip(engine)
    source, paths = trained
    out = tmp_path / "bundle"
    network = export_backbone(source, out / NETWORKS / "whole", engine, _Snapshot())  # type: ignore[arg-type]
    assert str(tmp_path) not in network.model_dump_json(), "no path of the machine that exports"
    for path in paths:
        path.unlink()
    voice = bundled_voice(_bundle(out, network, engine), network)
    found = voice.logits(_sound(), InputShelf(), [0, 2])
    again = voice.logits(_sound(), InputShelf(), [2])
    assert found.shape == (2, 5, 2)
    np.testing.assert_array_equal(found[1], again[0])
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_an_exported_fold_says_what_its_checkpoint_says(
    trained: tuple[Source, list[Path]], tmp_path: Path
) -> None:
    """By the same engine, bit for bit."""
    source, paths = trained
    out = tmp_path / "bundle"
    network = export_backbone(source, out / NETWORKS / "whole", "torch", _Snapshot())  # type: ignore[arg-type]
    voice = bundled_voice(_bundle(out, network, "torch"), network)
    own = fold_networks(source.config, paths, CLASSES, 1.0)
    for fold in range(3):
        heard = hear_recording(own[fold], _sound(), InputShelf())
        np.testing.assert_array_equal(voice.logits(_sound(), InputShelf(), [fold])[0], heard.logits)


def test_a_network_that_the_store_did_not_hear_is_refused(
    trained: tuple[Source, list[Path]], tmp_path: Path
) -> None:
    """Naming what differs."""
    source, _ = trained
    hearing = {**source.hearing, "network": {**source.hearing["network"], "pooling": "gem"}}
    with pytest.raises(UsageError, match="pooling is avg, was gem"):
        export_backbone(
            Source(source.config, source.model, hearing),
            tmp_path / "b",
            "torch",
            _Snapshot(),  # type: ignore[arg-type]
        )


def test_an_onnx_model_is_carried_along(tmp_path: Path) -> None:
    """A network trained elsewhere: its file and class list are in the bundle, the originals gone."""
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    weight = np.random.default_rng(0).normal(size=(RATE_HZ, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["sound", "w"], ["logits"])],
        "net",
        [helper.make_tensor_value_info("sound", onnx.TensorProto.FLOAT, ["b", RATE_HZ])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["b", 3])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    origin = tmp_path / "origin"
    origin.mkdir()
    onnx.save(model, origin / "net.onnx")
    (origin / "names.txt").write_text("bird1\nother\nAve una\n")
    config = BackboneConfig(
        name="given",
        kind="onnx",
        mode="given",
        embeddings=False,
        model=str(origin / "net.onnx"),
        classes_file=str(origin / "names.txt"),
        outputs={"logits": "logits"},
    )
    from birdstack.embeddings.onnx_backbone import OnnxBackbone
    from birdstack.stacking.networks import class_names

    names = class_names(_Snapshot())  # type: ignore[arg-type]
    original = OnnxBackbone(config, 1.0, classes=names)
    heard = hear_recording(original, _sound(), InputShelf()).logits
    hearing = hearing_recipe(original, AUDIO, GRID, (0.0,))
    out = tmp_path / "bundle"
    network = export_backbone(
        Source(config, None, hearing),
        out / NETWORKS / "given",
        "openvino",
        _Snapshot(),  # type: ignore[arg-type]
    )
    (origin / "net.onnx").unlink()
    (origin / "names.txt").unlink()
    bundle = _bundle(out, network)
    facts = bundle.facts.model_copy(
        update={"names": {"bird0": ("Ave una", "One"), "bird1": ("", "Two")}}
    )
    voice = bundled_voice(Bundle(out, facts, bundle.design), network)
    found = voice.logits(_sound(), InputShelf(), [None])
    np.testing.assert_array_equal(found[0], heard)


def test_weights_of_a_package_are_pinned(tmp_path: Path) -> None:
    """A bundle that leans on an installed package refuses other weights than it learnt from."""
    network = BundledNetwork(
        config=BackboneConfig(name="toy", kind="fake", mode="given"), weights="f" * 64
    )
    with pytest.raises(CorruptError, match="installed package has weights"):
        bundled_voice(_bundle(tmp_path, network), network)
