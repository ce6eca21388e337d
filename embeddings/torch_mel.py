"""The picture of `MelInput` in torch, for many windows at once: training and extraction on a GPU.

Imports torch: imported by training and GPU extraction alone. On a processor `MelInput` is
faster: it works on blocks of frames that stay in the cache.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from birdstack.embeddings import picture
from birdstack.embeddings.mel_config import MelConfig
from birdstack.features.fused_plan import hann, mel_weights
from birdstack.store.errors import ConfigError


class TorchMel(nn.Module):
    """Log-mel pictures of a batch of windows, equal to `MelInput`'s.

    On the dB scale equal within .02 dB, before normalisation; on the PCEN scale within .1 %
    of the picture's largest value. Works in float32 under autocast too. It has nothing to
    learn; gradients flow through it.

    Args:
        config: the picture.
        window_s: length of a window.

    Attributes:
        n_samples: samples of a window.
        shape: `(1, height, width)` of a picture.

    Raises:
        ConfigError: the configuration does not fit the window.
    """

    def __init__(self, config: MelConfig, window_s: float) -> None:
        super().__init__()
        self.config = config
        height, width = config.size(window_s)
        self.shape = (1, height, width)
        self.n_samples = config.n_samples(window_s)
        self._kept = config.kept_frames(window_s)
        self._keep("window", hann(config.n_fft))
        self._keep("bands", mel_weights(config.front_end()))
        self._resized = (height != config.n_mels, width != self._kept)
        if self._resized[0]:
            self._keep("rows", picture.resize_weights(config.n_mels, height))
        if self._resized[1]:
            self._keep("columns", picture.resize_weights(self._kept, width).T)
        if config.scale == "pcen":
            self._keep("memory", _memory(config, config.n_frames(window_s)).T)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Windows `[b, sample]` to pictures `[b, 1, height, width]`, float32.

        Raises:
            ConfigError: the windows have another length than the module was made for.
        """
        if samples.shape[-1] != self.n_samples:
            message = f"mel: a window must hold {self.n_samples} samples, got {samples.shape[-1]}"
            raise ConfigError(message, remedy="Resample the sound and cut windows of that length.")
        with torch.autocast(samples.device.type, enabled=False):
            mel = self.mel(samples.float())
            scaled = self._pcen(mel) if self.config.scale == "pcen" else self._decibels(mel)
            drawn = scaled[..., : self._kept]
            if self._resized[0]:
                drawn = self.get_buffer("rows") @ drawn
            if self._resized[1]:
                drawn = drawn @ self.get_buffer("columns")
            return self._normalised(drawn)[:, None]

    def mel(self, samples: torch.Tensor) -> torch.Tensor:
        """Mel power of windows, `[b, mel, frame]`."""
        spectrum = torch.stft(
            samples,
            self.config.n_fft,
            hop_length=self.config.hop,
            window=self.get_buffer("window"),
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return self.get_buffer("bands") @ power

    def _decibels(self, mel: torch.Tensor) -> torch.Tensor:
        level = 10 * torch.log10(mel.clamp(min=picture.POWER_FLOOR))
        level = level - level.amax(dim=(1, 2), keepdim=True)
        return level.clamp(min=-self.config.top_db)

    def _pcen(self, mel: torch.Tensor) -> torch.Tensor:
        energy = mel * picture.PCEN_SCALE
        settled = picture.pcen_settled(self.config, energy.shape[2])
        start = energy[..., settled].mean(dim=2, keepdim=True)
        mean = torch.cat([start, energy], dim=2) @ self.get_buffer("memory")
        levelled = energy * torch.exp(-picture.PCEN_GAIN * torch.log(mean + picture.PCEN_FLOOR))
        root = torch.sqrt(levelled + picture.PCEN_BIAS)
        energies: torch.Tensor = levelled / (root + picture.PCEN_BIAS**0.5)
        return energies

    def _normalised(self, drawn: torch.Tensor) -> torch.Tensor:
        if self.config.normalise == "unit":
            return drawn * (2 / self.config.top_db) + 1
        if self.config.normalise == "none":
            return drawn
        centred = drawn - drawn.mean(dim=(1, 2), keepdim=True)
        spread = centred.square().mean(dim=(1, 2), keepdim=True).clamp(min=picture.STILL**2).sqrt()
        return torch.where(spread > picture.STILL, centred / spread, torch.zeros_like(centred))

    def _keep(self, name: str, values: np.ndarray) -> None:
        tensor = torch.from_numpy(np.array(values, dtype=np.float32))
        self.register_buffer(name, tensor, persistent=False)


def _memory(config: MelConfig, n_frames: int) -> np.ndarray:
    """The running mean of PCEN as one matrix, `[frame, 1 + frame]`.

    The first column weighs where the mean starts. A recursion would take a step for each
    frame; a matrix product is one step.
    """
    decay = picture.pcen_decay(config)
    age = np.arange(n_frames)[:, np.newaxis] - np.arange(n_frames)[np.newaxis, :]
    recent = np.where(age >= 0, decay * (1 - decay) ** np.maximum(age, 0), 0)
    start = (1 - decay) ** np.arange(1, n_frames + 1)
    return np.concatenate([start[:, np.newaxis], recent], axis=1)
