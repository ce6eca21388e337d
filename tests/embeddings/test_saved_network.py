"""Networks as files: what an engine reads by itself says what the network says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.alone import run_alone

from birdstack.embeddings import saved_network
from birdstack.embeddings.backbone import Backbone
from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.engine import EngineError, EngineKind, make_engine
from birdstack.embeddings.mel_config import MelConfig
from birdstack.embeddings.network import build_network
from birdstack.embeddings.saved_network import SavedNetwork, save_network
from birdstack.store.errors import ConfigError

CONFIG = BackboneConfig(
    name="tiny",
    model="test_efficientnet",
    weights="random",
    mel=MelConfig(n_fft=512, hop=500, n_mels=32, fmin_hz=500.0),
)
CLASSES = ("one", "two", "three")
KINDS: tuple[EngineKind, ...] = ("torch", "onnxruntime", "openvino")


@pytest.fixture(scope="module")
def network() -> Any:
    """A small picture network with logits."""
    pytest.importorskip("torch")
    return build_network(CONFIG, len(CLASSES), window_s=1.0)


def _saved(folder: Path, kind: EngineKind, classes: tuple[str, ...] = CLASSES) -> SavedNetwork:
    dim = build_network(CONFIG, window_s=1.0).dim
    return SavedNetwork(CONFIG, 1.0, folder, kind=kind, dim=int(dim), classes=classes)  # type: ignore[arg-type]


def _pictures(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(11, *shape)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_files_say_what_the_network_says(network: Any, tmp_path: Path, kind: EngineKind) -> None:
    """Bit for bit what the same engine makes of the network in memory."""
    if kind == "onnxruntime":
        pytest.importorskip("onnxscript")
    pytest.importorskip(kind)
    saved = _saved(tmp_path / "net", kind)
    shape = tuple(saved.input.shape)
    save_network(network, shape, kind, tmp_path / "net")
    inputs = _pictures(shape)
    heard = saved.run(inputs)
    embeddings, logits = make_engine(network, shape, kind).run(inputs)
    assert heard.logits is not None
    np.testing.assert_array_equal(heard.embeddings, embeddings)
    np.testing.assert_array_equal(heard.logits, logits)


def test_a_saved_network_is_a_backbone(tmp_path: Path) -> None:
    """By the contract; nothing is read before the first run."""
    saved = _saved(tmp_path / "nowhere", "openvino")
    assert isinstance(saved, Backbone)
    assert (saved.name, saved.classes) == ("tiny", CLASSES)


def test_bfloat16_reads_the_files_of_float32(network: Any, tmp_path: Path) -> None:
    """Precision is a setting of the run."""
    pytest.importorskip("openvino")
    saved = _saved(tmp_path, "openvino-bf16")
    shape = tuple(saved.input.shape)
    save_network(network, shape, "openvino", tmp_path)
    exact = _saved(tmp_path, "openvino").run(_pictures(shape)).embeddings
    rough = saved.run(_pictures(shape)).embeddings
    np.testing.assert_allclose(rough, exact, atol=0.1 * float(exact.std()) + 0.1)


@pytest.mark.parametrize("kind", ["onnxruntime", "openvino"])
def test_files_are_read_without_torch(network: Any, tmp_path: Path, kind: EngineKind) -> None:
    """In a process where torch and timm are not installed, to the same numbers."""
    pytest.importorskip(kind)
    saved = _saved(tmp_path, kind)
    save_network(network, tuple(saved.input.shape), kind, tmp_path)
    inputs = _pictures(tuple(saved.input.shape))
    np.save(tmp_path / "inputs.npy", inputs)
    script = f"""
from pathlib import Path
import numpy as np
from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.saved_network import SavedNetwork
config = BackboneConfig.model_validate_json({CONFIG.model_dump_json()!r})
net = SavedNetwork(config, 1.0, Path("."), kind={kind!r}, dim={saved.dim}, classes={CLASSES!r})
np.save("found.npy", net.run(np.load("inputs.npy")).logits)
"""
    ran = run_alone(script, tmp_path)
    assert ran.returncode == 0, ran.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), saved.run(inputs).logits)


@pytest.mark.parametrize("kind", ["onnxruntime", "openvino"])
def test_broken_files_are_refused(network: Any, tmp_path: Path, kind: EngineKind) -> None:
    """As files that the engine cannot take, not as a crash."""
    pytest.importorskip(kind)
    (tmp_path / "model.onnx").write_bytes(b"no model")
    (tmp_path / "model.xml").write_bytes(b"no model")
    with pytest.raises(EngineError, match="cannot take it"):
        _saved(tmp_path, kind).ready()


@pytest.mark.parametrize(
    ("kind", "package", "extra"),
    [("openvino", "openvino", "openvino"), ("onnxruntime", "onnxruntime", "onnx")],
)
def test_a_missing_engine_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: EngineKind, package: str, extra: str
) -> None:
    """What to install is said before any sound is heard."""
    from birdstack.embeddings import engine_onnx, engine_openvino, extras, openvino_model

    def need(module: str, of: str, purpose: str) -> Any:
        if module.partition(".")[0] == package:
            message = f"{purpose} needs the package {package!r}, which is not installed"
            raise ConfigError(message, remedy=f"pip install 'birdstack[{of}]'")
        return extras.need(module, of, purpose)

    for module in (engine_onnx, openvino_model):
        monkeypatch.setattr(module, "need", need)
    engine_openvino.core.cache_clear()
    try:
        with pytest.raises(ConfigError, match="not installed") as missing:
            _saved(tmp_path, kind).ready()
    finally:
        engine_openvino.core.cache_clear()
    assert missing.value.remedy == f"pip install 'birdstack[{extra}]'"


def test_an_engine_that_nothing_is_saved_for_is_refused(network: Any, tmp_path: Path) -> None:
    """Eight-bit models belong to the windows they were calibrated on."""
    with pytest.raises(ConfigError, match="openvino-int8"):
        save_network(network, (1, 32, 32), "openvino-int8", tmp_path)
    assert "openvino-int8" not in saved_network.SAVED_KINDS
