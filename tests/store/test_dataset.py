"""Ingestion of whole datasets: layouts, splits, class order, reuse, and real data."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from birdstack.store.dataset import IngestConfig, Ingested, read_dataset
from birdstack.store.errors import DatasetError, SkipRecording, UsageError
from birdstack.store.recordings import AudioHeader
from birdstack.store.tables import CLASSES, DATASETS, LABELS, RECORDINGS, REJECTS


def probe(path: Path) -> AudioHeader:
    """Take any bytes for five seconds of sound."""
    return AudioHeader(32000, 1, 5.0, "FAKE")


def soundfile_probe(path: Path) -> AudioHeader:
    """Read the header as libsndfile does."""
    import soundfile

    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        code = "malformed"
        raise SkipRecording(code, str(error)) from error
    return AudioHeader(
        info.samplerate,
        info.channels,
        info.frames / info.samplerate,
        f"{info.format}/{info.subtype}",
    )


def put(root: Path, *names: str, content: bytes | None = None) -> None:
    """Write files whose bytes differ, unless they are given."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() if content is None else content)


def ingest(root: Path, **config: object) -> Ingested:
    """Read with a probe that decodes nothing."""
    return read_dataset(root, IngestConfig(**config), probe=probe)


def birdclef(root: Path, *rows: str, header: str = "primary_label,filename") -> Path:
    """Write the table of a BirdCLEF folder."""
    (root / "train_metadata.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


def test_frames_have_exactly_the_schemas_of_the_store(tmp_path: Path) -> None:
    """Every frame fits its table, and the count of rows is told alike everywhere."""
    put(tmp_path, "train_audio/a/x.ogg")
    found = ingest(birdclef(tmp_path, "a,a/x.ogg"), name="birds")
    assert found.recordings.schema == RECORDINGS
    assert found.labels.schema == LABELS
    assert found.classes.schema == CLASSES
    assert found.rejects.schema == REJECTS
    assert found.datasets.schema == DATASETS
    assert found.datasets.to_dicts() == [
        {
            "dataset": "birds",
            "root": str(tmp_path),
            "layout": "birdclef",
            "table": "train_metadata.csv",
            "fold_column": None,
            "rows": 1,
            "recordings": 1,
            "rejected": 0,
        }
    ]
    recording = found.recordings.row(0, named=True)
    assert recording["content_hash"] == hashlib.sha256(b"train_audio/a/x.ogg").hexdigest()
    assert (recording["split"], recording["kind"]) == ("train", "focal")
    assert (recording["bytes"], recording["sample_rate_hz"]) == (19, 32000)


def test_birdclef_2021_names_files_without_their_folder(tmp_path: Path) -> None:
    """In 2021 the audio lies in train_short_audio/<label>/ and the table names files alone."""
    put(tmp_path, "train_short_audio/acafly/XC1.ogg")
    found = ingest(birdclef(tmp_path, "acafly,XC1.ogg"))
    assert found.recordings["recording_id"].item() == "train_short_audio/acafly/XC1.ogg"


def test_filename_may_begin_with_the_audio_folder(tmp_path: Path) -> None:
    """A path from the root is the same file as a path from the audio folder."""
    put(tmp_path, "train_audio/a/x.ogg", "train_audio/flat.ogg")
    found = ingest(birdclef(tmp_path, "a,train_audio/a/x.ogg", "a,flat.ogg"))
    assert found.recordings["path"].to_list() == ["train_audio/a/x.ogg", "train_audio/flat.ogg"]


def test_train_csv_is_taken_where_there_is_no_train_metadata(tmp_path: Path) -> None:
    """BirdCLEF 2025 calls its table train.csv."""
    put(tmp_path, "train_audio/1139490/CSA1.ogg")
    (tmp_path / "train.csv").write_text(
        "primary_label,secondary_labels,filename,collection\n1139490,[''],1139490/CSA1.ogg,CSA\n"
    )
    found = ingest(tmp_path)
    assert found.datasets["table"].item() == "train.csv"
    assert found.labels["label"].to_list() == ["1139490"]


def test_soundscape_folders_beside_the_table_get_their_splits(tmp_path: Path) -> None:
    """Soundscapes are unlabeled, those of test_soundscapes are of split test."""
    put(
        tmp_path,
        "train_audio/a/x.ogg",
        "test_soundscapes/soundscape_1.ogg",
        "unlabeled_soundscapes/460830.ogg",
        "train_soundscapes/H02_20230420_074000.ogg",
    )
    (tmp_path / "test_soundscape_labels.csv").write_text("row_id,birds\n")
    (tmp_path / "train_soundscape_labels.csv").write_text("row_id,birds\n")
    found = ingest(birdclef(tmp_path, "a,a/x.ogg"))
    noted = found.rejects.select("rule", "file").rows()
    assert noted == [
        ("labels_not_read", "test_soundscape_labels.csv"),
        ("label_table", "train_soundscape_labels.csv"),
    ]
    splits = dict(found.recordings.select("path", "split").iter_rows())
    assert splits == {
        "test_soundscapes/soundscape_1.ogg": "test",
        "train_audio/a/x.ogg": "train",
        "train_soundscapes/H02_20230420_074000.ogg": "unlabeled",
        "unlabeled_soundscapes/460830.ogg": "unlabeled",
    }
    dated = found.recordings.filter(pl.col("site") == "H02").row(0, named=True)
    assert (dated["date"], dated["time"]) == (dt.date(2023, 4, 20), dt.time(7, 40))
    assert dated["kind"] == "soundscape"
    assert found.labels["recording_id"].to_list() == ["train_audio/a/x.ogg"]


def test_table_without_audio_folder_is_read_for_inspection(tmp_path: Path) -> None:
    """Where the audio is elsewhere the rows are kept without hashes, and one row says so."""
    found = ingest(birdclef(tmp_path, "a,a/x.ogg", "b,y.ogg"))
    ids = ["train_audio/a/x.ogg", "train_audio/b/y.ogg"]
    assert found.recordings["recording_id"].to_list() == ids
    assert found.recordings["content_hash"].to_list() == [None, None]
    assert found.rejects.select("rule", "file").rows() == [("audio_absent", "train_audio")]


def test_bare_table_is_read_without_what_lies_beside_it(tmp_path: Path) -> None:
    """A path to a table reads the table alone; its name becomes the dataset's."""
    put(tmp_path, "train_audio/a/x.ogg")
    birdclef(tmp_path, "a,a/x.ogg").joinpath("sample_submission.csv").write_text("row_id,b,a\n")
    found = ingest(tmp_path / "train_metadata.csv")
    assert found.dataset == "train_metadata"
    assert found.recordings["bytes"].to_list() == [None]
    assert found.classes["label"].to_list() == ["a"]


def test_no_probe_reads_no_audio(tmp_path: Path) -> None:
    """Without a probe sizes are known and hashes are not."""
    put(tmp_path, "train_audio/a/x.ogg")
    found = read_dataset(birdclef(tmp_path, "a,a/x.ogg"), IngestConfig(), probe=None)
    row = found.recordings.row(0, named=True)
    assert (row["bytes"], row["content_hash"], row["duration_s"]) == (19, None, None)
    assert found.summary["read_files"] == 0


def test_class_folders_name_the_labels(tmp_path: Path) -> None:
    """A folder of class folders needs no table."""
    put(tmp_path, "b/1.wav", "a/2.FLAC", "a/notes.txt", "a/._2.wav")
    found = ingest(tmp_path)
    assert found.layout == "class-folders"
    assert found.labels.select("recording_id", "label").rows() == [
        ("a/2.FLAC", "a"),
        ("b/1.wav", "b"),
    ]
    assert found.classes["label"].to_list() == ["a", "b"]
    assert found.summary["ignored_files"] == 2


def test_class_folders_on_request_go_deep(tmp_path: Path) -> None:
    """On request the first folder is the class; a file in none is rejected."""
    put(tmp_path, "a/deep/1.wav", "b/2.wav", "loose.wav")
    found = ingest(tmp_path, layout="class-folders")
    assert found.labels["label"].to_list() == ["a", "b"]
    assert found.rejects.select("rule", "file").rows() == [("file_without_class", "loose.wav")]


def test_class_folders_outside_the_class_list_are_rejected(tmp_path: Path) -> None:
    """A class list rules over the names of folders."""
    put(tmp_path / "d", "a/1.wav", "b/2.wav")
    (tmp_path / "classes.txt").write_text("c\na\n")
    found = ingest(tmp_path / "d", class_list=tmp_path / "classes.txt")
    assert found.classes["label"].to_list() == ["c", "a"]
    fault = found.rejects.select("rule", "file", "value", "severity").row(0)
    assert fault == ("unknown_label", "b/2.wav", "b", "rejected")


@pytest.mark.parametrize(
    "names",
    [
        ("20190522_000000.WAV", "20190522_010000.WAV"),
        ("S4A/2019/S4A_20190522_000000.wav", "S4B/S4B_20190522_000000.wav"),
        ("anything.ogg", "else.ogg"),
        ("unlabeled_soundscapes/1.ogg",),
    ],
)
def test_bare_soundscapes_are_found(names: tuple[str, ...], tmp_path: Path) -> None:
    """Dated names, or audio in no class folder, make a folder of soundscapes."""
    put(tmp_path, *names)
    found = ingest(tmp_path)
    assert found.layout == "soundscapes"
    assert found.recordings.height == len(names)
    assert set(found.recordings["split"]) == {"unlabeled"}
    assert found.labels.is_empty()


def test_soundscape_with_impossible_date_is_flagged(tmp_path: Path) -> None:
    """Digits that are no date leave date and time null and are listed."""
    put(tmp_path, "S_20191399_010000.wav")
    found = ingest(tmp_path)
    assert found.rejects.select("rule", "value").row(0) == (
        "soundscape_name",
        "S_20191399_010000.wav",
    )
    assert found.recordings["date"].to_list() == [None]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), "found no audio file.*holds nothing"),
        (("notes.txt",), "found no audio file.*notes.txt"),
        (("loose.ogg", "a/1.ogg"), "1 at depth 0, 1 at depth 1"),
        (("train_audio/a/1.ogg",), "1 at depth 2.*train_audio"),
    ],
)
def test_folder_that_fits_no_layout_says_what_was_found(
    names: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    """The error names what was looked for and what is there."""
    put(tmp_path, *names)
    with pytest.raises(DatasetError, match=f"(?s)looked for.*train_metadata.*{told}"):
        ingest(tmp_path)


def test_wanted_layout_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """`layout=birdclef` on a folder without a table names the tables it looked for."""
    put(tmp_path, "a/1.ogg")
    with pytest.raises(DatasetError, match=r"none of train_metadata\.csv"):
        ingest(tmp_path, layout="birdclef")


def test_absent_root_is_a_usage_error(tmp_path: Path) -> None:
    """A wrong path is the caller's mistake."""
    with pytest.raises(UsageError, match="no folder or table"):
        ingest(tmp_path / "gone")


def test_fold_column_without_a_table_is_a_usage_error(tmp_path: Path) -> None:
    """Folders of classes have no column of folds."""
    put(tmp_path, "a/1.ogg")
    with pytest.raises(UsageError, match="has no table"):
        ingest(tmp_path, fold_column="fold")


def test_class_order_comes_from_the_submission_then_the_taxonomy(tmp_path: Path) -> None:
    """The order of the sample submission wins; names come from the taxonomy."""
    put(tmp_path, "train_audio/a/x.ogg", "train_audio/b/y.ogg")
    birdclef(tmp_path, "a,a/x.ogg", "b,b/y.ogg")
    (tmp_path / "taxonomy.csv").write_text(
        "primary_label,scientific_name,common_name\nb,Bubo,Owl\na,Anas,Duck\n"
    )
    assert ingest(tmp_path).classes["label"].to_list() == ["b", "a"]
    (tmp_path / "sample_submission.csv").write_text("row_id,c,a,b\n1,0,0,0\n")
    assert ingest(tmp_path).classes.rows() == [
        ("c", 0, None, None),
        ("a", 1, "Anas", "Duck"),
        ("b", 2, "Bubo", "Owl"),
    ]


@pytest.mark.parametrize("column", ["birds", "target"])
def test_submission_with_one_row_a_class_gives_no_order(column: str, tmp_path: Path) -> None:
    """In 2021 and 2022 the submission's columns were not the classes."""
    put(tmp_path, "train_audio/a/x.ogg")
    birdclef(tmp_path, "a,a/x.ogg")
    (tmp_path / "sample_submission.csv").write_text(f"row_id,{column}\n1,a\n")
    assert ingest(tmp_path).classes["label"].to_list() == ["a"]


def test_names_come_from_an_ebird_taxonomy_last(tmp_path: Path) -> None:
    """The table's own names win over those of eBird, which fill the gaps."""
    put(tmp_path, "train_audio/a/x.ogg", "train_audio/b/y.ogg")
    birdclef(tmp_path, "a,a/x.ogg,Own", "b,b/y.ogg,", header="primary_label,filename,common_name")
    (tmp_path / "eBird_Taxonomy_v2021.csv").write_text(
        "SPECIES_CODE,PRIMARY_COM_NAME,SCI_NAME\na,Duck,Anas\nb,Owl,Bubo\nc,Crow,Corvus\n"
    )
    assert ingest(tmp_path).classes.rows() == [("a", 0, None, "Own"), ("b", 1, "Bubo", "Owl")]


def test_class_list_of_another_dataset_is_refused(tmp_path: Path) -> None:
    """A class list that shares no label with the table is a mistake, not 100 % unknown rows."""
    put(tmp_path, "train_audio/a/x.ogg")
    birdclef(tmp_path, "a,a/x.ogg")
    (tmp_path / "other.txt").write_text("x\ny\n")
    with pytest.raises(DatasetError, match="none of its 2 classes is a label"):
        ingest(tmp_path, class_list=tmp_path / "other.txt")


def test_files_without_a_row_are_listed_once(tmp_path: Path) -> None:
    """A file nobody describes is left out and named; one named by a bad row is not."""
    put(tmp_path, "train_audio/a/x.ogg", "train_audio/a/extra.ogg", "train_audio/a/bad.ogg")
    birdclef(
        tmp_path,
        "a,a/x.ogg,[]",
        "a,a/bad.ogg,oops",
        header="primary_label,filename,secondary_labels",
    )
    found = ingest(tmp_path)
    extra = found.rejects.filter(rule="file_without_row")
    assert extra.select("file", "severity").rows() == [("train_audio/a/extra.ogg", "flagged")]
    assert found.recordings.height == 1


def test_unchanged_files_are_not_read_again(tmp_path: Path) -> None:
    """A second ingestion reads only what is new or changed, and gives the same rows."""
    put(tmp_path, "train_audio/a/x.ogg", "train_audio/a/y.ogg")
    birdclef(tmp_path, "a,a/x.ogg", "a,a/y.ogg")
    first = ingest(tmp_path)
    read: list[str] = []

    def counting(path: Path) -> AudioHeader:
        read.append(path.name)
        return probe(path)

    again = read_dataset(tmp_path, IngestConfig(), probe=counting, known=first.recordings)
    assert read == []
    assert again.recordings.equals(first.recordings)
    put(tmp_path, "train_audio/a/y.ogg", content=b"longer than it was before")
    changed = read_dataset(tmp_path, IngestConfig(), probe=counting, known=first.recordings)
    assert read == ["y.ogg"]
    assert (changed.summary["read_files"], changed.summary["reused_files"]) == (1, 1)
    assert changed.recordings["content_hash"][1] != first.recordings["content_hash"][1]


def test_rows_known_without_header_are_probed(tmp_path: Path) -> None:
    """What an ingestion without a probe left open is read by the next one."""
    put(tmp_path, "a/x.ogg")
    first = read_dataset(tmp_path, IngestConfig(), probe=None)
    again = read_dataset(tmp_path, IngestConfig(), probe=probe, known=first.recordings)
    assert again.recordings["duration_s"].to_list() == [5.0]


def test_progress_is_told_to_the_last_file(tmp_path: Path) -> None:
    """Stage, done and total; the last call says that all are done."""
    put(tmp_path, *(f"a/{i}.ogg" for i in range(5)))
    told: list[tuple[str, int, int]] = []
    read_dataset(tmp_path, IngestConfig(), probe=probe, progress=lambda *step: told.append(step))
    assert told == [("list", 5, 5), *(("audio", i, 5) for i in range(1, 6))]


def test_exact_copies_are_marked_and_conflicts_flagged(tmp_path: Path) -> None:
    """Copies point at the first by id; a copy with another label is listed, and stays."""
    put(tmp_path, "a/1.ogg", "a/2.ogg", "b/3.ogg", content=b"same")
    found = ingest(tmp_path)
    assert found.recordings["duplicate_of"].to_list() == [None, "a/1.ogg", "a/1.ogg"]
    assert set(found.recordings["duplicate_group"]) == {"a/1.ogg"}
    (row,) = found.rejects.to_dicts()
    assert (row["rule"], row["file"], row["value"]) == ("conflicting_duplicate", "b/3.ogg", "b")
    assert "a/1.ogg" in row["reason"]


def test_output_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    """Recordings and labels are sorted by id."""
    put(tmp_path, "train_audio/a/x.ogg", "train_audio/b/y.ogg")
    forward = ingest(birdclef(tmp_path, "a,a/x.ogg", "b,b/y.ogg"))
    backward = ingest(birdclef(tmp_path, "b,b/y.ogg", "a,a/x.ogg"))
    assert forward.recordings.equals(backward.recordings)
    assert forward.labels.equals(backward.labels)
    assert forward.classes.equals(backward.classes)


def test_true_headers_are_read_and_a_broken_file_is_rejected(tmp_path: Path) -> None:
    """With libsndfile as the probe: rate, channels, length and format; damage is listed."""
    import soundfile

    (tmp_path / "a").mkdir()
    tone = np.sin(np.arange(8000) / 10).astype(np.float32)
    soundfile.write(tmp_path / "a" / "x.wav", tone, 8000)
    soundfile.write(tmp_path / "a" / "y.ogg", np.stack([tone, tone], axis=1), 16000)
    (tmp_path / "a" / "z.ogg").write_bytes(b"no sound")
    found = read_dataset(tmp_path, IngestConfig(), probe=soundfile_probe)
    columns = ("path", "format", "sample_rate_hz", "channels", "duration_s")
    assert found.recordings.select(columns).rows() == [
        ("a/x.wav", "WAV/PCM_16", 8000, 1, 1.0),
        ("a/y.ogg", "OGG/VORBIS", 16000, 2, 0.5),
    ]
    (row,) = found.rejects.to_dicts()
    assert (row["file"], row["rule"], row["severity"]) == ("a/z.ogg", "malformed", "rejected")
    assert row["reason"]
    assert found.labels.height == 2


def test_real_xeno_canto_recordings(real_data: Path) -> None:
    """Ten species of ten mp3 clips, most without a place."""
    found = read_dataset(real_data / "xc10", IngestConfig(), probe=soundfile_probe)
    assert (found.recordings.height, found.classes.height, found.rejects.height) == (100, 10, 0)
    assert found.recordings["author"].n_unique() == 27
    assert found.recordings["latitude"].count() == 3
    assert found.recordings["content_hash"].null_count() == 0
    assert found.classes["common_name"].null_count() == 0


def test_real_esc10_folds(real_data: Path) -> None:
    """The official folds are kept: five of eighty clips."""
    config = IngestConfig(fold_column="official_fold")
    found = read_dataset(real_data / "esc10", config, probe=soundfile_probe)
    assert (found.recordings.height, found.classes.height, found.rejects.height) == (400, 10, 0)
    folds = found.recordings["given_fold"].value_counts().sort("given_fold")
    assert folds.rows() == [(fold, 80) for fold in range(1, 6)]


def test_real_soundscapes(real_data: Path) -> None:
    """One recorder, one file an hour through one day."""
    found = read_dataset(real_data / "soundscapes", IngestConfig(), probe=soundfile_probe)
    assert found.layout == "soundscapes"
    assert set(found.recordings["site"]) == {"S4A03895"}
    assert [time.hour for time in found.recordings["time"]] == list(range(24))
    assert set(found.recordings["date"]) == {dt.date(2019, 5, 22)}


@pytest.mark.parametrize(
    ("year", "rows", "classes", "times"), [(2022, 14_894, 152, 14_249), (2023, 16_941, 264, 0)]
)
def test_real_tables(real_data: Path, year: int, rows: int, classes: int, times: int) -> None:
    """Two real tables go in whole; what their columns leave open is null or listed."""
    table = real_data / "metadata" / f"birdclef{year}_train_metadata.csv.gz"
    found = read_dataset(table, IngestConfig(), probe=None)
    assert (found.recordings.height, found.classes.height) == (rows, classes)
    assert found.datasets["rejected"].item() == 0
    assert found.recordings["time"].count() == times
    assert found.labels.filter(role="primary").height == rows
    assert set(found.labels["label"]) == set(found.classes["label"])
    raw = pl.read_csv(table, infer_schema=False)
    places = raw["latitude"].cast(pl.Float64, strict=False).drop_nulls().sort()
    assert found.recordings["latitude"].drop_nulls().sort().equals(places)
