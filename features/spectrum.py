"""One window in time and frequency: the one short-time Fourier transform, and its shapes.

Every acoustic feature is a function of `HeardWindow`; nothing else transforms. The
arithmetic is float64 throughout: as a reference, its rounding must lie below that of
whatever is compared with it. Only librosa functions that run without numba are called
(`stft`, `filters.mel`, `power_to_db`): a numba cache filled by several processes at once can
crash later calls. Importing librosa takes about a second, and more than ten where numba has
compiled nothing yet, so it happens at the first transform.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from birdstack.features.acoustic_config import AcousticConfig

TRANSFORM_VERSION = 2
"""Raised whenever the spectra change for the same settings."""
POWER_FLOOR = 1e-10
"""librosa's amin: powers below it count as it."""
TOP_DB = 80.0
"""librosa's top_db: decibels further below the window's maximum count as that."""
TINY = float(np.finfo(np.float64).tiny)

_STFT = ("n_fft", "hop")
_MEL = (*_STFT, "n_mels", "mel_fmin_hz", "mel_fmax_hz")
INPUTS: dict[str, tuple[str, ...]] = {
    "samples": (),
    "magnitude": _STFT,
    "power": _STFT,
    "mel": _MEL,
    "mel_db": _MEL,
    "mel_relative_db": _MEL,
    "index_band": (*_STFT, "index_fmin_hz", "index_fmax_hz"),
    "song_power": (*_STFT, "song_fmin_hz", "song_fmax_hz"),
}
"""What a feature may need of a window, and the settings that it depends on."""

Result = TypeVar("Result")


class HeardWindow:
    """One window as the features see it; each shape is computed when first asked for.

    Not to be shared between threads.

    Args:
        samples: `[sample]`.
        config: sizes and limits.
        sample_rate_hz: rate of the samples.
        memory: what the windows of this recording before this one left; one dict for each
            recording, empty at its start.
        frames_to_next: frames of this window before the start of the next one; fewer than
            all where windows overlap. None: all.
        given: shapes already computed, by their names in `INPUTS`.

    Attributes:
        samples: `[sample]`, float64.
    """

    def __init__(
        self,
        samples: np.ndarray,
        *,
        config: AcousticConfig,
        sample_rate_hz: int,
        memory: dict[str, Any] | None = None,
        frames_to_next: int | None = None,
        given: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.samples: np.ndarray = np.asarray(samples, dtype=np.float64)
        self.config = config
        self.sample_rate_hz = sample_rate_hz
        self.memory: dict[str, Any] = {} if memory is None else memory
        self.frames_to_next = frames_to_next
        self._shared: dict[Callable[[HeardWindow], Any], Any] = {}
        if given:
            _refuse_unknown(given)
            vars(self).update(given)

    def shared(self, measure: Callable[[HeardWindow], Result]) -> Result:
        """`measure(self)`, computed once for all features that ask for it."""
        if measure not in self._shared:
            self._shared[measure] = measure(self)
        result: Result = self._shared[measure]
        return result

    @cached_property
    def frequencies_hz(self) -> np.ndarray:
        """Centre of each bin, `[bin]`."""
        n_fft = self.config.n_fft
        return np.arange(n_fft // 2 + 1) * self.sample_rate_hz / n_fft

    @property
    def frame_rate_hz(self) -> float:
        """Frames in a second."""
        return self.sample_rate_hz / self.config.hop

    @cached_property
    def magnitude(self) -> np.ndarray:
        """Modulus of the transform, `[bin, frame]`: Hann, centred, zero-padded at the edges."""
        import librosa  # noqa: PLC0415 - importing it costs seconds, and compiles with numba

        config = self.config
        spectrum = librosa.stft(self.samples, n_fft=config.n_fft, hop_length=config.hop)
        modulus: np.ndarray = np.abs(spectrum)
        return modulus

    @cached_property
    def power(self) -> np.ndarray:
        """Magnitude squared, `[bin, frame]`."""
        return self.magnitude**2

    @cached_property
    def mel(self) -> np.ndarray:
        """Power in mel bands, `[mel, frame]`."""
        config = self.config
        filters = mel_filters(
            self.sample_rate_hz,
            config.n_fft,
            config.n_mels,
            config.mel_fmin_hz,
            config.mel_fmax_hz,
        )
        powers: np.ndarray = filters @ self.power
        return powers

    @cached_property
    def mel_db(self) -> np.ndarray:
        """Mel power in dB, `[mel, frame]`, floored at -100 and at 80 below the maximum."""
        import librosa  # noqa: PLC0415 - see magnitude

        decibel: np.ndarray = librosa.power_to_db(self.mel, amin=POWER_FLOOR, top_db=TOP_DB)
        return decibel

    @cached_property
    def mel_relative_db(self) -> np.ndarray:
        """Mel power in dB below the window's maximum, `[mel, frame]`, from -80 to 0.

        Exactly independent of the recording's gain.
        """
        import librosa  # noqa: PLC0415 - see magnitude

        # A floor of 1e-30 is below any sound of 24 bits: it only keeps silence finite.
        decibel: np.ndarray = librosa.power_to_db(self.mel, ref=np.max, amin=1e-30, top_db=TOP_DB)
        return decibel

    @cached_property
    def index_band(self) -> np.ndarray:
        """Mask `[bin]` of the bins within the limits of the indices, both included."""
        return self._between(self.config.index_fmin_hz, self.config.index_fmax_hz)

    @cached_property
    def song_power(self) -> np.ndarray:
        """Power of each frame within the song band, both limits included, `[frame]`."""
        band = self._between(self.config.song_fmin_hz, self.config.song_fmax_hz)
        power: np.ndarray = self.power[band].sum(axis=0)
        return power

    def _between(self, low_hz: float, high_hz: float) -> np.ndarray:
        mask: np.ndarray = (self.frequencies_hz >= low_hz) & (self.frequencies_hz <= high_hz)
        return mask


def _refuse_unknown(given: Mapping[str, np.ndarray]) -> None:
    """A misspelt shape would be computed again, unnoticed."""
    unknown = sorted(set(given) - set(INPUTS) - {"frequencies_hz"})
    if unknown:
        message = f"a window has no shape {', '.join(unknown)}: give one of {', '.join(INPUTS)}"
        raise ValueError(message)


@functools.lru_cache(maxsize=8)
def mel_filters(
    sample_rate_hz: int, n_fft: int, n_mels: int, fmin_hz: float, fmax_hz: float
) -> np.ndarray:
    """Weights `[mel, bin]` of the mel bands (Slaney's scale, area norm; librosa); read only."""
    import librosa  # noqa: PLC0415 - see HeardWindow.magnitude

    weights: np.ndarray = librosa.filters.mel(
        sr=sample_rate_hz, n_fft=n_fft, n_mels=n_mels, fmin=fmin_hz, fmax=fmax_hz, dtype=np.float64
    )
    weights.setflags(write=False)
    return weights
