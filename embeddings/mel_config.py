"""The picture a network takes, in configuration."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from birdstack.features.fused_plan import FrontEnd, sparse_mel
from birdstack.store.errors import ConfigError

_MULTIPLE = 8  # of a picture's width where none is given
_MAX_STRETCH = 4  # columns or rows made of one: beyond that a picture is mostly made up
_MIN_SIDE = 16


class MelConfig(BaseModel):
    """A log-mel picture: transform, bands, scale and size.

    Attributes:
        sample_rate_hz: rate of the samples; another rate than the store's audio is resampled.
        n_fft: samples in a frame (Hann window, frames centred).
        hop: samples between frames. 500 divides a 5-s window at 32 kHz, 512 does not but is
            what the acoustic views use: with all else equal, the transform is then shared.
        n_mels: mel bands.
        fmin_hz: lower edge of the lowest band.
        fmax_hz: upper edge of the highest band.
        scale: `db` (10 log10 of power, floor `top_db` below the window's maximum) or `pcen`
            (per-channel energy normalisation, Wang et al. 2017).
        top_db: range of the dB scale below the window's maximum.
        precision: of the transform; float64 is the acoustic views', which is then shared.
        normalise: `window` (zero mean, unit standard deviation of each picture), `unit`
            (0 dB to 1, -top_db to -1; for the dB scale only) or `none`.
        height: rows of the picture; None: `n_mels`.
        width: columns of the picture; None: the window's frames less what is past a multiple
            of 8. A width that is less than 8 frames short drops the last frames; another size
            than the frames' is resized, bilinear with antialias.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_rate_hz: int = Field(default=32_000, ge=1_000, le=384_000)
    n_fft: int = Field(default=2048, ge=64, le=65536, multiple_of=2)
    hop: int = Field(default=500, ge=16, le=65536)
    n_mels: int = Field(default=128, ge=4, le=512)
    fmin_hz: float = Field(default=0.0, ge=0)
    fmax_hz: float = Field(default=16_000.0, gt=0)
    scale: Literal["db", "pcen"] = "db"
    top_db: float = Field(default=80.0, gt=0, le=200)
    precision: Literal["float32", "float64"] = "float32"
    normalise: Literal["window", "unit", "none"] = "window"
    height: int | None = Field(default=None, ge=_MIN_SIDE, le=4096)
    width: int | None = Field(default=None, ge=_MIN_SIDE, le=16384)

    @model_validator(mode="after")
    def _fits_together(self) -> MelConfig:
        front_end = self.front_end()
        empty = int(np.sum(sparse_mel(front_end).starts == sparse_mel(front_end).stops))
        if empty:
            message = (
                f"{empty} of {self.n_mels} mel bands are narrower than a frequency bin and hear "
                f"nothing (n_fft={self.n_fft}, fmin_hz={self.fmin_hz:g}): use fewer bands or a "
                "longer n_fft"
            )
            raise ValueError(message)
        if self.scale == "pcen" and self.normalise == "unit":
            message = "normalise='unit' is a range in dB, scale='pcen' has none: use 'window'"
            raise ValueError(message)
        return self

    def front_end(self) -> FrontEnd:
        """The spectral part, as the fused pass takes it."""
        return FrontEnd(
            sample_rate_hz=self.sample_rate_hz,
            n_fft=self.n_fft,
            hop=self.hop,
            n_mels=self.n_mels,
            mel_fmin_hz=self.fmin_hz,
            mel_fmax_hz=self.fmax_hz,
        )

    def n_samples(self, window_s: float) -> int:
        """Samples of a window."""
        return round(window_s * self.sample_rate_hz)

    def n_frames(self, window_s: float) -> int:
        """Frames of a window, before any cropping or resizing."""
        return self.front_end().n_frames(self.n_samples(window_s))

    def kept_frames(self, window_s: float) -> int:
        """Frames that reach the picture: the last ones are dropped to make the width even."""
        frames = self.n_frames(window_s)
        width = frames - frames % _MULTIPLE if self.width is None else self.width
        return width if 0 <= frames - width < _MULTIPLE else frames

    def size(self, window_s: float) -> tuple[int, int]:
        """Height and width of the picture of a window.

        Raises:
            ConfigError: the configuration does not fit windows of that length.
        """
        samples = self.n_samples(window_s)
        frames = self.n_frames(window_s)
        height = self.n_mels if self.height is None else self.height
        width = self.kept_frames(window_s) if self.width is None else self.width
        window = f"a window of {window_s:g} s ({samples} samples at {self.sample_rate_hz} Hz)"
        if self.n_fft > samples:
            message = f"mel: n_fft must be at most {window}, got n_fft={self.n_fft}"
            raise ConfigError(message, remedy="Use a smaller n_fft or longer windows.")
        if width < _MIN_SIDE or frames < _MIN_SIDE:
            message = f"mel: {window} must give at least {_MIN_SIDE} frames, got {frames} (hop={self.hop})"
            raise ConfigError(message, remedy="Use a smaller hop or longer windows.")
        for name, side, heard in (("width", width, frames), ("height", height, self.n_mels)):
            if side > _MAX_STRETCH * heard:
                message = (
                    f"mel: {name} must be at most {_MAX_STRETCH} times the {heard} "
                    f"{'frames' if name == 'width' else 'bands'} of {window}, got {name}={side}"
                )
                remedy = (
                    f"Use a smaller {name}, or more {'frames' if name == 'width' else 'bands'}."
                )
                raise ConfigError(message, remedy=remedy)
        return height, width
