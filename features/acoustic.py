"""The acoustic views: what can be heard in a window, without a network and without labels.

This is the reference: it runs the registered functions, plain numpy after the definitions,
over one float64 transform a window. It is kept as the yardstick of any faster extractor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from birdstack.features import registry
from birdstack.features.acoustic_checks import (
    WindowedSound,
    frames_to_next,
    refuse_misfits,
    refuse_other_rate,
    sample_rate_of,
)
from birdstack.features.acoustic_config import GROUPS, AcousticConfig, Group
from birdstack.features.feature import Feature
from birdstack.features.spectrum import HeardWindow
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording
from birdstack.store.views import ViewSpec

__all__ = ["GROUPS", "AcousticConfig", "AcousticExtractor", "Group", "WindowedSound", "flat"]


class AcousticExtractor:
    """Fills the views `acoustic/<group>` of one recording at a time.

    Holds no state between recordings, so one extractor serves any number of threads.

    Args:
        config: what to measure.
        audio_recipe: how the sound was decoded; must hold `sample_rate_hz`.
        grid: how recordings are cut into windows.

    Raises:
        ConfigError: a frequency limit lies above half the sample rate, bins are wider than
            the lowest band, or a window is too short for the frames that the columns need.
    """

    implementation = "reference"
    needs_sound = True

    def __init__(
        self, config: AcousticConfig, audio_recipe: Mapping[str, Any], grid: WindowGrid
    ) -> None:
        self.config = config
        self.grid = grid
        self.sample_rate_hz = sample_rate_of(audio_recipe)
        self._audio_recipe = dict(audio_recipe)
        refuse_misfits(config, self.sample_rate_hz, grid)

    @cached_property
    def groups(self) -> dict[str, Group]:
        """The chosen groups by the name of their view, in the order of `GROUPS`."""
        chosen = [group for group in GROUPS if group in self.config.groups]
        return {registry.view_name(group): group for group in chosen}

    @cached_property
    def specs(self) -> tuple[ViewSpec, ...]:
        """One view for each chosen group: its columns, and all that determines them."""
        return tuple(
            registry.group_spec(
                group, self.config, self._audio_recipe, self.grid, self.implementation
            )
            for group in self.groups.values()
        )

    def content_key(self, recording: Recording) -> str:
        """The file's bytes: nothing else of a recording is heard."""
        return recording.content_key

    def extract(
        self, sound: WindowedSound, recording: Recording, wanted: Collection[str]
    ) -> dict[str, dict[str, np.ndarray]]:
        """Measure every window of a recording, in order.

        Args:
            sound: the decoded recording.
            recording: names it in errors.
            wanted: names of views among `specs`; nothing else is measured.

        Returns:
            For each wanted view, in the order of `specs`, float32 `[window]` for each of its
            columns, in order.

        Raises:
            ConfigError: the sound has another sample rate than the recipe says.
        """
        refuse_other_rate(sound, recording, self.sample_rate_hz)
        members = {
            view: registry.group_features(group)
            for view, group in self.groups.items()
            if view in wanted
        }
        rows: dict[str, list[dict[str, float]]] = {view: [] for view in members}
        memory: dict[str, Any] = {}
        for index in range(sound.n_windows):
            window = HeardWindow(
                sound.window(index),
                config=self.config,
                sample_rate_hz=self.sample_rate_hz,
                memory=memory,
                frames_to_next=frames_to_next(
                    self.grid, index, self.sample_rate_hz, self.config.hop
                ),
            )
            for view, features in members.items():
                rows[view].append(registry.measure_window(features, window))
        return {
            spec.name: _to_columns(spec, members[spec.name], rows[spec.name])
            for spec in self.specs
            if spec.name in members
        }


def _to_columns(
    spec: ViewSpec, features: Iterable[Feature], rows: list[dict[str, float]]
) -> dict[str, np.ndarray]:
    """Rows to float32 columns in the view's order, with those that need the recording."""
    members = tuple(features)
    later = {each.name for each in members if each.scope == "recording"}
    values = {
        name: np.array([row[name] for row in rows], dtype=np.float64)
        for name in spec.column_names
        if name not in later
    }
    finished = registry.finish_recording(members, values)
    return {name: finished[name].astype(np.float32) for name in spec.column_names}


def flat(views: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """All columns of several views side by side, as `extract` returns them."""
    return {name: values for columns in views.values() for name, values in columns.items()}
