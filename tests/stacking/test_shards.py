"""Jobs that share out the classes of one stack."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.layers import fitted, saved_bytes
from support.rich_stack import QUICK, rich

from birdstack.stacking.class_shelf import ClassShelf
from birdstack.stacking.controls import BY_NAME, Material, out_of_fold
from birdstack.stacking.shards import Shard, fit_classes, parse_classes
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.stack_table import StackTable
from birdstack.store.errors import UsageError

SETTINGS = StackSettings(**QUICK)  # type: ignore[arg-type]
TESTS = str(Path(__file__).resolve().parent.parent)


def counted_table(positives: list[int]) -> StackTable:
    """Classes with so many positive windows."""
    rows = max([2, *positives])
    truth = (np.arange(rows)[:, None] < np.array(positives)).astype(np.int8)
    names = [f"r{number:04d}" for number in range(rows)]
    return StackTable(
        names, np.ones(rows, int), names, np.arange(rows) % 2, ("net",),
        tuple(f"c{number}" for number in range(len(positives))),
        truth[None].astype(np.float32), truth,
    )  # fmt: skip


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 8))
def test_shards_are_disjoint_complete_and_even(positives: list[int], of: int) -> None:
    """Every class is in one shard; none has more than the largest class above another."""
    table = counted_table(positives)
    shards = [Shard(number, of).numbers(table) for number in range(1, of + 1)]
    assert sorted(number for shard in shards for number in shard) == list(range(len(positives)))
    loads = [sum(positives[number] for number in shard) for shard in shards]
    assert max(loads) - min(loads) <= max(positives)
    sizes = [len(shard) for shard in shards]
    if len(set(positives)) == 1:
        assert max(sizes) - min(sizes) <= 1
    assert shards == [Shard(number, of).numbers(table) for number in range(1, of + 1)]


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "a/b", "1/0", "-1/2", "1/2/3"])
def test_a_shard_that_is_none(text: str) -> None:
    """The form is told."""
    with pytest.raises(UsageError, match="is not I/N"):
        Shard.parse(text)


def test_names_of_shards_and_classes() -> None:
    """`2/5`; classes in any order; the nearest name where there is none such."""
    assert Shard.parse(" 2/5 ") == Shard(2, 5)
    assert str(Shard(2, 5)) == "2/5"
    names = ["robin", "wren", "dunnock"]
    assert parse_classes("wren, robin,wren", names) == [0, 1]
    with pytest.raises(UsageError, match=r"no class 'wrenn'(.|\n)*write 'wren'"):
        parse_classes("robin,wrenn", names)
    with pytest.raises(UsageError, match="no class is named"):
        parse_classes(" , ", names)


def test_only_these_classes_are_fitted(tmp_path: Path) -> None:
    """A second time none of them is; one with too few positives needs no layers."""
    table = rich(60)
    material = Material(table)
    ranked = out_of_fold(BY_NAME["ranker"], material)
    shelf = ClassShelf(tmp_path, table)
    told: list[tuple[int, int, str]] = []
    first = fit_classes(
        material, ranked, SETTINGS, shelf, [1, 3], advance=lambda *s: told.append(s)
    )
    assert (first.fitted, first.already, first.too_few) == (("b", "d"), 0, 0)
    assert told[-1][0] == told[-1][1]
    assert [shelf.has(number, SETTINGS) for number in range(4)] == [False, True, False, True]
    second = fit_classes(material, ranked, SETTINGS, shelf, [2, 3])
    assert (second.fitted, second.already) == (("c",), 1)
    many = SETTINGS.model_copy(update={"min_positives": 10_000})
    third = fit_classes(material, ranked, many, shelf, [0, 1])
    assert (third.fitted, third.already, third.too_few) == ((), 0, 2)


def start_shard(text: str, place: Path, after_each_s: float = 0.0) -> subprocess.Popen[bytes]:
    """A job in a process of its own."""
    code = (
        f"import sys, time; sys.path.insert(0, {TESTS!r})\n"
        "from support.rich_stack import QUICK, rich\n"
        "from birdstack.stacking.class_shelf import ClassShelf\n"
        "from birdstack.stacking.controls import BY_NAME, Material, out_of_fold\n"
        "from birdstack.stacking.shards import Shard, fit_classes\n"
        "from birdstack.stacking.stack_settings import StackSettings\n"
        "table = rich(60)\n"
        "material = Material(table)\n"
        "ranked = out_of_fold(BY_NAME['ranker'], material)\n"
        f"shelf = ClassShelf({str(place)!r}, table)\n"
        f"fit_classes(material, ranked, StackSettings(**QUICK), shelf, Shard.parse({text!r}),"
        f" advance=lambda d, t, w: time.sleep({after_each_s} if w[:6] == 'class ' else 0))\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)


@pytest.mark.slow
def test_two_jobs_at_once_make_the_stack_of_one(tmp_path: Path) -> None:
    """Both fill one shelf at the same time; what is put together is the same, bit for bit."""
    table, place = rich(60), tmp_path / "shelf"
    jobs = [start_shard(text, place) for text in ("1/2", "2/2")]
    for job in jobs:
        _, err = job.communicate(timeout=120)
        assert job.returncode == 0, err.decode()
    shelf = ClassShelf(place, table)
    together = fitted(table, SETTINGS, shelf, require_all=True)
    alone = fitted(table, SETTINGS)
    assert saved_bytes(tmp_path / "a", table, together) == saved_bytes(tmp_path / "b", table, alone)
    assert together.nested.tobytes() == alone.nested.tobytes()
    assert list(shelf.shards()) == [2]


@pytest.mark.slow
def test_a_killed_job_leaves_what_it_finished(tmp_path: Path) -> None:
    """Its missing classes and its shard are named, and the rest can be fitted then and there."""
    table, place = rich(60), tmp_path / "shelf"
    job = start_shard("1/2", place, after_each_s=60)
    while not list(place.rglob("class-*.zip")):
        assert job.poll() is None
        time.sleep(0.02)
    job.kill()
    job.communicate()
    shelf = ClassShelf(place, table)
    mine = Shard(1, 2).numbers(table)
    assert [shelf.has(number, SETTINGS) for number in mine] == [True, False]
    lacking = table.classes[mine[1]]
    missing = sorted({*"abcd"} - {table.classes[mine[0]]})
    listed = ", ".join(missing)
    with pytest.raises(UsageError, match=rf"{listed}(.|\n)*--shard 1/2, 2/2"):
        fitted(table, SETTINGS, shelf, require_all=True)
    material = Material(table)
    ranked = out_of_fold(BY_NAME["ranker"], material)
    fit_classes(material, ranked, SETTINGS, shelf, Shard(2, 2))
    with pytest.raises(UsageError, match=rf"\({lacking}\)(.|\n)*--shard 1/2,? or"):
        fitted(table, SETTINGS, shelf, require_all=True)
    rest = fitted(table, SETTINGS, shelf)
    alone = fitted(table, SETTINGS)
    assert saved_bytes(tmp_path / "a", table, rest) == saved_bytes(tmp_path / "b", table, alone)


def test_layers_of_another_table_are_told_apart(tmp_path: Path) -> None:
    """Jobs that did not read the same numbers fill the same shelf in vain, and are told so."""
    fitted(rich(60, seed=1), SETTINGS, ClassShelf(tmp_path, rich(60, seed=1)))
    shelf = ClassShelf(tmp_path, rich(60))
    with pytest.raises(UsageError, match="layers of 1 other tables or versions are"):
        fitted(rich(60), SETTINGS, shelf, require_all=True)
