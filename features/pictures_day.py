"""A day of one recorder: columns against the hour, with the night shaded where it is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from birdstack.features.pictures import (
    DPI,
    LINE_COLOUR,
    WIDTH_IN,
    Curve,
    finish_axes,
    name_curve,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HOURS = 24


def draw_day(
    hour: np.ndarray,
    curves: Sequence[Curve],
    *,
    title: str,
    subtitle: str = "",
    nights: Sequence[tuple[float, float]] = (),
) -> Figure:
    """One panel a column: a dot for each window, a line through the means of the hours.

    Args:
        hour: time of day of each window, `[window]`, in [0, 24).
        curves: columns over the same windows.
        title: first line.
        subtitle: second line.
        nights: stretches of darkness in hours (see `dark_stretches`); empty where the place,
            and so the sun, is unknown.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - heavy, and only drawing needs it

    figure = Figure(figsize=(WIDTH_IN, 2.1 * len(curves) + 1.1), dpi=DPI, layout="constrained")
    panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    for axes, curve in zip(panels, curves, strict=True):
        for start_h, end_h in nights:
            axes.axvspan(start_h, end_h, color="0.88", linewidth=0, zorder=0)
        known = np.isfinite(curve.values)
        slots = hour[known].astype(int)
        means = [float(curve.values[known][slots == h].mean()) for h in np.unique(slots)]
        starts = [float(hour[known][slots == h].mean()) for h in np.unique(slots)]
        axes.plot(starts, means, color=LINE_COLOUR, linewidth=1.8, zorder=3)
        axes.plot(hour, curve.values, "o", color=LINE_COLOUR, markersize=4.5, alpha=0.55, zorder=4)
        name_curve(axes, curve)
        finish_axes(axes, curve)
        axes.grid(visible=True, axis="x", color="0.93")
    panels[-1].set_xlim(-0.3, _HOURS)
    panels[-1].set_xticks(range(0, _HOURS + 1, 2))
    panels[-1].set_xlabel("hour of the recorder's clock")
    lines = [title, *([subtitle] if subtitle else [])]
    figure.suptitle("\n".join(lines), fontsize=12, x=0.01, ha="left", parse_math=False)
    return figure


def dark_stretches(hour: np.ndarray, night: np.ndarray) -> list[tuple[float, float]]:
    """Where a night flag is set, as stretches of hours.

    Args:
        hour: rising times of day, `[moment]`.
        night: 1, 0, or NaN where unknown, `[moment]`.
    """
    dark = np.concatenate([[False], night == 1, [False]])
    begins = np.flatnonzero(dark[1:] & ~dark[:-1])
    ends = np.flatnonzero(dark[:-1] & ~dark[1:]) - 1
    return [(float(hour[a]), float(hour[b])) for a, b in zip(begins, ends, strict=True)]
