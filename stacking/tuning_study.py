"""One Optuna study that several processes fill, each of which may be killed at any moment.

Optuna's own loop counts trials that are finished. Where two processes draw from one budget,
both would begin the last one; where a process was killed, its trial would be running for ever.
Here a process that has begun a trial looks whether the budget was spent by those begun before
it, and a running trial counts for as long as somebody works at it: it bears the mark of its
process, which beats. Nobody leaves before the trials of the others are finished, so that all
come to the same end.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birdstack.store.errors import ConflictError, UsageError

Params = dict[str, float | int]
"""Hyper-parameters by name."""

_BEAT_S, _SILENT_S = 5.0, 60.0
_WAITS_S = (0.05, 1.0)
_OWNER, _BEAT, _DATA = "owner", "beat", "data"


@dataclass(frozen=True)
class Dimension:
    """One hyper-parameter.

    Attributes:
        name: of it.
        low: smallest value.
        high: largest value.
        log: whether it is drawn on a logarithmic scale.
        whole: whether it is a whole number.
    """

    name: str
    low: float
    high: float
    log: bool
    whole: bool


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        value: the higher the better.
        notes: JSON-able, kept with the trial.
    """

    value: float
    notes: Mapping[str, Any] = field(default_factory=dict)


Evaluate = Callable[[Params, Callable[[], None]], Outcome]
"""Tries some hyper-parameters, and calls now and then to say that it is at work."""


def open_storage(place: str) -> Any:
    """Storage in a journal file, or wherever an RDB URL says; None for memory.

    Raises:
        UsageError: the database cannot be opened.
    """
    if not place:
        return None
    if "://" in place:
        return _database(place)
    from optuna.storages import JournalStorage  # noqa: PLC0415 - heavy
    from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415 - heavy

    path = Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    _mend(path)
    return JournalStorage(JournalFileBackend(str(path)))


def _mend(journal: Path) -> None:
    """Cut off a last line that a power cut left half written; Optuna would read no further."""
    from optuna.storages.journal import JournalFileSymlinkLock  # noqa: PLC0415 - heavy

    if not journal.is_file() or _whole(journal.read_bytes()):
        return
    lock = JournalFileSymlinkLock(str(journal))  # the one that writers hold
    lock.acquire()
    try:
        data = journal.read_bytes()
        if not _whole(data):
            os.truncate(journal, data.rfind(b"\n") + 1)
    finally:
        lock.release()


def _whole(data: bytes) -> bool:
    return not data or data.endswith(b"\n")


def _database(url: str) -> Any:
    import optuna  # noqa: PLC0415 - heavy
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - heavy

    for pause_s in (1.0, 0.0):
        try:
            return optuna.storages.RDBStorage(url)
        except (SQLAlchemyError, ImportError) as error:
            why = error
            # Of two that make a new database's tables at once, one fails, and then finds them.
            time.sleep(pause_s)
    message = f"tuning: the database cannot be opened ({str(why).splitlines()[0]})"
    raise UsageError(message, remedy="check the URL and the driver it names") from why


class SharedStudy:
    """A study, begun or gone on with.

    Args:
        storage: of `open_storage`.
        name: of the study.
        data: digest of what it is made on.
        seed: of the sampler.

    Raises:
        ConflictError: the study was begun on other data.
    """

    def __init__(self, storage: Any, name: str, data: str, seed: int) -> None:
        import optuna  # noqa: PLC0415 - heavy

        self._optuna, self._seed = optuna, seed
        self._states = optuna.trial.TrialState
        self.study = optuna.create_study(
            study_name=name, storage=storage, load_if_exists=True, direction="maximize"
        )
        self._me = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self._seen: dict[int, tuple[Any, float]] = {}
        begun = self.study.user_attrs.get(_DATA)
        if begun is None:
            self.study.set_user_attr(_DATA, data)
        elif begun != data:
            message = (
                "tuning: the study in this storage was made on other rows, labels, folds or "
                "settings"
            )
            raise ConflictError(message, remedy="name another storage, or remove the old study")

    def finished(self) -> list[Any]:
        """Finished trials, in the order in which they were begun."""
        return self._in(self._states.COMPLETE)

    def importance(self, at_least: int) -> dict[str, float]:
        """Share of each hyper-parameter in the differences; empty with fewer trials."""
        if len(self.finished()) < at_least:
            return {}
        found = self._optuna.importance.get_param_importances(
            self.study, evaluator=self._optuna.importance.PedAnovaImportanceEvaluator()
        )
        return {str(name): float(share) for name, share in found.items()}

    def search(
        self,
        space: Sequence[Dimension],
        first: Sequence[Params],
        evaluate: Evaluate,
        *,
        trials: int,
        until_s: float | None = None,
        told: Callable[[int, float | None], None] = lambda *_: None,
    ) -> None:
        """Try hyper-parameters until so many trials are finished, by whoever it is.

        Args:
            space: what is searched.
            first: what is tried before anything is drawn.
            evaluate: tries hyper-parameters.
            trials: finished trials in all.
            until_s: when to begin no more, by `time.monotonic`; one trial is made all the same.
            told: given the number of finished trials, and the value of the one just finished.
        """
        wait_s = _WAITS_S[0]
        told(len(self.finished()), None)
        while True:
            busy = self._running()
            done = self.finished()
            late = until_s is not None and time.monotonic() >= until_s
            if len(done) >= trials or (late and done):
                return
            if len(done) + len(busy) >= trials:
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, _WAITS_S[1])
                continue
            wait_s = _WAITS_S[0]
            self._enqueue(first, [*done, *busy])
            value = self._one(space, evaluate, trials)
            if value is not None:
                told(min(len(self.finished()), trials), value)

    def _one(self, space: Sequence[Dimension], evaluate: Evaluate, trials: int) -> float | None:
        """Begin a trial and finish it; None if it turned out to be one too many."""
        # A sampler of its own for each trial: who goes on with a study draws what the one
        # before would have drawn, and who joins draws something else.
        count = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = self._optuna.samplers.TPESampler(
            seed=self._seed + count, multivariate=True, constant_liar=True
        )
        trial = self.study.ask()
        try:
            trial.set_user_attr(_OWNER, self._me)
            params = {one.name: _suggested(trial, one) for one in space}
            before = [t for t in [*self.finished(), *self._running()] if t.number < trial.number]
            again = any(_params(other) == params for other in before)
            if again or len(before) >= trials:
                self._drop(trial.number)
                return None
            outcome = evaluate(params, self._beater(trial))
            for name, note in outcome.notes.items():
                trial.set_user_attr(name, note)
        except self._optuna.exceptions.UpdateFinishedTrialError:
            # Somebody waited in vain for a beat and gave this trial up: it counts no more.
            return None
        except BaseException:
            self._drop(trial.number)
            raise
        self.study.tell(trial, outcome.value, skip_if_finished=True)
        return outcome.value

    def _enqueue(self, first: Sequence[Params], begun: Sequence[Any]) -> None:
        waiting = self._in(self._states.WAITING)
        there = [_params(trial) for trial in [*begun, *waiting]]
        for params in first:
            if params not in there:
                self.study.enqueue_trial(params)

    def _running(self) -> list[Any]:
        """Trials that somebody works at; those that nobody does are given up."""
        alive = []
        for trial in self._in(self._states.RUNNING):
            if self._abandoned(trial):
                self._drop(trial.number)
            else:
                alive.append(trial)
        return alive

    def _abandoned(self, trial: Any) -> bool:
        owner = trial.user_attrs.get(_OWNER)
        if owner is not None and owner != self._me and _gone(owner):
            return True
        now_s, beat = time.monotonic(), (owner, trial.user_attrs.get(_BEAT))
        known = self._seen.get(trial.number)
        if known is None or known[0] != beat:
            self._seen[trial.number] = (beat, now_s)
            return False
        return now_s - known[1] > _SILENT_S

    def _beater(self, trial: Any) -> Callable[[], None]:
        last_s, count = time.monotonic(), 0

        def beat() -> None:
            nonlocal last_s, count
            if time.monotonic() - last_s >= _BEAT_S:
                last_s, count = time.monotonic(), count + 1
                trial.set_user_attr(_BEAT, count)

        return beat

    def _drop(self, number: int) -> None:
        self.study.tell(number, state=self._states.FAIL, skip_if_finished=True)

    def _in(self, state: Any) -> list[Any]:
        found = self.study.get_trials(deepcopy=False, states=(state,))
        return sorted(found, key=lambda trial: trial.number)


def _gone(owner: str) -> bool:
    """Whether a process of this machine has ended; of another machine's nobody knows."""
    host, number, _ = owner.rsplit("/", 2)
    if host != socket.gethostname():
        return False
    if int(number) == os.getpid():
        return True  # it bears this process's number, and another mark
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _params(trial: Any) -> Params:
    """Of a trial, also while it waits or has only just begun."""
    return dict(trial.system_attrs.get("fixed_params", trial.params))


def _suggested(trial: Any, one: Dimension) -> float | int:
    if one.whole:
        return int(trial.suggest_int(one.name, int(one.low), int(one.high), log=one.log))
    return float(trial.suggest_float(one.name, one.low, one.high, log=one.log))
