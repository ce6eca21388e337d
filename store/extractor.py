"""The contract between the materialisation engine and whatever fills a view.

A `Source` opens a recording once; every `Extractor` that lacks it hears the same opened
sound, so several views cost one decode. Networks use the same two protocols.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy as np

from birdstack.store.recordings import Recording
from birdstack.store.views import ViewSpec

Opened_co = TypeVar("Opened_co", bound="OpenedRecording", covariant=True)
Heard_contra = TypeVar("Heard_contra", contravariant=True)


class OpenedRecording(Protocol):
    """What a source hands to extractors; at least it knows its number of windows."""

    @property
    def n_windows(self) -> int:
        """Number of windows of the store's grid."""
        ...

    @property
    def notes(self) -> dict[str, Any]:
        """Facts worth keeping with the result, such as `{"truncated": True}`; often empty."""
        ...


class Source(Protocol[Opened_co]):
    """Opens recordings: for audio, decode, mix to mono, resample."""

    def open(self, recording: Recording) -> Opened_co:
        """Open one recording.

        Raises:
            SkipRecording: the recording cannot be used; the reason is kept in the store.
        """
        ...


class Extractor(Protocol[Heard_contra]):
    """Turns an opened recording into the rows of one view."""

    @property
    def spec(self) -> ViewSpec:
        """The view it fills. Cheap: asking for it imports no heavy library."""
        ...

    def extract(self, sound: Heard_contra, recording: Recording) -> dict[str, np.ndarray]:
        """Values of every column of `spec`, each `[window]` or `[window, dim]`.

        Thread-safe: the engine calls it from several threads at once.

        Raises:
            SkipRecording: this view cannot be computed for this recording.
        """
        ...
