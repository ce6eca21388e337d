"""What surrounds the birds: wind with gusts, insects, rain with drops, a stream, the recorder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from birdstack.features.demo_song import RATE_HZ, Samples

_LOOP = 1 << 19
"""Samples (16 s) after which stationary noise repeats; its gusts and chirps do not. Shaping
one loop by FFT, whose ends meet by construction, costs a tenth of filtering every sample."""

_Wave = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Insect:
    """A species of insect, singing in a chorus.

    Attributes:
        carrier_hz: centre of its sound; typical of the species.
        pulse_hz: pulses a second within a chirp.
        chirp_s: length of a chirp; 0 for one that sings without a break.
        gap_s: silence between chirps.
        level_db: RMS of the chorus relative to full scale.
    """

    carrier_hz: float
    pulse_hz: float
    chirp_s: float
    gap_s: float
    level_db: float


@dataclass(frozen=True)
class Weather:
    """Levels (RMS relative to full scale, in dB) of what sounds; None where it is absent."""

    wind_db: float | None = None
    rain_db: float | None = None
    stream_db: float | None = None
    insects: tuple[Insect, ...] = ()


def background(weather: Weather, n_samples: int, rng: np.random.Generator) -> Samples:
    """Everything but the birds, `[sample]` at `RATE_HZ`."""
    total: Samples = np.zeros(n_samples, dtype=np.float32)
    sources = ((weather.wind_db, _wind), (weather.rain_db, _rain), (weather.stream_db, _stream))
    for level_db, source in sources:
        if level_db is not None:
            total += _at_level(source(n_samples, rng), level_db)
    for insect in weather.insects:
        total += _at_level(_insects(insect, n_samples, rng), insect.level_db)
    return total


def self_noise(n_samples: int, level_db: float, rng: np.random.Generator) -> Samples:
    """The recorder's own hiss."""
    noise: Samples = rng.standard_normal(n_samples, dtype=np.float32)
    noise *= np.float32(10 ** (level_db / 20))
    return noise


def wander(n_samples: int, period_s: float, sd: float, rng: np.random.Generator) -> Samples:
    """A slow random factor around 1: log-normal, a new value every `period_s`."""
    n_points = int(n_samples / RATE_HZ / period_s) + 3
    moments_s = (np.arange(n_points) - rng.uniform()) * period_s
    return _joined(moments_s, np.exp(rng.normal(0.0, sd, n_points)), n_samples)


def _joined(moments_s: _Wave, values: _Wave, n: int) -> Samples:
    """Straight lines between values at increasing moments, in steps of 1 ms."""
    step = RATE_HZ // 1000
    coarse = np.interp(np.arange(n // step + 1) * 0.001, moments_s, values)
    return np.repeat(coarse.astype(np.float32), step)[:n]


def _at_level(sound: Samples, level_db: float) -> Samples:
    rms = float(np.sqrt(np.mean(np.square(sound)))) or 1.0
    levelled: Samples = sound * np.float32(10 ** (level_db / 20) / rms)
    return levelled


def _tiled(loop: _Wave, n: int) -> Samples:
    """A loop, scaled to standard deviation 1, repeated to a length."""
    return np.resize((loop / (loop.std() or 1.0)).astype(np.float32), n)


def _noise(n: int, gain: Callable[[_Wave], _Wave], rng: np.random.Generator) -> Samples:
    """Gaussian noise with a spectrum: `gain` maps frequencies in Hz to amplitudes."""
    spectrum = np.fft.rfft(rng.standard_normal(_LOOP)) * gain(np.fft.rfftfreq(_LOOP, 1 / RATE_HZ))
    return _tiled(np.fft.irfft(spectrum, _LOOP), n)


def _low(hz: _Wave, cutoff_hz: float) -> _Wave:
    """Amplitude of a one-pole low-pass."""
    gain: _Wave = 1 / np.sqrt(1 + np.square(hz / cutoff_hz))
    return gain


def _band(hz: _Wave, low_hz: float, high_hz: float) -> _Wave:
    """Amplitude of a band-pass with slopes of 12 dB per octave."""
    gain: _Wave = _low(hz, high_hz) ** 2 * (1 - _low(hz, low_hz) ** 2)
    return gain


def _wind(n: int, rng: np.random.Generator) -> Samples:
    """Rumble with gusts; leaves hiss along with the gusts."""
    gusts = wander(n, 2.2, 0.55, rng) * wander(n, 0.4, 0.2, rng)
    rumble = _noise(n, lambda hz: _low(hz, 90.0) * _low(hz, 260.0), rng)
    leaves = _noise(n, lambda hz: _band(hz, 900.0, 5500.0), rng)
    wind: Samples = gusts * (rumble + np.float32(0.16) * np.sqrt(gusts) * leaves)
    return wind


def _stream(n: int, rng: np.random.Generator) -> Samples:
    """Broad water noise that bubbles."""
    water = _noise(n, lambda hz: _band(hz, 300.0, 6000.0) * _low(hz, 900.0), rng)
    return water * wander(n, 0.07, 0.25, rng) * wander(n, 3.0, 0.1, rng)


def _rain(n: int, rng: np.random.Generator) -> Samples:
    """A wash from the canopy, and drops on leaves near the microphone."""
    wash = _noise(n, lambda hz: _band(hz, 1200.0, 12_000.0), rng) * wander(n, 4.0, 0.2, rng)
    drops = np.zeros(_LOOP)
    count = int(rng.poisson(14 * _LOOP / RATE_HZ))
    drops[rng.integers(0, _LOOP, count)] = rng.lognormal(0.0, 0.9, count)
    heard = np.zeros(_LOOP)
    length = RATE_HZ // 50
    time_s = np.arange(length) / RATE_HZ
    for place in np.flatnonzero(drops).tolist():
        pitch_hz, decay_s = 900.0 * rng.lognormal(0.0, 0.6), 0.0015 * rng.lognormal(0.0, 0.4)
        ringing = np.sin(2 * np.pi * pitch_hz * time_s) * np.exp(-time_s / decay_s)
        end = min(place + length, _LOOP)
        heard[place:end] += drops[place] * ringing[: end - place]
    return wash + np.float32(0.5) * _tiled(heard, n)


def _insects(insect: Insect, n: int, rng: np.random.Generator) -> Samples:
    """A chorus: a band of noise at the carrier for the many, three animals for the near."""
    narrow = 0.012 * insect.carrier_hz
    crowd = _noise(n, lambda hz: np.exp(-0.5 * np.square((hz - insect.carrier_hz) / narrow)), rng)
    far = 0.25 if insect.chirp_s else 0.6
    total = np.float32(far) * crowd * wander(n, 5.0, 0.25, rng)
    for _ in range(3):
        carrier_hz = insect.carrier_hz * float(np.exp(rng.normal(0.0, 0.012)))
        pulse_hz = insect.pulse_hz * float(np.exp(rng.normal(0.0, 0.05)))
        tone = _turns(carrier_hz, float(rng.uniform(0.0, 1.0)))
        pulses = np.square(0.5 + 0.5 * _turns(pulse_hz, 0.0))
        animal = np.resize((tone * pulses).astype(np.float32), n)
        total += np.float32(rng.uniform(0.5, 2.0)) * animal * _chirps(insect, n, rng)
    return total


def _turns(hz: float, phase: float) -> _Wave:
    """A sine of whole periods over the loop, so that it goes on where it repeats."""
    periods = round(hz * _LOOP / RATE_HZ)
    wave: _Wave = np.sin(2 * np.pi * (np.arange(_LOOP) * (periods / _LOOP) + phase))
    return wave


def _chirps(insect: Insect, n: int, rng: np.random.Generator) -> Samples:
    """1 while the animal chirps, 0 in between, with edges of 5 ms."""
    if not insect.chirp_s:
        return wander(n, 8.0, 0.4, rng)
    period_s = insect.chirp_s + insect.gap_s
    count = int(n / RATE_HZ / period_s * 1.3) + 4
    lengths_s = period_s * np.exp(rng.normal(0.0, 0.08, count))
    starts_s = np.cumsum(lengths_s) - period_s * (1 + rng.uniform())
    ends_s = starts_s + insect.chirp_s
    edges_s = np.stack([starts_s - 0.005, starts_s, ends_s - 0.005, ends_s], axis=1).ravel()
    return _joined(edges_s, np.tile([0.0, 1.0, 1.0, 0.0], count), n)
