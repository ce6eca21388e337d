"""From a torch network to an ONNX model with an open number of windows.

By torch's exporter on `torch.export` (`dynamo=True`), which took every family of networks
tried here (EfficientNet, ResNet, RegNet, ViT, NFNet, MobileNet, EfficientViT); the older one is
quicker, but deprecated and does not know every operator.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from birdstack.embeddings.engine_batches import OUTPUTS, cannot_convert, network_name, output_widths
from birdstack.embeddings.engine_torch import converting, on_cpu
from birdstack.embeddings.extras import need

if TYPE_CHECKING:
    from torch import nn

OPSET = 18
"""Version of the operators: the lowest that the exporter writes without converting."""

INPUT = "inputs"


def export_onnx(network: nn.Module, input_shape: tuple[int, ...]) -> bytes:
    """An ONNX model of a network: input `inputs`, outputs `embedding` and `logits`.

    Args:
        network: has `dim` and `n_classes`; left as it is.
        input_shape: of one window.

    Raises:
        ConfigError: the extra `onnx` is not installed.
        EngineError: the network cannot be exported.
    """
    torch = need("torch", "networks", "an export to ONNX")
    for package in ("onnx", "onnxscript"):
        need(package, "onnx", "an export to ONNX")
    # two windows: a batch of one would be taken for a constant
    example = (torch.zeros(2, *input_shape),)
    with _quiet():
        try:
            program = torch.onnx.export(
                on_cpu(network),
                example,
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=list(OUTPUTS[: len(output_widths(network))]),
                dynamic_shapes=({0: torch.export.Dim("window")},),
                external_data=False,
                verbose=False,
            )
            return bytes(program.model_proto.SerializeToString())
        except Exception as error:  # the exporter has many classes of its own
            raise cannot_convert(network_name(network), "onnx", error) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's talk: warnings of its own deprecated parts, progress, logs."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    with converting, warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(level)
