"""From mel power to a network's picture: scale, size and normalisation, in numpy.

`TorchMel` does the same in torch; the constants and the matrices of both are here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from birdstack.embeddings.mel_config import MelConfig

POWER_FLOOR = 1e-10  # librosa's amin
STILL = 1e-6  # standard deviation below which a picture says nothing

# PCEN, as librosa's defaults (Wang et al. 2017, "Trainable frontend for robust and far-field
# keyword spotting"); constants tuned for 32-bit integer samples, hence the energy's scale.
PCEN_SCALE = 2.0**31
PCEN_GAIN = 0.98
PCEN_BIAS = 2.0  # under a root: sqrt(x + 2) - sqrt(2) = x / (sqrt(x + 2) + sqrt(2))
PCEN_FLOOR = 1e-6
PCEN_TIME_S = 0.4


def decibels(mel: np.ndarray, top_db: float) -> np.ndarray:
    """`librosa.power_to_db(mel, ref=max, top_db)` of mel power `[mel, frame]`, float32."""
    level: np.ndarray = np.maximum(mel, POWER_FLOOR, dtype=np.float32)
    np.log10(level, out=level)
    level *= 10
    level -= level.max()
    np.maximum(level, -top_db, out=level)
    return level


def pcen_decay(config: MelConfig) -> float:
    """Weight `b` of a new frame in the running mean `M = b E + (1 - b) M`."""
    frames = PCEN_TIME_S * config.sample_rate_hz / config.hop
    return float((np.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2))


def pcen_settled(config: MelConfig, n_frames: int) -> slice:
    """Frames whose mean energy is where the running mean starts: the first .4 s of sound.

    Frames that reach back before the window, half of them zeros, are left out.
    """
    padded = -(-config.n_fft // (2 * config.hop))
    padded = min(padded, n_frames - 1)
    return slice(padded, padded + max(1, round(PCEN_TIME_S * config.sample_rate_hz / config.hop)))


def pcen(mel: np.ndarray, config: MelConfig) -> np.ndarray:
    """Per-channel energy normalisation of mel power `[mel, frame]`, float32.

    `librosa.pcen(mel * 2**31)` but for the running mean's start: every window is heard by
    itself, from the mean energy of its first .4 s rather than from librosa's fixed state of
    one unit, which lies orders of magnitude below real energies.
    """
    import scipy.signal  # noqa: PLC0415 - importing this module stays light

    energy = mel.astype(np.float64) * PCEN_SCALE
    decay = pcen_decay(config)
    start = energy[:, pcen_settled(config, energy.shape[1])].mean(axis=1, keepdims=True)
    mean, _ = scipy.signal.lfilter([decay], [1, decay - 1], energy, zi=(1 - decay) * start)
    level = (mean + PCEN_FLOOR).astype(np.float32)
    levelled = energy.astype(np.float32)
    levelled *= np.exp(np.float32(-PCEN_GAIN) * np.log(level, out=level), out=level)
    return np.asarray(levelled / (np.sqrt(levelled + PCEN_BIAS) + PCEN_BIAS**0.5))


def resize_weights(size: int, new_size: int) -> np.ndarray:
    """Bilinear resizing with antialias along one axis, `[new, old]`, float32.

    The weights of `torch.nn.functional.interpolate(mode="bilinear", antialias=True)`: a
    triangle as wide as the step between new pixels, at least two old pixels wide.
    """
    step = size / new_size
    reach = max(step, 1.0)
    centres = (np.arange(new_size) + 0.5) * step
    first = np.maximum(np.floor(centres - reach + 0.5), 0)[:, np.newaxis]
    end = np.minimum(np.floor(centres + reach + 0.5), size)[:, np.newaxis]
    pixels = np.arange(size)[np.newaxis, :]
    away = np.abs(pixels + 0.5 - centres[:, np.newaxis]) / reach
    weights = np.where((pixels >= first) & (pixels < end), np.maximum(1 - away, 0), 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Resize:
    """Resizing of one axis: every new pixel is a weighted sum of a few old ones.

    (A product of full matrices would call in the threads of a BLAS: many times the work, and
    slow on a busy machine.)

    Attributes:
        pixels: old pixels of each new one, `[tap, new]`.
        weights: of those, `[tap, new]` float32.
    """

    pixels: np.ndarray
    weights: np.ndarray

    @classmethod
    def between(cls, size: int, new_size: int) -> Resize:
        """The resizing of `size` pixels to `new_size`."""
        full = resize_weights(size, new_size)
        taps = int((full > 0).sum(axis=1).max())
        first = np.minimum((full > 0).argmax(axis=1), size - taps)
        pixels = first[np.newaxis, :] + np.arange(taps)[:, np.newaxis]
        return cls(pixels, np.ascontiguousarray(full[np.arange(new_size), pixels]))

    def rows(self, picture: np.ndarray) -> np.ndarray:
        """A picture `[old, width]` as `[new, width]`, float32."""
        parts = zip(self.pixels, self.weights, strict=True)
        resized = np.zeros((self.pixels.shape[1], picture.shape[1]), dtype=np.float32)
        for pixels, weights in parts:
            resized += picture[pixels] * weights[:, np.newaxis]
        return resized


def normalised(picture: np.ndarray, config: MelConfig) -> np.ndarray:
    """A picture `[height, width]` float32 in the network's range; changed in place."""
    if config.normalise == "window":
        # numpy sums in pairs: 1e-6 of the deviation, at a third of the time of float64
        picture -= picture.mean()
        spread = float(np.sqrt(np.square(picture).mean()))
        picture *= 1 / spread if spread > STILL else 0.0
    elif config.normalise == "unit":
        picture *= 2 / config.top_db
        picture += 1
    return picture
