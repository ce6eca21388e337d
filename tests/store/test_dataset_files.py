"""Files that are not what they seem: links, pipes, odd names, changes under the reader."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from birdstack.store import audio_files
from birdstack.store.dataset import IngestConfig, Ingested, read_dataset
from birdstack.store.errors import DatasetError, SkipRecording
from birdstack.store.recordings import AudioHeader


def probe(path: Path) -> AudioHeader:
    """Take any bytes for five seconds of sound."""
    return AudioHeader(32000, 1, 5.0, "FAKE")


def ingest(root: Path, **config: object) -> Ingested:
    """Read with a probe that decodes nothing."""
    return read_dataset(root, IngestConfig(**config), probe=probe)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A class folder with one good file."""
    root = tmp_path / "birds"
    (root / "a").mkdir(parents=True)
    (root / "a" / "good.ogg").write_bytes(b"good")
    return root


def only_fault(found: Ingested) -> dict[str, object]:
    """The single row of the rejects; the good file must have stayed."""
    assert "a/good.ogg" in found.recordings["recording_id"].to_list()
    (row,) = found.rejects.to_dicts()
    return row


def test_pipe_is_never_opened(folder: Path) -> None:
    """Opening a pipe would wait for ever: it is looked at and rejected."""
    os.mkfifo(folder / "a" / "pipe.ogg")
    row = only_fault(ingest(folder))
    assert (row["rule"], row["file"], row["severity"]) == ("not_a_file", "a/pipe.ogg", "rejected")


def test_link_to_a_device_is_never_opened(folder: Path) -> None:
    """A link to an endless device is rejected by what it points to."""
    (folder / "a" / "zero.wav").symlink_to("/dev/zero")
    assert only_fault(ingest(folder))["rule"] == "not_a_file"


def test_broken_link_is_rejected(folder: Path) -> None:
    """A link to nothing is listed with the system's words."""
    (folder / "a" / "gone.wav").symlink_to(folder / "nowhere")
    row = only_fault(ingest(folder))
    assert (row["rule"], row["value"]) == ("unreadable_file", "No such file or directory")


def test_loop_of_links_ends(folder: Path) -> None:
    """A link to a folder above is not followed twice."""
    (folder / "a" / "up").symlink_to(folder)
    found = ingest(folder)
    assert found.recordings["recording_id"].to_list() == ["a/good.ogg"]


def test_folder_keeps_its_own_name_before_a_link_to_it(folder: Path) -> None:
    """Real folders are entered first, so that ids do not depend on links."""
    (folder / "b").mkdir()
    (folder / "b" / "x.ogg").write_bytes(b"x")
    (folder / "0_link").symlink_to(folder / "b")
    found = ingest(folder)
    assert found.recordings["recording_id"].to_list() == ["a/good.ogg", "b/x.ogg"]


def test_row_may_name_a_file_behind_a_link(tmp_path: Path) -> None:
    """A table that names the linked folder finds its file although the walk enters it once."""
    (tmp_path / "train_audio" / "b").mkdir(parents=True)
    (tmp_path / "train_audio" / "b" / "x.ogg").write_bytes(b"x")
    (tmp_path / "train_audio" / "a").symlink_to("b")
    (tmp_path / "train_metadata.csv").write_text("primary_label,filename\na,a/x.ogg\n")
    found = ingest(tmp_path)
    assert found.recordings["bytes"].to_list() == [1]


def test_folder_named_like_audio_is_listed_and_not_entered(folder: Path) -> None:
    """A folder called x.ogg is no recording and no class."""
    (folder / "x.ogg").mkdir()
    row = only_fault(ingest(folder))
    assert (row["rule"], row["severity"]) == ("directory_named_as_audio", "flagged")


def test_names_of_any_language_are_kept(folder: Path) -> None:
    """Emoji, line breaks, leading dashes and 255 bytes are ordinary names."""
    names = ["-rf.ogg", "nachtigall ü 🐦.ogg", "two\nlines.ogg", "x" * 251 + ".ogg"]
    for name in names:
        (folder / "a" / name).write_bytes(name.encode())
    found = ingest(folder)
    assert found.rejects.is_empty()
    assert set(found.recordings["path"]) == {"a/good.ogg", *(f"a/{name}" for name in names)}


def test_name_that_is_no_text_is_rejected_escaped(folder: Path) -> None:
    """A name that is not UTF-8 cannot be stored: it is shown with its bytes escaped."""
    Path(os.fsdecode(os.fsencode(folder / "a") + b"/l\xf6we.ogg")).write_bytes(b"x")
    row = only_fault(ingest(folder))
    assert (row["rule"], row["value"]) == ("non_utf8_name", "l\\xf6we.ogg")


def test_folder_whose_name_is_no_text_is_rejected_once(folder: Path) -> None:
    """Its files cannot have ids; the folder is named once."""
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/\xff"))
    odd.mkdir()
    (odd / "1.ogg").write_bytes(b"x")
    assert only_fault(ingest(folder))["file"] == "\\xff"


def test_hidden_files_are_ignored_and_counted(folder: Path) -> None:
    """The shadows that macOS leaves beside each file are no recordings."""
    (folder / "a" / "._good.ogg").write_bytes(b"x")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "1.ogg").write_bytes(b"x")
    found = ingest(folder)
    assert found.rejects.is_empty()
    assert (found.recordings.height, found.summary["ignored_files"]) == (1, 2)


def test_extensions_count_in_any_case(folder: Path) -> None:
    """Recorders write .WAV."""
    for name in ("1.WAV", "2.Ogg", "3.mP3", "4.opus", "5.oga", "6.FLAC"):
        (folder / "a" / name).write_bytes(name.encode())
    assert ingest(folder).recordings.height == 7


def test_folder_that_cannot_be_listed_is_rejected(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder without permission costs its own files only."""
    (folder / "b").mkdir()
    scandir = os.scandir

    def guarded(path: Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(audio_files.os, "scandir", guarded)
    row = only_fault(ingest(folder))
    assert (row["rule"], row["file"], row["value"]) == ("unreadable_file", "b", "Permission denied")


@pytest.mark.parametrize(
    ("error", "rule", "told"),
    [
        (SkipRecording("empty", "the file has no sound"), "empty", "no sound"),
        (PermissionError(13, "Permission denied"), "unreadable_file", "Permission denied"),
        (RuntimeError("strange header"), "probe_error", "strange header"),
    ],
)
def test_probe_that_fails_rejects_the_file(
    error: Exception, rule: str, told: str, folder: Path
) -> None:
    """The code of the skip is the rule; other failures have names of their own."""
    (folder / "a" / "bad.ogg").write_bytes(b"bad")

    def failing(path: Path) -> AudioHeader:
        if path.name == "bad.ogg":
            raise error
        return probe(path)

    row = only_fault(read_dataset(folder, IngestConfig(), probe=failing))
    assert (row["rule"], row["file"], row["severity"]) == (rule, "a/bad.ogg", "rejected")
    assert told in str(row["reason"])
    assert row["remedy"]


def test_file_that_changes_between_listing_and_reading_is_rejected(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hash and size must be of the same bytes."""
    (folder / "a" / "live.ogg").write_bytes(b"x")
    read = audio_files._read_one

    def grow(root: Path, file: audio_files.FoundFile, probe: object) -> object:
        if file.recording_id == "a/live.ogg":
            (root / file.recording_id).write_bytes(b"longer")
        return read(root, file, probe)

    monkeypatch.setattr(audio_files, "_read_one", grow)
    row = only_fault(ingest(folder))
    assert (row["rule"], row["file"]) == ("changed_while_read", "a/live.ogg")
    assert "from 1 to 6 bytes" in str(row["reason"])


def test_file_deleted_between_listing_and_reading_is_rejected(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is gone when its turn comes is listed like any unreadable file."""
    (folder / "a" / "gone.ogg").write_bytes(b"x")
    read = audio_files._read_one

    def drop(root: Path, file: audio_files.FoundFile, probe: object) -> object:
        if file.recording_id == "a/gone.ogg":
            (root / file.recording_id).unlink()
        return read(root, file, probe)

    monkeypatch.setattr(audio_files, "_read_one", drop)
    assert only_fault(ingest(folder))["rule"] == "unreadable_file"


def test_dataset_of_broken_files_only_is_refused(folder: Path) -> None:
    """Nothing left is an error that names the commonest reason."""

    def failing(path: Path) -> AudioHeader:
        code = "malformed"
        raise SkipRecording(code, "no sound in it")

    with pytest.raises(DatasetError, match=r"all 1 recordings were rejected \(malformed 1\)"):
        read_dataset(folder, IngestConfig(), probe=failing)


def test_read_only_tree_is_enough(folder: Path) -> None:
    """Nothing is written beside the audio."""
    before = sorted(path.name for path in folder.rglob("*"))
    ingest(folder)
    assert sorted(path.name for path in folder.rglob("*")) == before
