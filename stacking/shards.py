"""Several jobs, one stack: each fits the layers of its classes onto a shelf.

    >>> Shard.parse("2/5")
    Shard(number=2, of=5)

Jobs need nothing of each other but the shelf. A last one takes all layers from there and makes
the stack, which is the same, bit for bit, as if one job had done it all.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from birdstack.stacking.class_layers import ByClass, LayerJob
from birdstack.stacking.class_shelf import ClassShelf
from birdstack.stacking.controls import Material
from birdstack.stacking.guards import too_few
from birdstack.stacking.stack_settings import StackSettings
from birdstack.stacking.stack_table import StackTable
from birdstack.stacking.steps import Advance
from birdstack.store.errors import UsageError
from birdstack.store.labels import PRESENT

_LISTED = 8


@dataclass(frozen=True)
class Shard:
    """One part of the classes.

    Attributes:
        number: of the part, from 1 on.
        of: how many parts there are.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From `2/5`.

        Raises:
            UsageError: it is not of that form.
        """
        match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            message = f"shard {text!r} is not I/N with I from 1 to N"
            raise UsageError(message, remedy="write, say, 1/4, 2/4, 3/4 and 4/4, one for each job")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def numbers(self, table: StackTable) -> list[int]:
        """Its classes, by position; all shards have about as many positive windows.

        Whoever asks gets the same answer, every class is in one shard, and none in two.
        """
        positives = (table.truth[table.window_fold >= 0] == PRESENT).sum(axis=0)
        loads = [(0, 0, part) for part in range(self.of)]
        mine = []
        for number in np.argsort(-positives, kind="stable").tolist():
            windows, classes, part = min(loads)
            loads[part] = (windows + int(positives[number]), classes + 1, part)
            if part == self.number - 1:
                mine.append(number)
        return sorted(mine)


def parse_classes(text: str, names: Sequence[str]) -> list[int]:
    """Positions of the classes in `robin,wren`, ascending.

    Raises:
        UsageError: there is no such class, or none is named.
    """
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    if not wanted:
        message = "no class is named"
        raise UsageError(message, remedy="write names with commas between them")
    place = {name: number for number, name in enumerate(names)}
    for name in wanted:
        if name not in place:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
            message = f"there is no class {name!r} among the {len(names)} of the table"
            remedy = f"write {near[0]!r}" if near else "name classes of the table"
            raise UsageError(message, remedy=remedy)
    return sorted({place[name] for name in wanted})


@dataclass(frozen=True)
class ShardDone:
    """What a job did.

    Attributes:
        fitted: names of the classes fitted just now.
        already: how many lay on the shelf.
        too_few: how many need no layers, having too few positives.
    """

    fitted: tuple[str, ...]
    already: int
    too_few: int


def fit_classes(
    material: Material,
    ranked: np.ndarray,
    settings: StackSettings,
    shelf: ClassShelf,
    which: Shard | Sequence[int],
    *,
    advance: Advance = lambda *_: None,
    by_class: ByClass | None = None,
) -> ShardDone:
    """Fit the layers of some classes onto a shelf; the shared layer, if it is not there yet.

    Args:
        material: views of the training table.
        ranked: out-of-fold scores of the shared ranker of this table.
        settings: of the stack.
        shelf: where layers are put.
        which: a shard, or positions of classes.
        advance: told of progress.
        by_class: settings of single classes.
    """
    table = material.table
    if isinstance(which, Shard):
        shelf.note_shard(which.number, which.of)
        asked: Sequence[int] = which.numbers(table)
    else:
        asked = which
    few = too_few(table, table.window_fold >= 0, settings)
    numbers = [number for number in asked if number not in few]
    job = LayerJob(
        material, ranked, settings, numbers, advance=advance, shelf=shelf, by_class=by_class
    )
    job.fits(job.shared().common)
    fitted = tuple(table.classes[number] for number in sorted(job.fresh))
    return ShardDone(fitted, len(numbers) - len(fitted), len(asked) - len(numbers))


def require_finished(job: LayerJob, table: StackTable, shelf: ClassShelf | None) -> None:
    """Hold that all layers of a job are on its shelf.

    Raises:
        UsageError: some are not; names the classes and, where shards were noted on the shelf,
            the shards that they belong to.
    """
    missing = job.missing()
    if not missing and job.shared_there:
        return
    names = [table.classes[number] for number in missing]
    listed = ", ".join(names[:_LISTED]) + (" ..." if len(names) > _LISTED else "")
    where = "there is no shelf" if shelf is None else f"{shelf.url}: not all layers are there"
    of_all = f"{len(names)} of {len(table.classes)} classes" if names else "the shared layer"
    message = f"{where}; missing: {of_all}" + (f" ({listed})" if names else "")
    remedy = f"fit them with --classes {','.join(names[:_LISTED])}"
    # The finest cut is told: whatever else was tried, its shards are the least work.
    for of in [] if shelf is None else sorted(shelf.shards())[-1:]:
        lacking = [
            str(shard)
            for shard in (Shard(number, of) for number in range(1, of + 1))
            if set(shard.numbers(table)) & set(missing)
        ]
        if lacking:
            remedy = f"run the jobs of --shard {', '.join(lacking)}"
    if shelf is not None and shelf.others() and not job.shared_there:
        message += (
            f"; layers of {shelf.others()} other tables or versions are, but whatever decides "
            "the numbers has to be the same in all jobs"
        )
    raise UsageError(message, remedy=f"{remedy}, or let them be fitted now")
