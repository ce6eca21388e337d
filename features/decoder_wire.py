"""What a decoder is asked, what it answers, and how both travel through a pipe.

Only the standard library and numpy: the parent process talks to decoders without
loading an audio library. A message is one kind byte, the length of its payload as eight
bytes, and the payload: JSON (`J`) or float32 samples in the machine's byte order (`S`). Samples
that lie in shared memory (`R`, see decoder_ring.py) do not follow.
"""

from __future__ import annotations

import dataclasses
import json
import os
import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Mono samples, `[sample]`."""

Decoder = Literal["soundfile", "ffmpeg"]

Event = dict[str, Any] | Samples
"""What a decoder yields, in this order.

- `{"event": "opened", "n_bytes": int}`: a regular file was opened; hashing comes next.
- `{"event": "header", ...}`: what the file declares (fields of `Declared`).
- blocks of samples, `[sample]`, at the requested rate.
- `{"event": "done", "notes": dict}`, or instead of any of them
  `{"event": "skip", "code": str, "reason": str}` (over a pipe; in-process it is raised).
"""

JSON, SAMPLES, SHARED = b"J", b"S", b"R"
HEADER = struct.Struct("=cQ")
MAX_JSON_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """One file to decode, with its limits.

    Attributes:
        path: the file; bytes that are not UTF-8 as surrogate escapes.
        sample_rate_hz: rate wanted.
        content_hash: sha256 that the bytes must have; empty to skip the check.
        header_only: answer with the declared header and stop.
        max_duration_s: longest sound, declared or decoded.
        max_file_bytes: largest file.
        max_sound_bytes: largest decoded sound, as mono float32 at `sample_rate_hz`.
        max_channels: most channels.
        max_broken_share: largest share of NaN, infinite or absurd samples that is repaired.
        decoder: what decodes Vorbis, as in `AudioConfig`.
    """

    path: str
    sample_rate_hz: int
    content_hash: str
    header_only: bool
    max_duration_s: float
    max_file_bytes: int
    max_sound_bytes: int
    max_channels: int
    max_broken_share: float
    decoder: Decoder = "soundfile"

    def to_json(self) -> bytes:
        """The request as JSON (ASCII, so surrogate escapes survive)."""
        return json.dumps(dataclasses.asdict(self)).encode("ascii")


def message_bytes(payload: bytes) -> bytes:
    """A JSON message ready to be written."""
    return HEADER.pack(JSON, len(payload)) + payload


def write_event(fd: int, event: Event) -> None:
    """Write one event to a pipe, blocking until all of it is taken."""
    if isinstance(event, dict):
        write_all(fd, message_bytes(json.dumps(event).encode("ascii")))
        return
    payload = event.data.cast("B")
    write_all(fd, HEADER.pack(SAMPLES, len(payload)))
    write_all(fd, payload)


def write_all(fd: int, payload: bytes | memoryview) -> None:
    """Write every byte of `payload` to a blocking file descriptor."""
    view = memoryview(payload)
    while view:
        view = view[os.write(fd, view) :]
