"""Taking over the parts of a run that died between writing them and committing them.

A part carries its receipt in its own metadata. If every recording in it is still lacking,
with the same content, then it is exactly what the new run would compute again.
"""

from __future__ import annotations

from collections.abc import Sequence

from birdstack.store.commit import Commit, Part
from birdstack.store.errors import ConflictError, CorruptError, LeakError
from birdstack.store.out_of_fold import refuse_leaks
from birdstack.store.parquet_read import read_orphan
from birdstack.store.plan import Plan
from birdstack.store.replace import superseded
from birdstack.store.state import State
from birdstack.store.statistics import Statistics, merge_views, statistics_to_json
from birdstack.store.store import Store
from birdstack.store.views import ViewSpec


def adopt_orphans(store: Store, specs: Sequence[ViewSpec], plan: Plan) -> int:
    """Commit finished parts that no commit mentions. Returns how many.

    A part that is torn, does not decode, holds a recording that is not wanted any more, or
    logits that are not out-of-fold is left for `vacuum`. (The recipe of logits names the model
    and not the split: FOLDS may have changed since the part was written.)

    Args:
        store: the store.
        specs: the views that are about to be filled.
        plan: what they lack.
    """
    state = store.log.head()
    found: list[Part] = []
    statistics: dict[str, Statistics] = {}
    for spec in specs:
        lacking = {
            (task.recording.recording_id, task.key(spec.name))
            for task in plan.tasks
            if spec.name in task.views
        }
        folder = f"views/{spec.name}/{spec.recipe_hash}"
        for name in sorted(store.files.list(folder)):
            path = f"{folder}/{name}"
            if not name.endswith(".parquet") or path in state.parts:
                continue
            try:
                part, columns = read_orphan(store.files, spec, path)
            except CorruptError:
                continue
            held = {(covered.recording_id, covered.content_hash) for covered in part.recordings}
            if held and held <= lacking and _admitted(store, state, part):
                lacking -= held
                found.append(part)
                merge_views(statistics, {f"{spec.name}/{spec.recipe_hash}": columns})
    if not found:
        return 0
    rewritten, removed = superseded(store.files, state, found)
    try:
        store.log.append(
            Commit(
                "adopt",
                add=(*rewritten, *found),
                remove=tuple(removed),
                activate={part.view: part.recipe for part in found},
                statistics=statistics_to_json(statistics),
            )
        )
    except (ConflictError, LeakError):  # another writer was quicker: what is lacking is computed
        return 0
    return len(found)


def _admitted(store: Store, state: State, part: Part) -> bool:
    try:
        refuse_leaks(store.files, store.grid, state, [part])
    except LeakError:
        return False
    return True
