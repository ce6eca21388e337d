"""The one door to OpenVINO: imported without its telemetry, fed straight from torch."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from birdstack.embeddings.engine_batches import OUTPUTS, cannot_convert, network_name, output_widths
from birdstack.embeddings.engine_torch import on_cpu, tracing
from birdstack.embeddings.export import INPUT
from birdstack.embeddings.extras import need

if TYPE_CHECKING:
    from torch import nn

MODEL_FILE = "model.xml"
_TELEMETRY = "openvino_telemetry"

_door = threading.RLock()


def import_openvino() -> ModuleType:
    """Import OpenVINO; thread-safe.

    Raises:
        ConfigError: the extra `openvino` is not installed.
    """
    with without_telemetry():
        return need("openvino", "openvino", "the engine openvino")


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Import OpenVINO and its tools without the package that reports their use.

    On import they look for it, name the machine in a file of the home folder and send an event;
    where it cannot be imported, they do neither. None in `sys.modules` means: cannot.
    """
    with _door:
        hidden = _TELEMETRY not in sys.modules
        if hidden:
            sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            if hidden:
                del sys.modules[_TELEMETRY]


def convert_network(network: nn.Module, input_shape: tuple[int, ...], folder: Path) -> None:
    """Write a network as an OpenVINO model, float32, with an open number of windows.

    Args:
        network: has `dim` and `n_classes`; left as it is.
        input_shape: of one window.
        folder: gets `model.xml` and `model.bin`.

    Raises:
        EngineError: the network cannot be converted.
    """
    openvino: Any = import_openvino()
    torch: Any = need("torch", "networks", "the engine openvino")
    with without_telemetry():
        frontends = need("openvino.frontend", "openvino", "the engine openvino")
        decoders = need("openvino.frontend.pytorch.ts_decoder", "openvino", "the engine openvino")
    example = torch.zeros(2, *input_shape)
    with tracing():
        try:
            traced = decoders.TorchScriptPythonDecoder(on_cpu(network), example_input=(example,))
            frontend = frontends.FrontEndManager().load_by_framework("pytorch")
            model = frontend.convert(frontend.load(traced))
            model.reshape([-1, *input_shape])
            _name_ports(model, output_widths(network), openvino.PartialShape)
            openvino.save_model(model, folder / MODEL_FILE, compress_to_fp16=False)
        except Exception as error:  # its classes derive from RuntimeError or from nothing
            raise cannot_convert(network_name(network), "openvino", error) from error


def _name_ports(model: Any, widths: tuple[int, ...], partial_shape: Any) -> None:
    """Give inputs and outputs their names, and hold them against the network's word."""
    (port,) = model.inputs
    port.get_tensor().set_names({INPUT})
    for name, width, output in zip(OUTPUTS, widths, model.outputs, strict=False):
        output.get_tensor().set_names({name})
        shape = output.get_partial_shape()
        if not shape.compatible(partial_shape([-1, width])):
            message = f"its {name} has shape {shape}, {width} columns were announced"
            raise ValueError(message)
    if len(model.outputs) != len(widths):
        message = f"it gives {len(model.outputs)} outputs, {len(widths)} were announced"
        raise ValueError(message)
