"""Decoders that hang, crash or lose their parent harm nothing but themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdstack.features.audio import AudioConfig, AudioSource
from birdstack.store.errors import BirdstackError, SkipRecording
from birdstack.store.recordings import Recording

PATIENCE_S = 30.0


@pytest.fixture
def good(tmp_path) -> Recording:
    """A recording of six seconds."""
    path = tmp_path / "good.flac"
    soundfile.write(path, np.full(192_000, 0.25), 32_000)
    return Recording(recording_id="good", path=path, content_hash="")


def _named(good: Recording, name: str) -> Recording:
    """The same sound under another name, which the altered decoders look at."""
    path = good.path.with_name(name)
    path.write_bytes(good.path.read_bytes())
    return Recording(recording_id=name, path=path, content_hash="")


def _command(tmp_path: Path, alteration: str) -> tuple[str, ...]:
    """A decoder in which one piece was replaced; everything else is the real one."""
    script = tmp_path / "decoder.py"
    script.write_text(
        "import os, signal, sys, time\n"
        "from birdstack.features import decoder_process, decoding, guarded_files\n"
        "decode = decoding.decode\n"
        + textwrap.dedent(alteration)
        + "\nif __name__ == '__main__':\n    decoder_process.main()\n",
        encoding="utf-8",
    )
    return sys.executable, "-P", str(script)


AFTER_HEADER = """
def altered(request):
    for event in decode(request):
        yield event
        if isinstance(event, dict) and event["event"] == "header" and "bad" in request.path:
            {act}
decoding.decode = altered
"""


def _gone(pid: int) -> bool:
    """Whether a process has ended; a zombie counts as ended only if it is not our child."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z" and not _is_our_child(pid)


def _is_our_child(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return f"PPid:\t{os.getpid()}\n" in status


def _wait_until(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_hanging_decoder_is_killed_at_its_deadline(good, tmp_path):
    """A decode that never returns is skipped after its deadline, and the next file is heard."""
    command = _command(tmp_path, AFTER_HEADER.format(act="time.sleep(3600)"))
    config = AudioConfig(decode_timeout_s=1, min_decode_speed=60)
    with AudioSource(config, command=command) as source:
        assert source.open(good).n_windows == 1
        (hung,) = source.decoders.pids
        started = time.monotonic()
        with pytest.raises(SkipRecording, match=r"longer than the 1\.1 s") as skipped:
            source.open(_named(good, "bad.flac"))
        assert skipped.value.code == "decode_timeout"
        assert 1.0 < time.monotonic() - started < 10
        assert _gone(hung)
        assert source.open(good).n_windows == 1


def test_a_pipe_that_blocks_the_open_is_survived(good, tmp_path):
    """With the guard against pipes removed, the child hangs in `open` and is killed."""
    pipe = tmp_path / "pipe.ogg"
    os.mkfifo(pipe)
    command = _command(
        tmp_path,
        """
        def unguarded(path):
            return open(path, "rb", buffering=0)
        guarded_files.open_regular = unguarded
        """,
    )
    with AudioSource(AudioConfig(decode_timeout_s=1), command=command) as source:
        with pytest.raises(SkipRecording, match=r"^decode_timeout: "):
            source.open(Recording(recording_id="p", path=pipe, content_hash=""))
        assert source.decoders.pids == []
        assert source.open(good).n_windows == 1


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("os._exit(7)", "exit code 7"),
        ("raise AssertionError('no such page')", "exit code 1: AssertionError: no such page"),
    ],
)
def test_a_crashing_decoder_skips_its_file_only(act, words, good, tmp_path):
    """A crash is a skip that says what ended the decoder; a new one takes over."""
    command = _command(tmp_path, AFTER_HEADER.format(act=act))
    with AudioSource(command=command) as source:
        for _ in range(2):
            with pytest.raises(SkipRecording, match=words) as skipped:
                source.open(_named(good, "bad.flac"))
            assert skipped.value.code == "decoder_crashed"
            assert source.open(good).n_windows == 1
        assert len(source.decoders.pids) == 1


def test_too_much_memory_is_refused(good, tmp_path):
    """A decode that wants more memory than any block needs is a skip, not a dead machine."""
    command = _command(tmp_path, AFTER_HEADER.format(act="import numpy; numpy.ones(1 << 30).sum()"))
    with AudioSource(command=command) as source:
        with pytest.raises(SkipRecording, match="2 GiB of working memory") as skipped:
            source.open(_named(good, "bad.flac"))
        assert skipped.value.code == "too_large"
        assert source.open(good).n_windows == 1


def test_chatter_of_a_library_does_not_reach_the_answers(good, tmp_path):
    """What a C library prints on standard output cannot be taken for sound."""
    command = _command(tmp_path, AFTER_HEADER.format(act="os.write(1, b'warning! ' * 1000)"))
    with AudioSource(command=command) as source:
        assert np.all(source.open(_named(good, "bad.flac")).samples == 0.25)


def test_an_idle_decoder_that_died_is_replaced(good):
    """A decoder killed between two files costs neither of them."""
    with AudioSource() as source:
        source.open(good)
        (pid,) = source.decoders.pids
        os.kill(pid, signal.SIGKILL)
        assert source.open(good).n_windows == 1
        assert source.decoders.pids != [pid]


def test_interrupts_are_left_to_the_parent(good):
    """Ctrl-C reaches the whole foreground group; a decoder does not die of it."""
    with AudioSource() as source:
        source.open(good)
        (pid,) = source.decoders.pids
        os.kill(pid, signal.SIGINT)
        time.sleep(0.1)
        assert source.open(good).n_windows == 1
        assert source.decoders.pids == [pid]


def test_an_interrupted_decode_leaves_no_half_answer(good, tmp_path):
    """After Ctrl-C amid an answer the decoder is replaced, so the next file is its own."""
    command = _command(tmp_path, AFTER_HEADER.format(act="time.sleep(3600)"))
    with AudioSource(command=command) as source:
        timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
        source.open(good)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            source.open(_named(good, "bad.flac"))
        timer.join()
        assert source.decoders.pids == []
        assert np.all(source.open(good).samples == 0.25)


def test_closing_reaps_every_process(good):
    """After `close` no process is left, not even as a zombie."""
    source = AudioSource()
    source.open(good)
    pids = source.decoders.pids
    source.close()
    assert pids
    assert all(_gone(pid) for pid in pids)
    with pytest.raises(BirdstackError, match="decoders were closed"):
        source.open(good)


def test_closing_amid_a_decode_is_no_skip(good, tmp_path):
    """A decode cut off by `close` raises an error: the recording must not count as faulty."""
    command = _command(tmp_path, AFTER_HEADER.format(act="time.sleep(3600)"))
    source = AudioSource(command=command)
    raised = []

    def listen():
        try:
            source.open(_named(good, "bad.flac"))
        except BirdstackError as error:
            raised.append(error)

    thread = threading.Thread(target=listen)
    thread.start()
    _wait_until(lambda: source.decoders.pids)
    (pid,) = source.decoders.pids
    source.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert "closed" in str(raised[0])
    assert _gone(pid)


def test_a_forgotten_source_ends_its_processes(good):
    """A source that nobody closed leaves no process behind when it is collected."""
    source = AudioSource()
    source.open(good)
    (pid,) = source.decoders.pids
    del source
    _wait_until(lambda: _gone(pid))


def test_a_decoder_that_cannot_start_is_an_error(good, tmp_path):
    """When no decoder comes up, the run stops: 25,000 skips would hide the cause."""
    script = tmp_path / "broken.py"
    script.write_text("import no_such_library\n", encoding="utf-8")
    with (
        AudioSource(command=(sys.executable, str(script))) as source,
        pytest.raises(BirdstackError, match="No module named 'no_such_library'"),
    ):
        source.open(good)
    with (
        AudioSource(command=(str(tmp_path / "absent"),)) as source,
        pytest.raises(BirdstackError, match="cannot start"),
    ):
        source.open(good)


PARENT = """
import os, sys, threading, time
from pathlib import Path
from birdstack.features.audio import AudioSource
from birdstack.store.recordings import Recording
good, bad, script = sys.argv[1:]
source = AudioSource(command=(sys.executable, "-P", script))
source.open(Recording(recording_id="g", path=Path(good), content_hash=""))
if bad:
    record = Recording(recording_id="b", path=Path(bad), content_hash="")
    threading.Thread(target=source.open, args=(record,), daemon=True).start()
    time.sleep(0.5)
print(*source.decoders.pids, flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_killed_parent_leaves_no_orphan(busy, good, tmp_path):
    """After kill -9 of the parent its decoder ends, even amid a decode that never returns."""
    # a read of a pipe nobody writes to waits in C without the interpreter's lock, as a
    # decoder does
    act = "os.mkfifo(request.path + '.pipe'); os.open(request.path + '.pipe', os.O_RDONLY)"
    script = _command(tmp_path, AFTER_HEADER.format(act=act))[-1]
    bad = str(_named(good, "bad.flac").path) if busy else ""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(good.path), bad, script],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 1
        assert not any(_gone(pid) for pid in pids)
        parent.kill()
    _wait_until(lambda: all(_gone(pid) for pid in pids))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # Python 3.12
def test_a_fork_starts_decoders_of_its_own(good):
    """A forked process leaves its parent's decoders alone."""
    with AudioSource() as source:
        source.open(good)
        pids = source.decoders.pids
        child = os.fork()
        if child == 0:  # exit codes speak, since pytest must not go on here
            try:
                heard = source.open(good).n_windows
                own = source.decoders.pids
                source.close()
                os._exit(0 if heard == 1 and not set(own) & set(pids) else 3)
            except BaseException:  # noqa: BLE001 - whatever it is, the parent must hear of it
                os._exit(4)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert source.decoders.pids == pids
        assert source.open(good).n_windows == 1
        assert source.decoders.pids == pids


def test_the_process_starts_without_heavy_libraries():
    """A decoder imports the audio libraries and numpy, and nothing that takes seconds."""
    script = (
        "import sys\n"
        "from birdstack.features import decoder_process\n"
        "print(*{name.split('.')[0] for name in sys.modules})\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"polars", "pydantic", "scipy", "librosa", "pyarrow", "sklearn", "torch"}
    assert not heavy & set(run.stdout.split())
