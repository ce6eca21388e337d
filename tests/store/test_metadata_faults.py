"""Every fault of a metadata table: where it is found, what it is called, what is done."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from birdstack.store.dataset import IngestConfig, Ingested, read_dataset
from birdstack.store.errors import DatasetError
from birdstack.store.fault_rules import RULES
from birdstack.store.recordings import AudioHeader

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metadata-faults.md"
HEADER = "primary_label,secondary_labels,type,latitude,longitude,rating,date,time,filename"
GOOD = "a,[],['call'],1.5,2.5,4.0,2020-01-31,07:30,a/good.ogg"


def probe(path: Path) -> AudioHeader:
    """Take any bytes for five seconds of sound."""
    return AudioHeader(32000, 1, 5.0, "FAKE")


def dataset(root: Path, table: bytes, files: tuple[str, ...]) -> Path:
    """A BirdCLEF folder with this table and these files."""
    for name in files:
        path = root / "train_audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (root / "train_metadata.csv").write_bytes(table)
    return root


def ingest(root: Path, **config: object) -> Ingested:
    """Read with a probe that decodes nothing."""
    return read_dataset(root, IngestConfig(**config), probe=probe)


def cells(**changed: str) -> str:
    """A row like the good one, for a/bad.ogg, with some cells changed."""
    row = dict(zip(HEADER.split(","), GOOD.split(","), strict=True))
    row |= {"filename": "a/bad.ogg"} | changed
    return ",".join(f'"{cell}"' if "," in cell or "\n" in cell else cell for cell in row.values())


REJECTED = {
    "missing filename": ({"filename": ""}, "missing_filename", "filename", None),
    "filename written nan": ({"filename": "nan"}, "missing_filename", "filename", None),
    "missing label": ({"primary_label": " "}, "missing_label", "primary_label", None),
    "label with a slash": ({"primary_label": "a/b"}, "label_characters", "primary_label", "a/b"),
    "label that climbs": ({"primary_label": ".."}, "label_characters", "primary_label", ".."),
    "climbing path": ({"filename": "../x.ogg"}, "outside_root", "filename", "../x.ogg"),
    "path climbing inside": ({"filename": "a/../../x.ogg"}, "outside_root", "filename", "a/../../x.ogg"),
    "absolute path": ({"filename": "/etc/x.ogg"}, "outside_root", "filename", "/etc/x.ogg"),
    "drive path": ({"filename": "C:/x.ogg"}, "outside_root", "filename", "C:/x.ogg"),
    "home path": ({"filename": "~/x.ogg"}, "outside_root", "filename", "~/x.ogg"),
    "NUL in the path": ({"filename": "a/x\0.ogg"}, "outside_root", "filename", "a/x\0.ogg"),
    "backslash": ({"filename": "a\\bad.ogg"}, "backslash_path", "filename", "a\\bad.ogg"),
    "not audio": ({"filename": "a/bad.txt"}, "not_audio_name", "filename", "a/bad.txt"),
    "duplicate filename": ({"filename": "a/good.ogg"}, "duplicate_filename", "filename", "a/good.ogg"),
    "duplicate in other words": (
        {"filename": "./a//good.ogg"}, "duplicate_filename", "filename", "./a//good.ogg"),
    "missing file": ({"filename": "a/gone.ogg"}, "missing_file", "filename", "a/gone.ogg"),
    "file in another case": ({"filename": "a/BAD.ogg"}, "missing_file", "filename", "a/BAD.ogg"),
    "name longer than allowed": (
        {"filename": "a/" + "x" * 300 + ".ogg"}, "missing_file", "filename",
        "a/" + "x" * 198 + "... (306 characters)"),
    "secondary labels cut off": (
        {"secondary_labels": "['b'"}, "malformed_secondary_labels", "secondary_labels", "['b'"),
    "secondary labels with a stray quote": (
        {"secondary_labels": "[']"}, "malformed_secondary_labels", "secondary_labels", "[']"),
    "secondary labels without brackets": (
        {"secondary_labels": "b c"}, "malformed_secondary_labels", "secondary_labels", "b c"),
    "secondary labels with numbers": (
        {"secondary_labels": "[1, 2]"}, "malformed_secondary_labels", "secondary_labels", "[1, 2]"),
    "secondary labels with code": (
        {"secondary_labels": "__import__('os')"}, "malformed_secondary_labels",
        "secondary_labels", "__import__('os')"),
    "secondary labels nested deep": (
        {"secondary_labels": "[" * 5000}, "malformed_secondary_labels", "secondary_labels",
        "[" * 200 + "... (5000 characters)"),
    "secondary labels of a megabyte": (
        {"secondary_labels": "['" + "b" * 1_000_000 + "']"}, "malformed_secondary_labels",
        "secondary_labels", "['" + "b" * 198 + "... (1000004 characters)"),
}  # fmt: skip
FLAGGED = {
    "latitude out of range": ({"latitude": "95"}, "latitude_range", "latitude", "95"),
    "latitude beyond numbers": ({"latitude": "1e999"}, "latitude_range", "latitude", "1e999"),
    "longitude out of range": ({"longitude": "-180.1"}, "longitude_range", "longitude", "-180.1"),
    "latitude and longitude swapped": ({"latitude": "151.2"}, "latitude_range", "latitude", "151.2"),
    "latitude with a comma": ({"latitude": "12,5"}, "decimal_comma", "latitude", "12,5"),
    "longitude with a comma": ({"longitude": "12,5"}, "decimal_comma", "longitude", "12,5"),
    "latitude in degrees": ({"latitude": "12N"}, "not_a_number", "latitude", "12N"),
    "latitude inf": ({"latitude": "inf"}, "not_a_number", "latitude", "inf"),
    "latitude without longitude": ({"longitude": ""}, "lone_coordinate", "latitude", "1.5"),
    "longitude without latitude": ({"latitude": "nan"}, "lone_coordinate", "longitude", "2.5"),
    "rating above 5": ({"rating": "5.5"}, "rating_range", "rating", "5.5"),
    "rating below 0": ({"rating": "-1"}, "rating_range", "rating", "-1"),
    "rating as a letter": ({"rating": "A"}, "not_a_number", "rating", "A"),
    "rating with a comma": ({"rating": "3,5"}, "decimal_comma", "rating", "3,5"),
    "date of no calendar": ({"date": "2019-02-30"}, "date_format", "date", "2019-02-30"),
    "date without a day": ({"date": "2014-05-00"}, "date_format", "date", "2014-05-00"),
    "date with dots": ({"date": "31.1.2020"}, "date_format", "date", "31.1.2020"),
    "time in words": ({"time": "Dawn"}, "time_format", "time", "Dawn"),
    "time beyond a day": ({"time": "25:00"}, "time_format", "time", "25:00"),
    "time of three digits": ({"time": "123:00"}, "time_format", "time", "123:00"),
    "thirteen o'clock pm": ({"time": "13:00pm"}, "time_format", "time", "13:00pm"),
    "type without brackets": ({"type": "song"}, "malformed_type", "type", "song"),
}  # fmt: skip


@pytest.mark.parametrize("case", REJECTED)
def test_bad_row_is_rejected_and_the_good_row_goes_on(case: str, tmp_path: Path) -> None:
    """A row that cannot be used is listed with its line, column and value; others stay."""
    changed, rule, column, value = REJECTED[case]
    table = f"{HEADER}\n{GOOD}\n{cells(**changed)}\n"
    found = ingest(dataset(tmp_path, table.encode(), ("a/good.ogg", "a/bad.ogg")))
    assert found.recordings["recording_id"].to_list() == ["train_audio/a/good.ogg"]
    (row,) = found.rejects.filter(severity="rejected").to_dicts()
    assert (row["file"], row["row"], row["rule"]) == ("train_metadata.csv", 3, rule)
    assert (row["column"], row["value"]) == (column, value)
    assert row["remedy"] == RULES[rule].remedy
    assert row["dataset"] == tmp_path.name
    assert found.datasets["rejected"].item() == 1


@pytest.mark.parametrize("case", FLAGGED)
def test_bad_value_is_flagged_and_nulled(case: str, tmp_path: Path) -> None:
    """A value that cannot be believed becomes null; its row stays and says what was there."""
    changed, rule, column, value = FLAGGED[case]
    table = f"{HEADER}\n{GOOD}\n{cells(**changed)}\n"
    found = ingest(dataset(tmp_path, table.encode(), ("a/good.ogg", "a/bad.ogg")))
    assert found.recordings.height == 2
    (row,) = found.rejects.to_dicts()
    assert (row["file"], row["row"], row["rule"]) == ("train_metadata.csv", 3, rule)
    assert (row["column"], row["value"], row["severity"]) == (column, value, "flagged")
    assert row["recording_id"] == "train_audio/a/bad.ogg"
    assert row["remedy"] == RULES[rule].remedy
    bad = found.recordings.row(0, named=True)
    assert bad[column] is None
    if column in {"latitude", "longitude"}:
        assert (bad["latitude"], bad["longitude"]) == (None, None)
    good = found.recordings.row(1, named=True)
    assert (good["latitude"], good["rating"], good["type"]) == (1.5, 4.0, ["call"])


@pytest.mark.parametrize(
    "changed",
    [
        {"latitude": "", "longitude": ""},
        {"latitude": "-", "longitude": "-"},
        {"latitude": "NaN", "longitude": "None"},
        {"rating": "-"},
        {"time": "?:?"},
        {"time": "xx:xx"},
        {"time": "-"},
        {"date": ""},
        {"type": ""},
        {"type": "['']"},
        {"secondary_labels": ""},
        {"secondary_labels": "['']"},
        {"secondary_labels": "['a']"},
    ],
)
def test_unknown_values_are_no_fault(changed: dict[str, str], tmp_path: Path) -> None:
    """What people write for "not known" is null without a word, as in the real tables."""
    table = f"{HEADER}\n{cells(**changed)}\n"
    found = ingest(dataset(tmp_path, table.encode(), ("a/bad.ogg",)))
    assert found.rejects.is_empty()
    assert found.labels["role"].to_list() == ["primary"]


RAW = f"{HEADER}\n{GOOD}\n".encode()
TABLES = {
    "empty file": (b"", "empty_table", "train_metadata.csv"),
    "blank lines only": (b"\n \n\n", "empty_table", "train_metadata.csv"),
    "header only": (HEADER.encode(), "no_rows", "train_metadata.csv"),
    "filename column missing": (
        RAW.replace(b"filename", b"Filename"), "missing_column", "the nearest is 'Filename'"),
    "label column missing": (
        RAW.replace(b"primary_label", b"primary_lable"), "missing_column", "'primary_lable'"),
    "column named twice": (
        RAW.replace(b"rating", b"type"), "duplicate_header", "line 1: the header names type"),
    "UTF-16": (RAW.decode().encode("utf-16"), "encoding", "UTF-16"),
    "UTF-16 without a mark": (RAW.decode().encode("utf-16-le"), "encoding", "UTF-16"),
    "UTF-32": (RAW.decode().encode("utf-32"), "encoding", "UTF-32"),
    "latin-1": (RAW.replace(b"call", "Löwe".encode("latin-1")), "encoding", "line 2.*latin-1"),
    "quote not closed": (
        RAW + b'a,"[],x,1,2,3,,,a/q.ogg\n', "unclosed_quote", "train_metadata.csv, line 3"),
    "quote closed by a later row": (
        RAW + b'a,"[],,,,,,,a/q.ogg\na,"[]",,,,,,,a/r.ogg\n', "unclosed_quote", "line 3"),
    "an Excel workbook": (b"PK\x03\x04" + bytes(range(200)), "not_csv", "Excel"),
    "a Parquet file": (b"PAR1" + bytes(range(200)), "not_csv", "Parquet"),
    "random bytes": (bytes(range(1, 256)), "not_csv", "binary"),
    "damaged gzip": (gzip.compress(RAW)[:-12], "damaged_gzip", "damaged"),
    "gzip of nothing": (gzip.compress(b""), "empty_table", "empty"),
    "gzip bomb": (gzip.compress(b"a" * 5000), "table_too_large", "longer than 4096 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_unreadable_table_is_refused_before_any_audio(case: str, tmp_path: Path) -> None:
    """A fault of the whole table stops the ingestion: place, rule and remedy are named."""
    table, rule, told = TABLES[case]

    def never(path: Path) -> AudioHeader:
        raise AssertionError(path)

    root = dataset(tmp_path, table, ("a/good.ogg",))
    with pytest.raises(DatasetError, match=f"(?s){told}.*rule {rule}") as caught:
        read_dataset(root, IngestConfig(max_table_bytes=4096), probe=never)
    assert caught.value.message.startswith("train_metadata.csv")
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("column", "cell", "told"),
    [
        ("oficial_fold", "1", "the nearest is 'official_fold'"),
        ("official_fold", "one", "line 3, column official_fold.*'one'"),
        ("official_fold", "1.5", "line 3, column official_fold.*'1.5'"),
        ("official_fold", "", "line 3, column official_fold.*''"),
    ],
)
def test_fold_column_must_hold_whole_numbers(
    column: str, cell: str, told: str, tmp_path: Path
) -> None:
    """A fold column that is missing or no number stops the ingestion."""
    table = f"primary_label,filename,official_fold\na,a/x.ogg,0\na,a/y.ogg,{cell}\n"
    root = dataset(tmp_path, table.encode(), ("a/x.ogg", "a/y.ogg"))
    with pytest.raises(DatasetError, match=told):
        ingest(root, fold_column=column)


def test_fold_written_as_float_is_read(tmp_path: Path) -> None:
    """Tools that know no missing integer write 3.0 for 3."""
    table = b"primary_label,filename,fold\na,a/x.ogg,3.0\n"
    found = ingest(dataset(tmp_path, table, ("a/x.ogg",)), fold_column="fold")
    assert found.recordings["given_fold"].item() == 3


@pytest.mark.parametrize(
    "table",
    [
        b"\xef\xbb\xbf" + RAW,
        RAW.replace(b"\n", b"\r\n"),
        RAW.replace(b"\n", b"\r"),
        gzip.compress(RAW),
        b"\n\n" + RAW,
        RAW + b"\n\n",
        RAW.replace(b"filename", b" filename "),
        RAW.replace(b"filename", b"filename,").replace(b"good.ogg", b"good.ogg,7"),
        RAW.replace(b"filename", b"filename,new_column").replace(b"good.ogg", b"good.ogg,7"),
    ],
    ids=["bom", "crlf", "cr", "gzip", "blank first", "blank last", "spaces", "unnamed", "extra"],
)
def test_harmless_variants_are_read_without_a_word(table: bytes, tmp_path: Path) -> None:
    """A mark of UTF-8, other line ends, gzip, blank lines and extra columns change nothing."""
    found = ingest(dataset(tmp_path, table, ("a/good.ogg",)))
    assert found.rejects.is_empty()
    assert found.recordings["latitude"].to_list() == [1.5]


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_delimiters_are_accepted_and_listed(mark: str, tmp_path: Path) -> None:
    """A table with semicolons, tabs or bars is read, and a row says so."""
    found = ingest(dataset(tmp_path, RAW.replace(b",", mark.encode()), ("a/good.ogg",)))
    assert found.recordings["longitude"].to_list() == [2.5]
    (row,) = found.rejects.to_dicts()
    assert (row["rule"], row["row"], row["value"]) == ("delimiter", 1, mark)
    assert row["severity"] == "flagged"


def test_line_numbers_stay_true_behind_cells_that_span_lines(tmp_path: Path) -> None:
    """A quoted cell of three lines moves the rows behind it, not their numbers in the file."""
    spanning = cells(filename="a/good.ogg", type="['x\ny\nz']")
    ragged = "a,b,c"
    table = f"{HEADER}\n{spanning}\n\n{ragged}\n{cells(filename='a/gone.ogg')}\n"
    found = ingest(dataset(tmp_path, table.encode(), ("a/good.ogg",)))
    faults = found.rejects.select("row", "rule", "value").rows()
    assert faults[0][:2] == (2, "malformed_type")
    assert faults[1:] == [(6, "ragged_row", "3 fields"), (7, "missing_file", "a/gone.ogg")]
    assert found.datasets.select("rows", "rejected").row(0) == (3, 2)


def test_every_broken_rule_of_a_row_is_listed(tmp_path: Path) -> None:
    """A row that breaks several rules is listed once for each, and counted once."""
    bad = cells(filename="a/gone.ogg", secondary_labels="x", primary_label="b/c")
    found = ingest(dataset(tmp_path, f"{HEADER}\n{GOOD}\n{bad}\n".encode(), ("a/good.ogg",)))
    assert found.rejects["rule"].to_list() == [
        "label_characters",
        "malformed_secondary_labels",
        "missing_file",
    ]
    assert found.summary["rejected"] == 1


def test_two_flags_on_one_row_are_both_listed(tmp_path: Path) -> None:
    """Values of one row are judged each for itself."""
    bad = cells(rating="9", time="noon")
    found = ingest(dataset(tmp_path, f"{HEADER}\n{bad}\n".encode(), ("a/bad.ogg",)))
    assert found.rejects["rule"].to_list() == ["rating_range", "time_format"]
    assert found.recordings.select("rating", "time").row(0) == (None, None)


def test_missing_file_in_another_case_names_the_file_there(tmp_path: Path) -> None:
    """The hint saves a search: the name on disk differs only in case."""
    table = f"{HEADER}\n{GOOD}\n{cells(filename='A/bad.OGG')}\n"
    found = ingest(dataset(tmp_path, table.encode(), ("a/good.ogg", "a/bad.ogg")))
    reason = found.rejects.filter(rule="missing_file")["reason"].item()
    assert "train_audio/a/bad.ogg" in reason


def test_table_whose_every_row_fails_is_refused(tmp_path: Path) -> None:
    """A wrong audio path gives one error that says so, not an empty dataset."""
    root = dataset(tmp_path, f"{HEADER}\n{GOOD}\n".encode(), ("b/other.ogg",))
    with pytest.raises(DatasetError, match=r"all 1 rows were rejected \(missing_file 1\).*line 2"):
        ingest(root)


def test_ragged_rows_alone_are_refused(tmp_path: Path) -> None:
    """Decimal commas without quotes make every row ragged: the error names the rule."""
    root = dataset(tmp_path, b"primary_label,latitude,filename\na,1,5,a/x.ogg\n", ("a/x.ogg",))
    with pytest.raises(DatasetError, match=r"ragged_row 1.*'4 fields'"):
        ingest(root)


def test_unknown_labels_are_judged_by_the_sample_submission(tmp_path: Path) -> None:
    """Primary labels outside the class list are rejected, secondary ones dropped."""
    first, second = cells(secondary_labels="['b', 'zzz']"), cells(primary_label="zzz")
    table = f"{HEADER}\n{first}\n{second.replace('bad', 'good')}\n"
    root = dataset(tmp_path, table.encode(), ("a/bad.ogg", "a/good.ogg"))
    (root / "sample_submission.csv").write_text("row_id,b,a\n")
    found = ingest(root)
    faults = found.rejects.filter(rule="unknown_label").select("row", "column", "value")
    assert faults.rows() == [(3, "primary_label", "zzz")]
    dropped = found.rejects.filter(rule="unknown_secondary_label").select("row", "value")
    assert dropped.rows() == [(2, "zzz")]
    assert found.labels.select("label", "role").rows() == [("a", "primary"), ("b", "secondary")]
    assert found.classes["label"].to_list() == ["b", "a"]


def test_side_table_that_cannot_be_read_is_left_aside(tmp_path: Path) -> None:
    """A broken taxonomy costs the names, not the dataset."""
    root = dataset(tmp_path, RAW, ("a/good.ogg",))
    (root / "taxonomy.csv").write_bytes(b"\xff\xfep\x00")
    (root / "eBird_Taxonomy_v2021.csv").write_text("a,b\n1,2\n")
    found = ingest(root)
    assert found.rejects["rule"].unique().to_list() == ["side_table"]
    assert set(found.rejects["file"]) == {"taxonomy.csv", "eBird_Taxonomy_v2021.csv"}
    assert found.classes["label"].to_list() == ["a"]


def test_reference_holds_every_case_and_every_rule() -> None:
    """The page about faults tells each case above with its rule and severity."""
    text = DOCS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \|.*\| `(\w+)` \| (\w+) \|$", text, flags=re.MULTILINE)
    want = {(case, rule, "refused") for case, (_, rule, _) in TABLES.items()}
    want |= {(case, rule, "rejected") for case, (_, rule, _, _) in REJECTED.items()}
    want |= {(case, rule, "flagged") for case, (_, rule, _, _) in FLAGGED.items()}
    assert want <= set(rows)
    assert {rule for _, rule, _ in rows} >= set(RULES)
    assert all(RULES[rule].severity == told for _, rule, told in rows if rule in RULES)
    assert len(want) > 40
