"""How much of a window stands above its own noise floor, and how far.

The floor is a low percentile over the window: of each mel band for the columns of cells, of
the level of the song band for `activity_song_*`. A sound that fills more than four fifths of
the window raises its own floor; `activity_song_share` and the level tell such windows apart.
All columns are independent of gain.
"""

from __future__ import annotations

import numpy as np

from birdstack.features.feature import feature
from birdstack.features.spectrum import TINY, TOP_DB, HeardWindow

_FLOOR_PERCENTILE = 20
_ACTIVE_DB = 6.0
_ACTIVE_BAND_SHARE = 0.1
_FLOOR = f"the band's {_FLOOR_PERCENTILE}th percentile over the window"
_BAND = "{c.song_fmin_hz:g} to {c.song_fmax_hz:g} Hz"
_SONG = f"the level of the frame from {_BAND}"


@feature(
    group="activity",
    formula=f"share of log-mel cells more than {_ACTIVE_DB:g} dB above {_FLOOR}",
    source="after Towsey et al. 2014, acoustic activity",
    needs=("mel_relative_db",),
    low=0.0,
    high=1.0,
)
def activity_cell_share(window: HeardWindow) -> float:
    """Share of time and frequency that is active."""
    return float((window.shared(_heights_db) > _ACTIVE_DB).mean())


@feature(
    group="activity",
    formula=f"share of frames in which more than {_ACTIVE_BAND_SHARE:.0%} of the log-mel cells "
    f"lie more than {_ACTIVE_DB:g} dB above {_FLOOR}",
    source="after Towsey et al. 2014, acoustic activity",
    needs=("mel_relative_db",),
    low=0.0,
    high=1.0,
)
def activity_frame_share(window: HeardWindow) -> float:
    """Share of time that is active."""
    active = window.shared(_heights_db) > _ACTIVE_DB
    return float((active.mean(axis=0) > _ACTIVE_BAND_SHARE).mean())


@feature(
    group="activity",
    formula=f"95th percentile over log-mel cells of the height above {_FLOOR}, at least 0",
    source="a signal-to-noise ratio; after Towsey et al. 2014",
    needs=("mel_relative_db",),
    unit="dB",
    low=0.0,
    high=TOP_DB,
)
def activity_snr_db(window: HeardWindow) -> float:
    """How far the loudest cells stand above their noise floors."""
    return max(float(np.percentile(window.shared(_heights_db), 95)), 0.0)


@feature(
    group="activity",
    formula=f"share of frames where {_SONG} lies more than {_ACTIVE_DB:g} dB above its "
    f"{_FLOOR_PERCENTILE}th percentile",
    source="after Towsey et al. 2014, acoustic activity, in the song band",
    needs=("song_power",),
    low=0.0,
    high=1.0,
)
def activity_song_frame_share(window: HeardWindow) -> float:
    """Share of time with something in the song band."""
    return float(window.shared(_song_active).mean())


@feature(
    group="activity",
    formula=f"95th less {_FLOOR_PERCENTILE}th percentile over frames of the level from {_BAND}, "
    f"levels floored {TOP_DB:g} dB below the loudest frame",
    source="a signal-to-noise ratio; after Towsey et al. 2014",
    needs=("song_power",),
    unit="dB",
    low=0.0,
    high=TOP_DB,
)
def activity_song_snr_db(window: HeardWindow) -> float:
    """How far song stands above the noise of its band."""
    floor_db, loud_db = np.percentile(window.shared(_song_db), (_FLOOR_PERCENTILE, 95))
    return float(loud_db - floor_db)


@feature(
    group="activity",
    formula=f"runs of frames where {_SONG} lies more than {_ACTIVE_DB:g} dB above its "
    f"{_FLOOR_PERCENTILE}th percentile, a second",
    source="after Towsey et al. 2014, acoustic events",
    needs=("song_power",),
    unit="1/s",
    low=0.0,
    high=lambda config, sample_rate_hz: sample_rate_hz / config.hop,
)
def activity_song_event_rate(window: HeardWindow) -> float:
    """Events in the song band a second."""
    active = window.shared(_song_active)
    return _n_runs(active) * window.frame_rate_hz / len(active)


@feature(
    group="activity",
    formula="mean length of such runs as activity_song_event_rate counts; 0 if there is none",
    source="after Towsey et al. 2014, acoustic events",
    needs=("song_power",),
    unit="s",
    low=0.0,
)
def activity_song_event_s(window: HeardWindow) -> float:
    """Mean duration of an event in the song band."""
    active = window.shared(_song_active)
    runs = _n_runs(active)
    return float(active.sum()) / (runs * window.frame_rate_hz) if runs else 0.0


@feature(
    group="activity",
    formula=f"power from {_BAND} over that from {{c.index_fmin_hz:g}} to {{c.index_fmax_hz:g}} "
    "Hz; 0 in silence",
    source="own definition",
    needs=("song_power", "power", "index_band"),
    low=0.0,
)
def activity_song_share(window: HeardWindow) -> float:
    """How much of the sound lies in the song band."""
    total = float(window.power[window.index_band].sum())
    return float(window.song_power.sum()) / total if total > TINY else 0.0


def _heights_db(window: HeardWindow) -> np.ndarray:
    """Log-mel cells above their band's noise floor, `[mel, frame]`."""
    level_db = window.mel_relative_db
    floor_db = np.percentile(level_db, _FLOOR_PERCENTILE, axis=1, keepdims=True)
    heights: np.ndarray = level_db - floor_db
    return heights


def _song_db(window: HeardWindow) -> np.ndarray:
    """Level of the song band below its loudest frame, `[frame]`, from -80 to 0."""
    power = window.song_power
    loudest = power.max()
    if loudest <= TINY:
        return np.zeros(len(power))
    level_db: np.ndarray = np.maximum(10 * np.log10(np.maximum(power / loudest, TINY)), -TOP_DB)
    return level_db


def _song_active(window: HeardWindow) -> np.ndarray:
    """Frames in which the song band is active, `[frame]` bool."""
    level_db = window.shared(_song_db)
    active: np.ndarray = level_db > np.percentile(level_db, _FLOOR_PERCENTILE) + _ACTIVE_DB
    return active


def _n_runs(active: np.ndarray) -> int:
    """Number of runs of active frames."""
    return int(active[0]) + int((active[1:] & ~active[:-1]).sum())
