"""Spectral contrast: how far peaks stand above valleys within an octave."""

from __future__ import annotations

import itertools

import numpy as np

from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.feature import feature
from birdstack.features.spectrum import HeardWindow


def _n_bands(config: AcousticConfig) -> int:
    return config.contrast_octaves + 1


@feature(
    group="contrast",
    formula="10 log10 of the mean of the loudest 2 % over the mean of the softest 2 % of |S| in "
    "a band: 0 to {c.contrast_fmin_hz:g} Hz, then {c.contrast_octaves} octaves up to "
    "{c.contrast_fmax_hz:g} Hz",
    source="Jiang et al. 2002; librosa.feature.spectral_contrast of the spectrogram cut at the "
    "highest edge",
    needs=("magnitude", "contrast_fmin_hz", "contrast_octaves"),
    unit="dB",
    rows=_n_bands,
    statistics=("mean", "std"),
)
def contrast(window: HeardWindow) -> np.ndarray:
    """Peak over valley of each octave band, `[band, frame]`, as librosa defines its bands.

    A band above the lowest also takes the bin below its lower edge, and every band but the
    highest gives up its top bin, so that neighbours share an edge but no bin.
    """
    import librosa  # noqa: PLC0415 - see spectrum.py

    config, frequencies_hz = window.config, window.frequencies_hz
    octaves = config.contrast_fmin_hz * 2.0 ** np.arange(config.contrast_octaves + 1)
    edges_hz = np.concatenate([[0.0], octaves])
    peaks, valleys = [], []
    for band, (low_hz, high_hz) in enumerate(itertools.pairwise(edges_hz)):
        bins = np.flatnonzero((frequencies_hz >= low_hz) & (frequencies_hz <= high_hz))
        first = bins[0] - 1 if band else bins[0]
        last = bins[-1]
        extremes = max(round(0.02 * (last - first + 1)), 1)
        stop = last if band < config.contrast_octaves else last + 1
        in_order = np.sort(window.magnitude[first:stop], axis=0)
        valleys.append(in_order[:extremes].mean(axis=0))
        peaks.append(in_order[-extremes:].mean(axis=0))
    # librosa takes magnitudes for powers here (10 log10 |S|); kept, to be comparable.
    difference: np.ndarray = librosa.power_to_db(np.stack(peaks)) - librosa.power_to_db(
        np.stack(valleys)
    )
    return difference
