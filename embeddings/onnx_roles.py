"""Which output of an ONNX model is the embedding and which are the logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from birdstack.embeddings.onnx_model import Dims, OnnxModel
from birdstack.store.errors import ConfigError

ROLES = ("embedding", "logits")
_NAMES = {
    "embedding": ("embedding", "embeddings", "features"),
    "logits": ("logits", "logit", "label", "labels"),  # Perch 2 calls its logits `label`
}
_MATRIX = 2


@dataclass(frozen=True)
class Roles:
    """Names of outputs; None: the model has none, and none is needed."""

    embedding: str | None
    logits: str | None

    @property
    def names(self) -> list[str]:
        """Outputs to ask for, in the order embedding, logits."""
        return [name for name in (self.embedding, self.logits) if name is not None]


def find_roles(
    model: OnnxModel, named: Mapping[str, str], needed: tuple[str, ...], n_classes: int
) -> Roles:
    """Give each role an output.

    First what the configuration names; then outputs that go by a usual name (`embedding`,
    `embeddings`, `features`; `logits`, `logit`, `label`, `labels`; case does not count); then
    the output that has as many columns as there are classes, as logits; then the only
    matrix that is left, for the only needed role that is left.

    Args:
        model: the file's header.
        named: output name by role, from the configuration.
        needed: roles that must be found.
        n_classes: number of the network's own classes; 0: not known.

    Raises:
        ConfigError: a named output does not exist or a needed role stays open; names the
            outputs that there are.
    """
    for role, name in named.items():
        if role not in ROLES:
            message = f"outputs: {role!r} is no role, expected {' or '.join(ROLES)}"
            raise ConfigError(message, remedy="name the outputs `embedding` and `logits`")
        if name not in model.outputs:
            message = f"{model}: no output {name!r} ({role}); {_listed(model)}"
            raise ConfigError(message, remedy=f"name one of them as outputs.{role}")
    found = dict(named)
    for role in ROLES:
        usual = [name for name in _free(model, found) if name.lower() in _NAMES[role]]
        if role not in found and usual:
            found[role] = usual[0]
    if "logits" in needed and "logits" not in found and n_classes:
        fitting = [name for name in _free(model, found) if model.outputs[name][1] == n_classes]
        if len(fitting) == 1:
            found["logits"] = fitting[0]
    missing = [role for role in needed if role not in found]
    free = _free(model, found)
    if len(missing) == 1 and len(free) == 1:
        found[missing.pop()] = free[0]
    if missing:
        message = f"{model}: it is not clear which output is the {missing[0]}; {_listed(model)}"
        raise ConfigError(message, remedy=f"name it as outputs.{missing[0]}")
    return Roles(found.get("embedding"), found.get("logits"))


def _free(model: OnnxModel, found: Mapping[str, str]) -> list[str]:
    """Matrices `[batch, n]` that have no role yet."""
    taken = set(found.values())
    return [
        name for name, dims in model.outputs.items() if name not in taken and len(dims) == _MATRIX
    ]


def _listed(model: OnnxModel) -> str:
    outputs = (f"{name} {shown(dims)}" for name, dims in model.outputs.items())
    return f"its float outputs are {', '.join(outputs) or 'none'}"


def shown(dims: Dims) -> str:
    """Sizes for people: `[?, 1280]`."""
    return f"[{', '.join('?' if size is None else str(size) for size in dims)}]"
