"""Pictures in torch are those of numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.listening import scene

from birdstack.embeddings.mel_config import MelConfig
from birdstack.embeddings.mel_input import MelInput
from birdstack.embeddings.torch_mel import TorchMel
from birdstack.store.errors import ConfigError

WINDOWS = np.stack([scene(5.0, seed) for seed in range(3)] + [np.zeros(160_000, np.float32)])


@pytest.mark.parametrize(
    ("settings", "atol"),
    [
        ({"normalise": "none"}, 0.02),
        ({"normalise": "unit", "top_db": 60.0}, 0.02 * 2 / 60),
        ({}, 0.005),
        ({"hop": 512, "height": 224, "width": 224, "normalise": "none"}, 0.02),
        ({"n_fft": 1024, "n_mels": 64, "width": 100, "fmin_hz": 60.0}, 0.005),
        ({"scale": "pcen", "normalise": "none"}, 0.005),
        ({"scale": "pcen"}, 0.01),
    ],
)
def test_equal_to_the_picture_in_numpy(settings, atol):
    """A batch gives each window's picture, within the bound of the docstring; silence too."""
    config = MelConfig(**settings)
    source = MelInput(config, 5.0)
    module = TorchMel(config, 5.0)
    assert module.shape == source.shape
    pictures = module(torch.from_numpy(WINDOWS)).numpy()
    expected = np.stack([source.prepare(samples) for samples in WINDOWS])
    np.testing.assert_allclose(pictures, expected, rtol=0, atol=atol)


def test_it_stays_exact_under_autocast():
    """bfloat16 would lose the quiet bands: the picture is float32 whatever is set around it."""
    module = TorchMel(MelConfig(), 5.0)
    samples = torch.from_numpy(WINDOWS[:1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        picture = module(samples)
    assert picture.dtype == torch.float32
    torch.testing.assert_close(picture, module(samples), rtol=0, atol=0)


def test_it_has_nothing_to_save_and_passes_gradients():
    """No weights in a checkpoint, and finite gradients to the samples."""
    module = TorchMel(MelConfig(n_mels=32), 5.0)
    assert module.state_dict() == {}
    samples = torch.from_numpy(WINDOWS[:1]).requires_grad_()
    module(samples).square().sum().backward()
    assert samples.grad is not None
    assert torch.isfinite(samples.grad).all()


def test_windows_of_another_length_are_refused():
    """As `MelInput` does."""
    with pytest.raises(ConfigError, match="must hold 160000 samples"):
        TorchMel(MelConfig(), 5.0)(torch.zeros(1, 1000))
