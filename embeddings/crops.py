"""Sound for a training: recordings decoded once in a while, windows cut out of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from birdstack.features.audio import Sound
from birdstack.features.resample import resample
from birdstack.store.errors import SkipRecording
from birdstack.store.recordings import Recording


class SoundSource(Protocol):
    """Opens recordings, such as an `AudioSource`. Thread-safe."""

    def open(self, recording: Recording) -> Sound:
        """Decode one recording.

        Raises:
            SkipRecording: it cannot be used.
        """
        ...


class CropSource:
    """Windows of recordings, from sounds that are kept while there is room. Thread-safe.

    A recording that cannot be decoded is remembered and not tried again.

    Args:
        source: decodes.
        recordings: that may be asked for, by position.
        sample_rate_hz: of the windows; a source with another rate is resampled.
        cache_mb: MiB of sounds kept; the least recently used go first.

    Attributes:
        skipped: recording_id to the code and the reason why it could not be heard.
    """

    def __init__(
        self,
        source: SoundSource,
        recordings: Sequence[Recording],
        *,
        sample_rate_hz: int,
        cache_mb: int,
    ) -> None:
        self.skipped: dict[str, tuple[str, str]] = {}
        self._source = source
        self._recordings = recordings
        self._rate_hz = sample_rate_hz
        self._room = cache_mb << 20
        self._kept: OrderedDict[int, Sound] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()
        self._decoding: dict[int, threading.Event] = {}

    def sound(self, index: int) -> Sound:
        """A recording at the wanted rate; two threads that ask at once share one decode.

        Raises:
            SkipRecording: it cannot be heard.
        """
        while True:
            with self._lock:
                found = self._known(index)
                if found is not None:
                    return found
                other = self._decoding.get(index)
                if other is None:
                    mine = self._decoding[index] = threading.Event()
            if other is None:
                break
            other.wait()
        try:
            sound = self._decoded(index)
        finally:
            with self._lock:
                del self._decoding[index]
            mine.set()
        return sound

    def crop(self, index: int, rng: np.random.Generator) -> np.ndarray:
        """A window that starts at any sample, `[sample]`; a short sound has zeros behind it.

        Raises:
            SkipRecording: the recording cannot be heard.
        """
        sound = self.sound(index)
        length = sound.grid.window_samples(sound.sample_rate_hz)
        spare = len(sound.samples) - length
        # Drawn for short sounds too, so that one does not move the draws of those behind it.
        start = int(rng.integers(0, max(spare, 0) + 1))
        crop = np.zeros(length, dtype=np.float32)
        heard = sound.samples[start : start + length]
        crop[: len(heard)] = heard
        return crop

    def window(self, index: int, window: int) -> np.ndarray:
        """A window of the grid, `[sample]`.

        Raises:
            SkipRecording: the recording cannot be heard, or ends before that window.
        """
        sound = self.sound(index)
        if window >= sound.n_windows:
            code = "no_window"
            reason = f"window {window} is labelled, the sound has {sound.n_windows} windows"
            raise SkipRecording(code, reason)
        return sound.window(window)

    def _known(self, index: int) -> Sound | None:
        name = self._recordings[index].recording_id
        if name in self.skipped:
            raise SkipRecording(*self.skipped[name])
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        return None

    def _decoded(self, index: int) -> Sound:
        recording = self._recordings[index]
        try:
            sound = self._at_rate(self._source.open(recording))
        except SkipRecording as skip:
            with self._lock:
                self.skipped[recording.recording_id] = (skip.code, skip.reason)
            raise
        with self._lock:
            self._kept[index] = sound
            self._held += sound.samples.nbytes
            while self._held > self._room and len(self._kept) > 1:
                _, gone = self._kept.popitem(last=False)
                self._held -= gone.samples.nbytes
        return sound

    def _at_rate(self, sound: Sound) -> Sound:
        if sound.sample_rate_hz == self._rate_hz:
            return sound
        samples = resample(sound.samples, sound.sample_rate_hz, self._rate_hz)
        return Sound(samples, self._rate_hz, sound.grid, sound.notes)
