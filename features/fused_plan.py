"""What a fused pass needs to know before it hears anything: window, filters, bands."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from birdstack.features.acoustic_config import AcousticConfig


class FrontEnd(BaseModel):
    """Frames, transform and mel bands: what a spectrogram is made of.

    Attributes:
        sample_rate_hz: rate of the samples.
        n_fft: samples in a frame (Hann window, frames centred and zero-padded at the edges).
        hop: samples between the starts of neighbouring frames.
        n_mels: mel bands (Slaney's scale and area norm, librosa's default).
        mel_fmin_hz: lower edge of the lowest mel band.
        mel_fmax_hz: upper edge of the highest mel band.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_rate_hz: int = Field(default=32_000, ge=1_000, le=384_000)
    n_fft: int = Field(default=2048, ge=64, le=65536, multiple_of=2)
    hop: int = Field(default=512, ge=16, le=65536)
    n_mels: int = Field(default=128, ge=4, le=512)
    mel_fmin_hz: float = Field(default=0.0, ge=0)
    mel_fmax_hz: float = Field(default=16000.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> FrontEnd:
        if not self.mel_fmin_hz < self.mel_fmax_hz <= self.sample_rate_hz / 2:
            message = (
                "mel bands must lie within half the sample rate, got mel_fmin_hz="
                f"{self.mel_fmin_hz:g}, mel_fmax_hz={self.mel_fmax_hz:g} at {self.sample_rate_hz} Hz"
            )
            raise ValueError(message)
        return self

    @classmethod
    def of(cls, config: AcousticConfig, sample_rate_hz: int) -> FrontEnd:
        """The front end that the acoustic views use."""
        shared = cls.model_fields.keys() & type(config).model_fields.keys()
        chosen = {name: getattr(config, name) for name in shared}
        return cls(sample_rate_hz=sample_rate_hz, **chosen)

    @property
    def n_bins(self) -> int:
        """Number of frequency bins."""
        return self.n_fft // 2 + 1

    @property
    def frequencies_hz(self) -> np.ndarray:
        """Centre of each bin, `[bin]`."""
        return np.arange(self.n_bins) * self.sample_rate_hz / self.n_fft

    def n_frames(self, n_samples: int) -> int:
        """Frames of a window of `n_samples`."""
        return 1 + n_samples // self.hop

    def bins_between(self, low_hz: float, high_hz: float) -> tuple[int, int]:
        """First bin and end bin of those with `low <= f <= high`."""
        inside = np.flatnonzero((self.frequencies_hz >= low_hz) & (self.frequencies_hz <= high_hz))
        return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)


@dataclass(frozen=True, slots=True)
class SparseMel:
    """Mel filters without their zeros: band `m` weighs the bins `starts[m]:stops[m]`.

    Attributes:
        starts: first bin of each band, `[mel]`.
        stops: end bin of each band, `[mel]`.
        offsets: where each band's weights begin in `weights`, `[mel]`.
        weights: the weights of all bands, one after the other.
    """

    starts: np.ndarray
    stops: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray


def hann(n_fft: int) -> np.ndarray:
    """Periodic Hann window `[sample]`, float64, as librosa and scipy make it."""
    angles = np.linspace(-np.pi, np.pi, n_fft + 1)
    return np.asarray((0.5 + 0.5 * np.cos(angles))[:-1])


def mel_weights(front_end: FrontEnd) -> np.ndarray:
    """Weights `[mel, bin]`, float64; equal to `librosa.filters.mel`, without its import.

    Triangles between neighbouring edges that lie evenly on Slaney's scale: linear below
    1 kHz, logarithmic above; each has unit area (Slaney 1998, Auditory Toolbox).
    """
    limits = _mel_of_hz(np.array([front_end.mel_fmin_hz, front_end.mel_fmax_hz]))
    edges_hz = _hz_of_mel(np.linspace(limits[0], limits[1], front_end.n_mels + 2))
    frequencies_hz = np.fft.rfftfreq(front_end.n_fft, 1.0 / front_end.sample_rate_hz)
    widths_hz = np.diff(edges_hz)
    ramps = edges_hz[:, np.newaxis] - frequencies_hz
    rising = -ramps[:-2] / widths_hz[:-1, np.newaxis]
    falling = ramps[2:] / widths_hz[1:, np.newaxis]
    heights = 2.0 / (edges_hz[2:] - edges_hz[:-2])
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)) * heights[:, np.newaxis])


_MEL_HZ = 200.0 / 3.0  # Hz in a mel, below the knee
_KNEE_HZ = 1000.0
_KNEE = _KNEE_HZ / _MEL_HZ
_LOG_STEP = np.log(6.4) / 27.0


def _mel_of_hz(frequency_hz: np.ndarray) -> np.ndarray:
    above = np.log(np.maximum(frequency_hz, _KNEE_HZ) / _KNEE_HZ) / _LOG_STEP
    return np.where(frequency_hz >= _KNEE_HZ, _KNEE + above, frequency_hz / _MEL_HZ)


def _hz_of_mel(mel: np.ndarray) -> np.ndarray:
    above = _KNEE_HZ * np.exp(_LOG_STEP * (np.maximum(mel, _KNEE) - _KNEE))
    return np.where(mel >= _KNEE, above, mel * _MEL_HZ)


@functools.lru_cache(maxsize=16)
def sparse_mel(front_end: FrontEnd) -> SparseMel:
    """The mel filters of a front end; read only."""
    weights = mel_weights(front_end)
    starts, stops, parts = [], [], []
    for band in weights:
        heard = np.flatnonzero(band)
        start, stop = (heard[0], heard[-1] + 1) if len(heard) else (0, 0)
        starts.append(start)
        stops.append(stop)
        parts.append(band[start:stop])
    offsets = np.cumsum([0, *(len(part) for part in parts[:-1])])
    return SparseMel(
        starts=np.array(starts, dtype=np.int64),
        stops=np.array(stops, dtype=np.int64),
        offsets=offsets.astype(np.int64),
        weights=np.concatenate(parts).astype(np.float32),
    )


def contrast_bands(config: AcousticConfig, front_end: FrontEnd) -> np.ndarray:
    """First bin, end bin and number of extremes of each band of contrast, `[band, 3]`.

    As librosa defines them: a band above the lowest also takes the bin below its lower edge,
    and every band but the highest gives up its top bin.
    """
    octaves = config.contrast_fmin_hz * 2.0 ** np.arange(config.contrast_octaves + 1)
    bands = []
    for band, (low_hz, high_hz) in enumerate(itertools.pairwise([0.0, *octaves])):
        first, end = front_end.bins_between(low_hz, high_hz)
        first -= 1 if band else 0
        extremes = max(round(0.02 * (end - first)), 1)
        bands.append((first, end - 1 if band < config.contrast_octaves else end, extremes))
    return np.array(bands, dtype=np.int64)
