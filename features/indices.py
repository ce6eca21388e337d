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
from birdstack.features.spectrum import Spectra, in_band
from birdstack.store.views import Column

ADI_STEP_HZ = 1000
AEI_STEP_HZ = 500
BI_BAND_HZ = (2000.0, 15000.0)
ANTHROPHONY_HZ = (1000.0, 2000.0)
BIOPHONY_HZ = (2000.0, 11000.0)
_SCORE_DB = -50.0
_RATIO_LIMIT_DB = 100.0
_TINY = np.finfo(np.float64).tiny


def index_columns(config: AcousticConfig, sample_rate_hz: int) -> list[Column]:
    """Columns of `measure_indices`."""
    band = f"{config.index_fmin_hz:g}-{config.index_fmax_hz:g} Hz"
    n_bins = int((config.index_fmax_hz - config.index_fmin_hz) * config.n_fft / sample_rate_hz) + 1
    # float32 may round ln n up: the bound leaves room for it.
    adi_high = math.ceil(math.log(_n_steps(config, ADI_STEP_HZ)) * 1e6) / 1e6
    anthrophony = f"{ANTHROPHONY_HZ[0]:g}-{ANTHROPHONY_HZ[1]:g} Hz"
    biophony = f"{BIOPHONY_HZ[0]:g}-{BIOPHONY_HZ[1]:g} Hz"

    def column(
        name: str, low: float, high: float | None, description: str, unit: str = ""
    ) -> Column:
        return Column(f"index_{name}", unit=unit, low=low, high=high, description=description)

    return [
        column(
            "aci",
            0.0,
            2.0 * n_bins,
            f"acoustic complexity: sum over bins of sum|dA/dframe| / sum A, {band}. "
            "Pieretti et al. 2011; maad acoustic_complexity_index",
        ),
        column(
            "adi",
            0.0,
            adi_high,
            f"acoustic diversity: Shannon entropy of the shares of cells above {_SCORE_DB:g} dB of "
            f"the maximum in bands of {ADI_STEP_HZ} Hz, {band}. Villanueva-Rivera et al. 2011; "
            "maad acoustic_diversity_index",
            "nat",
        ),
        column(
            "aei",
            0.0,
            1.0,
            f"acoustic evenness: Gini coefficient of such shares in bands of {AEI_STEP_HZ} Hz, {band}. "
            "Villanueva-Rivera et al. 2011; maad acoustic_eveness_index",
        ),
        column(
            "ndsi",
            -1.0,
            1.0,
            f"(B - A) / (B + A), power B in {biophony} (biophony) and A in {anthrophony} "
            "(anthrophony). Kasten et al. 2012; maad soundscape_index",
        ),
        column(
            "bio_anthro_ratio_db",
            -_RATIO_LIMIT_DB,
            _RATIO_LIMIT_DB,
            "10 log10(B / A) of index_ndsi, within 100 dB. maad soundscape_index (ratioBA)",
            "dB",
        ),
        column(
            "bi",
            0.0,
            None,
            "bioacoustic index: sum over bins of the mean amplitude spectrum in dB above its minimum, "
            f"divided by the bin width, within {BI_BAND_HZ[0]:g}-{BI_BAND_HZ[1]:g} Hz. Boelman et al. 2007; "
            "maad bioacoustics_index (soundecology)",
            "dB/Hz",
        ),
        column(
            "hf",
            0.0,
            1.0,
            f"entropy of the mean power spectrum over ln(bins), {band}. Sueur et al. 2008; "
            "maad frequency_entropy",
        ),
        column(
            "ht",
            0.0,
            1.0,
            f"entropy of the frames' power over ln(frames), {band}. Sueur et al. 2008; "
            "maad.util.entropy of the squared envelope",
        ),
        column("h", 0.0, 1.0, "acoustic entropy: index_hf times index_ht. Sueur et al. 2008"),
    ]


def measure_indices(spectra: Spectra, config: AcousticConfig) -> dict[str, float]:
    """Every acoustic index of one window."""
    band = in_band(spectra, config)
    frequencies_hz = spectra.frequencies_hz[band]
    magnitude = spectra.magnitude[band]
    power = spectra.power[band]
    biophony = band_power(spectra, BIOPHONY_HZ)
    anthrophony = band_power(spectra, ANTHROPHONY_HZ)
    adi_shares = shares_above(magnitude, frequencies_hz, config, ADI_STEP_HZ)
    aei_shares = shares_above(magnitude, frequencies_hz, config, AEI_STEP_HZ)
    hf = evenness(power.mean(axis=1))
    ht = evenness(power.sum(axis=0))
    return {
        "index_aci": acoustic_complexity(magnitude),
        "index_adi": evenness(adi_shares) * math.log(len(adi_shares)),
        "index_aei": gini(aei_shares),
        "index_ndsi": normalised_difference(biophony, anthrophony),
        "index_bio_anthro_ratio_db": ratio_db(biophony, anthrophony),
        "index_bi": bioacoustic_index(magnitude, frequencies_hz),
        "index_hf": hf,
        "index_ht": ht,
        "index_h": hf * ht,
    }


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
    above = 20 * np.log10(np.maximum(magnitude / loudest, _TINY)) >= _SCORE_DB
    shares = []
    for step in range(_n_steps(config, step_hz)):
        first = _nearest(frequencies_hz, step * step_hz)
        last = _nearest(frequencies_hz, (step + 1) * step_hz)
        shares.append(above[first : last + 1].mean())
    return np.array(shares)


def evenness(weights: np.ndarray) -> float:
    """Shannon entropy of `weights`, over its maximum `ln n`; 1 if all are zero."""
    total = weights.sum()
    if total <= _TINY:
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


def band_power(spectra: Spectra, band_hz: tuple[float, float]) -> float:
    """Sum of power over frames and the bins in `[low, high)`."""
    low_hz, high_hz = band_hz
    bins = (spectra.frequencies_hz >= low_hz) & (spectra.frequencies_hz < high_hz)
    return float(spectra.power[bins].sum())


def normalised_difference(biophony: float, anthrophony: float) -> float:
    """NDSI; 0 where both bands are silent."""
    total = biophony + anthrophony
    return (biophony - anthrophony) / total if total > _TINY else 0.0


def ratio_db(biophony: float, anthrophony: float) -> float:
    """Biophony over anthrophony in dB, within 100 dB; 0 where both are silent."""
    if biophony + anthrophony <= _TINY:
        return 0.0
    ratio = 10 * (math.log10(max(biophony, _TINY)) - math.log10(max(anthrophony, _TINY)))
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
