"""Prepared inputs of the recording in hand: networks with one front end share one pass."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from birdstack.embeddings.backbone import NetworkInput
from birdstack.embeddings.mel_input import MelInput
from birdstack.features.fused_pass import SpectralPass
from birdstack.features.resample import resample
from birdstack.store.keys import WindowGrid
from birdstack.store.views import canonical_json

BLOCK = 64
"""Windows whose inputs are handed on at a time."""

_KEPT_BYTES = 256 << 20
"""Inputs of a recording that are larger than this are prepared anew for each network."""


class HeardSound(Protocol):
    """What the shelf needs of a decoded recording."""

    @property
    def samples(self) -> np.ndarray:
        """Mono `[sample]`."""
        ...

    @property
    def sample_rate_hz(self) -> int:
        """Rate of `samples`."""
        ...

    @property
    def grid(self) -> WindowGrid:
        """How the recording is cut."""
        ...

    @property
    def n_windows(self) -> int:
        """Number of its windows."""
        ...


class Pass(Protocol):
    """A pass over a window that has a spectrum to lend."""

    @property
    def spectral(self) -> SpectralPass:
        """The window's transform."""
        ...


class InputShelf:
    """Keeps what was prepared of each thread's present recording, and lets go of it after."""

    def __init__(self) -> None:
        self._own = threading.local()

    def blocks(
        self, sound: HeardSound, taken: NetworkInput, *, shift_s: float = 0.0
    ) -> Iterator[np.ndarray]:
        """Inputs of all windows in order, float32 `[up to BLOCK windows, *shape]`.

        Args:
            sound: the recording.
            taken: the input of a network.
            shift_s: hear every window that much later (earlier, if negative), held within
                the recording.
        """
        held = self._held(sound)
        key = f"{canonical_json(dict(taken.recipe))} {shift_s:g}"
        n_bytes = 4 * sound.n_windows * int(np.prod(taken.shape))
        if key not in held and n_bytes > _KEPT_BYTES:
            for start in range(0, sound.n_windows, BLOCK):
                indices = range(start, min(start + BLOCK, sound.n_windows))
                yield self._prepared(sound, taken, indices, shift_s)
            return
        if key not in held:
            held[key] = self._prepared(sound, taken, range(sound.n_windows), shift_s)
        inputs = held[key]
        for start in range(0, len(inputs), BLOCK):
            yield inputs[start : start + BLOCK]

    def listener(self, sound: HeardSound, taken: MelInput) -> Callable[[int, Pass], None]:
        """What draws the pictures of a recording while another pass holds its windows.

        Returns:
            To be called with a window's index and the pass; once it was called for the last
            window, `blocks` has the pictures already.
        """
        held = self._held(sound)
        pictures = np.empty((sound.n_windows, *taken.shape), dtype=np.float32)
        if pictures.nbytes > _KEPT_BYTES:
            return lambda _index, _pass: None

        def draw(index: int, heard: Pass) -> None:
            pictures[index] = taken.from_pass(heard.spectral)
            if index == len(pictures) - 1:
                held[f"{canonical_json(dict(taken.recipe))} 0"] = pictures

        return draw

    def _prepared(
        self, sound: HeardSound, taken: NetworkInput, indices: range, shift_s: float
    ) -> np.ndarray:
        rate_hz = taken.sample_rate_hz
        samples = self._at_rate(sound, rate_hz)
        length = sound.grid.window_samples(rate_hz)
        inputs = np.empty((len(indices), *taken.shape), dtype=np.float32)
        for row, index in zip(inputs, indices, strict=True):
            start = sound.grid.start_sample(index, rate_hz) + round(shift_s * rate_hz)
            start = min(start, len(samples) - length) if shift_s > 0 else start
            row[...] = taken.prepare(_cut(samples, max(start, 0), length))
        return inputs

    def _at_rate(self, sound: HeardSound, rate_hz: int) -> np.ndarray:
        if rate_hz == sound.sample_rate_hz:
            return sound.samples
        held = self._held(sound)
        key = f"samples {rate_hz}"
        if key not in held:
            held[key] = resample(sound.samples, sound.sample_rate_hz, rate_hz)
        return held[key]

    def _held(self, sound: HeardSound) -> dict[str, np.ndarray]:
        """What this thread has prepared of a recording; of any other it forgets."""
        own = self._own.__dict__
        if own.get("of", lambda: None)() is not sound:
            own["of"] = weakref.ref(sound)
            own["held"] = {}
        held: dict[str, np.ndarray] = own["held"]
        return held

    def __reduce__(self) -> tuple[Any, ...]:
        return (InputShelf, ())


def _cut(samples: np.ndarray, start: int, length: int) -> np.ndarray:
    """A stretch of samples, with zeros behind the end of the sound."""
    heard = samples[start : start + length]
    if len(heard) == length:
        return heard
    padded = np.zeros(length, dtype=np.float32)
    padded[: len(heard)] = heard
    return padded
