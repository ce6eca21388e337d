"""The acoustic views by the fused pass: the reference's columns, many times as fast."""

from __future__ import annotations

import itertools
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
from birdstack.features.fused_readings import WINDOWS, HeardWindows
from birdstack.features.fused_window import AcousticPass, Stage
from birdstack.features.kernel_cache import Precision
from birdstack.features.spectrum import INPUTS, HeardWindow
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording

Listener = Callable[[int, AcousticPass], None]
"""Called with a window's index while the pass holds it; may take `pass.spectral.log_mel()`."""

_SHAPE_STAGES: dict[str, Stage] = {
    "mel": "mel",
    "mel_db": "levels",
    "mel_relative_db": "levels",
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
        own.begin(stages)
        rows = {view.name: np.empty((sound.n_windows, view.width)) for view in views}
        slow = [view for view in views if view.slow]
        for index in range(sound.n_windows):
            step = frames_to_next(self.grid, index, self.sample_rate_hz, self.config.hop)
            slot = index % WINDOWS
            own.hear(sound.window(index), step, slot)
            if slow:
                reference = own.reference()
                for view in slow:
                    view.ask(reference, rows[view.name][index])
            if listener is not None:
                listener(index, own)
            if slot + 1 == WINDOWS or index + 1 == sound.n_windows:
                heard = own.heard(slot + 1)
                for view in views:
                    view.measure(heard, rows[view.name][index - slot : index + 1])
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
        slow: whether a feature has no kernel, and is asked window by window.
    """

    def __init__(
        self, name: str, features: Sequence[Feature], config: AcousticConfig, sample_rate_hz: int
    ) -> None:
        self.name = name
        self._features = features
        parts = [_Part.of(each) for each in features if each.scope == "window"]
        counts = [len(part.feature.columns(config, sample_rate_hz)) for part in parts]
        ends = list(itertools.accumulate(counts, initial=0))
        places = [slice(*pair) for pair in itertools.pairwise(ends)]
        self._parts = list(zip(places, parts, strict=True))
        self._columns = [
            column.column.name
            for part in parts
            for column in part.feature.columns(config, sample_rate_hz)
        ]
        self._order = [
            column.column.name
            for each in features
            for column in each.columns(config, sample_rate_hz)
        ]
        self.width = len(self._columns)
        self.stages = {stage for part in parts for stage in part.stages}
        self.slow = any(part.fused is None for part in parts)

    def ask(self, reference: HeardWindow, row: np.ndarray) -> None:
        """Features without a kernel, of one window, into its row `[column]`."""
        for place, part in self._parts:
            if part.fused is None:
                row[place] = list(part.feature.values(reference).values())

    def measure(self, heard: HeardWindows, rows: np.ndarray) -> None:
        """All other features, of a run of windows, into their rows `[window, column]`."""
        for place, part in self._parts:
            if part.fused is not None:
                rows[:, place] = part.fused.columns(heard, part.feature.statistics)

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
