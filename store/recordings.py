"""A recording as the extractors see it: sound, place and time, and never a label."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Recording:
    """One audio file of a dataset.

    Labels are deliberately absent: they live in `birdstack.store.labels`, which the
    features room may not import.

    Attributes:
        recording_id: path below the dataset's root with `/` separators, e.g.
            `train_audio/asbfly/XC134896.ogg`; unique in a store.
        path: where the file lies now.
        content_hash: sha256 of the file's bytes, hexadecimal.
        n_bytes: size of the file.
        duration_s: length that the header declares; None where it was not probed.
        latitude: degrees north, None if unknown.
        longitude: degrees east, None if unknown.
        elevation_m: metres above sea level, None if unknown.
        site: name of the recorder or site, None if unknown.
        date: day of the recording, None if unknown.
        time: start of the recording, local as its recorder wrote it, None if unknown.
    """

    recording_id: str
    path: Path
    content_hash: str
    n_bytes: int = 0
    duration_s: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    elevation_m: float | None = None
    site: str | None = None
    date: dt.date | None = None
    time: dt.time | None = None

    @property
    def content_key(self) -> str:
        """The first half of the hash: views are keyed by it, and 128 bits do not collide."""
        return self.content_hash[:32]


@dataclass(frozen=True, slots=True)
class AudioHeader:
    """What an audio file says of itself before it is decoded.

    Attributes:
        sample_rate_hz: declared rate.
        channels: declared number of channels.
        duration_s: declared length; the decoded length may differ in a damaged file.
        format: container and coding, e.g. `OGG/VORBIS`.
    """

    sample_rate_hz: int
    channels: int
    duration_s: float
    format: str


Probe = Callable[[Path], AudioHeader]
"""Reads a header; raises `SkipRecording`. Handed in, since only features may decode."""
