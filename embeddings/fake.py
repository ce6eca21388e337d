"""A backbone that costs next to nothing: for tests of whatever handles backbones.

It hears: embeddings are a fixed random projection of how much energy lies in each of a few
bands, so a linear head on them can tell a low whistle from a high one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from birdstack.embeddings.backbone import Heard
from birdstack.store.errors import ConfigError

FAKE_VERSION = 1
"""Raised when the same seed gives other numbers than before."""

_FRAME = 1024
_QUIET = 1e-6  # power of a band that counts as silence
_LOUD_DB = 60.0  # a full-scale whistle stands about so far above it


class BandInput:
    """Energy of a few bands, evenly spaced up to half the rate: mean and spread over frames.

    Args:
        sample_rate_hz: rate of the samples.
        window_s: length of a window in seconds.
        n_bands: number of bands.
    """

    def __init__(self, sample_rate_hz: int, window_s: float, n_bands: int = 32) -> None:
        self._rate_hz = sample_rate_hz
        self._n_samples = round(window_s * sample_rate_hz)
        self._n_bands = n_bands
        if self._n_samples < _FRAME:
            message = f"a window of {self._n_samples} samples is shorter than one frame ({_FRAME})"
            raise ConfigError(message, remedy="use a longer window_s")

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the samples that `prepare` takes."""
        return self._rate_hz

    @property
    def shape(self) -> tuple[int, ...]:
        """`(2, band)`: mean and standard deviation over frames."""
        return (2, self._n_bands)

    @property
    def recipe(self) -> dict[str, Any]:
        """Rate, length and bands."""
        return {
            "kind": "bands",
            "version": FAKE_VERSION,
            "sample_rate_hz": self._rate_hz,
            "samples": self._n_samples,
            "bands": self._n_bands,
        }

    def prepare(self, samples: np.ndarray) -> np.ndarray:
        """Log energies of one window `[sample]`, float32 `(2, band)`, about 0 to 1.

        Raises:
            ConfigError: the window has another length.
        """
        if samples.shape != (self._n_samples,):
            message = f"a window of shape {samples.shape}, expected ({self._n_samples},) samples"
            raise ConfigError(message, remedy="cut windows of the length the input was made for")
        n_frames = self._n_samples // _FRAME
        frames = samples[: n_frames * _FRAME].reshape(n_frames, _FRAME).astype(np.float64)
        power = np.abs(np.fft.rfft(frames * np.hanning(_FRAME), axis=1)) ** 2 / _FRAME
        edges = np.linspace(0, power.shape[1], self._n_bands + 1).astype(int)[:-1]
        bands = np.add.reduceat(power, edges, axis=1)
        level = 10 * np.log10(1 + bands / _QUIET) / _LOUD_DB
        return np.stack([level.mean(axis=0), level.std(axis=0)]).astype(np.float32)


class FakeBackbone:
    """Deterministic numbers from band energies and a seed; numpy only.

    Args:
        name: of its views.
        window_s: length of a window in seconds.
        sample_rate_hz: rate it takes.
        dim: length of an embedding.
        classes: names of its logits; none: it has no logits.
        seed: of its weights.
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        window_s: float = 5.0,
        sample_rate_hz: int = 32_000,
        dim: int = 32,
        classes: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        self._name = name
        self._input = BandInput(sample_rate_hz, window_s)
        self._dim = dim
        self._classes = tuple(classes)
        self._seed = seed
        rng = np.random.default_rng(seed)
        n_inputs = int(np.prod(self._input.shape))
        self._trunk = rng.normal(0, 1 / np.sqrt(n_inputs), (n_inputs, dim))
        self._head = rng.normal(0, 1, (dim, len(self._classes)))

    @property
    def name(self) -> str:
        """Name of its views."""
        return self._name

    @property
    def input(self) -> BandInput:
        """Band energies."""
        return self._input

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._dim

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of its logits, in order."""
        return self._classes

    @property
    def recipe(self) -> dict[str, Any]:
        """Seed, sizes, input and classes."""
        return {
            "kind": "fake",
            "version": FAKE_VERSION,
            "seed": self._seed,
            "dim": self._dim,
            "classes": list(self._classes),
            "input": self._input.recipe,
        }

    def run(self, inputs: np.ndarray) -> Heard:
        """Hear prepared inputs `[window, 2, band]`."""
        flat = inputs.reshape(len(inputs), self._trunk.shape[0]).astype(np.float64)
        # einsum without BLAS: a row's sum has one order, whatever stands in the other rows
        embeddings = np.einsum("wi,id->wd", flat, self._trunk)
        logits = np.einsum("wd,dc->wc", embeddings, self._head) if self._classes else None
        return Heard(
            embeddings.astype(np.float32), None if logits is None else logits.astype(np.float32)
        )
