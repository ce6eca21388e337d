"""`birdstack train`: a backbone for every fold, and the logits they may give."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence

import numpy as np
from pydantic import ValidationError

from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.fold_files import FoldResult
from birdstack.embeddings.model_folder import FoldModel, checkpoint_name, finished, load_model, seal
from birdstack.embeddings.network import check_config
from birdstack.embeddings.train_fold import train_fold, training_recipe
from birdstack.embeddings.training_set import TrainingSet
from birdstack.features.audio import AudioSource
from birdstack.stacking.console import counted
from birdstack.stacking.networks import LATEST, Networks, models_folder
from birdstack.stacking.options import DONE, INTERRUPTED
from birdstack.stacking.run_features import hear_with, stop_on_signal
from birdstack.stacking.run_networks import record_training
from birdstack.stacking.session import Session
from birdstack.stacking.training_data import fold_numbers, trained_rows, training_set
from birdstack.store.errors import ConfigError, UsageError
from birdstack.store.snapshot import Snapshot
from birdstack.store.store import Store
from birdstack.store.views import canonical_json

_KEY = 16


def run_train(
    session: Session, name: str, *, folds: Sequence[int] | None, mode: str | None, logits: bool
) -> int:
    """Train a backbone for every fold, then write and score its logits.

    Args:
        session: settings and store.
        name: of the backbone.
        folds: train these only; None for all. Logits are written once all are there.
        mode: `frozen` or `full` in place of the backbone's own.
        logits: whether to hear with what was trained.

    Returns:
        The exit code.

    Raises:
        UsageError: the backbone has classes of its own, and nothing to train.
        ConfigError: it cannot work.
        StoreError: there is nothing to train on.
    """
    store = session.open_store()
    config = session.settings.networks.find(name)
    if mode is not None:
        config = _in_mode(config, mode)
    if config.mode == "given":
        message = f"backbone {name!r} has classes of its own and was trained elsewhere"
        raise UsageError(message, remedy="set its mode to frozen or full")
    if config.mode == "frozen" and folds is not None:
        message = f"--folds: heads of the frozen backbone {name!r} are fitted for all folds at once"
        raise UsageError(message, remedy="leave --folds away, or give --mode full")
    check_config(config, window_s=store.grid.window_s)
    snapshot = store.snapshot()
    data = training_set(snapshot, session.settings.labels)
    wanted = fold_numbers(data, folds)
    with stop_on_signal(session) as stop:
        if config.mode == "full":
            with AudioSource(session.settings.audio, store.grid) as source:
                training = _Training(
                    session, store, snapshot, config, data, source=source, stop=stop
                )
                model = training.run(wanted)
            if model is None:
                return _end(session, store, INTERRUPTED if stop.is_set() else DONE)
            record_training(session, store, model)
        if not logits and config.mode == "full":
            return _end(session, store, DONE)
        return hear_with(session, store, Networks(session.settings, store, (config,)), stop)


def _in_mode(config: BackboneConfig, mode: str) -> BackboneConfig:
    try:
        return BackboneConfig.model_validate({**config.model_dump(), "mode": mode})
    except ValidationError as error:
        message = f"--mode {mode}: {error.errors()[0]['msg']}"
        raise ConfigError(message, remedy="leave --mode away, or name another backbone") from error


def _end(session: Session, store: Store, code: int) -> int:
    version = store.snapshot().version
    session.reporter.event("finished", exit_code=code, store=store.url, version=version)
    return code


class _Training:
    """The training of one backbone, fold after fold."""

    def __init__(
        self,
        session: Session,
        store: Store,
        snapshot: Snapshot,
        config: BackboneConfig,
        data: TrainingSet,
        *,
        source: AudioSource,
        stop: threading.Event,
    ) -> None:
        self.session = session
        self.store = store
        self.snapshot = snapshot
        self.config = config
        self.data = data
        self.source = source
        self.stop = stop
        self.train = session.settings.train
        self.home = models_folder(session.settings, store) / config.name
        self.folder = self.home / self._key()

    def run(self, wanted: Sequence[int]) -> FoldModel | None:
        """Train the wanted folds; the model, once all folds are there."""
        reporter = self.session.reporter
        if finished(self.folder):
            reporter.say(f"{self.config.name}: trained already, {self.folder}")
            return self._latest(load_model(self.folder))
        reporter.say(
            f"{self.config.name}: training {counted(len(wanted), 'fold')} on "
            f"{counted(int(self.data.known().sum()), 'recording')}, "
            f"{counted(len(self.data.classes), 'class')}, {counted(self.train.epochs, 'epoch')}, "
            f"on {self.train.chosen_device()}; in {self.folder}"
        )
        results = []
        for fold in wanted:
            result = self._fold(fold)
            results.append(result)
            if result.status == "interrupted":
                reporter.warn("stopped before the end: run the same command again to go on")
                break
        self._show(results)
        folds = fold_numbers(self.data, None)
        left = [fold for fold in folds if not (self.folder / checkpoint_name(fold)).is_file()]
        if left:
            reporter.say(f"folds not trained yet: {', '.join(map(str, left))}")
            return None
        model = seal(
            self.folder,
            self.config,
            "full",
            classes=self.data.classes,
            folds=folds,
            training={"train": dict(self.train.recipe), "data": self.data.digest()},
            # As it was when training began: whoever splits anew meanwhile moves nobody here.
            trained_on=trained_rows(self.snapshot, self.data),
        )
        return self._latest(model)

    def _fold(self, fold: int) -> FoldResult:
        reporter = self.session.reporter
        with reporter.progress(f"fold {fold}") as advance:
            result = train_fold(
                self.config,
                self.train,
                self.data,
                held_out_fold=fold,
                folder=self.folder,
                source=self.source,
                grid=self.store.grid,
                on_progress=lambda p: advance(
                    p.step,
                    p.steps,
                    f"epoch {p.epoch}/{p.epochs}, loss {p.loss:.4f}, {p.windows_per_s:.0f} windows/s",
                ),
                stop=self.stop,
            )
        for sentence in result.warnings:
            reporter.warn(sentence)
        for recording_id, code, reason in result.skipped:
            reporter.event("skipped", recording_id=recording_id, code=code, reason=reason)
        if result.skipped:
            first = result.skipped[0]
            reporter.warn(
                f"fold {fold}: {counted(len(result.skipped), 'recording')} left out, which cannot "
                f"be heard, e.g. {first[0]} ({first[1]}: {first[2]})"
            )
        reporter.event(
            "fold",
            fold=fold,
            status=result.status,
            macro_auc=None if np.isnan(result.macro_auc) else result.macro_auc,
            epoch=result.epoch,
            steps=result.steps,
            seconds=round(result.seconds, 3),
            resumed_from_step=result.resumed_from_step,
        )
        return result

    def _show(self, results: Sequence[FoldResult]) -> None:
        self.session.reporter.table(
            f"{self.config.name}: macro AUC of windows on the held-out fold",
            ["fold", "status", "macro AUC", "epochs", "steps", "seconds", "resumed at step"],
            [
                (
                    result.fold,
                    result.status,
                    f"{result.macro_auc:.4f}",
                    result.epoch,
                    result.steps,
                    round(result.seconds),
                    result.resumed_from_step or "",
                )
                for result in results
            ],
        )

    def _latest(self, model: FoldModel) -> FoldModel:
        """Make a model the one that `birdstack features` hears with."""
        aside = self.home / f"{LATEST}.new"
        aside.write_text(self.folder.name + "\n")
        aside.replace(self.home / LATEST)
        return model

    def _key(self) -> str:
        """Names the training that is asked for, whatever fold is held out."""
        recipe = training_recipe(self.config, self.train, self.data, -1, self.store.grid)
        return hashlib.sha256(canonical_json(recipe).encode()).hexdigest()[:_KEY]
