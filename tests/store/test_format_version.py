"""A store that a newer birdstack wrote is refused, whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import fault_support as toy
import pytest

from birdstack.store.commit import FORMAT_VERSION, Commit
from birdstack.store.errors import FormatVersionError
from birdstack.store.layout import entry_path
from birdstack.store.store import Store
from birdstack.store.verify import verify

NEWER = FORMAT_VERSION + 1
SAYS = rf"has format version {NEWER}; this birdstack reads up to {FORMAT_VERSION}"


def test_newer_version_in_the_marker(tmp_path: Path) -> None:
    """Opening and creating name the file, both versions and the upgrade; nothing is written."""
    marker = Path(Store.create(tmp_path).url) / "store.json"
    body = {"birdstack_store": NEWER, "grid": {"of": "a shape unknown today"}}
    marker.write_text(json.dumps(body))
    for attempt in (Store.open, Store.create):
        with pytest.raises(FormatVersionError, match=rf"store\.json {SAYS}") as caught:
            attempt(tmp_path)
        assert "pip install -U birdstack" in caught.value.remedy
    assert json.loads(marker.read_text()) == body


def _newer_entry(version: int) -> bytes:
    payload = json.dumps({"fields": "unknown today", "version": version}).encode()
    header = {
        "birdstack_log": NEWER,
        "sha256": hashlib.sha256(payload).hexdigest(),
        "bytes": len(payload),
    }
    return json.dumps(header).encode() + b"\n" + payload + b"\n"


@pytest.mark.parametrize("place", ["newest", "middle"])
def test_newer_version_in_the_log(tmp_path: Path, place: str) -> None:
    """Reading, running and verifying stop at an entry of a newer version, wherever it is."""
    store = Store.create(tmp_path)
    for n in (4, 8, 12):
        toy.fill(store, toy.toy_recordings(n))
    version = 3 if place == "newest" else 1
    (tmp_path / entry_path(version)).write_bytes(_newer_entry(version))
    before = sorted(path.name for path in (tmp_path / "log").iterdir())
    again = Store.open(tmp_path)
    for attempt in (
        again.snapshot,
        lambda: toy.fill(again, toy.toy_recordings(16)),
        lambda: verify(again),
        lambda: list(again.log.history()),
        lambda: again.log.append(Commit("test", activate={"a": "b"})),
    ):
        with pytest.raises(FormatVersionError, match=rf"log/000000000{version}\.json {SAYS}"):
            attempt()
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == before


def test_a_long_open_store_meets_a_newer_entry(tmp_path: Path) -> None:
    """A writer that opened the store before does not write on top of a newer entry either."""
    store = Store.create(tmp_path)
    toy.fill(store, toy.toy_recordings(4))
    (tmp_path / entry_path(1)).write_bytes(_newer_entry(1))
    with pytest.raises(FormatVersionError, match=SAYS):
        toy.fill(store, toy.toy_recordings(8))
    assert not (tmp_path / entry_path(2)).exists()
