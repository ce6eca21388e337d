"""The picture's configuration: sizes, and what does not fit a window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from birdstack.embeddings.mel_config import MelConfig
from birdstack.store.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "window_s", "size"),
    [
        ({}, 5.0, (128, 320)),
        ({"hop": 512}, 5.0, (128, 312)),
        ({"hop": 512, "height": 224, "width": 224}, 5.0, (224, 224)),
        ({"height": 512, "width": 512}, 5.0, (512, 512)),
        ({"sample_rate_hz": 22050, "fmax_hz": 11000, "n_mels": 64}, 3.0, (64, 128)),
    ],
)
def test_a_picture_has_its_size(settings, window_s, size):
    """Height and width as configured, or bands and a multiple of eight frames."""
    assert MelConfig(**settings).size(window_s) == size


@pytest.mark.parametrize(("width", "kept"), [(None, 320), (320, 320), (314, 314), (313, 321)])
def test_few_frames_too_many_are_dropped(width, kept):
    """Up to seven frames are dropped; more are resized."""
    assert MelConfig(width=width).kept_frames(5.0) == kept


@pytest.mark.parametrize(
    ("settings", "window_s", "told"),
    [
        ({"n_fft": 8192}, 0.25, r"n_fft must be at most a window of 0\.25 s .*n_fft=8192"),
        ({"hop": 20_000}, 5.0, r"at least 16 frames, got 9 \(hop=20000\)"),
        ({"width": 2000}, 5.0, "width must be at most 4 times the 321 frames .* width=2000"),
        ({"n_mels": 32, "height": 256}, 5.0, "height must be at most 4 times the 32 bands"),
    ],
)
def test_what_does_not_fit_the_window_is_refused(settings, window_s, told):
    """The message names the rule and the value, and there is a remedy."""
    with pytest.raises(ConfigError, match=told) as caught:
        MelConfig(**settings).size(window_s)
    assert caught.value.remedy.startswith("Use ")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"n_fft": 256, "n_mels": 128}, r"\d+ of 128 mel bands are narrower than a frequency bin"),
        ({"scale": "pcen", "normalise": "unit"}, "normalise='unit' is a range in dB"),
        ({"sample_rate_hz": 16000}, "mel bands must lie within half the sample rate"),
        ({"fmin_hz": 9000, "fmax_hz": 8000}, "mel bands must lie within half the sample rate"),
    ],
)
def test_what_contradicts_itself_is_refused(settings, told):
    """At once, when the configuration is read."""
    with pytest.raises(ValidationError, match=told):
        MelConfig(**settings)


@given(
    hop=st.integers(16, 4000),
    n_fft=st.sampled_from([512, 1024, 4096]),
    window_s=st.floats(0.05, 20),
    width=st.none() | st.integers(16, 600),
)
def test_a_size_is_given_or_refused(hop, n_fft, window_s, width):
    """Any window: a ConfigError, or a picture of frames that are there."""
    config = MelConfig(hop=hop, n_fft=n_fft, n_mels=16, width=width)
    try:
        size = config.size(window_s)
    except ConfigError:
        return
    assert size[0] == 16
    assert size[1] == (width or size[1])
    assert 16 <= config.kept_frames(window_s) <= config.n_frames(window_s)
