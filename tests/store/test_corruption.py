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
VECTORS = (Column("vector", dim=2, mantissa_bits=10), Column("loud", "bool"), Column("d", "float64"))


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
    return Damaged(
        store, snapshot, folder / part.path, frame, snapshot.matrix("toy").values.copy()
    )


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
