"""What the kernels leave of a run of windows, from which features are computed at once.

The summaries of one window are a hundred short calls of numpy, each of which holds the
interpreter's lock or hands it over. Made for a run of windows together they cost the same
hundred calls once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from birdstack.features.fused_acoustic_plan import AcousticPlan
from birdstack.features.fused_kernels import LANES
from birdstack.features.kernel_cache import Kernels

WINDOWS = 16
"""Windows in a run: enough to share the cost of calls, few enough to stay in the cache."""

QUANTILES = {"p05": 0.05, "p50": 0.5, "p95": 0.95}

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings of windows; what no wanted stage fills is undefined.

    Arrays over frames may be wider than the window has frames.

    Attributes:
        series: centroid, bandwidth, two rolloffs, two flatnesses, `[window, 6, frame]`.
        wave: zero-crossing rate and RMS, `[window, 2, frame]`.
        whole: peak, clipped samples and sum of squares, `[window, 3]`.
        frames: power in the indices' band and in the song band, `[window, 2, frame]`.
        sums: sums over frames of magnitude, power and change, `[window, 3, bin]`.
        counts: frames in which each bin of the indices' band reaches the threshold of ADI,
            `[window, bin]`.
        loudest: largest power within the indices' band, `[window, 1]`.
        extremes: mean magnitude of loudest and softest bins, `[window, 2, band, frame]`.
        cepstrum: mean, deviation, deviations of slope and curvature,
            `[window, 4, coefficient]`.
        bands: mean and deviation of groups of log-mel bands, `[window, 2, band]`.
        shape: mean log-mel level below the window's maximum, `[window, mel]`.
        strength: onset strength, `[window, frame]`.
        heights: shares of active cells and frames, high cell in dB, `[window, 3]`.
        pcen: mean and deviation of PCEN, `[window, 2, band]`.
    """

    series: np.ndarray
    wave: np.ndarray
    whole: np.ndarray
    frames: np.ndarray
    sums: np.ndarray
    counts: np.ndarray
    loudest: np.ndarray
    extremes: np.ndarray
    cepstrum: np.ndarray
    bands: np.ndarray
    shape: np.ndarray
    strength: np.ndarray
    heights: np.ndarray
    pcen: np.ndarray

    @classmethod
    def room(cls, plan: AcousticPlan, n_frames: int) -> Readings:
        """Room for a run of windows of that many frames."""
        width = -(-n_frames // LANES) * LANES
        config, n_bins = plan.config, plan.front_end.n_bins
        index_bins = plan.index_bins[1] - plan.index_bins[0]
        return cls(
            series=np.zeros((WINDOWS, 6, width)),
            wave=np.zeros((WINDOWS, 2, n_frames)),
            whole=np.zeros((WINDOWS, 3)),
            frames=np.zeros((WINDOWS, 2, width)),
            sums=np.zeros((WINDOWS, 3, n_bins)),
            counts=np.zeros((WINDOWS, index_bins), dtype=np.int64),
            loudest=np.zeros((WINDOWS, 1)),
            extremes=np.zeros((WINDOWS, 2, len(plan.bands), n_frames)),
            cepstrum=np.zeros((WINDOWS, 4, config.n_mfcc)),
            bands=np.zeros((WINDOWS, 2, config.n_bands)),
            shape=np.zeros((WINDOWS, config.n_mels)),
            strength=np.zeros((WINDOWS, n_frames)),
            heights=np.zeros((WINDOWS, 3)),
            pcen=np.zeros((WINDOWS, 2, config.n_bands)),
        )

    def part(self, windows: int | slice) -> Readings:
        """Views of some windows; of one window without the first axis."""
        return Readings(*(getattr(self, each.name)[windows] for each in fields(self)))


class HeardWindows:
    """A run of windows after the pass: what features are computed from.

    Attributes:
        plan: sizes and limits.
        kernels: compiled loops.
        readings: of these windows only.
        n_frames: frames of each window.
        n_samples: samples of each window.
    """

    def __init__(
        self,
        plan: AcousticPlan,
        kernels: Kernels,
        readings: Readings,
        *,
        n_frames: int,
        n_samples: int,
    ) -> None:
        self.plan = plan
        self.kernels = kernels
        self.readings = readings
        self.n_frames = n_frames
        self.n_samples = n_samples
        self._once: dict[Callable[[HeardWindows], Any], Any] = {}

    def once(self, measure: Callable[[HeardWindows], Result]) -> Result:
        """`measure(self)`, computed once for all features that ask for it."""
        if measure not in self._once:
            self._once[measure] = measure(self)
        result: Result = self._once[measure]
        return result

    @property
    def index_power(self) -> np.ndarray:
        """Power in the indices' band, `[window, frame]`."""
        return self.readings.frames[:, 0, : self.n_frames]

    @property
    def song_power(self) -> np.ndarray:
        """Power in the song band, `[window, frame]`."""
        return self.readings.frames[:, 1, : self.n_frames]

    def moments(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Mean and standard deviation of `rows [window, row, frame or more]`: `[window, row]`."""
        flat = np.ascontiguousarray(rows).reshape(-1, rows.shape[-1])
        found = {"mean": np.empty(len(flat)), "std": np.empty(len(flat))}
        self.kernels["row_moments"](flat, self.n_frames, found["mean"], found["std"])
        return {name: values.reshape(rows.shape[:2]) for name, values in found.items()}

    def summaries(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Every statistic of `rows [window, row, frame or more]`, `[window, row]` each."""
        in_order = np.sort(rows[..., : self.n_frames], axis=-1)
        quantiles = {name: quantile(in_order, share) for name, share in QUANTILES.items()}
        return self.moments(rows) | quantiles


Values = Mapping[str, np.ndarray]
"""Statistic (empty: none) -> `[window, row]`."""


def quantile(in_order: np.ndarray, share: float) -> np.ndarray:
    """Quantile of sorted `[..., value]` by linear interpolation (numpy's default)."""
    last = in_order.shape[-1] - 1
    place = share * last
    below = int(place)
    low, high = in_order[..., below], in_order[..., min(below + 1, last)]
    return np.asarray(low + (high - low) * (place - below))
