"""The figures of a report as JSON and as one tidy CSV, beside the page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

COLUMNS = ("section", "domain", "item", "figure", "value", "low", "high", "n")
_EMBEDDED = ("picture", "audio")

Report = Mapping[str, Any]
Row = tuple[str, str, str, str, Any, Any]
"""Section, domain, item, figure, its value (alone, or with an interval), and how many."""


def report_json(report: Report) -> str:
    """The report without pictures and sound, which only the page holds."""
    kept = {**report, "errors": dict(report["errors"])}
    windows = kept["errors"].get("windows")
    if windows is not None:
        kept["errors"]["windows"] = [_without_media(window) for window in windows]
    return json.dumps(kept, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def report_csv(report: Report) -> str:
    """One row a figure: where it belongs, what it is, its value, interval and count."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for part in (
        *(_headline, _controls, _classes, _gain, _calibration, _drift, _importance),
        *(_tuning, _places, _errors, _against),
    ):
        for *where, found, count in part(report):
            if isinstance(found, Mapping):
                writer.writerow([*where, found["value"], found["low"], found["high"], count])
            else:
                writer.writerow([*where, found, None, None, count])
    return buffer.getvalue()


def _headline(report: Report) -> Iterator[Row]:
    for domain in report["headline"]["domains"]:
        for row in domain["rows"]:
            for figure in ("macro_auc", "shipped_less_this"):
                name, count = row["name"], row["classes"]
                yield ("headline", domain["domain"], name, figure, row[figure], count)
    for name, fallback in report["headline"]["fallbacks"]["classes"].items():
        yield ("headline", "", name, f"fallback: {fallback['rule']}", None, None)


def _controls(report: Report) -> Iterator[Row]:
    for row in report["controls"]:
        for figure in ("macro_auc", "over_mean_kernel"):
            yield ("controls", row["domain"], row["title"], figure, row[figure], None)


def _classes(report: Report) -> Iterator[Row]:
    for domain, rows in report["classes"].items():
        for row in rows:
            best, count = row["best_backbone"], row["positives"]
            figures = {name: row[name] for name in ("auc", "mean_kernel_auc", "gain")}
            if best is not None:
                figures[f"auc of {best['name']}"] = best["auc"]
            for which, found in row["curves"].items():
                if found is not None:
                    figures[f"average_precision of {which}"] = found["average_precision"]
            figures |= {"ks": row.get("ks"), "recordings": row["recordings"]}
            for figure, value in figures.items():
                yield ("classes", domain, row["class"], figure, value, count)


def _gain(report: Report) -> Iterator[Row]:
    for domain, found in report["gain"].items():
        rows = [(row["bucket"], row) for row in found["by_positives"]]
        rows += [(row["group"], row) for row in found["by_activity"].get("rows", [])]
        for name, row in rows:
            for figure in ("gain", "auc"):
                yield ("gain", domain, name, figure, row[figure], row["classes"])


def _calibration(report: Report) -> Iterator[Row]:
    found = report["calibration"]
    domain = found.get("domain", "")
    for row in found.get("rows", []):
        name, count = f"{row['from']:g} to {row['to']:g}", row["windows"]
        observed = {"value": row["observed"], "low": row["low"], "high": row["high"]}
        yield ("calibration", domain, name, "promised", row["promised"], count)
        yield ("calibration", domain, name, "observed", observed, count)
    for figure in ("expected_calibration_error", "brier", "brier_of_prevalence", "brier_skill"):
        if figure in found:
            yield ("calibration", domain, "", figure, found[figure], None)


def _drift(report: Report) -> Iterator[Row]:
    found, drift = report["distributions"], report["drift"]
    if "why" not in found:
        pair = f"{found['reference']['name']} to {found['target']['name']}"
        for figure in ("median_ks", "median_ks_by_chance"):
            yield ("drift", pair, "", figure, found[figure], None)
        auc = drift["classifier"]["auc"]
        yield ("drift", pair, "", "auc of the domain classifier", auc, None)
        for row in drift["columns"]:
            yield ("drift", pair, row["column"], "ks", row["ks"], None)


def _importance(report: Report) -> Iterator[Row]:
    found = report["importance"]
    gain, shap = found.get("gain", {}), found.get("shap", {})
    parts = {
        "gain, own boosters": gain.get("classes", []),
        "gain, shared booster": gain.get("shared", []),
        "mean |SHAP|": shap.get("columns", []),
    }
    for figure, rows in parts.items():
        for row in rows:
            yield ("importance", "", row["column"], figure, row["share"], None)


def _tuning(report: Report) -> Iterator[Row]:
    for trial in report["tuning"].get("trials", []):
        yield ("tuning", "", f"trial {trial['number']}", "macro_auc", trial["value"], None)
    for row in report["tuning"].get("importance", []):
        yield ("tuning", "", row["setting"], "importance", row["share"], None)


def _places(report: Report) -> Iterator[Row]:
    found, clock = report["map"], report["hours"]
    for cell in found.get("cells", []):
        name = f"{cell['latitude']:.4f}, {cell['longitude']:.4f}"
        yield ("map", found["domain"], name, "gain", cell["gain"], cell["recordings"])
    for cell in clock.get("cells", []):
        share, name = cell["present"] / cell["windows"], f"{cell['class']} at {cell['hour']}"
        yield ("hours", clock["domain"], name, "share", share, cell["windows"])


def _errors(report: Report) -> Iterator[Row]:
    for error in report["errors"].get("windows", []):
        name = f"{error['class']}: {error['recording_id']}, window {error['window']}"
        yield ("errors", report["errors"]["domain"], name, error["kind"], error["cost"], None)


def _against(report: Report) -> Iterator[Row]:
    for domain in report.get("against", {}).get("domains", []):
        for figure in ("ours", "theirs", "difference"):
            yield ("against", domain["domain"], "", figure, domain[figure], domain["classes"])
        for row in domain["by_class"]:
            difference = row["difference"]
            yield ("against", domain["domain"], row["class"], "difference", difference, None)


def _without_media(error: Report) -> dict[str, Any]:
    media = {
        name: f"{len(value)} characters, in the page" if name in _EMBEDDED else value
        for name, value in error["media"].items()
    }
    return {**error, "media": media}
