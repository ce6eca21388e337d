"""Every feature with a kernel: importing this module registers them all."""

from birdstack.features import fused_indices, fused_scene, fused_spectral
from birdstack.features.fused_feature import FUSED, FusedFeature

__all__ = ["FUSED", "FusedFeature", "fused_indices", "fused_scene", "fused_spectral"]
