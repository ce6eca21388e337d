"""A view's columns as a Markdown table, so that the documentation cannot fall behind.

Rewrite the table of a page, between its two markers:

    python -m birdstack.features.column_table docs/reference/acoustic-view.md
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from birdstack.features.acoustic import AcousticConfig, AcousticExtractor
from birdstack.features.summaries import OVER_FRAMES
from birdstack.store.keys import WindowGrid
from birdstack.store.views import Column, ViewSpec

BEGIN = "<!-- columns: begin -->"
END = "<!-- columns: end -->"
_NUMBER = re.compile(r"_\d\d(?=_|$)")


def column_table(spec: ViewSpec) -> str:
    """Markdown table of a view: one row per quantity.

    Columns that differ only by a number or by the statistic over frames share a row, whose
    range is that of the quantity itself.
    """
    families: dict[str, list[Column]] = {}
    for column in spec.columns:
        families.setdefault(_family(column), []).append(column)
    lines = ["| quantity | statistics | columns | unit | low | high | definition and source |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, members in families.items():
        first = members[0]
        statistics = ", ".join(dict.fromkeys(filter(None, map(_statistic, members))))
        bounds = f"{_bound(first.low)} | {_bound(first.high)}"
        text = first.description.rpartition(OVER_FRAMES)[2].replace("|", r"\|")
        lines.append(
            f"| `{name}` | {statistics} | {len(members)} | {first.unit} | {bounds} | {text} |"
        )
    return "\n".join(lines)


def with_table(page: str, table: str) -> str:
    """The page with what stands between the markers replaced by `table`.

    Raises:
        ValueError: the page does not hold both markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        message = f"the page must hold {BEGIN} and {END}"
        raise ValueError(message)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def reference_spec() -> ViewSpec:
    """The acoustic view with its default settings at 32 kHz."""
    extractor = AcousticExtractor(AcousticConfig(), {"sample_rate_hz": 32000}, WindowGrid())
    return extractor.spec


def _statistic(column: Column) -> str:
    """Name of the statistic over frames that a column holds; empty for other columns."""
    return column.name.rpartition("_")[2] if OVER_FRAMES in column.description else ""


def _family(column: Column) -> str:
    """A column's name without its statistic, its number as NN."""
    return _NUMBER.sub("_NN", column.name.removesuffix(f"_{_statistic(column)}"))


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:.7g}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_table(page.read_text("utf-8"), column_table(reference_spec())), "utf-8")
