"""Decoding one file under limits: the part that runs inside the decoder process.

Everything is streamed in blocks, so memory stays bounded whatever a header claims or a
compressed stream expands to. soundfile decodes to float32, channels are averaged, soxr HQ
resamples only where the rate differs; the result equals `soxr.resample` of the whole
recording bit for bit. Where the request says so, FFmpeg decodes flawless OGG Vorbis instead.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
import soxr

from birdstack.features import containers, decoding_ffmpeg, guarded_files
from birdstack.features.decoder_wire import DecodeRequest, Event, Samples
from birdstack.features.sound_meter import SoundMeter
from birdstack.store.errors import SkipRecording

BLOCK_SAMPLES = 1 << 16
"""Samples of one block over all channels: 256 KiB, which stays in cache."""
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 1_000_000
MP3_SLACK_FRAMES = 2 * 1152
"""An MP3 header may count encoder padding, up to two frames of the codec."""
_UNKNOWN_FRAMES = 1 << 62
_SOUNDFILE_ERRORS = (soundfile.SoundFileError, RuntimeError, OSError, ValueError, TypeError)


@dataclass(slots=True)
class _File:
    """An open file with its links (one, except for chained OGG) and container facts."""

    links: list[soundfile.SoundFile]
    notes: dict[str, Any]
    cut: bool
    vorbis: decoding_ffmpeg.Vorbis | None = None

    @property
    def declared_s(self) -> float | None:
        """Declared length of all links; None where one does not declare it."""
        if any(link.frames >= _UNKNOWN_FRAMES for link in self.links):
            return None
        return float(sum(link.frames / link.samplerate for link in self.links))


def decode(request: DecodeRequest) -> Iterator[Event]:
    """Decode one file block by block.

    Yields:
        The events of `decoder_wire.Event`.

    Raises:
        SkipRecording: the file cannot be used.
    """
    try:
        yield from _decode(request)
    except OSError as error:  # a disk that fails amid the walk through a container
        raise guarded_files.skip_for(error) from error


def _decode(request: DecodeRequest) -> Iterator[Event]:
    with ExitStack() as stack:
        raw = stack.enter_context(guarded_files.open_regular(request.path))
        before = os.fstat(raw.fileno())
        guarded_files.check_size(before.st_size, request.max_file_bytes)
        yield {"event": "opened", "n_bytes": before.st_size}
        if request.content_hash:
            guarded_files.check_hash(raw, request.content_hash)
        file = _open(raw, before.st_size, request, stack)
        yield _header(file, request)
        if request.header_only:
            yield {"event": "done", "notes": {}}
            return
        meter = SoundMeter()
        stopped = ""
        decoded_s = 0.0
        n_out = 0
        for link in file.links:
            frames_before = meter.n_frames
            blocks = file.vorbis.blocks(link.frames) if file.vorbis else _blocks(link)
            for block in _resampled(blocks, link.samplerate, meter, request.sample_rate_hz):
                if isinstance(block, str):
                    stopped = block
                    break
                n_out += len(block)
                link_s = (meter.n_frames - frames_before) / link.samplerate
                _check_length(decoded_s + link_s, n_out, request, "decoded")
                if len(block):
                    yield block
            decoded_s += (meter.n_frames - frames_before) / link.samplerate
        guarded_files.check_unchanged(before, raw)
        _check_heard(file, meter, stopped, request)
        yield {"event": "done", "notes": _notes(file, meter, decoded_s, stopped, request)}


def _open(raw: io.FileIO, n_bytes: int, request: DecodeRequest, stack: ExitStack) -> _File:
    descriptor = raw.fileno()
    notes: dict[str, Any] = {}
    cut = False
    ogg = None
    views: list[int | io.RawIOBase] = [descriptor]
    wav = containers.wav_layout(descriptor, n_bytes)
    if wav is not None:
        cut = wav.cut
        if wav.crashed:
            views = [guarded_files.FileView(descriptor, 0, n_bytes, wav.patches)]
            notes["recovered"] = "wav_data_size_0"
    elif not request.header_only:
        ogg = containers.ogg_layout(descriptor, n_bytes)
        cut = ogg is not None and not ogg.ended
        if ogg is not None and len(ogg.links) > 1:
            views = [guarded_files.FileView(descriptor, *link) for link in ogg.links]
            notes["ogg_links"] = len(views)
        if ogg is not None and ogg.damaged_pages:
            notes["damaged_pages"] = ogg.damaged_pages
    links = []
    for view in views:
        link = stack.enter_context(_open_link(view))
        _check_link(link, request)
        links.append(link)
    vorbis = None
    if request.decoder == "ffmpeg" and ogg is not None and ogg.flawless:
        view = guarded_files.FileView(descriptor, 0, n_bytes)
        vorbis = decoding_ffmpeg.open_vorbis(view, links[0], stack)
    return _File(links, notes, cut, vorbis)


def _open_link(view: int | io.RawIOBase) -> soundfile.SoundFile:
    try:
        if isinstance(view, int):
            # by descriptor: any file name will do, and no format is guessed from its end
            os.lseek(view, 0, os.SEEK_SET)
            return soundfile.SoundFile(view, closefd=False)
        return soundfile.SoundFile(view)
    except _SOUNDFILE_ERRORS as error:
        code, reason = "decode_error", f"libsndfile cannot open it: {_words(error)}"
        raise SkipRecording(code, reason) from error


def _words(error: Exception) -> str:
    text = str(getattr(error, "error_string", "") or error).strip()
    return " ".join(text.split()) or type(error).__name__


def _check_link(link: soundfile.SoundFile, request: DecodeRequest) -> None:
    if link.channels > request.max_channels:
        code = "too_many_channels"
        reason = f"{link.channels} channels, above max_channels={request.max_channels}"
        raise SkipRecording(code, reason)
    if not MIN_RATE_HZ <= link.samplerate <= MAX_RATE_HZ:
        code = "bad_sample_rate"
        reason = f"{link.samplerate} Hz, outside [{MIN_RATE_HZ}, {MAX_RATE_HZ}] Hz"
        raise SkipRecording(code, reason)


def _header(file: _File, request: DecodeRequest) -> dict[str, Any]:
    first = file.links[0]
    declared_s = file.declared_s
    if declared_s is None and request.header_only:
        declared_s = _counted_s(file.links, request)
    expected = round((declared_s or 0.0) * request.sample_rate_hz)
    _check_length(declared_s or 0.0, expected, request, "declared")
    return {
        "event": "header",
        "sample_rate_hz": first.samplerate,
        "channels": first.channels,
        "duration_s": declared_s,
        "format": f"{first.format}/{first.subtype}",
    }


def _counted_s(links: list[soundfile.SoundFile], request: DecodeRequest) -> float:
    """Length by decoding, for streams whose header leaves it open (FLAC written to a pipe)."""
    total = 0.0
    for link in links:
        for block in _blocks(link):
            if isinstance(block, str):
                break
            total += len(block) / link.samplerate
            _check_length(total, 0, request, "decoded")
    return total


def _check_length(length_s: float, n_samples: int, request: DecodeRequest, how: str) -> None:
    """Refuse what is longer than the caps; `how` is `declared` or `decoded`."""
    if length_s > request.max_duration_s:
        code = "too_long"
        reason = f"{how} length {length_s:,.1f} s, above max_duration_s={request.max_duration_s:g}"
        raise SkipRecording(code, reason)
    if 4 * n_samples > request.max_sound_bytes:
        code = "too_large"
        reason = (
            f"{how} sound of {4 * n_samples:,} bytes as float32 at {request.sample_rate_hz} Hz, "
            f"above max_sound_bytes={request.max_sound_bytes:,}"
        )
        raise SkipRecording(code, reason)


def _blocks(link: soundfile.SoundFile) -> Iterator[Samples | str]:
    """Blocks `[frame, channel]`; a last string says why decoding stopped before the end."""
    out = np.empty((max(BLOCK_SAMPLES // link.channels, 1), link.channels), dtype=np.float32)
    while True:
        out.fill(np.nan)
        try:
            block = link.read(out=out)
        except _SOUNDFILE_ERRORS as error:
            # what was decoded before the fault lies in the buffer, uncounted
            undecoded = np.isnan(out[:, -1])
            kept = int(undecoded.argmax()) if undecoded.any() else len(out)
            if kept:
                yield out[:kept]
            yield _words(error)
            return
        if len(block) == 0:
            return
        yield block


def _resampled(
    blocks: Iterator[Samples | str], from_hz: int, meter: SoundMeter, rate_hz: int
) -> Iterator[Event | str]:
    """Mono blocks `[sample]` at `rate_hz`; a last string if decoding stopped early."""
    stream = None
    if from_hz != rate_hz:
        stream = soxr.ResampleStream(from_hz, rate_hz, 1, dtype="float32", quality="HQ")
    stopped = ""
    for block in blocks:
        if isinstance(block, str):
            stopped = block
            break
        mono = meter.mix(block)
        yield mono if stream is None else stream.resample_chunk(mono)
    if stream is not None:
        yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
    if stopped:
        yield stopped


def _check_heard(file: _File, meter: SoundMeter, stopped: str, request: DecodeRequest) -> None:
    if meter.n_frames == 0:
        if stopped:
            who = "FFmpeg" if file.vorbis else "libsndfile"
            code, reason = "decode_error", f"{who} cannot decode it: {stopped}"
            raise SkipRecording(code, reason)
        declared = file.declared_s
        code = "decoded_zero"
        reason = f"not one sample could be decoded (declared length {declared or 0.0:.3f} s)"
        raise SkipRecording(code, reason)
    share = meter.n_broken / meter.n_samples
    if share > request.max_broken_share:
        code = "nonfinite"
        reason = (
            f"{share:.1%} of the samples are NaN, infinite or absurd, "
            f"above max_broken_share={request.max_broken_share:g}"
        )
        raise SkipRecording(code, reason)


def _notes(
    file: _File, meter: SoundMeter, decoded_s: float, stopped: str, request: DecodeRequest
) -> dict[str, Any]:
    notes = file.notes | meter.notes()
    first = file.links[0]
    slack_s = MP3_SLACK_FRAMES / first.samplerate if "MPEG" in first.subtype else 0.0
    declared_s = file.declared_s
    short = declared_s is not None and decoded_s < declared_s - slack_s - 1e-9
    if file.cut or short:
        notes["truncated"] = True
        notes["decoded_s"] = round(decoded_s, 6)
        if short and declared_s is not None:
            notes["declared_s"] = round(declared_s, 6)
    if stopped:
        notes["decode_stopped"] = stopped
    if first.samplerate < request.sample_rate_hz:
        notes["bandlimited_hz"] = first.samplerate / 2
    return notes
