"""The registry: what a declaration gives, what it refuses, and that it tells the truth."""

from __future__ import annotations

import re
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from support.listening import AUDIO, GRID, RATE_HZ, extract, extractor_of, scene

from birdstack.features import registry
from birdstack.features.acoustic import GROUPS, AcousticConfig
from birdstack.features.feature import Feature, feature
from birdstack.features.robustness import report, robustness
from birdstack.features.spectrum import INPUTS, HeardWindow

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-feature.md"
CONFIG = AcousticConfig()


def declare(**changes):
    """A decorator with every declaration that it must have."""
    declared = {"group": "wave", "formula": "a formula", "source": "a source"}
    return feature(**(declared | {"needs": ("samples",)} | changes))


@pytest.fixture(autouse=True)
def _forget():
    """Whatever a test declares is gone after it."""
    with registry.isolated():
        yield


def watched(config: AcousticConfig, seen: set[str]) -> AcousticConfig:
    """A copy of `config` that notes which settings are asked for."""
    settings = set(AcousticConfig.model_fields)

    class Watched(AcousticConfig):
        def __getattribute__(self, name: str):
            if name in settings:
                seen.add(name)
            return super().__getattribute__(name)

    return Watched(**config.model_dump())


@pytest.mark.parametrize(
    "each",
    [each for each in registry.all_features() if each.scope == "window"],
    ids=attrgetter("name"),
)
def test_a_feature_asks_for_no_setting_that_it_does_not_declare(each: Feature):
    """The recipe holds every setting that the numbers, and the number of columns, depend on."""
    seen: set[str] = set()
    config = watched(CONFIG, seen)
    seen.clear()
    window = HeardWindow(scene(5), config=config, sample_rate_hz=RATE_HZ)
    each.values(window)
    assert seen <= set(each.settings)
    seen.clear()
    names = [column.column.name for column in each.columns(config, RATE_HZ)]
    assert seen <= set(each.settings)
    assert names == list(each.values(HeardWindow(scene(5), config=CONFIG, sample_rate_hz=RATE_HZ)))


def test_what_a_feature_returns_gives_its_columns():
    """A number, a series, several numbers, several series."""

    @declare()
    def wave_one(_window: HeardWindow) -> float:
        return 7.0

    @declare(statistics=("mean", "std"), low=-1.0, high=3.0)
    def wave_series(_window: HeardWindow) -> np.ndarray:
        return np.array([0.0, 2.0])

    @declare(rows=2)
    def wave_rows(_window: HeardWindow) -> np.ndarray:
        return np.array([5.0, 6.0])

    @declare(rows=lambda config: config.n_bands // 8, statistics=("mean", "p95"))
    def wave_bands(_window: HeardWindow) -> np.ndarray:
        return np.array([[1.0, 1.0], [3.0, 5.0]])

    mine = registry.group_features("wave")[-4:]
    window = HeardWindow(scene(5), config=CONFIG, sample_rate_hz=RATE_HZ)
    assert registry.measure_window(mine, window) == pytest.approx(
        {
            "wave_one": 7.0,
            "wave_series_mean": 1.0,
            "wave_series_std": 1.0,
            "wave_rows_00": 5.0,
            "wave_rows_01": 6.0,
            "wave_bands_00_mean": 1.0,
            "wave_bands_01_mean": 4.0,
            "wave_bands_00_p95": 1.0,
            "wave_bands_01_p95": 4.9,
        }
    )
    columns = {c.name: c for c in registry.group_columns("wave", CONFIG, RATE_HZ)}
    assert (columns["wave_series_mean"].low, columns["wave_series_mean"].high) == (-1.0, 3.0)
    assert (columns["wave_series_std"].low, columns["wave_series_std"].high) == (0.0, 2.0)
    assert columns["wave_one"].description == "a formula. a source"
    assert columns["wave_series_mean"].description == "mean over frames of a formula. a source"


def test_a_new_feature_changes_the_recipe_of_its_group_only():
    """So does a raised version: the rest of the store is not computed again."""
    before = {spec.name: spec.recipe_hash for spec in extractor_of().specs}

    def recipes(version: int) -> dict[str, str]:
        with registry.isolated():

            @declare(version=version)
            def wave_peak(window: HeardWindow) -> float:
                return float(np.abs(window.samples).max())

            samples = scene(5)
            assert extract(samples)["wave_peak"][0] == pytest.approx(np.abs(samples).max())
            return {spec.name: spec.recipe_hash for spec in extractor_of().specs}

    first, second = recipes(1), recipes(2)
    assert {name for name in before if before[name] != first[name]} == {"acoustic/wave"}
    assert {name for name in first if first[name] != second[name]} == {"acoustic/wave"}
    assert {spec.name: spec.recipe_hash for spec in extractor_of().specs} == before


def test_given_spectra_are_used_and_the_rest_is_transformed():
    """The hook of a faster extractor: what it has is not computed again."""
    plain = HeardWindow(scene(5), config=CONFIG, sample_rate_hz=RATE_HZ)
    mel = np.full_like(plain.mel, 0.5)
    window = HeardWindow(scene(5), config=CONFIG, sample_rate_hz=RATE_HZ, given={"mel": mel})
    row = registry.measure_window(registry.group_features("logmel"), window)
    assert row["logmel_00_std"] == pytest.approx(0, abs=1e-9)
    assert plain.mel.std() > 0
    assert "magnitude" not in vars(window)
    with pytest.raises(ValueError, match="no shape mels: give one of samples"):
        HeardWindow(scene(5), config=CONFIG, sample_rate_hz=RATE_HZ, given={"mels": mel})
    row = registry.measure_window(registry.group_features("indices"), window)
    assert row == registry.measure_window(registry.group_features("indices"), plain)


def test_columns_over_a_recording_follow_from_those_of_windows():
    """The relative level needs all windows of the recording, and nothing of the sound."""
    values = {"wave_level_db": np.array([-30.0, -20.0, -60.0])}
    finished = registry.finish_recording(registry.group_features("wave"), values)
    assert finished["wave_level_relative_db"].tolist() == [0.0, 10.0, -30.0]
    assert finished["wave_level_db"] is values["wave_level_db"]


def test_a_declaration_of_what_does_not_exist_is_refused():
    """The message names the feature, its module and the mistake."""
    with pytest.raises(ValueError, match=r"'wave_odd' of .*test_registry: unknown need 'sample'"):

        @declare(needs=("sample",))
        def wave_odd(_window: HeardWindow) -> float:
            return 0.0

    with pytest.raises(ValueError, match=r"unknown statistic 'p99', group 'waves'"):

        @declare(group="waves", statistics=("p99",))
        def wave_even(_window: HeardWindow) -> float:
            return 0.0

    with pytest.raises(ValueError, match=r"'wave_rms' of .* is declared in birdstack.features.wav"):

        @declare()
        def wave_rms(_window: HeardWindow) -> float:
            return 0.0


def test_inputs_are_what_a_window_has():
    """Every input that can be declared is there, and depends on settings that exist."""
    window = HeardWindow(scene(5), config=CONFIG, sample_rate_hz=RATE_HZ)
    for name, settings in INPUTS.items():
        assert isinstance(getattr(window, name), np.ndarray)
        assert set(settings) <= set(AcousticConfig.model_fields)


def test_the_registry_imports_no_heavy_library():
    """Specs and recipes of every group, without librosa, scipy or numba."""
    script = (
        "import sys\n"
        "from birdstack.features import registry\n"
        "from birdstack.features.acoustic_config import GROUPS, AcousticConfig\n"
        "from birdstack.store.keys import WindowGrid\n"
        "audio = {'sample_rate_hz': 32000}\n"
        "for group in GROUPS:\n"
        "    registry.group_spec(group, AcousticConfig(), audio, WindowGrid(), 'fast')\n"
        "heavy = {'librosa', 'numba', 'scipy', 'torch', 'soundfile', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)), 'birdstack.features.robustness' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[] False"


def test_group_recipe_names_the_implementation():
    """Two implementations of one group never mix."""
    recipes = [
        registry.group_recipe("wave", CONFIG, AUDIO, GRID, implementation)
        for implementation in ("reference", "fast")
    ]
    assert recipes[0] != recipes[1]
    assert recipes[0] | {"implementation": "fast"} == recipes[1]
    assert recipes[0]["parameters"] == {"n_fft": 2048, "hop": 512}


# --- robustness ------------------------------------------------------------------------------


def default_columns() -> set[str]:
    """Every column of the default configuration."""
    return {
        column.name for group in GROUPS for column in registry.group_columns(group, CONFIG, RATE_HZ)
    }


def test_every_column_has_been_measured_and_no_other():
    """Robustness is stored for exactly the columns there are; see benchmarks/robustness.py."""
    assert set(robustness()) == default_columns()
    for name, each in robustness().items():
        values = np.array([each.gain, each.ogg, each.mp3, each.shift])
        assert np.isfinite(values).all(), name
        assert (values >= 0).all(), name
        assert each.worst == values.max()


def test_the_robustness_file_names_its_command_and_data():
    """Whoever doubts a figure can make it again."""
    script = report()["command"].split()[1]
    assert (Path(__file__).parents[2] / script).is_file()
    assert report()["windows"] >= 100
    assert set(report()["recordings"]) == {"xc10", "esc10", "soundscapes"}


def test_columns_that_claim_independence_of_gain_have_it():
    """At -20 dB what is called independent of gain moves by less than 1 % of its spread."""
    for group in GROUPS:
        for each in registry.group_feature_columns(group, CONFIG, RATE_HZ):
            if "independent of gain" in each.formula or group in {"activity", "indices"}:
                assert robustness()[each.column.name].gain < 0.01, each.column.name


# --- the how-to --------------------------------------------------------------------------------


def test_the_example_of_the_how_to_is_one_feature_that_works():
    """Its one decorated function is all it takes: columns, recipe, documentation, values."""
    (example,) = re.findall(r"```python\n(# features/.*?)```", HOW_TO.read_text("utf-8"), re.DOTALL)
    before = default_columns()
    exec(compile(example, str(HOW_TO), "exec"), {"__name__": "example"})  # noqa: S102 - our own page
    (added,) = default_columns() - before
    (declared,) = [each for each in registry.all_features() if each.name == added]
    values = extract(scene(10))[added]
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    assert declared.formula
    assert added in HOW_TO.read_text("utf-8").split("```")[0]
