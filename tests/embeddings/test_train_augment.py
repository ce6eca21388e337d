"""Each augmentation does what it says, and nothing at chance 0."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from birdstack.embeddings import augment  # noqa: E402 - torch may be absent
from birdstack.embeddings.train_config import TrainConfig  # noqa: E402 - torch may be absent

EVERYTHING_OFF = dict.fromkeys([n for n in TrainConfig.model_fields if n.endswith("_p")], 0.0)


def _generator(seed: int = 0):
    return torch.Generator().manual_seed(seed)


def _sounds(rows: int = 8, length: int = 4000):
    return torch.randn(rows, length, generator=_generator(99))


def _targets(rows: int = 8, classes: int = 6):
    return torch.randint(-1, 2, (rows, classes), generator=_generator(98)).float()


def test_nothing_is_changed_where_everything_is_off() -> None:
    """With every chance 0, sounds, pictures and labels come back as they are."""
    config = TrainConfig(**EVERYTHING_OFF)
    sounds, targets = augment.augment_sounds(_sounds(), _targets(), config, _generator())
    pictures = torch.randn(4, 1, 16, 24, generator=_generator())
    assert torch.equal(sounds, _sounds())
    assert torch.equal(targets, _targets())
    assert torch.equal(augment.augment_pictures(pictures, config, _generator()), pictures)


@pytest.mark.parametrize(
    "change",
    [
        lambda s, g: augment.flip(s, 0.0, g),
        lambda s, g: augment.shift(s, 0.0, g),
        lambda s, g: augment.gain(s, 0.0, 6.0, g),
        lambda s, g: augment.noise(s, 0.0, (0, 10), g),
        lambda s, g: augment.mixup(s, _targets(), 0.0, g)[0],
        lambda s, g: augment.cutmix(s, _targets(), 0.0, g)[0],
        lambda s, g: augment.mask(s.reshape(8, 1, 40, 100), 0.0, 0.5, 3, g).reshape(8, 4000),
    ],
    ids=["flip", "shift", "gain", "noise", "mixup", "cutmix", "mask"],
)
def test_chance_zero_is_the_identity(change) -> None:
    """Each function alone changes nothing at chance 0, whatever it draws."""
    for seed in range(20):
        assert torch.equal(change(_sounds(), _generator(seed)), _sounds())


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 3.0, 25.0])
def test_noise_has_the_ratio_that_was_asked_for(snr_db: float) -> None:
    """The ratio of mean powers is within .1 dB of the wanted one."""
    sounds = _sounds() * torch.logspace(-3, 0, 8)[:, None]
    added = augment.noise(sounds, 1.0, (snr_db, snr_db), _generator()) - sounds
    found = 10 * torch.log10(sounds.square().mean(dim=1) / added.square().mean(dim=1))
    assert (found - snr_db).abs().max() < 0.1


def test_noise_leaves_silence_silent_and_has_colours() -> None:
    """Silence has no ratio; noise in other windows falls off towards high frequencies."""
    sounds = _sounds(64)
    sounds[3] = 0
    added = augment.noise(sounds, 1.0, (0, 0), _generator()) - sounds
    assert (added[3] == 0).all()
    power = torch.fft.rfft(torch.cat([added[:3], added[4:]])).abs().square()
    tilt_db = 10 * torch.log10(power[:, 10:100].mean(dim=1) / power[:, 1000:1900].mean(dim=1))
    assert tilt_db.min() < 3
    assert tilt_db.max() > 20


def test_shift_is_circular() -> None:
    """A shifted window holds the same samples, in the same circle."""
    sounds = torch.arange(100.0).repeat(50, 1)
    shifted = augment.shift(sounds, 1.0, _generator())
    starts = shifted[:, 0].long()
    assert torch.equal(shifted, (starts[:, None] + torch.arange(100)).remainder(100).float())
    assert len(set(starts.tolist())) > 30


def test_gain_stays_in_its_range() -> None:
    """Levels change by up to the given dB, either way."""
    sounds = torch.ones(500, 4)
    by_db = 20 * torch.log10(augment.gain(sounds, 1.0, 6.0, _generator())[:, 0])
    assert -6.001 < by_db.min() < -5.5
    assert 5.5 < by_db.max() < 6.001


def test_mixup_labels_are_the_maximum() -> None:
    """Present in either is present; absent in both is absent; otherwise not known."""
    one_hot = torch.eye(8)  # tells which other window was added
    targets = _targets()
    seen = set()
    for seed in range(10):
        mixed, labels = augment.mixup(one_hot, targets, 1.0, _generator(seed))
        for row in range(8):
            own, other = row, next((i for i in range(8) if i != row and mixed[row, i] > 0), row)
            assert mixed[row, own] == 1 or 0.3 <= mixed[row, own] <= 0.7
            for found, a, b in zip(labels[row], targets[own], targets[other], strict=True):
                seen.add((a.item(), b.item()))
                expected = 1.0 if 1 in (a, b) else min(a.item(), b.item())
                assert found == expected
    assert len(seen) == 9


def test_cutmix_labels_are_in_proportion_to_time() -> None:
    """The share of samples from the other window is its share of the target."""
    sounds = torch.arange(8.0)[:, None].repeat(1, 1000)
    targets = torch.eye(8)
    shares = []
    for seed in range(10):
        mixed, labels = augment.cutmix(sounds, targets, 1.0, _generator(seed))
        heard = torch.stack([(mixed == source).float().mean(dim=1) for source in range(8)], dim=1)
        assert torch.allclose(heard, labels, atol=1e-6)
        edges = (mixed.diff(dim=1) != 0).sum(dim=1)
        assert edges.max() <= 2  # one stretch
        shares += (1 - heard[torch.arange(8), torch.arange(8)]).tolist()
    assert max(shares) > 0.8


def test_cutmix_does_not_guess() -> None:
    """A class that is not known in one of the two is not known."""
    targets = torch.full((8, 3), -1.0)
    targets[::2] = torch.tensor([1.0, 0.0, 1.0])
    sounds = torch.arange(8.0)[:, None].repeat(1, 1000)
    mixed, labels = augment.cutmix(sounds, targets, 1.0, _generator(3))
    for row in range(8):
        sources = {int(s) for s in mixed[row].unique()} | {row}
        unknown = any(targets[s, 0] == -1 for s in sources)
        assert bool((labels[row] == -1).all()) == unknown


@pytest.mark.parametrize(("axis", "side"), [(2, 16), (3, 24)])
def test_masks_reach_every_place(axis: int, side: int) -> None:
    """Over draws a mask covers the whole range, from one to the most, and one stretch each."""
    pictures = torch.randn(400, 1, 16, 24, generator=_generator(5))
    masked = augment.mask(pictures, 1.0, 0.25, axis, _generator())
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    hidden = (masked != pictures).all(dim=5 - axis)[:, 0]
    assert torch.equal(masked[masked != pictures], mean.expand_as(masked)[masked != pictures])
    assert hidden.any(dim=0).all()
    assert set(hidden.sum(dim=1).tolist()) == set(range(1, side // 4 + 1))
    assert ((hidden.int().diff(dim=1) == 1).sum(dim=1) <= 1).all()


def test_flip_plays_backwards() -> None:
    """At chance 1 every window is reversed."""
    assert torch.equal(augment.flip(_sounds(), 1.0, _generator()), _sounds().flip(1))


def test_the_same_generator_gives_the_same_draw() -> None:
    """With everything on, two runs of one seed are equal and another seed is not."""
    config = TrainConfig(**dict.fromkeys(EVERYTHING_OFF, 0.7))
    runs = [
        augment.augment_sounds(_sounds(), _targets(), config, _generator(seed))[0]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
