"""Where and when: recordings and gain on a map, the hours of each class, night and day.

The gain of a place is that of its positive windows: how much more often they outrank the
negative windows of all places, by what is shipped than by mean + kernel, averaged over the
classes heard there. Averaged over places by their pairs it is the gain in AUC.

Night is when the sun stands lower than 6 degrees under the horizon, where place, date and time
are known; else from 18 to 6 o'clock where the time is.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from birdstack.features.place import PlaceConfig, place_columns
from birdstack.stacking.report_run import CONTROL, SHIPPED, Domain
from birdstack.stacking.report_scores import Ranked, gain_of
from birdstack.store.labels import ABSENT, PRESENT
from birdstack.store.recordings import Recording

_CELLS = 36  # of the map, across its longer side
_MOST_CLASSES = 40
_NIGHT_FROM, _NIGHT_TO = 18, 6
_MOSTLY = 0.6
_FEWEST = 5


def places(domain: Domain, ranked: Ranked | None) -> dict[str, Any]:
    """Cells of a map with recordings and gain; `why` alone where no place is known."""
    if not {"latitude", "longitude"} <= set(domain.rows.columns):
        return {"why": f"the places of {domain.title} are not known"}
    names, first, unit = np.unique(domain.recording, return_index=True, return_inverse=True)
    there = domain.rows[first.tolist()]
    latitude, longitude = (_floats(there[name]) for name in ("latitude", "longitude"))
    known = np.isfinite(latitude) & np.isfinite(longitude)
    if not known.any():
        return {"why": f"the places of {domain.title} are not known"}
    gain = None if ranked is None else _gain_by_recording(ranked, unit, len(names))
    widest = max(np.ptp(latitude[known]), np.ptp(longitude[known]), 0.1)
    size = widest / _CELLS
    row, column = np.floor(latitude / size), np.floor(longitude / size)
    cells = []
    keys = np.unique(np.stack([row[known], column[known]], axis=1), axis=0)
    for key in keys:
        inside = known & (row == key[0]) & (column == key[1])
        values = np.empty(0) if gain is None else gain[inside][np.isfinite(gain[inside])]
        cells.append(
            {
                "latitude": float(latitude[inside].mean()),
                "longitude": float(longitude[inside].mean()),
                "recordings": int(inside.sum()),
                "gain": float(values.mean()) if len(values) else None,
            }
        )
    return {
        "domain": domain.title,
        "recordings": int(known.sum()),
        "unknown": int((~known).sum()),
        "cell_degrees": float(size),
        "cells": cells,
    }


def hours(domain: Domain) -> dict[str, Any]:
    """Share of windows in which each class is heard, by hour; `why` alone without times."""
    hour = _hour(domain)
    if hour is None or domain.truth is None:
        return {"why": f"the times of day of {domain.title} are not known"}
    truth = domain.truth
    known = np.isfinite(hour)
    bins = np.where(known, hour, 0).astype(int)
    count = (truth[known] == PRESENT).sum(axis=0)
    chosen = [int(i) for i in np.argsort(-count, kind="stable")[:_MOST_CLASSES] if count[i]]
    heard = np.zeros((24, len(chosen)), dtype=np.int64)
    judged = np.zeros_like(heard)
    labels = truth[:, chosen]
    np.add.at(heard, bins[known], labels[known] == PRESENT)
    np.add.at(judged, bins[known], labels[known] >= 0)
    cells = [
        {
            "class": domain.classes[number],
            "hour": clock,
            "windows": int(judged[clock, at]),
            "present": int(heard[clock, at]),
        }
        for at, number in enumerate(chosen)
        for clock in range(24)
        if judged[clock, at]
    ]
    # Classes in the order of the hour around which they sing.
    angle = np.exp(2j * np.pi * np.arange(24) / 24)
    mean = [
        float(np.angle((heard[:, at] * angle).sum()) % (2 * np.pi)) for at in range(len(chosen))
    ]
    order = [domain.classes[chosen[at]] for at in np.argsort(mean, kind="stable")]
    return {
        "domain": domain.title,
        "classes_shown": len(chosen),
        "classes_heard": int((count > 0).sum()),
        "order": order,
        "cells": cells,
    }


def gain_by_activity(ranked: Ranked) -> dict[str, Any]:
    """Gain of classes that sing by night, by day, and by both; `why` alone without times."""
    night = _night(ranked.domain)
    if night is None:
        return {"why": f"the times of {ranked.domain.title} are not known"}
    known = np.isfinite(night)
    present = ranked.truth[known] == PRESENT
    count = present.sum(axis=0)
    share = (present * night[known][:, None]).sum(axis=0) / np.maximum(count, 1)
    enough = count >= _FEWEST
    groups = {
        "nocturnal": enough & (share >= _MOSTLY),
        "both": enough & (share < _MOSTLY) & (share > 1 - _MOSTLY),
        "diurnal": enough & (share <= 1 - _MOSTLY),
        "too few known times": ~enough,
    }
    rows = [{"group": name, **gain_of(ranked, inside)} for name, inside in groups.items()]
    return {
        "rows": rows,
        "night_share": {
            name: float(value)
            for name, value, fit in zip(ranked.domain.classes, share, enough, strict=True)
            if fit
        },
    }


def _gain_by_recording(ranked: Ranked, unit: np.ndarray, units: int) -> np.ndarray:
    """Mean over classes of how much more often a recording's positives win, `[recording]`."""
    names = [SHIPPED, CONTROL]
    if CONTROL not in ranked.domain.score_names:
        return np.full(units, np.nan)
    both = [ranked.domain.scores(name) for name in names]
    total, classes = np.zeros(units), np.zeros(units)
    for number in range(ranked.truth.shape[1]):
        label = ranked.truth[:, number]
        present, absent = np.flatnonzero(label == PRESENT), label == ABSENT
        if not len(present) or not absent.any():
            continue
        wins = [placed(scores[present, number], scores[absent, number]) for scores in both]
        sums = np.bincount(unit[present], weights=wins[0] - wins[1], minlength=units)
        count = np.bincount(unit[present], minlength=units)
        there = count > 0
        total[there] += sums[there] / count[there]
        classes += there
    return np.where(classes > 0, total / np.maximum(classes, 1), np.nan)


def placed(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Share of the negatives that each score outranks, ties half, `[positive]`."""
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, "left")
    upto = np.searchsorted(ordered, positives, "right")
    return np.asarray((below + upto) / (2.0 * len(ordered)))


def _hour(domain: Domain) -> np.ndarray | None:
    """Time of day at the start of each window, in hours; NaN where not known."""
    if "time" not in domain.rows.columns:
        return None
    seconds = np.array([_seconds(value) for value in domain.rows["time"].to_list()])
    start_s = np.zeros(len(seconds))
    if "start_s" in domain.rows.columns:
        start_s = np.nan_to_num(_floats(domain.rows["start_s"]))
    hour = ((seconds + start_s) / 3600) % 24
    return hour if np.isfinite(hour).any() else None


def _night(domain: Domain) -> np.ndarray | None:
    """1 by night, 0 by day, NaN where not known, `[window]`."""
    hour = _hour(domain)
    if hour is None:
        return None
    by_clock = np.where((hour >= _NIGHT_FROM) | (hour < _NIGHT_TO), 1.0, 0.0)
    by_clock[~np.isfinite(hour)] = np.nan
    if not {"latitude", "longitude", "date", "start_s"} <= set(domain.rows.columns):
        return by_clock
    by_sun = np.full(len(hour), np.nan)
    _, first, unit = np.unique(domain.recording, return_index=True, return_inverse=True)
    order = np.argsort(unit, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(unit))[:-1])
    for at, rows in zip(first.tolist(), parts, strict=True):
        recording = _recording(domain.rows.row(at, named=True))
        start_s = _floats(domain.rows["start_s"])[rows]
        by_sun[rows] = place_columns(recording, start_s, PlaceConfig())["night"]
    return np.where(np.isfinite(by_sun), by_sun, by_clock)


def _recording(row: dict[str, Any]) -> Recording:
    date, clock = row.get("date"), _seconds(row.get("time"))
    if isinstance(date, str):
        try:
            date = dt.date.fromisoformat(date)
        except ValueError:
            date = None
    time = None
    if np.isfinite(clock):
        minutes, second = divmod(int(clock), 60)
        time = dt.time(*divmod(minutes, 60), second)
    return Recording(
        str(row["recording_id"]),
        Path(),
        content_hash="",
        latitude=row.get("latitude"),
        longitude=row.get("longitude"),
        date=date if isinstance(date, dt.date) else None,
        time=time,
    )


def _seconds(value: Any) -> float:
    """Seconds since midnight; NaN for what is no time of day."""
    if isinstance(value, str):
        try:
            value = dt.time.fromisoformat(value)
        except ValueError:
            return float("nan")
    if isinstance(value, dt.time):
        return value.hour * 3600.0 + value.minute * 60 + value.second
    return float("nan")


def _floats(series: pl.Series) -> np.ndarray:
    return series.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
