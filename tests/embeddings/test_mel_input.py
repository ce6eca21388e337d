"""Pictures: equal to librosa's, resized as torch does, shared with the fused pass."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.listening import RATE_HZ, hear, scene

from birdstack.embeddings import picture
from birdstack.embeddings.backbone import NetworkInput
from birdstack.embeddings.mel_config import MelConfig
from birdstack.embeddings.mel_input import MelInput
from birdstack.embeddings.wave_input import WaveInput
from birdstack.features.fused_pass import SpectralPass
from birdstack.features.fused_plan import FrontEnd
from birdstack.store.errors import ConfigError

PLAIN = {"normalise": "none"}
WINDOW_S = 5.0


def librosa_mel(samples, config: MelConfig) -> np.ndarray:
    """Mel power `[mel, frame]` as librosa computes it, in double precision."""
    import librosa

    return librosa.feature.melspectrogram(
        y=samples.astype(np.float64),
        sr=config.sample_rate_hz,
        n_fft=config.n_fft,
        hop_length=config.hop,
        n_mels=config.n_mels,
        fmin=config.fmin_hz,
        fmax=config.fmax_hz,
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hop": 512, "top_db": 60.0},
        {"n_fft": 1024, "hop": 320, "n_mels": 64, "fmin_hz": 50, "fmax_hz": 14000},
    ],
)
def test_the_db_scale_is_librosas(settings):
    """`power_to_db(melspectrogram, ref=max, top_db)` within .01 dB."""
    import librosa

    config = MelConfig(**PLAIN, **settings)
    samples = scene(WINDOW_S, 1)
    expected = librosa.power_to_db(librosa_mel(samples, config), ref=np.max, top_db=config.top_db)
    own = MelInput(config, WINDOW_S).prepare(samples)
    assert own.dtype == np.float32
    kept = expected[:, : own.shape[2]]
    np.testing.assert_allclose(own[0], kept, rtol=0, atol=0.01)
    assert np.ptp(kept) > 30  # there is something to see


def test_real_sound_is_librosas(real_data):
    """A real soundscape with its cells above the codec's low-pass, within .01 dB."""
    import librosa

    path = sorted(real_data.glob("soundscapes/*/*.wav"))[3]
    samples = hear(path)[: round(WINDOW_S * RATE_HZ)]
    config = MelConfig(**PLAIN)
    expected = librosa.power_to_db(librosa_mel(samples, config), ref=np.max)
    own = MelInput(config, WINDOW_S).prepare(samples)[0]
    np.testing.assert_allclose(own, expected[:, :320], rtol=0, atol=0.01)


@pytest.mark.parametrize("hop", [500, 512])
def test_pcen_is_librosas(hop):
    """`librosa.pcen` of the scaled mel power, its mean started from the first .4 s."""
    import librosa

    config = MelConfig(scale="pcen", hop=hop, **PLAIN)
    samples = scene(WINDOW_S, 2)
    energy = librosa_mel(samples, config) * 2.0**31
    frames_back = -(-2048 // (2 * hop))
    settled = energy[:, frames_back : frames_back + round(0.4 * RATE_HZ / hop)]
    frames = 0.4 * RATE_HZ / hop
    decay = (np.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2)
    start = (1 - decay) * settled.mean(axis=1, keepdims=True)
    expected = librosa.pcen(energy, sr=RATE_HZ, hop_length=hop, zi=start)
    own = MelInput(config, WINDOW_S).prepare(samples)[0]
    np.testing.assert_allclose(own, expected[:, : own.shape[1]], rtol=2e-3, atol=1e-4)
    later = librosa.pcen(energy, sr=RATE_HZ, hop_length=hop)  # from librosa's own start
    np.testing.assert_allclose(own[:, 200:], later[:, 200 : own.shape[1]], rtol=0.02, atol=0.02)
    assert np.abs(own[:, :20] - later[:, :20]).max() > 1  # which is what differs


@pytest.mark.parametrize("size", [(224, 224), (256, 512), (64, 128), (512, 400), (128, 100)])
def test_resizing_is_torchs(size):
    """Bilinear with antialias, up and down, within 1e-5 of the range."""
    import torch

    config = MelConfig(height=size[0], width=size[1], **PLAIN)
    samples = scene(WINDOW_S, 3)
    own = MelInput(config, WINDOW_S).prepare(samples)
    whole = MelInput(MelConfig(width=321, **PLAIN), WINDOW_S).prepare(samples)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(whole)[None], size, mode="bilinear", antialias=True
    )[0]
    assert own.shape == (1, *size)
    np.testing.assert_allclose(own, expected.numpy(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("sizes", [(1, 5), (7, 3), (5, 5), (313, 40), (40, 313)])
def test_resizing_keeps_what_is_even(sizes):
    """Weights of each new pixel add up to one, and none is negative."""
    weights = picture.resize_weights(*sizes)
    assert weights.shape == sizes[::-1]
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    rows = np.random.default_rng(0).normal(size=(sizes[0], 3)).astype(np.float32)
    few = picture.Resize.between(*sizes).rows(rows)
    np.testing.assert_allclose(few, weights @ rows, rtol=1e-5, atol=1e-5)


def test_normalised_pictures():
    """`window`: mean 0, deviation 1; `unit`: the loudest cell 1, the floor -1; silence: zeros."""
    samples = scene(WINDOW_S, 4)
    each = MelInput(MelConfig(), WINDOW_S).prepare(samples)
    assert abs(each.mean()) < 1e-5
    assert each.std() == pytest.approx(1, abs=1e-5)
    unit = MelInput(MelConfig(normalise="unit", top_db=20), WINDOW_S).prepare(samples)
    assert (unit.min(), unit.max()) == pytest.approx((-1, 1))
    silent = MelInput(MelConfig(), WINDOW_S).prepare(np.zeros_like(samples))
    assert not silent.any()


@pytest.mark.parametrize("scale", ["db", "pcen"])
def test_a_pass_is_shared(scale):
    """The picture of a pass that has transformed the window is that of `prepare`, bit for bit."""
    source = MelInput(MelConfig(hop=512, scale=scale, precision="float64"), WINDOW_S)
    samples = scene(WINDOW_S, 5)
    own = SpectralPass(FrontEnd())  # the acoustic views'
    assert source.shares(own)
    own.transform(samples)
    np.testing.assert_array_equal(source.from_pass(own), source.prepare(samples))


def test_precisions_differ_by_less_than_can_be_seen():
    """The float32 transform draws the picture of the float64 one within .01 dB."""
    samples = scene(WINDOW_S, 5)
    rough = MelInput(MelConfig(**PLAIN), WINDOW_S).prepare(samples)
    exact = MelInput(MelConfig(precision="float64", **PLAIN), WINDOW_S).prepare(samples)
    np.testing.assert_allclose(rough, exact, rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("front_end", "precision", "seconds"),
    [
        (FrontEnd(), "float64", 5.0),
        (FrontEnd(hop=500), "float32", 5.0),
        (FrontEnd(hop=500), "float64", 4.0),
    ],
    ids=["hop", "precision", "length"],
)
def test_a_pass_of_something_else_is_refused(front_end, precision, seconds):
    """Another front end or precision, or a window of another length."""
    other = SpectralPass(front_end, precision)
    other.transform(scene(seconds))
    with pytest.raises(ConfigError, match="cannot serve the picture"):
        MelInput(MelConfig(precision="float64"), WINDOW_S).from_pass(other)


def test_a_rough_picture_has_a_pass_of_its_own():
    """A picture in float32 is not drawn from a pass in float32, whose last digits differ."""
    source = MelInput(MelConfig(), WINDOW_S)
    assert not source.shares(SpectralPass(FrontEnd(hop=500), "float32"))


@pytest.mark.parametrize("source", [MelInput(MelConfig(), 5.0), WaveInput(32000, 5.0)])
def test_an_input_keeps_its_contract(source):
    """Shape, float32, a copy; windows of another length are refused with the length."""
    assert isinstance(source, NetworkInput)
    samples = scene(5.0, 6)
    before = samples.copy()
    prepared = source.prepare(samples)
    assert (prepared.shape, prepared.dtype) == (source.shape, np.float32)
    assert not np.shares_memory(prepared, samples)
    np.testing.assert_array_equal(samples, before)
    with pytest.raises(ConfigError, match="must hold 160000 samples"):
        source.prepare(samples[:-1])


def test_the_recipe_says_what_matters():
    """Equal pictures have equal recipes, other pictures have others."""

    def recipe(window_s=5.0, **settings):
        return MelInput(MelConfig(**settings), window_s).recipe

    assert recipe() == recipe(height=128, width=320)
    assert recipe(scale="pcen") == recipe(scale="pcen", top_db=60)
    told = [
        recipe(),
        recipe(top_db=60),
        recipe(scale="pcen"),
        recipe(width=256),
        recipe(hop=512),
        recipe(normalise="none"),
        recipe(precision="float64"),
        recipe(window_s=4.0, width=320),
    ]
    assert all(told.count(one) == 1 for one in told)


def test_threads_do_not_disturb_each_other():
    """Windows prepared by four threads are those of one."""
    source = MelInput(MelConfig(height=64, width=128), WINDOW_S)
    windows = [scene(WINDOW_S, seed) for seed in range(8)]
    alone = [source.prepare(samples) for samples in windows]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(source.prepare, windows), strict=True):
            np.testing.assert_array_equal(one, other)
