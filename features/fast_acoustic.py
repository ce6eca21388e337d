"""The acoustic views by the fused pass: the reference's columns, many times as fast."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from birdstack.features import registry
from birdstack.features.acoustic import AcousticExtractor
from birdstack.features.acoustic_checks import WindowedSound, frames_to_next, refuse_other_rate
from birdstack.features.acoustic_config import AcousticConfig
from birdstack.features.feature import Feature
from birdstack.features.fused_features import FUSED, FusedFeature
from birdstack.features.fused_window import AcousticPass, HeardPass, Stage
from birdstack.features.kernel_cache import Precision
from birdstack.features.spectrum import INPUTS
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording

Listener = Callable[[int, AcousticPass], None]
"""Called with a window's index while the pass holds it; may take `pass.spectral.log_mel()`."""

_SHAPE_STAGES: dict[str, Stage] = {
    "mel": "mel",
    "mel_db": "mel",
    "mel_relative_db": "mel",
    "song_power": "song",
    "magnitude": "power",
    "power": "power",
}
"""What a feature without a kernel may need, and the stage of the pass that gives it."""


class FastAcousticExtractor(AcousticExtractor):
    """Fills the views `acoustic/<group>` with one transform and one pass for each window.

    The numbers equal the reference's to 1e-4 of their value
    (docs/explanation/the-fused-pass.md says where a definition can flip), and so does the
    recipe but for `implementation`. Every thread has its own buffers, and none starts others.

    Args:
        config: what to measure.
        audio_recipe: how the sound was decoded; must hold `sample_rate_hz`.
        grid: how recordings are cut into windows.
        precision: of the transform. float32 gives other numbers, and says so in the recipe.

    Raises:
        ConfigError: as `AcousticExtractor`.
    """

    def __init__(
        self,
        config: AcousticConfig,
        audio_recipe: Mapping[str, Any],
        grid: WindowGrid,
        *,
        precision: Precision = "float64",
    ) -> None:
        super().__init__(config, audio_recipe, grid)
        self.precision: Precision = precision
        self.implementation = "fused" if precision == "float64" else f"fused-{precision}"
        self._own = threading.local()

    def extract(
        self,
        sound: WindowedSound,
        recording: Recording,
        wanted: Collection[str],
        *,
        listener: Listener | None = None,
    ) -> dict[str, dict[str, np.ndarray]]:
        """Measure every window of a recording, in order.

        Args:
            sound: the decoded recording.
            recording: names it in errors.
            wanted: names of views among `specs`; nothing else is measured.
            listener: hears of every window while the pass holds it: a network takes its
                picture without a second transform.

        Returns:
            For each wanted view, in the order of `specs`, float32 `[window]` for each of its
            columns, in order.

        Raises:
            ConfigError: the sound has another sample rate than the recipe says.
        """
        refuse_other_rate(sound, recording, self.sample_rate_hz)
        views = [view for view in self._views if view.name in wanted]
        stages = {stage for view in views for stage in view.stages}
        if listener is not None:
            stages.add("mel")
        own = self._pass()
        own.memory.clear()
        rows = {view.name: np.empty((sound.n_windows, view.width)) for view in views}
        for index in range(sound.n_windows):
            step = frames_to_next(self.grid, index, self.sample_rate_hz, self.config.hop)
            heard = own.hear(sound.window(index), stages, step)
            for view in views:
                rows[view.name][index] = view.measure(heard)
            if listener is not None:
                listener(index, own)
        return {view.name: view.finish(rows[view.name]) for view in views}

    @cached_property
    def _views(self) -> tuple[_View, ...]:
        """Every view's features; two threads may list them at once, to the same effect."""
        return tuple(
            _View(name, registry.group_features(group), self.config, self.sample_rate_hz)
            for name, group in self.groups.items()
        )

    def _pass(self) -> AcousticPass:
        """This thread's pass."""
        if not hasattr(self._own, "acoustic_pass"):
            self._own.acoustic_pass = AcousticPass(self.config, self.sample_rate_hz, self.precision)
        own: AcousticPass = self._own.acoustic_pass
        return own

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in {"_own", "_views"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._own = threading.local()


class _View:
    """The features of one wanted view, and where their columns stand.

    Attributes:
        name: of the view.
        width: number of columns that one window fills.
        stages: readings of the pass that they need.
    """

    def __init__(
        self, name: str, features: Sequence[Feature], config: AcousticConfig, sample_rate_hz: int
    ) -> None:
        self.name = name
        self._features = features
        self._parts = [_Part.of(each) for each in features if each.scope == "window"]
        self._columns = [
            column.column.name
            for part in self._parts
            for column in part.feature.columns(config, sample_rate_hz)
        ]
        self._order = [
            column.column.name
            for each in features
            for column in each.columns(config, sample_rate_hz)
        ]
        self.width = len(self._columns)
        self.stages = {stage for part in self._parts for stage in part.stages}

    def measure(self, heard: HeardPass) -> np.ndarray:
        """Values of one window, `[column]`."""
        return np.concatenate([part.measure(heard) for part in self._parts])

    def finish(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of a recording from its rows `[window, column]`, as the store keeps them."""
        values = dict(zip(self._columns, rows.T, strict=True))
        finished = registry.finish_recording(self._features, values)
        return {name: finished[name].astype(np.float32) for name in self._order}


@dataclass(frozen=True, slots=True)
class _Part:
    """One feature: by its kernel if there is one for its version, else by its own function."""

    feature: Feature
    fused: FusedFeature | None

    @classmethod
    def of(cls, feature: Feature) -> _Part:
        fused = FUSED.get(feature.name)
        return cls(feature, fused if fused and fused.stands_for(feature) else None)

    @property
    def stages(self) -> set[Stage]:
        if self.fused is not None:
            return set(self.fused.stages)
        needs = set(self.feature.needs) & INPUTS.keys() - {"samples"}
        # An input that is not listed here is derived from the power.
        return {_SHAPE_STAGES.get(need, "power") for need in needs}

    def measure(self, heard: HeardPass) -> np.ndarray:
        if self.fused is None:
            return np.array(list(self.feature.values(heard.reference).values()))
        found = self.fused.measure(heard)
        if not self.feature.statistics:
            return found[""]
        return np.concatenate([found[statistic] for statistic in self.feature.statistics])
