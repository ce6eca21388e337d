"""Settings: precedence, sources, and what the messages say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from birdstack.store.config import RESERVED_VARIABLES, load
from birdstack.store.errors import ConfigError
from birdstack.store.folds import FoldsConfig
from birdstack.store.settings_model import settings_markdown, settings_table


class AudioConfig(BaseModel):
    """How sound is read.

    Attributes:
        sample_rate_hz: rate after
            resampling.
        mono: mix the channels | or take the first.
        quality: effort of the resampler.
        bands_hz: edges of the bands.
        cache: folder of copies; none is kept without it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_rate_hz: int = Field(default=32_000, ge=8_000, le=192_000)
    mono: bool = True
    quality: Literal["high", "quick"] = "high"
    bands_hz: tuple[float, ...] = (300.0, 15_000.0)
    cache: Path | None = Field(default=None, description="where copies lie")

    @model_validator(mode="after")
    def _bands_fit(self) -> AudioConfig:
        if self.bands_hz and max(self.bands_hz) > self.sample_rate_hz / 2:
            message = "bands_hz must end at half of sample_rate_hz"
            raise ValueError(message)
        return self


class Settings(BaseModel):
    """The settings of these tests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    audio: AudioConfig = AudioConfig()
    folds: FoldsConfig = FoldsConfig(n_folds=5)


class NeedyConfig(BaseModel):
    """A section with a key that has no default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str


class NeedySettings(BaseModel):
    """Settings that need a value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: NeedyConfig


@pytest.fixture
def toml(tmp_path):
    """Writes a settings file and gives its path."""

    def write(text):
        path = tmp_path / "birdstack.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refused(**sources):
    """The error that loading these sources raises."""
    with pytest.raises(ConfigError) as caught:
        load(Settings, **sources)
    return caught.value


def test_defaults_are_the_models_own():
    """Without sources every key is a default, the root's default before the section's."""
    found = load(Settings)
    assert found.settings == Settings()
    assert found.settings.folds.n_folds == 5
    assert set(found.sources.values()) == {"default"}
    assert next(iter(found.sources)) == "audio.sample_rate_hz"


def test_each_source_outranks_the_one_before(toml):
    """File over default, environment over file, flag over environment; the rest stays."""
    path = toml("[folds]\nn_folds = 3\nseed = 1\n\n[audio]\nsample_rate_hz = 44100\n")
    found = load(
        Settings,
        toml=path,
        environ={"BIRDSTACK_FOLDS__SEED": "2", "BIRDSTACK_AUDIO__SAMPLE_RATE_HZ": "48000"},
        flags={"audio.sample_rate_hz": 96_000, "audio.mono": None},
    )
    assert found.settings.folds == FoldsConfig(n_folds=3, seed=2)
    assert found.settings.audio.sample_rate_hz == 96_000
    assert dict(found.sources) == {
        "audio.sample_rate_hz": "--set audio.sample_rate_hz",
        "audio.mono": "default",
        "audio.quality": "default",
        "audio.bands_hz": "default",
        "audio.cache": "default",
        "folds.n_folds": f"{path}:2",
        "folds.seed": "environment BIRDSTACK_FOLDS__SEED",
        "folds.soundscapes": "default",
    }


@settings(deadline=None)
@given(st.lists(st.integers(2, 100), min_size=4, max_size=4), st.lists(st.booleans(), min_size=3))
def test_the_last_source_that_speaks_wins(tmp_path_factory, numbers, speaks):
    """For any subset of sources the value is that of the highest one."""
    in_file, in_environment, in_flags = speaks[:3]
    path = tmp_path_factory.mktemp("settings") / "birdstack.toml"
    path.write_text(f"[folds]\nn_folds = {numbers[1]}\n" if in_file else "[folds]\n")
    found = load(
        Settings,
        toml=path,
        environ={"BIRDSTACK_FOLDS__N_FOLDS": str(numbers[2])} if in_environment else {},
        flags={"folds.n_folds": numbers[3]} if in_flags else {},
    )
    said = [5, *(n for n, speaking in zip(numbers[1:], speaks, strict=False) if speaking)]
    assert found.settings.folds.n_folds == said[-1]


def test_as_dict_is_json(toml):
    """Settings and sources go into a recipe or a report as they are."""
    found = load(Settings, toml=toml('[audio]\ncache = "copies"\n')).as_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["settings"]["audio"]["cache"] == "copies"
    assert found["sources"]["audio.cache"].endswith("birdstack.toml:2")


def test_text_sources_write_lists_and_null_as_json():
    """A tuple, a null and a truth value can be said in the environment."""
    environ = {
        "BIRDSTACK_AUDIO__BANDS_HZ": "[100, 200]",
        "BIRDSTACK_AUDIO__MONO": "false",
        "BIRDSTACK_AUDIO__CACHE": "copies",
    }
    audio = load(Settings, environ=environ).settings.audio
    assert (audio.bands_hz, audio.mono, audio.cache) == ((100.0, 200.0), False, Path("copies"))


def test_the_lines_of_every_way_to_write_toml(toml):
    """Dotted keys, inline tables, quoted keys and values over several lines have their line."""
    path = toml(
        "# a comment\n"
        "folds.seed = 3\n"
        "folds.'n_folds' = 4\n"
        "\n"
        "[audio]  # another = one\n"
        "bands_hz = [\n"
        "  1.0,  # mono = true\n"
        "  2.0,\n"
        "]\n"
        'quality = "quick"\n'
    )
    sources = load(Settings, toml=path).sources
    lines = {key: source.rpartition(":")[2] for key, source in sources.items() if ":" in source}
    assert lines == {
        "folds.seed": "2",
        "folds.n_folds": "3",
        "audio.bands_hz": "6",
        "audio.quality": "10",
    }
    inline = load(Settings, toml=toml("\nfolds = {seed = 1,n_folds = 2}\r\n")).sources
    assert inline["folds.seed"].endswith(":2")
    assert inline["folds.n_folds"].endswith(":2")


@pytest.mark.parametrize(
    ("text", "line", "message", "remedy"),
    [
        ("[audio]\nsample_rate = 1\n", 2, "unknown setting 'audio.sample_rate'", "sample_rate_hz"),
        ("\n[audoi]\nmono = true\n", 2, "unknown section 'audoi'", "write audio"),
        ("[audio]\nn_folds = 2\n", 2, "unknown setting 'audio.n_folds'", "write folds.n_folds"),
        ("n_folds = 2\n", 1, "unknown section 'n_folds'", "write folds.n_folds"),
        ("[x]\n", 1, "unknown section 'x'", "choose from audio, folds"),
        ("[folds]\nzzz = 1\n", 2, "unknown setting 'folds.zzz'", "folds.n_folds, folds.seed"),
        ("folds = 3\n", 1, "folds is a section, got 3", r"write \[folds\]"),
        ("[[folds]]\nseed = 3\n", 1, "folds is a section", r"write \[folds\]"),
        ("[audio.mono]\n", 1, "audio.mono must be bool", "set audio.mono to bool"),
    ],
)
def test_what_the_file_may_not_say(toml, text, line, message, remedy):
    """The message has the file, the line and the key; the remedy the nearest valid name."""
    path = toml(text)
    error = refused(toml=path)
    assert error.message.startswith(f"{path}:{line}: ")
    assert re.search(message, error.message)
    assert re.search(remedy, error.remedy)


@pytest.mark.parametrize("value", ['"six"', '"6"', "6.5", "true", "1", "101", "[6]"])
def test_a_value_of_the_file_must_have_the_type_and_range(toml, value):
    """Source, key, rule, value and remedy; the file's types are taken seriously."""
    path = toml(f"[folds]\nseed = 1\nn_folds = {value}\n")
    error = refused(toml=path)
    assert error.message.startswith(f"{path}:3: folds.n_folds must be int >= 2, <= 100, got ")
    assert error.remedy == "set folds.n_folds to int >= 2, <= 100"


@pytest.mark.parametrize(
    ("text", "line"),
    [("[audio]\nmono = \n", 2), ("[audio\n", 1), ("a = [1,\n\n\n", 2), ("a=1\na=2", 2)],
)
def test_what_is_not_toml_is_refused_with_its_line(toml, text, line):
    """A slip of the pen names the file and the line, the end of the file included."""
    path = toml(text)
    error = refused(toml=path)
    assert re.match(rf"{re.escape(str(path))}:\d+: not TOML: \w+", error.message)
    assert abs(int(error.message.removeprefix(f"{path}:").partition(":")[0]) - line) <= 1
    assert "(at " not in error.message


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    """Absent, a folder, or not UTF-8."""
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"[audio]\nquality = '\xe9'\n")
    for path in (tmp_path / "absent.toml", tmp_path, latin):
        assert refused(toml=path).message.startswith(f"{path}: the settings file cannot be read")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("BIRDSTACK_AUDIO__SAMPLE_RATE", "write BIRDSTACK_AUDIO__SAMPLE_RATE_HZ"),
        ("BIRDSTACK_AUDOI__MONO", "write BIRDSTACK_AUDIO__MONO"),
        ("BIRDSTACK_AUDIO_MONO", "write BIRDSTACK_AUDIO__MONO, or unset it"),
        ("BIRDSTACK_SEED", "write BIRDSTACK_FOLDS__SEED, or unset it"),
        ("BIRDSTACK_CONFG", "write BIRDSTACK_CONFIG, or unset it"),
        ("BIRDSTACK_X", "or unset it"),
    ],
)
def test_an_unknown_variable_is_refused(name, remedy):
    """A misspelt variable is named, with the nearest name as a variable."""
    error = refused(environ={name: "1"})
    assert error.message.startswith(f"environment {name}: ")
    assert remedy in error.remedy


def test_reserved_and_foreign_variables_are_left_alone():
    """The test folder and the path of the settings file are no settings."""
    environ = {"BIRDSTACK_TEST_DATA": "x", "BIRDSTACK_CONFIG": "y", "BIRDSTACKS": "z", "HOME": "/"}
    assert load(Settings, environ=environ).settings == Settings()
    assert "BIRDSTACK_CONFIG" in RESERVED_VARIABLES


def test_a_wrong_variable_names_itself_the_rule_and_the_value():
    """Text that is no number, in the environment."""
    error = refused(environ={"BIRDSTACK_FOLDS__N_FOLDS": "six"})
    wanted = (
        "environment BIRDSTACK_FOLDS__N_FOLDS: folds.n_folds must be int >= 2, <= 100, got 'six'"
    )
    assert error.message.startswith(wanted)
    assert error.remedy == "set BIRDSTACK_FOLDS__N_FOLDS to int >= 2, <= 100"


def test_a_wrong_flag_names_itself_and_the_choices():
    """A choice that does not exist lists those that do."""
    error = refused(flags={"audio.quality": "best"})
    assert error.message.startswith("--set audio.quality: audio.quality must be one of high, quick")
    assert error.remedy == "set audio.quality to one of high, quick"
    assert "audio.quality" in refused(flags={"audio.qualty": "high"}).remedy


def test_a_wrong_value_is_refused_even_where_a_higher_source_would_win(toml):
    """A broken file is found when it is read, not when the flag is taken away."""
    error = refused(toml=toml("[folds]\nn_folds = 0\n"), flags={"folds.n_folds": 4})
    assert ":2: folds.n_folds must be" in error.message


def test_values_that_do_not_fit_each_other_are_all_named(toml):
    """A rule over several keys lists what was given, and by whom."""
    path = toml("[audio]\nbands_hz = [20000.0]\n")
    error = refused(toml=path, environ={"BIRDSTACK_AUDIO__SAMPLE_RATE_HZ": "8000"})
    assert "bands_hz must end at half of sample_rate_hz" in error.message
    assert f"({path}:2)" in error.message
    assert "(environment BIRDSTACK_AUDIO__SAMPLE_RATE_HZ)" in error.message


def test_a_setting_without_default_must_be_given():
    """The key and a way to give it are named."""
    with pytest.raises(ConfigError, match=r"store\.path \(str\) has no default"):
        load(NeedySettings)
    assert load(NeedySettings, flags={"store.path": "x"}).settings.store.path == "x"
    assert settings_table(NeedySettings)[0].default == "required"


def test_a_root_field_that_is_no_section_is_a_mistake_of_ours():
    """Settings have sections; a bare key at the root could not be addressed."""

    class Flat(BaseModel):
        seed: int = 0

    with pytest.raises(TypeError, match="'seed'"):
        load(Flat)


def test_the_table_says_what_the_models_say():
    """Key, type, default, range and description of each setting, in declared order."""
    rows = {row.key: tuple(row)[1:] for row in settings_table(Settings)}
    assert rows["audio.sample_rate_hz"] == (
        "int",
        "32000",
        ">= 8000, <= 192000",
        "rate after resampling.",
    )
    assert rows["audio.quality"][:2] == ("one of high, quick", '"high"')
    assert rows["audio.cache"] == ("Path or null", "null", "", "where copies lie")
    assert rows["audio.bands_hz"][1] == "[300.0, 15000.0]"
    assert rows["folds.n_folds"][1] == "5"
    assert rows["folds.n_folds"][3].startswith("number of folds")


def test_the_markdown_table_has_a_line_per_setting():
    """Bars inside a cell are escaped, or the table would break."""
    lines = settings_markdown(Settings).splitlines()
    assert len(lines) == 2 + len(settings_table(Settings))
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {6}
