"""A view read in any way is the whole view, filtered; and only what is needed is touched."""

from __future__ import annotations

import tempfile

import fault_support as toy
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdstack.store.commit import Commit
from birdstack.store.errors import UsageError
from birdstack.store.local_files import LocalFiles
from birdstack.store.parquet_write import write_window_part
from birdstack.store.store import Store
from birdstack.store.views import Column

N = 14
COLUMNS = [*pl.Schema(dict.fromkeys(("recording_id", "window", "start_s", "end_s"), pl.String)),
           *(c.name for c in toy.COLUMNS)]  # fmt: skip


@st.composite
def stores(draw) -> tuple[Store, list]:
    """Recordings in any order over any number of parts, with small row groups."""
    order = draw(st.permutations(range(N)))
    cuts = sorted(draw(st.sets(st.integers(1, N - 1), max_size=5)))
    batches = [order[a:b] for a, b in zip([0, *cuts], [*cuts, N], strict=True)]
    everything = toy.toy_recordings(N)
    store = Store.create(tempfile.mkdtemp())
    rows = draw(st.integers(1, 6))
    for batch in batches:
        toy.fill(store, [everything[i] for i in batch], unit_recordings=draw(st.integers(1, 5)))
    _regroup(store, rows)
    return store, everything


def _regroup(store: Store, rows: int) -> None:
    """Write each part again with row groups of so many rows."""
    import pyarrow.parquet as pq

    old = toy.parts_of(store)
    spec = store.snapshot().spec("toy")
    new = []
    for number, part in enumerate(old):
        table = pq.ParquetFile(f"{store.url}/{part.path}").read()
        path = part.path.replace("part-", f"part-{number}")
        new.append(
            write_window_part(store.files, spec, path, table, part.recordings, row_group_rows=rows)
        )
    store.log.append(Commit("regroup", add=tuple(new), remove=tuple(p.path for p in old)))


ids = st.sampled_from([r.recording_id for r in toy.toy_recordings(N)])
predicates = st.one_of(
    ids.map(lambda i: pl.col("recording_id") == i),
    st.lists(ids).map(lambda i: pl.col("recording_id").is_in(i)),
    ids.map(lambda i: pl.col("recording_id") > i),
    st.integers(-1, 4).map(lambda w: pl.col("window") == w),
    st.integers(-1, 25).map(lambda s: pl.col("start_s") >= s),
    st.integers(0, 30).map(lambda s: pl.col("end_s") < s),
    st.integers(0, 4000).map(lambda v: pl.col("level") > v),
    st.integers(0, 100).map(lambda v: pl.col("count") < v),
    st.just(pl.col("tag").str.ends_with("1")),
    st.just(pl.col("recording_id").str.starts_with("site1/")),
    st.just(pl.lit(value=True)),
    st.just(pl.lit(value=False)),
    st.just(pl.col("window").is_null()),
    st.just(pl.col("window").cast(pl.Float32) * 5 == pl.col("start_s")),
)
both = st.tuples(predicates, predicates, st.booleans()).map(
    lambda p: p[0] & p[1] if p[2] else p[0] | p[1]
)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_pushdown_equals_reading_everything(data) -> None:
    """Projections, predicates, heads, slices and chosen recordings, on overlapping parts."""
    store, everything = data.draw(stores())
    expected = toy.truth(everything)
    assert store.view("toy").collect().equals(expected)
    for _ in range(6):
        chosen = data.draw(st.one_of(st.none(), st.lists(ids, max_size=4)))
        lazy, eager = store.view("toy", recordings=chosen).lazy(), expected
        if chosen is not None:
            eager = eager.filter(pl.col("recording_id").is_in(chosen))
        for step in data.draw(st.permutations(["filter", "select", "slice"])):
            if step == "filter":
                predicate = data.draw(st.one_of(predicates, both))
                if set(predicate.meta.root_names()) <= set(eager.columns):
                    lazy, eager = lazy.filter(predicate), eager.filter(predicate)
            elif step == "select":
                names = data.draw(st.lists(st.sampled_from(COLUMNS), min_size=1, unique=True))
                lazy, eager = lazy.select(names), eager.select(names)
            else:
                bounds = data.draw(st.tuples(st.integers(-5, 12), st.integers(0, 9)))
                lazy, eager = lazy.slice(*bounds), eager.slice(*bounds)
        found = lazy.collect()
        assert found.equals(eager), (found, eager)
        assert lazy.collect(engine="streaming").equals(eager)
        assert lazy.select(pl.len()).collect().item() == eager.height


@pytest.fixture
def counted(tmp_path):
    """24 recordings in 6 parts, the files counted."""
    counting = toy.Counting(LocalFiles(tmp_path))
    store = Store.create(counting)
    toy.fill(store, sorted(toy.toy_recordings(24), key=lambda r: r.recording_id))
    assert len(toy.parts_of(store)) == 6
    counting.opened.clear()
    counting.prefetched.clear()
    return store, counting


def test_one_recording_opens_one_part(counted) -> None:
    """By filter, by `recordings`, in the matrix: the other five parts stay shut."""
    store, counting = counted
    part = toy.parts_of(store)[3]
    one = part.recordings[1].recording_id
    view = store.view("toy")
    assert counting.opened == []  # a LazyFrame reads nothing
    for read in (
        view.filter(pl.col("recording_id") == one).collect,
        view.filter((pl.col("recording_id") == one) & (pl.col("window") == 0)).collect,
        view.filter(pl.col("recording_id").is_in([one])).select("level").collect,
        store.view("toy", recordings=[one]).collect,
        lambda: store.matrix("toy", recordings=[one]),
    ):
        counting.opened.clear()
        read()
        assert counting.opened == [part.path]
    counting.opened.clear()
    assert view.filter(pl.col("recording_id") == "nobody").collect().is_empty()
    assert view.filter(pl.col("window") > 100).collect().is_empty()
    assert store.view("toy", recordings=[]).collect().is_empty()
    assert counting.opened == []


def test_a_head_opens_no_more_than_it_needs(counted) -> None:
    """The first rows come from the first part."""
    store, counting = counted
    first = toy.parts_of(store)[0]
    assert store.view("toy").head(2).collect().height == 2
    assert counting.opened == [first.path]


def test_only_needed_row_groups_and_columns_are_read(tmp_path) -> None:
    """One recording of a part of many row groups: its groups only, the asked columns only."""
    counting = toy.Counting(LocalFiles(tmp_path))
    store = Store.create(counting)
    recordings = toy.toy_recordings(40)
    toy.fill(store, recordings, unit_recordings=40)
    _regroup(store, 4)
    (part,) = toy.parts_of(store)
    wanted = part.recordings[17]
    counting.prefetched.clear()
    frame = (
        store.view("toy")
        .filter(pl.col("recording_id") == wanted.recording_id)
        .select("level", "count")
        .collect()
    )
    assert frame.height == wanted.windows
    # A recording of at most 4 windows lies in at most 2 groups of 4 rows.
    assert len(counting.prefetched) <= 3 * 2
    bytes_read = sum(length for _, _, length in counting.prefetched)
    assert bytes_read < part.n_bytes / 10
    counting.prefetched.clear()
    matrix = store.matrix({"toy": ["level"]}, recordings=[wanted.recording_id])
    assert matrix.values.shape == (wanted.windows, 1)
    assert len(counting.prefetched) <= 2


def test_views_side_by_side_are_in_one_order(tmp_path) -> None:
    """Two views filled in other orders have equal keys row by row."""
    store = Store.create(tmp_path)
    recordings = toy.toy_recordings(20)
    other = toy.ToyExtractor("other", columns=(Column("x"),))
    toy.fill(store, recordings[10:])
    toy.fill(store, recordings[:10])
    toy.fill(store, recordings[5:9], extractors=[other])
    toy.fill(store, recordings, extractors=[other])
    keys = ["recording_id", "window", "start_s", "end_s"]
    one, two = (store.view(name).select(keys).collect() for name in ("toy", "other"))
    assert one.equals(two)
    assert one.equals(one.sort("recording_id", "window"))


def test_a_snapshot_does_not_move(tmp_path) -> None:
    """A LazyFrame taken before a commit reads what was there then."""
    store = Store.create(tmp_path)
    toy.fill(store, toy.toy_recordings(4))
    before = store.view("toy")
    toy.fill(store, [*toy.toy_recordings(2, content="edited"), *toy.toy_recordings(8)[2:]])
    assert before.collect().equals(toy.truth(toy.toy_recordings(4)))


def test_unknown_names_have_a_hint(tmp_path) -> None:
    """View, recipe and table: what there is instead."""
    store = Store.create(tmp_path)
    with pytest.raises(UsageError, match="no view 'toy'; views here: none"):
        store.view("toy")
    toy.fill(store, toy.toy_recordings(4))
    with pytest.raises(UsageError, match="no view 'tyo'; did you mean 'toy'"):
        store.view("tyo")
    with pytest.raises(UsageError, match="0 recipes begin with 'zzz'"):
        store.view("toy", recipe="zzz")
    with pytest.raises(UsageError, match="no table 'record'; tables: recordings"):
        store.table("record")
    assert store.table("recordings").is_empty()
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        store.view("toy").select("lvl").collect()


def test_a_filter_after_a_head_sees_the_head_only(counted) -> None:
    """The limit comes first: the first three rows are filtered, not the rows that match limited."""
    store, _ = counted
    everything = store.view("toy").collect()
    last = everything["recording_id"][-1]
    for predicate in (
        pl.col("recording_id") == last,
        pl.col("window") > 0,
        pl.col("level") > everything["level"][0],
    ):
        expected = everything.head(3).filter(predicate)
        assert store.view("toy").head(3).filter(predicate).collect().equals(expected)
        found = store.view("toy").filter(predicate).head(3).collect()
        assert found.equals(everything.filter(predicate).head(3))
