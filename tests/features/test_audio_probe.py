"""Reading headers at ingestion: what soundfile declares, through guarded processes."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

from birdstack.features.audio import AudioConfig
from birdstack.features.probe import AudioProbe, probe
from birdstack.store.errors import SkipRecording
from birdstack.store.recordings import AudioHeader


@pytest.fixture(scope="module")
def audio_probe():
    """A probe whose processes end with the module."""
    with AudioProbe() as audio_probe:
        yield audio_probe


def test_a_header_is_what_soundfile_declares(tmp_path):
    """Rate, channels, length and format come from the file's header."""
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros((66_150, 2)), 44_100, subtype="PCM_24")
    expected = AudioHeader(sample_rate_hz=44_100, channels=2, duration_s=1.5, format="FLAC/PCM_24")
    assert probe(path) == expected


def test_real_headers(real_data, audio_probe):
    """Headers of real recordings agree with soundfile."""
    files = [file for file in sorted(real_data.rglob("*")) if file.suffix in {".ogg", ".wav"}]
    for path in files[:: max(len(files) // 20, 1)]:
        info = soundfile.info(path)
        header = audio_probe(path)
        assert header.duration_s == info.frames / info.samplerate
        assert (header.sample_rate_hz, header.channels) == (info.samplerate, info.channels)


def test_a_crashed_recorder_declares_its_real_length(tmp_path, audio_probe):
    """A WAV whose data size was never written is measured by the bytes behind it."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(64_000), 32_000)
    content = bytearray(path.read_bytes())
    content[40:44] = bytes(4)
    path.write_bytes(content)
    assert audio_probe(path).duration_s == 2.0


def test_an_undeclared_length_is_counted(tmp_path, audio_probe):
    """A FLAC that leaves its length open is counted by decoding."""
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(5).normal(size=70_001) * 0.1, 32_000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert soundfile.info(path).frames > 1 << 62
    assert audio_probe(path).duration_s == 70_001 / 32_000


def test_threads_share_a_probe(tmp_path, audio_probe):
    """Concurrent probes answer each thread about its own file."""
    paths = []
    for n in range(1, 17):
        path = tmp_path / f"{n}.wav"
        soundfile.write(path, np.zeros(n * 1000), 32_000)
        paths.append(path)
    with ThreadPoolExecutor(4) as threads:
        headers = list(threads.map(audio_probe, paths * 5))
    assert [header.duration_s for header in headers] == [n / 32 for n in range(1, 17)] * 5


def test_a_hanging_probe_is_killed(tmp_path):
    """A header that never ends costs its deadline, not the run."""
    script = tmp_path / "decoder.py"
    script.write_text(
        "import time\n"
        "from birdstack.features import decoder_process, decoding\n"
        "decoding.soundfile.SoundFile = lambda *_, **__: time.sleep(3600)\n"
        "decoder_process.main()\n",
        encoding="utf-8",
    )
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(1000), 32_000)
    config = AudioConfig(decode_timeout_s=1)
    with (
        AudioProbe(config, command=(sys.executable, str(script))) as audio_probe,
        pytest.raises(SkipRecording, match=r"longer than the 1\.0 s") as skipped,
    ):
        audio_probe(path)
    assert skipped.value.code == "decode_timeout"


def test_a_pipe_is_refused_at_once(tmp_path, audio_probe):
    """A FIFO is refused by its kind, without opening it."""
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(SkipRecording, match="FIFO"):
        audio_probe(tmp_path / "pipe.wav")


def test_probing_in_process(tmp_path):
    """With `isolate=False` the same header comes without a process."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(16_000), 32_000)
    with AudioProbe(AudioConfig(isolate=False)) as audio_probe:
        assert audio_probe(path).duration_s == 0.5
        assert audio_probe.decoders.pids == []
