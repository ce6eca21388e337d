"""Builders of damaged and odd audio files; nothing here is a test.

Every builder takes a folder and returns the path of the file it made there.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE_HZ = 32_000
ANY = object()
"""Stands for a note whose value the case does not fix."""


def tone(seconds: float = 6.0, rate_hz: int = RATE_HZ, channels: int = 1) -> np.ndarray:
    """A chirp with noise, `[frame, channel]`; each channel differs."""
    n = round(seconds * rate_hz)
    time_s = np.arange(n) / rate_hz
    noise = np.random.default_rng(7).normal(size=(n, channels)) * 0.02
    pitch = 300.0 * (1 + np.arange(channels))
    sound = 0.3 * np.sin(2 * np.pi * time_s[:, None] * (pitch + 80 * time_s[:, None]))
    return (sound + noise).astype(np.float32)


def write(path: Path, sound: np.ndarray, rate_hz: int = RATE_HZ, **how: Any) -> Path:
    """Write with soundfile; `how` may name format and subtype."""
    with path.open("wb") as file:
        how.setdefault("format", path.suffix[1:].upper())
        soundfile.write(file, sound, rate_hz, **how)
    return path


def intact(name: str, **how: Any) -> Callable[[Path], Path]:
    """Six seconds in the format of `name`."""
    return lambda folder: write(folder / name, tone(), **how)


def opus(folder: Path) -> Path:
    """Six seconds of Opus, which has rates of its own."""
    return write(folder / "a.ogg", tone(6, 48_000), 48_000, format="OGG", subtype="OPUS")


def with_bytes(name: str, content: bytes) -> Callable[[Path], Path]:
    """A file of these bytes."""

    def build(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    return build


def edited(
    build: Callable[[Path], Path], edit: Callable[[bytearray], bytes]
) -> Callable[[Path], Path]:
    """A good file whose bytes went through `edit`."""

    def damaged(folder: Path) -> Path:
        path = build(folder)
        path.write_bytes(edit(bytearray(path.read_bytes())))
        return path

    return damaged


def cut(share: float) -> Callable[[bytearray], bytes]:
    """Keep this share of the bytes."""
    return lambda content: bytes(content[: int(len(content) * share)])


def put(offset: int, fmt: str, *values: int) -> Callable[[bytearray], bytes]:
    """Overwrite header fields."""

    def edit(content: bytearray) -> bytes:
        struct.pack_into(fmt, content, offset, *values)
        return bytes(content)

    return edit


def pages(content: bytes) -> list[int]:
    """Offsets of the OGG pages."""
    found, offset = [], content.find(b"OggS")
    while offset >= 0:
        found.append(offset)
        offset = content.find(b"OggS", offset + 4)
    return found


def without_last_page(content: bytearray) -> bytes:
    """An OGG file whose recorder stopped without saying so."""
    return bytes(content[: pages(content)[-1]])


def flip_bytes(content: bytearray) -> bytes:
    """Invert a byte in every page of sound, so that no page's checksum holds."""
    for offset in pages(content)[2:]:
        content[offset + 40] ^= 0xFF
    return bytes(content)


def flip_one_page(content: bytearray) -> bytes:
    """Invert the last byte of a page in the middle, so that its checksum fails."""
    places = pages(content)
    content[places[len(places) // 2] - 1] ^= 0xFF
    return bytes(content)


def flac_total(frames: int) -> Callable[[bytearray], bytes]:
    """Forge the total number of frames in a FLAC header (36 bits; 0 means unknown)."""

    def edit(content: bytearray) -> bytes:
        content[21] = (content[21] & 0xF0) | (frames >> 32)
        content[22:26] = (frames & 0xFFFFFFFF).to_bytes(4, "big")
        return bytes(content)

    return edit


def chained(folder: Path) -> Path:
    """Two OGG recordings of different rates, one behind the other."""
    first = write(folder / "first.ogg", tone(6.0))
    second = write(folder / "second.ogg", tone(5.0, 22_050), 22_050)
    path = folder / "chained.ogg"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    return path


def chained_cut(folder: Path) -> Path:
    """A recording that was cut, and another behind it."""
    first = write(folder / "first.ogg", tone(6.0)).read_bytes()
    path = folder / "chained.ogg"
    path.write_bytes(first[: pages(first)[-1]] + first)
    return path


def with_wav_chunk(name: bytes, payload: bytes, *, size: int | None = None) -> Any:
    """Insert a chunk before the data of a WAV file."""

    def edit(content: bytearray) -> bytes:
        chunk = name + struct.pack("<I", len(payload) if size is None else size) + payload
        place = content.index(b"data")
        riff = struct.pack("<I", len(content) + len(chunk) - 8)
        return bytes(content[:4] + riff + content[8:place] + chunk + content[place:])

    return edit


def empty_wav_with_list(content: bytearray) -> bytes:
    """A recording without a sample, but with metadata behind its data chunk."""
    chunk = b"LIST" + struct.pack("<I", 4) + b"INFO"
    return bytes(content[:44] + chunk)


def float_wav(sound: np.ndarray) -> Callable[[Path], Path]:
    """A float32 WAV with these samples, whatever they are."""
    return lambda folder: write(folder / "float.wav", sound, subtype="FLOAT")


def with_samples(value: float, count: int) -> np.ndarray:
    """Six seconds in which `count` samples have this value."""
    sound = tone()
    sound[1000 : 1000 + count] = value
    return sound


def wav_channels(count: int) -> Callable[[Path], Path]:
    """Half a second of silence in many channels."""
    return lambda folder: write(
        folder / "many.wav", np.zeros((RATE_HZ // 20, count), dtype=np.float32)
    )


def fifo(folder: Path) -> Path:
    """A named pipe that nobody writes to."""
    path = folder / "pipe.ogg"
    os.mkfifo(path)
    return path


def unix_socket(folder: Path) -> Path:
    """A socket. Its address is relative, since addresses are short."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket.ogg")
    finally:
        os.chdir(here)
    return folder / "socket.ogg"


def folder_named(name: str) -> Callable[[Path], Path]:
    """A directory with the name of a recording."""

    def build(folder: Path) -> Path:
        (folder / name).mkdir()
        return folder / name

    return build


def link_to(target: str) -> Callable[[Path], Path]:
    """A symbolic link."""

    def build(folder: Path) -> Path:
        path = folder / "link.ogg"
        path.symlink_to(target)
        return path

    return build


def link_to_intact(folder: Path) -> Path:
    """A symbolic link to a good recording."""
    path = folder / "link.ogg"
    path.symlink_to(write(folder / "real.ogg", tone()))
    return path


def named(name: str | bytes) -> Callable[[Path], Path]:
    """A good recording with an odd name."""

    def build(folder: Path) -> Path:
        good = write(folder / "good.ogg", tone())
        path = folder / os.fsdecode(name)
        good.rename(path)
        return path

    return build


def flac_bomb(*, declared: bool) -> Callable[[Path], Path]:
    """Two minutes of stereo silence at 192 kHz: a small file, 184 MB as float32."""

    def build(folder: Path) -> Path:
        path = folder / "bomb.flac"
        second = np.zeros((192_000, 2), dtype=np.int16)
        with soundfile.SoundFile(path, "w", samplerate=192_000, channels=2) as file:
            for _ in range(120):
                file.write(second)
        if not declared:
            path.write_bytes(flac_total(0)(bytearray(path.read_bytes())))
        return path

    return build


@dataclass(frozen=True)
class Case:
    """One odd file and what becomes of it.

    Attributes:
        name: also the row's name in docs/reference/audio-faults.md.
        build: makes the file.
        code: code of the skip; empty if the recording is heard.
        notes: exactly the notes of a heard recording.
        seconds: decoded length of a heard recording.
        reason: text that the reason of a skip contains.
        limits: settings of the audio configuration.
    """

    name: str
    build: Callable[[Path], Path]
    code: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    seconds: float = 6.0
    reason: str = ""
    limits: dict[str, Any] = field(default_factory=dict)


_CUT = {"truncated": True, "decoded_s": ANY}
_SHORT = _CUT | {"declared_s": 6.0}

# fmt: off
CASES = [
    # --- damaged content
    Case("empty file", with_bytes("a.ogg", b""), "empty", reason="0 bytes"),
    Case("OGG cut in half", edited(intact("a.ogg"), cut(0.5)), notes=_CUT, seconds=ANY),
    Case("OGG without its last page", edited(intact("a.ogg"), without_last_page), notes=_CUT, seconds=ANY),
    Case("OGG headers only", edited(intact("a.ogg"), lambda c: bytes(c[:100])), "decode_error"),
    Case("OGG with a flipped byte in every page", edited(intact("a.ogg"), flip_bytes), "decoded_zero", reason="not one sample"),
    Case("OGG with a flipped byte in one page", edited(intact("a.ogg"), flip_one_page), notes={"damaged_pages": 1}),
    Case("OGG of two links", chained, notes={"ogg_links": 2}, seconds=11.0),
    Case("OGG of two links, the first cut", chained_cut, notes=_CUT | {"ogg_links": 2}, seconds=ANY),
    Case("OGG with garbage behind it", edited(intact("a.ogg"), lambda c: bytes(c) + b"garbage" * 50)),
    Case("Opus cut", edited(opus, cut(0.7)), notes=_CUT, seconds=ANY),
    Case("MP3 cut in half", edited(intact("a.mp3"), cut(0.5)), notes=_SHORT, seconds=ANY),
    Case("MP3 of an ID3 tag only", with_bytes("a.mp3", b"ID3\x04\0\0\0\0\0\x0a" + b"\0" * 10), "decode_error"),
    Case("FLAC cut in half", edited(intact("a.flac"), cut(0.5)), notes=_SHORT | {"decode_stopped": ANY}, seconds=ANY),
    Case("FLAC of undeclared length", edited(intact("a.flac"), flac_total(0)), notes={"decode_stopped": ANY}),
    Case("FLAC with a forged length of 24 days", edited(intact("a.flac"), flac_total((1 << 36) - 1)), "too_long", reason="max_duration_s=86400"),
    Case("FLAC bomb, length declared", flac_bomb(declared=True), "too_large", reason="declared sound", limits={"max_sound_bytes": 8 << 20}),
    Case("FLAC bomb, length not declared", flac_bomb(declared=False), "too_large", reason="decoded sound", limits={"max_sound_bytes": 8 << 20}),
    Case("FLAC bomb, length not declared, too long", flac_bomb(declared=False), "too_long", reason="decoded length", limits={"max_duration_s": 60}),
    Case("WAV declaring 4 GB", edited(intact("a.wav"), put(40, "<I", 0xFFFFFFFF))),
    Case("WAV cut in half", edited(intact("a.wav"), cut(0.5)), notes=_CUT, seconds=3.0),
    Case("WAV of a crashed recorder", edited(intact("a.wav"), put(40, "<I", 0)), notes={"recovered": "wav_data_size_0"}),
    Case("WAV of a crashed recorder, both sizes 0", edited(edited(intact("a.wav"), put(40, "<I", 0)), put(4, "<I", 0)), notes={"recovered": "wav_data_size_0"}),
    Case("WAV without a sample", edited(intact("a.wav"), lambda c: put(40, "<I", 0)(c[:44])), "decoded_zero"),
    Case("WAV without a sample, with metadata", edited(edited(intact("a.wav"), put(40, "<I", 0)), empty_wav_with_list), "decoded_zero"),
    Case("WAV of 20 bytes", edited(intact("a.wav"), lambda c: bytes(c[:20])), "decode_error"),
    Case("WAV with a LIST chunk of 4 GB", edited(intact("a.wav"), with_wav_chunk(b"LIST", b"INFO", size=0xFFFFFFF0)), "decode_error"),
    Case("WAV with a GUANO chunk", edited(intact("a.wav"), with_wav_chunk(b"guan", b"GUANO|Version:1.0\n"))),
    Case("WAV of 0 channels", edited(intact("a.wav"), put(22, "<H", 0)), "decode_error"),
    Case("WAV of 1,023 channels", wav_channels(1023), "too_many_channels", reason="max_channels=16"),
    Case("WAV at 0 Hz", edited(intact("a.wav"), put(24, "<I", 0)), "decode_error"),
    Case("WAV at 1 Hz", edited(intact("a.wav"), put(24, "<I", 1)), "bad_sample_rate", reason="1 Hz"),
    Case("WAV at 2 GHz", edited(intact("a.wav"), put(24, "<I", 2_000_000_000)), "bad_sample_rate"),
    Case("text named .ogg", with_bytes("a.ogg", b"recorded at dawn\n" * 99), "decode_error"),
    Case("HTML named .ogg", with_bytes("a.ogg", b"<!DOCTYPE html><html><body>404</body></html>"), "decode_error"),
    Case("PNG named .ogg", with_bytes("a.ogg", b"\x89PNG\r\n\x1a\n" + bytes(400)), "decode_error"),
    Case("noise named .vox", with_bytes("a.vox", np.random.default_rng(3).bytes(64_000)), "decode_error"),
    # --- odd content
    Case("OGG named .wav", lambda folder: write(folder / "a.wav", tone(), format="OGG")),
    Case("MP3 named .ogg", lambda folder: write(folder / "a.ogg", tone(), format="MP3")),
    Case("stereo", lambda folder: write(folder / "a.flac", tone(channels=2))),
    Case("stereo in opposite phase", lambda folder: write(folder / "a.flac", tone() * np.array([[1, -1]], np.float32)), notes={"silent_mix": True}),
    Case("all zeros", lambda folder: write(folder / "a.flac", np.zeros(6 * RATE_HZ)), notes={"silent": True}),
    Case("constant offset", lambda folder: write(folder / "a.flac", np.full(6 * RATE_HZ, 0.25))),
    Case("clipped", lambda folder: write(folder / "a.wav", np.clip(tone() * 9, -1, 1)), notes={"clipped_share": ANY}),
    Case("a few NaN", float_wav(with_samples(np.nan, 10)), notes={"nonfinite_samples": 10}),
    Case("a few infinities", float_wav(with_samples(-np.inf, 3)), notes={"nonfinite_samples": 3}),
    Case("a few samples of 1e30", float_wav(with_samples(1e30, 5)), notes={"nonfinite_samples": 5}),
    Case("mostly NaN", float_wav(with_samples(np.nan, 5 * RATE_HZ)), "nonfinite", reason="max_broken_share=0.01"),
    Case("8 kHz", lambda folder: write(folder / "a.wav", tone(6, 8_000), 8_000), notes={"bandlimited_hz": 4_000.0}),
    Case("192 kHz", lambda folder: write(folder / "a.wav", tone(6, 192_000), 192_000)),
    Case("one sample", lambda folder: write(folder / "a.wav", tone()[:1]), "too_short", reason="min_real_fraction=0.5"),
    Case("2.49 s", lambda folder: write(folder / "a.wav", tone(2.49)), "too_short", reason="one window needs 2.5 s"),
    Case("longer than allowed", intact("a.ogg"), "too_long", reason="max_duration_s=5", limits={"max_duration_s": 5}),
    Case("larger than allowed", intact("a.ogg"), "too_large", reason="max_file_bytes=1,000", limits={"max_file_bytes": 1000}),
    # --- the file system
    Case("named pipe", fifo, "not_regular_file", reason="FIFO"),
    Case("socket", unix_socket, "not_regular_file", reason="socket"),
    Case("directory named .ogg", folder_named("a.ogg"), "not_regular_file", reason="directory"),
    Case("device", lambda _: Path("/dev/zero"), "not_regular_file", reason="character device"),
    Case("link to a device", link_to("/dev/zero"), "not_regular_file", reason="character device"),
    Case("link to nothing", link_to("gone.ogg"), "missing"),
    Case("link to itself", link_to("link.ogg"), "missing"),
    Case("link to a recording", link_to_intact),
    Case("missing file", lambda folder: folder / "gone.ogg", "missing"),
    Case("file in place of a folder", lambda folder: intact("a.ogg")(folder) / "b.ogg", "missing"),
    Case("name of 300 bytes", lambda folder: folder / ("x" * 296 + ".ogg"), "missing"),
    Case("NUL in the name", lambda folder: folder / "a\0.ogg", "missing"),
    Case("name of 255 bytes", named("x" * 251 + ".ogg")),
    Case("umlauts and an emoji in the name", named("Kohlmeise häufig \N{BIRD}.ogg")),
    Case("newline in the name", named("two\nlines.ogg")),
    Case("leading dash in the name", named("-rf.ogg")),
    Case("name that is not UTF-8", named(b"K\xf6nig.ogg")),
    Case("upper-case suffix", named("A.OGG")),
]
"""Every fault of a file by itself; those of time (changes, hangs) are tests of their own."""

FORMATS = [
    ("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "DOUBLE"), ("WAV", "ULAW"),
    ("WAV", "IMA_ADPCM"), ("W64", "PCM_16"), ("RF64", "PCM_16"), ("AIFF", "PCM_16"),
    ("CAF", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]
"""Container and coding of files that must be heard."""
# fmt: on
