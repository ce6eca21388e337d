"""What libsndfile does not tell: OGG links and endings, WAV sizes nobody wrote.

libsndfile decodes only the first link of a chained OGG file, takes an OGG file that was
cut for a shorter one, and reads a WAV file whose data size is still 0 (the recorder lost
power) as empty. Each of the three is silent, so the containers are walked here.
Sources: RFC 3533 (OGG pages); Multimedia Programming Interface 1.0 (RIFF).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_PAGE = b"OggS"
_PAGE_HEADER = 27
_MAX_SEGMENTS = 255
_FIELDS = struct.Struct("<4sBBQII")
_NO_GRANULE = (1 << 64) - 1  # no packet ends on the page
_BEGINS, _ENDS = 0x02, 0x04
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_SEARCH_BYTES = 1 << 16
_UNSIZED = 0x7FFFF000
"""Data sizes from here on mean "not known yet": recorders and pipes write 2 or 4 GiB."""


@dataclass(frozen=True, slots=True)
class OggLayout:
    """Links of an OGG file.

    Attributes:
        links: byte range `[start, end)` of each link, in order.
        ended: whether every stream of every link has its end-of-stream page.
        damaged_pages: pages whose checksum fails, and gaps between pages.
        flawless: one stream of numbered pages without a gap or damage, ended, with a granule
            position on two pages at least: no decoder has anything to guess.
    """

    links: tuple[tuple[int, int], ...]
    ended: bool
    damaged_pages: int
    flawless: bool


class _Page(NamedTuple):
    offset: int
    flags: int
    granule: int
    serial: int
    number: int
    whole: bool
    sound: bool


@dataclass(frozen=True, slots=True)
class WavLayout:
    """The data chunk of a RIFF WAVE file.

    Attributes:
        size_offset: offset of the four bytes that hold the chunk's size.
        declared: size of the data that the header declares, in bytes.
        available: bytes that lie behind the chunk's header.
        crashed: the size is 0 although sound lies behind it.
    """

    size_offset: int
    declared: int
    available: int
    crashed: bool

    @property
    def cut(self) -> bool:
        """Whether bytes that the header declares are missing."""
        return self.available < self.declared < _UNSIZED

    @property
    def patches(self) -> dict[int, bytes]:
        """The sizes that the recorder would have written, by offset."""
        riff_size = min(self.size_offset + 4 + self.available - 8, 0xFFFFFFFF)
        data_size = min(self.available, 0xFFFFFFFF)
        return {
            4: riff_size.to_bytes(4, "little"),
            self.size_offset: data_size.to_bytes(4, "little"),
        }


def ogg_layout(descriptor: int, n_bytes: int) -> OggLayout | None:
    """Walk the pages of an OGG file; None if it is not one."""
    if os.pread(descriptor, 4, 0) != _PAGE:
        return None
    starts: list[int] = []
    streams: set[int] = set()  # begun in this link and not yet ended
    ended = True
    beginning = False
    damaged = n_begun = n_timed = 0
    numbered = True
    for index, page in enumerate(_pages(descriptor, n_bytes)):
        begins = bool(page.flags & _BEGINS)
        if begins and not beginning:
            starts.append(page.offset)
            ended = ended and not streams  # a link may follow one that was cut
            streams = set()
        beginning = begins
        damaged += not page.sound
        n_begun += begins
        numbered = numbered and page.number == index
        n_timed += 0 < page.granule < _NO_GRANULE
        if begins:
            streams.add(page.serial)
        if page.flags & _ENDS and page.whole:
            streams.discard(page.serial)
    starts = starts or [0]
    links = tuple(zip(starts, [*starts[1:], n_bytes], strict=True))
    ended = ended and not streams
    flawless = ended and not damaged and numbered and n_begun == 1 and n_timed > 1
    return OggLayout(links, ended, damaged, flawless)


def _pages(descriptor: int, n_bytes: int) -> Iterator[_Page]:
    """Every page; one that follows bytes that are no page counts as damaged."""
    offset = 0
    in_step = True
    while offset + _PAGE_HEADER <= n_bytes:
        header = os.pread(descriptor, _PAGE_HEADER + _MAX_SEGMENTS, offset)
        if header[:4] != _PAGE or len(header) < _PAGE_HEADER:
            following = _find(descriptor, _PAGE, offset + 1)
            if following < 0:
                return
            offset, in_step = following, False
            continue
        n_segments = header[26]
        lacing = header[_PAGE_HEADER : _PAGE_HEADER + n_segments]
        size = _PAGE_HEADER + n_segments + sum(lacing)
        whole = offset + size <= n_bytes
        sound = in_step and (not whole or _checksum_holds(os.pread(descriptor, size, offset)))
        _, _, flags, granule, serial, number = _FIELDS.unpack_from(header)
        yield _Page(offset, flags, granule, serial, number, whole, sound)
        offset, in_step = offset + size, True


def _checksum_holds(page: bytes) -> bool:
    """Whether the CRC of a page fits.

    OGG's CRC is the one of zlib run from the other end of every byte, with no inversion:
    reversing the bits going in and coming out lets zlib do the work.
    """
    content = page[:22] + bytes(4) + page[26:]
    crc = zlib.crc32(content.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "big").translate(_REVERSED_BITS)[::-1] == page[22:26][::-1]


def _find(descriptor: int, needle: bytes, offset: int) -> int:
    while True:
        chunk = os.pread(descriptor, _SEARCH_BYTES, offset)
        place = chunk.find(needle)
        if place >= 0:
            return offset + place
        if len(chunk) < _SEARCH_BYTES:
            return -1
        offset += _SEARCH_BYTES - len(needle) + 1


def wav_layout(descriptor: int, n_bytes: int) -> WavLayout | None:
    """Find the data chunk of a RIFF WAVE file; None if there is none to be found."""
    head = os.pread(descriptor, 12, 0)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    saw_format = False
    for name, offset, size in _chunks(descriptor, 12, n_bytes):
        saw_format = saw_format or name == b"fmt "
        if name != b"data":
            continue
        available = n_bytes - offset - 8
        crashed = size == 0 and available > 0 and saw_format
        if crashed and _ends_in_chunks(descriptor, offset + 8, n_bytes):
            crashed = False  # an empty recording with metadata behind it
        return WavLayout(offset + 4, size, available, crashed)
    return None


def _chunks(descriptor: int, offset: int, n_bytes: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and declared size of each RIFF chunk."""
    while offset + 8 <= n_bytes:
        header = os.pread(descriptor, 8, offset)
        size = int.from_bytes(header[4:8], "little")
        yield header[:4], offset, size
        offset += 8 + size + size % 2


def _ends_in_chunks(descriptor: int, offset: int, n_bytes: int) -> bool:
    end = offset
    for name, start, size in _chunks(descriptor, offset, n_bytes):
        if not (name.isascii() and name.decode("ascii").isprintable()):
            return False
        end = start + 8 + size
    return end in {n_bytes, n_bytes - 1, n_bytes + 1} and end > offset
