"""Which views `birdstack features` fills, and with what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from birdstack.features.acoustic import AcousticExtractor
from birdstack.features.acoustic_checks import WindowedSound
from birdstack.features.acoustic_config import GROUPS, AcousticConfig
from birdstack.features.audio import AudioSource, Sound
from birdstack.features.fast_acoustic import FastAcousticExtractor, Listener
from birdstack.features.fused_plan import FrontEnd
from birdstack.features.place import VIEW_NAME, PlaceExtractor
from birdstack.stacking.settings import Settings
from birdstack.store.errors import UsageError
from birdstack.store.extractor import Extractor
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording

if TYPE_CHECKING:
    from birdstack.embeddings.mel_input import MelInput
    from birdstack.embeddings.shelf import InputShelf
    from birdstack.stacking.networks import Networks

PLACE = VIEW_NAME


def make_extractors(
    settings: Settings,
    source: AudioSource,
    grid: WindowGrid,
    only: Sequence[str] = (),
    networks: Networks | None = None,
) -> list[Extractor[Any]]:
    """One extractor for the acoustic family, one for the place, and one for each network.

    Args:
        settings: which groups, and how.
        source: whose sound they will hear.
        grid: how recordings are cut into windows.
        only: names of groups, or `place`; empty for all that the settings ask for.
        networks: those that hear; None for none.

    Raises:
        UsageError: `only` holds an unknown name.
        ConfigError: the settings do not fit the sound or the grid.
    """
    unknown = [name for name in only if name not in (*GROUPS, PLACE)]
    if unknown:
        message = f"--group {unknown[0]}: groups are {', '.join((*GROUPS, PLACE))}"
        raise UsageError(message, remedy="give one of these, or leave --group away for all")
    groups = tuple(only) if only else settings.acoustic.groups
    acoustic = settings.acoustic.model_copy(
        update={"groups": tuple(g for g in groups if g != PLACE)}
    )
    extractors: list[Extractor[Any]] = []
    if acoustic.groups:
        pictures = [] if networks is None else networks.shared_pictures()
        shelf = None if networks is None else networks.shelf
        how = settings.views.implementation
        extractors.append(
            acoustic_extractor(acoustic, how, source, grid, pictures=pictures, shelf=shelf)
        )
    if PLACE in only or (not only and settings.views.place):
        extractors.append(PlaceExtractor(grid, settings.place))
    if networks is not None:
        extractors += networks.extractors(source.recipe)
    return extractors


def acoustic_extractor(
    config: AcousticConfig,
    implementation: Literal["fused", "reference"],
    source: AudioSource,
    grid: WindowGrid,
    *,
    pictures: Sequence[MelInput] = (),
    shelf: InputShelf | None = None,
) -> AcousticExtractor:
    """What fills the acoustic views; it draws a network's picture too where one transform serves.

    Args:
        config: what to measure.
        implementation: `fused` or `reference`.
        source: whose sound it will hear.
        grid: how recordings are cut.
        pictures: that networks take.
        shelf: where they find them; None if no network hears.
    """
    if implementation != "fused":
        return AcousticExtractor(config, source.recipe, grid)
    front_end = FrontEnd.of(config, source.config.sample_rate_hz)
    drawn = [
        each
        for each in pictures
        if each.config.precision == "float64" and each.config.front_end() == front_end
    ]
    if shelf is None or not drawn:
        return FastAcousticExtractor(config, source.recipe, grid)
    return _DrawingAcoustic(config, source.recipe, grid, drawn[0], shelf)


class _DrawingAcoustic(FastAcousticExtractor):
    """Leaves the networks' picture of every window on the shelf: one transform for both."""

    def __init__(
        self,
        config: AcousticConfig,
        audio_recipe: Mapping[str, Any],
        grid: WindowGrid,
        picture: MelInput,
        shelf: InputShelf,
    ) -> None:
        super().__init__(config, audio_recipe, grid)
        self._picture = picture
        self._shelf = shelf

    def extract(
        self,
        sound: WindowedSound,
        recording: Recording,
        wanted: Collection[str],
        *,
        listener: Listener | None = None,
    ) -> dict[str, dict[str, np.ndarray]]:
        """As the fast extractor, with pictures."""
        if listener is None and isinstance(sound, Sound):
            listener = self._shelf.listener(sound, self._picture)
        return super().extract(sound, recording, wanted, listener=listener)
