"""Charts of a report as still SVG, drawn by Vega-Lite without a browser or a network.

Colours are CSS variables of the page (`var(--c1)`), so that one picture serves light, dark and
print; kinds differ in shape or dash as well, never in colour alone. Every chart is drawn
`WIDTH` wide and scales with its column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from birdstack.stacking.report_svg import INK, MUTED, WIDTH, as_svg

FIRST, SECOND = "var(--c1)", "var(--c2)"
_ROW = 26
_LOSS, _EVEN, _GAIN = "#D55E00", "#bdbdbd", "#0072B2"
"""Ends of a scale that is read in both directions, and its middle, seen on light and dark."""

Rows = Sequence[Mapping[str, Any]]


def interval_chart(rows: Rows, *, title: str, zero: bool = False, digits: int = 3) -> str:
    """Points with intervals, one row each; a dashed rule at 0 for differences.

    Args:
        rows: `name`, `value`, `low`, `high`, and `main` for what stands out.
        title: of the axis.
        zero: whether 0 is marked.
        digits: of the figures written beside the points.
    """
    data = _data(
        [
            {
                **row,
                "text": _signed(row["value"], digits) if zero else f"{row['value']:.{digits}f}",
                "main": bool(row.get("main")),
            }
            for row in rows
        ]
    )
    order = [row["name"] for row in rows]
    y = alt.Y("name:N", sort=order, title=None, axis=alt.Axis(grid=False, ticks=False))
    colour = alt.condition("datum.main", alt.value(FIRST), alt.value(MUTED))
    scale = alt.Scale(zero=False, nice=True, padding=6)
    base = alt.Chart(data)
    rule = base.mark_rule(strokeWidth=2).encode(
        y=y,
        x=alt.X("low:Q", title=title, scale=scale),
        x2="high:Q",
        color=colour,
    )
    point = base.mark_point(filled=True, size=75, opacity=1).encode(
        y=y,
        x=alt.X("value:Q", title=title, scale=scale),
        color=colour,
        shape=alt.condition("datum.main", alt.value("diamond"), alt.value("circle")),
    )
    text = base.mark_text(dy=-9, fontSize=11).encode(y=y, x="value:Q", text="text:N")
    layers = [rule, point, text]
    if zero:
        mark = alt.Chart(_data([{"at": 0}])).mark_rule(strokeDash=[4, 3], color=INK, strokeWidth=1)
        layers.insert(0, mark.encode(x="at:Q"))
    return as_svg(alt.layer(*layers), height=60 + _ROW * len(rows))


def scatter_of_classes(rows: Rows) -> str:
    """AUC of each class by what is shipped over that of the control; the diagonal is no change.

    Args:
        rows: `class`, `x`, `y`, `positives`, `better`.
    """
    low = min([*(min(row["x"], row["y"]) for row in rows), 0.95])
    domain = [max(0.0, low - 0.02), 1.0]
    scale = alt.Scale(domain=domain, nice=False)
    line = (
        alt.Chart(_data([{"x": domain[0], "y": domain[0]}, {"x": 1, "y": 1}]))
        .mark_line(strokeDash=[4, 3], color=MUTED, strokeWidth=1)
        .encode(x=alt.X("x:Q", scale=scale), y=alt.Y("y:Q", scale=scale))
    )
    points = (
        alt.Chart(_data(rows))
        .mark_point(filled=True, opacity=0.75)
        .encode(
            x=alt.X("x:Q", title="AUC by mean + kernel", scale=scale),
            y=alt.Y("y:Q", title="AUC by what is shipped", scale=scale),
            size=alt.Size(
                "positives:Q",
                scale=alt.Scale(type="sqrt", range=[14, 260]),
                legend=alt.Legend(
                    title="positive windows",
                    orient="bottom",
                    tickCount=3,
                    columnPadding=14,
                    symbolFillColor=MUTED,
                ),
            ),
            color=alt.Color(
                "better:N",
                scale=alt.Scale(domain=["better", "worse or same"], range=[FIRST, SECOND]),
                legend=alt.Legend(title=None, orient="top", direction="horizontal"),
            ),
            shape=alt.Shape(
                "better:N",
                scale=alt.Scale(
                    domain=["better", "worse or same"], range=["circle", "triangle-down"]
                ),
                legend=alt.Legend(title=None, orient="top", direction="horizontal"),
            ),
        )
    )
    return as_svg(alt.layer(line, points), height=WIDTH + 50)


def reliability_chart(rows: Rows) -> str:
    """What was promised against what was found, with intervals."""
    data = _data(rows)
    ideal = alt.Chart(_data([{"x": 0, "y": 0}, {"x": 1, "y": 1}])).mark_line(
        strokeDash=[4, 3], color=MUTED, strokeWidth=1
    )
    axis = alt.Axis(format="%")
    scale = alt.Scale(domain=[0, 1])
    base = alt.Chart(data)
    x = alt.X("promised:Q", title="promised share of windows with the bird", axis=axis, scale=scale)
    title = "observed share"
    rule = base.mark_rule(strokeWidth=2, color=FIRST).encode(
        x=x, y=alt.Y("low:Q", axis=axis, scale=scale, title=title), y2="high:Q"
    )
    point = base.mark_point(filled=True, color=FIRST, opacity=1).encode(
        x=x,
        y=alt.Y("observed:Q", axis=axis, scale=scale, title=title),
        size=alt.Size(
            "windows:Q",
            scale=alt.Scale(type="log", range=[20, 220]),
            legend=alt.Legend(title="windows and classes read", orient="bottom", tickCount=4),
        ),
    )
    return as_svg(alt.layer(ideal.encode(x="x:Q", y="y:Q"), rule, point), height=WIDTH + 30)


def densities(edges: Sequence[float], sides: Mapping[str, Sequence[float]], *, title: str) -> str:
    """Two distributions over the same cells, as steps: one filled, one dashed."""
    names = list(sides)
    rows = [
        {"x": edge, "share": share, "side": name}
        for name, shares in sides.items()
        for edge, share in zip(edges, [*shares, shares[-1]], strict=True)
    ]
    base = alt.Chart(_data(rows))
    x = alt.X("x:Q", title=title, scale=alt.Scale(nice=False))
    y = alt.Y(
        "share:Q", title="share of scores", axis=alt.Axis(format="%", tickCount=5), stack=None
    )
    colours = alt.Scale(domain=names, range=[FIRST, SECOND])
    legend = alt.Legend(title=None, orient="top", direction="horizontal")
    dash = alt.Scale(domain=names, range=[[1, 0], [5, 3]])
    area = (
        base.transform_filter(alt.datum.side == names[0])
        .mark_area(interpolate="step-after", opacity=0.18, color=FIRST)
        .encode(x=x, y=y)
    )
    line = base.mark_line(interpolate="step-after", strokeWidth=2).encode(
        x=x,
        y=y,
        color=alt.Color("side:N", scale=colours, legend=legend),
        strokeDash=alt.StrokeDash("side:N", scale=dash, legend=legend),
    )
    return as_svg(alt.layer(area, line), height=300)


def histogram(values: Sequence[float], *, title: str, mark: float | None = None) -> str:
    """How many classes have such a value; a dashed rule at a value to compare with."""
    bars = (
        alt.Chart(_data([{"v": value} for value in values]))
        .mark_bar(color=FIRST, opacity=0.85)
        .encode(
            x=alt.X("v:Q", bin=alt.Bin(maxbins=16), title=title),
            y=alt.Y("count():Q", title="classes", axis=alt.Axis(tickMinStep=1)),
        )
    )
    layers: list[alt.Chart] = [bars]
    if mark is not None:
        rule = alt.Chart(_data([{"at": mark}])).mark_rule(
            strokeDash=[4, 3], color=INK, strokeWidth=1.5
        )
        layers.append(rule.encode(x="at:Q"))
    return as_svg(alt.layer(*layers), height=260)


def bars(rows: Rows, *, title: str, percent: bool = False, most: float | None = None) -> str:
    """Horizontal bars with names above and figures beside them: `name`, `value`."""
    form = ".1%" if percent else ".2f"
    data = _data([{**row, "text": format(row["value"], form)} for row in rows])
    order = [row["name"] for row in rows]
    longest = max((row["value"] for row in rows), default=1.0) or 1.0
    scale = alt.Scale(domain=[0, most or longest * 1.15], nice=False)
    base = alt.Chart(data).encode(y=alt.Y("name:N", sort=order, title=None, axis=None))
    axis = alt.Axis(format="%" if percent else "", tickCount=5)
    body = base.mark_bar(color=FIRST, opacity=0.85, height=9, yOffset=8).encode(
        x=alt.X("value:Q", title=title, scale=scale, axis=axis)
    )
    figure = base.mark_text(align="left", dx=4, dy=8, fontSize=11).encode(
        x=alt.X("value:Q", title=title, scale=scale, axis=axis), text="text:N"
    )
    name = base.mark_text(align="left", dy=-7, dx=1, limit=WIDTH - 30).encode(
        x=alt.value(0), text="name:N"
    )
    return as_svg(alt.layer(body, figure, name), height=50 + 32 * len(rows))


def history(rows: Rows) -> str:
    """Value of every trial, and the best so far: `number`, `value`, `best`."""
    base = alt.Chart(_data(rows))
    x = alt.X("number:Q", title="trial", axis=alt.Axis(tickMinStep=1, format="d"))
    scale = alt.Scale(zero=False)
    point = base.mark_point(filled=True, color=SECOND, size=45, opacity=0.85).encode(
        x=x, y=alt.Y("value:Q", title="macro AUC of the search", scale=scale)
    )
    line = base.mark_line(color=FIRST, strokeWidth=2, interpolate="step-after").encode(
        x=x, y=alt.Y("best:Q", title="macro AUC of the search", scale=scale)
    )
    return as_svg(alt.layer(line, point), height=280)


def map_chart(rows: Rows, *, with_gain: bool) -> str:
    """Cells of recordings where they were made: `longitude`, `latitude`, `recordings`, `gain`."""
    longitudes = [row["longitude"] for row in rows]
    latitudes = [row["latitude"] for row in rows]
    centre = (min(latitudes) + max(latitudes)) / 2
    across = max(max(longitudes) - min(longitudes), 0.05)
    upward = max(max(latitudes) - min(latitudes), 0.05)
    ratio = upward / (across * max(0.2, math.cos(math.radians(centre))))
    height = min(max(WIDTH * ratio * 0.8 + 90, 240), 560)
    scale = alt.Scale(zero=False, nice=False, padding=16)
    shared: dict[str, Any] = {
        "x": alt.X("longitude:Q", title="longitude (degrees east)", scale=scale),
        "y": alt.Y("latitude:Q", title="latitude (degrees north)", scale=scale),
        "size": alt.Size(
            "recordings:Q",
            scale=alt.Scale(type="sqrt", range=[30, 420]),
            legend=alt.Legend(title="recordings", orient="bottom", tickCount=3),
        ),
    }
    base = alt.Chart(_data(rows))
    plain = base
    if with_gain:
        plain = base.transform_filter("!isValid(datum.gain)")
    plain = plain.mark_point(filled=True, color=MUTED, opacity=0.45).encode(**shared)
    if not with_gain:
        return as_svg(alt.layer(plain), height=round(height))
    widest = max(abs(row["gain"]) for row in rows if row["gain"] is not None) or 0.01
    widest = min(widest, 0.25)
    gained = (
        base.transform_filter("isValid(datum.gain)")
        .mark_point(filled=True, opacity=0.95, stroke=INK, strokeWidth=0.6)
        .encode(
            **shared,
            color=alt.Color(
                "gain:Q",
                scale=alt.Scale(
                    domain=[-widest, 0, widest],
                    range=[_LOSS, _EVEN, _GAIN],
                    interpolate="rgb",
                    clamp=True,
                ),
                legend=alt.Legend(title="gain", orient="top", format="+.2f", gradientLength=180),
            ),
            shape=alt.condition("datum.gain < 0", alt.value("triangle-down"), alt.value("circle")),
        )
    )
    return as_svg(alt.layer(plain, gained), height=round(height))


def hours_chart(rows: Rows, order: Sequence[str]) -> str:
    """Heat map of hour and class: `class`, `hour`, `share` of windows."""
    heat = (
        alt.Chart(_data(rows))
        .mark_rect()
        .encode(
            x=alt.X(
                "hour:O",
                title="hour of day",
                scale=alt.Scale(domain=list(range(24))),
                axis=alt.Axis(labelAngle=0, values=list(range(0, 24, 3))),
            ),
            y=alt.Y("class:N", sort=list(order), title=None, axis=alt.Axis(ticks=False)),
            color=alt.Color(
                "share:Q",
                scale=alt.Scale(scheme="viridis", zero=True),
                legend=alt.Legend(
                    title="windows with the bird", orient="top", format=".0%", gradientLength=180
                ),
            ),
        )
    )
    return as_svg(alt.layer(heat), height=100 + 17 * len(order))


def _signed(value: float, digits: int) -> str:
    """With its sign, unless it is nothing."""
    text = f"{value:+.{digits}f}".replace("-", "\u2212")
    return text if round(value, digits) else f"{0:.{digits}f}"


def _data(rows: Rows) -> Any:
    made: Any = alt.Data
    return made(values=list(rows))
