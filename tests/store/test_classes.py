"""The class list and the files it can come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from birdstack.store.classes import ClassList, read_class_list, read_names
from birdstack.store.errors import DatasetError


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("row_id,b,a,c\nx_5,0,0,0\n", ("b", "a", "c")),
        ("row_id,b,a", ("b", "a")),
        ("primary_label,common_name\nb,Owl\na,Duck\n", ("b", "a")),
        ("b\na\n\nc", ("b", "a", "c")),
    ],
    ids=["submission", "header only", "taxonomy", "lines"],
)
def test_class_lists_are_read(text: str, labels: tuple[str, ...], tmp_path: Path) -> None:
    """Three forms of file give the classes in their order."""
    path = tmp_path / "classes.csv"
    path.write_text(text)
    classes = read_class_list(path)
    assert classes.labels == labels
    assert classes.source == "classes.csv"
    assert [classes.index[label] for label in labels] == list(range(len(labels)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the table is empty"),
        ("row_id\n", "names no class"),
        ("b\na\nb\n", "labels named twice: b"),
        ("row_id,a,a\n", "names a twice"),
        ("x,y\n1,2\n", "no class list: the columns are x, y"),
    ],
)
def test_bad_class_lists_are_refused(text: str, told: str, tmp_path: Path) -> None:
    """The error names the file and what is wrong in it."""
    path = tmp_path / "classes.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=f"(?s)classes.csv.*{told}"):
        read_class_list(path)


def test_absent_class_list_is_refused(tmp_path: Path) -> None:
    """A wrong path is told in the system's words."""
    with pytest.raises(DatasetError, match="No such file"):
        read_class_list(tmp_path / "gone.csv")


def test_frame_and_back() -> None:
    """The order survives the table of the store, whatever the order of its rows."""
    classes = ClassList(("b", "a"), "here")
    frame = classes.frame({"a": ("Anas", "Duck")})
    assert frame.rows() == [("b", 0, None, None), ("a", 1, "Anas", "Duck")]
    assert ClassList.from_frame(frame.reverse()).labels == ("b", "a")


def test_sorted_labels_and_membership() -> None:
    """Without a file the labels are sorted."""
    classes = ClassList.from_labels(["c", "a", "c"])
    assert classes.labels == ("a", "c")
    assert len(classes) == 2
    assert "a" in classes
    assert "b" not in classes


def test_names_are_read_from_both_kinds_of_taxonomy(tmp_path: Path) -> None:
    """The competition's own taxonomy and eBird's name their columns differently."""
    own, ebird = tmp_path / "own.csv", tmp_path / "ebird.csv"
    own.write_text("primary_label,scientific_name,common_name\na,Anas,\n")
    ebird.write_text("SPECIES_CODE,PRIMARY_COM_NAME,SCI_NAME\na,Duck,Anas\n")
    assert read_names(own) == {"a": ("Anas", None)}
    assert read_names(ebird) == {"a": ("Anas", "Duck")}
