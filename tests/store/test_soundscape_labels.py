"""Tables of labels of soundscapes: formats, names, times, and what is left out and why."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdstack.store.audacity_labels import looks_like_audacity, read_audacity
from birdstack.store.classes import ClassList
from birdstack.store.dataset import IngestConfig, Ingested, read_dataset
from birdstack.store.errors import DatasetError, UsageError
from birdstack.store.fault_rules import RejectLog
from birdstack.store.interval_tables import read_intervals
from birdstack.store.label_marks import first_lines, parse_time_s
from birdstack.store.label_names import LabelNames
from birdstack.store.labels import ABSENT, PRESENT, UNKNOWN, label_matrix
from birdstack.store.recordings import AudioHeader
from birdstack.store.soundscape_index import SoundscapeIndex
from birdstack.store.stretches import merged, without
from birdstack.store.tables import CLASSES

A, B = "1_COR_20190904.ogg", "2_SSW_20170701.ogg"
RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tSpecies\n"
TAXONOMY = (
    "primary_label,scientific_name,common_name\n"
    "owl,Strix aluco,Tawny Owl\nwren,Troglodytes troglodytes,Eurasian Wren\n"
)


def probe(path: Path) -> AudioHeader:
    """Take any bytes for twenty seconds of sound."""
    return AudioHeader(32000, 1, 20.0, "FAKE")


def ingest(root: Path, **config: object) -> Ingested:
    """Read with a probe that decodes nothing."""
    return read_dataset(root, IngestConfig(**config), probe=probe)


def write(root: Path, **texts: str) -> None:
    """Files of text; `/` in a name makes folders."""
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


@pytest.fixture
def birdclef(tmp_path: Path) -> Path:
    """Two focal clips of owl and wren, two train soundscapes, one of the test."""
    files = ("train_audio/owl/o.ogg", "train_audio/wren/w.ogg")
    scapes = (f"train_soundscapes/{A}", f"train_soundscapes/{B}", "test_soundscapes/t_1.ogg")
    write(tmp_path, **{name: name for name in files + scapes})
    table = "primary_label,scientific_name,common_name,author,filename\n"
    table += "owl,Strix aluco,Tawny Owl,Ann,owl/o.ogg\n"
    table += "wren,Troglodytes troglodytes,Eurasian Wren,Bo,wren/w.ogg\n"
    write(tmp_path, **{"train_metadata.csv": table})
    return tmp_path


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Two soundscapes in a folder, and the names of two classes."""
    write(tmp_path, **{A: "a", B: "b", "taxonomy.csv": TAXONOMY})
    return tmp_path


def strong(found: Ingested) -> dict[str, list[tuple[object, ...]]]:
    """Rows of LABELS of each soundscape, by file name."""
    ids = found.recordings.filter(kind="soundscape")["recording_id"].to_list()
    rows = found.labels.filter(pl.col("recording_id").is_in(ids)).rows()
    named: dict[str, list[tuple[object, ...]]] = {}
    for name, *row in rows:
        named.setdefault(name.rpartition("/")[2], []).append(tuple(row))
    return named


def faults(found: Ingested) -> list[tuple[object, ...]]:
    """Rule, file, row, column and value of everything in the table of rejects."""
    return found.rejects.select("rule", "file", "row", "column", "value").rows()


def windows(found: Ingested, name: str) -> list[list[int]]:
    """What is known of owl and wren in the four windows of a soundscape."""
    scapes = found.recordings.filter(pl.col("recording_id").str.ends_with(name))
    frame = pl.DataFrame(
        {
            "recording_id": scapes["recording_id"].to_list() * 4,
            "window": range(4),
            "start_s": [0.0, 5.0, 10.0, 15.0],
            "end_s": [5.0, 10.0, 15.0, 20.0],
        }
    )
    return label_matrix(frame, found.labels, ["owl", "wren"]).tolist()


def table_2021(*rows: str) -> dict[str, str]:
    """A table as BirdCLEF 2021 has it."""
    return {"train_soundscape_labels.csv": "\n".join(["row_id,site,audio_id,seconds,birds", *rows])}


def test_a_table_of_2021_is_found_beside_the_soundscapes(birdclef: Path) -> None:
    """Birds stand in their rows, `nocall` rows are absent, other windows stay unknown."""
    write(
        birdclef,
        **table_2021(
            "1_COR_5,COR,1,5,owl wren", "1_COR_10,COR,1,10,nocall", "1_COR_20,COR,1,20,wren"
        ),
    )
    found = ingest(birdclef)
    assert faults(found) == []
    assert strong(found) == {
        A: [
            (None, "annotated", 0.0, 10.0),
            (None, "annotated", 15.0, 20.0),
            ("owl", "primary", 0.0, 5.0),
            ("wren", "primary", 0.0, 5.0),
            ("wren", "primary", 15.0, 20.0),
        ]
    }
    assert windows(found, A) == [
        [PRESENT, PRESENT],
        [ABSENT, ABSENT],
        [UNKNOWN, UNKNOWN],
        [ABSENT, PRESENT],
    ]
    rows = found.recordings.filter(kind="soundscape").sort("recording_id")
    assert rows.select("split", "site").rows() == [
        ("test", None),
        ("train", "COR"),
        ("unlabeled", "SSW"),
    ]
    assert found.summary["labelled_soundscapes"] == 1
    assert found.summary["labels"] == 2 + 3


def test_a_wholly_annotated_recording_is_one_row_without_times(birdclef: Path) -> None:
    """A recording in which nobody heard anything is absent, not unknown."""
    write(birdclef, **table_2021(*(f"2_SSW_{s},SSW,2,{s},nocall" for s in (5, 10, 15, 20))))
    found = ingest(birdclef)
    assert strong(found) == {B: [(None, "annotated", None, None)]}
    assert windows(found, B) == [[ABSENT, ABSENT]] * 4


def test_a_table_of_2026_is_found(birdclef: Path) -> None:
    """File, clock times and labels with semicolons; doubled rows count once."""
    row = f"{A},00:00:05,00:00:10,owl;wren\n"
    text = "filename,start,end,primary_label\n" + row + row + f"{A},00:00:10,00:00:15,wren\n"
    write(birdclef, **{"train_soundscapes_labels.csv": text})
    found = ingest(birdclef)
    assert faults(found) == []
    assert windows(found, A) == [
        [UNKNOWN, UNKNOWN],
        [PRESENT, PRESENT],
        [ABSENT, PRESENT],
        [UNKNOWN, UNKNOWN],
    ]
    assert len(strong(found)[A]) == 4


def test_a_packed_table_is_found(birdclef: Path) -> None:
    """Gzip is unpacked, as elsewhere."""
    text = f"filename,start,end,primary_label\n{A},5,10,owl\n"
    (birdclef / "train_soundscapes_labels.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert windows(ingest(birdclef), A)[1] == [PRESENT, ABSENT]


def test_a_table_with_a_column_for_each_class(birdclef: Path) -> None:
    """1 and 0 are known, an empty cell is not, and neither is a class without a column."""
    stem = A.removesuffix(".ogg")
    text = f"row_id,owl,wren\n{stem}_5,1,0\n{stem}_10,0,\n{stem}_15,0,0\n"
    other = f"row_id,wren\n{B.removesuffix('.ogg')}_5,0\n"
    write(birdclef, **{"a_soundscape_labels.csv": text, "b_soundscape_labels.csv": other})
    found = ingest(birdclef)
    assert faults(found) == []
    assert windows(found, A) == [
        [PRESENT, ABSENT],
        [ABSENT, UNKNOWN],
        [ABSENT, ABSENT],
        [UNKNOWN, UNKNOWN],
    ]
    assert windows(found, B) == [[UNKNOWN, ABSENT], *[[UNKNOWN, UNKNOWN]] * 3]


def test_raven_and_audacity_lie_beside_the_soundscapes(bare: Path) -> None:
    """Their labels are names of any kind, and the whole recording was annotated."""
    a = RAVEN + "1\tSpectrogram 1\t1\t3\t6.5\tTawny owl\n1\tWaveform 1\t1\t3\t6.5\tTawny owl\n"
    b = "7.0\t7.5\tTroglodytes_troglodytes\n\\\t2000.0\t8000.0\n12.000\t12.1\t\n"
    stems = [name.removesuffix(".ogg") for name in (A, B)]
    texts = {f"{stems[0]}.Table.1.selections.txt": a, f"{stems[1]}.txt": b, "README.txt": "hello\n"}
    write(bare, **texts)
    found = ingest(bare, class_list=bare / "taxonomy.csv")
    assert faults(found) == []
    assert windows(found, A) == [[PRESENT, ABSENT], [PRESENT, ABSENT], *[[ABSENT, ABSENT]] * 2]
    assert windows(found, B) == [[ABSENT, ABSENT], [ABSENT, PRESENT], *[[ABSENT, ABSENT]] * 2]
    assert set(found.recordings["split"]) == {"train"}


def test_an_empty_raven_table_says_that_nothing_sings(bare: Path) -> None:
    """A header alone: the recording was looked through."""
    write(bare, **{f"{A.removesuffix('.ogg')}.selections.txt": RAVEN})
    found = ingest(bare, class_list=bare / "taxonomy.csv")
    assert windows(found, A) == [[ABSENT, ABSENT]] * 4
    assert windows(found, B) == [[UNKNOWN, UNKNOWN]] * 4


def test_only_what_was_labelled_can_be_said_to_be_annotated(bare: Path) -> None:
    """`annotated = labels`: selections are all that somebody listened to."""
    rows = "1\tS\t1\t0\t10\towl\n2\tS\t1\t10\t15\tnocall\n"
    write(bare, **{f"{A.removesuffix('.ogg')}.selections.txt": RAVEN + rows})
    found = ingest(bare, class_list=bare / "taxonomy.csv", annotated="labels")
    assert windows(found, A) == [
        [PRESENT, ABSENT],
        [PRESENT, ABSENT],
        [ABSENT, ABSENT],
        [UNKNOWN, UNKNOWN],
    ]


def test_a_raven_table_of_a_file_sequence(bare: Path) -> None:
    """Times count from the begin of each file where the table has the offsets."""
    head = "Begin Time (s)\tEnd Time (s)\tBegin Path\tFile Offset (s)\tSpecies\n"
    rows = f"1\t2\tC:\\sound\\{A}\t1\twren\n26\t27\tC:\\sound\\{B}\t6\towl\n"
    write(bare, **{"all.txt": head + rows})
    found = ingest(bare, class_list=bare / "taxonomy.csv")
    assert faults(found) == []
    assert windows(found, A)[0] == [ABSENT, PRESENT]
    assert windows(found, B) == [[ABSENT, ABSENT], [PRESENT, ABSENT], *[[ABSENT, ABSENT]] * 2]


def test_a_file_sequence_without_offsets_is_refused(bare: Path) -> None:
    """Cumulative times would land in the wrong places."""
    head = "Begin Time (s)\tEnd Time (s)\tBegin File\tSpecies\n"
    write(bare, **{"all.txt": head + f"1\t2\t{A}\twren\n26\t27\t{B}\towl\n"})
    found = ingest(bare, class_list=bare / "taxonomy.csv")
    assert [fault[:2] for fault in faults(found)] == [("label_table", "all.txt")]
    assert "2 files" in found.rejects["reason"][0]
    assert strong(found) == {}


def test_what_a_network_found_is_no_truth(bare: Path) -> None:
    """A table with a column of confidence is passed over, unless it is asked for."""
    name = f"{A.removesuffix('.ogg')}.BirdNET.selection.table.txt"
    head = "Begin Time (s)\tEnd Time (s)\tCommon Name\tConfidence\n"
    write(bare, **{name: head + "0\t3\tTawny Owl\t0.9\n"})
    found = ingest(bare, class_list=bare / "taxonomy.csv")
    assert faults(found) == [("detections_not_read", name, None, None, None)]
    assert strong(found) == {}
    asked = ingest(bare, class_list=bare / "taxonomy.csv", soundscape_labels="*.selection.table.*")
    assert windows(asked, A)[0] == [PRESENT, ABSENT]


def test_labels_become_classes_where_nobody_knows_any(tmp_path: Path) -> None:
    """Soundscapes alone, without a class list: the labels found are the classes."""
    write(tmp_path, **{A: "a", f"{A.removesuffix('.ogg')}.txt": "1\t2\trobin\n3\t4\towl\n"})
    found = ingest(tmp_path)
    assert found.classes["label"].to_list() == ["owl", "robin"]


def test_classes_of_the_store_can_be_named(bare: Path) -> None:
    """Soundscapes that join a store speak of its classes, by any of their names."""
    (bare / "taxonomy.csv").unlink()
    write(bare, **{f"{A.removesuffix('.ogg')}.txt": "1\t2\tEURASIAN WREN\n6\t7\trobin\n"})
    rows = [("wren", 0, "Troglodytes troglodytes", "Eurasian Wren")]
    known = pl.DataFrame(rows, schema=CLASSES, orient="row")
    found = read_dataset(bare, IngestConfig(), probe=probe, store_classes=known)
    assert [row[0] for row in strong(found)[A]] == [None, None, "wren"]
    assert [fault[0] for fault in faults(found)] == ["soundscape_label"]
    assert found.classes.is_empty()


BAD_ROWS = {
    "unknown species": (
        "1_COR_5,COR,1,5,owl rail",
        ("soundscape_label", 2, "birds", "rail"),
    ),
    "beyond the end": ("1_COR_30,COR,1,30,owl", ("label_beyond_end", 2, "birds", "25 to 30")),
    "no number in the row_id": ("1_COR_x,COR,1,5,owl", ("row_id_format", 2, "row_id", "1_COR_x")),
    "second 0": ("1_COR_0,COR,1,0,owl", ("row_id_format", 2, "row_id", "1_COR_0")),
    "no name in the row_id": ("5,COR,1,5,owl", ("row_id_format", 2, "row_id", "5")),
    "no such soundscape": ("9_XYZ_5,COR,1,5,owl", ("soundscape_missing", 2, None, "9_XYZ")),
    "a test soundscape": ("t_1_5,COR,1,5,owl", ("soundscape_of_test", 2, None, "t_1")),
    "too few fields": ("1_COR_5,COR", ("ragged_row", 2, None, "2 fields")),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_are_told_and_good_rows_go_on(case: str, birdclef: Path) -> None:
    """Each fault has its rule, line, column and value; the row after it is read."""
    row, (rule, line, column, value) = BAD_ROWS[case]
    write(birdclef, **table_2021(row, "1_COR_15,COR,1,15,wren"))
    found = ingest(birdclef)
    assert faults(found) == [(rule, "train_soundscape_labels.csv", line, column, value)]
    assert found.rejects["severity"].to_list() == ["rejected"]
    assert found.rejects["remedy"][0]
    assert windows(found, A)[2] == [ABSENT, PRESENT]


def test_a_stretch_with_an_unknown_label_is_unknown(birdclef: Path) -> None:
    """A misspelt owl must not become an absent one; what else was heard there holds."""
    write(birdclef, **table_2021("1_COR_5,COR,1,5,oowl wren", "1_COR_10,COR,1,10,nocall"))
    found = ingest(birdclef)
    assert windows(found, A)[:2] == [[UNKNOWN, PRESENT], [ABSENT, ABSENT]]
    told = ingest(birdclef, no_class=("nocall", "OOWL"))
    assert faults(told) == []
    assert windows(told, A)[0] == [ABSENT, PRESENT]


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        ("1\tS\t1\t6\t3\towl", "End Time (s)", "6 to 3"),
        ("1\tS\t1\t6\t6\towl", "End Time (s)", "6 to 6"),
        ("1\tS\t1\t-1\t3\towl", "Begin Time (s)", "-1"),
        ("1\tS\t1\t1\tnan\towl", "End Time (s)", "nan"),
        ("1\tS\t1\t1,5\t3\towl", "Begin Time (s)", "1,5"),
    ],
)
def test_times_that_make_no_interval(row: str, column: str, value: str, bare: Path) -> None:
    """The owl may sing anywhere then: only the other selections count as annotated."""
    name = f"{A.removesuffix('.ogg')}.selections.txt"
    write(bare, **{name: RAVEN + row + "\n2\tS\t1\t10\t16\twren\n"})
    found = ingest(bare, class_list=bare / "taxonomy.csv")
    assert faults(found) == [("label_times", name, 2, column, value)]
    assert windows(found, A) == [
        [UNKNOWN, UNKNOWN],
        [UNKNOWN, UNKNOWN],
        [ABSENT, PRESENT],
        [UNKNOWN, PRESENT],
    ]


def test_a_row_a_little_beyond_the_end_is_kept(bare: Path) -> None:
    """Headers round the length; half a second is no fault, more is."""
    name = f"{A.removesuffix('.ogg')}.txt"
    write(bare, **{name: "19\t20.4\towl\n19\t20.6\twren\n"})
    found = ingest(bare, class_list=bare / "taxonomy.csv")
    assert faults(found) == [("label_beyond_end", name, 2, "label", "19 to 20.6")]
    assert windows(found, A)[3] == [PRESENT, UNKNOWN]


def test_a_table_without_its_recording_is_told(bare: Path) -> None:
    """Once for the file, with the number of its rows."""
    write(bare, **{"gone.Table.1.selections.txt": RAVEN + "1\tS\t1\t1\t2\towl\n" * 3})
    found = ingest(bare, class_list=bare / "taxonomy.csv")
    file = "gone.Table.1.selections.txt"
    assert faults(found) == [("soundscape_missing", file, 2, None, "gone (3 rows)")]


def test_two_recordings_of_one_name_are_told_apart_by_folder(tmp_path: Path) -> None:
    """The table beside it means the recording beside it; one elsewhere cannot say which."""
    write(tmp_path, **{"a/x_20240501.ogg": "1", "b/x_20240501.ogg": "2"})
    write(tmp_path, **{"a/x_20240501.txt": "1\t2\towl\n"})
    found = ingest(tmp_path, layout="soundscapes")
    assert found.recordings.select("recording_id", "split").rows() == [
        ("a/x_20240501.ogg", "train"),
        ("b/x_20240501.ogg", "unlabeled"),
    ]
    write(tmp_path, **{"labels.csv": "filename,start,end,label\nx_20240501.ogg,1,2,owl\n"})
    again = ingest(tmp_path, layout="soundscapes", soundscape_labels="labels.csv")
    assert faults(again) == [
        ("soundscape_ambiguous", "labels.csv", 2, None, "x_20240501.ogg"),
    ]


def test_a_cell_that_is_neither_1_nor_0(birdclef: Path) -> None:
    """Probabilities are no labels."""
    stem = A.removesuffix(".ogg")
    text = f"row_id,owl,rail\n{stem}_5,0.5,1\n{stem}_10,1,0\n"
    write(birdclef, **{"train_soundscape_labels.csv": text})
    found = ingest(birdclef)
    assert sorted(fault[0] for fault in faults(found)) == ["label_value", "soundscape_label"]
    assert windows(found, A)[:2] == [[UNKNOWN, UNKNOWN], [PRESENT, UNKNOWN]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("filename,begin,label\nx,1,owl\n", "no format of labels is known"),
        ("filename,start,end\nx,1,2\n", "column 'Species' is missing"),
        ("row_id,birds\n", "no rows"),
        ("", "no format of labels is known"),
        ("row_id,birds\n\xff".encode("latin-1").decode("latin-1"), "no such"),
    ],
)
def test_a_table_with_wrong_columns_is_told_and_left_aside(
    text: str, told: str, birdclef: Path
) -> None:
    """One that was found by its name stops nothing; one that was asked for is refused."""
    name = "train_soundscape_labels.csv"
    (birdclef / name).write_bytes(text.encode("latin-1"))
    found = ingest(birdclef)
    assert [fault[:2] for fault in faults(found)] == [("label_table", name)]
    assert strong(found) == {}
    with pytest.raises(DatasetError, match=told if told != "no such" else "UTF-8"):
        ingest(birdclef, soundscape_labels=name)


def test_a_table_that_is_asked_for_and_absent_is_refused(birdclef: Path) -> None:
    """A wrong path is not taken for a dataset without labels."""
    with pytest.raises(UsageError, match=r"no file 'labels/\*\.csv' below"):
        ingest(birdclef, soundscape_labels="labels/*.csv")


def test_a_table_elsewhere_and_a_column_of_ones_own(birdclef: Path, tmp_path: Path) -> None:
    """An absolute path, and a label column that nobody would guess."""
    elsewhere = tmp_path / "elsewhere"
    write(elsewhere, **{"x.csv": f"filename,start,end,species,what\n{A},0,5,owl,wren\n"})
    found = ingest(birdclef, soundscape_labels=str(elsewhere / "x.csv"), label_column="what")
    assert windows(found, A)[0] == [ABSENT, PRESENT]
    with pytest.raises(DatasetError, match="column 'which' is missing"):
        ingest(birdclef, soundscape_labels=str(elsewhere / "x.csv"), label_column="which")


def test_labels_of_the_test_are_not_read(birdclef: Path) -> None:
    """Neither by the name of the table nor through another one."""
    write(birdclef, **{"test_soundscapes_labels.csv": "row_id,birds\nt_1_5,owl\n"})
    found = ingest(birdclef)
    assert [fault[:2] for fault in faults(found)] == [
        ("labels_not_read", "test_soundscapes_labels.csv")
    ]
    asked = ingest(birdclef, soundscape_labels="test_soundscapes_labels.csv")
    assert [fault[0] for fault in faults(asked)] == ["soundscape_of_test"]
    assert strong(asked) == {}


def test_a_name_of_several_classes_is_told() -> None:
    """One common name for two classes says neither."""
    rows = [("a", 0, None, "Owl"), ("b", 1, None, "owl"), ("Owl", 2, None, None)]
    two = pl.DataFrame(rows[:2], schema=CLASSES, orient="row")
    assert LabelNames.of(ClassList(()), {}, two).find("OWL") == ("a", "b")
    three = pl.DataFrame(rows, schema=CLASSES, orient="row")
    assert LabelNames.of(ClassList(()), {}, three).find("owl") == ("Owl",)


TIME_S = st.integers(0, 3_600_000).map(lambda ms: ms / 1000)
EVENT = st.tuples(
    TIME_S,
    st.integers(1, 60_000).map(lambda ms: ms / 1000),
    st.from_regex(r"[A-Za-z]{1,8}( [A-Za-z'\-]{1,8}){0,2}", fullmatch=True),
)


@settings(deadline=None)
@given(events=st.lists(EVENT, min_size=1, max_size=20), frequencies=st.booleans())
def test_audacity_comes_back_as_it_was_written(
    events: list[tuple[float, float, str]],
    frequencies: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What Audacity writes is read again, to its six digits."""
    path = tmp_path_factory.mktemp("audacity") / "x.txt"
    lines = []
    for start, length, label in events:
        lines.append(f"{start:.6f}\t{start + length:.6f}\t{label}\n")
        lines += ["\\\t1000.0\t2000.0\n"] if frequencies else []
    path.write_text("".join(lines), "utf-8")
    log = RejectLog("x")
    assert looks_like_audacity(first_lines(path))
    table = read_audacity(path, file="x.txt", name="x", whole=True, max_bytes=1 << 20, log=log)
    assert log.frame().is_empty()
    assert [mark.labels for mark in table.marks] == [(label,) for *_, label in events]
    for mark, (start, length, _) in zip(table.marks, events, strict=True):
        assert mark.start_s == pytest.approx(start, abs=1e-6)
        assert mark.end_s == pytest.approx(start + length, abs=1e-6)


@settings(deadline=None)
@given(events=st.lists(EVENT, max_size=20), column=st.sampled_from(["Species", "Annotation"]))
def test_raven_comes_back_as_it_was_written(
    events: list[tuple[float, float, str]], column: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A selection table is read again, whatever further columns it has."""
    path = tmp_path_factory.mktemp("raven") / "x.txt"
    head = ["Selection", "View", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", column, "Notes"]
    rows = [
        f"{i}\tSpectrogram 1\t{start:.9f}\t{start + length:.9f}\t0.0\t{label}\t"
        for i, (start, length, label) in enumerate(events)
    ]
    path.write_text("\n".join(["\t".join(head), *rows]) + "\n", "utf-8")
    log = RejectLog("x")
    table = read_intervals(
        path,
        file="x.txt",
        name="x",
        header=head,
        label_column=None,
        whole=True,
        max_bytes=1 << 20,
        log=log,
    )
    assert log.frame().is_empty()
    assert table.names == ("x",)
    assert [mark.labels for mark in table.marks] == [(label,) for *_, label in events]
    assert [mark.line for mark in table.marks] == list(range(2, len(events) + 2))
    for mark, (start, length, _) in zip(table.marks, events, strict=True):
        assert (mark.start_s, mark.end_s) == pytest.approx((start, start + length), abs=1e-9)


@given(st.integers(0, 359_999), st.integers(0, 999))
def test_clock_times_are_seconds(seconds: int, ms: int) -> None:
    """`H:MM:SS`, `MM:SS` and plain seconds mean the same."""
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"
    expected = pytest.approx(seconds + ms / 1000)
    assert parse_time_s(clock) == expected
    assert parse_time_s(f"{seconds}.{ms:03d}") == expected


SPANS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 9)).map(lambda p: (float(p[0]), float(sum(p)))),
    max_size=8,
)


@given(SPANS, SPANS)
def test_stretches_are_sets_of_seconds(spans: list, holes: list) -> None:
    """Union and difference agree with sets of whole seconds, and no two results touch."""

    def seconds(stretches: list[tuple[float, float]]) -> set[int]:
        return {second for start, end in stretches for second in range(int(start), int(end))}

    left = without(spans, holes)
    assert seconds(left) == seconds(spans) - seconds(holes)
    assert all(a[1] < b[0] for a, b in pairwise(left))
    assert seconds(merged(spans)) == seconds(spans)


def test_names_of_tables_lead_to_recordings() -> None:
    """Endings of programs are cut off until a recording beside the table fits."""
    rows = {"recording_id": ["f/x.1.ogg", "f/y.ogg"], "kind": "soundscape", "split": "unlabeled"}
    index = SoundscapeIndex(pl.DataFrame(rows))
    assert index.of_table("f/x.1.Table.1.selections.txt") == "x.1"
    assert index.of_table("f/y.ogg.txt") == "y.ogg"
    assert index.of_table("g/y.txt") is None
    assert index.find("y").recording_id == "f/y.ogg"
    assert index.find("z").fault == "soundscape_missing"


@pytest.mark.parametrize("name", ["train_soundscape_labels.csv", "extra.csv"])
def test_a_second_reading_gives_the_same(birdclef: Path, name: str) -> None:
    """Reading is a function of the files, however often it is done."""
    write(birdclef, **{name: "row_id,birds\n1_COR_5,owl\n2_SSW_5,wren owl\n"})
    first, again = (ingest(birdclef, soundscape_labels=name) for _ in range(2))
    assert first.labels.equals(again.labels)
    assert first.recordings.equals(again.recordings)
    assert len(strong(first)) == 2
