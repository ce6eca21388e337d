"""OGG Vorbis with the same bytes for the same samples.

libsndfile gives each stream a serial number from the clock, which shows in every page and
its checksum: two runs would never agree. Here the number is replaced by a fixed one.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

from birdstack.features.demo_song import RATE_HZ, Samples

_BLOCK = 1 << 16
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_ALL_ONES = 0xFFFFFFFF


def encode_ogg(samples: Samples, *, serial: int, compression: float = 0.62) -> bytes:
    """Encode mono samples at `RATE_HZ`.

    Args:
        samples: `[sample]` in [-1, 1]; rounded to 16 bits first, so that the last bits of
            arithmetic, which differ between processors, do not reach the encoder.
        serial: number of the stream.
        compression: 0 (largest) to 1 (smallest), as libsndfile has it.

    Returns:
        The file. The same samples and the same libsndfile give the same bytes.
    """
    import soundfile  # noqa: PLC0415 - loads libsndfile

    rounded = np.round(np.clip(samples, -1, 1) * 32_767).astype(np.float32) / np.float32(32_767)
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", RATE_HZ, 1, format="OGG", subtype="VORBIS", compression_level=compression
    ) as file:
        # One call with minutes of samples overflows the encoder's stack.
        for start in range(0, len(rounded), _BLOCK):
            file.write(rounded[start : start + _BLOCK])
    return with_serial(buffer.getvalue(), serial)


def with_serial(ogg: bytes, serial: int) -> bytes:
    """The same stream under another serial number, with the pages' checksums renewed."""
    content = bytearray(ogg)
    start = 0
    while start < len(content):
        n_segments = content[start + 26]
        table = content[start + 27 : start + 27 + n_segments]
        end = start + 27 + n_segments + sum(table)
        struct.pack_into("<I", content, start + 14, serial)
        struct.pack_into("<I", content, start + 22, 0)
        struct.pack_into("<I", content, start + 22, _page_crc(bytes(content[start:end])))
        start = end
    return bytes(content)


def _page_crc(page: bytes) -> int:
    """Ogg's CRC-32 (RFC 3533): zlib's polynomial, bits in the other order, nothing inverted."""
    mirrored = zlib.crc32(page.translate(_REVERSED), _ALL_ONES) ^ _ALL_ONES
    return int(f"{mirrored:032b}"[::-1], 2)
