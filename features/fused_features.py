"""Every feature with a kernel: importing this module registers them all."""

from birdstack.features import fused_scene, fused_spectral
from birdstack.features.fused_feature import FUSED, FusedFeature

__all__ = ["FUSED", "FusedFeature", "fused_scene", "fused_spectral"]
