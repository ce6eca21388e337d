"""A network that hears samples: a learnt bank of band-pass filters before a trunk.

Imports torch and timm: imported by `network` alone.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from birdstack.embeddings.mel_config import MelConfig
from birdstack.embeddings.timm_network import Pooling, TimmNetwork

_FILTER_S = 0.008
_LOWEST_HZ = 30.0
_NARROWEST_HZ = 30.0
_FLOOR = 1e-8
_STILL = 1e-6


class FilterBank(nn.Module):
    """Learnt band-pass filters, and the log of their energy over time: no Fourier transform.

    Every filter is the difference of two sinc low-passes under a Hamming window, so that only
    its two edges are learnt (SincNet: Ravanelli & Bengio 2018, "Speaker recognition from raw
    waveform with SincNet"). Its squared output is averaged under a window of two hops and
    compressed, as in LEAF (Zeghidour et al. 2021, "LEAF: a learnable frontend for audio
    classification"), here by a logarithm, and each picture is brought to zero mean and unit
    deviation. The filters are evaluated at every `stride`-th sample: what folds back keeps
    its energy, and energy is all that is kept.

    Args:
        config: rate, hop, number and range of the filters, which start evenly on a mel scale.
        window_s: length of a window.
    """

    def __init__(self, config: MelConfig, window_s: float) -> None:
        super().__init__()
        rate = config.sample_rate_hz
        self.sample_rate_hz = rate
        self.n_samples = config.n_samples(window_s)
        self.size = (config.n_mels, config.kept_frames(window_s))
        self.taps = 2 * round(_FILTER_S * rate / 2) + 1
        self.stride = _divisor(config.hop, at_most=max(1, self.taps // 32))
        self.step = config.hop // self.stride
        edges_hz = _mel_edges(config)
        self.low_hz = nn.Parameter(torch.from_numpy(edges_hz[:-2]).float())
        self.band_hz = nn.Parameter(torch.from_numpy(edges_hz[2:] - edges_hz[:-2]).float())
        time_s = torch.arange(-(self.taps // 2), self.taps // 2 + 1) / rate
        self.register_buffer("time_s", time_s, persistent=False)
        shape = torch.hamming_window(self.taps, periodic=False)
        self.register_buffer("shape", shape, persistent=False)
        smooth = torch.hann_window(2 * self.step, periodic=True)
        self.register_buffer("smooth", (smooth / smooth.sum())[None, None], persistent=False)

    def filters(self) -> torch.Tensor:
        """Impulse responses `[filter, 1, tap]`; gain 1 in the pass band."""
        nyquist_hz = self.sample_rate_hz / 2
        low = (self.low_hz.abs() + _LOWEST_HZ).clamp(max=nyquist_hz - _NARROWEST_HZ)
        high = (low + self.band_hz.abs() + _NARROWEST_HZ).clamp(max=nyquist_hz)
        shape: torch.Tensor = self.get_buffer("shape") / self.sample_rate_hz
        return ((self._low_pass(high) - self._low_pass(low)) * shape)[:, None]

    def _low_pass(self, edge_hz: torch.Tensor) -> torch.Tensor:
        """Ideal low-passes `[filter, tap]`, in units of the sample rate."""
        edge = edge_hz[:, None]
        # sin(x) / x written out: torch.sinc has no ONNX operator.
        angle = 2 * math.pi * edge * self.get_buffer("time_s")
        middle = angle == 0
        safe = torch.where(middle, torch.ones_like(angle), angle)
        return 2 * edge * torch.where(middle, torch.ones_like(angle), safe.sin() / safe)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Samples `[b, sample]` to a picture `[b, 1, filter, frame]`."""
        heard = functional.conv1d(
            samples[:, None], self.filters(), stride=self.stride, padding=self.taps // 2
        )
        energy = heard.square()
        batch, bands, steps = energy.shape
        flat = energy.reshape(batch * bands, 1, steps)
        mean = functional.conv1d(
            flat, self.get_buffer("smooth"), stride=self.step, padding=self.step
        )
        picture = torch.log(mean + _FLOOR).reshape(batch, 1, bands, -1)[..., : self.size[1]]
        centred = picture - picture.mean(dim=(2, 3), keepdim=True)
        # The floor keeps the gradient of silence finite.
        spread = (centred.square().mean(dim=(2, 3), keepdim=True) + _STILL).sqrt()
        return centred / spread


class WaveNetwork(nn.Module):
    """A filter bank and the picture network behind it, trained as one.

    Args:
        model: timm's name of the network behind the filter bank.
        config: rate, hop, number and range of the filters (size and scale are not used).
        window_s: length of a window.
        n_classes: length of the logits; 0: embeddings only.
        pooling: as in `TimmNetwork`.
        pretrained: the network behind starts from timm's weights.

    Attributes:
        dim: length of an embedding.
        n_classes: length of the logits.
        input_shape: `(sample,)`.
    """

    def __init__(
        self,
        model: str,
        config: MelConfig,
        window_s: float,
        *,
        n_classes: int = 0,
        pooling: Pooling = "avg",
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.bank = FilterBank(config, window_s)
        self.network = TimmNetwork(
            model, self.bank.size, n_classes=n_classes, pooling=pooling, pretrained=pretrained
        )
        self.dim = self.network.dim
        self.n_classes = n_classes
        self.input_shape = (self.bank.n_samples,)

    def forward(self, samples: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Samples `[b, sample]` to `(embedding,)` or `(embedding, logits)`."""
        heard: tuple[torch.Tensor, ...] = self.network(self.bank(samples))
        return heard

    def frames(self, samples: torch.Tensor) -> torch.Tensor:
        """Logits of every frame, `[b, frame, class]`; for pooling `sed` only."""
        return self.network.frames(self.bank(samples))


def _divisor(number: int, at_most: int) -> int:
    """The largest divisor of a number that is not above a limit."""
    return max(d for d in range(1, at_most + 1) if number % d == 0)


def _mel_edges(config: MelConfig) -> np.ndarray:
    """Edges of overlapping bands, even on O'Shaughnessy's mel scale, `[filter + 2]` in Hz."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (config.fmin_hz, config.fmax_hz))
    mel = np.linspace(low, high, config.n_mels + 2)
    return np.asarray(700 * (10 ** (mel / 2595) - 1))
