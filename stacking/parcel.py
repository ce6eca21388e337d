"""Several texts and arrays as the bytes of one file, which tells when it is damaged. No pickles.

A plain zip archive: `index.json` holds some JSON and the SHA-256 of every other member; arrays
lie in it as `.npy`. The same contents give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from birdstack.store.errors import CorruptError

_INDEX, _ARRAY = "index.json", ".npy"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_LEVEL = 1
_TORN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    RuntimeError,  # a flipped bit can ask for a password, or for any method of packing
)


@dataclass(frozen=True)
class Parcel:
    """What is kept together.

    Attributes:
        index: JSON-able.
        texts: by name.
        arrays: by name, without objects.
    """

    index: Mapping[str, Any]
    texts: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


def packed(parcel: Parcel) -> bytes:
    """The bytes of a parcel."""
    members = {name: text.encode() for name, text in parcel.texts.items()}
    for name, values in parcel.arrays.items():
        held = io.BytesIO()
        np.save(held, values, allow_pickle=False)
        members[name + _ARRAY] = held.getvalue()
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    index = {"index": parcel.index, "sha256": digests}
    members[_INDEX] = json.dumps(index, allow_nan=False).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in sorted(members.items()):
            # Without a time of its own in it, the same work gives the same bytes.
            entry = zipfile.ZipInfo(name, _EPOCH)
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED, _LEVEL)
    return out.getvalue()


def unpacked(data: bytes, name: str) -> Parcel:
    """The parcel from its bytes.

    Args:
        data: as `packed` made them.
        name: of the file, for errors.

    Raises:
        CorruptError: these are not the bytes that were written.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        held = json.loads(members.pop(_INDEX))
        index, digests = held["index"], dict(held["sha256"])
    except _TORN as error:
        raise _damaged(name, "it is torn") from error
    found = {member: hashlib.sha256(bytes_).hexdigest() for member, bytes_ in members.items()}
    if found != digests:
        raise _damaged(name, "its bytes are not those that were written")
    return Parcel(
        index,
        {m: bytes_.decode() for m, bytes_ in members.items() if not m.endswith(_ARRAY)},
        {
            m.removesuffix(_ARRAY): np.load(io.BytesIO(bytes_), allow_pickle=False)
            for m, bytes_ in members.items()
            if m.endswith(_ARRAY)
        },
    )


def _damaged(name: str, why: str) -> CorruptError:
    message = f"{name}: {why}"
    return CorruptError(message, remedy="delete the file: it is made again")
