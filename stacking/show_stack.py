"""What `birdstack stack` prints: every control and the stack, what is shipped and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from birdstack.stacking.console import Reporter, counted


def show_report(reporter: Reporter, report: Mapping[str, Any]) -> None:
    """A table for each domain, the estimates of what is shipped side by side, the reasons."""
    domains = {name: found for name, found in report["domains"].items() if found is not None}
    for found in domains.values():
        counts = f"{counted(found['windows'], 'window')}, "
        counts += counted(found["recordings"], "recording")
        reporter.table(
            f"{found['title']} ({counts}): macro AUC of windows, 95 % intervals by recording",
            ["scores", "level", "macro AUC", "interval", "over mean + kernel", "interval"],
            [_row(row) for row in found["rows"]],
        )
    shipped = report["shipped"]
    reporter.say(f"shipped: {shipped['title']}: {shipped['why']}")
    _side_by_side(reporter, shipped, domains)
    _prior(reporter, report.get("prior"))
    for line in fallback_lines(report):
        reporter.say(line)
    if report["alarms"]:
        worst = min(report["alarms"], key=lambda alarm: alarm["stack_auc"] - alarm["mean_auc"])
        reporter.warn(
            f"collapse alarm: own layers of {counted(len(report['alarms']), 'class')} rank below "
            f"the mean of backbones, e.g. {worst['class']} ({worst['stack_auc']:.3f} against "
            f"{worst['mean_auc']:.3f})"
        )


def _prior(reporter: Reporter, prior: Mapping[str, Any] | None) -> None:
    """What a range prior brings, at which weight, and why."""
    if prior is None:
        return
    if "difference" in prior:
        gain = f"{prior['difference']['value']:+.4f} {_between(prior['difference'], sign='+')}"
        counts = f"{counted(prior['windows'], 'window')}, "
        counts += counted(prior["recordings"], "recording")
        reporter.table(
            f"range prior, judged on {prior['judged_on']} ({counts}): macro AUC, fold-nested",
            ["scores", "macro AUC", "interval", "gain"],
            [
                ("shipped without prior", *_figure(prior["without"]), ""),
                ("shipped with prior", *_figure(prior["with"]), gain),
            ],
        )
    weights = ", ".join(f"{weight:g}" for weight in prior["by_fold"].values())
    reporter.say(f"{prior['why']}" + (f"; chosen without each fold: {weights}" if weights else ""))


def fallback_lines(report: Mapping[str, Any]) -> list[str]:
    """Which classes of the stack get the shared score, by rule."""
    fallbacks = report["fallbacks"]
    if not fallbacks:
        return []
    rules: dict[str, list[str]] = {}
    for name, fallback in fallbacks.items():
        rules.setdefault(fallback["rule"], []).append(name)
    told = "; ".join(f"{rule}: {_some(names)}" for rule, names in sorted(rules.items()))
    return [f"in the stack {counted(len(fallbacks), 'class')} get the shared score: {told}"]


def _some(names: list[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _side_by_side(
    reporter: Reporter, shipped: Mapping[str, Any], domains: Mapping[str, Any]
) -> None:
    rows = [
        ("choices made on the same rows", *_figure(shipped["out_of_fold"]), ""),
        (
            "fold-nested: choices made on the other folds",
            *_figure(shipped["nested"]),
            f"optimism {shipped['optimism']:+.4f}",
        ),
    ]
    for found in domains.values() if len(domains) > 1 else ():
        value = found["shipped"]["macro_auc"]
        away = f"{value['value'] - shipped['nested']['value']:+.4f} against fold-nested"
        rows.append((found["title"], *_figure(value), away))
    reporter.table(
        f"estimates of what is shipped ({shipped['title']})",
        ["estimate", "macro AUC", "interval", ""],
        rows,
    )


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    auc, gain = row["macro_auc"], row["over_mean_kernel"]
    return (
        row["title"],
        row["level"],
        f"{auc['value']:.4f}",
        _between(auc),
        f"{gain['value']:+.4f}",
        _between(gain, sign="+"),
    )


def _figure(interval: Mapping[str, float]) -> tuple[str, str]:
    return f"{interval['value']:.4f}", _between(interval)


def _between(interval: Mapping[str, float], sign: str = "") -> str:
    return f"[{interval['low']:{sign}.4f}, {interval['high']:{sign}.4f}]"
