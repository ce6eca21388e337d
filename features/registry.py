"""Every acoustic feature: what there is, and how an extractor asks for it.

Features are declared in the modules of `DEFINITIONS`, each by one decorated function
(feature.py says how). Columns, recipes, documentation and every extractor follow from here.
The recipe of a group lists each of its features with its `version`, and the settings that
these need: a feature added to a group, or changed, recomputes that group alone.

The hook of a faster extractor. It has kernels for some features and keeps no list of the
others: what it did not compute itself, it asks for with

    window = HeardWindow(samples, config=..., sample_rate_hz=..., memory=..., given=...)
    row = measure_window(missing, window)            # float64, every column of `missing`
    values = finish_recording(all_of_group, values)  # adds columns over a whole recording

where `missing` are the members of `group_features(group)` with scope "window" that have no
kernel. `given` hands over spectra that the extractor already has, under the names of
`HeardWindow`'s attributes (`{"magnitude": [bin, frame], "mel": [mel, frame]}`, float64);
what is not given is transformed when, and only if, a function asks for it. `memory` is one
dict for each recording, in which features that know their past (PCEN) keep it: they need
every window in order, from the first.

Nothing here, nor importing the modules of `DEFINITIONS`, imports librosa, scipy or numba.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from birdstack.features.acoustic_config import GROUPS, AcousticConfig, Group
from birdstack.features.feature import REGISTERED, Feature, FeatureColumn
from birdstack.features.spectrum import TRANSFORM_VERSION, HeardWindow
from birdstack.store.keys import WindowGrid
from birdstack.store.views import Column, ViewSpec

FAMILY = "acoustic"
DEFINITIONS = (
    "birdstack.features.cepstrum",
    "birdstack.features.spectral",
    "birdstack.features.waveform",
    "birdstack.features.contrast",
    "birdstack.features.pcen",
    "birdstack.features.rhythm",
    "birdstack.features.modulation",
    "birdstack.features.activity",
    "birdstack.features.indices",
)
"""Modules that hold decorated functions; within a group, columns follow their order."""


@functools.cache
def _load() -> None:
    for name in DEFINITIONS:
        importlib.import_module(name)


def all_features() -> tuple[Feature, ...]:
    """Every feature, group by group, in the order of the columns."""
    _load()
    ranked = sorted(REGISTERED.values(), key=lambda each: GROUPS.index(each.group))
    return tuple(ranked)


def group_features(group: Group) -> tuple[Feature, ...]:
    """The features of one group, in the order of the columns."""
    return tuple(each for each in all_features() if each.group == group)


def group_feature_columns(
    group: Group, config: AcousticConfig, sample_rate_hz: int
) -> list[FeatureColumn]:
    """The columns of one group with all that is declared of them."""
    return [
        column for each in group_features(group) for column in each.columns(config, sample_rate_hz)
    ]


def group_columns(group: Group, config: AcousticConfig, sample_rate_hz: int) -> tuple[Column, ...]:
    """The columns of one group, as the store keeps them."""
    found = group_feature_columns(group, config, sample_rate_hz)
    return tuple(each.column for each in found)


def view_name(group: Group) -> str:
    """Name of the view that holds a group: `acoustic/<group>`."""
    return f"{FAMILY}/{group}"


def group_recipe(
    group: Group,
    config: AcousticConfig,
    audio_recipe: Mapping[str, Any],
    grid: WindowGrid,
    implementation: str,
) -> dict[str, Any]:
    """All that determines the numbers of one group, and nothing else of the configuration."""
    members = group_features(group)
    used = {setting for each in members for setting in each.settings}
    parameters = config.model_dump(mode="json")
    return {
        "extractor": FAMILY,
        "group": group,
        "implementation": implementation,
        "transform": TRANSFORM_VERSION,
        "features": {each.name: each.version for each in members},
        "parameters": {name: parameters[name] for name in parameters if name in used},
        "audio": dict(audio_recipe),
        "grid": grid.model_dump(mode="json"),
    }


def group_spec(
    group: Group,
    config: AcousticConfig,
    audio_recipe: Mapping[str, Any],
    grid: WindowGrid,
    implementation: str,
) -> ViewSpec:
    """The view of one group."""
    columns = group_columns(group, config, audio_recipe["sample_rate_hz"])
    recipe = group_recipe(group, config, audio_recipe, grid, implementation)
    return ViewSpec(view_name(group), columns, recipe)


def measure_window(features: Iterable[Feature], window: HeardWindow) -> dict[str, float]:
    """Columns of one window, of those features whose scope is a window."""
    row: dict[str, float] = {}
    for each in features:
        if each.scope == "window":
            row |= each.values(window)
    return row


def finish_recording(
    features: Sequence[Feature], values: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The values `{column: [window]}` with those columns that need the whole recording."""
    finished = dict(values)
    for each in features:
        if each.scope == "recording":
            finished[each.name] = each.measure(values)
    return finished


@contextmanager
def isolated() -> Iterator[None]:
    """Features declared inside are forgotten at the end: for tests and examples."""
    _load()
    before = dict(REGISTERED)
    try:
        yield
    finally:
        REGISTERED.clear()
        REGISTERED.update(before)
