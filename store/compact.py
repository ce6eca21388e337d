"""Few large parts instead of many small ones, in one commit a view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from birdstack.store.commit import Commit, Covered, Part
from birdstack.store.files import Files
from birdstack.store.layout import new_part_path
from birdstack.store.parquet_read import PartReader, joined_rows
from birdstack.store.parquet_write import write_window_part
from birdstack.store.recipes import read_recipe
from birdstack.store.scan import overlapping
from birdstack.store.store import Store
from birdstack.store.views import ViewSpec

DEFAULT_MEGABYTES = 256.0
_FULL_ENOUGH = 0.5  # a part of half the target size is left alone


@dataclass(frozen=True, slots=True)
class Compacted:
    """What compacting one view has done."""

    view: str
    recipe: str
    parts_before: int
    parts_after: int


def compact(
    store: Store, views: Sequence[str] = (), *, megabytes: float = DEFAULT_MEGABYTES
) -> list[Compacted]:
    """Rewrite small and overlapping parts of window views into sorted ones.

    Rows stay the same; old snapshots keep reading the old parts until `vacuum`.

    Args:
        store: the store.
        views: names of the views; empty for all.
        megabytes: size of a part to aim at.

    Raises:
        ConflictError: another compaction replaced the same parts first.
    """
    state = store.log.head()
    done = []
    for view, recipe in state.window_views():
        if views and view not in views:
            continue
        parts = state.view_parts(view, recipe)
        spec = read_recipe(store.files, view, recipe)
        removed: list[Part] = []
        added: list[Part] = []
        for group in _worth_merging(parts, megabytes * 1e6):
            removed += group
            added += _merge(store.files, spec, group, megabytes * 1e6)
        if removed:
            paths = tuple(part.path for part in removed)
            store.log.append(Commit("compact", add=tuple(added), remove=paths))
        done.append(Compacted(view, recipe, len(parts), len(parts) - len(removed) + len(added)))
    return done


def _worth_merging(parts: Sequence[Part], target_bytes: float) -> Iterator[list[Part]]:
    """Runs of neighbouring parts that are small or overlap."""
    run: list[Part] = []
    for cluster in overlapping(parts):
        alone = len(cluster) == 1 and cluster[0].n_bytes >= _FULL_ENOUGH * target_bytes
        if alone:
            if len(run) > 1:
                yield run
            run = []
        else:
            run += cluster
    if len(run) > 1:
        yield run


def _merge(
    files: Files, spec: ViewSpec, group: Sequence[Part], target_bytes: float
) -> Iterator[Part]:
    """The rows of a group in order of recording, as parts of about the target size."""
    places = []
    for number, part in enumerate(group):
        first = 0
        for covered in part.recordings:
            places.append((covered, number, first, part.n_bytes / max(part.rows, 1)))
            first += covered.windows
    places.sort(key=lambda place: place[0].recording_id)
    shard: list[tuple[Covered, int, int, float]] = []
    size = 0.0
    for place in places:
        n_bytes = place[0].windows * place[3]
        if shard and size + n_bytes > target_bytes:
            yield _write_shard(files, spec, group, shard)
            shard, size = [], 0.0
        shard.append(place)
        size += n_bytes
    yield _write_shard(files, spec, group, shard)


def _write_shard(
    files: Files,
    spec: ViewSpec,
    group: Sequence[Part],
    shard: Sequence[tuple[Covered, int, int, float]],
) -> Part:
    used = sorted({number for _, number, _, _ in shard})
    readers = [PartReader(files, group[number]) for number in used]
    try:
        order = [(used.index(number), first, c.windows) for c, number, first, _ in shard]
        table = joined_rows(readers, order)
    finally:
        for reader in readers:
            reader.close()
    path = new_part_path(spec.name, spec.recipe_hash)
    return write_window_part(files, spec, path, table, [covered for covered, _, _, _ in shard])
