"""`birdstack evaluate`: score any submission-like table against a truth."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from birdstack.stacking.bootstrap import Interval
from birdstack.stacking.console import Reporter, counted
from birdstack.stacking.evaluate import ClassFigures, Evaluation, evaluate
from birdstack.stacking.evaluate_input import read_evaluation
from birdstack.stacking.options import DONE, FAILED
from birdstack.stacking.row_files import few
from birdstack.store.errors import DatasetError, UsageError

_SUFFIXES = (".json", ".csv")
_FEW = 10  # recordings
_SHOWN = 6  # best and worst classes, each


@dataclass(frozen=True)
class EvaluationWish:
    """What is asked for besides the figures.

    Attributes:
        against: other predictions to compare with.
        out: file for all figures (.json) or those of the classes (.csv).
        fail_under: macro AUC below which the verb fails.
        common_classes: score the classes that all tables have.
        present_above: a label above it is present.
        rows_alone: take rows as independent.
        resamples: for intervals; 0 for none.
        seed: of the draw.
    """

    against: Path | None = None
    out: Path | None = None
    fail_under: float | None = None
    common_classes: bool = False
    present_above: float = 0.0
    rows_alone: bool = False
    resamples: int = 1000
    seed: int = 0


def run_evaluate(reporter: Reporter, predictions: Path, truth: Path, wish: EvaluationWish) -> int:
    """Score predictions, tell and write the figures.

    Args:
        reporter: who is told.
        predictions: submission-like table.
        truth: labels of windows.
        wish: what is asked for besides.

    Returns:
        The exit code: 1 if the macro AUC lies below what was asked for.

    Raises:
        UsageError: a file is not there, or does not fit.
    """
    _check_out(wish.out)
    try:
        given = read_evaluation(
            predictions,
            truth,
            against=wish.against,
            common_classes=wish.common_classes,
            present_above=wish.present_above,
            rows_alone=wish.rows_alone,
        )
    except DatasetError as error:  # exit code 1 is kept for a figure that is too low
        raise UsageError(error.message, remedy=error.remedy) from error
    found = evaluate(
        given.scores,
        given.labels,
        given.recording,
        given.classes,
        other=given.other,
        resamples=wish.resamples,
        seed=wish.seed,
    )
    for note in given.notes:
        reporter.warn(note)
    if wish.resamples and not wish.rows_alone and found.recordings < _FEW:
        what = "an interval" if found.recordings < 2 else "intervals to be relied on"  # noqa: PLR2004 - a spread needs two
        reporter.warn(f"{counted(found.recordings, 'recording')}: too few for {what}")
    figures = _finite(
        {
            "predictions": str(predictions),
            "truth": str(truth),
            "against": None if wish.against is None else str(wish.against),
            "group_by": "none" if wish.rows_alone else "recording",
            "seed": wish.seed,
            **found.as_dict(),
        }
    )
    _show(reporter, found, predictions, truth, wish)
    if wish.out is not None:
        _write(wish.out, found, figures)
        reporter.say(f"written: {wish.out}")
    low = wish.fail_under is not None and not found.macro_auc.value >= wish.fail_under
    if low:
        reporter.warn(
            f"macro AUC {found.macro_auc.value:.6f} is below --fail-under {wish.fail_under:g}"
        )
    code = FAILED if low else DONE
    reporter.event("finished", exit_code=code, **figures)
    return code


def class_table(found: Evaluation) -> pl.DataFrame:
    """One row for each class: counts, AUC with its interval, average precision, differences."""
    rows = []
    for each in found.by_class:
        row: dict[str, Any] = {
            "class": each.name,
            "positives": each.positives,
            "negatives": each.negatives,
            "recordings": each.recordings,
            "auc": each.auc.value,
            "low": each.auc.low,
            "high": each.auc.high,
            "resamples": each.auc.resamples,
            "average_precision": each.average_precision,
            "skipped": each.skipped or None,
        }
        if each.difference is not None:
            row["difference"] = each.difference.value
            row["difference_low"] = each.difference.low
            row["difference_high"] = each.difference.high
        rows.append(row)
    return pl.DataFrame(rows, schema_overrides={"skipped": pl.String}).fill_nan(None)


def _check_out(out: Path | None) -> None:
    if out is None:
        return
    if out.suffix.lower() not in _SUFFIXES:
        message = f"--out {out}: the name must end in {' or '.join(_SUFFIXES)}"
        raise UsageError(message, remedy="name the file for example figures.json")
    if out.is_dir() or not out.parent.is_dir():
        what = "is a folder" if out.is_dir() else f"there is no folder {out.parent}"
        message = f"--out {out}: {what}"
        raise UsageError(message, remedy="name a file in a folder that exists")


def _write(out: Path, found: Evaluation, figures: Mapping[str, Any]) -> None:
    try:
        if out.suffix.lower() == ".csv":
            class_table(found).write_csv(out)
        else:
            out.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", "utf-8")
    except OSError as error:
        message = f"--out {out}: {error.strerror or error}"
        raise UsageError(message, remedy="name a file that can be written") from error


def _show(
    reporter: Reporter, found: Evaluation, predictions: Path, truth: Path, wish: EvaluationWish
) -> None:
    unit = "row" if wish.rows_alone else "recording"
    classes = found.counted
    reporter.say(
        f"{predictions} against {truth}: {counted(found.rows, 'row')}"
        + ("" if wish.rows_alone else f" of {counted(found.recordings, 'recording')}")
    )
    reporter.say(
        f"macro AUC {found.macro_auc.value:.4f}{_between(found.macro_auc)}"
        f"{_how_sure(found.macro_auc, unit)}"
    )
    reporter.say(f"macro average precision {found.macro_average_precision:.4f}")
    if found.difference is not None and found.other is not None:
        reporter.say(
            f"{wish.against}: macro AUC {found.other.value:.4f}{_between(found.other)}; "
            f"difference {found.difference.value:+.4f}{_between(found.difference, '+')}"
            f"{_verdict(found.difference)}"
        )
    skipped = "".join(
        f"; {counted(len(names), 'class')} skipped ({why}): {few(names)}"
        for why, names in found.skipped.items()
    )
    reporter.say(f"{counted(len(classes), 'class')} counted{skipped}")
    if len(classes) <= 2 * _SHOWN:
        _show_classes(reporter, "classes, worst first", classes)
    else:
        _show_classes(reporter, "worst classes", classes[:_SHOWN])
        _show_classes(reporter, "best classes", classes[-_SHOWN:])


def _show_classes(reporter: Reporter, title: str, classes: Sequence[ClassFigures]) -> None:
    compared = any(each.difference is not None for each in classes)
    head = ["class", "positives", "recordings", "AUC", "interval", "average precision"]
    rows = []
    for each in classes:
        row = [
            each.name,
            each.positives,
            each.recordings,
            f"{each.auc.value:.4f}",
            _between(each.auc).strip(),
            f"{each.average_precision:.4f}",
        ]
        if each.difference is not None:
            row += [f"{each.difference.value:+.4f}", _between(each.difference, "+").strip()]
        rows.append(row)
    reporter.table(title, head + (["difference", "interval"] if compared else []), rows)


def _between(interval: Interval, sign: str = "") -> str:
    if not math.isfinite(interval.low):
        return ""
    return f" [{interval.low:{sign}.4f}, {interval.high:{sign}.4f}]"


def _how_sure(interval: Interval, unit: str) -> str:
    if not interval.resamples:
        return ""
    return f" (95 % interval, {counted(interval.resamples, 'resample')} of {unit}s)"


def _verdict(difference: Interval) -> str:
    if not math.isfinite(difference.low):
        return ""
    if difference.low > 0:
        return ": better, for certain"
    return ": worse, for certain" if difference.high < 0 else ": not certain"


def _finite(value: Any) -> Any:
    """The same with null for numbers that JSON lacks."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
