"""Small JSON files that carry the sha256 of their own content.

A store's marker, recipes and pins are read long after they were written; one changed digit
in them would move every window or name another snapshot without any other sign.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from birdstack.store.views import canonical_json


def seal(body: Mapping[str, Any]) -> bytes:
    """JSON text of `body` and the digest of its canonical form."""
    return json.dumps({**body, "sha256": _digest(body)}, indent=1).encode() + b"\n"


def unseal(data: bytes) -> dict[str, Any]:
    """Back from `seal`.

    Raises:
        ValueError: it is not what was written.
    """
    body = json.loads(data)
    if not isinstance(body, dict):
        message = f"it holds a {type(body).__name__} instead of an object"
        raise ValueError(message)  # noqa: TRY004 - damaged bytes, not a caller's wrong type
    digest = body.pop("sha256", None)
    if digest != _digest(body):
        message = "its sha256 does not match"
        raise ValueError(message)
    return body


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(dict(body)).encode()).hexdigest()
