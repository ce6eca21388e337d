"""Losses with unknown labels: equal to the formulas, and blind to what is not known."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from birdstack.embeddings.losses import make_loss  # noqa: E402 - torch may be absent

NAMES = ("bce", "softmax", "focal")


def _drawn(seed: int = 0):
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(size=(6, 5)), requires_grad=True)
    targets = torch.tensor(rng.integers(0, 2, size=(6, 5)).astype(float))
    targets[:, 0] = 1.0
    return logits, targets


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_label_has_no_part(name: str) -> None:
    """Logits of unknown entries change neither loss nor gradient, and get no gradient."""
    logits, targets = _drawn()
    targets[1, 2] = targets[4, 1] = -1
    loss = make_loss(name, 0.1)(logits, targets)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[1, 2] == gradient[4, 1] == 0
    moved = logits.detach().clone()
    moved[1, 2], moved[4, 1] = 50.0, -50.0
    assert make_loss(name, 0.1)(moved, targets) == loss
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_rows_without_labels_give_a_loss_and_gradient_of_zero(name: str) -> None:
    """A batch of which nothing is known is no error."""
    logits, targets = _drawn()
    loss = make_loss(name)(logits, torch.full_like(targets, -1))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss == 0
    assert (gradient == 0).all()


def test_bce_is_the_formula() -> None:
    """The mean over known entries of -t log p - (1 - t) log(1 - p)."""
    logits, targets = _drawn()
    targets[0, 3] = -1
    p, t = torch.sigmoid(logits).detach().numpy(), targets.numpy()
    each = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    assert make_loss("bce")(logits, targets).item() == pytest.approx(each[t >= 0].mean())


def test_softmax_shares_the_target_among_the_present() -> None:
    """Equal to torch's cross entropy with soft targets where all is known."""
    logits, targets = _drawn()
    wanted = targets / targets.sum(dim=1, keepdim=True)
    expected = torch.nn.functional.cross_entropy(logits, wanted, label_smoothing=0.2)
    assert make_loss("softmax", 0.2)(logits, targets).item() == pytest.approx(expected.item())


def test_softmax_leaves_out_rows_without_a_bird() -> None:
    """A window in which all is absent has no target to share."""
    logits, targets = _drawn()
    targets[2] = 0
    kept = [0, 1, 3, 4, 5]
    expected = make_loss("softmax")(logits[kept], targets[kept])
    assert make_loss("softmax")(logits, targets).item() == pytest.approx(expected.item())


def test_focal_is_the_formula() -> None:
    """-alpha_t (1 - p_t)^2 log p_t of Lin et al., on hard targets."""
    logits, targets = _drawn()
    p, t = torch.sigmoid(logits).detach().numpy(), targets.numpy()
    p_t, alpha_t = np.where(t == 1, p, 1 - p), np.where(t == 1, 0.25, 0.75)
    expected = (-alpha_t * (1 - p_t) ** 2 * np.log(p_t)).mean()
    assert make_loss("focal")(logits, targets).item() == pytest.approx(expected)
