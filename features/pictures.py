"""Pictures of a recording: its spectrogram, its windows, and columns over time.

matplotlib is loaded by the function that draws, and used without pyplot: no global state, no
display, safe in threads. Colours are told apart by everybody (viridis).
"""

from __future__ import annotations

import math
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from birdstack.features.pictures_spectrogram import Spectrogram, colour_limits_db
from birdstack.store.errors import UsageError
from birdstack.store.keys import WindowGrid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 100
WIDTH_IN = 12.0
_MAX_NUMBERS = 24  # windows numbered across the picture
_MAX_TITLE = 100
_STEPS = (1, 2, 5)
_MINUTES_FROM_S = 600.0
_SPACINGS_S = (60, 120, 300, 600, 1800, 3600)
_MAX_TICKS = 16
LINE_COLOUR = "#20508a"


@dataclass(frozen=True)
class Curve:
    """One column over the windows of a recording.

    Attributes:
        name: of the column.
        values: `[window]`; NaN where unknown.
        unit: of the values; empty for a pure number.
        low: smallest value that the definition allows; None if unbounded.
        high: largest such value.
    """

    name: str
    values: np.ndarray
    unit: str = ""
    low: float | None = None
    high: float | None = None


def draw_recording(
    picture: Spectrogram,
    grid: WindowGrid,
    n_windows: int,
    curves: Sequence[Curve],
    *,
    title: str,
    subtitle: str = "",
) -> Figure:
    """A spectrogram with window numbers above it and columns below it, on one time axis.

    Args:
        picture: what to show; its edges are those of the time axis.
        grid: how the recording is cut into windows.
        n_windows: how many it has.
        curves: the columns below.
        title: first line.
        subtitle: second line, such as place and date.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - heavy, and only drawing needs it

    heights = [4.2] + [1.15] * len(curves)
    figure = Figure(figsize=(WIDTH_IN, sum(heights) + 1.0), dpi=DPI, layout="constrained")
    boxes = figure.add_gridspec(len(heights), 2, height_ratios=heights, width_ratios=[70, 1])
    axes = figure.add_subplot(boxes[0, 0])
    _draw_spectrogram(figure, axes, figure.add_subplot(boxes[0, 1]), picture)
    panels = [axes]
    for row, curve in enumerate(curves, start=1):
        panels.append(figure.add_subplot(boxes[row, 0], sharex=axes))
        _draw_curve(panels[-1], grid, curve, picture)
    for panel in panels[:-1]:
        panel.tick_params(labelbottom=False)
    _draw_windows(panels, grid, n_windows, picture)
    _name_time(panels[-1], picture)
    lines = [_shortened(title), *([subtitle] if subtitle else [])]
    figure.suptitle("\n".join(lines), fontsize=12, x=0.01, ha="left", parse_math=False)
    return figure


def _draw_spectrogram(figure: Figure, axes: Axes, bar: Axes, picture: Spectrogram) -> None:
    low, high = colour_limits_db(picture.level_db)
    edges = (picture.start_s, picture.end_s, picture.fmin_hz / 1000, picture.fmax_hz / 1000)
    image = axes.imshow(
        picture.level_db,
        origin="lower",
        aspect="auto",
        extent=edges,
        cmap="viridis",
        vmin=low,
        vmax=high,
        interpolation="nearest",
    )
    axes.set_ylabel("frequency (kHz)")
    figure.colorbar(image, cax=bar, label="level (dB re full scale)")


def _draw_windows(
    panels: Sequence[Axes], grid: WindowGrid, n_windows: int, picture: Spectrogram
) -> None:
    """Boundaries in every panel, numbers above the first one; thinned out where there are many."""
    shown = [
        i
        for i in range(n_windows)
        if picture.start_s - grid.hop_s < grid.start_s(i) < picture.end_s
    ]
    axes = panels[0]
    step = _step(len(shown))
    shift_s = _shift_s(grid)
    for index in (i for i in shown if i % step == 0):
        start_s = grid.start_s(index) + shift_s
        number_s = start_s + grid.hop_s / 2 if step == 1 else start_s
        if start_s >= picture.start_s:
            for panel in panels:
                colour = "white" if panel is axes else "0.8"
                panel.axvline(start_s, color=colour, linewidth=0.8, alpha=0.7, zorder=1)
        if picture.start_s <= number_s <= picture.end_s:
            axes.annotate(
                str(index),
                (number_s, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
    axes.annotate(
        "window",
        (0.0, 1.0),
        xycoords="axes fraction",
        xytext=(-8, 6),
        textcoords="offset points",
        ha="right",
        fontsize=9,
    )


def _draw_curve(axes: Axes, grid: WindowGrid, curve: Curve, picture: Spectrogram) -> None:
    """One level a window: a value holds for its whole window, not for a moment."""
    edges = np.arange(len(curve.values) + 1) * grid.hop_s + _shift_s(grid)
    shown = (edges[1:] > picture.start_s) & (edges[:-1] < picture.end_s)
    values = np.where(shown, curve.values, np.nan)  # the scale is that of what is shown
    axes.stairs(values, edges, baseline=None, color=LINE_COLOUR, linewidth=1.8, zorder=3)
    name_curve(axes, curve)
    finish_axes(axes, curve)


def name_curve(axes: Axes, curve: Curve) -> None:
    """Name and unit of a column above its panel."""
    name = f"{curve.name} ({curve.unit})" if curve.unit else curve.name
    axes.set_title(name, loc="left", fontsize=10, pad=3, parse_math=False)
    if not np.isfinite(curve.values).any():
        axes.set_yticks([])
        axes.text(0.5, 0.4, "not known", transform=axes.transAxes, ha="center", color="0.4")


def finish_axes(axes: Axes, curve: Curve) -> None:
    """Limits, grid and frame of a column's panel.

    A panel covers at least a tenth of the column's range: what hardly moves looks flat.
    """
    axes.margins(y=0.15)
    low, high = axes.get_ylim()
    if curve.low is not None and curve.high is not None:
        missing = (curve.high - curve.low) / 10 - (high - low)
        if missing > 0:
            axes.set_ylim(low - missing / 2, high + missing / 2)
    axes.grid(visible=True, axis="y", color="0.9")
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _name_time(axes: Axes, picture: Spectrogram) -> None:
    from matplotlib.ticker import FuncFormatter, MultipleLocator  # noqa: PLC0415 - heavy, and only drawing needs it

    axes.set_xlim(picture.start_s, picture.end_s)
    if picture.end_s <= _MINUTES_FROM_S:
        axes.set_xlabel("time (s)")
        return
    length_s = picture.end_s - picture.start_s
    spacing_s = next((s for s in _SPACINGS_S if length_s / s <= _MAX_TICKS), 2 * _SPACINGS_S[-1])
    axes.xaxis.set_major_locator(MultipleLocator(spacing_s))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda s, _: f"{int(s) // 60}:{int(s) % 60:02d}"))
    axes.set_xlabel("time (min:s)")


def _shift_s(grid: WindowGrid) -> float:
    """Where windows overlap, each is drawn around its middle, as wide as the hop."""
    return (grid.window_s - grid.hop_s) / 2


def _step(count: int) -> int:
    """1, 2, 5, 10, ...: every how many windows one is numbered."""
    power = 1
    while True:
        for step in _STEPS:
            if count <= _MAX_NUMBERS * step * power:
                return step * power
        power *= 10


def _shortened(text: str) -> str:
    if len(text) <= _MAX_TITLE:
        return text
    half = _MAX_TITLE // 2 - 2
    return f"{text[:half]} … {text[-half:]}"


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all; a file that is there is replaced.

    Raises:
        UsageError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - heavy, and only drawing needs it

    FigureCanvasAgg(figure)
    try:
        handle, aside = tempfile.mkstemp(prefix=".birdstack-", suffix=".png", dir=path.parent)
        os.close(handle)
        try:
            with warnings.catch_warnings():
                # A recordist's name in a script that the font lacks is no reason to complain.
                warnings.filterwarnings("ignore", message="Glyph .* missing from font")
                figure.savefig(aside, format="png", metadata={"Software": "birdstack"})
            Path(aside).chmod(0o644)
            Path(aside).replace(path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror or error}"
        raise UsageError(
            message, remedy="give --out a file in a folder you may write to"
        ) from error


def find_column(wanted: str, known: Sequence[str]) -> str | None:
    """The column called `wanted`, or the only one whose name ends so (`ndsi`: `index_ndsi`)."""
    if wanted in known:
        return wanted
    found = [name for name in known if name.endswith(f"_{wanted}")]
    return found[0] if len(found) == 1 else None


def facts_line(facts: Mapping[str, Any]) -> str:
    """What is known of a recording, in one line: site, place, date, time, sun.

    Args:
        facts: any of `site`, `latitude`, `longitude`, `elevation_m`, `date`, `time`,
            `solar_elevation_deg`; None or NaN where unknown.
    """
    known = {
        name: value
        for name, value in facts.items()
        if value is not None and not (isinstance(value, float) and math.isnan(value))
    }
    words = []
    if "site" in known:
        words.append(str(known["site"]))
    if {"latitude", "longitude"} <= known.keys():
        latitude, longitude = known["latitude"], known["longitude"]
        north, east = "N" if latitude >= 0 else "S", "E" if longitude >= 0 else "W"
        words.append(f"{abs(latitude):.3f}° {north}, {abs(longitude):.3f}° {east}")
    if "elevation_m" in known:
        words.append(f"{known['elevation_m']:g} m")
    if "date" in known or "time" in known:
        day, clock = known.get("date"), known.get("time")
        words.append(" ".join(str(part) for part in (day, clock) if part is not None))
    if "solar_elevation_deg" in known:
        words.append(f"sun {known['solar_elevation_deg']:+.0f}°")
    return " · ".join(words)
