"""Every figure of a report, from a run folder: one JSON-able dictionary.

What is shown on the page stands here, and nothing is computed while drawing. A section that
cannot be had is a dictionary with `why`, one line that says so.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from birdstack.stacking.report_against import against
from birdstack.stacking.report_calibration import calibration
from birdstack.stacking.report_curves import curves
from birdstack.stacking.report_drift import distributions, drift, pair_to_compare
from birdstack.stacking.report_errors import add_media, worst_errors
from birdstack.stacking.report_importance import importance
from birdstack.stacking.report_places import gain_by_activity, hours, places
from birdstack.stacking.report_run import CONTROL, SHIPPED, Run
from birdstack.stacking.report_scores import (
    Ranked,
    by_class,
    gain_by_bucket,
    headline,
    rank_domain,
)
from birdstack.stacking.report_tuning import tuning
from birdstack.stacking.run_folder import finite

FORMAT = 1
NO_TRUTH = "no domain of this run has both a truth and scores of what is shipped"
Advance = Callable[[int, int, str], None]


class ReportConfig(BaseModel):
    """What goes into a report.

    Attributes:
        resamples: of the bootstrap by recording; fewer are drawn on large domains.
        clips: number of worst errors shown.
        audio: whether their sound goes along.
        seed: of every draw.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    resamples: int = Field(default=1000, ge=50, le=100_000)
    clips: int = Field(default=8, ge=0, le=60)
    audio: bool = True
    seed: int = Field(default=0, ge=0)


def make_report(
    run: Run,
    config: ReportConfig | None = None,
    *,
    other: Run | None = None,
    advance: Advance = lambda *_: None,
) -> dict[str, Any]:
    """All figures.

    Args:
        run: what is reported on.
        config: what goes into the report.
        other: a run to hold it against.
        advance: told how many steps are done, how many there are, and a few words.

    Raises:
        UsageError: the other run has nothing in common with this one.
        CorruptError: a file of a run is damaged.
    """
    config = config or ReportConfig()
    steps = _Steps(advance, len(run.judged) + 8)
    ranked = []
    for domain in run.judged:
        steps.begin(f"ranking {domain.title}")
        one = rank_domain(domain, resamples=config.resamples, seed=config.seed)
        if one is not None:
            ranked.append(one)
    first = ranked[0] if ranked else None
    found: dict[str, Any] = {
        "format": FORMAT,
        "run": _about(run),
        "headline": {
            "domains": [headline(one, run.shipped_title) for one in ranked],
            "domains_without_truth": [
                {"name": domain.name, "title": domain.title, "windows": len(domain.rows)}
                for domain in run.domains.values()
                if domain.truth is None
            ],
            "shipped": _shipped(run),
            "fallbacks": _fallbacks(run),
            **({} if ranked else {"why": NO_TRUTH}),
        },
    }
    found["controls"] = _controls(run)
    found["classes"] = {one.domain.name: _classes(one, run) for one in ranked}
    found["gain"] = {
        one.domain.name: {"by_positives": gain_by_bucket(one), "by_activity": gain_by_activity(one)}
        for one in ranked
    }
    steps.begin("calibration")
    found["calibration"] = {"why": NO_TRUTH}
    if first is not None:
        with_folds = next((one for one in ranked if (one.domain.fold >= 0).any()), first)
        found["calibration"] = calibration(with_folds, seed=config.seed)
        found["calibration"]["domain"] = with_folds.domain.title
    steps.begin("drift")
    pair = pair_to_compare(run)
    if isinstance(pair, str):
        found["distributions"], found["drift"] = {"why": pair}, {"why": pair}
    else:
        found["distributions"] = distributions(*pair, seed=config.seed)
        found["drift"] = drift(run, *pair, seed=config.seed)
        _add_ks(found)
    steps.begin("importance")
    found["importance"] = importance(run, seed=config.seed)
    steps.begin("tuning")
    found["tuning"] = tuning(run)
    steps.begin("places and times")
    found["map"] = _first_with(
        [
            *(places(one.domain, one) for one in ranked),
            *(places(d, None) for d in run.domains.values() if d.truth is None),
        ]
    )
    found["hours"] = _first_with([hours(one.domain) for one in ranked])
    steps.begin("worst errors")
    found["errors"] = {"why": NO_TRUTH if first is None else "--clips 0: none was asked for"}
    if first is not None and config.clips:
        chosen = worst_errors(first, config.clips)
        add_media(run, chosen, audio=config.audio, advance=lambda: None)
        found["errors"] = {
            "domain": first.domain.title,
            "audio_wanted": config.audio,
            "windows": chosen,
        }
    steps.begin("the other run")
    if other is not None:
        found["against"] = against(run, other, resamples=config.resamples, seed=config.seed)
    steps.begin("done")
    whole: dict[str, Any] = finite(found)
    return whole


class _Steps:
    """Counts steps for somebody who watches."""

    def __init__(self, advance: Advance, total: int) -> None:
        self._advance, self._total, self._done = advance, total, 0

    def begin(self, words: str) -> None:
        """Tell what comes now."""
        self._advance(min(self._done, self._total), self._total, words)
        self._done += 1


def _about(run: Run) -> dict[str, Any]:
    return {
        "folder": run.folder.name,
        "kind": run.facts.get("kind"),
        "store": run.facts.get("store"),
        "snapshot": run.facts.get("snapshot"),
        "pin": run.facts.get("pin"),
        "window_s": run.window_s,
        "classes": len(run.classes),
        "backbones": list(run.facts.get("backbones") or []),
        "made": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "birdstack": _version(),
        "domains": [
            {
                "name": domain.name,
                "title": domain.title,
                "level": domain.level,
                "windows": len(domain.rows),
                "recordings": domain.rows["recording_id"].n_unique(),
                "truth": domain.truth is not None,
            }
            for domain in run.domains.values()
        ],
    }


def _shipped(run: Run) -> dict[str, Any]:
    told = run.printed.get("shipped")
    told = told if isinstance(told, Mapping) else {}
    return {
        "what": str(run.facts.get("shipped") or told.get("what") or ""),
        "title": run.shipped_title,
        "why": str(told.get("why") or ""),
        "optimism": told.get("optimism"),
    }


def _controls(run: Run) -> list[dict[str, Any]]:
    """Rows of every control as the stack run has printed them, with their domain."""
    told = run.printed.get("domains")
    parts = dict(told) if isinstance(told, Mapping) else {"": run.printed}
    return [
        {"domain": row.get("domain") or name, **row}
        for name, part in parts.items()
        if isinstance(part, Mapping)
        for row in part.get("rows") or []
        if isinstance(row, Mapping) and {"title", "macro_auc", "over_mean_kernel"} <= set(row)
    ]


def _fallbacks(run: Run) -> dict[str, Any]:
    """Classes that get the shared score, and why; only where a stack is shipped."""
    told = run.printed.get("fallbacks")
    told = told if isinstance(told, Mapping) else {}
    rules: dict[str, int] = {}
    for fallback in told.values():
        rule = str(fallback.get("rule", "not told"))
        rules[rule] = rules.get(rule, 0) + 1
    return {"in_force": run.facts.get("shipped") == "stack", "rules": rules, "classes": dict(told)}


def _classes(ranked: Ranked, run: Run) -> list[dict[str, Any]]:
    fallbacks = _fallbacks(run)
    rows = by_class(ranked, fallbacks["classes"] if fallbacks["in_force"] else {})
    names = [n for n in (SHIPPED, CONTROL) if n in ranked.domain.score_names]
    scores = {name: ranked.domain.scores(name) for name in names}
    for number, row in enumerate(rows):
        row["curves"] = {
            name: curves(values[:, number], ranked.truth[:, number])
            for name, values in scores.items()
        }
    return rows


def _add_ks(found: dict[str, Any]) -> None:
    """The KS distance of each class, beside its other figures."""
    ks = {row["class"]: row["ks"] for row in found["distributions"]["by_class"]}
    for rows in found["classes"].values():
        for row in rows:
            row["ks"] = ks.get(row["class"])


def _first_with(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The first that holds something; else the first reason why not."""
    whole = [one for one in found if "why" not in one]
    return (whole or found or [{"why": NO_TRUTH}])[0]


def _version() -> str:
    try:
        return metadata.version("birdstack")
    except metadata.PackageNotFoundError:
        return ""
