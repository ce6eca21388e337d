"""One decoder process as its parent sees it: started, asked under a deadline, ended."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from birdstack.features import decoder_ring
from birdstack.features.decoder_wire import (
    HEADER,
    JSON,
    SHARED,
    DecodeRequest,
    Samples,
    message_bytes,
    write_all,
)
from birdstack.features.sample_buffer import SampleBuffer
from birdstack.store.errors import BirdstackError, SkipRecording

DECODER_COMMAND = (sys.executable, "-P", "-m", "birdstack.features.decoder_process")
START_TIMEOUT_S = 120.0
HASH_BYTES_PER_S = 10_000_000
"""Slowest disk that is waited for while a file is hashed."""
_PIPE_BYTES = 1 << 20


class DecoderDiedError(Exception):
    """The process ended before its answer did.

    Args:
        cause: what ended it, in words.
        heard: whether it had begun to answer, so that the file may be the cause.
    """

    def __init__(self, cause: str, *, heard: bool) -> None:
        super().__init__(cause, heard)
        self.cause = cause
        self.heard = heard


class DecoderLateError(Exception):
    """The deadline passed before the answer was complete.

    Args:
        allowed_s: seconds that the decode was allowed.
    """

    def __init__(self, allowed_s: float) -> None:
        super().__init__(allowed_s)
        self.allowed_s = allowed_s


@dataclass(frozen=True, slots=True)
class Decoded:
    """What came of one request.

    Attributes:
        header: the `header` event: `sample_rate_hz`, `channels`, `duration_s`, `format`.
        samples: `[sample]` at the requested rate.
        notes: deviations worth keeping.
    """

    header: dict[str, Any]
    samples: Samples = field(repr=False)
    notes: dict[str, Any]


@dataclass(slots=True)
class _Deadline:
    started: float
    allowed_s: float

    @property
    def left_s(self) -> float:
        return self.started + self.allowed_s - time.monotonic()


class DecoderClient:
    """A decoder process and the two pipes to it. Used by one thread at a time.

    Args:
        command: what to start; it must speak the protocol of `decoder_wire`.

    Raises:
        BirdstackError: the process does not come up at all, which no recording can cause.
    """

    def __init__(self, command: Sequence[str] = DECODER_COMMAND) -> None:
        # a file rather than a pipe: nobody has to drain it for the child to go on
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        # the child finds what the parent found, however the parent's path came about
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        self._ring = _ring()
        inherited = self._ring.descriptors if self._ring else ()
        if inherited:
            environment[decoder_ring.VARIABLE] = ",".join(map(str, inherited))
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                bufsize=0,
                env=os.environ | environment,
                pass_fds=inherited,
            )
        except OSError as error:
            self._stderr.close()
            if self._ring:
                self._ring.close()
            raise _cannot_start(str(error)) from error
        if self._ring:
            self._ring.inherited()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests = self._process.stdin
        self._answers = self._process.stdout
        with contextlib.suppress(OSError, AttributeError):  # Linux, and within the user's quota
            fcntl.fcntl(self._answers.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._poll = select.poll()
        self._poll.register(self._answers.fileno(), select.POLLIN)
        self._await_ready()

    def _await_ready(self) -> None:
        try:
            self._read_json(_Deadline(time.monotonic(), START_TIMEOUT_S))
        except (DecoderDiedError, DecoderLateError) as error:
            words = error.cause if isinstance(error, DecoderDiedError) else "no sign of life"
            self.close()
            raise _cannot_start(words) from error
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of the decoder."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def decode(self, request: DecodeRequest, timeout_s: float, min_speed: float) -> Decoded:
        """Ask for one file and wait for the whole answer.

        Args:
            request: file and limits.
            timeout_s: seconds allowed on top of what size and declared length need.
            min_speed: seconds of sound that a second of decoding must yield at least.

        Raises:
            SkipRecording: the decoder refused the file; it is ready for the next one.
            DecoderDiedError: the process ended; close the client.
            DecoderLateError: the deadline passed; close the client.
        """
        self._stderr.seek(0)
        self._stderr.truncate()
        deadline = _Deadline(time.monotonic(), timeout_s)
        header: dict[str, Any] = {}
        buffer = SampleBuffer(0)
        heard = False
        try:
            write_all(self._requests.fileno(), message_bytes(request.to_json()))
            while True:
                message = self._read(deadline, buffer)
                heard = True
                if message is None:
                    continue
                match message["event"]:
                    case "opened" if request.content_hash:
                        deadline.allowed_s += message["n_bytes"] / HASH_BYTES_PER_S
                    case "header":
                        header = message
                        duration_s = message["duration_s"] or 0.0
                        deadline.allowed_s += duration_s / min_speed
                        if not request.header_only:
                            buffer = SampleBuffer(round(duration_s * request.sample_rate_hz) + 1)
                    case "skip":
                        raise SkipRecording(message["code"], message["reason"])
                    case "done":
                        return Decoded(header, buffer.finish(), message["notes"])
        except BrokenPipeError as error:
            raise DecoderDiedError(self._obituary(), heard=heard) from error
        except DecoderDiedError as error:
            raise DecoderDiedError(error.cause, heard=heard) from error

    def _read(self, deadline: _Deadline, buffer: SampleBuffer) -> dict[str, Any] | None:
        """The next message; None if it was samples, which go to `buffer`."""
        head = bytearray(HEADER.size)
        self._fill(memoryview(head), deadline)
        kind, length = HEADER.unpack(head)
        if kind == JSON:
            payload = bytearray(length)
            self._fill(memoryview(payload), deadline)
            message: dict[str, Any] = json.loads(payload)
            return message
        with buffer.reserve(length // np.dtype(np.float32).itemsize) as room:
            if kind == SHARED and self._ring:
                self._ring.take(room)
            else:
                self._fill(room, deadline)
        return None

    def _read_json(self, deadline: _Deadline) -> None:
        self._read(deadline, SampleBuffer(0))

    def _fill(self, view: memoryview, deadline: _Deadline) -> None:
        descriptor = self._answers.fileno()
        while view:
            if not self._poll.poll(max(deadline.left_s, 0.0) * 1000):
                raise DecoderLateError(deadline.allowed_s)
            count = os.readv(descriptor, [view])
            if count == 0:
                raise DecoderDiedError(self._obituary(), heard=False)
            view = view[count:]

    def _obituary(self) -> str:
        """How the process ended: a signal's name, or its exit code and last words."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        return f"ended with exit code {code}" + (f": {lines[-1].strip()}" if lines else "")

    def kill(self) -> None:
        """End the process without waiting; the thread that uses the client closes it."""
        self._process.kill()

    def close(self) -> None:
        """End the process, reap it and close the pipes. Safe to call twice."""
        self._process.kill()
        self._process.wait()
        for file in (self._requests, self._answers, self._stderr):
            file.close()
        if self._ring:
            self._ring.close()


def _ring() -> decoder_ring.RingReader | None:
    """Memory to share with a decoder; None where the system has none to give."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        return decoder_ring.RingReader()
    except OSError:
        return None


def _cannot_start(words: str) -> BirdstackError:
    message = f"the decoder process cannot start: {words}"
    return BirdstackError(message, remedy="run with isolate=False to see the error itself")
