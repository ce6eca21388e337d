"""As many decoder processes as threads ask at once, replaced when one hangs or dies."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence

from birdstack.features.decoder_client import (
    DECODER_COMMAND,
    Decoded,
    DecoderClient,
    DecoderDiedError,
    DecoderLateError,
)
from birdstack.features.decoder_wire import DecodeRequest
from birdstack.features.sample_buffer import SampleBuffer
from birdstack.store.errors import BirdstackError, SkipRecording


class DecoderPool:
    """Decoder processes shared by threads. Processes start on demand and then persist.

    Args:
        timeout_s: seconds a decode may take on top of what size and declared length need.
        min_speed: seconds of sound that a second of decoding must yield at least.
        command: what to start as a decoder.
    """

    def __init__(
        self, timeout_s: float, min_speed: float, command: Sequence[str] = DECODER_COMMAND
    ) -> None:
        self._timeout_s = timeout_s
        self._min_speed = min_speed
        self._command = tuple(command)
        self._lock = threading.Lock()
        self._idle: list[DecoderClient] = []
        self._busy: set[DecoderClient] = set()
        self._closed = False
        self._owner = os.getpid()
        self._inherited: tuple[list[DecoderClient], set[DecoderClient]] | None = None
        # ends the processes when the pool is forgotten, and at interpreter exit
        self._finalizer = weakref.finalize(self, _end_all, self._idle, self._busy, self._owner)

    @property
    def pids(self) -> list[int]:
        """Process ids of the decoders that exist now."""
        with self._lock:
            return sorted(client.pid for client in [*self._idle, *self._busy])

    def decode(self, request: DecodeRequest) -> Decoded:
        """Decode one file in a process of the pool.

        Raises:
            SkipRecording: `decode_timeout`, `decoder_crashed`, or what the decoder found.
            BirdstackError: decoders cannot be started, or the pool was closed meanwhile.
        """
        for attempt in (1, 2):
            client = self._borrow()
            try:
                decoded = client.decode(request, self._timeout_s, self._min_speed)
            except SkipRecording:
                self._give_back(client)
                raise
            except DecoderLateError as late:
                self._discard(client)
                code = "decode_timeout"
                reason = (
                    f"decoding took longer than the {late.allowed_s:.1f} s that "
                    f"decode_timeout_s={self._timeout_s:g} and min_decode_speed="
                    f"{self._min_speed:g} allow"
                )
                raise SkipRecording(code, reason) from late
            except DecoderDiedError as died:
                self._discard(client)
                if self._closed:
                    raise _closed() from died
                if not died.heard and attempt == 1:
                    continue  # it was dead before it saw the file
                code, reason = "decoder_crashed", f"the decoder {died.cause} on this file"
                raise SkipRecording(code, reason) from died
            except MemoryError as error:
                self._discard(client)
                raise _no_memory() from error
            except BaseException:  # Ctrl-C amid an answer: the pipe is out of step
                self._discard(client)
                raise
            self._give_back(client)
            return decoded
        raise AssertionError  # the second attempt returns or raises

    def close(self) -> None:
        """End every process. Decodes under way in other threads raise `BirdstackError`."""
        with self._lock:
            self._closed = True
            idle = [*self._idle]
            self._idle.clear()
            for client in self._busy:
                client.kill()
        for client in idle:
            client.close()

    def _borrow(self) -> DecoderClient:
        with self._lock:
            if self._closed:
                raise _closed()
            if self._owner != os.getpid():  # after a fork: the pipes belong to the parent
                self._inherited = (self._idle, self._busy)  # kept: collecting would warn
                self._idle, self._busy, self._owner = [], set(), os.getpid()
                self._finalizer.detach()
                self._finalizer = weakref.finalize(
                    self, _end_all, self._idle, self._busy, self._owner
                )
            client = self._idle.pop() if self._idle else None
            if client is not None:
                self._busy.add(client)
        if client is not None:
            if client.alive:
                return client
            self._discard(client)
        client = DecoderClient(self._command)
        with self._lock:
            self._busy.add(client)
            closed = self._closed
        if closed:
            self._discard(client)
            raise _closed()
        return client

    def _give_back(self, client: DecoderClient) -> None:
        with self._lock:
            self._busy.discard(client)
            if not self._closed:
                self._idle.append(client)
                return
        client.close()

    def _discard(self, client: DecoderClient) -> None:
        client.close()
        with self._lock:
            self._busy.discard(client)


def decode_here(request: DecodeRequest) -> Decoded:
    """Decode in this process: no deadline, and a crash takes the process with it.

    Raises:
        SkipRecording: the file cannot be used.
    """
    from birdstack.features import decoding  # noqa: PLC0415 - loads soundfile and soxr

    header: dict[str, object] = {}
    notes: dict[str, object] = {}
    buffer = SampleBuffer(0)
    try:
        for event in decoding.decode(request):
            if not isinstance(event, dict):
                buffer.append(event)
            elif event["event"] == "header":
                header = event
                if not request.header_only:
                    expected = round((event["duration_s"] or 0.0) * request.sample_rate_hz)
                    buffer = SampleBuffer(expected + 1)
            elif event["event"] == "done":
                notes = event["notes"]
    except MemoryError as error:
        raise _no_memory() from error
    return Decoded(header, buffer.finish(), notes)


def _no_memory() -> SkipRecording:
    code, reason = "too_large", "not enough memory to hold the sound (see max_sound_bytes)"
    return SkipRecording(code, reason)


def _closed() -> BirdstackError:
    message = "the decoders were closed"
    return BirdstackError(message, remedy="keep the audio source open until the last decode")


def _end_all(idle: list[DecoderClient], busy: set[DecoderClient], owner: int) -> None:
    if os.getpid() == owner:
        for client in [*idle, *busy]:
            client.close()
