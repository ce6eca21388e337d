"""`birdstack look` as a user types it, on files and on a store."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from PIL import Image
from support.birds import make_birds
from typer.testing import CliRunner

from birdstack.features import pictures
from birdstack.stacking import run_look
from birdstack.stacking.cli import app
from birdstack.store.store import Store


@dataclass(frozen=True)
class Ran:
    """What a command has said and how it ended."""

    code: int
    out: str
    err: str


def birdstack(*words: object) -> Ran:
    """Run one command."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset, and `store` beside it with its features."""
    folder = tmp_path_factory.mktemp("look")
    make_birds(folder / "birds", species=2, clips=2)
    ran = birdstack("features", folder / "birds", "--store", folder / "store", "--folds", 2)
    assert ran.code == 0, ran.err
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in an empty folder, far from any store or settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BIRDSTACK_STORE", raising=False)
    monkeypatch.delenv("BIRDSTACK_CONFIG", raising=False)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What each picture was drawn from."""
    seen: list[dict] = []

    def watch(picture, grid, n_windows, curves, **words):
        seen.append({"picture": picture, "grid": grid, "curves": curves, **words})
        return pictures.draw_recording(picture, grid, n_windows, curves, **words)

    monkeypatch.setattr(run_look, "draw_recording", watch)
    return seen


def test_a_file_without_a_store(birds: Path, drawn: list[dict]) -> None:
    """The picture lies in the current folder, under the file's name, with default columns."""
    name = "SITE0_20240501_003000"
    ran = birdstack("look", birds / "birds" / "unlabeled_soundscapes" / f"{name}.ogg")
    assert ran.code == 0, ran.err
    assert f"{name}.png" in ran.out
    with Image.open(f"{name}.png") as image:
        assert image.width == 1200
    (seen,) = drawn
    assert seen["subtitle"] == "SITE0 · 2024-05-01 00:30:00"
    assert len(seen["curves"]) == 3
    assert all(np.isfinite(curve.values).all() for curve in seen["curves"])
    assert seen["picture"].end_s == pytest.approx(19.0)
    assert [path.name for path in Path.cwd().iterdir()] == [f"{name}.png"]


def test_the_end_of_an_id_and_columns_of_the_store(birds: Path, drawn: list[dict]) -> None:
    """Values under the picture are those of the store, not measured again."""
    ran = birdstack(
        *("look", "XC1001", "--store", birds / "store", "--json"),
        *("--columns", "ndsi,latitude,hour", "--out", "one.png"),
    )
    assert ran.code == 0, ran.err
    event = json.loads(ran.out.splitlines()[-1])
    wanted = "train_audio/bird1/XC1001.ogg"
    assert (event["event"], event["recording_id"], event["out"]) == ("drawn", wanted, "one.png")
    (seen,) = drawn
    ndsi, latitude, hour = seen["curves"]
    rows = Store.open(birds / "store").view("acoustic", recordings=[wanted])
    assert ndsi.values.tolist() == rows.select(ndsi.name).collect()[ndsi.name].to_list()
    assert latitude.values.tolist() == [41.5] * 2
    assert np.isnan(hour.values).all()
    assert "index_ndsi" not in event["measured"]


def test_a_file_of_the_store_is_recognised(birds: Path, drawn: list[dict]) -> None:
    """A path to a recording of the store gives its place and its columns too."""
    path = birds / "birds" / "train_audio" / "bird0" / "XC0001.ogg"
    ran = birdstack("look", path, "--store", birds / "store", "--json", "--columns", "ndsi")
    event = json.loads(ran.out.splitlines()[-1])
    assert event["recording_id"] == "train_audio/bird0/XC0001.ogg"
    assert event["measured"] == []
    assert drawn[0]["subtitle"] == "40.500° N, 1.250° W"


def test_what_the_store_lacks_is_measured(birds: Path, tmp_path: Path, drawn: list[dict]) -> None:
    """With recordings ingested but not heard, the columns are the same numbers."""
    store = tmp_path / "bare"
    assert birdstack("ingest", birds / "birds", "--store", store, "--folds", 2).code == 0
    for url in (store, birds / "store"):
        assert birdstack("look", "XC0000", "--store", url, "--columns", "ndsi").code == 0
    bare, full = (seen["curves"][0] for seen in drawn)
    np.testing.assert_allclose(bare.values, full.values, rtol=1e-6)


def test_a_stretch_and_a_band(birds: Path, drawn: list[dict]) -> None:
    """The axes are those that were asked for."""
    path = birds / "birds" / "train_audio" / "bird0" / "XC0001.ogg"
    ran = birdstack(
        *("look", path, "--start", 2, "--end", 4.5, "--fmin", 1000, "--fmax", 4000),
        *("--columns", "latitude"),
    )
    assert ran.code == 0, ran.err
    picture = drawn[0]["picture"]
    assert (picture.start_s, picture.end_s) == (2, 4.5)
    assert (picture.fmin_hz, picture.fmax_hz) == (1000, 4000)


def test_a_low_rate_shows_no_empty_band(tmp_path: Path, drawn: list[dict]) -> None:
    """A file of 16 kHz is drawn up to 8 kHz, though it is heard at 32 kHz."""
    noise = np.random.default_rng(0).normal(size=5 * 16_000) * 0.1
    soundfile.write(tmp_path / "low.wav", noise, 16_000)
    assert birdstack("look", "low.wav", "--columns", "latitude").code == 0
    assert drawn[0]["picture"].fmax_hz == 8000


def test_the_grid_is_the_stores(birds: Path, tmp_path: Path, drawn: list[dict]) -> None:
    """Windows are cut as in the store; without one, as the settings say."""
    path = birds / "birds" / "train_audio" / "bird0" / "XC0001.ogg"
    words = ("look", path, "--columns", "latitude", "--set", "grid.hop_s=2.5")
    assert birdstack(*words).code == 0
    assert drawn[0]["grid"].hop_s == 2.5
    assert len(drawn[0]["curves"][0].values) == 3


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nothing.ogg"], "is not a file, and there is no store"),
        (["1.ogg", "--store", "STORE"], "2 recordings of .* end so, e.g. .*XC0001.ogg"),
        (["XC9999", "--store", "STORE"], "neither an audio file nor a recording"),
        (["XC0000", "--store", "elsewhere"], "there is no birdstack store at .*elsewhere"),
        (["XC0000", "--store", "STORE", "--columns", "ndsy"], "no column 'ndsy'.*near: .*ndsi"),
        (["XC0000", "--store", "STORE", "--columns", "site"], "no column 'site'"),
        (["XC0000", "--store", "STORE", "--out", "a.jpg"], "the picture is a PNG"),
        (["XC0000", "--store", "STORE", "--out", "no/a.png"], "there is no folder no"),
        (["XC0000", "--store", "STORE", "--start", "60"], "no stretch of a recording of 7.6 s"),
        (["XC0000", "--store", "STORE", "--start", "4", "--end", "4"], "no stretch"),
        (["XC0000", "--store", "STORE", "--fmin", "20000"], "no band of sound heard up to 16000"),
        (["XC0000", "--store", "STORE", "--fmax", "48000"], "no band of sound heard up to 16000"),
    ],
)
def test_what_cannot_be_asked_for(birds: Path, words: list[str], problem: str) -> None:
    """Wrong usage ends with 2, names the value and the remedy, and leaves no file behind."""
    words = [str(birds / "store") if word == "STORE" else word for word in words]
    ran = birdstack("look", *words)
    assert ran.code == 2
    assert _matches(problem, ran.err), ran.err
    assert "remedy: " in ran.err
    assert list(Path.cwd().iterdir()) == []


def _matches(pattern: str, text: str) -> bool:
    return pl.Series([text.replace("\n", " ")]).str.contains(pattern)[0]


def test_a_file_that_is_no_audio(tmp_path: Path) -> None:
    """A file that cannot be decoded ends with 1 and says why."""
    (tmp_path / "broken.ogg").write_bytes(b"not audio at all" * 100)
    ran = birdstack("look", "broken.ogg")
    assert ran.code == 1
    assert _matches("broken.ogg cannot be heard: decode_error", ran.err)
    assert not (tmp_path / "broken.png").exists()


def test_a_file_that_was_replaced(birds: Path, tmp_path: Path) -> None:
    """The store's columns are not drawn below another sound than theirs."""
    copy = tmp_path / "copy"
    shutil.copytree(birds / "birds", copy)
    assert birdstack("features", copy, "--store", tmp_path / "s", "--folds", 2).code == 0
    path = copy / "train_audio" / "bird0" / "XC0000.ogg"
    soundfile.write(path, np.zeros(6 * 32_000), 32_000, format="OGG")
    ran = birdstack("look", "XC0000", "--store", tmp_path / "s")
    assert ran.code == 1
    assert "run `birdstack features` first" in ran.err
