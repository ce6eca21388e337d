"""How the song band swells and fades: syllable and trill rates.

The amplitude envelope is the root of each frame's power in the song band, relative to its
mean, so no column follows the recording's gain. A frame of 64 ms averages over faster
changes: at the default size it halves the amplitude of a modulation at about 16 Hz.
"""

from __future__ import annotations

import itertools

import numpy as np

from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.feature import feature
from birdstack.features.spectrum import TINY, HeardWindow

EDGES_HZ = (0.5, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Slow swells; phrases and slow calls; syllables; fast syllables; trills."""
_RATES_HZ = (2.0, 30.0)
_SILENT = 1e-9  # relative amplitude below which frames differ by rounding only
_BAND = "{c.song_fmin_hz:g} to {c.song_fmax_hz:g} Hz"


def _n_bands(_config: AcousticConfig) -> int:
    return len(EDGES_HZ) - 1


def _frame_rate_hz(config: AcousticConfig, sample_rate_hz: int) -> float:
    return sample_rate_hz / config.hop


@feature(
    group="modulation",
    formula="RMS of the envelope's relative amplitude in a band of modulation frequencies "
    f"between {', '.join(f'{edge:g}' for edge in EDGES_HZ)} Hz; envelope of {_BAND}",
    source="modulation spectrum, Houtgast & Steeneken 1985",
    needs=("song_power",),
    low=0.0,
    rows=_n_bands,
)
def modulation(window: HeardWindow) -> np.ndarray:
    """Modulation index in each band, `[row]`."""
    rates_hz, energy = window.shared(_spectrum)
    found = [
        np.sqrt(energy[(rates_hz >= low_hz) & (rates_hz < high_hz)].sum())
        for low_hz, high_hz in itertools.pairwise(EDGES_HZ)
    ]
    return np.array(found)


@feature(
    group="modulation",
    formula=f"modulation frequency of most energy from {_RATES_HZ[0]:g} to {_RATES_HZ[1]:g} Hz, "
    f"the rate of syllables or of a trill; 0 where the envelope is constant; envelope of {_BAND}",
    source="peak of the modulation spectrum, Houtgast & Steeneken 1985",
    needs=("song_power",),
    unit="Hz",
    low=0.0,
    high=_frame_rate_hz,
)
def modulation_rate(window: HeardWindow) -> float:
    """Rate of the strongest modulation."""
    rates_hz, energy, peak = window.shared(_peak)
    return float(rates_hz[peak]) if len(energy) and energy[peak] > 0 else 0.0


@feature(
    group="modulation",
    formula=f"share of the modulation energy from {_RATES_HZ[0]:g} to {_RATES_HZ[1]:g} Hz that "
    f"lies at modulation_rate and its two neighbours: near 1 for an even trill; envelope of {_BAND}",
    source="peak of the modulation spectrum, Houtgast & Steeneken 1985",
    needs=("song_power",),
    low=0.0,
    high=1.0,
)
def modulation_regularity(window: HeardWindow) -> float:
    """How much of the modulation is one rate."""
    _, energy, peak = window.shared(_peak)
    total = energy.sum()
    if total <= 0:
        return 0.0
    return min(float(energy[max(peak - 1, 0) : peak + 2].sum() / total), 1.0)


def _spectrum(window: HeardWindow) -> tuple[np.ndarray, np.ndarray]:
    """Modulation frequencies in Hz, and the mean square of the envelope at each, `[rate]`."""
    envelope = np.sqrt(window.song_power)
    n_frames = len(envelope)
    rates_hz = np.fft.rfftfreq(n_frames, 1 / window.frame_rate_hz)
    level = envelope.mean()
    if level <= TINY:
        return rates_hz, np.zeros(len(rates_hz))
    relative = envelope / level - 1.0
    if np.abs(relative).max() < _SILENT:
        return rates_hz, np.zeros(len(rates_hz))
    # Twice: negative frequencies hold the other half of the energy (Parseval).
    return rates_hz, 2 * np.abs(np.fft.rfft(relative) / n_frames) ** 2


def _peak(window: HeardWindow) -> tuple[np.ndarray, np.ndarray, int]:
    """Rates of syllables and trills, the energy at each, and the index of the largest."""
    rates_hz, energy = window.shared(_spectrum)
    inside = (rates_hz >= _RATES_HZ[0]) & (rates_hz < _RATES_HZ[1])
    chosen = energy[inside]
    return rates_hz[inside], chosen, int(chosen.argmax()) if len(chosen) else 0
