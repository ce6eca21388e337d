"""Settings of the acoustic view, and the sizes that follow from them."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Group = Literal[
    "mfcc",
    "spectral",
    "wave",
    "contrast",
    "logmel",
    "pcen",
    "onset",
    "modulation",
    "activity",
    "indices",
]
GROUPS: tuple[Group, ...] = get_args(Group)
"""Every group, in the order of the family's views, `acoustic/<group>`."""


class AcousticConfig(BaseModel):
    """What the acoustic view measures.

    Attributes:
        n_fft: samples in a frame of the short-time Fourier transform (Hann window).
        hop: samples between the starts of neighbouring frames.
        n_mels: mel bands (Slaney's scale and area norm, librosa's default).
        mel_fmin_hz: lower edge of the lowest mel band.
        mel_fmax_hz: upper edge of the highest mel band; at most half the sample rate.
        n_mfcc: cepstral coefficients kept.
        n_bands: groups of neighbouring mel bands that log-mel and PCEN are averaged over;
            divides `n_mels`.
        contrast_fmin_hz: upper edge of the lowest band of spectral contrast; each further
            band is an octave.
        contrast_octaves: octave bands above it: 200 Hz and 6 octaves end at 12.8 kHz, below
            the low-pass of lossy codecs, to which contrast is fragile.
        index_fmin_hz: acoustic indices hear nothing below: wind and handling. NDSI keeps
            its own two bands.
        index_fmax_hz: acoustic indices hear nothing above: a codec's low-pass leaves bins
            there that hold rounding noise, and ACI gives each bin the same say.
        song_fmin_hz: lower edge of the song band, in which activity and modulation are
            measured: most birds sing between 1 and 8 kHz, most traffic and wind lie below.
        song_fmax_hz: upper edge of the song band.
        groups: kinds of columns, each a view of its own; the order given does not matter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_fft: int = Field(default=2048, ge=64, le=65536, multiple_of=2)
    hop: int = Field(default=512, ge=16, le=65536)
    n_mels: int = Field(default=128, ge=4, le=512)
    mel_fmin_hz: float = Field(default=0.0, ge=0)
    mel_fmax_hz: float = Field(default=16000.0, gt=0)
    n_mfcc: int = Field(default=20, ge=2, le=128)
    n_bands: int = Field(default=16, ge=1, le=128)
    contrast_fmin_hz: float = Field(default=200.0, gt=0)
    contrast_octaves: int = Field(default=6, ge=1, le=10)
    index_fmin_hz: float = Field(default=300.0, ge=0)
    index_fmax_hz: float = Field(default=15000.0, ge=2000)
    song_fmin_hz: float = Field(default=1000.0, ge=0)
    song_fmax_hz: float = Field(default=8000.0, gt=0)
    groups: tuple[Group, ...] = GROUPS

    @model_validator(mode="after")
    def _sizes_fit(self) -> AcousticConfig:
        problem = ""
        if self.hop > self.n_fft:
            problem = f"hop must be <= n_fft, got hop={self.hop}, n_fft={self.n_fft}"
        elif self.n_mels % self.n_bands:
            problem = f"n_bands must divide n_mels, got {self.n_bands} and {self.n_mels}"
        elif self.n_mfcc > self.n_mels:
            problem = f"n_mfcc must be <= n_mels, got {self.n_mfcc} and {self.n_mels}"
        elif any(low_hz >= high_hz for low_hz, high_hz in self._bands_hz):
            problem = "a lower frequency limit must lie below its upper limit"
        elif not self.groups or len(set(self.groups)) < len(self.groups):
            problem = f"groups must name at least one group, each once, got {self.groups}"
        if problem:
            raise ValueError(problem)
        return self

    @property
    def _bands_hz(self) -> tuple[tuple[float, float], ...]:
        return (
            (self.mel_fmin_hz, self.mel_fmax_hz),
            (self.index_fmin_hz, self.index_fmax_hz),
            (self.song_fmin_hz, self.song_fmax_hz),
        )

    @property
    def contrast_fmax_hz(self) -> float:
        """Upper edge of the highest band of spectral contrast."""
        return self.contrast_fmin_hz * 2.0**self.contrast_octaves

    @property
    def highest_hz(self) -> float:
        """Highest frequency that any setting asks for."""
        return max(self.contrast_fmax_hz, *(high_hz for _, high_hz in self._bands_hz))
