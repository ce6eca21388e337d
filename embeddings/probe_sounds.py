"""Sounds to compare engines on where no recording is at hand: noise, whistles, trills."""

from __future__ import annotations

import numpy as np

_N_SOUNDS = 24


def probe_sounds(n_samples: int, sample_rate_hz: int) -> list[np.ndarray]:
    """Windows `[sample]` that differ as those of recordings do; the same on every call.

    Noise of several colours and levels, under sweeps and trills at different heights.
    """
    rng = np.random.default_rng(20_240_403)
    time_s = np.arange(n_samples) / sample_rate_hz
    return [_sound(rng, time_s, sample_rate_hz) for _ in range(_N_SOUNDS)]


def _sound(rng: np.random.Generator, time_s: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(len(time_s)))
    colour = rng.uniform(0.0, 1.0)
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** colour
    noise = np.fft.irfft(spectrum, len(time_s))
    sound = noise / (noise.std() + 1e-12) * 10 ** rng.uniform(-3.5, -1.5)
    for _ in range(int(rng.integers(0, 4))):
        low_hz = rng.uniform(0.03, 0.2) * sample_rate_hz
        sweep_hz = rng.uniform(-0.1, 0.1) * low_hz
        phase = 2 * np.pi * (low_hz * time_s + sweep_hz * np.sin(2 * np.pi * time_s))
        trill = 0.5 * (1 + np.sin(2 * np.pi * rng.uniform(1, 25) * time_s))
        centre_s = rng.uniform(0, time_s[-1])
        shape = np.exp(-(((time_s - centre_s) / rng.uniform(0.2, 1.5)) ** 2))
        sound += 10 ** rng.uniform(-2, -0.5) * trill * shape * np.sin(phase)
    clipped: np.ndarray = np.clip(sound, -1, 1).astype(np.float32)
    return clipped
