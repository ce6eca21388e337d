"""The decoder process: `python -m birdstack.features.decoder_process`.

Reads requests from standard input, answers on standard output, and imports only numpy,
soundfile and soxr, so that it starts fast. A decoder that hangs or crashes takes down
this process and nothing else. It ends when its parent does: standard input is watched by
a thread of its own, so that even a decode that never returns cannot outlive the parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import resource
import select
import signal
import sys
import threading
from pathlib import Path

from birdstack.features import decoding
from birdstack.features.decoder_ring import RingWriter
from birdstack.features.decoder_wire import (
    HEADER,
    MAX_JSON_BYTES,
    SHARED,
    DecodeRequest,
    write_all,
    write_event,
)
from birdstack.store.errors import SkipRecording

EXTRA_MEMORY_BYTES = 2 << 30
"""Address space a decode may add: blocks need megabytes, so only a fault meets this limit."""
PARENT_CHECK_S = 2.0


def main() -> None:
    """Serve requests until standard input closes or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the group; the parent decides
    answers = os.dup(1)
    os.dup2(2, 1)  # what a C library prints must not land among the answers
    _limit_memory()
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, os.getppid()), daemon=True).start()
    ring = RingWriter.of_environment()
    write_event(answers, {"event": "ready"})
    while True:
        serve(requests.get(), answers, ring)


def serve(payload: bytes, answers: int, ring: RingWriter | None) -> None:
    """Answer one request; anything unforeseen ends the process with its traceback."""
    request = DecodeRequest(**json.loads(payload))
    try:
        for event in decoding.decode(request):
            if ring and not isinstance(event, dict) and ring.put(event):
                write_all(answers, HEADER.pack(SHARED, event.nbytes))
            else:
                write_event(answers, event)
    except SkipRecording as skip:
        reply = {"event": "skip", "code": skip.code, "reason": skip.reason}
    except MemoryError:
        reason = f"decoding needs more than {EXTRA_MEMORY_BYTES >> 30} GiB of working memory"
        reply = {"event": "skip", "code": "too_large", "reason": reason}
    else:
        return
    write_event(answers, reply)


def _listen(requests: queue.SimpleQueue[bytes], parent: int) -> None:
    """Pass requests on; end the process when standard input closes or the parent changes.

    The second test covers a fork of the parent that keeps the pipe open. `PR_SET_PDEATHSIG`
    would fire when the parent's *thread* ends, which is no reason to die.
    """
    stdin = 0
    pending = b""
    poll = select.poll()
    poll.register(stdin, select.POLLIN)
    while True:
        if not poll.poll(PARENT_CHECK_S * 1000):
            if os.getppid() != parent:
                os._exit(0)
            continue
        chunk = os.read(stdin, 1 << 16)
        if not chunk:
            os._exit(0)
        pending += chunk
        while len(pending) >= HEADER.size:
            _, length = HEADER.unpack_from(pending)
            if length > MAX_JSON_BYTES:
                os._exit(2)
            if len(pending) < HEADER.size + length:
                break
            requests.put(pending[HEADER.size : HEADER.size + length])
            pending = pending[HEADER.size + length :]


def _limit_memory() -> None:
    """Allow `EXTRA_MEMORY_BYTES` above what the imports took; Linux only."""
    statm = Path("/proc/self/statm")
    with contextlib.suppress(OSError, ValueError):
        used = int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = used + EXTRA_MEMORY_BYTES
        if hard == resource.RLIM_INFINITY or wanted <= hard:
            resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # the parent is gone
        sys.exit(0)
