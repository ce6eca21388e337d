"""Submission-like tables are read as they stand, and what is wrong with one is said in its place."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from birdstack.stacking.row_files import RowFile
from birdstack.stacking.row_ids import (
    read_labels,
    read_row_table,
    read_truth,
    recordings_of,
    row_ids,
)
from birdstack.store.errors import DatasetError, UsageError

TABLE = "row_id,wren,owl\na_b_5,0.25,1e-3\na_b_10,0.5,0\n"


def written(folder: Path, text: str, name: str = "table.csv") -> Path:
    """A file of some text."""
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_row_ids_are_stem_and_end() -> None:
    """Folders and audio suffixes go; a dot that is none stays; seconds without needless zeros."""
    names = ["test/soundscape_1.ogg", "SITE.2_0600", "x/y.WAV", "x/y.WAV"]
    found = row_ids(names, [5.0, 10, 7.5, 86400.0])
    assert found == ["soundscape_1_5", "SITE.2_0600_10", "y_7.5", "y_86400"]
    assert recordings_of(found) == ["soundscape_1", "SITE.2_0600", "y", "y"]
    assert recordings_of(["nothing", "_5", "a_5_b", "a_5_"]) == [None] * 4


def test_recordings_of_one_name_are_refused() -> None:
    """Their windows could not be told apart."""
    with pytest.raises(DatasetError, match=r"'a/x.ogg' and 'b/x.ogg' have the same name, 'x'"):
        row_ids(["a/x.ogg", "b/x.ogg"], [5, 10])


def test_every_kind_of_file_gives_the_same_table(tmp_path: Path) -> None:
    """CSV, with quotes, semicolons, a byte order mark or Windows lines; packed; Parquet."""
    frame = pl.read_csv(TABLE.encode())
    frame.write_parquet(tmp_path / "table.parquet")
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(TABLE.encode()))
    paths = [
        written(tmp_path, TABLE),
        written(tmp_path, TABLE.replace("wren", '"wren"').replace("a_b_5", '"a_b_5"'), "q.csv"),
        written(tmp_path, TABLE.replace(",", ";"), "s.csv"),
        written(tmp_path, "\ufeff" + TABLE, "bom.csv"),
        written(tmp_path, TABLE.replace("\n", "\r\n"), "windows.csv"),
        written(tmp_path, TABLE.replace("\n", "\n\n"), "blank.csv"),
        written(tmp_path, TABLE.replace("0.5,0", " 0.5 , 0"), "spaces.csv"),
        tmp_path / "table.csv.gz",
        tmp_path / "table.parquet",
    ]
    for path in paths:
        table = read_row_table(path)
        assert table.row_id == ["a_b_5", "a_b_10"], path
        assert table.classes == ("wren", "owl")
        assert table.values.tolist() == [[0.25, 0.001], [0.5, 0.0]]
        assert table.recordings == ["a_b", "a_b"]


def test_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    """Others are named as ignored; what is known of a window besides is no class."""
    path = written(tmp_path, "row_id,end_s,owl,wren,jay\na_5,5,1,2,3\n")
    table = read_row_table(path, ["wren", "owl"])
    assert table.classes == ("wren", "owl")
    assert table.values.tolist() == [[2, 1]]
    assert table.ignored == ("jay",)
    assert read_row_table(path).classes == ("owl", "wren", "jay")


def test_single_precision_stays(tmp_path: Path) -> None:
    """Scores of a run folder are not blown up; mixed columns take the wider type."""
    frame = pl.DataFrame({"row_id": ["a_5"], "wren": [0.1], "owl": [0.2]})
    frame.cast({"wren": pl.Float32}).write_parquet(tmp_path / "mixed.parquet")
    frame.cast({"wren": pl.Float32, "owl": pl.Float32}).write_parquet(tmp_path / "single.parquet")
    assert read_row_table(tmp_path / "single.parquet").values.dtype == np.float32
    assert read_row_table(tmp_path / "mixed.parquet").values.dtype == np.float64


def run_folder(folder: Path) -> Path:
    """Scores, labels and rows as a run of `birdstack stack` writes them."""
    keys = {"recording_id": ["t/a.ogg", "t/a.ogg", "t/b.ogg"], "window": [0, 1, 0]}
    short = pl.Schema({"window": pl.Int32})
    ends = pl.DataFrame({**keys, "end_s": [5.0, 10.0, 5.0]}, schema_overrides=short)
    ends.write_parquet(folder / "rows.parquet")
    scores = pl.DataFrame({**keys, "wren": [0.1, 0.2, 0.3]}, schema_overrides=short)
    scores.write_parquet(folder / "shipped.parquet")
    labels = pl.DataFrame(
        {**keys, "wren": [1, None, 0]}, schema_overrides={**short, "wren": pl.Int8}
    )
    labels.write_parquet(folder / "truth.parquet")
    return folder


def test_files_of_a_run_have_recordings_and_windows(tmp_path: Path) -> None:
    """Their `row_id` follows from the file of rows beside them, and is not needed among them."""
    folder = run_folder(tmp_path)
    table = read_row_table(folder / "shipped.parquet")
    assert table.recordings == ["t/a.ogg", "t/a.ogg", "t/b.ogg"]
    assert table.submission_ids("the truth") == ["a_5", "a_10", "b_5"]
    submission = read_row_table(written(tmp_path, "row_id,wren\na_5,1\n"))
    assert table.named_like(submission) == ["a_5", "a_10", "b_5"]
    assert submission.named_like(table) == ["a_5"]
    assert table.named_like(read_labels(folder / "truth.parquet"))[0] == "t/a.ogg, window 0"
    pl.DataFrame({"window": [0]}).write_parquet(folder / "rows.parquet")
    with pytest.raises(DatasetError, match=r"rows.parquet: it does not say when windows end"):
        read_row_table(folder / "shipped.parquet").submission_ids("those of truth.csv")
    (folder / "rows.parquet").unlink()
    with pytest.raises(DatasetError, match=r"there is no rows.parquet beside it") as refused:
        read_row_table(folder / "shipped.parquet").submission_ids("those of truth.csv")
    assert "add a column row_id" in refused.value.remedy


def test_a_window_without_an_end_is_refused(tmp_path: Path) -> None:
    """A file of rows that lacks one of the windows."""
    folder = run_folder(tmp_path)
    pl.read_parquet(folder / "rows.parquet").head(2).write_parquet(folder / "rows.parquet")
    with pytest.raises(DatasetError, match=r"row 2 \(t/b.ogg, window 0\): nothing says when"):
        read_row_table(folder / "shipped.parquet").submission_ids("the truth")


def test_labels_may_be_unknown_soft_or_words(tmp_path: Path) -> None:
    """Empty is NaN, shares stay, True and False are 1 and 0."""
    path = written(tmp_path, "row_id,wren,owl\na_5,1,\na_10,0.3,True\na_15,0,false\n")
    np.testing.assert_array_equal(read_labels(path).values, [[1, np.nan], [0.3, 1], [0, 0]])
    typed = {"row_id": ["a_5"], "wren": [True], "owl": [None]}
    pl.DataFrame(typed).write_parquet(tmp_path / "typed.parquet")
    np.testing.assert_array_equal(read_labels(tmp_path / "typed.parquet").values, [[1, np.nan]])


def test_a_table_for_stacking_is_truth_too(tmp_path: Path) -> None:
    """Only its labels are read."""
    text = "recording_id,window,group,y:wren,net:wren,x:hour\na,0,g,1,2.5,6\na,1,g,,7,6\n"
    table = read_labels(written(tmp_path, text))
    assert table.classes == ("wren",)
    assert table.recordings == ["a", "a"]
    np.testing.assert_array_equal(table.values, [[1], [np.nan]])


def test_truth_for_given_rows(tmp_path: Path) -> None:
    """Rows and classes in the order asked for; what the truth lacks is not known."""
    path = written(tmp_path, "row_id,wren,owl\na_5,1,0\na_10,0,\nb_5,0.2,1\n")
    found = read_truth(path, ["owl", "jay", "wren"], ["b_5", "c_5", "a_10", "a_5"])
    assert found.dtype == np.int8
    assert found.tolist() == [[1, -1, 1], [-1, -1, -1], [-1, -1, 0], [0, -1, 1]]
    folder = run_folder(tmp_path)
    assert read_truth(folder / "truth.parquet", ["wren"], ["b_5", "a_10", "a_5"]).tolist() == [
        [0],
        [-1],
        [1],
    ]


def test_truth_of_something_else_is_refused(tmp_path: Path) -> None:
    """No row or no class in common: a mistake, not a truth that knows little."""
    path = written(tmp_path, "row_id,wren\na_5,1\n")
    with pytest.raises(DatasetError, match=r"none of its 1 rows .* it has 'a_5', asked .* 'a_05'"):
        read_truth(path, ["wren"], ["a_05"])
    with pytest.raises(DatasetError, match=r"none of its classes .* 'wren', asked for are 'owl'"):
        read_truth(path, ["owl"], ["a_5"])


BAD_TABLES = {
    "empty file": ("", "the file is empty"),
    "blank": ("\n \n", "the table is empty"),
    "header only": ("row_id,wren\n", "the table has no rows"),
    "no row_id": ("row,wren\na_5,1\n", r"column 'row_id' is missing; found row, wren"),
    "no class": ("row_id,end_s\na_5,5\n", "no column of a class"),
    "empty row_id": (
        "row_id,wren\na_5,1\n,2\n,3\n",
        r"line 3, column 'row_id': empty \(2 such rows\)",
    ),
    "twice": (
        "row_id,wren\na_5,1\nb_5,1\na_5,2\n",
        r"line 2 \(row_id 'a_5'\) and line 4 \(row_id 'a_5'\) are the same window",
    ),
    "column twice": ("row_id,wren,wren\na_5,1,2\n", "the header names wren twice"),
    "cut off": ("row_id,wren,owl\na_5,1,2\na_10,1\n", "line 3: 2 fields, and the header has 3"),
    "too long": ("row_id,wren\na_5,1,5\n", "line 2: 3 fields, and the header has 2"),
    "open quote": ('row_id,wren\n"a_5,1\n', "a quote is probably not closed"),
    "latin-1": (b"row_id,wr\xe9n\na_5,1\n", "not UTF-8"),
    "UTF-16": ("row_id,wren\na_5,1\n".encode("utf-16"), "UTF-16"),
    "sound": (b"OggS\x00\x02" + bytes(50), "this is an Ogg file"),
    "broken gzip": (gzip.compress(TABLE.encode())[:-9], "the gzip file is damaged"),
    "broken Parquet": (b"PAR1" + bytes(40), "the Parquet file cannot be read"),
    "half a window": (
        "recording_id,window,wren\na,0.5,1\n",
        r"line 2 \(a, window 0.5\), column 'window': must be a whole number, got '0.5'",
    ),
    "window twice": ("recording_id,window,wren\na,1,1\na,1.0,1\n", "are the same window"),
}

BAD_SCORES = {
    "a word": (
        "row_id,wren\na_5,1\na_10,loud\n",
        r"line 3 \(row_id 'a_10'\), column 'wren': a score must be a finite number, got 'loud'",
    ),
    "decimal comma": ('row_id,wren\na_5,"0,5"\n', "must be a finite number, got '0,5'"),
    "NaN": ("row_id,wren\na_5,nan\na_10,NaN\n", r"line 2 .* got nothing or NaN \(2 such rows\)"),
    "infinite": ("row_id,wren\na_5,1\na_10,-inf\n", r"line 3 .* got -inf \(1 such rows\)"),
    "overflow": ("row_id,wren\na_5,1e999\n", "got inf"),
    "gap": ("row_id,wren,owl\na_5,1,2\na_10,,2\n", r"line 3 .*, column 'wren': .* got nothing"),
}

BAD_LABELS = {
    "above one": ("row_id,wren\na_5,2\n", r"line 2 .*, column 'wren': a label must be .* got 2"),
    "below zero": ("row_id,wren\na_5,1\na_10,-1\n", r"line 3 .* got -1"),
    "NaN": ("row_id,wren\na_5,nan\n", "got nothing or NaN"),
    "names": ("row_id,birds\na_5,wren owl\n", "column 'birds': a label must be .* got 'wren owl'"),
}


def refused_text(tmp_path: Path, content: str | bytes, read) -> str:
    """What is said of a file; it names the file and a remedy."""
    path = tmp_path / "given.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DatasetError) as refused:
        read(path)
    assert str(path) in refused.value.message
    assert refused.value.remedy
    return refused.value.message


@pytest.mark.parametrize("fault", [*BAD_TABLES])
@pytest.mark.parametrize("read", [read_row_table, read_labels])
def test_what_is_no_table_is_refused(tmp_path: Path, fault: str, read) -> None:
    """The file, the place in it and the rule, for scores and labels alike."""
    content, said = BAD_TABLES[fault]
    assert re.search(said, refused_text(tmp_path, content, read))


@pytest.mark.parametrize("fault", [*BAD_SCORES])
def test_scores_that_have_no_rank_are_refused(tmp_path: Path, fault: str) -> None:
    """Row, column, rule and value."""
    content, said = BAD_SCORES[fault]
    assert re.search(said, refused_text(tmp_path, content, read_row_table))


@pytest.mark.parametrize("fault", [*BAD_LABELS])
def test_labels_that_say_nothing_are_refused(tmp_path: Path, fault: str) -> None:
    """Row, column, rule and value."""
    content, said = BAD_LABELS[fault]
    assert re.search(said, refused_text(tmp_path, content, read_labels))


def test_classes_that_are_missing_are_named_with_the_nearest(tmp_path: Path) -> None:
    """Or left out, if that is wished; a column without any score is as good as missing."""
    path = written(tmp_path, "row_id,wrenn,owl,jay\na_5,1,2,\nb_5,1,2,\n")
    with pytest.raises(DatasetError, match=r"no column for 'wren'; the nearest is 'wrenn'"):
        read_row_table(path, ["wren", "owl"])
    with pytest.raises(DatasetError, match=r"column 'jay' holds no score at all"):
        read_row_table(path, ["owl", "jay"])
    assert read_row_table(path, ["wren", "owl", "jay"], lacking="leave").classes == ("owl",)


def test_typed_columns_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    """Text, lists and dates in Parquet, with the row's number."""
    frame = pl.DataFrame({"row_id": ["a_5", "b_5"], "wren": [None, "0.5"]})
    frame.write_parquet(tmp_path / "text.parquet")
    with pytest.raises(DatasetError, match=r"row 1 \(row_id 'b_5'\).* got '0.5' of type String"):
        read_row_table(tmp_path / "text.parquet")


def test_a_row_id_without_an_end_has_no_recording(tmp_path: Path) -> None:
    """It can be scored, but not grouped."""
    table = read_row_table(written(tmp_path, "row_id,wren\na_5,1\nfirst,1\n"))
    with pytest.raises(DatasetError, match=r"line 3 .*an underscore and the second .* 'first'"):
        table.recordings  # noqa: B018 - reading it is the act


def test_what_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    """A folder, or nothing."""
    with pytest.raises(UsageError, match="is a folder"):
        RowFile.open(tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        RowFile.open(tmp_path / "nothing.csv")
