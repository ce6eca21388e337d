"""Properties: valid tables come back as written, and no bytes break the reader."""

from __future__ import annotations

import csv
import datetime as dt
import io
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from birdstack.store.dataset import IngestConfig, read_dataset
from birdstack.store.errors import BirdstackError
from birdstack.store.metadata_values import NULL_TEXT

LABELS = st.from_regex(r"[a-z]{4,6}[0-9]?", fullmatch=True).filter(lambda t: t not in NULL_TEXT)
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1
).filter(lambda text: text not in NULL_TEXT)
TYPES = st.lists(st.sampled_from(["song", "call", "it's", 'say "hi"', "a,b"]), unique=True)


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Valid rows of a table, with distinct file names."""
    names = draw(st.lists(st.from_regex(r"XC[0-9]{1,6}", fullmatch=True), min_size=1, unique=True))
    made = []
    for name in names:
        placed = draw(st.booleans())
        made.append(
            {
                "primary_label": draw(LABELS),
                "filename": name,
                "latitude": draw(st.floats(-90, 90)) if placed else None,
                "longitude": draw(st.floats(-180, 180)) if placed else None,
                "rating": draw(st.none() | st.integers(0, 10).map(lambda half: half / 2)),
                "author": draw(st.none() | TEXT),
                "type": draw(TYPES),
                "date": draw(st.none() | st.dates(dt.date(1000, 1, 1))),
                "time": draw(st.none() | st.times().map(lambda t: t.replace(microsecond=0))),
            }
        )
    return made


def as_csv(table: list[dict[str, Any]], delimiter: str = ",") -> str:
    """The table as a spreadsheet would write it."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(table[0])
    for row in table:
        full = row | {"filename": f"{row['primary_label']}/{row['filename']}.ogg"}
        writer.writerow(["" if cell is None else cell for cell in full.values()])
    return out.getvalue()


@settings(deadline=None, max_examples=60)
@given(rows(), st.sampled_from([",", ";", "\t"]))
def test_valid_tables_come_back_as_written(table: list[dict[str, Any]], delimiter: str) -> None:
    """Rows to CSV to rows: every value is the same, and nothing is rejected."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_text(as_csv(table, delimiter), encoding="utf-8", newline="")
        found = read_dataset(path, IngestConfig(), probe=None)
    assert set(found.rejects["rule"]) <= {"audio_absent", "delimiter"}
    want = {f"train_audio/{r['primary_label']}/{r['filename']}.ogg": r for r in table}
    primary = dict(found.labels.select("recording_id", "label").iter_rows())
    assert set(primary) == set(want)
    for row in found.recordings.iter_rows(named=True):
        written = want[row["recording_id"]]
        assert primary[row["recording_id"]] == written["primary_label"]
        for column in ("latitude", "longitude", "rating", "author", "type", "date", "time"):
            assert row[column] == written[column], column


def survives(data: bytes) -> None:
    """Read the bytes as a table; only errors raised on purpose may come out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_bytes(data)
        try:
            found = read_dataset(path, IngestConfig(max_table_bytes=1 << 16), probe=None)
        except BirdstackError as error:
            assert error.remedy  # noqa: PT017 - most inputs raise, a few are read
        else:
            assert found.recordings.height > 0


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=400))
def test_random_bytes_raise_only_errors_with_a_remedy(data: bytes) -> None:
    """Any bytes at all are read or refused on purpose."""
    survives(data)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=300))
def test_random_bytes_behind_a_good_header_are_survived(data: bytes) -> None:
    """Past the header the rows are arbitrary."""
    survives(b"primary_label,filename,latitude,secondary_labels,time\na,a/x.ogg,1,[],7:00\n" + data)


@settings(deadline=None, max_examples=150)
@given(rows(), st.data())
def test_damaged_tables_are_survived(table: list[dict[str, Any]], data: st.DataObject) -> None:
    """A good table with bytes cut out, put in and changed is read or refused on purpose."""
    text = bytearray(as_csv(table).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(text)))
        piece = data.draw(st.sampled_from([b"", b'"', b"\x00", b"\xff", b"\n", b",", b"['", b"\r"]))
        text[at : at + data.draw(st.integers(0, 8))] = piece
    survives(bytes(text))
