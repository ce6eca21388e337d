"""Train a whole network for one fold: what it must not have heard is held out.

torch is imported when a function is called.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.crops import CropSource, SoundSource
from birdstack.embeddings.extras import need
from birdstack.embeddings.fold_files import FoldFiles, FoldResult, require_same
from birdstack.embeddings.network import build_network, check_config, make_input, weights_digest
from birdstack.embeddings.train_config import TrainConfig
from birdstack.embeddings.training_set import TrainingSet
from birdstack.store.errors import ConfigError
from birdstack.store.keys import WindowGrid
from birdstack.store.labels import PRESENT

if TYPE_CHECKING:
    from birdstack.embeddings.train_loop import Progress, TrainingLoop

_MOST_WORKERS = 8


def train_fold(
    config: BackboneConfig,
    train: TrainConfig,
    data: TrainingSet,
    *,
    held_out_fold: int,
    folder: Path,
    source: SoundSource,
    grid: WindowGrid,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> FoldResult:
    """Train a network on all folds but one, and validate it on that one.

    Writes into `folder`: `fold-<k>.safetensors` (the moving average of the weights; its
    metadata hold the classes), `fold-<k>.metrics.jsonl`, `tensorboard/fold-<k>` where
    TensorBoard is installed, and `fold-<k>.checkpoint` while the training is under way. A
    fold that is finished is not trained again; one that was interrupted or killed goes on
    from its checkpoint.

    Args:
        config: the backbone; its weights are where the training begins, its head is new.
        train: how it is trained.
        data: recordings, folds and labels.
        held_out_fold: the one that is not trained on.
        folder: of this backbone's models; other folds may be trained into it too.
        source: decodes recordings into sounds cut by `grid`.
        grid: of the windows that are validated on.
        on_progress: told how far it is.
        stop: set it to end at the next step, with a checkpoint.

    Raises:
        ConfigError: the backbone cannot be built or trained, or the folder holds this fold
            trained with other settings.
        StoreError: nothing to train or to validate on; or nothing can be heard.
        BirdstackError: the loss is not finite.
    """
    need("torch", "networks", "training a network")
    if config.kind not in ("timm", "wave"):
        message = f"backbone {config.name!r}: kind {config.kind} is not trained as a whole network"
        raise ConfigError(message, remedy="set kind to timm or wave, or mode to frozen")
    check_config(config, window_s=grid.window_s)
    split = data.split(held_out_fold)
    warnings = data.warnings(held_out_fold)
    recipe = training_recipe(config, train, data, held_out_fold, grid)
    files = FoldFiles(folder, held_out_fold)
    finished = files.finished(recipe, warnings)
    if finished is not None:
        return finished
    workers = max(1, min(_MOST_WORKERS, _cores() - 1))
    with _threads(train.threads), ThreadPoolExecutor(workers, "batches") as pool:
        job = _Job(
            config,
            train,
            data,
            fold=held_out_fold,
            grid=grid,
            recipe=recipe,
            files=files,
            source=source,
            pool=pool,
        )
        return job.run(split, warnings, on_progress, stop)


def training_recipe(
    config: BackboneConfig,
    train: TrainConfig,
    data: TrainingSet,
    held_out_fold: int,
    grid: WindowGrid,
) -> dict[str, Any]:
    """JSON-able: everything that determines the network trained for a fold."""
    built = config.model_dump(mode="json", include={"kind", "model", "pooling", "mel", "seed"})
    return {
        "backbone": {**built, "weights_digest": weights_digest(config)},
        "train": train.recipe,
        "data": data.digest(),
        "held_out_fold": held_out_fold,
        "grid": grid.model_dump(mode="json"),
    }


class _Job:
    """The training of one fold in this process."""

    def __init__(
        self,
        config: BackboneConfig,
        train: TrainConfig,
        data: TrainingSet,
        *,
        fold: int,
        grid: WindowGrid,
        recipe: Mapping[str, Any],
        files: FoldFiles,
        source: SoundSource,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.config = config
        self.train = train
        self.data = data
        self.fold = fold
        self.grid = grid
        self.recipe = recipe
        self.files = files
        self.pool = pool
        self.input = make_input(config, grid.window_s)
        self.crops = CropSource(
            source,
            data.recordings,
            sample_rate_hz=self.input.sample_rate_hz,
            cache_mb=train.sound_cache_mb,
        )

    def run(
        self,
        split: tuple[np.ndarray, np.ndarray],
        warnings: tuple[str, ...],
        on_progress: Callable[[Progress], None] | None,
        stop: threading.Event | None,
    ) -> FoldResult:
        from birdstack.embeddings.metrics_log import MetricsLog  # noqa: PLC0415 - torch
        from birdstack.embeddings.train_checkpoint import CheckpointFolder  # noqa: PLC0415 - torch

        checkpoints = CheckpointFolder(self.files.checkpoint)
        saved = checkpoints.load()
        kept = 0
        if saved is not None:
            require_same(self.files.checkpoint, saved.state["recipe"], self.recipe)
            self.crops.skipped.update({i: (c, r) for i, c, r in saved.state["skipped"]})
            kept = int(saved.state["standing"]["metrics_bytes"])
        log = MetricsLog(self.files.metrics, self.files.tensorboard, keep_bytes=kept)
        try:
            loop = self._loop(split, checkpoints, log, on_progress, stop)
            if saved is not None:
                loop.resume(saved)
            begun, first = time.monotonic(), loop.at.step
            before_s = loop.at.seconds
            ended = loop.run()
            seconds = before_s + time.monotonic() - begun
        finally:
            log.close()
        result = self._result(loop, ended=ended, seconds=seconds, first=first, warnings=warnings)
        if ended:
            self._write(loop, result)
            checkpoints.remove()
        return result

    def _loop(
        self,
        split: tuple[np.ndarray, np.ndarray],
        checkpoints: Any,
        log: Any,
        on_progress: Callable[[Progress], None] | None,
        stop: threading.Event | None,
    ) -> TrainingLoop:
        # Each of these imports torch.
        from birdstack.embeddings.batches import (  # noqa: PLC0415 - torch
            FrontEnd,
            GridBatches,
            TrainingBatches,
        )
        from birdstack.embeddings.sampler import Sampler, make_units  # noqa: PLC0415 - torch
        from birdstack.embeddings.train_loop import TrainingLoop  # noqa: PLC0415 - torch
        from birdstack.embeddings.train_state import Learner, start_at_prior  # noqa: PLC0415 - torch

        train, device = self.train, self.train.chosen_device()
        units = make_units(self.data, split[0], train)
        sampler = Sampler(units.weight, train, self.fold)
        network = build_network(
            self.config,
            len(self.data.classes),
            window_s=self.grid.window_s,
            head="new",
        )
        if train.loss != "softmax":
            start_at_prior(network, units.weight @ (units.labels == PRESENT))
        front = FrontEnd(self.config, self.input, self.grid.window_s, device)
        return TrainingLoop(
            Learner(network, train, device),
            TrainingBatches(
                self.crops,
                self.data,
                units=units,
                sampler=sampler,
                config=train,
                front=front,
                device=device,
            ),
            GridBatches(
                self.crops,
                self.data,
                indices=split[1],
                size=2 * train.batch_size,
                front=front,
                device=device,
            ),
            sampler,
            train,
            fold=self.fold,
            device=device,
            pool=self.pool,
            checkpoints=checkpoints,
            log=log,
            notes=lambda: {"recipe": self.recipe, "skipped": self._skipped()},
            on_progress=on_progress,
            stop=stop,
        )

    def _result(
        self,
        loop: TrainingLoop,
        *,
        ended: bool,
        seconds: float,
        first: int,
        warnings: tuple[str, ...],
    ) -> FoldResult:
        best = self.train.select == "best"
        per_class = zip(self.data.classes, loop.at.per_class, strict=False)
        return FoldResult(
            fold=self.fold,
            status="trained" if ended else "interrupted",
            weights=self.files.weights,
            macro_auc=loop.at.best_auc if best else loop.at.auc,
            per_class={name: value for name, value in per_class if not math.isnan(value)},
            epoch=loop.at.best_epoch if best and ended else loop.at.validated,
            steps=loop.at.step,
            seconds=seconds,
            resumed_from_step=first,
            skipped=tuple(self._skipped()),
            warnings=warnings,
        )

    def _skipped(self) -> list[tuple[str, str, str]]:
        return sorted((i, c, r) for i, (c, r) in dict(self.crops.skipped).items())

    def _write(self, loop: TrainingLoop, result: FoldResult) -> None:
        """The trained network, with what is known of it."""
        from birdstack.embeddings.train_checkpoint import to_bytes, write_whole  # noqa: PLC0415 - torch

        said = {
            "macro_auc": None if math.isnan(result.macro_auc) else result.macro_auc,
            "per_class": dict(result.per_class),
            "epoch": result.epoch,
            "steps": result.steps,
            "seconds": round(result.seconds, 3),
            "skipped": result.skipped,
        }
        metadata = {
            "classes": json.dumps(list(self.data.classes)),
            "training": json.dumps({"recipe": self.recipe, "result": said}),
        }
        tensors = loop.best or loop.average()
        write_whole(self.files.weights, to_bytes(tensors, metadata))


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    """All cores for torch while a network is trained, and torch's random state untouched."""
    import torch  # noqa: PLC0415 - importing this module stays light

    before = torch.get_num_threads()
    torch.set_num_threads(wanted or _cores())
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        torch.set_num_threads(before)
