"""One pooled study: it resumes, two processes share it, and it keeps to its rows."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.rich_stack import QUICK, rich

from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.tuning import Range, TuningSettings, tune
from birdstack.store.errors import ConflictError, UsageError

SETTINGS = StackSettings(**QUICK)  # type: ignore[arg-type]


def test_a_study_resumes_where_it_stopped(tmp_path: Path) -> None:
    """Trials of an earlier run count; the usual settings are the first."""
    table, storage = rich(60), str(tmp_path / "study" / "journal.log")
    first = tune(table, SETTINGS, TuningSettings(trials=2, storage=storage))
    assert first.trials == 2
    told: list[int] = []
    second = tune(
        table,
        SETTINGS,
        TuningSettings(trials=3, storage=storage),
        lambda done, _total, _words: told.append(done),
    )
    assert second.trials == 3
    assert told == [3]
    assert second.usual == first.usual
    again = tune(table, SETTINGS, TuningSettings(trials=3, storage=storage))
    assert again.trials == 3
    assert again.best == second.best


def test_a_study_of_other_rows_is_refused(tmp_path: Path) -> None:
    """Also where only a label differs: a study tuned on test rows cannot be taken along."""
    table, storage = rich(60), str(tmp_path / "journal.log")
    tuning = TuningSettings(trials=1, storage=storage)
    tune(table, SETTINGS, tuning)
    truth = table.truth.copy()
    truth[3, 0] = 1 - truth[3, 0]
    with pytest.raises(ConflictError, match="other rows"):
        tune(replace(table, truth=truth), SETTINGS, tuning)


def test_rows_without_a_fold_are_never_looked_at() -> None:
    """Their labels may say what they will: no trial changes."""
    table = rich(60)
    fold = table.fold.copy()
    fold[:10] = -1
    hidden = replace(table, fold=fold)
    rows = hidden.window_fold < 0
    turned = np.where(rows[:, None], 1 - table.truth, table.truth).astype(np.int8)
    values = [
        tune(t, SETTINGS, TuningSettings(trials=2)).best
        for t in (hidden, replace(hidden, truth=turned))
    ]
    assert values[0] == values[1]


def test_the_usual_settings_stay_unless_clearly_beaten() -> None:
    """With one trial there is nothing else; the reason is told."""
    tuned = tune(rich(60), SETTINGS, TuningSettings(trials=1))
    assert not tuned.changed
    assert tuned.settings == SETTINGS
    assert "left as they are" in tuned.why


def test_two_processes_share_a_study(tmp_path: Path) -> None:
    """Both add trials to one journal, and the budget is for both."""
    storage = tmp_path / "journal.log"
    code = (
        "from support.rich_stack import QUICK, rich\n"
        "from birdstack.stacking.stack_settings import StackSettings\n"
        "from birdstack.stacking.tuning import TuningSettings, tune\n"
        f"t = tune(rich(40), StackSettings(**QUICK), TuningSettings(trials=4, storage={str(storage)!r}))\n"
        "assert t.trials >= 4, t\n"
    )
    tests = str(Path(__file__).resolve().parent.parent)
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {tests!r})\n{code}"],
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for run in runs:
        _, err = run.communicate(timeout=120)
        assert run.returncode == 0, err.decode()
    assert 4 <= tune(rich(40), SETTINGS, TuningSettings(trials=4, storage=str(storage))).trials <= 6


def test_what_cannot_be_tuned() -> None:
    """Too few positives everywhere; bounds that are none."""
    with pytest.raises(UsageError, match="no class has"):
        tune(
            rich(60),
            SETTINGS.model_copy(update={"min_positives": 10_000}),
            TuningSettings(trials=1),
        )
    with pytest.raises(ValueError, match="must be below"):
        Range(low=3, high=2)
