"""Per-channel energy normalisation with the smoother's state carried over the recording.

PCEN divides each mel band by a running mean of itself, so steady noise and gain fall away
and what begins stands out. The running mean remembers about .4 s, so its state is handed
from window to window: a window's values then do not depend on a restart at its edge.

At the recording's start the state is the mean energy of the first .4 s. librosa's fixed
state of one unit lies orders of magnitude from real energies, and the first frame alone
(Wang et al. 2017) is one draw of a noisy quantity, half of it padding; from either, the way
to the real level is a swell of .4 s. Measured on the second window of 24 dawn-to-night
soundscapes, shifted by 8 ms: the window means of PCEN move by .23 standard deviations if
the state is carried, and where it restarts by .20 from the mean of .4 s, .40 from librosa's
state, .55 from the first frame.
"""

from __future__ import annotations

import numpy as np

from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.feature import feature
from birdstack.features.spectrum import HeardWindow
from birdstack.features.summaries import grouped

TIME_CONSTANT_S = 0.4
# PCEN's constants (gain .98, bias 2, power .5) were tuned for 32-bit integer samples:
# float sound in [-1, 1] is scaled to them, as librosa's documentation recommends.
ENERGY_SCALE = 2.0**31
_STATE = "pcen"


def _n_bands(config: AcousticConfig) -> int:
    return config.n_bands


@feature(
    group="pcen",
    formula="(E / (1e-6 + M)^.98 + 2)^.5 - 2^.5, E the mel power times 2^31, M its exponential "
    f"mean with {TIME_CONSTANT_S} s, carried over the recording, averaged over "
    "{c.n_mels} / {c.n_bands} neighbouring mel bands",
    source="Wang et al. 2017; librosa.pcen but for the state",
    needs=("mel", "n_bands"),
    low=0.0,
    rows=_n_bands,
    statistics=("mean", "std"),
)
def pcen(window: HeardWindow) -> np.ndarray:
    """Energies normalised per band, `[band, frame]`; hands its state to the next window."""
    frames = window.mel.shape[1]
    energies, window.memory[_STATE] = normalise(
        window.mel,
        window.memory.get(_STATE),
        config=window.config,
        sample_rate_hz=window.sample_rate_hz,
        frames_to_next=frames if window.frames_to_next is None else window.frames_to_next,
    )
    return grouped(energies, window.config.n_bands)


def normalise(
    mel: np.ndarray,
    state: np.ndarray | None,
    *,
    config: AcousticConfig,
    sample_rate_hz: int,
    frames_to_next: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Normalise the mel powers of one window.

    Args:
        mel: mel power `[mel, frame]`.
        state: the smoother's state that the window before handed on; None at the start of
            a recording.
        config: frame hop.
        sample_rate_hz: sample rate.
        frames_to_next: frames of this window before the start of the next window; fewer
            than all where windows overlap.

    Returns:
        PCEN `[mel, frame]`, and the state `[mel, 1]` at the start of the next window.
    """
    import librosa  # noqa: PLC0415 - importing it costs seconds, and compiles with numba

    energy = mel * ENERGY_SCALE
    decay = smoothing(config.hop, sample_rate_hz)
    before = state if state is not None else _first_state(energy, config, sample_rate_hz)
    until_next, after = librosa.pcen(energy[:, :frames_to_next], b=decay, zi=before, return_zf=True)
    if frames_to_next >= mel.shape[1]:
        return until_next, after
    rest = librosa.pcen(energy[:, frames_to_next:], b=decay, zi=after)
    return np.concatenate([until_next, rest], axis=1), after


def _first_state(energy: np.ndarray, config: AcousticConfig, sample_rate_hz: int) -> np.ndarray:
    """State `[mel, 1]` at the start of a recording, from the first window's energies."""
    padded = -(-config.n_fft // (2 * config.hop))  # frames that reach back before the sound
    settled = padded + round(TIME_CONSTANT_S * sample_rate_hz / config.hop)
    mean: np.ndarray = energy[:, padded:settled].mean(axis=1, keepdims=True)
    # The filter's state is its next output less the input's part: (1 - b) M.
    return (1 - smoothing(config.hop, sample_rate_hz)) * mean


def smoothing(hop: int, sample_rate_hz: int) -> float:
    """Weight `b` of a new frame in the running mean `M = b E + (1 - b) M` (librosa.pcen)."""
    frames = TIME_CONSTANT_S * sample_rate_hz / hop
    return float((np.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2))
