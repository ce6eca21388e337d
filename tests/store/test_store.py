"""Opening, creating and pinning a store."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import fault_support as toy
import pytest

from birdstack.store.errors import BirdstackError, CorruptError, NoStoreError, UsageError
from birdstack.store.keys import WindowGrid
from birdstack.store.store import Store


def test_create_then_open(tmp_path: Path) -> None:
    """The grid is that of the creation; creating again opens."""
    grid = WindowGrid(window_s=3, hop_s=1.5)
    made = Store.create(tmp_path / "new" / "store", grid)
    assert Store.open(tmp_path / "new" / "store").grid == grid
    assert Store.create(made.url).grid == grid
    assert Store.create(made.url, grid).grid == grid
    assert (made.snapshot().version, made.snapshot().views, made.pins()) == (-1, [], {})


def test_another_grid_is_refused(tmp_path: Path) -> None:
    """A store has one grid for life."""
    Store.create(tmp_path)
    with pytest.raises(UsageError, match="was made with the window grid"):
        Store.create(tmp_path, WindowGrid(hop_s=2.5))


def test_no_store_there(tmp_path: Path) -> None:
    """Opening nothing says how to make one, and makes nothing."""
    with pytest.raises(NoStoreError, match="there is no birdstack store at"):
        Store.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["thesis.docx", "deep/down/file", ".git"])
def test_a_folder_of_something_else(tmp_path: Path, name: str) -> None:
    """A store is never made among a user's files."""
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(UsageError, match="is not a birdstack store and is not empty"):
        Store.create(tmp_path)
    assert not (tmp_path / "store.json").exists()


def test_created_twice_at_once(tmp_path: Path) -> None:
    """Eight threads make one store; all of them get it."""
    start = threading.Barrier(8)
    made: list[Store] = []

    def create() -> None:
        start.wait()
        made.append(Store.create(tmp_path / "store"))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(json.loads((tmp_path / "store" / "store.json").read_bytes())) == 5


def test_every_byte_of_the_marker(tmp_path: Path) -> None:
    """A changed byte is an error that names the file, or the same grid; never another grid."""
    grid = Store.create(tmp_path).grid
    path = tmp_path / "store.json"
    data = path.read_bytes()
    refused = 0
    for offset, byte in enumerate(data):
        for mask in (0x01, 0x04, 0x80):
            path.write_bytes(data[:offset] + bytes([byte ^ mask]) + data[offset + 1 :])
            try:
                assert Store.open(tmp_path).grid == grid
            except BirdstackError as error:
                assert "store.json" in error.message  # noqa: PT017 - either way is right
                refused += 1
    assert refused > 2 * len(data)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"birdstack_store": 1}']
)
def test_a_damaged_marker(tmp_path: Path, content: bytes) -> None:
    """Whatever is in it, the error is a CorruptError with a remedy."""
    (tmp_path / "store.json").write_bytes(content)
    for attempt in (Store.open, Store.create):
        with pytest.raises(CorruptError, match=r"store\.json is damaged") as caught:
            attempt(tmp_path)
        assert "restore it from a backup" in caught.value.remedy


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Snapshots 0 and 1, of four and of eight recordings."""
    store = Store.create(tmp_path)
    toy.fill(store, toy.toy_recordings(4))
    toy.fill(store, toy.toy_recordings(8))
    return store


def test_pins(store: Store) -> None:
    """A pin is a name for a number; it reads as that number."""
    assert store.pin("first", at=0) == 0
    assert store.pin("now") == 1
    assert store.pin("same", at="first") == 0
    assert store.pins() == {"first": 0, "now": 1, "same": 0}
    assert store.view("toy", at="first").collect().equals(toy.truth(toy.toy_recordings(4)))
    with pytest.raises(UsageError, match=r"pin 'first' is taken \(snapshot 0\)"):
        store.pin("first")
    store.unpin("first")
    with pytest.raises(UsageError, match="no pin 'first'; pins: now, same"):
        store.snapshot("first")
    with pytest.raises(UsageError, match="no pin 'first'"):
        store.unpin("first")


@pytest.mark.parametrize("name", ["", "7", "a/b", "../up", "a b", "."])
def test_names_that_no_pin_can_have(store: Store, name: str) -> None:
    """Numbers, paths and nothing are refused."""
    with pytest.raises(UsageError, match="a pin's name has letters"):
        store.pin(name)


def test_an_empty_store_cannot_be_pinned(tmp_path: Path) -> None:
    """There is no snapshot that a pin could keep."""
    with pytest.raises(UsageError, match="is empty: there is no snapshot to pin"):
        Store.create(tmp_path).pin("nothing")


def test_every_byte_of_a_pin(store: Store, tmp_path: Path) -> None:
    """A changed byte never points to another snapshot."""
    store.pin("kept", at=0)
    path = tmp_path / "pins" / "kept.json"
    data = path.read_bytes()
    for offset, byte in enumerate(data):
        for mask in (0x01, 0x80):
            path.write_bytes(data[:offset] + bytes([byte ^ mask]) + data[offset + 1 :])
            try:
                assert store.snapshot("kept").version == 0
            except CorruptError as error:
                assert "pins/kept.json is damaged" in error.message  # noqa: PT017 - either way
    for length in range(len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(CorruptError, match="delete the file and pin the snapshot again"):
            store.pins()


def test_a_recipe_of_another_view(store: Store, tmp_path: Path) -> None:
    """A whole recipe.json in the wrong folder is refused."""
    toy.fill(store, toy.toy_recordings(8), extractors=[toy.ToyExtractor("other")])
    mine, theirs = (next(tmp_path.glob(f"views/{v}/*/recipe.json")) for v in ("toy", "other"))
    mine.write_bytes(theirs.read_bytes())
    with pytest.raises(CorruptError, match="is that of view 'other'"):
        store.view("toy")


def test_every_byte_of_a_recipe(store: Store, tmp_path: Path) -> None:
    """A changed byte of recipe.json is a CorruptError, or changes nothing."""
    (path,) = tmp_path.glob("views/toy/*/recipe.json")
    data = path.read_bytes()
    spec = store.snapshot().spec("toy")
    for offset, byte in enumerate(data):
        path.write_bytes(data[:offset] + bytes([byte ^ (1 << offset % 8)]) + data[offset + 1 :])
        try:
            assert store.snapshot().spec("toy") == spec
        except CorruptError as error:
            assert path.name in error.message  # noqa: PT017 - either way is right
