"""The command as a user types it, in this process, on real audio files."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest
from support.birds import make_birds
from typer.testing import CliRunner

from birdstack.stacking.cli import app
from birdstack.store.store import Store


@dataclass(frozen=True)
class Ran:
    """What a command has said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict]:
        """Every line of stdout as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


def birdstack(*words: object) -> Ran:
    """Run one command; networks hear in `test_networks_cli.py`."""
    if words[0] == "features":
        words = (*words, "--backbones", "none")
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset and the store made of it; tests that change them take a copy."""
    folder = tmp_path_factory.mktemp("finished")
    birds = make_birds(folder / "birds")
    ran = birdstack(
        "features",
        birds,
        "--store",
        folder / "store",
        "--folds",
        3,
        "--set",
        "run.unit_recordings=4",
    )
    assert ran.code == 0, ran.err
    return birds, folder / "store"


@pytest.fixture
def birds(finished: tuple[Path, Path], tmp_path: Path) -> Path:
    """A dataset of one's own."""
    return Path(shutil.copytree(finished[0], tmp_path / "birds"))


@pytest.fixture
def shelf(finished: tuple[Path, Path], tmp_path: Path) -> Path:
    """A filled store of one's own."""
    return Path(shutil.copytree(finished[1], tmp_path / "store"))


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings leak in from where the tests run."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("BIRDSTACK_") and "TEST" not in n]:
        monkeypatch.delenv(name)


def test_a_second_run_has_nothing_to_do(finished: tuple[Path, Path]):
    """What is there is not heard again."""
    ran = birdstack("features", finished[0], "--store", finished[1], "--json")

    end = next(event for event in ran.events if event["event"] == "finished")
    assert ran.code == 0
    assert end["heard"] == 0
    assert end["already"] == 13
    assert "nothing to do" in birdstack("features", "--store", finished[1]).out


def test_ls_lists_every_view_and_table(finished: tuple[Path, Path]):
    """Name, rows, columns, recipe and version, for programs."""
    entries = {
        e["name"]: e
        for e in json.loads(birdstack("store", "ls", "--json", "--store", finished[1]).out)
    }

    acoustic = entries["acoustic"]
    assert acoustic["kind"] == "family"
    assert entries["acoustic/wave"]["kind"] == "windows"
    assert entries["place"]["rows"] == acoustic["rows"]
    assert acoustic["columns"][:4] == ["recording_id", "window", "start_s", "end_s"]
    assert acoustic["recordings"] == 13
    assert acoustic["rows"] == 12 * 2 + 4  # 7.6 s are two windows, 19 s are four
    assert len(acoustic["recipe"]) == 12
    assert acoustic["version"] == 1
    assert entries["folds"]["rows"] == 12


def test_export_writes_one_flat_file(finished: tuple[Path, Path], tmp_path: Path):
    """Keys and columns, the same numbers as the view, readable by anything."""
    out = tmp_path / "acoustic.parquet"

    assert birdstack("store", "export", "acoustic", "--out", out, "--store", finished[1]).code == 0

    frame = pl.read_parquet(out)
    assert frame.equals(Store.open(finished[1]).view("acoustic").collect())
    assert frame["end_s"].to_list() == (frame["start_s"] + 5).to_list()
    assert birdstack("store", "export", "acoustic", "--out", out, "--store", finished[1]).code == 2


def test_labels_are_exported_as_window_by_class(finished: tuple[Path, Path], tmp_path: Path):
    """Present, absent, and null where a secondary label masks or nothing is labelled."""
    out = tmp_path / "y.parquet"

    birdstack(
        "store", "export", "labels", "--windows", "acoustic", "--out", out, "--store", finished[1]
    )

    y = pl.read_parquet(out)
    first = y.filter(pl.col("recording_id") == "train_audio/bird0/XC0000.ogg")
    assert first.select("bird0", "bird1", "bird2").rows() == [(1, None, 0), (1, None, 0)]
    soundscape = y.filter(pl.col("recording_id").str.starts_with("unlabeled"))
    assert soundscape["bird0"].null_count() == 4


def test_duckdb_and_pandas_open_the_parts(finished: tuple[Path, Path]):
    """Parts are plain Parquet."""
    parts = sorted((finished[1] / "views" / "acoustic" / "wave").rglob("part-*.parquet"))

    rows = sum(len(pd.read_parquet(part)) for part in parts)
    relation = duckdb.read_parquet([str(part) for part in parts])
    counted = relation.aggregate("count(*), avg(wave_rms_mean)").fetchall()[0]

    assert rows == 28
    assert counted[0] == 28
    assert counted[1] == pytest.approx(
        Store.open(finished[1]).view("acoustic").select("wave_rms_mean").collect().mean().item()
    )


def test_a_corrupt_file_costs_one_file(birds: Path, tmp_path: Path):
    """Exit code 3, the reason in the store, the others heard; mended, it is tried again."""
    bad = birds / "train_audio/bird1/XC1002.ogg"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:70] + b"\x00" * (len(whole) - 70))
    store = tmp_path / "shelf"

    first = birdstack("features", birds, "--store", store)

    assert first.code == 3
    assert "XC1002" in first.out
    opened = Store.open(store)
    assert len(opened.snapshot().covered("acoustic")) == 12

    bad.write_bytes(whole)
    second = birdstack("features", birds, "--store", store, "--json")

    assert second.code == 0, second.out
    assert len(opened.snapshot().covered("acoustic")) == 13


def test_a_truncated_file_is_heard_and_noted(birds: Path, tmp_path: Path):
    """Half a file is better than none, and the store says that it is half."""
    cut = birds / "unlabeled_soundscapes/SITE0_20240501_003000.ogg"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])

    ran = birdstack("features", birds, "--store", "shelf")

    assert ran.code == 0, ran.err
    assert "1 truncated" in ran.out
    birdstack("store", "export", "notes", "--out", "notes.csv", "--store", "shelf")
    notes = pl.read_csv(tmp_path / "notes.csv")
    assert notes.filter(pl.col("note") == "truncated")["recording_id"].to_list() == [
        "unlabeled_soundscapes/SITE0_20240501_003000.ogg"
    ]


def test_notes_last_until_the_recording_is_heard_anew(birds: Path):
    """Compaction and corrected metadata keep them; a mended file loses them."""
    cut = birds / "train_audio/bird0/XC0001.ogg"
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) * 3 // 4])
    setting = ("--set", "run.unit_recordings=4")
    assert birdstack("features", birds, "--store", "shelf", *setting).code == 0
    noted = Store.open("shelf").snapshot().notes()
    assert "truncated" in noted["note"].to_list()

    assert birdstack("store", "compact", "--store", "shelf").code == 0
    table = birds / "train_metadata.csv"
    table.write_text(table.read_text("utf-8").replace("40.5,-1.25", "-33.0,-1.25"), "utf-8")
    assert birdstack("features", birds, "--store", "shelf").code == 0
    assert Store.open("shelf").snapshot().notes().equals(noted)

    cut.write_bytes(whole)
    assert birdstack("features", birds, "--store", "shelf").code == 0
    assert Store.open("shelf").snapshot().notes().is_empty()


def test_a_file_that_is_lost_after_ingestion_is_skipped(birds: Path, shelf: Path, tmp_path: Path):
    """Between ingestion and hearing anything may happen to a file."""
    store = tmp_path / "shelf"
    assert birdstack("ingest", birds, "--store", store).code == 0
    lost = birds / "train_audio/bird2/XC2001.ogg"
    lost.rename(lost.with_suffix(".gone"))

    ran = birdstack("features", "--store", store, "--json")

    assert ran.code == 3
    skipped = [event for event in ran.events if event["event"] == "skipped"]
    assert [(s["recording_id"], s["code"]) for s in skipped] == [
        ("train_audio/bird2/XC2001.ogg", "missing")
    ]
    lost.with_suffix(".gone").rename(lost)
    assert birdstack("features", "--store", store).code == 0, "a lost file is looked for again"


def test_bad_rows_are_listed_and_good_ones_go_on(birds: Path, tmp_path: Path):
    """Each broken rule with file, row, column, value and remedy; exit code 3."""
    table = birds / "train_metadata.csv"
    lines = table.read_text("utf-8").splitlines()
    lines[3] = lines[3].replace("40.5", "140.5")
    lines.append("bird0,[],1.0,2.0,someone,3.0,../../outside.ogg")
    table.write_text("\n".join(lines) + "\n", "utf-8")

    ran = birdstack("ingest", birds, "--store", tmp_path / "shelf")

    assert ran.code == 3
    rejects = Store.open(tmp_path / "shelf").table("rejects")
    by_row = {row["row"]: row for row in rejects.to_dicts()}
    assert by_row[4]["column"] == "latitude"
    assert by_row[4]["value"] == "140.5"
    assert by_row[4]["severity"] == "flagged"
    assert by_row[14]["severity"] == "rejected"
    assert all(row["remedy"] for row in by_row.values())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["features", "no/such/folder"], 2, "no/such/folder"),
        (["features", "--store", "nowhere"], 2, "no birdstack store"),
        (["features", "--set", "acustic.n_fft=1024", "--store", "store"], 2, "acoustic"),
        (["features", "--set", "acoustic.hop", "--store", "store"], 2, "KEY=VALUE"),
        (["features", "--set", "acoustic.n_mels=0", "--store", "store"], 2, "n_mels"),
        (["features", "--split", "tset", "--store", "store"], 2, "train"),
        (["features", "--set", "grid.hop_s=2.5", "--store", "store"], 2, "window grid"),
        (["features", "--config", "no.toml", "--store", "store"], 2, "no.toml"),
        (["store", "describe", "acustic", "--store", "store"], 2, "did you mean 'acoustic'"),
        (["store", "ls", "--at", "77", "--store", "store"], 2, "0 to 1"),
        (["store", "ls", "--at", "winter", "--store", "store"], 2, "winter"),
        (["store", "export", "acoustic", "--out", "a.xls", "--store", "store"], 2, ".parquet"),
        (["store", "export", "acoustic", "--out", "no/a.csv", "--store", "store"], 2, "no"),
        (["store", "unpin", "winter", "--store", "store"], 2, "winter"),
        (["store", "pin", "../x", "--store", "store"], 2, "../x"),
        (["store", "compact", "acustic", "--store", "store"], 2, "acoustic"),
        (["store", "vacuum", "--grace-hours", "-1", "--store", "store"], 2, ""),
        (["featuresx"], 2, "features"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_wrong_usage_says_what_is_right(shelf: Path, words: list[str], code: int, said: str):
    """Exit code 2 and a message with the place, the value and the remedy."""
    ran = birdstack(*words)

    assert ran.code == code
    assert said in ran.err


def test_a_store_is_not_made_among_other_files(birds: Path):
    """A folder with something else in it is refused."""
    ran = birdstack("ingest", birds, "--store", birds)

    assert ran.code == 2
    assert "not empty" in ran.err
    assert not (birds / "log").exists()


def test_settings_rise_from_file_over_environment_to_flags(
    birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The later source wins, and the commit keeps what was resolved and from where."""
    (tmp_path / "birdstack.toml").write_text(
        '[folds]\nn_folds = 4\nseed = 7\n[acoustic]\ngroups = ["wave", "indices"]\n'
    )
    monkeypatch.setenv("BIRDSTACK_FOLDS__N_FOLDS", "3")
    ran = birdstack("ingest", birds, "--store", "shelf", "--folds", 2)

    assert ran.code == 0, ran.err
    config = Store.open("shelf").log.read(0).info["config"]
    assert config["settings"]["folds"] == {"n_folds": 2, "seed": 7, "soundscapes": "site"}
    assert config["sources"]["folds.n_folds"] == "--set folds.n_folds"
    assert config["sources"]["folds.seed"] == "birdstack.toml:3"
    assert config["settings"]["acoustic"]["groups"] == ["wave", "indices"]


def test_other_settings_make_another_recipe_beside_the_old(birds: Path, shelf: Path):
    """Numbers made in different ways do not mix; both stay readable."""
    before = Store.open(shelf).snapshot().recipe_of("acoustic/mfcc")

    ran = birdstack("features", birds, "--store", shelf, "--set", "acoustic.n_mfcc=13")

    assert ran.code == 0, ran.err
    snapshot = Store.open(shelf).snapshot()
    assert snapshot.recipe_of("acoustic/mfcc") != before
    now, then = snapshot.spec("acoustic/mfcc"), snapshot.spec("acoustic/mfcc", before)
    assert len(now.columns) < len(then.columns)
    assert snapshot.view("acoustic/mfcc", recipe=before).collect().height == 28
    added = {part.view for part in Store.open(shelf).log.read(snapshot.version).add}
    assert added == {"acoustic/mfcc"}, "no other group knows of the setting"

    back = birdstack("features", birds, "--store", shelf)
    assert "nothing to do" in back.out
    assert Store.open(shelf).snapshot().recipe_of("acoustic/mfcc") == before


def test_a_group_is_added_without_the_others(birds: Path):
    """--group hears for one group only; the rest can follow later."""
    first = birdstack("features", birds, "--store", "shelf", "--group", "wave")
    assert first.code == 0, first.err
    assert Store.open("shelf").snapshot().views == ["acoustic/wave"]

    second = birdstack("features", "--store", "shelf", "--group", "indices", "--group", "place")

    assert second.code == 0, second.err
    store = Store.open("shelf")
    assert store.snapshot().views == ["acoustic/indices", "acoustic/wave", "place"]
    added = {part.view for part in store.log.head().parts.values()}
    assert {"acoustic/wave", "acoustic/indices", "place"} <= added
    assert birdstack("features", "--store", "shelf", "--group", "indicesx").code == 2


def test_a_corrected_place_is_heard_of(birds: Path, shelf: Path):
    """New metadata make the view of place again, and nothing that was heard."""
    table = birds / "train_metadata.csv"
    table.write_text(table.read_text("utf-8").replace("40.5,-1.25", "-33.0,-1.25"), "utf-8")

    ran = birdstack("features", birds, "--store", shelf)

    assert ran.code == 0, ran.err
    store = Store.open(shelf)
    assert {part.view for part in store.log.read(store.snapshot().version).add} == {"place"}
    changed = store.view("place").filter(pl.col("latitude") == -33.0).collect()
    assert changed["recording_id"].unique().to_list() == ["train_audio/bird0/XC0001.ogg"]
    assert store.snapshot().covered("place").keys() == store.snapshot().covered("acoustic").keys()


def test_damage_is_found_and_mended(birds: Path, shelf: Path):
    """The part is named by verify the part, --repair takes it out, the next run makes it again."""
    wanted = Store.open(shelf).view("acoustic").collect()
    part = next((shelf / "views" / "acoustic" / "wave").rglob("part-*.parquet"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)

    found = birdstack("store", "verify", "--store", shelf)
    assert found.code == 1
    assert part.name in found.out

    assert birdstack("store", "verify", "--repair", "--store", shelf).code == 0
    assert birdstack("features", birds, "--store", shelf).code == 0
    assert birdstack("store", "verify", "--store", shelf).code == 0
    assert Store.open(shelf).view("acoustic").collect().equals(wanted)


def test_care_keeps_the_numbers(shelf: Path):
    """compact, pin, vacuum: fewer files, the same rows, pins respected."""
    wanted = Store.open(shelf).view("acoustic").collect()
    assert birdstack("store", "pin", "first", "--store", shelf).code == 0

    assert birdstack("store", "compact", "--store", shelf).code == 0
    birdstack("store", "vacuum", "--grace-hours", 0, "--store", shelf)

    store = Store.open(shelf)
    assert store.view("acoustic").collect().equals(wanted)
    assert store.view("acoustic", at="first").collect().equals(wanted)
    assert birdstack("store", "unpin", "first", "--store", shelf).code == 0
    done = json.loads(
        birdstack("store", "vacuum", "--grace-hours", 0, "--json", "--store", shelf).out
    )
    parts = list((shelf / "views" / "acoustic" / "wave").rglob("part-*.parquet"))
    assert len(parts) == 1
    assert birdstack("store", "ls", "--at", 1, "--store", shelf).code == 2
    assert done["oldest_snapshot"] >= 2


def test_history_says_who_did_what_with_which_settings(finished: tuple[Path, Path]):
    """Newest first, for people and for programs."""
    lines = json.loads(birdstack("store", "history", "--json", "--store", finished[1]).out)

    assert [line["operation"] for line in lines] == ["features", "ingest"]
    assert lines[0]["rows_added"]["acoustic/wave"] == 28
    assert lines[0]["rows_added"]["place"] == 28
    assert lines[0]["config"]["settings"]["grid"]["window_s"] == 5.0
    assert "birdstack" in lines[0]["environment"]["versions"]
    assert "ingest" in birdstack("store", "history", "--store", finished[1]).out


def test_describe_shows_columns_with_units_and_statistics(finished: tuple[Path, Path]):
    """What a column is, and which values it took."""
    body = json.loads(
        birdstack("store", "describe", "acoustic", "--json", "--store", finished[1]).out
    )

    column = next(c for c in body["columns"] if c["name"] == "wave_rms_mean")
    values = Store.open(finished[1]).view("acoustic").select("wave_rms_mean").collect()
    assert column["mean"] == pytest.approx(values.mean().item(), rel=1e-6)
    assert column["max"] == pytest.approx(values.max().item())
    assert body["recipe_content"]["acoustic/wave"]["extractor"] == "acoustic"
    assert "wave_rms_mean" in birdstack("store", "describe", "acoustic", "--store", finished[1]).out
    assert "role" in birdstack("store", "describe", "labels", "--store", finished[1]).out


@pytest.mark.slow
def test_processes_give_the_same_numbers(birds: Path, finished: tuple[Path, Path]):
    """Threads and processes fill the same view."""
    ran = birdstack(
        "features", birds, "--store", "shelf", "--executor", "processes", "--workers", 2,
        "--set", "run.unit_recordings=4",
    )  # fmt: skip

    assert ran.code == 0, ran.err
    mine = Store.open("shelf").view("acoustic").collect()
    assert mine.equals(Store.open(finished[1]).view("acoustic").collect())


def test_a_dataset_without_audio_can_be_looked_at(birds: Path):
    """The table alone is ingested; there is nothing to hear."""
    ran = birdstack("ingest", birds / "train_metadata.csv", "--store", "shelf")

    assert ran.code == 0, ran.err
    assert Store.open("shelf").table("recordings").height == 12
    heard = birdstack("features", "--store", "shelf")
    assert heard.code == 0
    assert "nothing to hear" in heard.err


def test_a_run_that_hears_nothing_fails(birds: Path):
    """When every recording is skipped, exit code 1 says so."""
    birdstack("ingest", birds, "--store", "shelf")
    shutil.rmtree(birds / "train_audio")
    shutil.rmtree(birds / "unlabeled_soundscapes")

    ran = birdstack("features", "--store", "shelf")

    assert ran.code == 1
    assert "missing" in ran.out
