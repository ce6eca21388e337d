"""OGG Vorbis decoded by FFmpeg through PyAV (extra `ffmpeg`): a third less time than libsndfile.

FFmpeg has vector instructions where libvorbis has none. It gives the same samples within 1e-7 of
full scale, and as many, wherever a file leaves nothing to guess; what follows damage it places
elsewhere than libvorbis does (a long block after a lost page, the end of a single page), and PyAV
18 crashes on eight channels. So it is given flawless files of one or two channels alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from birdstack.features.decoder_wire import Samples
from birdstack.store.errors import ConfigError

if TYPE_CHECKING:
    import soundfile

MAX_CHANNELS = 2
BLOCK_FRAMES = 1 << 16
"""Frames of one block, 256 KiB a channel: FFmpeg's own are one or two thousand."""
# nothing but the demuxer and the decoder that are asked for, whatever the file pretends to be
_OPTIONS = {"format_whitelist": "ogg", "codec_whitelist": "vorbis"}


def require() -> None:
    """Make sure that PyAV is installed; nothing is loaded.

    Raises:
        ConfigError: it is not.
    """
    if importlib.util.find_spec("av") is None:
        message = "audio.decoder=ffmpeg needs the package 'av', which is not installed"
        raise ConfigError(
            message, remedy="pip install 'birdstack[ffmpeg]', or leave audio.decoder at soundfile"
        )


def open_vorbis(
    view: io.RawIOBase, declared: soundfile.SoundFile, stack: ExitStack
) -> Vorbis | None:
    """Open one flawless OGG stream (`containers.OggLayout.flawless`).

    Args:
        view: the file, with a position of its own.
        declared: the same file as libsndfile sees it.
        stack: closes what was opened.

    Returns:
        None where the stream is left to libsndfile: it is not Vorbis of one or two channels, or
        FFmpeg reads another header than libsndfile does.
    """
    if declared.subtype != "VORBIS" or declared.channels > MAX_CHANNELS:
        return None
    av = importlib.import_module("av")
    try:
        container = stack.enter_context(
            av.open(view, format="ogg", options=_OPTIONS, metadata_errors="replace")
        )
    except av.error.FFmpegError:
        return None
    if len(container.streams) != 1 or not container.streams.audio:
        return None
    context = container.streams.audio[0].codec_context
    seen = (context.name, context.sample_rate, context.channels)
    if seen != ("vorbis", declared.samplerate, declared.channels):
        return None
    return Vorbis(av, container)


class Vorbis:
    """An open stream.

    Args:
        av: the package.
        container: of one Vorbis stream.
    """

    def __init__(self, av: Any, container: Any) -> None:
        self._av = av
        self._container = container

    def blocks(self, n_frames: int) -> Iterator[Samples | str]:
        """Blocks `[frame, channel]`, `n_frames` in all at most.

        A last string says why decoding stopped before the end.
        """
        left = n_frames
        try:
            for block in self._decoded():
                yield block[:left]
                left -= min(left, len(block))
                if not left:
                    return
        except MemoryError:  # FFmpeg's is one of both
            raise
        except (self._av.error.FFmpegError, ValueError) as error:  # the fifo's is a ValueError
            yield str(getattr(error, "strerror", "") or error)

    def _decoded(self) -> Iterator[Samples]:
        stream = self._container.streams.audio[0]
        decode = stream.codec_context.decode
        fifo = self._av.AudioFifo()  # makes large blocks of many small ones, in C
        for packet in self._container.demux(stream):
            try:
                frames = decode(packet)
            except self._av.error.InvalidDataError:
                continue  # a broken packet costs its own sound and no more, as with libvorbis
            for frame in frames:
                frame.pts = None  # else the fifo holds it against those before
                fifo.write(frame)
            while fifo.samples >= BLOCK_FRAMES:
                yield _interleaved(fifo.read(BLOCK_FRAMES))
        if fifo.samples:
            yield _interleaved(fifo.read())


def _interleaved(frame: Any) -> Samples:
    """Samples of a frame, `[frame, channel]`; its own memory if there is one channel."""
    channels = [np.frombuffer(plane, np.float32, frame.samples) for plane in frame.planes]
    return channels[0][:, np.newaxis] if len(channels) == 1 else np.stack(channels, axis=1)
