"""What an ONNX model is given to hear: samples or a picture, held to the file's shapes."""

from __future__ import annotations

from birdstack.embeddings.backbone import NetworkInput
from birdstack.embeddings.backbone_config import BackboneConfig
from birdstack.embeddings.onnx_model import OnnxModel
from birdstack.embeddings.onnx_roles import shown
from birdstack.embeddings.pieces import piece_starts
from birdstack.embeddings.wave_input import WaveInput
from birdstack.store.errors import ConfigError

_WAVE, _PICTURE = 2, 4  # dimensions, with the batch


def input_of(
    model: OnnxModel, config: BackboneConfig, window_s: float
) -> tuple[NetworkInput, tuple[int, ...]]:
    """The input that fits a model, and the first samples of the pieces it hears.

    Raises:
        ConfigError: the model takes neither samples nor a picture, or not those of a window.
    """
    n_dims = len(model.input_dims)
    if n_dims == _WAVE:
        return _wave(model, config, window_s)
    if n_dims == _PICTURE:
        return _picture(model, config, window_s), (0,)
    message = (
        f"{model}: input {model.input_name!r} is {shown(model.input_dims)}, expected samples "
        f"[batch, sample] or a picture [batch, 1, height, width]"
    )
    raise ConfigError(message, remedy="export the network with one of these inputs")


def _wave(
    model: OnnxModel, config: BackboneConfig, window_s: float
) -> tuple[NetworkInput, tuple[int, ...]]:
    rate_hz = config.sample_rate_hz or config.mel.sample_rate_hz
    n_samples = round(window_s * rate_hz)
    n_taken = model.input_dims[1] or n_samples
    if n_taken > n_samples or (config.sample_rate_hz is None and n_taken != n_samples):
        message = (
            f"{model}: it takes {n_taken} samples, a window of {window_s:g} s at {rate_hz} Hz "
            f"holds {n_samples}"
        )
        remedy = "state the model's own rate as sample_rate_hz, or make windows at least as long"
        raise ConfigError(message, remedy=remedy)
    return WaveInput(rate_hz, window_s), piece_starts(n_samples, n_taken)


def _picture(model: OnnxModel, config: BackboneConfig, window_s: float) -> NetworkInput:
    # drags the fused pass and its compiler: only for those who draw
    from birdstack.embeddings.mel_input import MelInput  # noqa: PLC0415

    drawn = MelInput(config.mel, window_s)
    pairs = zip(model.input_dims[1:], drawn.shape, strict=True)
    if any(size not in (None, ours) for size, ours in pairs):
        message = (
            f"{model}: it takes pictures {shown(model.input_dims[1:])}, the configuration draws "
            f"{shown(drawn.shape)} from a window of {window_s:g} s"
        )
        raise ConfigError(message, remedy="set mel.height and mel.width to the model's sizes")
    return drawn
