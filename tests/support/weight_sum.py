"""What a spawned worker does in a test: it must be importable there by name."""

from __future__ import annotations

from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.mel_config import MelConfig
from birdstack.embeddings.network import build_network


def weight_sum(seed: int) -> float:
    """A number of a network that a worker builds."""
    config = BackboneConfig(
        name="w", model="test_resnet", weights="random", seed=seed, mel=MelConfig(n_mels=32)
    )
    state = build_network(config, 3).state_dict()
    return float(sum(value.double().sum() for value in state.values()))
