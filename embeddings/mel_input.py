"""The picture of a window: what most networks hear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from birdstack.embeddings import picture
from birdstack.embeddings.fourier import fastest_fourier
from birdstack.embeddings.mel_config import MelConfig
from birdstack.features.fused_pass import SpectralPass, thread_pass
from birdstack.features.picture_pass import picture_pass
from birdstack.store.errors import ConfigError

MEL_VERSION = 1
"""Raised when the same samples and configuration give another picture than before."""


class MelInput:
    """Turns samples into a log-mel picture.

    The dB scale is `librosa.power_to_db` of `librosa.feature.melspectrogram` within .01 dB
    with a transform in float32 (wrong by up to 5e-7 of the window's maximum), within 1e-4 dB
    with one in float64.

    Args:
        config: the picture.
        window_s: length of a window.

    Raises:
        ConfigError: the configuration does not fit the window.
    """

    def __init__(self, config: MelConfig, window_s: float) -> None:
        self.config = config
        self.window_s = window_s
        self._front_end = config.front_end()
        self._n_samples = config.n_samples(window_s)
        self._kept = config.kept_frames(window_s)
        self._size = config.size(window_s)
        height, width = self._size
        between = picture.Resize.between
        self._rows = None if height == config.n_mels else between(config.n_mels, height)
        self._columns = None if width == self._kept else between(self._kept, width)

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the samples that `prepare` takes."""
        return self.config.sample_rate_hz

    @property
    def shape(self) -> tuple[int, ...]:
        """`(1, height, width)`."""
        return (1, *self._size)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Everything that determines the picture from the samples."""
        config = self.config.model_dump(mode="json", exclude={"height", "width"})
        if self.config.scale == "pcen":
            del config["top_db"]
        height, width = self._size
        size = {"height": height, "width": width, "window_s": self.window_s}
        return {"input": "mel", "version": MEL_VERSION, **config, **size}

    def prepare(self, samples: np.ndarray) -> np.ndarray:
        """Picture of one window: samples `[sample]` to float32 `[1, height, width]`.

        Raises:
            ConfigError: the window has another length than the input was made for.
        """
        if samples.shape != (self._n_samples,):
            message = (
                f"mel: a window must hold {self._n_samples} samples ({self.window_s:g} s at "
                f"{self.sample_rate_hz} Hz), got shape {samples.shape}"
            )
            raise ConfigError(message, remedy="Resample the sound and cut windows of that length.")
        if self.config.precision == "float32":
            rough = picture_pass(self._front_end, fastest_fourier())
            rough.transform(samples)
            return self._drawn(rough.mel)
        exact = thread_pass(self._front_end)
        exact.transform(samples)
        return self._drawn(exact.mel)

    def shares(self, spectral_pass: SpectralPass) -> bool:
        """Whether `from_pass` can draw from that pass; pictures in float32 have their own."""
        exact = spectral_pass.precision == self.config.precision == "float64"
        return exact and spectral_pass.front_end == self._front_end

    def from_pass(self, spectral_pass: SpectralPass) -> np.ndarray:
        """Picture of the window that a pass has transformed last, without a second transform.

        Args:
            spectral_pass: with the same front end, both in float64.

        Returns:
            float32 `[1, height, width]`, the very picture of `prepare`.

        Raises:
            ConfigError: the pass has another front end, one of both is not in float64, or the
                pass heard a window of another length.
        """
        frames = self._front_end.n_frames(self._n_samples)
        if not self.shares(spectral_pass) or spectral_pass.n_frames != frames:
            message = (
                f"mel: a pass with {spectral_pass.front_end}, {spectral_pass.precision} and "
                f"{spectral_pass.n_frames} frames cannot serve the picture of {self._front_end}, "
                f"{self.config.precision} and {frames} frames"
            )
            raise ConfigError(message, remedy="Draw the picture from the samples.")
        return self._drawn(spectral_pass.mel)

    def _drawn(self, mel: np.ndarray) -> np.ndarray:
        """Picture `[1, height, width]` of mel power `[mel, frame]`."""
        config = self.config
        scaled = (
            picture.decibels(mel, config.top_db)
            if config.scale == "db"
            else picture.pcen(mel, config)
        )
        drawn = scaled[:, : self._kept]
        if self._rows is not None:
            drawn = self._rows.rows(drawn)
        if self._columns is not None:
            drawn = self._columns.rows(np.ascontiguousarray(drawn.T)).T
        drawn = np.ascontiguousarray(drawn, dtype=np.float32)
        return picture.normalised(drawn, config)[np.newaxis]
