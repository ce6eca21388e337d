"""The acoustic view: what can be heard in a window, without a network and without labels.

This is the reference: plain numpy after the definitions, one transform a window, float64.
It is kept as the yardstick of any faster extractor. Only librosa functions that run without
numba are called (`stft`, `filters.mel`, `power_to_db`, `pcen`): a numba cache filled by
several processes at once can crash later calls. Importing librosa takes about a second,
and more than ten where numba has compiled nothing yet, so it happens at the first window.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from birdstack.features import cepstrum, indices, pcen, rhythm, spectrum, waveform
from birdstack.features.acoustic_config import GROUPS, AcousticConfig, Group
from birdstack.store.errors import ConfigError
from birdstack.store.keys import WindowGrid
from birdstack.store.recordings import Recording
from birdstack.store.views import Column, ViewSpec

__all__ = [
    "GROUPS",
    "AcousticConfig",
    "AcousticExtractor",
    "Group",
    "WindowedSound",
    "columns_by_group",
]

VIEW_NAME = "acoustic"
VERSION = 1
"""Raised whenever the numbers change for the same recipe."""


class WindowedSound(Protocol):
    """A decoded recording, cut into the windows of the grid."""

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the samples after resampling."""
        ...

    @property
    def n_windows(self) -> int:
        """Number of windows of the grid."""
        ...

    def window(self, index: int) -> np.ndarray:
        """Samples of window `index`, float32 `[sample]`, zero-padded to full length."""
        ...


class AcousticExtractor:
    """Fills the acoustic view of one recording at a time.

    Holds no state between recordings, so one extractor serves any number of threads.

    Args:
        config: what to measure.
        audio_recipe: how the sound was decoded; must hold `sample_rate_hz`.
        grid: how recordings are cut into windows.

    Raises:
        ConfigError: a frequency limit lies above half the sample rate, bins are wider than
            the lowest band, or a window is too short for the frames that the columns need.
    """

    def __init__(
        self, config: AcousticConfig, audio_recipe: Mapping[str, Any], grid: WindowGrid
    ) -> None:
        self.config = config
        self.grid = grid
        self.sample_rate_hz = _sample_rate_hz(audio_recipe)
        self._audio_recipe = dict(audio_recipe)
        self._refuse_misfits()

    @cached_property
    def spec(self) -> ViewSpec:
        """The view: columns of the chosen groups, and all that determines their numbers."""
        columns = tuple(
            column
            for group, columns in columns_by_group(self.config, self.sample_rate_hz).items()
            if group in self.config.groups
            for column in columns
        )
        recipe = {
            "extractor": VIEW_NAME,
            "version": VERSION,
            "implementation": "reference",
            "parameters": self.config.model_dump(mode="json")
            | {"groups": [group for group in GROUPS if group in self.config.groups]},
            "audio": self._audio_recipe,
            "grid": self.grid.model_dump(mode="json"),
        }
        return ViewSpec(VIEW_NAME, columns, recipe)

    def extract(self, sound: WindowedSound, recording: Recording) -> dict[str, np.ndarray]:
        """Measure every window of a recording, in order.

        Returns:
            float32 `[window]` for each column of `spec`, in its order.

        Raises:
            ConfigError: the sound has another sample rate than the recipe says.
        """
        if sound.sample_rate_hz != self.sample_rate_hz:
            message = (
                f"{recording.recording_id}: the acoustic view is set to {self.sample_rate_hz} Hz, "
                f"got sound of {sound.sample_rate_hz} Hz"
            )
            raise ConfigError(message, remedy="resample the sound to the rate of the recipe")
        rows: list[dict[str, float]] = []
        state: np.ndarray | None = None  # the PCEN smoother's, from window to window
        for index in range(sound.n_windows):
            row, state = self._measure(sound.window(index), index, state)
            rows.append(row)
        return self._to_columns(rows)

    def _measure(
        self, window: np.ndarray, index: int, state: np.ndarray | None
    ) -> tuple[dict[str, float], np.ndarray | None]:
        """Columns of one window, and the PCEN state at the start of the next."""
        config = self.config
        spectra = spectrum.transform(
            window, filters=self._filters, config=config, sample_rate_hz=self.sample_rate_hz
        )
        chosen = config.groups
        row: dict[str, float] = {}
        if "mfcc" in chosen:
            row |= cepstrum.measure_mfcc(spectra, config)
        if "spectral" in chosen:
            row |= spectrum.measure_spectral(spectra)
        if "wave" in chosen:
            row |= waveform.measure_wave(spectra.samples, config)
        if "contrast" in chosen:
            row |= spectrum.measure_contrast(spectra, config)
        if "logmel" in chosen:
            row |= cepstrum.measure_logmel(spectra, config)
        if "pcen" in chosen:
            normalised, state = pcen.normalise(
                spectra.mel,
                state,
                config=config,
                sample_rate_hz=self.sample_rate_hz,
                frames_to_next=self._frames_to_next(index),
            )
            row |= pcen.measure_pcen(normalised, config)
        if "onset" in chosen:
            row |= rhythm.measure_onset(spectra, config)
        if "activity" in chosen:
            row |= rhythm.measure_activity(spectra)
        if "index" in chosen:
            row |= indices.measure_indices(spectra, config)
        return row, state

    def _to_columns(self, rows: list[dict[str, float]]) -> dict[str, np.ndarray]:
        """Rows to float32 columns, with those that need the whole recording."""
        values = {
            name: np.array([row[name] for row in rows], dtype=np.float64)
            for name in self.spec.column_names
            if name != waveform.RELATIVE_LEVEL
        }
        if "wave" in self.config.groups and rows:
            values[waveform.RELATIVE_LEVEL] = waveform.relative_levels_db(values["wave_level_db"])
        return {
            name: values.get(name, np.empty(0)).astype(np.float32)
            for name in self.spec.column_names
        }

    @cached_property
    def _filters(self) -> np.ndarray:
        """Mel weights `[mel, bin]`; two threads may compute them at once, to the same effect."""
        return spectrum.mel_filters(self.config, self.sample_rate_hz)

    def _frames_to_next(self, index: int) -> int:
        """Frames of window `index` whose centre lies before the start of the next window."""
        rate = self.sample_rate_hz
        step = self.grid.start_sample(index + 1, rate) - self.grid.start_sample(index, rate)
        return -(-step // self.config.hop)

    def _refuse_misfits(self) -> None:
        config, rate = self.config, self.sample_rate_hz
        if config.highest_hz > rate / 2:
            message = (
                f"acoustic: frequency limits must lie within half the sample rate "
                f"({rate / 2:g} Hz), got {config.highest_hz:g} Hz"
            )
            raise ConfigError(message, remedy="lower mel_fmax_hz, index_fmax_hz or the octaves")
        if rate / config.n_fft > config.contrast_fmin_hz:
            message = (
                f"acoustic: bins must be no wider than contrast_fmin_hz="
                f"{config.contrast_fmin_hz:g}, got {rate / config.n_fft:g} Hz at n_fft={config.n_fft}"
            )
            raise ConfigError(message, remedy="raise n_fft or contrast_fmin_hz")
        frames = 1 + self.grid.window_samples(rate) // config.hop
        if self.grid.window_samples(rate) < config.n_fft or frames < cepstrum.DELTA_WIDTH:
            message = (
                f"acoustic: a window must hold {config.n_fft} samples and {cepstrum.DELTA_WIDTH} "
                f"frames, got window_s={self.grid.window_s} with {frames} frames"
            )
            raise ConfigError(message, remedy="lengthen the windows or shorten n_fft and hop")


def columns_by_group(config: AcousticConfig, sample_rate_hz: int) -> dict[Group, list[Column]]:
    """Columns of every group, chosen or not, in the order of the view."""
    return {
        "mfcc": cepstrum.mfcc_columns(config),
        "spectral": spectrum.spectral_columns(sample_rate_hz),
        "wave": waveform.wave_columns(),
        "contrast": spectrum.contrast_columns(config),
        "logmel": cepstrum.logmel_columns(config),
        "pcen": pcen.pcen_columns(config),
        "onset": rhythm.onset_columns(),
        "activity": rhythm.activity_columns(),
        "index": indices.index_columns(config, sample_rate_hz),
    }


def _sample_rate_hz(audio_recipe: Mapping[str, Any]) -> int:
    rate = audio_recipe.get("sample_rate_hz")
    if not isinstance(rate, int) or rate <= 0:
        message = f"acoustic: the audio recipe must hold sample_rate_hz, got {dict(audio_recipe)}"
        raise ConfigError(message, remedy="hand in the recipe of the audio source")
    return rate
