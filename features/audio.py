"""Hearing a recording: guarded decode, mono mix, resampling, windows.

The sound of a recording is decoded once, in a process that may hang or crash without
harm, and then shared by every extractor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from birdstack.features import decoding_ffmpeg
from birdstack.features.decoder_client import DECODER_COMMAND
from birdstack.features.decoder_pool import DecoderPool, decode_here
from birdstack.features.decoder_wire import Decoder, DecodeRequest, Samples
from birdstack.store.errors import SkipRecording
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording

AUDIO_VERSION = 1
"""Raised when the same file and configuration give other samples than before."""


class AudioConfig(BaseModel):
    """How recordings are decoded, and what is refused.

    Attributes:
        sample_rate_hz: rate of the decoded sound.
        max_duration_s: longest recording, declared or decoded; 24 hours.
        max_file_bytes: largest file; 8 GiB.
        max_sound_bytes: largest decoded sound in memory, as mono float32 at
            `sample_rate_hz`; 4 GiB are 9.3 hours at 32 kHz.
        max_channels: most channels of a file.
        max_broken_share: largest share of NaN, infinite or absurd samples that is set to 0
            and noted; above it the recording is skipped.
        decode_timeout_s: seconds that a file may take on top of what its size and declared
            length need.
        min_decode_speed: seconds of sound that a second of decoding must yield; a declared
            length adds `duration / min_decode_speed` to the deadline.
        decoder: `ffmpeg` (extra `ffmpeg`) takes a third less time for OGG Vorbis of one or two
            channels, and gives the samples of `soundfile` within 1e-6; files with a flaw and all
            other formats are decoded by `soundfile` either way.
        isolate: decode in a child process; False decodes in the caller's process, without
            deadlines and without protection from crashes (for debugging).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_rate_hz: int = Field(default=32_000, ge=1_000, le=384_000)
    max_duration_s: float = Field(default=86_400.0, gt=0, le=31 * 86_400)
    max_file_bytes: int = Field(default=8 << 30, ge=1)
    max_sound_bytes: int = Field(default=4 << 30, ge=1)
    max_channels: int = Field(default=16, ge=1, le=1024)
    max_broken_share: float = Field(default=0.01, ge=0, le=1)
    decode_timeout_s: float = Field(default=60.0, gt=0, le=86_400)
    min_decode_speed: float = Field(default=10.0, gt=0)
    decoder: Decoder = "soundfile"
    isolate: bool = True

    def request(self, path: str, *, content_hash: str, header_only: bool) -> DecodeRequest:
        """The request for one file under these limits."""
        return DecodeRequest(
            path=path,
            sample_rate_hz=self.sample_rate_hz,
            content_hash=content_hash,
            header_only=header_only,
            max_duration_s=self.max_duration_s,
            max_file_bytes=self.max_file_bytes,
            max_sound_bytes=self.max_sound_bytes,
            max_channels=self.max_channels,
            max_broken_share=self.max_broken_share,
            decoder=self.decoder,
        )


@dataclass(frozen=True)
class Sound:
    """A decoded recording, cut into windows by a grid.

    Attributes:
        samples: mono, `[sample]`, nominally in [-1, 1]. Shared by extractors: read only.
        sample_rate_hz: rate of `samples`.
        grid: how the recording is cut.
        notes: deviations found while decoding, such as `{"truncated": True}`.
    """

    samples: Samples = field(repr=False)
    sample_rate_hz: int
    grid: WindowGrid
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def n_windows(self) -> int:
        """Number of windows of the grid."""
        return self.grid.n_windows(len(self.samples), self.sample_rate_hz)

    @property
    def duration_s(self) -> float:
        """Decoded length in seconds."""
        return len(self.samples) / self.sample_rate_hz

    def window(self, index: int) -> Samples:
        """Samples of one window.

        Args:
            index: `0 <= index < n_windows`.

        Returns:
            `[sample]` of the grid's length: a view of `samples`, or for the last, partial
            window a copy with zeros behind the sound.

        Raises:
            IndexError: there is no such window.
        """
        if not 0 <= index < self.n_windows:
            message = f"window {index} of a recording with {self.n_windows} windows"
            raise IndexError(message)
        start = self.grid.start_sample(index, self.sample_rate_hz)
        length = self.grid.window_samples(self.sample_rate_hz)
        heard = self.samples[start : start + length]
        if len(heard) == length:
            return heard
        padded: Samples = np.zeros(length, dtype=np.float32)
        padded[: len(heard)] = heard
        return padded

    def windows(self) -> Iterator[Samples]:
        """Every window in order, each `[sample]`."""
        return (self.window(index) for index in range(self.n_windows))


class AudioSource:
    """Opens recordings as `Sound`; the `Source` of everything that hears.

    Several threads may call `open` at once: each decode runs in a process of its own, and
    the processes persist until `close`. A source can be pickled; the copy starts its own.

    Args:
        config: rate and limits.
        grid: how recordings are cut into windows.
        command: what to start as a decoder process (a seam for tests).

    Raises:
        ConfigError: the configured decoder is not installed.
    """

    def __init__(
        self,
        config: AudioConfig | None = None,
        grid: WindowGrid | None = None,
        *,
        command: Sequence[str] = DECODER_COMMAND,
    ) -> None:
        self.config = config or AudioConfig()
        if self.config.decoder == "ffmpeg":
            decoding_ffmpeg.require()
        self.grid = grid or WindowGrid()
        self._command = tuple(command)
        self.decoders = DecoderPool(
            self.config.decode_timeout_s, self.config.min_decode_speed, self._command
        )

    @property
    def recipe(self) -> dict[str, Any]:
        """What determines the samples of a recording; the window grid is recorded apart."""
        recipe = {
            "version": AUDIO_VERSION,
            "sample_rate_hz": self.config.sample_rate_hz,
            "mono": "mean",
            "resampler": "soxr_hq",
            "broken_samples": "zero",
        }
        # named only where it is not the default, which older recipes do not name
        named = {} if self.config.decoder == "soundfile" else {"decoder": self.config.decoder}
        return recipe | named

    def open(self, recording: Recording) -> Sound:
        """Decode one recording.

        Raises:
            SkipRecording: the recording cannot be used; `docs/reference/audio-faults.md`
                lists the codes.
            BirdstackError: no decoder process can be started, or the source was closed.
        """
        request = self.config.request(
            str(recording.path), content_hash=recording.content_hash, header_only=False
        )
        decoded = self.decoders.decode(request) if self.config.isolate else decode_here(request)
        sound = Sound(decoded.samples, self.config.sample_rate_hz, self.grid, decoded.notes)
        if sound.n_windows == 0:
            needed_s = self.grid.window_s * self.grid.min_real_fraction
            code = "too_short"
            reason = (
                f"{sound.duration_s:.3f} s of sound, one window needs {needed_s:g} s "
                f"(window_s={self.grid.window_s:g}, "
                f"min_real_fraction={self.grid.min_real_fraction:g})"
            )
            raise SkipRecording(code, reason)
        return sound

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

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config, "grid": self.grid, "command": self._command}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["config"], state["grid"], command=state["command"])  # type: ignore[misc]
