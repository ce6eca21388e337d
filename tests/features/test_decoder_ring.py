"""Samples come through shared memory as through a pipe, and nothing stays behind."""

from __future__ import annotations

import os
import queue
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdstack.features.audio import AudioConfig, AudioSource
from birdstack.features.decoder_ring import SLOT_SAMPLES, SLOTS, RingReader, RingWriter
from birdstack.store.errors import BirdstackError
from birdstack.store.recordings import Recording

needs_memfd = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux alone has it")


@pytest.fixture
def ring():
    """Both sides of a ring, in one process."""
    reader = RingReader()
    memory, given_back = (os.dup(each) for each in reader.descriptors)
    reader.inherited()
    yield reader, RingWriter(memory, given_back)
    reader.close()
    os.close(memory)
    os.close(given_back)


def _recording(path: Path, seconds: float = 60.0, rate_hz: int = 32_000) -> Recording:
    sound = np.random.default_rng(5).normal(size=round(seconds * rate_hz)) * 0.1
    soundfile.write(path, sound, rate_hz, subtype="FLOAT")
    return Recording(recording_id="r", path=path, content_hash="")


@needs_memfd
def test_blocks_of_any_size_arrive_in_order(ring):
    """More blocks than slots, from one sample to a full slot."""
    reader, writer = ring
    rng = np.random.default_rng(1)
    sent = [
        rng.normal(size=size).astype(np.float32)
        for size in (1, SLOT_SAMPLES, 77, SLOT_SAMPLES - 1, 3, 40_000, SLOT_SAMPLES, 2)
    ]

    told: queue.SimpleQueue[bool] = queue.SimpleQueue()  # the message that names each block

    def send():
        for block in sent:
            told.put(writer.put(block))

    thread = threading.Thread(target=send)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive(), "the writer did not wait for a slot"
    assert told.qsize() == SLOTS
    for block in sent:
        assert told.get(timeout=10)
        got = np.zeros_like(block)
        reader.take(got.data.cast("B"))
        np.testing.assert_array_equal(got, block)
    thread.join(10)
    assert not thread.is_alive()


@needs_memfd
def test_a_block_too_large_is_left_to_the_pipe(ring):
    """The writer says so and fills nothing."""
    _, writer = ring
    assert not writer.put(np.ones(SLOT_SAMPLES + 1, dtype=np.float32))
    assert not writer._slots.any()


@needs_memfd
def test_a_writer_whose_parent_is_gone_does_not_wait(ring):
    """With all slots full and nobody to take them, it ends."""
    reader, writer = ring
    for _ in range(SLOTS):
        assert writer.put(np.ones(4, dtype=np.float32))
    reader.close()
    with pytest.raises(BrokenPipeError):
        writer.put(np.ones(4, dtype=np.float32))


@pytest.mark.parametrize("how", ["refused", "absent"])
def test_without_shared_memory_the_pipe_serves(how, tmp_path, monkeypatch):
    """A system that has none to give hears the same."""
    recording = _recording(tmp_path / "a.wav")
    with AudioSource() as source:
        expected = source.open(recording).samples
    if how == "absent":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    else:

        def refuse(_name):
            raise OSError

        monkeypatch.setattr(os, "memfd_create", refuse, raising=False)
    with AudioSource() as source:
        np.testing.assert_array_equal(source.open(recording).samples, expected)


def test_blocks_that_grow_by_resampling_are_heard(tmp_path):
    """From 8 to 384 kHz a block is 48 times a slot's length: slots and pipe take turns."""
    recording = _recording(tmp_path / "a.wav", 9, 8_000)
    config = AudioConfig(sample_rate_hz=384_000)
    with AudioSource(config) as source:
        heard = source.open(recording).samples
    alone = AudioSource(config.model_copy(update={"isolate": False}))
    np.testing.assert_array_equal(heard, alone.open(recording).samples)


@needs_memfd
def test_decoders_leave_no_descriptor_behind(tmp_path):
    """As many are open after decoders were closed, or could not start, as before."""
    recording = _recording(tmp_path / "a.wav", 6)
    before = _descriptors()
    for _ in range(3):
        with AudioSource() as source:
            source.open(recording)
            assert _descriptors() > before
    with (
        AudioSource(command=("/no-such-decoder",)) as source,
        pytest.raises(BirdstackError, match="cannot start"),
    ):
        source.open(recording)
    assert _descriptors() == before


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
