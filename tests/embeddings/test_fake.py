"""The fake backbone is a backbone, and one that a head can learn from."""

from __future__ import annotations

import numpy as np
import pytest
from contracts.backbone_contract import BackboneContract
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from birdstack.embeddings.backbone import hear
from birdstack.embeddings.fake import FakeBackbone
from birdstack.store.errors import ConfigError

RATE_HZ = 32_000


class TestFakeContract(BackboneContract):
    """With classes."""

    @pytest.fixture
    def backbone(self) -> FakeBackbone:
        return FakeBackbone(classes=("blackbird", "wren", "robin"))

    @pytest.fixture
    def again(self) -> FakeBackbone:
        return FakeBackbone(classes=("blackbird", "wren", "robin"))

    @pytest.fixture
    def changed(self) -> dict[str, FakeBackbone]:
        return {
            "seed": FakeBackbone(classes=("blackbird", "wren", "robin"), seed=1),
            "classes": FakeBackbone(classes=("blackbird", "robin", "wren")),
            "dim": FakeBackbone(classes=("blackbird", "wren", "robin"), dim=16),
            "input": FakeBackbone(classes=("blackbird", "wren", "robin"), window_s=2.0),
        }


class TestFakeWithoutClasses(BackboneContract):
    """A trunk alone, at another rate and length of window."""

    window_s = 3.0

    @pytest.fixture
    def backbone(self) -> FakeBackbone:
        return FakeBackbone(window_s=3.0, sample_rate_hz=48_000, dim=7)

    @pytest.fixture
    def again(self) -> FakeBackbone:
        return FakeBackbone(window_s=3.0, sample_rate_hz=48_000, dim=7)

    @pytest.fixture
    def changed(self) -> dict[str, FakeBackbone]:
        return {"classes": FakeBackbone(window_s=3.0, sample_rate_hz=48_000, dim=7, classes=("a",))}


def _clip(pitch_hz: float, rng: np.random.Generator) -> np.ndarray:
    time_s = np.arange(RATE_HZ) / RATE_HZ
    level = 10 ** rng.uniform(-2, -0.5)
    song = level * np.sin(2 * np.pi * (pitch_hz + rng.normal(0, 300)) * time_s)
    return (song + 0.01 * rng.normal(size=RATE_HZ)).astype(np.float32)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_linear_head_learns_pitch(seed: int) -> None:
    """Whistles of three pitches: held-out AUC above .95; with shuffled labels, chance."""
    rng = np.random.default_rng(seed)
    labels = np.arange(240) % 3
    backbone = FakeBackbone(window_s=1.0, seed=seed)
    heard = hear(backbone, [_clip((3000, 6000, 9000)[label], rng) for label in labels])

    def auc(truth: np.ndarray) -> float:
        head = LogisticRegression(C=10, max_iter=2000).fit(heard.embeddings[:150], truth[:150])
        scores = head.predict_proba(heard.embeddings[150:])
        return float(roc_auc_score(truth[150:], scores, multi_class="ovr"))

    assert auc(labels) > 0.95
    assert auc(rng.permutation(labels)) < 0.75


def test_a_seed_is_a_network() -> None:
    """Other seeds give other numbers from the same input."""
    samples = [_clip(4000, np.random.default_rng(0))]
    one, other = (hear(FakeBackbone(window_s=1.0, seed=seed), samples) for seed in (0, 1))
    assert np.abs(one.embeddings - other.embeddings).max() > 0.1


def test_a_window_too_short_is_refused() -> None:
    """Less than one frame cannot be heard, and that is said when the backbone is made."""
    with pytest.raises(ConfigError, match="320 samples is shorter than one frame"):
        FakeBackbone(window_s=0.01)
