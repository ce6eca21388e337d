"""Damaged parts: every read is right or refused, and `verify` sees every changed byte."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import fault_support as toy
import numpy as np
import polars as pl
import pytest

from birdstack.store.adopt import adopt_orphans
from birdstack.store.commit import Commit, Covered, Part
from birdstack.store.compact import compact
from birdstack.store.errors import CorruptError
from birdstack.store.export import export
from birdstack.store.layout import new_part_path
from birdstack.store.parquet_schema import window_table
from birdstack.store.parquet_write import write_window_part
from birdstack.store.plan import make_plan
from birdstack.store.snapshot import Snapshot
from birdstack.store.state import State
from birdstack.store.store import Store
from birdstack.store.table_writer import write_tables
from birdstack.store.tables import CLASSES, RECORDINGS
from birdstack.store.verify import repair, verify
from birdstack.store.views import Column

MASKS = (0x01, 0x80, 0xFF)
SCALARS = (Column("level"), Column("count", "int16"), Column("tag", "str"))
VECTORS = (
    Column("vector", dim=2, mantissa_bits=10),
    Column("loud", "bool"),
    Column("d", "float64"),
)


@dataclass
class Damaged:
    """A store of one part, the file of that part, and what it holds."""

    store: Store
    snapshot: Snapshot
    path: Path
    frame: pl.DataFrame
    values: np.ndarray | None

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()

    def refused_or_right(self) -> bool:
        """Whether a read is refused, by the frame and the matrix; True values if not."""
        refused = False
        try:
            assert self.snapshot.view("toy").collect().equals(self.frame)
        except CorruptError as error:
            assert str(self.path) in error.message  # noqa: PT017 - either way is right
            refused = True
        try:
            matrix = self.snapshot.matrix("toy")
            assert np.array_equal(matrix.values, self.values)
        except CorruptError:
            refused = True
        return refused

    def verify_sees_it(self) -> bool:
        """Whether `verify` names this part and nothing else."""
        return [p.path for p in verify(self.store) if p.kind == "part"] == [
            self.path.relative_to(self.store.url).as_posix()
        ]


def _store_of_one_part(folder: Path, columns: tuple[Column, ...], row_group_rows: int) -> Damaged:
    store = Store.create(folder)
    recordings = toy.toy_recordings(4)
    spec = toy.toy_spec(columns=columns)
    store.register(spec)
    counts = [toy.toy_windows(r) for r in recordings]
    ids = np.repeat([r.recording_id for r in recordings], counts)
    window = np.concatenate([np.arange(n, dtype=np.int32) for n in counts])
    keys = {"recording_id": ids, "window": window, "start_s": window * 5.0}
    keys["end_s"] = keys["start_s"] + 5.0
    each = [toy.toy_values(r, n, columns) for r, n in zip(recordings, counts, strict=True)]
    values = {c.name: np.concatenate([v[c.name] for v in each]) for c in columns}
    part = write_window_part(
        store.files,
        spec,
        new_part_path("toy", spec.recipe_hash),
        window_table(spec, keys, values),
        [
            Covered(r.recording_id, r.content_hash, n)
            for r, n in zip(recordings, counts, strict=True)
        ],
        row_group_rows=row_group_rows,
    )
    store.log.append(Commit("features", add=(part,), activate={"toy": spec.recipe_hash}))
    snapshot = store.snapshot()
    frame = snapshot.view("toy").collect()
    return Damaged(store, snapshot, folder / part.path, frame, snapshot.matrix("toy").values.copy())


def _flipped(path: Path, masks_of):
    """The file with each byte changed in turn: yields (offset, mask)."""
    data = path.read_bytes()
    descriptor = os.open(path, os.O_RDWR)
    try:
        for offset, byte in enumerate(data):
            for mask in masks_of(offset):
                os.pwrite(descriptor, bytes([byte ^ mask]), offset)
                yield offset, mask
            os.pwrite(descriptor, bytes([byte]), offset)
    finally:
        os.close(descriptor)
    assert path.read_bytes() == data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "row_group_rows", "seed"),
    [(SCALARS, 4, 1), (VECTORS, 4, 2)],
    ids=["scalars-and-text", "vectors-and-bits"],
)
def test_every_byte_of_a_part(tmp_path: Path, columns, row_group_rows: int, seed: int) -> None:
    """Each byte changed in four ways: frame and matrix are right or refused, verify sees it."""
    one = _store_of_one_part(tmp_path, columns, row_group_rows)
    assert one.snapshot.state.parts[next(iter(one.snapshot.state.parts))].rows > row_group_rows
    rng = random.Random(seed)  # noqa: S311 - no secret
    tried = refused = 0
    for offset, mask in _flipped(one.path, lambda _: (*MASKS, rng.randrange(2, 0x7F))):
        place = f"byte {offset}, mask {mask:#x}"
        tried += 1
        if one.refused_or_right():
            refused += 1
        else:
            # Nobody decodes the magic number at the start.
            assert offset < 4, place
        if mask == MASKS[offset % 3]:
            assert one.verify_sees_it(), place
    print(f"{tried} flips, {refused} refused")
    assert tried == 4 * one.path.stat().st_size
    assert one.refused_or_right() is False


@pytest.mark.slow
def test_every_byte_of_a_table(tmp_path: Path) -> None:
    """The same for a table: the rows of `recordings` are right or refused."""
    store = Store.create(tmp_path)
    columns = {"recording_id": ["a.ogg", "b.ogg"], "bytes": [10, 20], "type": [["song"], None]}
    frame = pl.DataFrame(
        [pl.Series(n, columns.get(n, [None, None]), dtype=t) for n, t in RECORDINGS.items()]
    )
    write_tables(store, {("recordings", "set"): frame}, operation="ingest")
    snapshot = store.snapshot()
    (part,) = snapshot.state.table_parts("recordings")
    rng = random.Random(3)  # noqa: S311 - no secret
    for offset, mask in _flipped(tmp_path / part.path, lambda _: (rng.randrange(1, 256),)):
        try:
            assert snapshot.table("recordings").equals(frame)
        except CorruptError:
            continue
        assert offset < 4, (offset, mask)
    assert snapshot.table("recordings").equals(frame)
    data = bytearray((tmp_path / part.path).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / part.path).write_bytes(data)
    problems = verify(store)
    assert [p.path for p in problems] == [part.path]
    assert repair(store, problems) == [f"{part.path}: dropped; run `birdstack ingest` again"]
    assert store.table("recordings").is_empty()
    write_tables(store, {("recordings", "set"): frame}, operation="ingest")
    assert store.table("recordings").equals(frame)


@pytest.fixture
def one(tmp_path: Path) -> Damaged:
    """A store of one part with several row groups."""
    return _store_of_one_part(tmp_path / "store", SCALARS, 4)


def _chunk(one: Damaged, column: str, group: int) -> tuple[int, int]:
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(one.path)
    names = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    chunk = metadata.row_group(group).column(names.index(column))
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    return start, chunk.total_compressed_size


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def test_damage_in_what_is_not_read_does_no_harm(one: Damaged) -> None:
    """Other columns and other row groups of a damaged part are still read, and right."""
    start, length = _chunk(one, "count", 1)
    _flip(one.path, start + length // 2)
    view = one.snapshot.view("toy")
    assert view.select("level").collect().equals(one.frame.select("level"))
    first = one.snapshot.state.view_parts("toy", one.snapshot.recipe_of("toy"))[0].recordings[0]
    assert first.windows <= 4
    rows = one.snapshot.view("toy", recordings=[first.recording_id]).collect()
    assert rows.equals(one.frame.filter(pl.col("recording_id") == first.recording_id))
    for query in (view.select("count"), view, view.filter(pl.col("count") > 0).select("level")):
        with pytest.raises(CorruptError, match=r"part .*\.parquet is damaged: bytes \d+-\d+"):
            query.collect()


def test_every_way_to_read_refuses_damage(one: Damaged, tmp_path: Path) -> None:
    """Eager, streaming, aggregated, sliced, joined, exported, compacted: CorruptError each."""
    start, length = _chunk(one, "level", 0)
    _flip(one.path, start + length - 1)
    view, store = one.snapshot.view("toy"), one.store
    toy.fill(store, toy.toy_recordings(2, first=4), extractors=[toy.ToyExtractor(columns=SCALARS)])
    for read in (
        view.collect,
        lambda: view.collect(engine="streaming"),
        lambda: view.head(1).collect(),
        lambda: view.select(pl.col("level").mean()).collect(),
        lambda: view.filter(pl.col("level") > 5).collect(),
        lambda: view.group_by("recording_id").agg(pl.col("level").max()).collect(),
        lambda: view.join(view, on=["recording_id", "window"]).collect(),
        lambda: view.sink_parquet(tmp_path / "sunk.parquet"),
        lambda: one.snapshot.matrix({"toy": ["level"]}),
        lambda: export(one.snapshot, "toy", tmp_path / "out.parquet"),
        lambda: export(one.snapshot, "toy", tmp_path / "out.csv"),
        lambda: compact(store),
    ):
        with pytest.raises(CorruptError, match=r"is damaged: bytes") as caught:
            read()
        assert "store verify --repair" in caught.value.remedy
    assert not list(tmp_path.glob("out*"))


def test_truncated_at_every_length(one: Damaged) -> None:
    """A part cut at any byte, down to none, is refused with both sizes; verify sees it."""
    data = one.data
    for length in range(len(data)):
        one.path.write_bytes(data[:length])
        says = rf"is damaged: {length} bytes instead of {len(data)}"
        with pytest.raises(CorruptError, match=says):
            one.snapshot.view("toy").collect()
        with pytest.raises(CorruptError, match=says):
            one.snapshot.matrix("toy")
        if length % 100 == 0:
            assert one.verify_sees_it()


def test_longer_than_written(one: Damaged) -> None:
    """Bytes behind the end are damage, too."""
    one.path.write_bytes(one.data + b"PAR1")
    with pytest.raises(CorruptError, match="bytes instead of"):
        one.snapshot.view("toy").collect()


def test_missing_part(one: Damaged) -> None:
    """A part that is gone is named; the snapshot never reads as a smaller one."""
    one.path.unlink()
    for read in (one.snapshot.view("toy").collect, lambda: one.snapshot.matrix("toy")):
        with pytest.raises(CorruptError, match=rf"{one.path.name} is damaged: the file is missing"):
            read()
    assert one.verify_sees_it()


def test_zeroed_block(one: Damaged) -> None:
    """512 zero bytes anywhere, as of a lost disk block."""
    data = one.data
    for start in range(4, len(data) - 512, 64):
        if not any(data[start : start + 512]):
            continue
        one.path.write_bytes(data[:start] + bytes(512) + data[start + 512 :])
        assert one.refused_or_right(), start
        assert one.verify_sees_it()


def test_part_swapped_with_another_valid_part(tmp_path: Path) -> None:
    """Two whole parts that changed places are refused, even of one size."""
    store = Store.create(tmp_path)
    plain = (Column("level"),)
    recordings = [toy.toy_recordings(2), toy.toy_recordings(2, first=7)]
    for some in recordings:
        toy.fill(store, some, extractors=[toy.ToyExtractor(columns=plain)])
    first, second = (tmp_path / part.path for part in toy.parts_of(store))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    with pytest.raises(CorruptError, match=r"bytes instead of|footer does not match"):
        store.view("toy").collect()
    with pytest.raises(CorruptError, match=r"bytes instead of|footer does not match"):
        store.matrix("toy")
    assert len(verify(store)) == 2


def test_part_replaced_by_one_of_the_same_size(tmp_path: Path) -> None:
    """A valid part of the same layout and size, with other numbers, is refused."""
    columns = (Column("d", "float64"),)
    recordings = toy.toy_recordings(3)
    store = Store.create(tmp_path / "mine")
    toy.fill(store, recordings, extractors=[_Shifted(columns=columns, by=0.0)])
    (mine,) = toy.parts_of(store)
    for by in range(1, 40):
        other = Store.create(tmp_path / f"other{by}")
        toy.fill(other, recordings, extractors=[_Shifted(columns=columns, by=float(by))])
        (theirs,) = toy.parts_of(other)
        if theirs.n_bytes == mine.n_bytes:
            break
    assert theirs.n_bytes == mine.n_bytes
    shutil.copyfile(Path(other.url) / theirs.path, Path(store.url) / mine.path)
    with pytest.raises(CorruptError, match=r"do(es)? not match"):
        store.view("toy").collect()
    with pytest.raises(CorruptError, match=r"do(es)? not match"):
        store.matrix("toy")


class _Shifted(toy.ToyExtractor):
    """`ToyExtractor` with something added to every value."""

    def __init__(self, columns: tuple[Column, ...], by: float) -> None:
        super().__init__(columns=columns)
        object.__setattr__(self, "by", by)

    def measure(self, sound, recording):
        return {n: v + self.by for n, v in super().measure(sound, recording).items()}


def test_repair_and_the_next_run_restore_everything(tmp_path: Path) -> None:
    """After verify and repair, the damaged part's recordings, and only they, are heard again."""
    store = Store.create(tmp_path)
    recordings = toy.toy_recordings(24)
    toy.fill(store, recordings)
    before = store.snapshot()
    part = toy.parts_of(store)[2]
    _flip(tmp_path / part.path, part.n_bytes // 3)
    problems = verify(store)
    assert [(p.kind, p.path, p.recordings) for p in problems] == [("part", part.path, 4)]
    assert repair(store, problems) == [f"{part.path}: dropped; 4 recordings will be computed again"]
    assert verify(store) == []
    lacking = {covered.recording_id for covered in part.recordings}
    toy.assert_holds(store, [r for r in recordings if r.recording_id not in lacking])
    assert (tmp_path / "damaged" / Path(part.path).name).is_file()
    journal = tmp_path.parent / f"{tmp_path.name}-heard"
    report = toy.fill(Store.open(tmp_path), recordings, source=toy.ToySource(journal=str(journal)))
    assert set(journal.read_text().split()) == lacking
    assert (report.heard, report.adopted) == (4, 0)
    toy.assert_holds(Store.open(tmp_path), recordings)
    with pytest.raises(CorruptError):  # the old snapshot is not silently smaller
        before.view("toy").collect()


@pytest.mark.slow
def test_a_damaged_orphan_is_never_adopted_with_other_numbers(tmp_path: Path) -> None:
    """Each byte of an uncommitted part changed: left for vacuum, or adopted with right values."""
    one = _store_of_one_part(tmp_path / "store", SCALARS, 4)
    part: Part = one.snapshot.state.view_parts("toy", one.snapshot.recipe_of("toy"))[0]
    spec = one.snapshot.spec("toy")
    recordings = toy.toy_recordings(4)
    refused = adopted = 0
    rng = random.Random(5)  # noqa: S311 - no secret
    for offset, mask in _flipped(one.path, lambda i: (MASKS[i % 3], rng.randrange(1, 256))):
        fresh = _NoCommit(one.store)
        plan = make_plan(State(), [spec], recordings)
        if adopt_orphans(fresh, [spec], plan):
            adopted += 1
            state = State().applied([fresh.commits[-1].signed(0)])
            snapshot = Snapshot(one.store.files, one.store.grid, state)
            assert snapshot.view("toy").collect().equals(one.frame), (offset, mask)
            assert snapshot.covered("toy") == {c.recording_id: c for c in part.recordings}
        else:
            refused += 1
    print(f"{refused} refused, {adopted} adopted with right values")
    assert refused
    assert adopted < refused


class _NoCommit:
    """A store whose log is empty and keeps what is appended in `commits`."""

    def __init__(self, store: Store) -> None:
        self.files, self.grid = store.files, store.grid
        self.commits: list[Commit] = []
        self.log = self

    def head(self) -> State:
        return State()

    def append(self, commit: Commit) -> Commit:
        self.commits.append(commit)
        return commit


def test_classes_table_keeps_its_order(tmp_path: Path) -> None:
    """A table is read back in the order it was written in, with its exact types."""
    store = Store.create(tmp_path)
    frame = pl.DataFrame(
        {
            "label": ["zit", "asb", "com"],
            "index": [0, 1, 2],
            "scientific_name": None,
            "common_name": "",
        },
        schema=CLASSES,
    )
    write_tables(store, {("classes", ""): frame}, operation="ingest")
    assert store.table("classes").equals(frame)
