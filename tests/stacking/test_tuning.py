"""One pooled study: it resumes, two processes share it, and it keeps to its rows."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from support.layers import fitted
from support.rich_stack import QUICK, rich

from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.tuning import Range, TuningSettings, tune, usual_params
from birdstack.stacking.tuning_per_class import between
from birdstack.stacking.tuning_study import Outcome, Params, SharedStudy, open_storage
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
    assert told == [2, 3]
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


TESTS = str(Path(__file__).resolve().parent.parent)


def start_tuning(storage: str, trials: int, stall_after: int = -1) -> subprocess.Popen[bytes]:
    """A search in a process of its own, which prints what it found, or stalls in a trial."""
    code = (
        f"import sys; sys.path.insert(0, {TESTS!r})\n"
        "from support.rich_stack import QUICK, rich\n"
        "from birdstack.stacking.stack_settings import StackSettings\n"
        "import time\n"
        "from birdstack.stacking.tuning import TuningSettings, tune\n"
        "from birdstack.stacking.tuning_trials import Tryout\n"
        "mean, calls = Tryout.mean, []\n"
        "def stalling(*given):\n"
        "    calls.append(given)\n"
        f"    time.sleep(600 * (len(calls) == {stall_after} + 1))\n"
        "    return mean(*given)\n"
        "Tryout.mean = stalling\n"
        "found = tune(rich(40), StackSettings(**QUICK),\n"
        f"    TuningSettings(trials={trials}, storage={storage!r}))\n"
        "print(found.trials, found.best, found.settings)\n"
    )
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def trials_of(storage: str) -> list[optuna.trial.FrozenTrial]:
    """All trials of the study, whatever became of them."""
    names = optuna.get_all_study_names(open_storage(storage))
    if not names:
        return []
    return optuna.load_study(study_name=names[0], storage=open_storage(storage)).trials


State = optuna.trial.TrialState
COMPLETE, FAIL, RUNNING = State.COMPLETE, State.FAIL, State.RUNNING


@pytest.mark.slow
@pytest.mark.parametrize("place", ["journal.log", "study.db"])
def test_two_processes_share_a_study(tmp_path: Path, place: str) -> None:
    """Both add trials, as many as were asked for in all, no two alike, and find the same."""
    storage = str(tmp_path / place)
    if place.endswith(".db"):
        storage = f"sqlite:///{storage}"
    runs = [start_tuning(storage, 9) for _ in range(2)]
    said = []
    for run in runs:
        out, err = run.communicate(timeout=120)
        assert run.returncode == 0, err.decode()
        said.append(out.decode())
    assert said[0] == said[1]
    assert said[0].startswith("9 ")
    trials = trials_of(storage)
    done = [trial for trial in trials if trial.state == COMPLETE]
    assert len(done) == 9
    assert len({tuple(sorted(trial.params.items())) for trial in done}) == 9
    assert all(trial.state in {COMPLETE, FAIL} for trial in trials)
    owners = {trial.user_attrs["owner"] for trial in done}
    assert len(owners) == 2


def test_a_line_half_written_is_cut_off(tmp_path: Path) -> None:
    """A power cut can leave one; the study goes on with all that was whole."""
    path = tmp_path / "journal.log"
    table = rich(40)
    tune(table, SETTINGS, TuningSettings(trials=2, storage=str(path)))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":6,"work')
    assert tune(table, SETTINGS, TuningSettings(trials=2, storage=str(path))).trials == 2
    assert path.read_bytes().startswith(whole + b'{"op_code":')
    assert path.read_bytes().endswith(b"\n")
    path.write_bytes(whole + b'{"op_code":6,"work')
    assert tune(table, SETTINGS, TuningSettings(trials=3, storage=str(path))).trials == 3


@pytest.mark.slow
def test_a_killed_search_goes_on(tmp_path: Path) -> None:
    """What it had finished counts; the trial it died in neither counts nor blocks."""
    storage = str(tmp_path / "journal.log")
    run = start_tuning(storage, 5, stall_after=3)
    while not Path(storage).is_file() or len(trials_of(storage)) < 4:
        assert run.poll() is None
        time.sleep(0.05)
    run.kill()
    run.communicate()
    before = trials_of(storage)
    assert [trial.state for trial in before] == [COMPLETE, COMPLETE, COMPLETE, RUNNING]
    found = tune(rich(40), SETTINGS, TuningSettings(trials=5, storage=storage))
    assert found.trials == 5
    assert [row["value"] for row in found.history][:3] == [trial.value for trial in before[:3]]
    assert [row["trial"] for row in found.history] == [0, 1, 2, 4, 5]
    assert trials_of(storage)[3].state == FAIL


def test_a_search_killed_in_its_first_trial_still_tries_the_usual_settings(
    tmp_path: Path,
) -> None:
    """They are what the best is held against."""
    storage = str(tmp_path / "journal.log")
    study = optuna.create_study(
        study_name="birdstack-stack", storage=open_storage(storage), direction="maximize"
    )
    study.enqueue_trial(usual_params(SETTINGS))
    trial = study.ask()
    trial.set_user_attr("owner", f"{socket.gethostname()}/999999999/x")
    found = tune(rich(40), SETTINGS, TuningSettings(trials=2, storage=storage))
    assert found.history[0]["params"] == usual_params(SETTINGS)
    assert found.history[0]["value"] == found.usual
    assert [row["trial"] for row in found.history] == [1, 2]


def test_a_trial_on_another_machine_is_waited_for_while_it_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can ask after its process: once it has been silent for long, it is given up."""
    monkeypatch.setattr("birdstack.stacking.tuning_study._SILENT_S", 0.6)
    storage = open_storage("")
    study = SharedStudy(storage, "s", "data", 0)
    other = study.study.ask()
    other.set_user_attr("owner", "elsewhere/7/x")
    space = TuningSettings().space()
    begun_s = time.monotonic()

    def beats() -> None:
        for beat in range(4):
            time.sleep(0.3)
            other.set_user_attr("beat", beat)

    thread = threading.Thread(target=beats)
    thread.start()
    study.search(space, [], lambda *_: Outcome(0.5), trials=2)
    thread.join()
    assert time.monotonic() - begun_s > 1.2 + 0.5
    states = [trial.state for trial in study.study.trials]
    assert states == [FAIL, COMPLETE, COMPLETE]


def test_a_trial_that_was_given_up_too_early_counts_once() -> None:
    """Its process finds out, and goes on."""
    study = SharedStudy(None, "s", "data", 0)
    tried = []

    def evaluate(params: Params, beat: object) -> Outcome:
        tried.append(params)
        if len(tried) == 1:
            study.study.tell(0, state=FAIL)
        return Outcome(0.5, {"note": 1})

    study.search(TuningSettings().space(), [], evaluate, trials=2)
    assert [trial.state for trial in study.study.trials] == [FAIL, COMPLETE, COMPLETE]


def test_a_failing_trial_is_not_left_running() -> None:
    """The error comes through, and the next one finds no trial in its way."""
    study = SharedStudy(None, "s", "data", 0)

    def fails(*_: object) -> Outcome:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.search(TuningSettings().space(), [], fails, trials=2)
    assert [trial.state for trial in study.study.trials] == [FAIL]


def test_going_on_draws_what_one_run_would_have_drawn(tmp_path: Path) -> None:
    """A study made in three runs is the study made in one, TPE and all."""
    table = rich(40)
    whole = tune(table, SETTINGS, TuningSettings(trials=14))
    for trials in (1, 12, 14):
        parts = tune(
            table, SETTINGS, TuningSettings(trials=trials, storage=str(tmp_path / "j.log"))
        )
    timeless = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in found.history]
        for found in (whole, parts)
    ]
    assert timeless[0] == timeless[1]
    assert sum(whole.importance.values()) == pytest.approx(1)


def test_workers_change_nothing() -> None:
    """Classes of a trial fitted side by side give the same values."""
    values = [
        [row["value"] for row in tune(
            rich(40), SETTINGS.model_copy(update={"workers": workers}), TuningSettings(trials=2, share=1)
        ).history]
        for workers in (1, 3)
    ]  # fmt: skip
    assert values[0] == values[1]


def test_a_budget_in_seconds() -> None:
    """No trial is begun after it, but one is made in any case."""
    begun_s = time.monotonic()
    found = tune(rich(40), SETTINGS, TuningSettings(trials=10_000, seconds=1))
    assert 1 <= found.trials < 200
    assert time.monotonic() - begun_s < 20
    assert tune(rich(40), SETTINGS, TuningSettings(trials=5, seconds=1e-9)).trials == 1


def test_the_history_has_every_trial() -> None:
    """In order, with parameters, and the best so far never falls."""
    found = tune(rich(40), SETTINGS, TuningSettings(trials=5))
    assert [row["trial"] for row in found.history] == [0, 1, 2, 3, 4]
    assert found.history[0]["params"] == usual_params(SETTINGS)
    values = [row["value"] for row in found.history]
    assert [row["best"] for row in found.history] == np.maximum.accumulate(values).tolist()
    assert found.best == max(values)
    assert all(row["seconds"] > 0 for row in found.history)
    json.dumps(found.history)


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    """The reason is told, without a page of calls."""
    with pytest.raises(UsageError, match="database cannot be opened"):
        open_storage(f"sqlite:///{tmp_path}/no/such/folder/study.db")


def test_settings_between_two() -> None:
    """On the scale of the search: leaves and floors go by factors, shares by differences."""
    space = TuningSettings().space()
    one = {"leaves": 4, "learning_rate": 0.1, "min_hessian": 0.01, "l2": 1.0,
           "feature_fraction": 0.2, "logistic_c": 0.01}  # fmt: skip
    other = {"leaves": 16, "learning_rate": 0.1, "min_hessian": 1.0, "l2": 100.0,
             "feature_fraction": 0.6, "logistic_c": 0.01}  # fmt: skip
    half = between(space, one, other, 0.5)
    wanted = {"leaves": 8, "learning_rate": 0.1, "min_hessian": 0.1, "l2": 10.0,
              "feature_fraction": 0.4, "logistic_c": 0.01}  # fmt: skip
    assert half == pytest.approx(wanted)
    assert isinstance(half["leaves"], int)
    assert between(space, one, other, 0.0) == pytest.approx(one)


def test_studies_of_classes_are_judged_by_nested_estimates(tmp_path: Path) -> None:
    """Each class has its study, which resumes; its settings are taken only if they pay."""
    table, storage = rich(40), str(tmp_path / "journal.log")
    tuning = TuningSettings(trials=3, storage=storage, scope="per_class", shrink=50)
    told: list[tuple[int, int, str]] = []
    found = tune(table, SETTINGS, tuning, lambda *said: told.append(said))
    assert found.nested is not None
    assert 0.5 < found.nested["pooled"] < 1
    lead = found.nested["per_class"] - found.nested["pooled"]
    assert found.nested["lead"] == pytest.approx(lead)
    assert found.nested["taken"] == (lead > found.nested["error"])
    assert bool(found.by_class) == found.nested["taken"]
    assert "fold-nested" in found.why
    assert told[-1] == (4, 4, "class d")
    names = optuna.get_all_study_names(open_storage(storage))
    assert set(names) == {"birdstack-stack", *(f"birdstack-stack/{name}" for name in "abcd")}
    again = tune(table, SETTINGS, tuning)
    assert again.nested == found.nested
    assert again.by_class == found.by_class


def test_settings_of_classes_are_drawn_to_the_pooled_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stronger, the fewer positives a class has; taken where they pay, and fit for a stack."""
    monkeypatch.setattr("birdstack.stacking.tuning_per_class._ERRORS", -1e9)
    table = rich(40)
    gaps = []
    for shrink in (0.0, 100.0, 1e12):
        tuning = TuningSettings(trials=3, scope="per_class", shrink=shrink, share=1)
        found = tune(table, SETTINGS, tuning)
        assert set(found.by_class) == set(table.classes)
        gaps.append([abs(np.log(own["l2"] / found.settings.l2)) for own in found.by_class.values()])
    assert max(gaps[0]) > 0.1
    assert np.all(np.array(gaps[1]) <= np.array(gaps[0]))
    assert np.allclose(gaps[2], 0, atol=1e-6)
    stack = fitted(table, SETTINGS, by_class=found.by_class)
    assert np.isfinite(stack.nested).all()
