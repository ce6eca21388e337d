"""Damaged and odd audio files end in the documented code or the documented notes."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import damaged

from birdstack.features.audio import AudioConfig, AudioSource
from birdstack.features.decoding import decode
from birdstack.features.probe import AudioProbe
from birdstack.store.errors import SkipRecording
from birdstack.store.recordings import Recording

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "audio-faults.md"
by_name = pytest.mark.parametrize("case", damaged.CASES, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def isolated():
    """A source that decodes in child processes."""
    with AudioSource() as source:
        yield source


def _recording(path: Path, content_hash: str = "") -> Recording:
    return Recording(recording_id="r", path=path, content_hash=content_hash)


def _source(case, isolated: AudioSource) -> AudioSource:
    """The shared source, or one with the limits of the case (then in-process: no start-up)."""
    return AudioSource(AudioConfig(isolate=False, **case.limits)) if case.limits else isolated


@by_name
def test_a_fault_ends_in_its_code_or_its_notes(case, tmp_path, isolated):
    """Each file is skipped with its code and reason, or heard with exactly its notes."""
    recording = _recording(case.build(tmp_path))
    source = _source(case, isolated)
    if case.code:
        with pytest.raises(SkipRecording, match=f"^{case.code}: ") as skipped:
            source.open(recording)
        assert skipped.value.code == case.code
        assert case.reason in skipped.value.reason
        assert "\n" not in skipped.value.reason
        return
    sound = source.open(recording)
    assert sound.notes.keys() == case.notes.keys()
    for note, value in case.notes.items():
        if value is not damaged.ANY:
            assert sound.notes[note] == value
    if case.seconds is not damaged.ANY:
        assert sound.duration_s == pytest.approx(case.seconds, abs=0.001)
    if sound.notes.get("truncated"):
        assert sound.notes["decoded_s"] == pytest.approx(sound.duration_s, abs=1e-3)
    assert sound.samples.dtype == np.float32
    assert np.isfinite(sound.samples).all()


@by_name
def test_isolated_and_in_process_agree(case, tmp_path, isolated):
    """The child process changes nothing: same code and reason, or same samples and notes."""
    recording = _recording(case.build(tmp_path))
    outcomes = []
    config = isolated.config.model_copy(update=case.limits)
    here = AudioSource(config.model_copy(update={"isolate": False}))
    with AudioSource(config) as child:
        for source in (child if case.limits else isolated, here):
            try:
                sound = source.open(recording)
            except SkipRecording as skip:
                outcomes.append((skip.code, skip.reason))
            else:
                outcomes.append((sound.samples.tobytes(), sound.notes))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(("container", "coding"), damaged.FORMATS)
def test_formats_are_heard(container, coding, tmp_path, isolated):
    """Six seconds come back from every container and coding that libsndfile bundles."""
    rate_hz = 48_000 if coding == "OPUS" else 32_000
    path = tmp_path / "sound"
    damaged.write(path, damaged.tone(6, rate_hz), rate_hz, format=container, subtype=coding)
    sound = isolated.open(_recording(path))
    assert sound.duration_s == pytest.approx(6, abs=0.1)  # ADPCM fills its last block
    assert sound.notes == {}


def test_a_truncated_ogg_keeps_what_was_recorded(tmp_path, isolated):
    """What is heard of a cut file equals the beginning of the whole one."""
    whole = damaged.write(tmp_path / "whole.ogg", damaged.tone())
    path = tmp_path / "cut.ogg"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    sound = isolated.open(_recording(path))
    assert 2.5 < sound.duration_s < 3.5
    whole_sound = isolated.open(_recording(whole))
    # the last block of a cut stream lacks its overlap with the next one
    heard = len(sound.samples) - 2048
    np.testing.assert_array_equal(sound.samples[:heard], whole_sound.samples[:heard])


def test_a_damaged_page_moves_nothing_far_from_it(tmp_path, isolated):
    """Sound well before and well behind a dropped OGG page is in its place."""
    whole = damaged.write(tmp_path / "whole.ogg", damaged.tone(20))
    path = tmp_path / "damaged.ogg"
    path.write_bytes(damaged.flip_one_page(bytearray(whole.read_bytes())))
    expected = isolated.open(_recording(whole)).samples
    sound = isolated.open(_recording(path))
    assert sound.notes == {"damaged_pages": 1}
    assert len(sound.samples) == len(expected)
    differing = np.flatnonzero(sound.samples != expected)
    assert 0 < differing[-1] - differing[0] < 4 * 32_000


def test_a_crashed_recorder_loses_nothing(tmp_path, isolated):
    """A WAV whose sizes were never written gives the samples of the finished one."""
    good = damaged.write(tmp_path / "good.wav", damaged.tone(), subtype="PCM_24")
    crashed = tmp_path / "crashed.wav"
    content = bytearray(good.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = bytes(4)
    crashed.write_bytes(content)
    expected = isolated.open(_recording(good)).samples
    np.testing.assert_array_equal(isolated.open(_recording(crashed)).samples, expected)


def test_links_of_a_chain_follow_each_other(tmp_path, isolated):
    """The sound of a chained OGG is that of its links, each resampled by itself."""
    chained = isolated.open(_recording(damaged.chained(tmp_path))).samples
    links = [isolated.open(_recording(tmp_path / name)) for name in ("first.ogg", "second.ogg")]
    np.testing.assert_array_equal(chained, np.concatenate([link.samples for link in links]))


def test_undeclared_length_loses_no_sample(tmp_path, isolated):
    """A FLAC written to a pipe is heard to its last sample."""
    good = damaged.intact("good.flac")(tmp_path)
    piped = damaged.edited(damaged.intact("piped.flac"), damaged.flac_total(0))(tmp_path)
    expected = isolated.open(_recording(good)).samples
    np.testing.assert_array_equal(isolated.open(_recording(piped)).samples, expected)


def test_broken_samples_become_zero_and_no_others(tmp_path, isolated):
    """NaN is repaired in place; the samples around it are untouched."""
    sound = damaged.with_samples(np.nan, 10)
    heard = isolated.open(_recording(damaged.float_wav(sound)(tmp_path))).samples
    expected = np.nan_to_num(sound[:, 0], nan=0.0)
    np.testing.assert_array_equal(heard, expected)


def test_the_hash_must_match(tmp_path, isolated):
    """A file is heard only with the bytes the dataset was read with."""
    path = damaged.intact("a.ogg")(tmp_path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert isolated.open(_recording(path, digest)).n_windows == 1
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(SkipRecording, match=f"dataset was read with {digest[:12]}") as skipped:
        isolated.open(_recording(path, digest))
    assert skipped.value.code == "changed"


def test_a_file_that_grows_while_it_is_decoded(tmp_path):
    """Bytes appended between opening and the last block are noticed."""
    path = damaged.intact("a.wav")(tmp_path)
    request = AudioConfig().request(str(path), content_hash="", header_only=False)
    events = decode(request)
    assert next(events)["event"] == "opened"
    with path.open("ab") as file:
        file.write(bytes(1000))
    with pytest.raises(SkipRecording, match="written to while it was decoded") as skipped:
        list(events)
    assert skipped.value.code == "changed"


def test_a_file_that_may_not_be_read(tmp_path):
    """Permission denied is a skip of its own."""
    path = damaged.intact("a.ogg")(tmp_path)
    path.chmod(0)
    source = AudioSource(AudioConfig(isolate=False))
    root = os.geteuid() == 0
    try:
        if root:  # root may read everything: ask as nobody
            os.seteuid(65534)
        with pytest.raises(SkipRecording, match="Permission denied") as skipped:
            source.open(_recording(path))
    finally:
        if root:
            os.seteuid(0)
    assert skipped.value.code == "permission"


@pytest.mark.parametrize("call", ["hashlib.file_digest", "os.pread"])
def test_a_disk_that_fails(call, tmp_path, monkeypatch):
    """An input/output error while hashing or reading is a skip that names the file system."""
    path = damaged.intact("a.ogg")(tmp_path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    def fail(*_args):
        raise OSError(5, "Input/output error")

    module = "containers" if call.startswith("os") else "guarded_files"
    monkeypatch.setattr(f"birdstack.features.{module}.{call}", fail)
    source = AudioSource(AudioConfig(isolate=False))
    with pytest.raises(SkipRecording, match="Input/output error") as skipped:
        source.open(_recording(path, digest))
    assert skipped.value.code == "read_error"


def test_a_name_that_changes_hands(tmp_path, monkeypatch):
    """A pipe put in place of a file between the look and the opening is still refused."""
    regular = damaged.intact("a.ogg")(tmp_path).stat()
    pipe = damaged.fifo(tmp_path)
    monkeypatch.setattr("birdstack.features.guarded_files.os.stat", lambda _path: regular)
    source = AudioSource(AudioConfig(isolate=False))
    with pytest.raises(SkipRecording, match="FIFO"):
        source.open(_recording(pipe))


def test_nothing_is_written_beside_the_audio(tmp_path, isolated):
    """A read-only folder is enough, and keeps its single file."""
    folder = tmp_path / "disk"
    folder.mkdir()
    path = damaged.intact("a.ogg")(folder)
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert isolated.open(_recording(path)).n_windows == 1
        assert [entry.name for entry in folder.iterdir()] == ["a.ogg"]
    finally:
        folder.chmod(stat.S_IRWXU)


def test_a_bomb_is_refused_in_bounded_memory(tmp_path):
    """Refusing 184 MB of sound in a small FLAC takes a process a fraction of that."""
    path = damaged.flac_bomb(declared=False)(tmp_path)
    assert path.stat().st_size < 1 << 20
    script = (
        "import resource, sys, numpy, soundfile, soxr\n"
        "from birdstack.features.audio import AudioConfig\n"
        "from birdstack.features.decoder_pool import decode_here\n"
        "from birdstack.store.errors import SkipRecording\n"
        "config = AudioConfig(max_sound_bytes=8 << 20)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    decode_here(config.request(sys.argv[1], content_hash='', header_only=False))\n"
        "except SkipRecording as skip:\n"
        "    print(skip.code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    )
    code, grown_kib = run.stdout.split()
    assert code == "too_large"
    assert int(grown_kib) < 40 << 10


@by_name
def test_probing_a_fault_never_hangs_or_crashes(case, tmp_path, probe):
    """A probe answers with a header or with a skip whose code decoding shares."""
    path = case.build(tmp_path)
    found_by_decoding = {"decoded_zero", "nonfinite", "too_short"}
    if case.code and case.code not in found_by_decoding and not case.limits:
        with pytest.raises(SkipRecording, match=f"^{case.code}: "):
            probe(path)
        return
    header = probe(path)
    assert header.sample_rate_hz >= 1000
    assert header.channels >= 1
    assert 0 <= header.duration_s < 1000
    assert "/" in header.format


@pytest.fixture(scope="module")
def probe():
    """A probe whose processes end with the module."""
    with AudioProbe() as probe:
        yield probe


def test_the_document_lists_every_case():
    """Each row of the reference names a case of this suite with its code, or a test."""
    text = DOCUMENT.read_text("utf-8")
    rows = [line.split("|")[1:-1] for line in io.StringIO(text) if line.startswith("| ")]
    table = {row[0].strip(): [cell.strip() for cell in row] for row in rows if len(row) == 4}
    tests = "".join(file.read_text("utf-8") for file in Path(__file__).parent.glob("test_*.py"))
    for case in damaged.CASES:
        _, _, code, test = table[case.name]
        assert code.strip("`") == case.code, case.name
        assert test == "`test_a_fault_ends_in_its_code_or_its_notes`"
    named = {row[3].strip("`") for row in table.values() if row[3].startswith("`test_")}
    assert [name for name in named if f"def {name}(" not in tests] == []
    assert len(table) > len(damaged.CASES) + 10
