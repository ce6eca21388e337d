"""Blocks of samples handed from a decoder process to its parent through shared memory.

A pipe copies every block twice and takes a fresh page of memory for each 4 KiB. Here the decoder
fills one of a few slots that both processes have mapped, names its length in a message, and fills
it again when the parent has taken what it holds. Linux alone; elsewhere blocks go through the pipe.
"""

from __future__ import annotations

import mmap
import os

import numpy as np

from birdstack.features.decoder_wire import Samples

VARIABLE = "BIRDSTACK_DECODER_RING"
"""Tells the decoder process its descriptors: the memory, and where slots are given back."""
SLOTS, SLOT_SAMPLES = 4, 1 << 16
"""1 MiB in all: two slots wait for each other, sixteen fall out of the cache."""
_BYTES = 4 * SLOTS * SLOT_SAMPLES


def _slots(memory: int) -> Samples:
    return np.frombuffer(mmap.mmap(memory, _BYTES), np.float32).reshape(SLOTS, SLOT_SAMPLES)


class RingReader:
    """The parent's side, which makes the memory.

    Raises:
        OSError: it cannot be had.
    """

    def __init__(self) -> None:
        self._memory = os.memfd_create("birdstack-decoder")
        self._given_back, self._give_back = -1, -1
        try:
            os.ftruncate(self._memory, _BYTES)
            self._slots: Samples = _slots(self._memory)
            self._given_back, self._give_back = os.pipe()
        except BaseException:
            self.close()
            raise
        self._next = 0

    @property
    def descriptors(self) -> tuple[int, int]:
        """What the decoder process must inherit."""
        return self._memory, self._given_back

    def inherited(self) -> None:
        """Let go of the decoder's ends, once it was started."""
        os.close(self._memory)
        os.close(self._given_back)
        self._memory = self._given_back = -1

    def take(self, room: memoryview) -> None:
        """Copy the next slot's first bytes to `room`, and give the slot back.

        Raises:
            BrokenPipeError: the decoder is gone.
        """
        room[:] = self._slots[self._next].data.cast("B")[: len(room)]
        self._next = (self._next + 1) % SLOTS
        os.write(self._give_back, b"\0")

    def close(self) -> None:
        """Close what is open; the memory goes with the last process that has it mapped."""
        for descriptor in (self._memory, self._given_back, self._give_back):
            if descriptor >= 0:
                os.close(descriptor)
        self._memory = self._given_back = self._give_back = -1


class RingWriter:
    """The decoder's side.

    Args:
        memory: descriptor of the memory.
        given_back: descriptor that yields a byte for each slot that was taken.
    """

    def __init__(self, memory: int, given_back: int) -> None:
        self._slots = _slots(memory)
        self._given_back = given_back
        self._free = SLOTS
        self._next = 0

    @classmethod
    def of_environment(cls) -> RingWriter | None:
        """The ring that the parent made; None if it made none."""
        named = os.environ.pop(VARIABLE, "")
        return cls(*map(int, named.split(","))) if named else None

    def put(self, samples: Samples) -> bool:
        """Fill the next slot, as soon as there is a free one; False if a slot is too small.

        Raises:
            BrokenPipeError: the parent is gone.
        """
        if len(samples) > SLOT_SAMPLES:
            return False
        if not self._free:
            self._free = len(os.read(self._given_back, SLOTS))
        if not self._free:
            raise BrokenPipeError
        self._slots[self._next, : len(samples)] = samples
        self._next = (self._next + 1) % SLOTS
        self._free -= 1
        return True
