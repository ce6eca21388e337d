"""Windows to events, events to files that other programs read, and back."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.birds import make_birds
from support.command import birdstack

from birdstack.stacking.event_input import read_window_scores
from birdstack.stacking.event_names import ShownNames, file_stems, one_line
from birdstack.stacking.event_tables import (
    BIRDNET_COLUMNS,
    RAVEN_COLUMNS,
    EventStyle,
    write_events,
)
from birdstack.stacking.events import EVENTS, EventConfig, WindowScores, find_events
from birdstack.store.audacity_labels import read_audacity
from birdstack.store.errors import DatasetError, SchemaError, UsageError
from birdstack.store.fault_rules import RejectLog
from birdstack.store.interval_tables import read_intervals
from birdstack.store.store import Store

WINDOW_S = 5.0
NAMES = {
    "asbfly": ("Muscicapa dauurica", "Asian Brown Flycatcher"),
    "comkin1": ("Alcedo atthis", None),
}


def scores_of(
    *recordings: list[list[float]],
    classes: tuple[str, ...] = ("asbfly", "comkin1"),
    hop_s: float = WINDOW_S,
    missing: tuple[int, ...] = (),
) -> WindowScores:
    """Scores of recordings `r0`, `r1`, ...: `[window][class]` each; some rows left out."""
    counts = [len(each) for each in recordings]
    recording = np.repeat(np.arange(len(recordings)), counts)
    index = np.concatenate([np.arange(count) for count in counts])
    kept = np.setdiff1d(np.arange(len(recording)), missing)
    values = np.concatenate([np.asarray(each, np.float32) for each in recordings])
    return WindowScores(
        [f"r{number}" for number in range(len(recordings))],
        recording[kept],
        index[kept],
        (index * hop_s)[kept],
        (index * hop_s + WINDOW_S)[kept],
        classes,
        values.reshape(-1, len(classes))[kept],
    )


def spans(events: pl.DataFrame, label: str = "asbfly") -> list[tuple[str, float, float]]:
    """Recording, start and end of the events of one class."""
    return events.filter(pl.col("class") == label).select("recording_id", "start_s", "end_s").rows()


def column(*values: float) -> list[list[float]]:
    """Windows of one recording that only the first class has scores of."""
    return [[value, 0.0] for value in values]


# --- windows to events ------------------------------------------------------------------------


def test_neighbours_at_or_above_the_threshold_are_one_event() -> None:
    """With its highest and its mean score; the threshold itself counts."""
    events = find_events(scores_of(column(0.1, 0.5, 0.75, 0.2, 0.9)), EventConfig(threshold=0.5))

    assert events.schema == EVENTS
    assert spans(events) == [("r0", 5.0, 15.0), ("r0", 20.0, 25.0)]
    assert events["windows"].to_list() == [2, 1]
    assert events["max_score"].to_list() == pytest.approx([0.75, 0.9])
    assert events["mean_score"].to_list() == pytest.approx([0.625, 0.9])


def test_gaps_are_bridged_only_as_far_as_asked() -> None:
    """And a bridged window counts for the mean."""
    scores = scores_of(column(0.9, 0.3, 0.9, 0.1, 0.1, 0.9))

    assert len(find_events(scores, EventConfig())) == 3
    one = find_events(scores, EventConfig(gap=1))
    assert spans(one) == [("r0", 0.0, 15.0), ("r0", 25.0, 30.0)]
    assert one["mean_score"][0] == pytest.approx(0.7)
    assert spans(find_events(scores, EventConfig(gap=2))) == [("r0", 0.0, 30.0)]


def test_a_window_that_is_missing_is_a_gap() -> None:
    """What has not been scored joins nothing, unless it is bridged."""
    scores = scores_of(column(0.9, 0.9, 0.9), missing=(1,))

    assert spans(find_events(scores, EventConfig())) == [("r0", 0.0, 5.0), ("r0", 10.0, 15.0)]
    assert spans(find_events(scores, EventConfig(gap=1))) == [("r0", 0.0, 15.0)]


def test_windows_that_overlap_join_as_neighbours_only() -> None:
    """Two windows that touch, with one between them that does not count, are two events."""
    scores = scores_of(column(0.9, 0.1, 0.9, 0.9), hop_s=2.5)

    assert spans(find_events(scores, EventConfig())) == [("r0", 0.0, 5.0), ("r0", 5.0, 12.5)]


def test_no_event_reaches_across_recordings_and_the_short_go() -> None:
    """The last window of one and the first of the next are not neighbours."""
    scores = scores_of(column(0.1, 0.9), column(0.9, 0.9))

    assert spans(find_events(scores, EventConfig(gap=3))) == [("r0", 5.0, 10.0), ("r1", 0.0, 10.0)]
    assert spans(find_events(scores, EventConfig(min_s=10))) == [("r1", 0.0, 10.0)]


def test_each_class_may_have_its_threshold() -> None:
    """Those without one have the common one; an unknown class is named."""
    scores = scores_of([[0.3, 0.3], [0.6, 0.6]])
    events = find_events(scores, EventConfig(by_class={"asbfly": 0.2}))

    assert spans(events) == [("r0", 0.0, 10.0)]
    assert spans(events, "comkin1") == [("r0", 5.0, 10.0)]
    with pytest.raises(UsageError, match=r"'asbfli' is not a class.*nearest is 'asbfly'"):
        find_events(scores, EventConfig(by_class={"asbfli": 0.2}))


def test_the_best_windows_of_each_class_whatever_their_scores() -> None:
    """Exactly as many as asked for, also where scores are equal: the earlier ones then."""
    scores = scores_of([[-3.0, 0.5], [-9.0, 0.5]], [[-2.0, 0.5], [-5.0, 0.5]])

    events = find_events(scores, EventConfig(top=2))
    assert spans(events) == [("r0", 0.0, 5.0), ("r1", 0.0, 5.0)]
    assert spans(events, "comkin1") == [("r0", 0.0, 10.0)]
    assert find_events(scores, EventConfig(quantile=0.5)).equals(events)
    assert find_events(scores, EventConfig(top=99))["windows"].sum() == 8


def test_settings_that_exclude_each_other_are_refused() -> None:
    """One way of saying what counts."""
    for wrong in ({"top": 3, "quantile": 0.9}, {"top": 3, "by_class": {"a": 0.1}}, {"top": 0}):
        with pytest.raises(ValidationError):
            EventConfig.model_validate(wrong)


@settings(max_examples=80, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.0, 0.4, 0.5, 0.9]), min_size=1, max_size=14),
    other=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=6),
    gap=st.integers(0, 3),
)
def test_events_are_what_a_reader_would_find(
    values: list[float], other: list[float], gap: int
) -> None:
    """Against a walk from window to window; and recordings do not look at each other."""

    def by_hand(name: str, windows: list[float]) -> list[tuple[str, float, float]]:
        found: list[list[int]] = []
        for at, value in enumerate(windows):
            if value >= 0.5:
                if found and at - found[-1][1] <= gap + 1:
                    found[-1][1] = at
                else:
                    found.append([at, at])
        return [(name, 5.0 * first, 5.0 * last + 5.0) for first, last in found]

    config = EventConfig(gap=gap)
    events = find_events(scores_of(column(*values), column(*other)), config)

    assert spans(events) == by_hand("r0", values) + by_hand("r1", other)
    alone = find_events(scores_of(column(*values)), config)
    assert alone.equals(events.filter(recording_id="r0"))


def test_rows_out_of_order_or_without_a_score_are_refused() -> None:
    """Sorted, each once, finite."""
    good = scores_of(column(0.1, 0.2))
    with pytest.raises(SchemaError, match="ascend"):
        WindowScores(**{**vars(good), "index": np.array([1, 1])})
    with pytest.raises(SchemaError, match=r"row 1, class 'asbfly': a score must be finite"):
        WindowScores(**{**vars(good), "values": np.array([[0.1, 0.1], [np.nan, 0.1]])})
    with pytest.raises(SchemaError, match="end_s must have shape"):
        WindowScores(**{**vars(good), "end_s": np.array([5.0])})


# --- events to files, and back ----------------------------------------------------------------


def some_events(**more: Any) -> pl.DataFrame:
    """Two recordings with events, the second with one of each class; a third without."""
    first, second = column(0.9, 0.8, 0.1), [[0.1, 0.6], [0.7, 0.2]]
    scores = scores_of(first, second, column(0.0))
    return find_events(scores, EventConfig(**more))


LENGTHS = {"r0": 15.0, "r1": 9.5, "r2": 5.0}


def raven_rows(path: Path) -> list[dict[str, str]]:
    """A selection table as Raven reads it: tabs, no quotes."""
    head, *lines = path.read_text("utf-8").splitlines()
    columns = head.split("\t")
    return [dict(zip(columns, line.split("\t"), strict=True)) for line in lines]


def test_raven_tables_say_what_the_events_say(tmp_path: Path) -> None:
    """One for each recording, header and order as programs expect them."""
    style = EventStyle(names=NAMES, audio={"r0": "/data/night one/r0.ogg"}, band_hz=(0, 12_000))
    written = write_events(some_events(), LENGTHS, tmp_path / "out", ["raven"], style=style)

    assert (written.events, written.recordings, written.files) == (3, 2, 6)
    rows = raven_rows(tmp_path / "out" / "raven" / "r0.selections.txt")
    assert tuple(rows[0]) == RAVEN_COLUMNS
    assert rows == [
        {
            "Selection": "1",
            "View": "Spectrogram 1",
            "Channel": "1",
            "Begin Time (s)": "0.0",
            "End Time (s)": "10.0",
            "Low Freq (Hz)": "0",
            "High Freq (Hz)": "12000",
            "Common Name": "Asian Brown Flycatcher",
            "Species Code": "asbfly",
            "Confidence": "0.9000",
            "Begin Path": "/data/night one/r0.ogg",
            "File Offset (s)": "0.0",
            "Begin File": "r0.ogg",
            "Scientific Name": "Muscicapa dauurica",
            "Mean Confidence": "0.8500",
        }
    ]
    second = raven_rows(tmp_path / "out" / "raven" / "r1.selections.txt")
    assert [row["Common Name"] for row in second] == ["Alcedo atthis", "Asian Brown Flycatcher"]
    assert raven_rows(tmp_path / "out" / "raven" / "r2.selections.txt") == []


def test_the_table_for_all_runs_over_the_files_in_order(tmp_path: Path) -> None:
    """Times count on from file to file, offsets within each; the list names the files."""
    write_events(some_events(), LENGTHS, tmp_path, ["raven"])

    rows = raven_rows(tmp_path / "events.selections.txt")
    assert [row["Selection"] for row in rows] == ["1", "2", "3"]
    assert [float(row["Begin Time (s)"]) for row in rows] == [0.0, 15.0, 20.0]
    assert [float(row["File Offset (s)"]) for row in rows] == [0.0, 0.0, 5.0]
    assert [row["Begin File"] for row in rows] == ["r0", "r1", "r1"]
    assert (tmp_path / "events.list.txt").read_text() == "r0\nr1\nr2\n"


def test_raven_tables_come_back_as_labels(tmp_path: Path) -> None:
    """Each alone, and the one for all, read as an annotator's table would be."""
    events = some_events()
    write_events(events, LENGTHS, tmp_path, ["raven"])
    wanted = [
        (row["recording_id"], row["start_s"], row["end_s"], (row["class"],))
        for row in events.iter_rows(named=True)
    ]

    def marks(path: Path, name: str) -> list[tuple[Any, ...]]:
        log = RejectLog("d")
        head = path.read_text().splitlines()[0].split("\t")
        table = read_intervals(
            path,
            file=path.name,
            name=name,
            header=head,
            label_column=None,
            whole=True,
            max_bytes=1 << 20,
            log=log,
        )
        assert not log.frame().height
        return [(mark.name, mark.start_s, mark.end_s, mark.labels) for mark in table.marks]

    alone = [marks(tmp_path / "raven" / f"r{n}.selections.txt", f"r{n}") for n in range(2)]
    assert [mark for found in alone for mark in found] == wanted
    assert marks(tmp_path / "events.selections.txt", "") == wanted


def test_audacity_tracks_come_back_as_labels(tmp_path: Path) -> None:
    """Start, end and the class alone: a track that has been corrected is a label."""
    write_events(some_events(), LENGTHS, tmp_path, ["audacity"], style=EventStyle(names=NAMES))

    text = (tmp_path / "audacity" / "r1.txt").read_text()
    assert text == (
        "0.000000\t5.000000\tAlcedo atthis\n5.000000\t10.000000\tAsian Brown Flycatcher\n"
    )
    log = RejectLog("d")
    path = tmp_path / "audacity" / "r1.txt"
    table = read_audacity(path, file="r1.txt", name="r1", whole=True, max_bytes=1 << 20, log=log)
    assert [(mark.start_s, mark.end_s, mark.labels) for mark in table.marks] == [
        (0.0, 5.0, ("Alcedo atthis",)),
        (5.0, 10.0, ("Asian Brown Flycatcher",)),
    ]
    assert not log.frame().height
    assert (tmp_path / "audacity" / "r2.txt").read_text() == ""


def test_birdnet_tables_have_its_header_and_quotes(tmp_path: Path) -> None:
    """A common name with a comma stays one field."""
    names = {"asbfly": ("Muscicapa dauurica", "Flycatcher, Asian")}
    write_events(some_events(), LENGTHS, tmp_path, ["birdnet"], style=EventStyle(names=names))

    with (tmp_path / "birdnet" / "r0.BirdNET.results.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == BIRDNET_COLUMNS
    assert rows[1:] == [["0.0", "10.0", "Muscicapa dauurica", "Flycatcher, Asian", "0.9000", "r0"]]


def test_the_table_of_events_holds_all_of_them(tmp_path: Path) -> None:
    """Whatever formats are asked for."""
    events = some_events()
    write_events(events, LENGTHS, tmp_path, [])
    back = pl.read_csv(tmp_path / "events.csv", schema_overrides=EVENTS)
    assert back.drop("max_score", "mean_score").equals(events.drop("max_score", "mean_score"))
    assert (back["max_score"] - events["max_score"]).abs().max() <= 1e-6
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]


# --- hostile names ------------------------------------------------------------------------------


HOSTILE = [
    "../../etc/passwd",
    "/etc/cron.d/x.ogg",
    "C:\\Windows\\System32\\a.wav",
    "..",
    ".hidden.ogg",
    "a\tb\nc.ogg",
    "con.ogg",
    "night/x.ogg",
    "night/x.wav",
    "night/X.ogg",
    "a" * 300 + ".ogg",
    "",
    "nul\x00byte.ogg",
    'quota"<>|?*.ogg',
    "été/新しい.flac",
    "trailing. ",
]


@settings(max_examples=150, deadline=None)
@given(st.sets(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12)), max_size=8))
def test_files_stay_in_their_folder_and_apart(names: set[str]) -> None:
    """No name leaves the folder, hides, or is another's but for the case of letters."""
    stems = file_stems(sorted(names))
    for stem in stems.values():
        parts = stem.split("/")
        assert all(parts)
        assert not any(part.startswith(".") or part.endswith((".", " ")) for part in parts)
        assert not re.search(r'[\x00-\x1f<>:"\\|?*]', stem)
        assert all(len(part.encode("utf-8", "replace")) < 200 for part in parts)
    assert len({stem.casefold() for stem in stems.values()}) == len(names)


def test_hostile_names_are_written_and_no_row_is_torn(tmp_path: Path) -> None:
    """Tabs, quotes and line ends of names are no structure of a table."""
    label = 'bad\t"name"\n=1+1'
    count = len(HOSTILE)
    scores = scores_of(*[[[0.9]] for _ in range(count)], classes=(label,))
    events = find_events(scores, EventConfig()).with_columns(
        pl.Series("recording_id", HOSTILE, dtype=pl.String)
    )
    out = tmp_path / "deep" / "out"
    written = write_events(events, dict.fromkeys(HOSTILE, 5.0), out)

    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) == written.files == 3 * count + 3
    assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")} == {"deep"}
    rows = raven_rows(out / "events.selections.txt")
    assert {row["Species Code"] for row in rows} == {"bad 'name' =1+1"}
    assert len(rows) == count
    for path in (out / "audacity").rglob("*.txt"):
        assert path.read_text("utf-8").count("\t") == 2


def test_a_name_that_several_classes_share_says_too_little() -> None:
    """Then the class's own name stands in a label track."""
    shown = ShownNames.of(["a", "b", "c"], {"a": ("A a", "Robin"), "b": (None, "Robin")})
    assert [shown.shown(name) for name in "abc"] == ["A a", "b", "c"]
    assert [shown.common(name) for name in "abc"] == ["Robin", "Robin", "c"]
    assert one_line(" a\u00a0\tb\r\n") == "a b"


# --- whole or not at all ----------------------------------------------------------------------


def test_events_of_an_earlier_run_are_not_touched_unasked(tmp_path: Path) -> None:
    """With `replace` they go whole, and what else lies there stays."""
    write_events(some_events(), LENGTHS, tmp_path)
    mine = tmp_path / "notes.txt"
    mine.write_text("mine")
    with pytest.raises(UsageError, match=r"events.csv, raven, .*lie there"):
        write_events(some_events(), LENGTHS, tmp_path)

    few = some_events(threshold=0.85).filter(recording_id="r0")
    write_events(few, {"r0": 15.0}, tmp_path, ["raven"], replace=True)

    assert [path.name for path in (tmp_path / "raven").iterdir()] == ["r0.selections.txt"]
    assert len(raven_rows(tmp_path / "events.selections.txt")) == 1
    assert mine.read_text() == "mine"
    assert (tmp_path / "audacity" / "r1.txt").is_file()


def test_a_failure_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier files are as they were, and nothing is left beside them."""
    write_events(some_events(), LENGTHS, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UsageError, match="No space left on device"):
        write_events(some_events(gap=1), LENGTHS, tmp_path, replace=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_wrong_calls_are_named(tmp_path: Path) -> None:
    """Formats, columns, lengths, a file in the folder's place."""
    with pytest.raises(UsageError, match="'ravn' is none of raven, audacity, birdnet"):
        write_events(some_events(), LENGTHS, tmp_path, ["ravn"])
    with pytest.raises(SchemaError, match="columns must be"):
        write_events(some_events().drop("windows"), LENGTHS, tmp_path)
    with pytest.raises(SchemaError, match="'r1' has no length"):
        write_events(some_events(), {"r0": 1.0}, tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        write_events(some_events(), LENGTHS, tmp_path / "file")


# --- reading scores -----------------------------------------------------------------------------


def _submission(path: Path, *rows: str, head: str = "row_id,asbfly,comkin1") -> Path:
    path.write_text("\n".join([head, *rows]) + "\n", "utf-8")
    return path


def test_a_submission_is_read_in_any_order(tmp_path: Path) -> None:
    """Names of recordings may have underscores; the number at the end is the window's end."""
    path = _submission(
        tmp_path / "s.csv", "site_1_10,0.4,0.6", "site_1_5,0.1,0.2", "other_5,0.3,0.9"
    )
    scores = read_window_scores(path)

    assert scores.recording_ids == ["other", "site_1"]
    assert scores.recording.tolist() == [0, 1, 1]
    assert scores.start_s.tolist() == [0.0, 0.0, 5.0]
    assert scores.ends_s() == {"other": 5.0, "site_1": 10.0}
    assert scores.values[:, 1].tolist() == pytest.approx([0.9, 0.2, 0.6])
    assert np.diff(scores.index[1:]).tolist() == [1]


def test_predictions_with_times_and_a_run_folder_are_read(tmp_path: Path) -> None:
    """Times stand in the file, or in the `rows.parquet` beside it."""
    keys = {"recording_id": ["a", "a", "b"], "window": [0, 1, 0]}
    times = {"start_s": [0.0, 2.5, 0.0], "end_s": [5.0, 7.5, 5.0]}
    pl.DataFrame({**keys, **times, "x": [0.1, 0.2, 0.3]}).write_parquet(tmp_path / "p.parquet")
    (tmp_path / "run").mkdir()
    pl.DataFrame({**keys, "x": [0.1, 0.2, 0.3]}).write_parquet(tmp_path / "run" / "s.parquet")
    with pytest.raises(DatasetError, match=r"s.parquet: nothing says when windows begin"):
        read_window_scores(tmp_path / "run" / "s.parquet")
    pl.DataFrame({**keys, **times}).write_parquet(tmp_path / "run" / "rows.parquet")

    for path in (tmp_path / "p.parquet", tmp_path / "run" / "s.parquet"):
        scores = read_window_scores(path)
        assert scores.classes == ("x",)
        assert scores.end_s.tolist() == [5.0, 7.5, 5.0]
        assert scores.index.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["a_5,0.1,x"], r"line 2.*column 'comkin1'.*finite number.*'x'"),
        (["a_5,0.1,"], r"line 2.*column 'comkin1'.*finite"),
        (["a_5,0.1,1.5"], r"line 2.*column 'comkin1': a score must lie from 0 to 1.*got 1.5"),
        (["a_5,0.1,0.2", "a_5,0.1,0.2"], r"same window"),
        (["a_5,0.1,0.2", "a_5.0,0.1,0.2"], r"line 2.*line 3.*same window of 'a'"),
        (["a,0.1,0.2"], r"line 2.*row_id.*underscore and the second"),
        (["a_2,0.1,0.2"], r"line 2.*a window of 5 s cannot end before that, got an end at 2 s"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[str], told: str) -> None:
    """File, line, column, rule, value and a remedy."""
    path = _submission(tmp_path / "s.csv", *rows)
    with pytest.raises(DatasetError, match=told) as caught:
        read_window_scores(path)
    assert str(path) in caught.value.message
    assert caught.value.remedy


def test_bad_times_are_named(tmp_path: Path) -> None:
    """A window that ends before it begins, a negative time, half a window."""
    path = tmp_path / "p.csv"
    head = "recording_id,window,start_s,end_s,x"
    for row, told in (
        ("a,0,5,5,0.1", "must end after it begins, got 5 to 5"),
        ("a,0,-1,5,0.1", r"column 'start_s': a time .*got -1"),
        ("a,0.5,0,5,0.1", r"column 'window': must be a whole number"),
    ):
        with pytest.raises(DatasetError, match=told):
            read_window_scores(_submission(path, row, head=head))


# --- the command --------------------------------------------------------------------------------


def test_the_command_writes_what_was_asked_for(tmp_path: Path) -> None:
    """Paths and lengths from the audio, names from a taxonomy, thresholds from a file."""
    birds = make_birds(tmp_path / "birds", soundscapes=1)
    (sound,) = (birds / "unlabeled_soundscapes").iterdir()
    path = _submission(
        tmp_path / "s.csv", f"{sound.stem}_5,0.9,0.3", f"{sound.stem}_10,0.2,0.3", "lost_5,0.9,0.1"
    )
    taxonomy = tmp_path / "taxonomy.csv"
    taxonomy.write_text(
        "primary_label,scientific_name,common_name\ncomkin1,Alcedo atthis,Common Kingfisher\n"
    )
    limits = tmp_path / "limits.csv"
    limits.write_text("class,threshold\ncomkin1,0.25\n")
    words = ["events", path, "--out", tmp_path / "out", "--thresholds", limits]
    words += ["--names", taxonomy, "--audio", birds]

    ran = birdstack(*words, "--json")
    assert ran.code == 0, ran.err
    end = ran.named("finished")[0]
    assert (end["events"], end["recordings"], end["classes"]) == (3, 2, 2)
    (warning,) = ran.named("warning")
    assert "1 recording: lost" in warning["message"]
    rows = raven_rows(tmp_path / "out" / "events.selections.txt")
    shown = [row["Common Name"] for row in rows if row["Begin Path"] == str(sound.absolute())]
    assert shown == ["asbfly", "Common Kingfisher"]
    assert [row["Common Name"] for row in rows if row["Begin Path"] == "lost"] == ["asbfly"]
    assert str(sound.absolute()) in (tmp_path / "out" / "events.list.txt").read_text()
    again = birdstack(*words)
    assert again.code == 2
    assert "--overwrite" in again.err
    assert birdstack(*words, "--overwrite").code == 0


def test_lengths_of_the_audio_part_the_files_in_the_table_for_all(tmp_path: Path) -> None:
    """A recording of 19 s whose last window ends at 20 s moves the next by 19 s."""
    birds = make_birds(tmp_path / "birds", soundscapes=2)
    first, second = sorted(path.stem for path in (birds / "unlabeled_soundscapes").iterdir())
    path = _submission(tmp_path / "s.csv", f"{first}_20,0.9,0.1", f"{second}_5,0.9,0.1")
    birdstack("events", path, "--out", tmp_path / "out", "--audio", birds, "--format", "raven")

    begins = [
        float(row["Begin Time (s)"]) for row in raven_rows(tmp_path / "out/events.selections.txt")
    ]
    assert begins == pytest.approx([15.0, 19.0])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--format", "ravn"], "'ravn' is none of"),
        (["--top", "3", "--threshold", "0.5"], "do not go with --threshold"),
        (["--top", "3", "--quantile", "0.5"], "exclude each other"),
        (["--quantile", "1.5"], "quantile"),
        (["--audio", "nowhere"], "no such folder"),
    ],
)
def test_wrong_usage_is_told(tmp_path: Path, words: list[str], told: str) -> None:
    """Exit code 2, and nothing is written."""
    path = _submission(tmp_path / "s.csv", "a_5,0.9,0.3")
    ran = birdstack("events", path, "--out", tmp_path / "out", *words)
    assert ran.code == 2
    assert told in ran.err
    assert "remedy:" in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("class,threshold\nasbfli,0.2\n", r"line 2, column 'class': 'asbfli' is no class.*nearest"),
        ("class,threshold\nasbfly,high\n", r"line 2, column 'threshold': must be a finite number"),
        ("class,threshold\nasbfly,0.1\nasbfly,0.2\n", r"line 3: class 'asbfly' comes twice"),
        ("class,threshold\nasbfly\n", r"line 2: 1 fields"),
        ("class,limit\nasbfly,0.1\n", r"'threshold' is missing"),
        ("bird,threshold\nasbfly,0.1\n", r"'class' is missing"),
    ],
)
def test_bad_thresholds_are_named(tmp_path: Path, text: str, told: str) -> None:
    """Line, column, value; exit code 1."""
    path = _submission(tmp_path / "s.csv", "a_5,0.9,0.3")
    limits = tmp_path / "limits.csv"
    limits.write_text(text)
    ran = birdstack("events", path, "--out", tmp_path / "out", "--thresholds", limits)
    assert ran.code == 1
    assert re.search(told, ran.err)


def test_no_event_at_all_is_told_with_the_highest_score(tmp_path: Path) -> None:
    """Empty tables are written, and what to try is said."""
    path = _submission(tmp_path / "s.csv", "a_5,0.2,0.3")
    ran = birdstack("events", path, "--out", tmp_path / "out", "--json")
    assert ran.code == 0
    (warning,) = ran.named("warning")
    assert "highest score is 0.3" in warning["message"]
    assert "--top" in warning["message"]
    assert json.loads(json.dumps(ran.named("finished")))[0]["events"] == 0
    assert (tmp_path / "out" / "audacity" / "a.txt").read_text() == ""


def test_what_is_written_is_never_taken_for_labels_unasked(tmp_path: Path) -> None:
    """Even where it lies in the folder of the audio; a track that is put beside it is."""
    birds = make_birds(tmp_path / "birds", soundscapes=1)
    folder = birds / "unlabeled_soundscapes"
    (sound,) = folder.iterdir()
    path = _submission(tmp_path / "s.csv", f"{sound.stem}_5,0.9,0.3", head="row_id,bird0,bird1")
    assert birdstack("events", path, "--out", folder).code == 0

    def labelled(store: Path) -> int:
        ran = birdstack("ingest", birds, "--store", store)
        assert ran.code == 0, ran.err
        labels = Store.open(store).snapshot().table("labels")
        return labels.filter(pl.col("recording_id").str.ends_with(sound.name)).height

    assert labelled(tmp_path / "before") == 0
    shutil.copyfile(folder / "audacity" / f"{sound.stem}.txt", folder / f"{sound.stem}.txt")
    assert labelled(tmp_path / "after") > 0


def test_the_classes_of_a_bundle_name_them(tmp_path: Path) -> None:
    """`--names` takes its classes.csv as well as a taxonomy."""
    path = _submission(tmp_path / "s.csv", "a_5,0.9,0.3")
    names = tmp_path / "classes.csv"
    names.write_text("label,scientific_name,common_name\nasbfly,Muscicapa dauurica,Flycatcher\n")
    words = ["events", path, "--out", tmp_path / "out", "--format", "audacity", "--names", names]
    assert birdstack(*words).code == 0
    assert (tmp_path / "out" / "audacity" / "a.txt").read_text().endswith("\tFlycatcher\n")
