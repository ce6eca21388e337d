"""Decoded samples arriving block by block, kept in one growing array."""

from __future__ import annotations

import numpy as np

from birdstack.features.decoder_wire import Samples

_MAX_FIRST_SAMPLES = 1 << 26
"""256 MiB: a header's claim alone allocates no more than this."""


class SampleBuffer:
    """One contiguous float32 array that grows as samples arrive.

    Growing goes through `realloc`, so large arrays are remapped rather than copied, and at
    no time do two copies of a recording exist.

    Args:
        expected: number of samples that the header declares; 0 if unknown.
    """

    def __init__(self, expected: int) -> None:
        self._samples: Samples = np.empty(min(expected, _MAX_FIRST_SAMPLES), dtype=np.float32)
        self._n = 0

    def reserve(self, count: int) -> memoryview:
        """Room for the next `count` samples, as bytes to be filled; release it at once."""
        needed = self._n + count
        if needed > len(self._samples):
            # no view outlives the call that asked for it, so no reference check is needed
            self._samples.resize(max(needed, len(self._samples) * 3 // 2), refcheck=False)
        view = self._samples[self._n : needed].data.cast("B")
        self._n = needed
        return view

    def append(self, block: Samples) -> None:
        """Copy a block `[sample]` to the end."""
        with self.reserve(len(block)) as room:
            room[:] = block.data.cast("B")

    def finish(self) -> Samples:
        """The samples `[sample]`, without spare room. The buffer is spent."""
        samples, self._samples = self._samples, np.empty(0, dtype=np.float32)
        samples.resize(self._n, refcheck=False)
        return samples
