"""`birdstack report`: the offline report of a stack run, as HTML, JSON and CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from birdstack.stacking.console import Reporter, human_bytes
from birdstack.stacking.options import DONE, FAILED
from birdstack.stacking.report import ReportConfig, make_report
from birdstack.stacking.report_files import report_csv, report_json
from birdstack.stacking.report_run import SHIPPED, read_run
from birdstack.stacking.run_folder import write_whole
from birdstack.store.errors import ConfigError, UsageError

NAME = "report.html"


def run_report(
    reporter: Reporter,
    folder: Path,
    *,
    out: Path | None = None,
    against: Path | None = None,
    fail_under: float | None = None,
    config: ReportConfig | None = None,
) -> int:
    """Write a report of a run. Returns the exit code: 1 where it ends below `fail_under`.

    Args:
        reporter: who is told.
        folder: what `birdstack stack` has written.
        out: the page; `report.html` in the run's folder, if not given. JSON and CSV go
            beside it, under the same name.
        against: another run's folder to compare with.
        fail_under: least macro AUC of what is shipped, on the first domain of the report.
        config: what goes into the report.

    Raises:
        ConfigError: the extra `report` is not installed.
        UsageError: there is no run, the page cannot lie there, or nothing can be judged
            though a least macro AUC was given.
        CorruptError: a file of a run is damaged.
    """
    try:
        from birdstack.stacking.report_page import render_page  # noqa: PLC0415 - the extra `report`
    except ModuleNotFoundError as error:
        message = f"birdstack report needs the extra `report` (no module {error.name!r})"
        raise ConfigError(message, remedy="pip install 'birdstack[report]'") from error
    page = _page(folder, out)
    if fail_under is not None and not (math.isfinite(fail_under) and 0 <= fail_under <= 1):
        message = f"--fail-under {fail_under:g}: a macro AUC lies between 0 and 1"
        raise UsageError(message, remedy="write for example --fail-under 0.9")
    run = read_run(folder)
    other = None if against is None else read_run(against)
    with reporter.progress("report") as advance:
        report = make_report(run, config, other=other, advance=advance)
        texts = {
            page: render_page(report),
            page.with_suffix(".json"): report_json(report),
            page.with_suffix(".csv"): report_csv(report),
        }
    for path, text in texts.items():
        write_whole(path, partial(_fill, text))
    _show(reporter, report)
    sizes = ", ".join(f"{p} ({human_bytes(len(t.encode()))})" for p, t in texts.items())
    reporter.say(f"written: {sizes}")
    code = _judge(reporter, report, fail_under)
    reporter.event(
        "finished",
        exit_code=code,
        out=str(page),
        headline=report["headline"]["domains"],
        against=report.get("against"),
    )
    return code


def _page(folder: Path, out: Path | None) -> Path:
    """Where the page goes; wrong places are refused before any work."""
    page = folder / NAME if out is None else out
    if page.suffix.lower() not in {".html", ".htm"}:
        message = f"--out {page}: the report is an HTML file"
        raise UsageError(message, remedy=f"write --out {page}.html")
    if out is not None and not page.parent.is_dir():
        message = f"--out {page}: there is no folder {page.parent}"
        raise UsageError(message, remedy="make the folder first, or give another --out")
    return page


def _show(reporter: Reporter, report: Mapping[str, Any]) -> None:
    """The headline, and the comparison if one was asked for."""
    for domain in report["headline"]["domains"]:
        rows = [
            (
                row["title"],
                _value(row["macro_auc"]),
                _between(row["macro_auc"]),
                _value(row["shipped_less_this"], "+"),
                _between(row["shipped_less_this"], "+"),
            )
            for row in domain["rows"]
        ]
        reporter.table(
            f"{domain['title']}: macro AUC, 95 % intervals by recording",
            ["scores", "macro AUC", "interval", "shipped less this", "interval"],
            rows,
        )
    if "why" in report["headline"]:
        reporter.warn(report["headline"]["why"])
    for domain in report.get("against", {}).get("domains", []):
        reporter.say(
            f"{domain['title']}: this run less {report['against']['other']} "
            f"{_value(domain['difference'], '+')} {_between(domain['difference'], '+')} on "
            f"{domain['windows']:,} windows"
        )


def _judge(reporter: Reporter, report: Mapping[str, Any], fail_under: float | None) -> int:
    if fail_under is None:
        return DONE
    domains = report["headline"]["domains"]
    found = next(
        (row["macro_auc"] for d in domains[:1] for row in d["rows"] if row["name"] == SHIPPED), None
    )
    if found is None:
        message = "--fail-under: no domain of the run has a macro AUC to hold against it"
        raise UsageError(message, remedy="leave --fail-under away, or stack with a truth")
    value, where = found["value"], domains[0]["title"]
    if value < fail_under:
        reporter.warn(f"macro AUC {value:.4f} on {where} is below --fail-under {fail_under:g}")
        return FAILED
    reporter.say(f"macro AUC {value:.4f} on {where}: not below {fail_under:g}")
    return DONE


def _value(interval: Mapping[str, Any] | None, sign: str = "") -> str:
    return "" if interval is None else f"{interval['value']:{sign}.4f}"


def _between(interval: Mapping[str, Any] | None, sign: str = "") -> str:
    if interval is None or interval["low"] is None:
        return ""
    return f"[{interval['low']:{sign}.4f}, {interval['high']:{sign}.4f}]"


def _fill(text: str, path: Path) -> None:
    path.write_text(text, "utf-8")
