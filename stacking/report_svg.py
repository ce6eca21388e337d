"""A chart as SVG that scales with its column, takes the page's colours and weighs little.

Vega-Lite draws it here, by `vl_convert`, which holds an engine of its own: the page needs no
JavaScript for its charts.
"""

from __future__ import annotations

import html
import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

WIDTH = 390
"""In pixels, as wide as a column of the page at its usual size."""
INK, MUTED, GRID = "var(--ink)", "var(--muted)", "var(--grid)"
_FONT = 12
_MOST_LABEL = 150
_numbers = itertools.count(1)

_CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "sans-serif",
    "padding": {"left": 12, "right": 10, "top": 4, "bottom": 4},
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "titleColor": MUTED,
        "gridColor": GRID,
        "domainColor": GRID,
        "tickColor": GRID,
        "labelFontSize": _FONT,
        "titleFontSize": _FONT,
        "titleFontWeight": "normal",
        "labelLimit": _MOST_LABEL,
    },
    "legend": {
        "labelColor": INK,
        "titleColor": MUTED,
        "labelFontSize": _FONT,
        "titleFontSize": _FONT,
        "titleFontWeight": "normal",
        "columnPadding": 26,
    },
    "text": {"color": INK, "fontSize": _FONT},
}


def as_svg(chart: Any, *, height: int) -> str:
    """The chart as SVG that scales with its column and takes the page's colours."""
    import vl_convert  # noqa: PLC0415 - starts an engine

    sized = chart.properties(
        width=WIDTH, height=height, autosize={"type": "fit", "contains": "padding"}
    ).configure(**_CONFIG)
    text: str = vl_convert.vegalite_to_svg(json.dumps(sized.to_dict()))
    return _light(text)


def _light(svg: str) -> str:
    """Fewer bytes, ids of its own, no size but the view box, words left to the caption."""
    svg = re.sub(r'\s(?:aria-[\w-]+|role|pointer-events|xmlns:xlink|version)="[^"]*"', "", svg)
    svg = re.sub(r'<path class="(?:background|foreground)"[^>]*?(?:/>|></path>)', "", svg)
    svg = re.sub(r'\sclass="(?!marks)[^"]*"', "", svg)
    svg = re.sub(r'="[^"<>]*"', _rounded, svg)  # attributes alone: figures in the text stay
    svg = re.sub(r'(<svg[^>]*?) width="[\d.]+" height="[\d.]+"', r"\1", svg, count=1)
    own = f"v{next(_numbers)}-"
    svg = re.sub(r'\bid="', f'id="{own}', svg)
    svg = svg.replace("url(#", f"url(#{own}").replace('href="#', f'href="#{own}')
    return svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


def _rounded(attribute: re.Match[str]) -> str:
    return re.sub(
        r"\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), attribute[0]
    )


def sparkline(points: Sequence[Sequence[float]]) -> str:
    """A ROC curve as a little picture, with the diagonal of chance."""
    where = " ".join(f"{round(100 * x)},{round(100 - 100 * y)}" for x, y in points)
    words = html.escape("ROC curve")
    return (
        f'<svg class="spark" viewBox="-3 -3 106 106" role="img" aria-label="{words}">'
        f'<path class="chance" d="M0 100L100 0"/><polygon points="{where} 100,100"/>'
        f'<polyline points="{where}"/></svg>'
    )
