"""How much likelier a class is at a place than overall: counted, smoothed, shrunk, cross-fitted.

The prior of class c at a place p is the logarithm of a ratio of shares of recordings,

    log( (k + m s) / (n + m) / s ),   n = sum_i w(p, i),  k = sum_i w(p, i) y(i, c),

where w is 1 at the place and falls off with the great-circle distance as a Gaussian, s is the
share of the class among all recordings counted and m = 8 the weight of that share: a place
with n recordings is believed by n / (n + 8). With nothing near, or where the place is not
known, the prior is exactly 0 and leaves a score as it is. Recordings count, not windows: an
hour of one recorder is one draw of a place.

A recording is scored by counts without its fold. A fold in which a class abounds leaves less of
it to the others, locally and overall; the ratio takes most of that out again.

Within one place the prior of a class is constant and cannot change how its windows rank. It
helps where places differ, and only if the places to be scored were covered by others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from birdstack.store.errors import SchemaError
from birdstack.store.labels import ABSENT, PRESENT

NO_FOLD = -1
_EARTH_KM = 6371.0088
_KM_PER_DEGREE = 111.19
_CELLS_PER_WIDTH = 10
_BLOCK = 512
_HALF = 0.5
_ARRAYS = ("place", "fold", "counted", "present")


class RangePriorConfig(BaseModel):
    """How a range prior is counted.

    Attributes:
        width_km: standard deviation of the Gaussian neighbourhood.
        shrinkage: recordings that the overall share of a class counts for.
        limit: largest absolute value of the prior.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width_km: float = Field(default=400.0, ge=1, le=5000)
    shrinkage: float = Field(default=8.0, gt=0, le=1000)
    limit: float = Field(default=4.0, gt=0, le=20)


@dataclass(frozen=True, eq=False)
class RangePrior:
    """Counts of recordings by cell and fold.

    Attributes:
        place: `[cell, 2]`, latitude and longitude of cells much smaller than a neighbourhood.
        fold: `[cell]`, fold of the recordings counted in this entry.
        counted: float32 `[cell, class]`, recordings in which it is known whether the class is
            there.
        present: float32 `[cell, class]`, those in which it is.
        config: how it was counted.
    """

    place: np.ndarray
    fold: np.ndarray
    counted: np.ndarray
    present: np.ndarray
    config: RangePriorConfig

    def out_of_fold(
        self, places: np.ndarray, fold: np.ndarray, *, without: int | None = None
    ) -> np.ndarray:
        """Prior of recordings, each counted without its own fold.

        Args:
            places: latitude and longitude in degrees, `[recording, 2]`; NaN where not known.
            fold: `[recording]`; -1 for recordings of no fold, which all counts serve.
            without: one more fold to leave out of all counts, for choices that are nested.

        Returns:
            float32 `[recording, class]`; 0 where the place is not known.
        """
        points = _checked(places)
        fold = np.asarray(fold)
        out = np.zeros((len(points), self.present.shape[1]), np.float32)
        for number in np.unique(fold):
            kept = (self.fold != number) | (number == NO_FOLD)
            if without is not None:
                kept &= self.fold != without
            rows = np.flatnonzero((fold == number) & np.isfinite(points).all(axis=1))
            out[rows] = self._ratio(points[rows], kept)
        return out

    def new(self, places: np.ndarray) -> np.ndarray:
        """Prior of recordings of no fold by all counts, `[recording, class]`."""
        points = _checked(places)
        return self.out_of_fold(points, np.full(len(points), NO_FOLD))

    def arrays(self) -> dict[str, np.ndarray]:
        """All that `from_arrays` needs but the configuration, by name."""
        return {name: getattr(self, name) for name in _ARRAYS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], config: RangePriorConfig) -> RangePrior:
        """The same prior again; gives bit-equal values.

        Raises:
            SchemaError: an array is missing.
        """
        missing = [name for name in _ARRAYS if name not in arrays]
        if missing:
            message = f"range prior: array {missing[0]!r} is missing"
            raise SchemaError(message, remedy="save all arrays that `arrays` gives")
        return cls(**{name: np.asarray(arrays[name]) for name in _ARRAYS}, config=config)

    def _ratio(self, points: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Log ratio at known places, `[place, class]`, from some of the entries."""
        counted, present = self.counted[kept], self.present[kept]
        overall = (present.sum(axis=0) + _HALF) / (counted.sum(axis=0) + 1)
        known = _on_sphere(self.place[kept])
        spots, back = np.unique(points, axis=0, return_inverse=True)
        found = np.empty((len(spots), present.shape[1]), np.float32)
        strength = self.config.shrinkage
        for first in range(0, len(spots), _BLOCK):
            near = self._near(_on_sphere(spots[first : first + _BLOCK]), known)
            share = (near @ present + strength * overall) / (near @ counted + strength)
            found[first : first + _BLOCK] = np.log(share / overall)
        # A class that was never counted has nothing to say, and neither does an empty corner.
        found[:, present.sum(axis=0) == 0] = 0
        limit = self.config.limit
        return np.asarray(np.clip(found, -limit, limit)[back.ravel()])

    def _near(self, here: np.ndarray, there: np.ndarray) -> np.ndarray:
        """Weight of each entry at each place, by the great-circle distance."""
        chord = np.sqrt(np.maximum(2 - 2 * here @ there.T, 0))
        distance_km = 2 * _EARTH_KM * np.arcsin(np.minimum(chord / 2, 1))
        weight = np.exp(-0.5 * (distance_km / self.config.width_km) ** 2)
        return np.asarray(weight, np.float32)


def fit_prior(
    places: np.ndarray,
    truth: np.ndarray,
    fold: np.ndarray,
    config: RangePriorConfig | None = None,
) -> RangePrior:
    """Count recordings by place.

    Args:
        places: latitude and longitude in degrees, `[recording, 2]`; NaN where not known, which
            leaves the recording out.
        truth: `[recording, class]`: 1 present, 0 absent, -1 not known.
        fold: fold of each recording; those of no fold (-1) are not counted.
        config: width, shrinkage, limit.

    Raises:
        SchemaError: shapes do not fit, or a latitude or longitude is out of bounds.
    """
    config = config or RangePriorConfig()
    points, fold = _checked(places), np.asarray(fold)
    if len(truth) != len(points) or len(fold) != len(points):
        message = f"range prior: {len(points)} places, {len(truth)} labels, {len(fold)} folds"
        raise SchemaError(message, remedy="give one of each for every recording")
    used = np.isfinite(points).all(axis=1) & (fold >= 0)
    step = config.width_km / _KM_PER_DEGREE / _CELLS_PER_WIDTH
    cells = np.round(points[used] / step) * step
    cells = np.stack([np.clip(cells[:, 0], -90, 90), np.clip(cells[:, 1], -180, 180)], axis=1)
    entries, member = np.unique(np.column_stack([cells, fold[used]]), axis=0, return_inverse=True)
    labels = np.asarray(truth)[used]
    present = np.zeros((len(entries), truth.shape[1]), np.float32)
    counted = np.zeros_like(present)
    np.add.at(present, member.ravel(), labels == PRESENT)
    np.add.at(counted, member.ravel(), (labels == PRESENT) | (labels == ABSENT))
    return RangePrior(entries[:, :2], entries[:, 2].astype(np.int64), counted, present, config)


def _checked(places: np.ndarray) -> np.ndarray:
    """Places in double precision, NaN where either coordinate is not known.

    Raises:
        SchemaError: not `[recording, 2]`, or out of bounds.
    """
    points = np.array(places, np.float64)
    if points.ndim != 2 or points.shape[1] != 2:  # noqa: PLR2004 - latitude and longitude
        message = f"range prior: places must be [recording, 2], got {points.shape}"
        raise SchemaError(message, remedy="give latitude and longitude of each recording")
    points[~np.isfinite(points).all(axis=1)] = np.nan
    off = np.abs(points) > np.array([90.0, 180.0])
    if off.any():
        row, column = np.argwhere(off)[0]
        name = ("latitude", "longitude")[column]
        message = f"range prior: recording {row} has {name} {points[row, column]:g}"
        raise SchemaError(message, remedy="give degrees, latitude before longitude")
    return points


def _on_sphere(points: np.ndarray) -> np.ndarray:
    latitude, longitude = np.radians(points).T
    level = np.cos(latitude)
    return np.stack([level * np.cos(longitude), level * np.sin(longitude), np.sin(latitude)], 1)
