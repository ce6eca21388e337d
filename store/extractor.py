"""The contract between the materialisation engine and whatever fills a view.

A `Source` opens a recording once; every `Extractor` that lacks it hears the same opened
sound, so several views cost one decode. Networks use the same two protocols.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class KnownWindows:
    """Stands for an opened recording where only the number of windows matters."""

    n_windows: int

    @property
    def notes(self) -> dict[str, Any]:
        """None: nothing was opened."""
        return {}


class Extractor(Protocol[Heard_contra]):
    """Turns an opened recording into the rows of one or more views.

    One pass often gives several views: the groups of the acoustic family share a spectrum,
    a network gives embeddings and logits.
    """

    @property
    def specs(self) -> tuple[ViewSpec, ...]:
        """The views it fills. Cheap: asking for them imports no heavy library."""
        ...

    @property
    def needs_sound(self) -> bool:
        """False if the number of windows is enough (a `KnownWindows` may then come instead)."""
        ...

    def content_key(self, recording: Recording) -> str | None:
        """What of the recording determines the numbers: they are made again when it changes.

        For what is heard, `recording.content_key`; for place and time, those as well. None:
        these views do not take the recording.
        """
        ...

    def extract(
        self, sound: Heard_contra, recording: Recording, wanted: Collection[str]
    ) -> Mapping[str, Mapping[str, np.ndarray]]:
        """Values of the wanted views: view -> column -> `[window]` or `[window, dim]`.

        Thread-safe: the engine calls it from several threads at once.

        Args:
            sound: what the source opened.
            recording: where, when and which file.
            wanted: names of the views that this recording lacks; nothing else is computed.

        Raises:
            SkipRecording: these views cannot be computed for this recording.
        """
        ...


class SingleView:
    """Base of an extractor that fills one view: it gives `spec` and `measure`.

    Attributes:
        spec: the view (an attribute or a property).
        needs_sound: False if the number of windows is enough.
    """

    spec: ViewSpec
    needs_sound = True

    @property
    def specs(self) -> tuple[ViewSpec, ...]:
        """The one view."""
        return (self.spec,)

    def content_key(self, recording: Recording) -> str | None:
        """The file's bytes."""
        return recording.content_key

    def measure(self, sound: Any, recording: Recording) -> Mapping[str, np.ndarray]:
        """Values of every column of `spec`, each `[window]` or `[window, dim]`."""
        raise NotImplementedError

    def extract(
        self, sound: Any, recording: Recording, wanted: Collection[str]
    ) -> Mapping[str, Mapping[str, np.ndarray]]:
        """The one view, if it is wanted."""
        name = self.spec.name
        return {name: self.measure(sound, recording)} if name in wanted else {}
