"""A few seconds of a recording for a page: sound that every browser plays, and its picture.

MP3 where libsndfile can write it, since all browsers play that; else OGG Vorbis.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from birdstack.features.pictures_spectrogram import Spectrogram, colour_limits_db

_PEAK = 0.7
_MOST_GAIN = 100.0  # 40 dB: louder than that is hiss
_COLOURS = 64
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Clip:
    """Encoded sound.

    Attributes:
        data: the file.
        mime: its type, as a browser wants it.
        gain_db: by how much it was made louder.
    """

    data: bytes
    mime: str
    gain_db: float


def encode_clip(samples: np.ndarray, sample_rate_hz: int) -> Clip:
    """Encode mono samples `[sample]`, brought to one loudest sample.

    Args:
        samples: nominally in [-1, 1].
        sample_rate_hz: their rate; 32 kHz and the usual rates up to 48 kHz can be encoded.
    """
    import soundfile  # noqa: PLC0415 - loads libsndfile

    peak = float(np.abs(samples).max(initial=0.0))
    gain = min(_PEAK / peak, _MOST_GAIN) if peak > 0 else 1.0
    sound = np.clip(samples * gain, -1, 1).astype(np.float32)
    mp3 = "MP3" in soundfile.available_formats()
    kind = ("MP3", "MPEG_LAYER_III", "audio/mpeg") if mp3 else ("OGG", "VORBIS", "audio/ogg")
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", sample_rate_hz, 1, format=kind[0], subtype=kind[1], compression_level=0.7
    ) as file:
        for start in range(0, len(sound), _BLOCK):
            file.write(sound[start : start + _BLOCK])
    return Clip(buffer.getvalue(), kind[2], float(20 * np.log10(gain)))


def spectrogram_png(picture: Spectrogram) -> bytes:
    """A spectrogram as a bare PNG in viridis, time to the right, high frequencies on top."""
    from matplotlib import colormaps  # noqa: PLC0415 - heavy
    from PIL import Image  # noqa: PLC0415 - comes with matplotlib

    low, high = colour_limits_db(picture.level_db)
    share = np.clip((picture.level_db[::-1] - low) / (high - low), 0, 1)
    image = Image.fromarray((share * (_COLOURS - 1)).round().astype(np.uint8), mode="P")
    palette = colormaps["viridis"](np.linspace(0, 1, _COLOURS))[:, :3]
    image.putpalette((palette * 255).round().astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
