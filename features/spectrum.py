"""The one short-time Fourier transform of a window, and the shape of its frames.

Every column of the acoustic view is computed from `Spectra`; nothing else transforms. The
arithmetic is float64 throughout: as a reference, its rounding must lie below that of
whatever is compared with it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.summaries import (
    Series,
    row_columns,
    summarise,
    summarise_rows,
    summary_columns,
)
from birdstack.store.views import Column

_POWER_FLOOR = 1e-10  # librosa's amin: powers below it count as it
_TOP_DB = 80.0  # librosa's top_db: decibels further below the window's maximum count as that


@dataclass(frozen=True, slots=True)
class Spectra:
    """A window in time and frequency.

    Attributes:
        samples: `[sample]`, float64.
        sample_rate_hz: rate of the samples.
        frequencies_hz: `[bin]`, centre of each bin.
        magnitude: `[bin, frame]`, modulus of the transform, Hann window, frames centred
            and zero-padded at the edges.
        power: `[bin, frame]`, magnitude squared.
        mel: `[mel, frame]`, power in mel bands.
        mel_db: `[mel, frame]`, dB, floored at -100 dB and at 80 dB below the maximum.
        mel_relative_db: `[mel, frame]`, dB below the window's maximum, from -80 to 0;
            exactly independent of the recording's gain.
    """

    samples: np.ndarray
    sample_rate_hz: int
    frequencies_hz: np.ndarray
    magnitude: np.ndarray
    power: np.ndarray
    mel: np.ndarray
    mel_db: np.ndarray
    mel_relative_db: np.ndarray


def mel_filters(config: AcousticConfig, sample_rate_hz: int) -> np.ndarray:
    """Weights `[mel, bin]` of the mel bands (Slaney's scale, area norm; librosa)."""
    import librosa  # noqa: PLC0415 - importing it costs seconds, and compiles with numba

    weights: np.ndarray = librosa.filters.mel(
        sr=sample_rate_hz,
        n_fft=config.n_fft,
        n_mels=config.n_mels,
        fmin=config.mel_fmin_hz,
        fmax=config.mel_fmax_hz,
        dtype=np.float64,
    )
    return weights


def transform(
    window: np.ndarray, *, filters: np.ndarray, config: AcousticConfig, sample_rate_hz: int
) -> Spectra:
    """Transform one window `[sample]`, with the weights of `mel_filters`."""
    import librosa  # noqa: PLC0415 - see mel_filters

    samples = window.astype(np.float64)
    magnitude = np.abs(librosa.stft(samples, n_fft=config.n_fft, hop_length=config.hop))
    power = magnitude**2
    mel = filters @ power
    return Spectra(
        samples=samples,
        sample_rate_hz=sample_rate_hz,
        frequencies_hz=np.arange(config.n_fft // 2 + 1) * sample_rate_hz / config.n_fft,
        magnitude=magnitude,
        power=power,
        mel=mel,
        mel_db=librosa.power_to_db(mel, amin=_POWER_FLOOR, top_db=_TOP_DB),
        # A floor of 1e-30 is below any sound of 24 bits: it only keeps silence finite.
        mel_relative_db=librosa.power_to_db(mel, ref=np.max, amin=1e-30, top_db=_TOP_DB),
    )


def in_band(spectra: Spectra, config: AcousticConfig) -> np.ndarray:
    """Mask `[bin]` of the bins whose centre lies between the limits of the indices."""
    mask: np.ndarray = (spectra.frequencies_hz >= config.index_fmin_hz) & (
        spectra.frequencies_hz <= config.index_fmax_hz
    )
    return mask


# --- group spectral ------------------------------------------------------------------------


def spectral_columns(sample_rate_hz: int) -> list[Column]:
    """Columns of `measure_spectral`."""
    top = sample_rate_hz / 2
    shapes = [
        Series(
            "spectral_centroid",
            "sum(f |S|) / sum(|S|); 0 in a silent frame. librosa.feature.spectral_centroid",
            "Hz",
            0.0,
            top,
        ),
        Series(
            "spectral_bandwidth",
            "sqrt(sum(|S| (f - centroid)^2) / sum(|S|)). librosa.feature.spectral_bandwidth",
            "Hz",
            0.0,
            top / 2,
        ),
        Series(
            "spectral_rolloff85",
            "lowest f below which 85 % of sum(|S|) lies. librosa.feature.spectral_rolloff",
            "Hz",
            0.0,
            top,
        ),
        Series(
            "spectral_rolloff95",
            "lowest f below which 95 % of sum(|S|) lies. librosa.feature.spectral_rolloff",
            "Hz",
            0.0,
            top,
        ),
        Series(
            "spectral_flatness",
            "geometric over arithmetic mean of max(|S|^2, 1e-10): 1 is white or silent. "
            "librosa.feature.spectral_flatness",
            "",
            0.0,
            1.0,
        ),
    ]
    return [column for series in shapes for column in summary_columns(series)]


def measure_spectral(spectra: Spectra) -> dict[str, float]:
    """Statistics of centroid, bandwidth, rolloff and flatness of the frames."""
    centroid = centroids_hz(spectra)
    return (
        summarise("spectral_centroid", centroid)
        | summarise("spectral_bandwidth", bandwidths_hz(spectra, centroid))
        | summarise("spectral_rolloff85", rolloffs_hz(spectra, 0.85))
        | summarise("spectral_rolloff95", rolloffs_hz(spectra, 0.95))
        | summarise("spectral_flatness", flatnesses(spectra))
    )


def _weights(spectra: Spectra) -> np.ndarray:
    """Magnitudes `[bin, frame]` scaled to sum to 1 in each frame; a silent frame stays 0."""
    total = spectra.magnitude.sum(axis=0)
    return spectra.magnitude / np.where(total > np.finfo(np.float64).tiny, total, 1.0)


def centroids_hz(spectra: Spectra) -> np.ndarray:
    """Mean frequency of each frame, weighted by magnitude, `[frame]`."""
    centroid: np.ndarray = spectra.frequencies_hz @ _weights(spectra)
    return centroid


def bandwidths_hz(spectra: Spectra, centroid_hz: np.ndarray) -> np.ndarray:
    """Standard deviation of frequency in each frame, weighted by magnitude, `[frame]`."""
    deviation_hz = spectra.frequencies_hz[:, np.newaxis] - centroid_hz
    bandwidth: np.ndarray = np.sqrt((_weights(spectra) * deviation_hz**2).sum(axis=0))
    return bandwidth


def rolloffs_hz(spectra: Spectra, share: float) -> np.ndarray:
    """Lowest frequency at which the running sum of magnitudes reaches `share`, `[frame]`."""
    running = np.cumsum(spectra.magnitude, axis=0)
    first = np.argmax(running >= share * running[-1], axis=0)
    rolloff: np.ndarray = spectra.frequencies_hz[first]
    return rolloff


def flatnesses(spectra: Spectra) -> np.ndarray:
    """Wiener entropy of each frame: geometric over arithmetic mean of power, `[frame]`."""
    power = np.maximum(spectra.power, _POWER_FLOOR)
    geometric_mean = np.exp(np.log(power).mean(axis=0))
    flatness: np.ndarray = geometric_mean / power.mean(axis=0)
    return flatness


# --- group contrast ------------------------------------------------------------------------


def contrast_columns(config: AcousticConfig) -> list[Column]:
    """Columns of `measure_contrast`."""
    series = Series(
        "contrast",
        "10 log10 of the mean of the loudest 2 % over the mean of the softest 2 % of |S| in a "
        f"band: 0 to {config.contrast_fmin_hz:g} Hz, then {config.contrast_octaves} octaves up "
        f"to {config.contrast_fmax_hz:g} Hz. Jiang et al. 2002; librosa.feature.spectral_contrast "
        "of the spectrogram cut at the highest edge",
        "dB",
    )
    return row_columns(series, config.contrast_octaves + 1)


def measure_contrast(spectra: Spectra, config: AcousticConfig) -> dict[str, float]:
    """Mean and standard deviation of spectral contrast in each octave."""
    return summarise_rows("contrast", contrasts_db(spectra, config))


def contrasts_db(spectra: Spectra, config: AcousticConfig) -> np.ndarray:
    """Peak over valley of each octave band, `[band, frame]`, as librosa defines its bands.

    A band above the lowest also takes the bin below its lower edge, and every band but the
    highest gives up its top bin, so that neighbours share an edge but no bin.
    """
    import librosa  # noqa: PLC0415 - see mel_filters

    frequencies_hz = spectra.frequencies_hz
    octaves = config.contrast_fmin_hz * 2.0 ** np.arange(config.contrast_octaves + 1)
    edges_hz = np.concatenate([[0.0], octaves])
    peaks, valleys = [], []
    for band, (low_hz, high_hz) in enumerate(itertools.pairwise(edges_hz)):
        bins = np.flatnonzero((frequencies_hz >= low_hz) & (frequencies_hz <= high_hz))
        first = bins[0] - 1 if band else bins[0]
        last = bins[-1]
        extremes = max(round(0.02 * (last - first + 1)), 1)
        stop = last if band < config.contrast_octaves else last + 1
        in_order = np.sort(spectra.magnitude[first:stop], axis=0)
        valleys.append(in_order[:extremes].mean(axis=0))
        peaks.append(in_order[-extremes:].mean(axis=0))
    # librosa takes magnitudes for powers here (10 log10 |S|); kept, to be comparable.
    contrast: np.ndarray = librosa.power_to_db(np.stack(peaks)) - librosa.power_to_db(
        np.stack(valleys)
    )
    return contrast
