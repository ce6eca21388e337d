"""FFmpeg decodes what leaves nothing to guess, as libsndfile does; the rest it is not given."""

from __future__ import annotations

import importlib.util
import zlib
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import damaged

from birdstack.features import decoding_ffmpeg
from birdstack.features.audio import AudioConfig, AudioSource
from birdstack.store.errors import ConfigError, SkipRecording
from birdstack.store.recordings import Recording
from birdstack.store.views import canonical_json

needs_av = pytest.mark.skipif(
    importlib.util.find_spec("av") is None, reason="the extra ffmpeg is not installed"
)
TOLERANCE = 1e-6


def _recording(path: Path) -> Recording:
    return Recording(recording_id="r", path=path, content_hash="")


def _here(decoder: str, **limits) -> AudioSource:
    return AudioSource(AudioConfig(decoder=decoder, isolate=False, **limits))


@pytest.fixture
def through_ffmpeg(monkeypatch):
    """How many streams FFmpeg was given."""
    given_to = []
    blocks = decoding_ffmpeg.Vorbis.blocks

    def counted(self, n_frames):
        given_to.append(n_frames)
        return blocks(self, n_frames)

    monkeypatch.setattr(decoding_ffmpeg.Vorbis, "blocks", counted)
    return given_to


def _outcome(source: AudioSource, path: Path):
    try:
        sound = source.open(_recording(path))
    except SkipRecording as skip:
        return (skip.code, skip.reason), None
    return sound.notes, sound.samples


def _vorbis(path: Path, seconds: float, rate_hz: int = 32_000, channels: int = 1) -> Path:
    return damaged.write(path, damaged.tone(seconds, rate_hz, channels), rate_hz, format="OGG")


@needs_av
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 32_000, 44_100, 48_000, 96_000])
def test_samples_are_libsndfiles(rate_hz, channels, tmp_path, through_ffmpeg):
    """As many samples, equal within 1e-6, also where they are mixed and resampled."""
    for seconds in (4.9, 6.0, 17.003):
        path = _vorbis(tmp_path / f"{seconds}.ogg", seconds, rate_hz, channels)
        notes, expected = _outcome(_here("soundfile"), path)
        assert not through_ffmpeg
        own_notes, samples = _outcome(_here("ffmpeg"), path)
        assert through_ffmpeg.pop() == soundfile.info(path).frames
        assert own_notes == notes
        assert samples.shape == expected.shape
        np.testing.assert_allclose(samples, expected, rtol=0, atol=TOLERANCE)


@needs_av
@pytest.mark.parametrize("case", damaged.CASES, ids=lambda case: case.name)
def test_every_odd_file_ends_as_with_libsndfile(case, tmp_path):
    """The same code and reason, or the same notes and samples."""
    path = case.build(tmp_path)
    told, expected = _outcome(_here("soundfile", **case.limits), path)
    own, samples = _outcome(_here("ffmpeg", **case.limits), path)
    assert own == told
    if expected is not None:
        np.testing.assert_allclose(samples, expected, rtol=0, atol=TOLERANCE)


@needs_av
@pytest.mark.parametrize(
    "flawed",
    [
        damaged.edited(damaged.intact("a.ogg"), damaged.cut(0.5)),
        damaged.edited(damaged.intact("a.ogg"), damaged.flip_one_page),
        damaged.chained,
        damaged.opus,
        lambda folder: _vorbis(folder / "three.ogg", 6, channels=3),
        lambda folder: damaged.write(folder / "one_page.ogg", np.zeros(100_000)),
        damaged.edited(
            damaged.intact("a.ogg"),
            lambda content: (
                bytes(content[: damaged.pages(content)[4]])
                + bytes(content[damaged.pages(content)[5] :])
            ),
        ),
    ],
    ids=["cut", "damaged", "chained", "opus", "three channels", "one page", "a page is missing"],
)
def test_what_leaves_something_to_guess_is_libsndfiles(flawed, tmp_path, through_ffmpeg):
    """Damage, chains, other codecs and streams on one page never reach FFmpeg."""
    path = flawed(tmp_path)
    told, expected = _outcome(_here("soundfile"), path)
    own, samples = _outcome(_here("ffmpeg"), path)
    assert not through_ffmpeg
    assert own == told
    np.testing.assert_array_equal(samples, expected)


@needs_av
def test_real_recordings_agree(real_data, through_ffmpeg):
    """Focal clips of other encoders give as many samples, equal within 1e-6."""
    files = [path for path in sorted(real_data.rglob("*.ogg")) if path.is_file()]
    for path in files[:: max(len(files) // 12, 1)]:
        notes, expected = _outcome(_here("soundfile"), path)
        own_notes, samples = _outcome(_here("ffmpeg"), path)
        assert own_notes == notes
        np.testing.assert_allclose(samples, expected, rtol=0, atol=TOLERANCE)
    assert through_ffmpeg


@needs_av
def test_a_child_process_changes_nothing(tmp_path):
    """The decoder process gives the very samples of the caller's."""
    path = _vorbis(tmp_path / "a.ogg", 8)
    with AudioSource(AudioConfig(decoder="ffmpeg")) as isolated:
        sound = isolated.open(_recording(path))
    np.testing.assert_array_equal(sound.samples, _outcome(_here("ffmpeg"), path)[1])
    exact = _outcome(_here("soundfile"), path)[1]
    assert (sound.samples != exact).any(), "the child did not use FFmpeg"


@needs_av
def test_comments_need_not_be_utf8(tmp_path, through_ffmpeg):
    """A recorder that writes its place in Latin-1 is heard."""
    path = tmp_path / "a.ogg"
    with soundfile.SoundFile(path, "w", 32_000, 1, format="OGG", subtype="VORBIS") as file:
        file.title = "Muehlbach"
        file.write(damaged.tone())
    content = bytearray(path.read_bytes())
    place = content.index(b"Muehlbach")
    content[place : place + 3] = b"M\xfch"
    _sealed(content, 1)
    path.write_bytes(content)
    assert _outcome(_here("ffmpeg"), path)[0] == {}
    assert through_ffmpeg


def _sealed(content: bytearray, page: int) -> None:
    """Give a page the checksum of what it holds now."""
    starts = [*damaged.pages(content), len(content)]
    start, end = starts[page], starts[page + 1]
    content[start + 22 : start + 26] = bytes(4)
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
    crc = zlib.crc32(content[start:end].translate(mirrored), 0xFFFFFFFF) ^ 0xFFFFFFFF
    reversed_crc = int(f"{crc:032b}"[::-1], 2)
    content[start + 22 : start + 26] = reversed_crc.to_bytes(4, "little")


@pytest.fixture(scope="module")
def isolated():
    """A source whose child processes decode with FFmpeg."""
    with AudioSource(AudioConfig(decoder="ffmpeg", decode_timeout_s=20)) as source:
        yield source


@needs_av
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=30),
    page=st.integers(1, 9),
)
def test_packets_of_garbage_do_no_harm(edits, page, tmp_path, isolated):
    """Sealed pages with altered packets: finite sound no longer than declared, or a skip."""
    path = _vorbis(tmp_path / "a.ogg", 6)
    content = bytearray(path.read_bytes())
    starts = [*damaged.pages(content), len(content)]
    page = min(page, len(starts) - 2)
    start = starts[page] + 27 + content[starts[page] + 26]
    for place, value in edits:
        content[start + int(place * (starts[page + 1] - start - 1))] = value
    _sealed(content, page)
    path.write_bytes(content)
    (pid,) = isolated.decoders.pids or (None,)
    told, samples = _outcome(isolated, path)
    if samples is None:
        assert told[0] in {"decode_error", "decoded_zero", "nonfinite", "too_short", "too_long"}
    else:
        assert np.isfinite(samples).all()
        assert len(samples) <= 6 * 32_000
    assert isolated.decoders.pids == [pid or isolated.decoders.pids[0]], "the decoder died"


@needs_av
def test_a_fault_amid_the_stream_is_noted(tmp_path, monkeypatch):
    """What was decoded before FFmpeg gives up is kept, with its words."""
    import av

    path = _vorbis(tmp_path / "a.ogg", 20)
    decoded = decoding_ffmpeg.Vorbis._decoded

    def failing(self):
        yield from islice(decoded(self), 2)
        raise av.error.InvalidDataError(1, "Invalid data found")

    monkeypatch.setattr(decoding_ffmpeg.Vorbis, "_decoded", failing)
    notes, samples = _outcome(_here("ffmpeg"), path)
    assert len(samples) == 2 * decoding_ffmpeg.BLOCK_FRAMES
    assert notes == {
        "truncated": True,
        "decoded_s": 2 * 65_536 / 32_000,
        "declared_s": 20.0,
        "decode_stopped": "Invalid data found",
    }


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    """Without PyAV the source cannot be made; nothing is heard by another decoder instead."""
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    with pytest.raises(ConfigError, match=r"(?s)needs the package 'av'.*birdstack\[ffmpeg\]"):
        AudioSource(AudioConfig(decoder="ffmpeg"))
    assert AudioSource().config.decoder == "soundfile"


@needs_av
def test_the_decoder_belongs_to_the_recipe():
    """Samples differ in their last bits, so the recipe does; the default's is what it was."""
    assert "decoder" not in AudioSource().recipe
    recipe = _here("ffmpeg").recipe
    assert recipe == AudioSource().recipe | {"decoder": "ffmpeg"}
    assert canonical_json(recipe) != canonical_json(AudioSource().recipe)
