"""The page: every figure of a report in one HTML file that needs no network.

The template escapes everything that comes from outside: class names and paths are not ours.
Only the charts, which escape what they write themselves, go in as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from birdstack.stacking import report_charts as draw
from birdstack.stacking.report_cards import error_svg
from birdstack.stacking.report_run import CONTROL, SHIPPED
from birdstack.stacking.report_svg import sparkline

Report = Mapping[str, Any]

_ROOM = "birdstack.stacking"
_RULES = {
    "few_positives": "too few positive windows",
    "few_recordings": "positives in too few recordings",
    "below_control": "ranks below the control",
}
_COLUMNS = {
    "smooth": "own score, kernel over neighbours",
    "others_mean": "own score, mean of the recording's other windows",
    "minus_best_other": "own score less the best other class",
    "minus_crowd": "own score less all classes together",
    "minus_local_mean(1)": "own score less its neighbours' mean",
    "local_max(1)": "own score, highest of 3 windows",
    "logsumexp(1)": "own score, soft maximum of 3 windows",
    "rank": "own score's rank among classes",
}


def render_page(report: Report) -> str:
    """The whole page as HTML."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_source),
    )
    environment.filters |= {
        "figure3": lambda value: _figure(value, ".3f"),
        "signed": lambda value: _figure(value, "+.3f"),
        "between": _between,
        "percent": lambda value: _figure(value, ".0%"),
        "percent1": lambda value: _figure(value, ".1%"),
        "count": lambda value: f"{value:,}",
        "rule": lambda name: _RULES.get(name, name),
    }
    return environment.get_template("report_template.html").render(
        report=report,
        style=Markup(_source("report_style.css")),  # noqa: S704 - ours
        script=Markup(_source("report_script.js")),  # noqa: S704 - ours
        charts={name: Markup(svg) for name, svg in _charts(report).items()},  # noqa: S704 - drawn
        spark=_spark,
        error_picture=lambda error: Markup(error_svg(error)),  # noqa: S704 - escapes by itself
        curve_data=_curve_data(report),
        SHIPPED=SHIPPED,
        CONTROL=CONTROL,
    )


def _source(name: str) -> str:
    return resources.files(_ROOM).joinpath(name).read_text("utf-8")


def _charts(report: Report) -> dict[str, str]:
    """Every chart there is something to draw for."""
    charts: dict[str, str] = {}
    for domain in report["headline"]["domains"]:
        name = domain["domain"]
        charts[f"macro:{name}"] = draw.interval_chart(
            _interval_rows(domain["rows"], "macro_auc", "title", main=SHIPPED),
            title="macro AUC, 95 % interval by recording",
        )
        lead = _interval_rows(domain["rows"], "shipped_less_this", "title", main=CONTROL)
        if lead:
            charts[f"lead:{name}"] = draw.interval_chart(
                lead, title="macro AUC of what is shipped, less this", zero=True
            )
    for name, gain in report["gain"].items():
        by_count = [
            {**row, "name": f"{row['bucket']} positives ({row['classes']})"}
            for row in gain["by_positives"]
        ]
        rows = _interval_rows(by_count, "gain", "name")
        if rows:
            charts[f"buckets:{name}"] = draw.interval_chart(
                rows, title="gain in AUC over mean + kernel", zero=True
            )
        activity = [
            {**row, "name": f"{row['group']} ({row['classes']})"}
            for row in gain["by_activity"].get("rows", [])
        ]
        rows = _interval_rows(activity, "gain", "name")
        if rows:
            charts[f"activity:{name}"] = draw.interval_chart(
                rows, title="gain in AUC over mean + kernel", zero=True
            )
    for name, classes in report["classes"].items():
        points = _scatter_rows(classes)
        if points:
            charts[f"scatter:{name}"] = draw.scatter_of_classes(points)
    for part in (_calibration, _drift, _importance, _tuning, _places, _against):
        charts |= part(report)
    return charts


def _calibration(report: Report) -> dict[str, str]:
    rows = report["calibration"].get("rows")
    return {"reliability": draw.reliability_chart(rows)} if rows else {}


def _drift(report: Report) -> dict[str, str]:
    charts, found = {}, report["distributions"]
    if "why" not in found:
        cells = found["histogram"]
        sides = {
            "windows learnt from": cells["reference"],
            "windows to be scored": cells["target"],
        }
        charts["densities"] = draw.densities(
            cells["edges"], sides, title="score, in standard deviations of the first"
        )
        known = [row["ks"] for row in found["by_class"] if row["ks"] is not None]
        charts["ks"] = draw.histogram(
            known, title="KS distance of a class", mark=found["median_ks_by_chance"]
        )
    rows = [
        {"name": row["column"], "value": row["ks"]}
        for row in report["drift"].get("columns", [])[:12]
        if row["ks"] is not None
    ]
    if rows:
        charts["drift"] = draw.bars(rows, title="KS distance", most=1.0)
    return charts


def _importance(report: Report) -> dict[str, str]:
    charts = {}
    found = report["importance"]
    gain, shap = found.get("gain", {}), found.get("shap", {})
    wanted = {
        "gain": gain.get("classes"),
        "gain-shared": gain.get("shared"),
        "shap": shap.get("columns"),
    }
    for name, rows in wanted.items():
        if rows:
            bars = [{"name": column_title(r["column"]), "value": r["share"]} for r in rows[:14]]
            title = "share of mean |SHAP|" if name == "shap" else "share of gain"
            charts[name] = draw.bars(bars, title=title, percent=True)
    return charts


def _tuning(report: Report) -> dict[str, str]:
    charts, found = {}, report["tuning"]
    if len(found.get("trials", [])) > 1:
        charts["trials"] = draw.history(found["trials"])
    if found.get("importance"):
        rows = [{"name": r["setting"], "value": r["share"]} for r in found["importance"]]
        charts["settings"] = draw.bars(rows, title="share of the differences", percent=True)
    return charts


def _places(report: Report) -> dict[str, str]:
    charts = {}
    cells = report["map"].get("cells")
    if cells:
        known = any(cell["gain"] is not None for cell in cells)
        charts["map"] = draw.map_chart(cells, with_gain=known)
    if report["hours"].get("cells"):
        rows = [{**c, "share": c["present"] / c["windows"]} for c in report["hours"]["cells"]]
        charts["hours"] = draw.hours_chart(rows, report["hours"]["order"])
    return charts


def _against(report: Report) -> dict[str, str]:
    if "against" not in report:
        return {}
    rows = _interval_rows(report["against"]["domains"], "difference", "domain", main="")
    return {"against": draw.interval_chart(rows, title="this run less the other", zero=True)}


def _interval_rows(
    rows: Any, figure: str, name: str, main: str | None = None
) -> list[dict[str, Any]]:
    """Rows that have the figure with an interval, for an interval chart."""
    return [
        {
            "name": row[name],
            "value": row[figure]["value"],
            "low": row[figure]["low"],
            "high": row[figure]["high"],
            "main": main is None or row.get("name") == main or main == "",
        }
        for row in rows
        if row[figure] is not None and row[figure]["low"] is not None
    ]


def _scatter_rows(classes: Any) -> list[dict[str, Any]]:
    return [
        {
            "class": row["class"],
            "x": row["mean_kernel_auc"]["value"],
            "y": row["auc"]["value"],
            "positives": row["positives"],
            "better": "better" if row["gain"]["value"] > 0 else "worse or same",
        }
        for row in classes
        if row["auc"] is not None and row["mean_kernel_auc"] is not None
    ]


def column_title(name: str) -> str:
    """A column of the stack, in words."""
    for prefix, words in (("score:", "score of "), ("class:", "score of "), ("x:", "")):
        if name.startswith(prefix):
            return words + name.removeprefix(prefix)
    for way, words in (("lag(", "windows before"), ("lead(", "windows after")):
        if name.startswith(way):
            far = name.removeprefix(way).rstrip(")")
            return f"own score, {far} {words if far != '1' else words.replace('ws', 'w')}"
    return _COLUMNS.get(name, name)


def _spark(row: Mapping[str, Any]) -> Markup:
    curves = row["curves"].get(SHIPPED)
    return Markup(sparkline(curves["roc"])) if curves else Markup("\u2013")  # noqa: S704 - numbers


def _curve_data(report: Report) -> Markup:
    """Curves of all classes as JSON that may stand inside a script element."""
    data: dict[str, Any] = {}
    for domain, rows in report["classes"].items():
        data[domain] = [
            {
                "name": row["class"],
                "positives": row["positives"],
                "curves": {
                    name: {
                        "roc": _thousandths(found["roc"]),
                        "pr": _thousandths(found["pr"]),
                        "ap": round(found["average_precision"], 3),
                        "auc": round(_auc_of(row, name), 3),
                    }
                    for name, found in row["curves"].items()
                    if found is not None
                },
                "share": row["share"],
            }
            for row in rows
            if any(row["curves"].values())
        ]
    text = json.dumps(data, separators=(",", ":"))
    for unsafe in "<>&'":
        text = text.replace(unsafe, f"\\u{ord(unsafe):04x}")
    return Markup(text)  # noqa: S704 - what could end the element is escaped above


def _auc_of(row: Mapping[str, Any], name: str) -> float:
    return float(row["auc" if name == SHIPPED else "mean_kernel_auc"]["value"])


def _thousandths(points: Any) -> list[int]:
    return [round(1000 * value) for point in points for value in point]


def _between(interval: Mapping[str, Any] | None, sign: str = "") -> str:
    if not interval or interval["low"] is None:
        return ""
    return _minus(f"[{interval['low']:{sign}.3f}, {interval['high']:{sign}.3f}]")


def _figure(value: Any, form: str) -> str:
    """A figure, or a dash for one that is not there."""
    if value is None or isinstance(value, jinja2.Undefined):
        return "\u2013"
    return _minus(format(value, form.removeprefix("+") if round(value, 3) == 0 else form))


def _minus(text: str) -> str:
    return re.sub(r"-(?=[\d.])", "\u2212", text).replace("\u22120.000", "0.000")
