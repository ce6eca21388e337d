"""Rewriting parts without some of their recordings, when those have changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from birdstack.store.commit import Covered, Part
from birdstack.store.files import Files
from birdstack.store.layout import new_part_path
from birdstack.store.parquet_read import PartReader, keep_rows
from birdstack.store.parquet_write import write_window_part
from birdstack.store.recipes import read_recipe
from birdstack.store.state import State


def without_live(files: Files, state: State, added: Iterable[Part]) -> list[Part]:
    """`added` without the recordings that another writer has committed meanwhile.

    Two runs over the same recordings cut them into different units; the later one to commit
    keeps what only it has.
    """
    live = {
        (part.view, part.recipe, covered.recording_id): covered.content_hash
        for part in state.parts.values()
        for covered in part.recordings
    }
    trimmed = []
    for part in added:
        kept = [
            covered
            for covered in part.recordings
            if live.get((part.view, part.recipe, covered.recording_id)) != covered.content_hash
        ]
        if len(kept) == len(part.recordings):
            trimmed.append(part)
        elif kept:
            trimmed.append(_rewritten(files, part, kept))
    return trimmed


def superseded(files: Files, state: State, added: Iterable[Part]) -> tuple[list[Part], list[str]]:
    """Parts to add and paths to remove so that `added` replaces older rows.

    A recording that `added` holds with other content than a live part does is taken out of
    that part: the part is written again without it. One with the same content is left as it
    is; the log then leaves out the newcomer.

    Args:
        files: where the parts lie.
        state: the newest state.
        added: parts about to be committed.
    """
    fresh = {
        (part.view, part.recipe, covered.recording_id): covered.content_hash
        for part in added
        for covered in part.recordings
    }
    rewritten, removed = [], []
    for part in list(state.parts.values()):
        kept = [
            covered
            for covered in part.recordings
            if fresh.get((part.view, part.recipe, covered.recording_id), covered.content_hash)
            == covered.content_hash
        ]
        if len(kept) == len(part.recordings):
            continue
        removed.append(part.path)
        if kept:
            rewritten.append(_rewritten(files, part, kept))
    return rewritten, removed


def _rewritten(files: Files, part: Part, kept: Sequence[Covered]) -> Part:
    """The part again, with some of its recordings only."""
    spec = read_recipe(files, part.view, part.recipe)
    with PartReader(files, part) as reader:
        table = keep_rows(reader, {covered.recording_id for covered in kept})
    return write_window_part(files, spec, new_part_path(part.view, part.recipe), table, kept)
