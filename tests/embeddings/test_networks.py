"""Networks: every family by name, three poolings, two inputs, the same numbers each time."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from support.listening import scene

from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.mel_config import MelConfig
from birdstack.embeddings.network import build_network, check_config, make_input, weights_digest
from birdstack.embeddings.pooling import GemPool, SedPool
from birdstack.store.errors import ConfigError

SMALL = MelConfig(n_mels=64, width=160)
N_CLASSES = 5
SWIN = "swin_tiny_patch4_window7_224"


def config(model="test_efficientnet", weights="random", **settings) -> BackboneConfig:
    """A small backbone."""
    chosen = {"name": "net", "mel": SMALL, "mode": "full", **settings}
    return BackboneConfig(model=model, weights=weights, **chosen)


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads of one operator wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def heard(network, seed=0, n=2):
    """Embeddings and logits of noise."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, *network.input_shape, generator=generator)
    with torch.no_grad():
        return network(inputs)


@pytest.mark.parametrize(
    ("model", "dim"),
    [
        ("test_efficientnet", 256),
        ("tf_efficientnet_lite0", 1280),
        ("mobilenetv3_small_050", 1024),
        ("resnet10t", 512),
        ("regnety_002", 368),
        ("test_vit", 64),
        ("efficientvit_b0", 1280),
        ("efficientvit_m0", 192),
        ("test_nfnet", None),
        ("test_convnext", None),
        ("test_convnext3", None),
    ],
)
def test_any_family(model, dim):
    """Maps, tokens and channels-last maps all become `[b, dim]` and logits `[b, class]`."""
    network = build_network(config(model), N_CLASSES)
    embedding, logits = heard(network)
    assert embedding.shape == (2, network.dim)
    assert network.dim == (dim or network.dim)
    assert logits.shape == (2, N_CLASSES)
    assert torch.isfinite(logits).all()
    assert not network.training
    torch.testing.assert_close(logits, network.head(embedding))


def test_no_classes_no_logits():
    """A network for embeddings gives the embedding alone, the same as beside logits."""
    (embedding,) = heard(build_network(config()))
    assert embedding.shape == (2, 256)
    torch.testing.assert_close(embedding, heard(build_network(config(), N_CLASSES))[0])


@pytest.mark.parametrize("model", ["efficientnet_b0", "efficientnet_b1", "efficientnet_b2"])
def test_the_large_ones_are_known(model):
    """By name, without building them."""
    check_config(config(model), window_s=5.0)


@pytest.mark.parametrize("model", ["test_efficientnet", "test_vit", SWIN])
@pytest.mark.parametrize("pooling", ["gem", "sed", "stages"])
def test_other_poolings_take_any_layout(model, pooling):
    """Generalised mean, attention, means of stages: of maps, tokens in a grid, channels last."""
    network = build_network(config(model, pooling=pooling), N_CLASSES)
    embedding, logits = heard(network)
    assert embedding.shape == (2, network.dim)
    assert logits.shape == (2, N_CLASSES)


def test_stages_are_the_means_of_two_maps():
    """The embedding of `stages` is the mean of each of the trunk's last two maps."""
    network = build_network(config("test_efficientnet", pooling="stages"))
    pictures = torch.randn(2, *network.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = network.trunk.forward_intermediates(pictures, indices=2, intermediates_only=True)
        (embedding,) = network(pictures)
    means = [each.mean(dim=(2, 3)) for each in maps]
    assert [each.shape[1] for each in means] == [48, 64]
    torch.testing.assert_close(embedding, torch.cat(means, dim=1))


def test_gem_lies_between_mean_and_maximum():
    """Power 1 is the mean, a great p nears the maximum."""
    features = torch.rand(3, 4, 5, 6) + 0.1
    mean, top = features.mean(dim=(2, 3)), features.amax(dim=(2, 3))
    torch.testing.assert_close(GemPool(1.0)(features), mean)
    torch.testing.assert_close(GemPool(200.0)(features), top, rtol=0.02, atol=0)
    third = GemPool(3.0)(features)
    assert ((third > mean) & (third < top)).all()


def test_a_class_attends_to_its_frames():
    """Logits of the window lie within those of its frames, and follow the attended ones."""
    pool = SedPool(8, 3).eval()
    features = torch.randn(2, 8, 4, 10, generator=torch.Generator().manual_seed(0))
    frames = pool.frames(features)
    _, logits = pool(features)
    assert frames.shape == (2, 10, 3)
    assert (logits <= frames.amax(dim=1) + 1e-6).all()
    assert (logits >= frames.amin(dim=1) - 1e-6).all()
    torch.testing.assert_close(pool(features[:1])[1], logits[:1])


def test_frames_of_a_window():
    """A call at the end of a picture moves the logits of the frames at the end alone."""
    network = build_network(config(pooling="sed"), N_CLASSES)
    silent = torch.zeros(1, 1, 64, 160)
    late = silent.clone()
    late[..., 150:] = 3
    with torch.no_grad():
        change = (network.frames(late) - network.frames(silent)).abs().amax(dim=(0, 2))
    assert len(change) == 5
    assert change[-1] > 10 * change[0]
    with pytest.raises(ConfigError, match="need pooling sed, this network has avg"):
        build_network(config(), 3).frames(silent)


@pytest.mark.parametrize("kind", ["timm", "wave"])
def test_random_weights_are_the_seeds(kind):
    """Equal seeds give equal networks whatever the global state, which is left alone."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = heard(build_network(config(kind=kind), N_CLASSES))
    assert torch.equal(torch.rand(3), expected)
    second = heard(build_network(config(kind=kind), N_CLASSES))
    other = heard(build_network(config(kind=kind, seed=1), N_CLASSES))
    for one, same, another in zip(first, second, other, strict=True):
        torch.testing.assert_close(one, same, rtol=0, atol=0)
        assert not torch.allclose(one, another)
    assert weights_digest(config()) == weights_digest(config(name="other"))
    assert weights_digest(config()) != weights_digest(config(seed=1))
    assert weights_digest(config()) != weights_digest(config("resnet10t"))


def test_threads_build_the_same():
    """Eight networks built by four threads are the network that one builds."""
    alone = heard(build_network(config(), N_CLASSES))[1]
    with ThreadPoolExecutor(4) as pool:
        for network in pool.map(lambda _: build_network(config(), N_CLASSES), range(8)):
            torch.testing.assert_close(heard(network)[1], alone, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["timm", "wave"])
def test_inputs_fit_their_networks(kind):
    """What `make_input` prepares is what the network takes."""
    chosen = config(kind=kind)
    source = make_input(chosen, 5.0)
    network = build_network(chosen, N_CLASSES)
    assert source.shape == network.input_shape
    prepared = torch.from_numpy(source.prepare(scene(5.0)))[None]
    with torch.no_grad():
        assert network(prepared)[1].shape == (1, N_CLASSES)


def test_a_network_survives_pickling():
    """Between processes, or in a saved ensemble."""
    network = build_network(config(), N_CLASSES)
    again = pickle.loads(pickle.dumps(network))  # noqa: S301 - our own, just written
    torch.testing.assert_close(heard(again), heard(network), rtol=0, atol=0)


def test_filters_pass_their_bands():
    """Each filter of the raw-waveform network answers to a tone in the middle of its band."""
    bank = build_network(config(kind="wave", mel=MelConfig(n_mels=32, hop=500))).bank
    with torch.no_grad():
        response = torch.fft.rfft(bank.filters()[:, 0], n=8192).abs().numpy()
        low = bank.low_hz.abs().numpy() + 30
        middle_hz = low + (bank.band_hz.abs().numpy() + 30) / 2
    frequency_hz = np.fft.rfftfreq(8192, 1 / 32000)
    wide = middle_hz > 1500  # lower bands are narrower than 8 ms can tell apart
    at_middle = response[np.arange(32), np.searchsorted(frequency_hz, middle_hz)]
    np.testing.assert_allclose(at_middle[wide], 1, atol=0.15)
    far = np.abs(frequency_hz - middle_hz[:, None]) > 4 * (middle_hz - low)[:, None] + 300
    assert response[far].max() < 0.05


def test_a_tone_lights_its_row():
    """The learnt filter bank shows pitch and time without a Fourier transform."""
    bank = build_network(config(kind="wave", mel=MelConfig(n_mels=32, hop=500))).bank
    time_s = torch.arange(160_000) / 32000
    tone = 0.3 * torch.sin(2 * np.pi * 5000 * time_s) * (time_s > 2.5)
    noise = 1e-3 * torch.randn(160_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        picture = bank((tone + noise)[None])[0, 0]
        middle_hz = bank.low_hz.abs() + 30 + (bank.band_hz.abs() + 30) / 2
    assert picture.shape == (32, 320)
    row = int(picture[:, 200:].mean(dim=1).argmax())
    assert abs(float(middle_hz[row]) - 5000) < 500
    assert picture[row, 170:].mean() > picture[row, :150].mean() + 3


def test_the_whole_network_learns_from_samples():
    """Gradients reach the edges of the filters, and are finite for silence."""
    network = build_network(config(kind="wave"), N_CLASSES).train()
    samples = torch.stack([torch.zeros(160_000), torch.from_numpy(scene(5.0))])
    network(samples)[1].square().sum().backward()
    for edges in (network.bank.low_hz, network.bank.band_hz):
        assert torch.isfinite(edges.grad).all()
        assert (edges.grad != 0).any()


@pytest.mark.parametrize(
    ("settings", "told", "remedy"),
    [
        ({"model": "efficentnet_b0"}, "no model 'efficentnet_b0'", "efficientnet_b0"),
        ({"model": "hf-hub:timm/resnet18"}, "no model 'hf-hub:timm/resnet18'", "resnet18"),
        ({"model": "resnet18.foo"}, "Invalid pretrained tag", "resnet18.a1_in1k"),
        (
            {"model": "resnet18", "weights": "packaged"},
            "weights 'packaged' exist for tf_efficientnet_lite0, .*, not for model 'resnet18'",
            "Set weights to hub",
        ),
        ({"weights": "missing.pt"}, "missing.pt: there is no checkpoint file", "Set weights"),
        (
            {"mel": MelConfig(n_fft=65536, sample_rate_hz=8000, fmax_hz=4000)},
            "n_fft must be at most a window of 5 s",
            "smaller n_fft",
        ),
        ({"model": "inception_v4"}, "cannot take a picture of 16x16", "Set height and width"),
        ({"kind": "fake"}, "kind fake is not built", "Use kind timm or wave"),
    ],
)
def test_what_cannot_be_built_is_refused(settings, told, remedy):
    """Each fault has a message with its value, and a remedy."""
    if settings.get("model") == "inception_v4":
        settings = {**settings, "mel": MelConfig(n_mels=16, width=16)}
    with pytest.raises(ConfigError, match=told) as caught:
        build_network(config(**settings), N_CLASSES)
    assert remedy in caught.value.remedy


def test_sed_needs_classes_and_order():
    """No classes to score, or tokens without a place in time."""
    with pytest.raises(ConfigError, match="pooling sed scores classes, got n_classes=0"):
        build_network(config(pooling="sed"))
    with pytest.raises(ConfigError, match="tokens have no order in time"):
        build_network(config("levit_128s", pooling="sed"), N_CLASSES)


def test_classes_are_as_many_as_logits():
    """A list of names that does not fit the number is a slip of the caller."""
    with pytest.raises(ConfigError, match="2 classes named, n_classes=5"):
        build_network(config(), N_CLASSES, classes=["a", "b"])


def test_a_hub_out_of_reach_is_said_at_once(monkeypatch, tmp_path):
    """Without internet: no minute of retries, and the remedy names what works offline."""
    import huggingface_hub

    def no_such_host(*_):
        raise OSError

    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    monkeypatch.setattr("socket.getaddrinfo", no_such_host)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(ConfigError, match=r"'resnet18' cannot be had: \S+ cannot be") as caught:
        check_config(config("resnet18", "hub"))
    assert "packaged" in caught.value.remedy


def test_a_download_that_fails_is_said(monkeypatch):
    """The name resolves and the download ends: any transport's error has the same remedy."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: "there")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "/nonexistent")
    with pytest.raises(ConfigError, match="'test_resnet' cannot be had") as caught:
        build_network(config("test_resnet", "hub"))
    assert "Connect to the internet" in caught.value.remedy
