"""Which views `birdstack features` fills, and with what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from birdstack.features.acoustic import AcousticExtractor
from birdstack.features.acoustic_config import GROUPS
from birdstack.features.audio import AudioSource
from birdstack.features.fast_acoustic import FastAcousticExtractor
from birdstack.features.place import VIEW_NAME, PlaceExtractor
from birdstack.stacking.settings import Settings
from birdstack.store.errors import UsageError
from birdstack.store.extractor import Extractor
from birdstack.store.keys import WindowGrid

PLACE = VIEW_NAME


def make_extractors(
    settings: Settings, source: AudioSource, grid: WindowGrid, only: Sequence[str] = ()
) -> list[Extractor[Any]]:
    """One extractor for the acoustic family and one for the place.

    Args:
        settings: which groups, and how.
        source: whose sound they will hear.
        grid: how recordings are cut into windows.
        only: names of groups, or `place`; empty for all that the settings ask for.

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
        fused = settings.views.implementation == "fused"
        kind = FastAcousticExtractor if fused else AcousticExtractor
        extractors.append(kind(acoustic, source.recipe, grid))
    if PLACE in only or (not only and settings.views.place):
        extractors.append(PlaceExtractor(grid, settings.place))
    return extractors
