"""What must hold before a recording can be measured; every acoustic extractor asks first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.cepstrum import DELTA_WIDTH
from birdstack.store.errors import ConfigError
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording


class WindowedSound(Protocol):
    """A decoded recording, cut into the windows of the grid."""

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the samples after resampling."""
        ...

    @property
    def n_windows(self) -> int:
        """Number of windows of the grid."""
        ...

    def window(self, index: int) -> np.ndarray:
        """Samples of window `index`, float32 `[sample]`, zero-padded to full length."""
        ...


def sample_rate_of(audio_recipe: Mapping[str, Any]) -> int:
    """Rate of the sound that an audio recipe promises.

    Raises:
        ConfigError: the recipe does not say.
    """
    rate = audio_recipe.get("sample_rate_hz")
    if not isinstance(rate, int) or rate <= 0:
        message = f"acoustic: the audio recipe must hold sample_rate_hz, got {dict(audio_recipe)}"
        raise ConfigError(message, remedy="hand in the recipe of the audio source")
    return rate


def refuse_misfits(config: AcousticConfig, sample_rate_hz: int, grid: WindowGrid) -> None:
    """Refuse settings that the sample rate or the windows cannot serve.

    Raises:
        ConfigError: a frequency limit lies above half the sample rate, bins are wider than
            the lowest band, or a window is too short for the frames that the columns need.
    """
    if config.highest_hz > sample_rate_hz / 2:
        message = (
            f"acoustic: frequency limits must lie within half the sample rate "
            f"({sample_rate_hz / 2:g} Hz), got {config.highest_hz:g} Hz"
        )
        remedy = "lower mel_fmax_hz, index_fmax_hz, song_fmax_hz or the octaves"
        raise ConfigError(message, remedy=remedy)
    if sample_rate_hz / config.n_fft > config.contrast_fmin_hz:
        message = (
            f"acoustic: bins must be no wider than contrast_fmin_hz={config.contrast_fmin_hz:g}, "
            f"got {sample_rate_hz / config.n_fft:g} Hz at n_fft={config.n_fft}"
        )
        raise ConfigError(message, remedy="raise n_fft or contrast_fmin_hz")
    samples = grid.window_samples(sample_rate_hz)
    frames = 1 + samples // config.hop
    if samples < config.n_fft or frames < DELTA_WIDTH:
        message = (
            f"acoustic: a window must hold {config.n_fft} samples and {DELTA_WIDTH} frames, "
            f"got window_s={grid.window_s} with {frames} frames"
        )
        raise ConfigError(message, remedy="lengthen the windows or shorten n_fft and hop")


def refuse_other_rate(sound: WindowedSound, recording: Recording, sample_rate_hz: int) -> None:
    """Refuse sound of another rate than the recipe says.

    Raises:
        ConfigError: names the recording and both rates.
    """
    if sound.sample_rate_hz != sample_rate_hz:
        message = (
            f"{recording.recording_id}: the acoustic views are set to {sample_rate_hz} Hz, "
            f"got sound of {sound.sample_rate_hz} Hz"
        )
        raise ConfigError(message, remedy="resample the sound to the rate of the recipe")


def frames_to_next(grid: WindowGrid, index: int, sample_rate_hz: int, hop: int) -> int:
    """Frames of window `index` whose centre lies before the start of the next window."""
    start = grid.start_sample(index, sample_rate_hz)
    step = grid.start_sample(index + 1, sample_rate_hz) - start
    return -(-step // hop)
