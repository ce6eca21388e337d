"""Batches for a training and for its validation, made ahead by threads.

On a processor, threads draw, cut, alter and transform; the network waits for none of it.
For a GPU they draw and cut, and the GPU does the rest.

Imports torch: imported by training alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from birdstack.embeddings.augment import augment_pictures, augment_sounds
from birdstack.embeddings.backbone import NetworkInput
from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.crops import CropSource
from birdstack.embeddings.prefetch import ahead
from birdstack.embeddings.sampler import ANYWHERE, Sampler, Units
from birdstack.embeddings.train_config import TrainConfig
from birdstack.embeddings.training_set import TrainingSet
from birdstack.features.audio import Sound
from birdstack.store.errors import SkipRecording, StoreError

_DEPTH = 6
_TRIES = 50


@dataclass(frozen=True)
class Batch:
    """Windows of one step.

    Attributes:
        inputs: what the network takes, or, on its way to a GPU, sounds `[window, sample]`.
        targets: float `[window, class]`, -1 where not known.
        recordings: ids, one a window, before windows were mixed.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    recordings: tuple[str, ...]


class FrontEnd:
    """Sounds `[window, sample]` to what the network takes, on its device.

    Args:
        config: the backbone.
        network_input: its input, used on a processor.
        window_s: length of a window.
        device: `cpu` or `cuda`.
    """

    def __init__(
        self, config: BackboneConfig, network_input: NetworkInput, window_s: float, device: str
    ) -> None:
        self._input = network_input
        self._raw = config.kind == "wave"
        self._mel = None
        if device != "cpu" and not self._raw:
            from birdstack.embeddings.torch_mel import TorchMel  # noqa: PLC0415 - GPU alone

            self._mel = TorchMel(config.mel, window_s).to(device)

    def __call__(self, sounds: torch.Tensor) -> torch.Tensor:
        """Inputs of sounds."""
        if self._raw:
            return sounds
        if self._mel is not None:
            with torch.no_grad():
                pictures: torch.Tensor = self._mel(sounds)
            return pictures
        made = torch.empty((len(sounds), *self._input.shape))
        for row, samples in zip(made.numpy(), sounds.numpy(), strict=True):
            row[...] = self._input.prepare(samples)
        return made


class TrainingBatches:
    """The batches of a training, by step.

    Args:
        crops: sound.
        data: the training set.
        units: that are drawn.
        sampler: that draws them.
        config: augmentations.
        front: from sounds to inputs.
        device: `cpu` or `cuda`.
    """

    def __init__(
        self,
        crops: CropSource,
        data: TrainingSet,
        *,
        units: Units,
        sampler: Sampler,
        config: TrainConfig,
        front: FrontEnd,
        device: str,
    ) -> None:
        self._crops = crops
        self._data = data
        self._units = units
        self._sampler = sampler
        self._config = config
        self._front = front
        self._device = device

    def stream(self, first_step: int, pool: Executor) -> Iterator[tuple[int, Batch]]:
        """Batches from a step to the end, on the device, each with its step."""
        steps = range(first_step, self._sampler.steps)
        made = ahead((partial(self._made, step) for step in steps), pool, _DEPTH)
        for step, batch in zip(steps, made, strict=True):
            if self._device == "cpu":
                yield step, batch
            else:
                yield step, self._altered(step, _moved(batch, self._device))

    def _made(self, step: int) -> Batch:
        batch = self._cut(step)
        if self._device == "cpu":
            return self._altered(step, batch)
        return Batch(batch.inputs.pin_memory(), batch.targets.pin_memory(), batch.recordings)

    def _cut(self, step: int) -> Batch:
        """Sounds of a step."""
        rng = self._sampler.redraws(step)
        sounds, targets, names = [], [], []
        for drawn in self._sampler.units(step):
            unit, sound = self._heard(int(drawn), rng)
            sounds.append(torch.from_numpy(sound))
            targets.append(self._units.labels[unit])
            names.append(self._data.recordings[self._units.recording[unit]].recording_id)
        wanted = torch.from_numpy(np.stack(targets).astype(np.float32))
        return Batch(torch.stack(sounds), wanted, tuple(names))

    def _heard(self, unit: int, rng: np.random.Generator) -> tuple[int, np.ndarray]:
        """A unit that can be heard, the drawn one if it can, and its sound."""
        for _ in range(_TRIES):
            recording, window = int(self._units.recording[unit]), int(self._units.window[unit])
            try:
                if window == ANYWHERE:
                    return unit, self._crops.crop(recording, rng)
                return unit, self._crops.window(recording, window)
            except SkipRecording:
                unit = self._sampler.replacement(rng)
        code, reason = next(iter(self._crops.skipped.values()), ("no_window", "labels too long"))
        message = (
            f"{_TRIES} recordings in a row could not be heard, {len(self._crops.skipped)} so far "
            f"(the first: {code}: {reason})"
        )
        raise StoreError(message, remedy="see that the audio files are where they were ingested")

    def _altered(self, step: int, batch: Batch) -> Batch:
        generator = torch.Generator().manual_seed(self._sampler.augment_seed(step))
        sounds, targets = augment_sounds(batch.inputs, batch.targets, self._config, generator)
        inputs = self._front(sounds)
        if inputs.ndim == 4:  # noqa: PLR2004 - pictures have four dimensions
            inputs = augment_pictures(inputs, self._config, generator)
        return Batch(inputs, targets, batch.recordings)


class GridBatches:
    """Every window of some recordings, in order: what a validation hears.

    Args:
        crops: sound.
        data: the training set.
        indices: positions of the recordings.
        size: most windows in a batch.
        front: from sounds to inputs.
        device: `cpu` or `cuda`.
    """

    def __init__(
        self,
        crops: CropSource,
        data: TrainingSet,
        *,
        indices: np.ndarray,
        size: int,
        front: FrontEnd,
        device: str,
    ) -> None:
        self._crops = crops
        self._data = data
        self._indices = indices
        self._size = size
        self._front = front
        self._device = device

    def stream(self, pool: Executor) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        """Inputs on the device and labels, int8 `[window, class]`, recording by recording."""
        heard = ahead((partial(self._sound, int(i)) for i in self._indices), pool, _DEPTH)
        pieces = (
            partial(self._piece, index, sound, first)
            for index, sound in heard
            if sound is not None
            for first in range(0, sound.n_windows, self._size)
        )
        for sounds, truth in ahead(pieces, pool, _DEPTH):
            if self._device == "cpu":
                yield sounds, truth
            else:
                yield self._front(sounds.to(self._device, non_blocking=True)), truth

    def _sound(self, index: int) -> tuple[int, Sound | None]:
        try:
            return index, self._crops.sound(index)
        except SkipRecording:
            return index, None

    def _piece(self, index: int, sound: Sound, first: int) -> tuple[torch.Tensor, np.ndarray]:
        end = min(first + self._size, sound.n_windows)
        sounds = torch.from_numpy(np.stack([sound.window(w) for w in range(first, end)]))
        truth = self._data.truth(index, sound.n_windows)[first:end]
        if self._device == "cpu":
            return self._front(sounds), truth
        return sounds.pin_memory(), truth


def _moved(batch: Batch, device: str) -> Batch:
    inputs = batch.inputs.to(device, non_blocking=True)
    return Batch(inputs, batch.targets.to(device, non_blocking=True), batch.recordings)
