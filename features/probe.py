"""Reading audio headers at ingestion, behind the same guards as decoding."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from birdstack.features.audio import AudioConfig
from birdstack.features.decoder_client import DECODER_COMMAND
from birdstack.features.decoder_pool import DecoderPool, decode_here
from birdstack.store.recordings import AudioHeader


class AudioProbe:
    """Reads headers through persistent decoder processes; a `store.recordings.Probe`.

    Several threads may call it at once. Close it, or use it as a context manager, to end
    its processes before the interpreter does.

    Args:
        config: limits; the sample rate plays no part but in `max_sound_bytes`.
        command: what to start as a decoder process (a seam for tests).
    """

    def __init__(
        self, config: AudioConfig | None = None, *, command: Sequence[str] = DECODER_COMMAND
    ) -> None:
        self.config = config or AudioConfig()
        self.decoders = DecoderPool(
            self.config.decode_timeout_s, self.config.min_decode_speed, command
        )

    def __call__(self, path: Path) -> AudioHeader:
        """Read the header of one file.

        The duration is what libsndfile declares: a damaged file may decode to less, and of
        a chained OGG file it is the first link. A length that the header leaves open (FLAC
        written to a pipe) is counted by decoding.

        Raises:
            SkipRecording: not a regular file, no audio libsndfile can open, or a header
                beyond the limits.
        """
        request = self.config.request(os.fspath(path), content_hash="", header_only=True)
        decoded = self.decoders.decode(request) if self.config.isolate else decode_here(request)
        header = decoded.header
        return AudioHeader(
            sample_rate_hz=header["sample_rate_hz"],
            channels=header["channels"],
            duration_s=header["duration_s"],
            format=header["format"],
        )

    def close(self) -> None:
        """End the decoder processes."""
        self.decoders.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def probe(path: Path) -> AudioHeader:
    """Read the header of one file with the default limits.

    The process behind it starts with the first call and lives as long as the interpreter.

    Raises:
        SkipRecording: the file cannot be used.
    """
    return _shared_probe()(path)


@functools.cache
def _shared_probe() -> AudioProbe:
    return AudioProbe()
