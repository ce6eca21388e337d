"""The loop of a training: steps, validations, checkpoints, until it ends or is stopped.

Imports torch: imported by training alone.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from birdstack.embeddings.auc import MacroAuc, macro_auc
from birdstack.embeddings.batches import Batch, GridBatches, TrainingBatches
from birdstack.embeddings.losses import make_loss
from birdstack.embeddings.metrics_log import MetricsLog
from birdstack.embeddings.sampler import Sampler
from birdstack.embeddings.schedule import lr_factor
from birdstack.embeddings.train_checkpoint import CheckpointFolder, Saved
from birdstack.embeddings.train_config import TrainConfig
from birdstack.embeddings.train_state import Learner
from birdstack.store.errors import BirdstackError

_SHOWN = 4


@dataclass(frozen=True)
class Progress:
    """How far the training of a fold is.

    Attributes:
        fold: held out.
        epoch: under way or just ended, from 1.
        epochs: in all.
        step: steps done.
        steps: in all.
        loss: mean since the last report.
        lr: learning rate of the head.
        windows_per_s: heard since the last report.
        macro_auc: on the held-out fold, in the report that ends an epoch with a validation.
    """

    fold: int
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    lr: float
    windows_per_s: float
    macro_auc: float | None = None


@dataclass
class Standing:
    """Where a training stands besides its tensors; all of it is in a checkpoint.

    Attributes:
        step: steps done.
        validated: epochs whose end has been dealt with.
        ended: no further step is to be taken, though epochs may be left.
        best_auc: best macro AUC so far (`select = "best"`), NaN before the first.
        best_epoch: when it was reached; 0: never.
        auc: latest macro AUC, NaN before the first.
        per_class: AUC of each class of the best (`select = "best"`) or latest validation.
        loss_sum: of the steps since the last row of the log.
        loss_steps: number of those.
        seconds: spent, over all sessions.
        metrics_bytes: length of the metrics log.
    """

    step: int = 0
    validated: int = 0
    ended: bool = False
    best_auc: float = math.nan
    best_epoch: int = 0
    auc: float = math.nan
    per_class: tuple[float, ...] = ()
    loss_sum: float = 0.0
    loss_steps: int = 0
    seconds: float = 0.0
    metrics_bytes: int = 0

    def plain(self) -> dict[str, Any]:
        """As JSON; NaN is null there."""
        held = {key: _null_for_nan(value) for key, value in asdict(self).items()}
        return {**held, "per_class": [_null_for_nan(value) for value in self.per_class]}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Standing:
        """From JSON."""
        held: dict[str, Any] = {k: math.nan if v is None else v for k, v in plain.items()}
        held["per_class"] = tuple(math.nan if v is None else v for v in plain["per_class"])
        return cls(**held)


def _null_for_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


class TrainingLoop:
    """Trains one network with one fold held out.

    Args:
        learner: network, average and optimiser.
        batches: to learn from.
        grid: to validate on.
        sampler: knows the steps.
        config: of the training.
        fold: held out.
        device: `cpu` or `cuda`.
        pool: threads that make batches.
        checkpoints: where to keep them.
        log: of metrics.
        notes: that go into every checkpoint, asked for when it is made.
        on_progress: told at every row of the log; may be None.
        stop: ends the training at the next step when set; may be None.

    Attributes:
        at: where the training stands.
        best: the average's tensors in its best epoch; empty unless `select = "best"`.
    """

    def __init__(
        self,
        learner: Learner,
        batches: TrainingBatches,
        grid: GridBatches,
        sampler: Sampler,
        config: TrainConfig,
        *,
        fold: int,
        device: str,
        pool: Executor,
        checkpoints: CheckpointFolder,
        log: MetricsLog,
        notes: Callable[[], Mapping[str, Any]],
        on_progress: Callable[[Progress], None] | None,
        stop: threading.Event | None,
    ) -> None:
        self.at = Standing()
        self.best: dict[str, torch.Tensor] = {}
        self._learner = learner
        self._batches = batches
        self._grid = grid
        self._sampler = sampler
        self._config = config
        self._fold = fold
        self._device_type = torch.device(device).type
        self._pool = pool
        self._checkpoints = checkpoints
        self._log = log
        self._notes = notes
        self._on_progress = on_progress
        self._stop = stop or threading.Event()
        self._loss = make_loss(config.loss, config.label_smoothing)
        self._precision = config.chosen_precision(device)
        self._unseen: tuple[torch.Tensor, int, float, Batch] | None = None
        self._lr = 0.0
        self._reported = self._resumed = self._saved = time.monotonic()
        self._reported_step = 0

    def resume(self, saved: Saved) -> None:
        """Go on from a checkpoint."""
        self._learner.load(saved.tensors)
        self.best = {
            name.removeprefix("best."): value
            for name, value in saved.tensors.items()
            if name.startswith("best.")
        }
        self.at = Standing.of(saved.state["standing"])
        self._reported_step = self.at.step

    def run(self) -> bool:
        """Train to the end.

        Returns:
            Whether it ended; False: it was stopped, and a checkpoint says where.

        Raises:
            BirdstackError: the loss or the gradient is not finite. The checkpoint before
                that is kept.
        """
        self._reported = self._resumed = self._saved = time.monotonic()
        steps = self._batches.stream(self.at.step, self._pool)
        while True:
            if not self._end_epoch():
                break
            if self.at.ended or self.at.step == self._sampler.steps:
                return True
            if self._stop.is_set():
                break
            self._step(*next(steps))
            if self.at.step % self._config.log_every == 0 and not self._at_epoch_end():
                self._report()
            if time.monotonic() - self._saved >= self._config.checkpoint_every_s:
                self._save()
        self._save()
        return False

    def average(self) -> dict[str, torch.Tensor]:
        """The moving average of the weights, by name."""
        return dict(self._learner.average.network.state_dict())

    def _at_epoch_end(self) -> bool:
        return self.at.step % self._sampler.steps_per_epoch == 0

    def _step(self, step: int, batch: Batch) -> None:
        """Learn from one batch."""
        config, learner = self._config, self._learner
        epoch_steps = self._sampler.steps_per_epoch
        factor = lr_factor(
            step,
            steps=self._sampler.steps,
            warmup_steps=min(round(config.warmup_epochs * epoch_steps), self._sampler.steps // 2),
            final=config.final_lr,
        )
        frozen = step < config.freeze_epochs * epoch_steps
        self._lr = learner.prepare(frozen=frozen, factor=factor)
        torch.manual_seed(self._sampler.layer_seed(step))
        logits = self._logits(learner.network, batch.inputs)
        loss = self._loss(logits, batch.targets)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(learner.network.parameters(), config.max_grad_norm)
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)
        learner.average.update(step)
        # Looked at one step later: a GPU is not waited for.
        self._look()
        told = torch.stack([loss.detach().float(), norm.float()])
        self._unseen = (told, step, self._lr, batch)
        self.at.step = step + 1

    def _logits(self, network: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        if inputs.ndim == 4:  # noqa: PLR2004 - pictures have four dimensions
            inputs = inputs.contiguous(memory_format=self._learner.layout)
        with torch.autocast(self._device_type, torch.bfloat16, enabled=self._precision == "bf16"):
            logits: torch.Tensor = network(inputs)[-1]
        return logits.float()

    def _look(self) -> None:
        """Take the loss of the last step into account.

        Raises:
            BirdstackError: loss or gradient are not finite.
        """
        if self._unseen is None:
            return
        told, step, lr, batch = self._unseen
        self._unseen = None
        loss, norm = told.tolist()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            epoch, place = divmod(step, self._sampler.steps_per_epoch)
            message = (
                f"fold {self._fold}, epoch {epoch + 1}, step {step} ({place + 1} of "
                f"{self._sampler.steps_per_epoch} in the epoch): loss {loss}, norm of the gradient "
                f"{norm}, learning rate {lr:g}; {_suspects(batch)}"
            )
            remedy = (
                "look at these recordings, or train in another folder with a lower train.lr or "
                "train.precision fp32; the checkpoint before this step is kept"
            )
            raise BirdstackError(message, remedy=remedy)
        self.at.loss_sum += loss
        self.at.loss_steps += 1

    def _end_epoch(self) -> bool:
        """Validate where an epoch has ended; False if that was stopped midway."""
        done = self.at.step // self._sampler.steps_per_epoch
        if not self._at_epoch_end() or done <= self.at.validated:
            return True
        self._look()
        last = done == self._config.epochs
        found = None
        if last or done % self._config.validate_every == 0:
            begun = time.monotonic()
            found = self._validate()
            if found is None:
                return False
            self._reported += time.monotonic() - begun  # no windows were learnt from meanwhile
            self.at.auc = found.value
            if self._config.select == "best":
                self._compare(found, done)
            else:
                self.at.per_class = tuple(found.per_class.tolist())
        self.at.validated = done
        self._report(None if found is None else found.value)
        return True

    def _compare(self, found: MacroAuc, epoch: int) -> None:
        # The first counts as best, also where nothing could be measured.
        if not self.best or found.value > self.at.best_auc:
            self.best = {name: value.clone() for name, value in self.average().items()}
            self.at.best_auc, self.at.best_epoch = found.value, epoch
            self.at.per_class = tuple(found.per_class.tolist())
        waited = epoch - self.at.best_epoch
        self.at.ended = self._config.patience is not None and waited >= self._config.patience

    @torch.inference_mode()
    def _validate(self) -> MacroAuc | None:
        scores, truth = [], []
        for inputs, labels in self._grid.stream(self._pool):
            if self._stop.is_set():
                return None
            logits = self._logits(self._learner.average.network, inputs)
            scores.append(logits.cpu().numpy())
            truth.append(labels)
        if not scores:
            return MacroAuc(math.nan, np.empty(0))
        return macro_auc(np.concatenate(scores), np.concatenate(truth))

    def _report(self, auc: float | None = None) -> None:
        """Write a row of the log and tell whoever listens."""
        self._look()
        now = time.monotonic()
        at, config = self.at, self._config
        windows = (at.step - self._reported_step) * config.batch_size
        progress = Progress(
            fold=self._fold,
            epoch=-(-at.step // self._sampler.steps_per_epoch),
            epochs=config.epochs,
            step=at.step,
            steps=self._sampler.steps,
            loss=at.loss_sum / at.loss_steps if at.loss_steps else math.nan,
            lr=self._lr,
            windows_per_s=windows / max(now - self._reported, 1e-9),
            macro_auc=auc,
        )
        row = {
            "step": at.step,
            "epoch": progress.epoch,
            "loss": None if math.isnan(progress.loss) else progress.loss,
            "lr": progress.lr,
            "seconds": round(at.seconds + now - self._resumed, 3),
            "windows_per_s": round(progress.windows_per_s, 1),
            "val_macro_auc": None if auc is None or math.isnan(auc) else auc,
        }
        self._log.write(row)
        at.loss_sum, at.loss_steps = 0.0, 0
        self._reported, self._reported_step = time.monotonic(), at.step
        if self._on_progress is not None:
            self._on_progress(progress)

    def _save(self) -> None:
        self._look()
        now = time.monotonic()
        self.at.seconds += now - self._resumed
        self._resumed = now
        self.at.metrics_bytes = self._log.settle()
        tensors = self._learner.tensors()
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        state = {"standing": self.at.plain(), **self._notes()}
        self._checkpoints.save(self.at.step, tensors, state)
        self._saved = time.monotonic()


def _suspects(batch: Batch) -> str:
    """Recordings that the trouble may come from: those that are no numbers, or all."""
    lost = ~torch.isfinite(batch.inputs).flatten(1).all(dim=1).cpu()
    pairs = zip(batch.recordings, lost.tolist(), strict=True)
    guilty = sorted({name for name, odd in pairs if odd})
    names = guilty or sorted(set(batch.recordings))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    said = "not finite were windows with" if guilty else "the batch held"
    return f"{said} {', '.join(names[:_SHOWN])}{more}"
