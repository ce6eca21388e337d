"""Puts birds into a place: distance, air, echoes, signal-to-noise ratio, the recorder's colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from birdstack.features.demo_background import Weather, background, self_noise
from birdstack.features.demo_song import RATE_HZ, Kind, Note, Samples, band_hz, render

_PEAK_OF_SOUNDSCAPES = 0.9
_EDGE_S = 0.05


@dataclass(frozen=True)
class Equipment:
    """How a recorder colours what it hears.

    Attributes:
        low_cut_hz: corner of its high-pass, one pole.
        high_cut_hz: corner of its low-pass, two poles.
        presence_db: lift or dip around 4 kHz.
        hiss_db: RMS of its own noise relative to full scale.
        peak_db: peak that its owner drives a recording to; above 0 the peaks are clipped.
            None for an autonomous recorder, whose gain is fixed and leaves headroom.
    """

    low_cut_hz: float
    high_cut_hz: float
    presence_db: float
    hiss_db: float
    peak_db: float | None = None


@dataclass(frozen=True)
class Event:
    """A stretch of singing by one bird.

    Attributes:
        species: primary label.
        kind: song or call.
        notes: times from the start of the recording.
        start_s: onset of the first note, not before the recording, to the millisecond.
        end_s: end of the last note, not after the recording, to the millisecond.
        distance_m: from bird to microphone.
        snr_db: mean power over [`start_s`, `end_s`) in the band of the notes, echoes
            included, over that of everything that is not a bird.
    """

    species: str
    kind: Kind
    notes: tuple[Note, ...]
    start_s: float
    end_s: float
    distance_m: float
    snr_db: float


@dataclass(frozen=True)
class Scene:
    """Everything that determines the samples of one recording.

    Attributes:
        path: file below the dataset's root.
        duration_s: length.
        weather: what surrounds the birds.
        equipment: the recorder.
        reverb_s: time in which echoes fall by 60 dB.
        events: the birds.
        seed: seeds the noise.
    """

    path: str
    duration_s: float
    weather: Weather
    equipment: Equipment
    reverb_s: float
    events: tuple[Event, ...]
    seed: tuple[int, ...]

    @property
    def n_samples(self) -> int:
        """Length in samples."""
        return round(self.duration_s * RATE_HZ)


def make_event(
    species: str,
    kind: Kind,
    notes: list[Note],
    *,
    duration_s: float,
    distance_m: float,
    snr_db: float,
) -> Event:
    """An event in a recording of `duration_s`; notes that begin after it are dropped."""
    heard = tuple(note for note in notes if note.start_s < duration_s - _EDGE_S)
    start_s = max(0.0, round(heard[0].start_s, 3))
    end_s = min(duration_s, round(max(note.end_s for note in heard), 3))
    return Event(species, kind, heard, start_s, end_s, round(distance_m, 1), round(snr_db, 2))


def render_scene(scene: Scene) -> Samples:
    """The recording, `[sample]` at `RATE_HZ`; the same for the same scene."""
    around, birds = render_parts(scene)
    for start, sound in birds:
        around[start : start + len(sound)] += sound
    return _recorded(around, scene.equipment)


def render_parts(scene: Scene) -> tuple[Samples, list[tuple[int, Samples]]]:
    """Background and birds before the recorder colours them.

    Returns:
        The background, `[sample]`, and for each event its first sample and its sound.
    """
    rng = np.random.default_rng(scene.seed)
    around = background(scene.weather, scene.n_samples, rng)
    around += self_noise(scene.n_samples, scene.equipment.hiss_db, rng)
    echo = _echo(scene.reverb_s, rng)
    return around, [_placed(event, around, echo, rng) for event in scene.events]


def band_power(sound: Samples, low_hz: float, high_hz: float) -> float:
    """Mean power of the samples between two frequencies."""
    from scipy import fft  # noqa: PLC0415 - slow to import

    n: int = fft.next_fast_len(len(sound), real=True)
    spectrum = fft.rfft(sound, n)
    first, last = int(low_hz * n / RATE_HZ), int(high_hz * n / RATE_HZ) + 1
    part = spectrum[first : last + 1]
    energy = float(np.sum(np.square(part.real) + np.square(part.imag)))
    return 2 * energy / n / len(sound)


def _placed(
    event: Event, around: Samples, echo: Samples, rng: np.random.Generator
) -> tuple[int, Samples]:
    """The sound of an event at its distance, at its level above the background."""
    start, end = round(event.start_s * RATE_HZ), round(event.end_s * RATE_HZ)
    offset_s = start / RATE_HZ
    notes = [Note(note.start_s - offset_s, note.syllable, note.gain) for note in event.notes]
    heard = _heard_from(render(notes, end - start, rng), event.distance_m, echo)
    band = band_hz(event.notes)
    signal = band_power(heard[: end - start], *band)
    noise = band_power(around[start:end], *band)
    heard *= np.float32(np.sqrt(noise / max(signal, 1e-20) * 10 ** (event.snr_db / 10)))
    return start, heard[: len(around) - start]


def _heard_from(sound: Samples, distance_m: float, echo: Samples) -> Samples:
    """Air and leaves take the high frequencies, echoes grow against the direct sound.

    The attenuation, `0.6 f^1.3` dB per 100 m with f in kHz, lies near ISO 9613-1 at 20 degrees
    and 70 % humidity, raised for foliage. The direct-to-echo ratio falls by 14 dB per decade.
    """
    from scipy import fft  # noqa: PLC0415 - slow to import

    n = fft.next_fast_len(len(sound) + len(echo), real=True)
    khz = np.fft.rfftfreq(n, 1 / RATE_HZ) / 1000
    air = 10 ** (-0.6 * khz**1.3 * distance_m / 100 / 20)
    echo_gain = 10 ** (-(18 - 14 * np.log10(max(distance_m, 1.0) / 5)) / 20)
    spectrum = fft.rfft(sound, n) * (air * (1 + echo_gain * fft.rfft(echo, n)))
    heard: Samples = fft.irfft(spectrum, n)[: len(sound) + len(echo)].astype(np.float32)
    return heard


def _echo(reverb_s: float, rng: np.random.Generator) -> Samples:
    """Echoes of one place: sparse at first, then dense, decaying and growing dull.

    Returns:
        `[sample]`, an impulse response of energy 1 without the direct sound.
    """
    n = round(0.8 * reverb_s * RATE_HZ)
    time_s = np.arange(n) / RATE_HZ
    dense = rng.uniform(size=n) < np.clip(time_s / 0.08, 0.002, 1.0)
    tail: npt.NDArray[np.float64] = rng.standard_normal(n) * dense * 10 ** (-3 * time_s / reverb_s)
    tail[: RATE_HZ // 100] = 0.0
    smooth = np.convolve(tail, np.hanning(7) / 3, mode="same")
    later = np.clip(time_s / reverb_s * 1.5, 0, 1)
    mixed = (1 - later) * tail + later * smooth
    echo: Samples = (mixed / np.sqrt(np.sum(np.square(mixed)))).astype(np.float32)
    return echo


def _recorded(sound: Samples, equipment: Equipment) -> Samples:
    from scipy.signal import sosfilt  # noqa: PLC0415 - slow to import

    coloured: Samples = sosfilt(_colour(equipment), sound).astype(np.float32)
    peak = float(np.abs(coloured).max())
    if equipment.peak_db is None:
        if peak > _PEAK_OF_SOUNDSCAPES:
            coloured *= np.float32(_PEAK_OF_SOUNDSCAPES / peak)
        return coloured
    coloured *= np.float32(10 ** (equipment.peak_db / 20) / peak)
    return np.clip(coloured, -1.0, 1.0)


def _colour(equipment: Equipment) -> npt.NDArray[np.float64]:
    """Second-order sections: high-pass, low-pass, and a peak filter at 4 kHz (RBJ cookbook)."""
    from scipy.signal import butter  # noqa: PLC0415 - slow to import

    low = butter(1, equipment.low_cut_hz, "highpass", fs=RATE_HZ, output="sos")
    high = butter(2, equipment.high_cut_hz, "lowpass", fs=RATE_HZ, output="sos")
    lift = 10 ** (equipment.presence_db / 40)
    angle = 2 * np.pi * 4000 / RATE_HZ
    width = np.sin(angle) / 2 / 0.7
    cosine = -2 * np.cos(angle)
    peak = np.array(
        [[1 + width * lift, cosine, 1 - width * lift, 1 + width / lift, cosine, 1 - width / lift]]
    )
    sections: npt.NDArray[np.float64] = np.concatenate([low, high, peak / peak[0, 3]])
    return sections
