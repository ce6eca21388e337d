"""`birdstack stack --table`: stack a bare table of out-of-fold scores."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from birdstack.stacking.console import Reporter, counted
from birdstack.stacking.options import DONE
from birdstack.stacking.stack_folder import save_stack
from birdstack.stacking.stack_table import StackTable
from birdstack.stacking.stacker import Stacker
from birdstack.stacking.table_input import TableNotes, read_table_with_notes
from birdstack.stacking.tuning import TuningSettings, tune
from birdstack.store.errors import UsageError

OOF, SCORES, SAVED = "oof.parquet", "scores.json", "stack"
_KEYS = ("recording_id", "window")


def run_stack_table(
    reporter: Reporter,
    table_path: Path,
    out: Path,
    *,
    n_folds: int = 5,
    parameters: Mapping[str, Any] | None = None,
    tuning: TuningSettings | None = None,
) -> int:
    """Stack a table; write scores, report and the stack.

    Args:
        reporter: who is told.
        table_path: a Parquet file, see `table_input`.
        out: folder to write into.
        n_folds: folds to deal where the table has none.
        parameters: of the `Stacker`.
        tuning: search settings first; None for the usual ones.

    Returns:
        The exit code.

    Raises:
        UsageError: the table or the folder cannot be used.
        DatasetError: the table does not fit.
        ConfigError: a parameter does not fit.
    """
    stacker = Stacker(**dict(parameters or {}))
    _ = stacker.settings  # faults of parameters come before an hour's work
    table, notes = read_table_with_notes(table_path, n_folds=n_folds)
    _check_folder(out)
    _tell(reporter, table_path, table, notes)
    tuned = None if tuning is None else _tuned(reporter, stacker, table, tuning)
    with reporter.progress("stacking") as advance:
        stacker.fit(table, advance=advance)
    out.mkdir(parents=True, exist_ok=True)
    report = {
        "table": {"path": str(table_path), "folds": notes.folds, **_noted(notes)},
        "tuning": tuned,
        **stacker.report_,
    }
    save_stack(stacker.shipped_, out / SAVED, made_from={"table": table_path.name})
    _write(out / OOF, lambda path: oof_frame(table, stacker.nested_).write_parquet(path))
    text = json.dumps(finite(report), indent=2, allow_nan=False) + "\n"
    _write(out / SCORES, lambda path: path.write_text(text, "utf-8"))
    show_report(reporter, report)
    reporter.say(f"written: {out / OOF}, {out / SCORES}, {out / SAVED}")
    reporter.event("finished", exit_code=DONE, out=str(out), **finite(report))
    return DONE


def oof_frame(table: StackTable, scores: np.ndarray) -> pl.DataFrame:
    """`recording_id`, `window`, one column of scores for each class."""
    return pl.DataFrame(
        {
            "recording_id": np.repeat(np.asarray(table.recording_ids, dtype=object), table.windows),
            "window": table.index,
            **{name: scores[:, number] for number, name in enumerate(table.classes)},
        },
        schema_overrides={"recording_id": pl.String, "window": pl.Int32},
    )


def show_report(reporter: Reporter, report: Mapping[str, Any]) -> None:
    """The table of all controls and the stack, what is shipped and why."""
    rows = [
        (
            row["title"],
            row["level"],
            f"{row['macro_auc']['value']:.4f}",
            _between(row["macro_auc"]),
            f"{row['over_mean_kernel']['value']:+.4f}",
            _between(row["over_mean_kernel"], sign="+"),
        )
        for row in report["rows"]
    ]
    reporter.table(
        "macro AUC of windows, 95 % intervals by recording",
        ["scores", "level", "macro AUC", "interval", "over mean + kernel", "interval"],
        rows,
    )
    shipped = report["shipped"]
    reporter.say(f"shipped: {shipped['title']}: {shipped['why']}")
    reporter.say(
        f"fold-nested macro AUC {shipped['nested']['value']:.4f} "
        f"{_between(shipped['nested'])}, optimism {shipped['optimism']:+.4f}"
    )
    fallbacks = report["fallbacks"]
    if fallbacks:
        rules: dict[str, int] = {}
        for fallback in fallbacks.values():
            rules[fallback["rule"]] = rules.get(fallback["rule"], 0) + 1
        named = ", ".join(f"{rule} {count}" for rule, count in sorted(rules.items()))
        reporter.say(
            f"in the stack {counted(len(fallbacks), 'class')} get the shared score: {named}"
        )
    if report["alarms"]:
        worst = min(report["alarms"], key=lambda alarm: alarm["stack_auc"] - alarm["mean_auc"])
        reporter.warn(
            f"collapse alarm: own layers of {counted(len(report['alarms']), 'class')} rank below "
            f"the mean of backbones, e.g. {worst['class']} ({worst['stack_auc']:.3f} against "
            f"{worst['mean_auc']:.3f})"
        )


def finite(value: Any) -> Any:
    """The same with null for numbers that JSON lacks."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _tell(reporter: Reporter, path: Path, table: StackTable, notes: TableNotes) -> None:
    positives = table.positives()
    reporter.say(
        f"{path}: {counted(table.n_windows, 'window')} of "
        f"{counted(len(table.recording_ids), 'recording')}, "
        f"{counted(len(table.classes), 'class')} ({int((positives > 0).sum())} with positives), "
        f"backbones {', '.join(table.backbones)}; folds: {notes.folds}"
    )
    if notes.probabilities:
        reporter.say(
            f"read as probabilities, and turned into logits: {', '.join(notes.probabilities)}"
        )
    for name, count in notes.lacking.items():
        if count:
            reporter.say(f"{name} has no score of {counted(count, 'class')}")
    reporter.event("table", windows=table.n_windows, classes=len(table.classes), **_noted(notes))


def _noted(notes: TableNotes) -> dict[str, Any]:
    return {"probabilities": list(notes.probabilities), "lacking": notes.lacking}


def _between(interval: Mapping[str, float], sign: str = "") -> str:
    return f"[{interval['low']:{sign}.4f}, {interval['high']:{sign}.4f}]"


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        message = f"--out {out}: a file lies there"
        raise UsageError(message, remedy="name a folder")


def _write(path: Path, write: Any) -> None:
    """Write a file aside and put it in place whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    write(aside)
    aside.replace(path)


def _tuned(
    reporter: Reporter, stacker: Stacker, table: StackTable, tuning: TuningSettings
) -> dict[str, Any]:
    """Search settings, give them to the stacker, and tell what was found."""
    with reporter.progress("tuning") as advance:
        found = tune(table, stacker.settings, tuning, advance)
    stacker.set_params(**found.settings.model_dump())
    reporter.say(f"tuning on {counted(len(found.classes), 'class')}: {found.why}")
    return {
        "why": found.why,
        "changed": found.changed,
        "usual": found.usual,
        "best": found.best,
        "trials": found.trials,
        "importance": dict(found.importance),
        "classes": list(found.classes),
    }
