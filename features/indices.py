"""Acoustic indices of the soundscape, limited to a band that codecs and wind leave alone.

The band limit meets the definitions in one way: the spectrogram's rows outside
`[index_fmin_hz, index_fmax_hz]` are cut off, and scikit-maad's definition is applied to
what is left, frequencies included. So ADI and AEI take as 0 dB the maximum within the band,
and their lowest and highest bands hold only the bins that remain. Two notes:

- NDSI keeps the bands of Kasten et al. 2012 as in soundecology, 1-2 kHz against 2-11 kHz,
  which lie inside the limit. In scikit-maad that is `R_compatible=None,
  flim_antroPh=(1000, 1000), flim_bioPh=(2000, 10000)`, since it names 1 kHz bands by their
  lower edge and includes both.
- Ht asks for an envelope. scikit-maad takes maxima of the full-band waveform; here it is
  the energy within the band of each frame, the squared envelope of the band-limited sound.

In silence every definition divides by zero. The values then: ADI and the entropies take
their maximum (scikit-maad's rule for all-zero input), the others 0.

The indices describe the scene rather than the species (pooled r = .33 with diversity over
34 studies, Alcocer et al. 2022).
"""

from __future__ import annotations

import math

import numpy as np

from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.feature import feature
from birdstack.features.spectrum import TINY, HeardWindow

ADI_STEP_HZ = 1000
AEI_STEP_HZ = 500
BI_BAND_HZ = (2000.0, 15000.0)
ANTHROPHONY_HZ = (1000.0, 2000.0)
BIOPHONY_HZ = (2000.0, 11000.0)
_SCORE_DB = -50.0
_RATIO_LIMIT_DB = 100.0
_BAND = "{c.index_fmin_hz:g}-{c.index_fmax_hz:g} Hz"


def _n_bins(config: AcousticConfig, sample_rate_hz: int) -> int:
    return int((config.index_fmax_hz - config.index_fmin_hz) * config.n_fft / sample_rate_hz) + 1


def _aci_high(config: AcousticConfig, sample_rate_hz: int) -> float:
    return 2.0 * _n_bins(config, sample_rate_hz)


def _adi_high(config: AcousticConfig, _sample_rate_hz: int) -> float:
    # float32 may round ln n up: the bound leaves room for it.
    return math.ceil(math.log(_n_steps(config, ADI_STEP_HZ)) * 1e6) / 1e6


@feature(
    group="indices",
    formula=f"acoustic complexity: sum over bins of sum|dA/dframe| / sum A, {_BAND}",
    source="Pieretti et al. 2011; maad acoustic_complexity_index",
    needs=("magnitude", "index_band"),
    low=0.0,
    high=_aci_high,
)
def index_aci(window: HeardWindow) -> float:
    """ACI: how much each bin changes from frame to frame."""
    return acoustic_complexity(window.shared(_magnitude))


@feature(
    group="indices",
    formula=f"acoustic diversity: Shannon entropy of the shares of cells above {_SCORE_DB:g} dB "
    f"of the maximum in bands of {ADI_STEP_HZ} Hz, {_BAND}",
    source="Villanueva-Rivera et al. 2011; maad acoustic_diversity_index",
    needs=("magnitude", "index_band"),
    unit="nat",
    low=0.0,
    high=_adi_high,
)
def index_adi(window: HeardWindow) -> float:
    """ADI: how evenly bands are in use."""
    shares = _shares(window, ADI_STEP_HZ)
    return evenness(shares) * math.log(len(shares))


@feature(
    group="indices",
    formula=f"acoustic evenness: Gini coefficient of such shares in bands of {AEI_STEP_HZ} Hz, "
    f"{_BAND}",
    source="Villanueva-Rivera et al. 2011; maad acoustic_eveness_index",
    needs=("magnitude", "index_band"),
    low=0.0,
    high=1.0,
)
def index_aei(window: HeardWindow) -> float:
    """AEI: how unevenly bands are in use."""
    return gini(_shares(window, AEI_STEP_HZ))


@feature(
    group="indices",
    formula=f"(B - A) / (B + A), power B in {BIOPHONY_HZ[0]:g}-{BIOPHONY_HZ[1]:g} Hz (biophony) "
    f"and A in {ANTHROPHONY_HZ[0]:g}-{ANTHROPHONY_HZ[1]:g} Hz (anthrophony)",
    source="Kasten et al. 2012; maad soundscape_index",
    needs=("power",),
    low=-1.0,
    high=1.0,
)
def index_ndsi(window: HeardWindow) -> float:
    """NDSI: biophony against anthrophony."""
    return normalised_difference(*window.shared(_biophony_and_anthrophony))


@feature(
    group="indices",
    formula="10 log10(B / A) of index_ndsi, within 100 dB",
    source="maad soundscape_index (ratioBA)",
    needs=("power",),
    unit="dB",
    low=-_RATIO_LIMIT_DB,
    high=_RATIO_LIMIT_DB,
)
def index_bio_anthro_ratio_db(window: HeardWindow) -> float:
    """Biophony over anthrophony in dB."""
    return ratio_db(*window.shared(_biophony_and_anthrophony))


@feature(
    group="indices",
    formula="bioacoustic index: sum over bins of the mean amplitude spectrum in dB above its "
    f"minimum, divided by the bin width, within {BI_BAND_HZ[0]:g}-{BI_BAND_HZ[1]:g} Hz",
    source="Boelman et al. 2007; maad bioacoustics_index (soundecology)",
    needs=("magnitude", "index_band"),
    unit="dB/Hz",
    low=0.0,
)
def index_bi(window: HeardWindow) -> float:
    """BI: area of the mean spectrum above its minimum."""
    return bioacoustic_index(window.shared(_magnitude), window.shared(_frequencies_hz))


@feature(
    group="indices",
    formula=f"entropy of the mean power spectrum over ln(bins), {_BAND}",
    source="Sueur et al. 2008; maad frequency_entropy",
    needs=("power", "index_band"),
    low=0.0,
    high=1.0,
)
def index_hf(window: HeardWindow) -> float:
    """Hf: spectral entropy."""
    return evenness(window.power[window.index_band].mean(axis=1))


@feature(
    group="indices",
    formula=f"entropy of the frames' power over ln(frames), {_BAND}",
    source="Sueur et al. 2008; maad.util.entropy of the squared envelope",
    needs=("power", "index_band"),
    low=0.0,
    high=1.0,
)
def index_ht(window: HeardWindow) -> float:
    """Ht: temporal entropy."""
    return evenness(window.power[window.index_band].sum(axis=0))


@feature(
    group="indices",
    formula="acoustic entropy: index_hf times index_ht",
    source="Sueur et al. 2008",
    needs=("power", "index_band"),
    low=0.0,
    high=1.0,
)
def index_h(window: HeardWindow) -> float:
    """H: acoustic entropy."""
    return window.shared(index_hf) * window.shared(index_ht)


def _magnitude(window: HeardWindow) -> np.ndarray:
    magnitude: np.ndarray = window.magnitude[window.index_band]
    return magnitude


def _frequencies_hz(window: HeardWindow) -> np.ndarray:
    frequencies_hz: np.ndarray = window.frequencies_hz[window.index_band]
    return frequencies_hz


def _shares(window: HeardWindow, step_hz: int) -> np.ndarray:
    magnitude, frequencies_hz = window.shared(_magnitude), window.shared(_frequencies_hz)
    return shares_above(magnitude, frequencies_hz, window.config, step_hz)


def _biophony_and_anthrophony(window: HeardWindow) -> tuple[float, float]:
    return band_power(window, BIOPHONY_HZ), band_power(window, ANTHROPHONY_HZ)


def acoustic_complexity(magnitude: np.ndarray) -> float:
    """ACI of `magnitude [bin, frame]`; a silent bin adds nothing."""
    change = np.abs(np.diff(magnitude, axis=1)).sum(axis=1)
    total = magnitude.sum(axis=1)
    return float((change / np.where(total > 0, total, 1.0)).sum())


def shares_above(
    magnitude: np.ndarray, frequencies_hz: np.ndarray, config: AcousticConfig, step_hz: int
) -> np.ndarray:
    """Share of cells above -50 dB of the maximum in bands of `step_hz` from 0 Hz up, `[band]`.

    A band reaches from the bin nearest its lower edge to the bin nearest its upper edge,
    both included, as in scikit-maad.
    """
    loudest = magnitude.max()
    if loudest == 0:
        return np.zeros(_n_steps(config, step_hz))
    above = 20 * np.log10(np.maximum(magnitude / loudest, TINY)) >= _SCORE_DB
    shares = []
    for step in range(_n_steps(config, step_hz)):
        first = _nearest(frequencies_hz, step * step_hz)
        last = _nearest(frequencies_hz, (step + 1) * step_hz)
        shares.append(above[first : last + 1].mean())
    return np.array(shares)


def evenness(weights: np.ndarray) -> float:
    """Shannon entropy of `weights`, over its maximum `ln n`; 1 if all are zero."""
    total = weights.sum()
    if total <= TINY:
        return 1.0
    shares = weights / total
    logs = np.log(np.where(shares > 0, shares, 1.0))
    # Rounding can leave -0 or a hair above 1.
    return float(np.clip(-(shares * logs).sum() / math.log(len(shares)), 0.0, 1.0))


def gini(shares: np.ndarray) -> float:
    """Gini coefficient: 0 if all are equal (or all zero), towards 1 if one has it all."""
    total = shares.sum()
    if total == 0:
        return 0.0
    n = len(shares)
    ranks = np.arange(1, n + 1)
    coefficient = (2 * (np.sort(shares) * ranks).sum() / total - (n + 1)) / n
    return float(max(coefficient, 0.0))  # rounding of equal shares


def band_power(window: HeardWindow, band_hz: tuple[float, float]) -> float:
    """Sum of power over frames and the bins in `[low, high)`."""
    low_hz, high_hz = band_hz
    bins = (window.frequencies_hz >= low_hz) & (window.frequencies_hz < high_hz)
    return float(window.power[bins].sum())


def normalised_difference(biophony: float, anthrophony: float) -> float:
    """NDSI; 0 where both bands are silent."""
    total = biophony + anthrophony
    return (biophony - anthrophony) / total if total > TINY else 0.0


def ratio_db(biophony: float, anthrophony: float) -> float:
    """Biophony over anthrophony in dB, within 100 dB; 0 where both are silent."""
    if biophony + anthrophony <= TINY:
        return 0.0
    ratio = 10 * (math.log10(max(biophony, TINY)) - math.log10(max(anthrophony, TINY)))
    return min(max(ratio, -_RATIO_LIMIT_DB), _RATIO_LIMIT_DB)


def bioacoustic_index(magnitude: np.ndarray, frequencies_hz: np.ndarray) -> float:
    """BI of `magnitude [bin, frame]`; 0 in silence, a silent bin counts as -200 dB."""
    first, last = (_nearest(frequencies_hz, edge_hz) for edge_hz in BI_BAND_HZ)
    spectrum = magnitude.mean(axis=1)
    loudest = magnitude.max()
    if loudest == 0:
        return 0.0
    spectrum_db = 20 * np.log10(np.maximum(spectrum[first : last + 1] / loudest, 1e-10))
    bin_width_hz = frequencies_hz[1] - frequencies_hz[0]
    return float((spectrum_db - spectrum_db.min()).sum() / bin_width_hz)


def _n_steps(config: AcousticConfig, step_hz: int) -> int:
    """Whole bands of `step_hz` between 0 Hz and the upper limit."""
    return int(config.index_fmax_hz // step_hz)


def _nearest(frequencies_hz: np.ndarray, target_hz: float) -> int:
    """Index of the bin nearest to a frequency, the lower of two as near."""
    return int(np.abs(frequencies_hz - target_hz).argmin())
