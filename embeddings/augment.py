"""Augmentations: altered sounds and pictures, with the labels that they then have.

Sounds are `[window, sample]`, pictures `[window, 1, height, width]`, targets `[window,
class]` as in `losses`. Every function returns new tensors where it changes something. What
is changed is drawn on the processor from the generator that is handed in, so that a draw is
the same on every device (the samples of noise are not).

Imports torch: imported by training alone.
"""

from __future__ import annotations

import torch

from birdstack.embeddings.train_config import TrainConfig

_STILL = 1e-12  # mean power of a window that counts as silence
_MIX = (0.3, 0.7)
_COLOURS = (0.0, 2.0)  # exponent of 1/f: white to brown


def augment_sounds(
    sounds: torch.Tensor, targets: torch.Tensor, config: TrainConfig, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Everything that is done to sounds, in the order of the physics: source, air, recorder."""
    if config.flip_p:
        sounds = flip(sounds, config.flip_p, generator)
    if config.shift_p:
        sounds = shift(sounds, config.shift_p, generator)
    if config.cutmix_p:
        sounds, targets = cutmix(sounds, targets, config.cutmix_p, generator)
    if config.mixup_p:
        sounds, targets = mixup(sounds, targets, config.mixup_p, generator)
    if config.noise_p:
        snr_db = (config.noise_snr_db_min, config.noise_snr_db_max)
        sounds = noise(sounds, config.noise_p, snr_db, generator)
    if config.gain_p:
        sounds = gain(sounds, config.gain_p, config.gain_db, generator)
    return sounds, targets


def augment_pictures(
    pictures: torch.Tensor, config: TrainConfig, generator: torch.Generator
) -> torch.Tensor:
    """Everything that is done to pictures: masks of time and of frequency."""
    if config.time_mask_p:
        pictures = mask(pictures, config.time_mask_p, config.time_mask_max, 3, generator)
    if config.frequency_mask_p:
        pictures = mask(pictures, config.frequency_mask_p, config.frequency_mask_max, 2, generator)
    return pictures


def flip(sounds: torch.Tensor, chance: float, generator: torch.Generator) -> torch.Tensor:
    """Play some windows backwards."""
    chosen = _chosen(sounds, chance, generator)
    return torch.where(chosen[:, None], sounds.flip(1), sounds)


def shift(sounds: torch.Tensor, chance: float, generator: torch.Generator) -> torch.Tensor:
    """Shift some windows in time, by any number of samples; what leaves comes in behind."""
    chosen = _chosen(sounds, chance, generator)
    length = sounds.shape[1]
    by = torch.randint(0, length, (len(sounds),), generator=generator)
    shifted = sounds.clone()
    for row in chosen.nonzero()[:, 0].tolist():
        shifted[row] = sounds[row].roll(int(by[row]))
    return shifted


def gain(
    sounds: torch.Tensor, chance: float, most_db: float, generator: torch.Generator
) -> torch.Tensor:
    """Make some windows louder or softer, by up to `most_db` either way."""
    chosen = _chosen(sounds, chance, generator)
    by_db = _uniform(len(sounds), -most_db, most_db, generator).to(sounds.device)
    return sounds * torch.where(chosen, 10 ** (by_db / 20), 1.0)[:, None]


def noise(
    sounds: torch.Tensor,
    chance: float,
    snr_db: tuple[float, float],
    generator: torch.Generator,
) -> torch.Tensor:
    """Add coloured noise to some windows, at a signal-to-noise ratio drawn in dB.

    The ratio is of mean powers over the window, whatever is signal in it. A silent window
    stays silent. The power of the noise falls as 1/f^e, e between 0 (white) and 2 (brown).
    """
    chosen = _chosen(sounds, chance, generator)
    ratio_db = _uniform(len(sounds), *snr_db, generator).to(sounds.device)
    colour = _uniform(len(sounds), *_COLOURS, generator).to(sounds.device)
    seed = int(torch.randint(0, 2**62, (1,), generator=generator))
    rows = chosen.nonzero()[:, 0]
    if not len(rows):
        return sounds
    drawn = _coloured(sounds[rows], colour[rows], seed)
    wanted = sounds[rows].square().mean(dim=1) * 10 ** (-ratio_db[rows] / 10)
    scale = (wanted / drawn.square().mean(dim=1)).sqrt()
    scale = torch.where(wanted > _STILL, scale, 0.0)
    return sounds.index_add(0, rows, drawn * scale[:, None])


def mixup(
    sounds: torch.Tensor, targets: torch.Tensor, chance: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add another window of the batch to some; what is present in either is present.

    The sum holds between 30 and 70 % of each (Zhang et al. 2018, "mixup", with labels of the
    sum of two sounds, in which both are heard). A class that is not known in one and not
    fully present in the other is not known.
    """
    chosen = _chosen(sounds, chance, generator)
    other = torch.randperm(len(sounds), generator=generator).to(sounds.device)
    share = _uniform(len(sounds), *_MIX, generator).to(sounds.device)
    mixed = share[:, None] * sounds + (1 - share[:, None]) * sounds[other]
    either = torch.maximum(targets, targets[other])
    unknown = (targets < 0) | (targets[other] < 0)
    either = torch.where(unknown & (either < 1), -1.0, either)
    pick = chosen[:, None]
    return torch.where(pick, mixed, sounds), torch.where(pick, either, targets)


def cutmix(
    sounds: torch.Tensor, targets: torch.Tensor, chance: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take a stretch of some windows from another of the batch, at the same place.

    Targets are mixed in proportion to time; a class that is not known in one of the two is
    not known. In a picture this replaces whole columns. Source: Yun et al. 2019, "CutMix",
    in time alone.
    """
    chosen = _chosen(sounds, chance, generator)
    length = sounds.shape[1]
    other = torch.randperm(len(sounds), generator=generator).to(sounds.device)
    share = torch.rand(len(sounds), generator=generator)
    start = (torch.rand(len(sounds), generator=generator) * (1 - share)).to(sounds.device)
    share = share.to(sounds.device)
    first, end = (start * length).round(), ((start + share) * length).round()
    place = torch.arange(length, device=sounds.device)[None]
    taken = (place >= first[:, None]) & (place < end[:, None]) & chosen[:, None]
    part = ((end - first) / length * chosen)[:, None]
    mixed = (1 - part) * targets + part * targets[other]
    unknown = (targets < 0) | ((targets[other] < 0) & (part > 0))
    return torch.where(taken, sounds[other], sounds), torch.where(unknown, -1.0, mixed)


def mask(
    pictures: torch.Tensor, chance: float, most: float, axis: int, generator: torch.Generator
) -> torch.Tensor:
    """Replace a stretch of some pictures with their mean (SpecAugment, Park et al. 2019).

    Args:
        pictures: `[window, 1, height, width]`.
        chance: of each picture.
        most: longest stretch, as a share of the side; lengths are drawn evenly from one
            row or column up, and places evenly among all.
        axis: 3 masks time, 2 frequency.
        generator: of the draws.
    """
    chosen = _chosen(pictures, chance, generator)
    side = pictures.shape[axis]
    longest = max(1, round(most * side))
    length = torch.randint(1, longest + 1, (len(pictures),), generator=generator)
    room = (side - length + 1).float()
    first = (torch.rand(len(pictures), generator=generator) * room).floor().long()
    place = torch.arange(side)[None]
    masked = (place >= first[:, None]) & (place < (first + length)[:, None])
    masked = masked.to(pictures.device) & chosen[:, None]
    shape = [len(pictures), 1, 1, 1]
    shape[axis] = side
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    return torch.where(masked.reshape(shape), mean, pictures)


def _coloured(like: torch.Tensor, colour: torch.Tensor, seed: int) -> torch.Tensor:
    """Noise `[window, sample]` whose power falls as 1/f^colour, colour being `[window]`."""
    own = torch.Generator(device=like.device).manual_seed(seed)
    white = torch.randn(like.shape, generator=own, device=like.device)
    spectrum = torch.fft.rfft(white)
    frequency = torch.arange(spectrum.shape[1], device=like.device).clamp(min=1).float()
    fall = torch.exp(-0.5 * colour[:, None] * frequency.log()[None])
    fall[:, 0] = 0  # no offset
    return torch.as_tensor(torch.fft.irfft(spectrum * fall, n=like.shape[1]))


def _chosen(like: torch.Tensor, chance: float, generator: torch.Generator) -> torch.Tensor:
    """Which rows are altered, `[window]`."""
    return (torch.rand(len(like), generator=generator) < chance).to(like.device)


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)
