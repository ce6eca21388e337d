"""Parity: close engines pass, far ones are refused with the figures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.small_networks import SHAPE, SmallNetwork, pictures

from birdstack.embeddings.engine import EngineError, make_engine
from birdstack.embeddings.parity import (
    LIMITS,
    ParityError,
    check_parity,
    checked_engine,
    compare,
    rank_agreement,
    read_parity,
    write_parity,
)
from birdstack.store.errors import ConfigError

N = 40


class Planted:
    """An engine that says something else than its network."""

    def __init__(self, network, name, spoil) -> None:
        self.name = name
        self._honest = make_engine(network, SHAPE, "torch")
        self._spoil = spoil

    def run(self, inputs):
        """Honest embeddings and logits, then spoilt."""
        return self._spoil(*self._honest.run(inputs))


@pytest.fixture(scope="module")
def network():
    """Embeddings and logits."""
    return SmallNetwork()


@pytest.fixture(scope="module")
def inputs():
    """Windows to compare on."""
    return pictures(N)


@pytest.mark.parametrize("kind", ["torch", "torch-jit", "openvino", "openvino-bf16"])
def test_real_engines_pass(network, inputs, kind, tmp_path) -> None:
    """And float32 ones by a hundredth of what is allowed."""
    engine, parity = checked_engine(network, SHAPE, kind, inputs, cache=tmp_path)
    assert engine.name == parity.engine == kind
    assert parity.passed
    assert parity.windows == N
    assert parity.judged == "logits"
    if kind != "openvino-bf16":
        assert parity.relative_dlogit < 1e-5
        assert parity.rank_agreement > 0.99999


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda embedding, logits: (embedding, logits[:, ::-1].copy()), "ranks of logits agree to"),
        (
            lambda embedding, logits: (
                embedding,
                logits + np.eye(len(logits), 5, dtype=np.float32),
            ),
            "logits differs by up to",
        ),
        (lambda embedding, logits: (embedding, logits * 1.01), "logits differs"),
        (lambda embedding, logits: (embedding[:, ::-1].copy(), logits), "embedding differs"),
        (
            lambda embedding, logits: (embedding, np.zeros_like(logits)),
            "ranks of logits agree to 0.0000",
        ),
    ],
)
def test_a_planted_engine_is_refused(network, inputs, spoil, told) -> None:
    """Swapped classes, one window off, a scale, another embedding, silence."""
    parity = check_parity(network, Planted(network, "openvino", spoil), inputs)
    assert not parity.passed
    with pytest.raises(ParityError, match=told) as caught:
        parity.require()
    assert "engine openvino" in caught.value.message
    assert "choose another engine" in caught.value.remedy


def test_one_wrong_size_of_batch_is_enough(network, inputs) -> None:
    """An engine that is wrong when it hears two windows at a time, and only then."""
    honest = make_engine(network, SHAPE, "torch")

    class Forgetful(type(honest)):
        def _run_batch(self, rows, outputs):
            super()._run_batch(rows, outputs)
            if len(rows) == 2:
                outputs[1][...] += 1

    engine = Forgetful(network, SHAPE, 8)
    engine._sizes = (8, 4, 2, 1)
    with pytest.raises(ParityError):
        check_parity(network, engine, inputs).require()


def test_labels_give_the_cost_in_auc(network, inputs) -> None:
    """A class turned upside down: the loss is that of its AUC, divided by the classes."""
    _, logits = make_engine(network, SHAPE, "torch").run(inputs)
    labels = (logits > np.median(logits, axis=0)).astype(int)

    def upside_down(embedding, logits):
        turned = logits.copy()
        turned[:, 0] *= -1
        return embedding, turned

    parity = check_parity(network, Planted(network, "openvino-int8", upside_down), inputs, labels)
    assert parity.auc == 1.0
    assert parity.auc_difference == pytest.approx(-1 / 5)
    with pytest.raises(ParityError, match=r"macro AUC differs by -0\.2000.*\(at most 0\.01\)"):
        parity.require()


def test_a_network_without_classes_is_judged_by_its_embedding(inputs) -> None:
    """No logits, no figures of logits."""
    network = SmallNetwork(0)
    parity = check_parity(network, make_engine(network, SHAPE, "torch-jit"), inputs)
    assert parity.passed
    assert parity.judged == "embedding"
    assert parity.max_abs_dlogit is None


def test_too_few_windows_prove_nothing(network) -> None:
    """The number is named."""
    with pytest.raises(ConfigError, match="engine torch: 3 windows"):
        check_parity(network, make_engine(network, SHAPE, "torch"), pictures(3))


def test_no_number_never_passes() -> None:
    """NaN is beyond every limit."""
    good = np.random.default_rng(0).normal(size=(20, 4))
    assert not compare("openvino", [good], [np.full_like(good, np.nan)]).passed


def test_ranks_are_those_of_scipy() -> None:
    """With ties; columns that do not vary in the reference are left out."""
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    first = rng.integers(0, 9, (50, 6)).astype(float)
    second = first + rng.normal(0, 2, first.shape)
    first[:, 3] = 1.0
    expected = [spearmanr(first[:, c], second[:, c]).statistic for c in (0, 1, 2, 4, 5)]
    assert rank_agreement(first, second) == pytest.approx(np.mean(expected), abs=1e-12)
    assert rank_agreement(first[:, 3:4], second[:, 3:4]) == 1.0


def test_figures_survive_the_file(network, inputs, tmp_path) -> None:
    """Written as JSON in one step, read back equal; other files are refused."""
    path = tmp_path / "model" / "parity.json"
    engines = [make_engine(network, SHAPE, kind) for kind in ("torch", "torch-jit")]
    parities = [check_parity(network, engine, inputs) for engine in engines]
    write_parity(path, parities[:1])
    write_parity(path, parities)
    assert list(read_parity(path)) == parities
    assert [entry["passed"] for entry in json.loads(path.read_text())] == [True, True]
    assert [file.name for file in path.parent.iterdir()] == ["parity.json"]
    for wrong in ("{", "[{}]", '[{"engine": "x"}]', "[3]"):
        path.write_text(wrong)
        with pytest.raises(EngineError, match="parit"):
            read_parity(path)


def test_every_kind_has_limits() -> None:
    """A kind without limits of its own would be held to the exact ones unnoticed."""
    from birdstack.embeddings.engine import KINDS

    assert set(LIMITS) == set(KINDS)
