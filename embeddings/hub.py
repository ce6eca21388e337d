"""Whether timm's model hub can be reached, before a download that would retry for a minute."""

from __future__ import annotations

import socket
import urllib.parse
import urllib.request
from typing import Any

from birdstack.store.errors import ConfigError

_FILES = ("model.safetensors", "pytorch_model.bin")
_REMEDY = "Connect to the internet once, or set weights to packaged, random or a checkpoint."


def require_hub(model: str, pretrained: Any) -> None:
    """Refuse weights that are neither in the local cache nor within reach.

    Args:
        model: timm's name, for the message.
        pretrained: timm's description of the weights.

    Raises:
        ConfigError: the hub's name does not resolve, and the weights are not in the cache.
    """
    import huggingface_hub  # noqa: PLC0415 - comes with timm; a tenth of a second

    repository = pretrained.hf_hub_id
    if not repository or urllib.request.getproxies():
        return  # an address of its own, or somebody else resolves names: the download will tell
    if any(huggingface_hub.try_to_load_from_cache(repository, file) for file in _FILES):
        return
    endpoint = huggingface_hub.constants.ENDPOINT
    host = urllib.parse.urlsplit(endpoint).hostname
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        raise no_weights(model, f"{host} cannot be reached ({error})") from error


def no_weights(model: str, why: str) -> ConfigError:
    """The error for weights that cannot be fetched."""
    message = f"weights 'hub': timm's weights of {model!r} cannot be had: {why}"
    return ConfigError(message, remedy=_REMEDY)
